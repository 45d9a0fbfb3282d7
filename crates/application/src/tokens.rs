use time::UtcDateTime;
use vestibule_domain::{KycLevel, RefreshToken, Session, UserId};
use vestibule_port_security::{AccessClaims, AccessToken};
use vestibule_port_storage::NewRefreshToken;

use crate::Application;

/// What a signed-in client gets.
#[derive(Debug)]
pub struct TokenPair {
    /// Whose tokens they are.
    pub user: UserId,
    /// For requests.
    pub access_token: AccessToken,
    /// Seconds until the access token expires.
    pub expires_in: u64,
    /// For a new pair.
    pub refresh_token: RefreshToken,
}

impl Application {
    /// A fresh pair for the session, and the refresh token's row, which must be committed before the pair is handed out.
    pub(crate) fn token_pair(
        &self,
        session: &Session,
        kyc: KycLevel,
        now: UtcDateTime,
    ) -> (TokenPair, NewRefreshToken) {
        let lives = &self.settings.sessions;
        let issued_at = whole_seconds(now);
        let expires_at = whole_seconds(session.expiry(self.settings.access_ttl, lives, issued_at));
        let user = session.user();
        let claims = AccessClaims {
            user,
            session: session.id(),
            generation: session.generation(),
            id: self.entropy.ordered_id(now),
            issued_at,
            expires_at,
            kyc,
        };
        let refresh_token = RefreshToken::from_random(self.entropy.bytes());
        let row = NewRefreshToken {
            hash: refresh_token.hash(),
            session: session.id(),
            generation: session.generation(),
            issued_at: now,
            expires_at: session.expiry(lives.idle, lives, now),
        };
        let access_token = self.tokens.issue(&claims);
        let expires_in = (expires_at - issued_at).unsigned_abs().as_secs();
        (TokenPair { user, access_token, expires_in, refresh_token }, row)
    }
}

fn whole_seconds(moment: UtcDateTime) -> UtcDateTime {
    moment.replace_nanosecond(0).unwrap_or(moment)
}
