use vestibule_domain::audit::Event;
use vestibule_domain::{Content, Origin, RefreshTokenHash, Refreshed, Voice};
use vestibule_port_storage::{
    Changes, CommitError, EndSessions, RefreshState, Save, SignedInAccount, Unavailable,
};

use crate::facts::Scene;
use crate::notices::Notices;
use crate::{Application, MAX_ROUNDS, TokenPair, contended, undecided};

/// Why there are no new tokens.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    /// The token is none of ours, has expired, or was spent; or its session has ended.
    #[error("the refresh token is worth nothing")]
    Invalid,
    /// Storage does not answer.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl Application {
    /// Exchanges a refresh token for a new pair. A token that is in the hands of two ends its session, and the owner is told in the
    /// language of the request, since no other is known.
    ///
    /// # Errors
    /// [`RefreshError`]
    pub async fn refresh(
        &self,
        token: &str,
        origin: &Origin,
        voice: &Voice,
    ) -> Result<TokenPair, RefreshError> {
        let hash = RefreshTokenHash::of(token);
        let presented_at = self.clock.now();
        for _ in 0..MAX_ROUNDS {
            let Some(RefreshState { token, signed_in }) = self.storage.refresh_state(&hash).await? else {
                return Err(RefreshError::Invalid);
            };
            let SignedInAccount { account, session } = signed_in;
            let now = self.clock.now();
            let (id, user) = (session.value.id(), session.value.user());
            let lives = &self.settings.sessions;
            let (changes, answer) = match session.value.refresh(&token.held(), lives, presented_at, now) {
                Refreshed::Expired | Refreshed::Overtaken => return Err(RefreshError::Invalid),
                Refreshed::Pair(refreshed) => {
                    let (pair, refresh_token) = self.token_pair(&refreshed, account.value.kyc(), now);
                    let changes = Changes {
                        session: Some(Save::over(session.version, refreshed)),
                        refresh_token: Some(refresh_token),
                        ..Changes::default()
                    };
                    (changes, Ok(pair))
                }
                Refreshed::Reused => {
                    let scene =
                        Scene { session: Some(id), origin: Some(origin), ..Scene::of(&account.value) };
                    let Notices { messages, spends, charges } =
                        self.notices(&account.value, voice, Content::SessionStolen);
                    let changes = Changes {
                        end_sessions: Some(EndSessions::One(user, id)),
                        facts: vec![self.fact(Event::RefreshTokenReused, &scene)],
                        charges,
                        messages,
                        spends,
                        ..Changes::default()
                    };
                    (changes, Err(RefreshError::Invalid))
                }
            };
            match self.commit_with_notices(changes).await {
                Ok(()) => return answer,
                // Somebody else presented a token of the session, or it has ended.
                Err(CommitError::Conflict) => {}
                Err(error) => return Err(undecided(&error).into()),
            }
        }
        Err(contended().into())
    }
}
