use time::UtcDateTime;
use vestibule_domain::audit::Event;
use vestibule_domain::{Origin, SessionId};
use vestibule_port_storage::{Changes, CommitError, EndSessions, Unavailable};

use crate::facts::Scene;
use crate::{Application, Customer, undecided};

/// A session as its owner sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionView {
    /// The `sid` of its tokens.
    pub id: SessionId,
    /// When it was opened.
    pub created_at: UtcDateTime,
    /// When its tokens were last used, as far as this service sees it.
    pub last_used_at: UtcDateTime,
    /// Where it was opened from.
    pub origin: Origin,
    /// Whether it is the one that asks.
    pub is_current: bool,
}

/// Why the session was not ended.
#[derive(Debug, thiserror::Error)]
pub enum EndSessionError {
    /// The customer has no such session.
    #[error("there is no such session")]
    NotFound,
    /// Storage does not answer.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl Application {
    /// The customer's living sessions, the newest first.
    ///
    /// # Errors
    /// [`Unavailable`]
    pub async fn sessions(&self, customer: &Customer) -> Result<Vec<SessionView>, Unavailable> {
        let sessions = self.storage.sessions(customer.account().user()).await?;
        let view = |session: vestibule_domain::Session| {
            let record = session.record();
            SessionView {
                id: record.id,
                created_at: record.created_at,
                last_used_at: record.last_used_at,
                origin: record.origin,
                is_current: record.id == customer.session,
            }
        };
        Ok(sessions.into_iter().map(view).collect())
    }

    /// Ends the customer's own session: its tokens are refused from now on.
    ///
    /// # Errors
    /// [`Unavailable`]
    pub async fn sign_out(&self, customer: &Customer, origin: &Origin) -> Result<(), Unavailable> {
        match self.end_session(customer, customer.session, Event::SignedOut, origin).await {
            Ok(()) | Err(EndSessionError::NotFound) => Ok(()),
            Err(EndSessionError::Unavailable(unavailable)) => Err(unavailable),
        }
    }

    /// Ends one of the customer's sessions.
    ///
    /// # Errors
    /// [`EndSessionError`]
    pub async fn revoke_session(
        &self,
        customer: &Customer,
        session: SessionId,
        origin: &Origin,
    ) -> Result<(), EndSessionError> {
        let event = if session == customer.session { Event::SignedOut } else { Event::SessionRevoked };
        self.end_session(customer, session, event, origin).await
    }

    async fn end_session(
        &self,
        customer: &Customer,
        session: SessionId,
        event: Event,
        origin: &Origin,
    ) -> Result<(), EndSessionError> {
        let account = customer.account();
        let scene = Scene { session: Some(session), origin: Some(origin), ..Scene::of(account) };
        let changes = Changes {
            end_sessions: Some(EndSessions::One(account.user(), session)),
            facts: vec![self.fact(event, &scene)],
            ..Changes::default()
        };
        match self.storage.commit(changes).await {
            Ok(()) => Ok(()),
            Err(CommitError::Conflict) => Err(EndSessionError::NotFound),
            Err(error) => Err(undecided(&error).into()),
        }
    }
}
