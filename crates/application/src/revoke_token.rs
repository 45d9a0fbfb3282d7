use vestibule_domain::audit::Event;
use vestibule_domain::{Account, Origin, RefreshTokenHash, SessionId};
use vestibule_port_storage::{Changes, CommitError, EndSessions, Unavailable};

use crate::facts::Scene;
use crate::{Application, undecided};

impl Application {
    /// Ends the session that a token belongs to, be it an access or a refresh token (RFC 7009). A token that is worth nothing is
    /// revoked already.
    ///
    /// # Errors
    /// [`Unavailable`]
    pub async fn revoke_token(&self, token: &str, origin: &Origin) -> Result<(), Unavailable> {
        if let Some(state) = self.storage.refresh_state(&RefreshTokenHash::of(token)).await? {
            return self.revoke(&state.signed_in.account.value, state.token.session, origin).await;
        }
        let Ok(claims) = self.tokens.verify(token, self.clock.now()) else {
            return Ok(());
        };
        match self.storage.account_of_session(claims.user, claims.session).await? {
            Some(signed_in) => self.revoke(&signed_in.account.value, claims.session, origin).await,
            None => Ok(()),
        }
    }

    async fn revoke(
        &self,
        account: &Account,
        session: SessionId,
        origin: &Origin,
    ) -> Result<(), Unavailable> {
        let scene = Scene { session: Some(session), origin: Some(origin), ..Scene::of(account) };
        let changes = Changes {
            end_sessions: Some(EndSessions::One(account.user(), session)),
            facts: vec![self.fact(Event::SignedOut, &scene)],
            ..Changes::default()
        };
        match self.storage.commit(changes).await {
            Ok(()) | Err(CommitError::Conflict) => Ok(()),
            Err(error) => Err(undecided(&error)),
        }
    }
}
