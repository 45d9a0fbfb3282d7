use time::UtcDateTime;
use vestibule_domain::{KycLevel, RefreshToken, SessionId, UserId};
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
        user: UserId,
        session: SessionId,
        kyc: KycLevel,
        now: UtcDateTime,
    ) -> (TokenPair, NewRefreshToken) {
        let issued_at = whole_seconds(now);
        let claims = AccessClaims {
            user,
            session,
            id: self.entropy.ordered_id(now),
            issued_at,
            expires_at: issued_at + self.settings.access_ttl,
            kyc,
        };
        let refresh_token = RefreshToken::from_random(self.entropy.bytes());
        let row = NewRefreshToken {
            hash: refresh_token.hash(),
            session,
            issued_at: now,
            expires_at: now + self.settings.refresh_ttl,
        };
        let access_token = self.tokens.issue(&claims);
        (TokenPair { user, access_token, expires_in: self.settings.access_ttl.as_secs(), refresh_token }, row)
    }
}

fn whole_seconds(moment: UtcDateTime) -> UtcDateTime {
    moment.replace_nanosecond(0).unwrap_or(moment)
}
