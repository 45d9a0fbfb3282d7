use time::UtcDateTime;
use uuid::Uuid;
use vestibule_domain::{KycLevel, RefreshTokenHash, SessionId, UserId};
use vestibule_port_storage::{RefreshState, Unavailable};

use crate::{Application, AuthenticateError};

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// For requests.
    Access,
    /// For a new pair.
    Refresh,
}

/// A token that is good now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Introspected {
    /// What it is for.
    pub kind: TokenKind,
    /// Whose it is.
    pub user: UserId,
    /// The session that it belongs to.
    pub session: SessionId,
    /// The id of an access token.
    pub id: Option<Uuid>,
    /// When it was handed out.
    pub issued_at: UtcDateTime,
    /// The first moment at which it is worth nothing.
    pub expires_at: UtcDateTime,
    /// The account's level now.
    pub kyc: KycLevel,
}

impl Application {
    /// What a token is worth at this moment (RFC 7662); `None` for nothing. To introspect an access token is to use it; a refresh
    /// token is only looked at.
    ///
    /// # Errors
    /// [`Unavailable`]
    pub async fn introspect(&self, token: &str) -> Result<Option<Introspected>, Unavailable> {
        let now = self.clock.now();
        if let Ok(claims) = self.tokens.verify(token, now) {
            return match self.admit(&claims).await {
                Ok(signed_in) => Ok(Some(Introspected {
                    kind: TokenKind::Access,
                    user: claims.user,
                    session: claims.session,
                    id: Some(claims.id),
                    issued_at: claims.issued_at,
                    expires_at: claims.expires_at,
                    kyc: signed_in.account.value.kyc(),
                })),
                Err(AuthenticateError::Unauthorized) => Ok(None),
                Err(AuthenticateError::Unavailable(unavailable)) => Err(unavailable),
            };
        }
        let Some(RefreshState { token, signed_in }) =
            self.storage.refresh_state(&RefreshTokenHash::of(token)).await?
        else {
            return Ok(None);
        };
        let session = &signed_in.session.value;
        let is_newest = session.generation() == token.generation;
        Ok((is_newest && now < token.expires_at).then(|| Introspected {
            kind: TokenKind::Refresh,
            user: session.user(),
            session: session.id(),
            id: None,
            issued_at: token.issued_at,
            expires_at: token.expires_at,
            kyc: signed_in.account.value.kyc(),
        }))
    }
}
