use std::time::Duration;

use vestibule_domain::limits::Charge;
use vestibule_domain::{Account, SessionId};
use vestibule_port_security::{AccessClaims, TokenError};
use vestibule_port_storage::{Changes, CommitError, Loaded, Save, SignedInAccount, Unavailable};

use crate::{Application, MAX_ROUNDS, contended, impossible, undecided};

/// A signed-in customer: the token was genuine and its session lives. The account is as that check has loaded it.
#[derive(Debug)]
pub struct Customer {
    pub(crate) session: SessionId,
    pub(crate) account: Loaded<Account>,
}

impl Customer {
    /// The account.
    #[must_use]
    pub const fn account(&self) -> &Account {
        &self.account.value
    }
}

/// Why a request is not the customer's.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticateError {
    /// The token is not genuine, has expired, or its session has ended.
    #[error("not authenticated")]
    Unauthorized,
    /// Storage does not answer.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl From<TokenError> for AuthenticateError {
    fn from(error: TokenError) -> Self {
        tracing::debug!(%error, "access token refused");
        Self::Unauthorized
    }
}

impl Application {
    /// Who sends this access token. One read tells that the session lives and loads the account.
    ///
    /// # Errors
    /// [`AuthenticateError`]
    pub async fn authenticate(&self, access_token: &str) -> Result<Customer, AuthenticateError> {
        let claims = self.tokens.verify(access_token, self.clock.now())?;
        let SignedInAccount { account, session } = self.admit(&claims).await?;
        Ok(Customer { session: session.value.id(), account })
    }

    /// Loads the session of genuine claims. That the newest token of a session is shown for the first time is on record before anything
    /// else happens: from then on the refresh token before it is spent for good.
    pub(crate) async fn admit(&self, claims: &AccessClaims) -> Result<SignedInAccount, AuthenticateError> {
        for _ in 0..MAX_ROUNDS {
            let signed_in = self.storage.account_of_session(claims.user, claims.session).await?;
            let signed_in = signed_in.ok_or(AuthenticateError::Unauthorized)?;
            let Some(shown) = signed_in.session.value.shown(claims.generation, self.clock.now()) else {
                return Ok(signed_in);
            };
            let session = Some(Save::over(signed_in.session.version, shown));
            match self.storage.commit(Changes { session, ..Changes::default() }).await {
                Ok(()) => return Ok(signed_in),
                // Somebody refreshed, showed the token too, or signed out.
                Err(CommitError::Conflict) => {}
                Err(error) => return Err(undecided(&error).into()),
            }
        }
        Err(contended().into())
    }

    /// Changes the customer's account: decides on what was loaded, commits, and decides again on a fresh load when somebody
    /// else was faster. `decide` answers `None` for nothing to change.
    pub(crate) async fn change_account<E: From<Unavailable> + From<CommitRefusal>>(
        &self,
        customer: Customer,
        decide: impl Fn(Account) -> Result<Option<AccountChange>, E>,
    ) -> Result<(), E> {
        let Customer { session, mut account } = customer;
        let user = account.value.user();
        for _ in 0..MAX_ROUNDS {
            let Some(change) = decide(account.value)? else {
                return Ok(());
            };
            let changes = Changes {
                account: Some(Save::over(account.version, change.account)),
                charges: change.charges,
                messages: change.message.into_iter().collect(),
                ..Changes::default()
            };
            match self.storage.commit(changes).await {
                Ok(()) => return Ok(()),
                Err(CommitError::Conflict) => {}
                Err(CommitError::EmailTaken) => return Err(CommitRefusal::EmailTaken.into()),
                Err(CommitError::Unavailable(unavailable)) => return Err(unavailable.into()),
                Err(CommitError::LimitReached { retry_after }) => {
                    return Err(CommitRefusal::TooMany { retry_after }.into());
                }
                Err(error @ CommitError::PhoneTaken) => return Err(impossible(&error).into()),
            }
            let reloaded = self.storage.account_of_session(user, session).await?;
            account = reloaded.ok_or(CommitRefusal::SessionEnded)?.account;
        }
        Err(contended().into())
    }
}

/// An account to save, with what bears it and the message that follows from it.
pub(crate) struct AccountChange {
    pub(crate) account: Account,
    pub(crate) charges: Vec<Charge>,
    pub(crate) message: Option<vestibule_domain::Message>,
}

/// Why a decided change could not be saved.
pub(crate) enum CommitRefusal {
    /// The customer signed out meanwhile.
    SessionEnded,
    /// Another account has confirmed the address.
    EmailTaken,
    /// What bears it has no budget left.
    TooMany { retry_after: Duration },
}
