use std::time::Duration;

use time::UtcDateTime;
use vestibule_domain::audit::Event;
use vestibule_domain::limits::{Step, Unit};
use vestibule_domain::sign_in::{Caller, Locked, SignInGuard};
use vestibule_domain::{Account, Origin, Password, PasswordHash, PhoneNumber};
use vestibule_port_security::HashError;
use vestibule_port_storage::{Changes, CommitError, Credentials, Loaded, NewPassword, Save, Unavailable};

use crate::facts::Scene;
use crate::measure::admit;
use crate::{Application, Customer, MAX_ROUNDS, contended, undecided};

/// How long a change of the password may be repeated by who lost its answer.
const REPEAT_WINDOW: Duration = Duration::from_mins(10);

/// Somebody presents a password for a number.
pub(crate) struct Presented<'a> {
    pub(crate) phone: &'a PhoneNumber,
    /// `None` if the text cannot be a password, which is a wrong one like any other.
    pub(crate) password: Option<Password>,
    pub(crate) origin: &'a Origin,
    /// Who presents it, if that is somebody signed in.
    pub(crate) customer: Option<&'a Customer>,
    /// What the customer wants in its place.
    pub(crate) successor: Option<Password>,
}

/// Whose password it was.
pub(crate) struct Proven<'a> {
    pub(crate) account: &'a Loaded<Account>,
    /// When the password was set.
    pub(crate) set_at: UtcDateTime,
    pub(crate) now: UtcDateTime,
}

/// Why the password proves nothing.
#[derive(Debug)]
pub(crate) enum ProofError {
    /// It is wrong, or the number has no account.
    Wrong,
    /// It was right before the customer himself put its successor in its place: the change has been made, and its answer was lost.
    Replaced,
    /// The customer's account was erased. Nothing is counted, since nothing may be kept of it any more.
    Gone,
    /// There were too many.
    Locked { retry_after: Duration },
    /// Too many passwords are waiting to be hashed.
    Busy { retry_after: Duration },
    /// Something that it needs does not work.
    Unavailable(Unavailable),
}

impl From<Unavailable> for ProofError {
    fn from(unavailable: Unavailable) -> Self {
        Self::Unavailable(unavailable)
    }
}

impl From<HashError> for ProofError {
    fn from(error: HashError) -> Self {
        match error {
            HashError::Busy { retry_after } => Self::Busy { retry_after },
            HashError::Unavailable(reason) => Self::Unavailable(Unavailable(reason)),
        }
    }
}

impl From<Locked> for ProofError {
    fn from(Locked { retry_after }: Locked) -> Self {
        Self::Locked { retry_after }
    }
}

impl Application {
    /// Checks a password. Its outcome is told only once it is on record: a wrong one is counted, a right one is saved together with
    /// what `conclude` makes of it. A number without an account takes the same way, and the same time.
    pub(crate) async fn prove_password<T>(
        &self,
        presented: &Presented<'_>,
        conclude: impl Fn(Proven<'_>) -> (Changes, T),
    ) -> Result<T, ProofError> {
        let Presented { phone, origin, .. } = *presented;
        let limits = self.limits(Step::PasswordGuess, origin);
        let mut judged: Option<Judged> = None;
        for _ in 0..MAX_ROUNDS {
            let now = self.clock.now();
            let credentials = self.storage.credentials(phone, &limits).await?;
            if let Some(customer) = presented.customer
                && !customer.owns(credentials.account.as_ref())
            {
                return Err(ProofError::Gone);
            }
            let founder = credentials.account.as_ref().and_then(|account| account.value.opened_from());
            let caller = Caller { origin, founder };
            let guard = credentials.guard.as_ref().map(|loaded| loaded.value.clone());
            let guard = guard.unwrap_or_else(|| SignInGuard::new(phone.clone()));
            guard.admit(&caller, now)?;
            let charges = |unit| {
                if guard.knows(&caller) {
                    Vec::new()
                } else {
                    self.settings.quotas.charges(Step::PasswordGuess, origin, unit, now)
                }
            };
            let (taken, kept) = (charges(Unit::Taken), charges(Unit::Kept));
            admit(&credentials.budgets, &taken).map_err(|retry_after| ProofError::Locked { retry_after })?;
            let newest = credentials.passwords.first();
            let verdict = match judged.take() {
                Some(judged) if judged.is_of(newest) => judged,
                _ => self.judge(presented, &credentials.passwords, now).await?,
            };
            let (mut changes, answer) = match (&credentials.account, newest, &verdict.found) {
                (Some(account), Some(NewPassword { set_at, .. }), Found::Right { upgrade }) => {
                    let (mut changes, answer) = conclude(Proven { account, set_at: *set_at, now });
                    changes.guard = Some(save(guard.succeeded(&caller, now)?, &credentials));
                    // A right answer is told from an empty budget no more than a wrong one is.
                    changes.charges = kept;
                    changes.password.clone_from(upgrade);
                    (changes, Ok(answer))
                }
                (Some(_), Some(_), Found::Replaced) => {
                    let guard = Some(save(guard.succeeded(&caller, now)?, &credentials));
                    (Changes { guard, charges: kept, ..Changes::default() }, Err(ProofError::Replaced))
                }
                (account, _, _) => {
                    let user = account.as_ref().map(|account| account.value.user());
                    let scene = Scene { user, ..Scene::at(phone, origin) };
                    let failed = guard.failed(&caller, &self.settings.guard, now)?;
                    let changes = Changes {
                        guard: Some(save(failed, &credentials)),
                        charges: taken,
                        facts: vec![self.fact(Event::PasswordRefused, &scene)],
                        ..Changes::default()
                    };
                    (changes, Err(ProofError::Wrong))
                }
            };
            // An erasure that is faster must be seen: else the guard came back without its account.
            let owned = credentials.account.as_ref().filter(|_| presented.customer.is_some());
            let demanded = owned.map(|account| Save::over(account.version, account.value.clone()));
            changes.account = changes.account.or(demanded);
            match self.storage.commit(changes).await {
                Ok(()) => return answer,
                // Another guess was counted first, or the password was changed.
                Err(CommitError::Conflict) => judged = Some(verdict),
                Err(CommitError::LimitReached { retry_after }) => {
                    return Err(ProofError::Locked { retry_after });
                }
                Err(error) => return Err(undecided(&error).into()),
            }
        }
        Err(contended().into())
    }

    async fn judge(
        &self,
        presented: &Presented<'_>,
        passwords: &[NewPassword],
        now: UtcDateTime,
    ) -> Result<Judged, ProofError> {
        let newest = passwords.first();
        let hash = newest.map(|newest| newest.hash.clone());
        let Some(password) = presented.password.clone() else {
            return Ok(Judged { hash, found: Found::Wrong });
        };
        let is_right = self.hasher.verify(password.clone(), hash.clone()).await?;
        let found = match newest {
            Some(newest) if is_right && self.hasher.is_outdated(&newest.hash) => Found::Right {
                upgrade: Some(NewPassword { hash: self.hasher.hash(password).await?, ..newest.clone() }),
            },
            _ if is_right => Found::Right { upgrade: None },
            _ if self.is_replaced(password, presented, passwords, now).await? => Found::Replaced,
            _ => Found::Wrong,
        };
        Ok(Judged { hash, found })
    }

    /// Whether the password is the one before the newest, and the newest is its successor, which the customer's session has set: it is older, and
    /// all others ended then. Only who knows the one before learns anything of the newest, and that for one guess that counts.
    async fn is_replaced(
        &self,
        password: Password,
        presented: &Presented<'_>,
        passwords: &[NewPassword],
        now: UtcDateTime,
    ) -> Result<bool, ProofError> {
        let Presented { customer: Some(customer), successor: Some(successor), .. } = presented else {
            return Ok(false);
        };
        let [newest, before, ..] = passwords else {
            return Ok(false);
        };
        if now >= newest.set_at + REPEAT_WINDOW {
            return Ok(false);
        }
        let signed_in = self.storage.account_of_session(customer.account().user(), customer.session).await?;
        let has_set_it =
            signed_in.is_some_and(|signed_in| signed_in.session.value.record().created_at < newest.set_at);
        Ok(has_set_it
            && self.hasher.verify(password, Some(before.hash.clone())).await?
            && self.hasher.verify(successor.clone(), Some(newest.hash.clone())).await?)
    }
}

impl Customer {
    /// Whether the account is the customer's: the number may have gone to somebody else since.
    pub(crate) fn owns(&self, account: Option<&Loaded<Account>>) -> bool {
        account.is_some_and(|account| account.value.user() == self.account().user())
    }
}

/// What was found of the password, by the hash that it was compared with.
struct Judged {
    hash: Option<PasswordHash>,
    found: Found,
}

enum Found {
    Right {
        /// The same password, hashed as new ones are.
        upgrade: Option<NewPassword>,
    },
    /// See [`ProofError::Replaced`].
    Replaced,
    Wrong,
}

impl Judged {
    fn is_of(&self, newest: Option<&NewPassword>) -> bool {
        self.hash.as_ref() == newest.map(|newest| &newest.hash)
    }
}

/// Whether the password that was set at this moment still signs in.
pub(crate) fn is_newest(set_at: UtcDateTime, credentials: &Credentials) -> bool {
    credentials.passwords.first().is_some_and(|newest| newest.set_at == set_at)
}

fn save(guard: SignInGuard, credentials: &Credentials) -> Save<SignInGuard> {
    Save { value: guard, replaces: credentials.guard.as_ref().map(|loaded| loaded.version) }
}
