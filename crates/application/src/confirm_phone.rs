use std::net::IpAddr;
use std::time::Duration;

use time::UtcDateTime;
use vestibule_domain::audit::Event;
use vestibule_domain::limits::{Step, Unit};
use vestibule_domain::registration::{Confirm, ConfirmRefusal, Confirmation, Others};
use vestibule_domain::{
    AccountKind, AttemptId, Claim, ClientAddress, Fingerprint, OneTimeCode, Origin, PhoneError, SessionId,
    UserId,
};
use vestibule_port_storage::{Changes, CommitError, NewPassword, Save, Unavailable};

use crate::facts::Scene;
use crate::{Application, MAX_ROUNDS, TokenPair, contended, impossible};

/// Somebody typed a code.
pub struct ConfirmPhone {
    /// As it was written.
    pub phone: String,
    /// What was typed; `None` if that is no code at all.
    pub code: Option<OneTimeCode>,
    /// The `registrationId`, if the client repeats it.
    pub registration: Option<AttemptId>,
    /// Which device it comes from, if it says so.
    pub fingerprint: Option<Fingerprint>,
    /// Where the request comes from.
    pub client: IpAddr,
}

/// Why there are no tokens.
#[derive(Debug, thiserror::Error)]
pub enum ConfirmPhoneError {
    /// The phone is none.
    #[error(transparent)]
    Phone(#[from] PhoneError),
    /// Nobody is signing up with this number.
    #[error("no registration is pending")]
    NotFound,
    /// The code is wrong.
    #[error("the code is wrong")]
    WrongCode {
        /// Guesses that are left on it.
        attempts_left: u32,
    },
    /// The code's life is over.
    #[error("the code has expired")]
    Expired,
    /// No guesses are left.
    #[error("no guesses are left")]
    Exhausted {
        /// When a new code can be asked for.
        retry_after: Duration,
    },
    /// Too many guesses from where it comes from, or altogether. Nothing is told of this one.
    #[error("too many guesses")]
    TooMany {
        /// How long to wait.
        retry_after: Duration,
    },
    /// Storage does not answer.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl Application {
    /// Compares a code; the right one opens the account and its first session in one commit.
    ///
    /// # Errors
    /// [`ConfirmPhoneError`]
    pub async fn confirm_phone(&self, request: ConfirmPhone) -> Result<TokenPair, ConfirmPhoneError> {
        let beat = self.beat();
        beat.keep_refusal(self.confirm_at_once(request).await).await
    }

    async fn confirm_at_once(&self, request: ConfirmPhone) -> Result<TokenPair, ConfirmPhoneError> {
        let phone = self.phone_number(&request.phone)?;
        let origin = Origin { fingerprint: request.fingerprint, address: ClientAddress::of(request.client) };
        let now = self.clock.now();
        let codes = self.sign_up_codes(&phone, now);
        let confirm = Confirm {
            code: request.code,
            claim: Claim { attempt: request.registration, origin },
            user: UserId::new(self.entropy.ordered_id(now)),
            session: SessionId::new(self.entropy.ordered_id(now)),
            others: if self.settings.conceal_accounts { Others::Untold } else { Others::Told },
            kind: codes.kind(),
        };
        for _ in 0..MAX_ROUNDS {
            let Some(loaded) = self.storage.registration(&phone).await? else {
                return Err(ConfirmPhoneError::NotFound);
            };
            let now = self.clock.now();
            let is_first = loaded.value.is_first_guess(&confirm.claim, now);
            if !is_first {
                self.admit_step(Step::CodeGuess, &origin, now)
                    .await?
                    .map_err(|retry_after| ConfirmPhoneError::TooMany { retry_after })?;
            }
            let charges = |unit| {
                if is_first {
                    Vec::new()
                } else {
                    self.settings.quotas.charges(Step::CodeGuess, &origin, unit, now)
                }
            };
            let outcome = loaded.value.confirm(&confirm, &codes, &self.settings.registration, now);
            let (changes, answer) = match outcome {
                Confirmation::Repeated { user, session } => return self.repeat(user, session, now).await,
                Confirmation::Refused { spent: None, refusal } => return Err(refusal.into()),
                Confirmation::Refused { spent: Some(registration), refusal } => {
                    let registration = Some(Save::over(loaded.version, registration));
                    // A wrong repeat is counted on its own, and must not be told from a guess at nothing by a limit.
                    let charges = match refusal {
                        ConfirmRefusal::WrongCode { .. } => charges(Unit::Taken),
                        ConfirmRefusal::NotFound
                        | ConfirmRefusal::Expired
                        | ConfirmRefusal::Exhausted { .. } => Vec::new(),
                    };
                    (Changes { registration, charges, ..Changes::default() }, Err(refusal.into()))
                }
                Confirmation::Opened { registration, account, password, session, attempt } => {
                    let (pair, refresh_token) = self.token_pair(&session, account.kyc(), now);
                    let scene = Scene {
                        user: Some(account.user()),
                        session: Some(session.id()),
                        ..Scene::at(&phone, &origin)
                    };
                    let watched = self.watched(&phone, attempt.address, 0, &codes, now);
                    let events = match account.kind() {
                        AccountKind::Customer => &[Event::PhoneConfirmed][..],
                        AccountKind::Test => &[Event::PhoneConfirmed, Event::TestAccountOpened],
                    };
                    let changes = Changes {
                        registration: Some(Save::over(loaded.version, registration)),
                        charges: charges(Unit::Kept),
                        tallies: self.guard_returns(watched.as_ref(), attempt.messages, now),
                        codes_back: watched.map(|_| (attempt.id, now)),
                        password: Some(NewPassword { user: account.user(), hash: password, set_at: now }),
                        account: Some(Save::new(*account)),
                        used_number: Some(self.derivation.number_digest(&phone)),
                        session: Some(Save::new(session)),
                        refresh_token: Some(refresh_token),
                        facts: events.iter().map(|event| self.fact(*event, &scene)).collect(),
                        ..Changes::default()
                    };
                    (changes, Ok(pair))
                }
            };
            match self.storage.commit(changes).await {
                Ok(()) => return answer,
                Err(CommitError::Conflict) => {}
                // The number came to be used in another way; the attempt is void.
                Err(CommitError::PhoneTaken) => return Err(ConfirmPhoneError::NotFound),
                Err(CommitError::Unavailable(unavailable)) => return Err(unavailable.into()),
                Err(CommitError::LimitReached { retry_after }) => {
                    return Err(ConfirmPhoneError::TooMany { retry_after });
                }
                Err(error @ CommitError::EmailTaken) => return Err(impossible(&error).into()),
            }
        }
        Err(contended().into())
    }

    /// Tokens for the session that the same confirmation has opened before, unless that has ended.
    async fn repeat(
        &self,
        user: UserId,
        session: SessionId,
        now: UtcDateTime,
    ) -> Result<TokenPair, ConfirmPhoneError> {
        let signed_in =
            self.storage.account_of_session(user, session).await?.ok_or(ConfirmPhoneError::NotFound)?;
        let kyc = signed_in.account.value.kyc();
        let (pair, refresh_token) = self.token_pair(&signed_in.session.value, kyc, now);
        let changes = Changes { refresh_token: Some(refresh_token), ..Changes::default() };
        match self.storage.commit(changes).await {
            Ok(()) => Ok(pair),
            // The session ended meanwhile.
            Err(CommitError::Conflict) => Err(ConfirmPhoneError::NotFound),
            Err(CommitError::Unavailable(unavailable)) => Err(unavailable.into()),
            Err(error) => Err(impossible(&error).into()),
        }
    }
}

impl From<ConfirmRefusal> for ConfirmPhoneError {
    fn from(refusal: ConfirmRefusal) -> Self {
        match refusal {
            ConfirmRefusal::NotFound => Self::NotFound,
            ConfirmRefusal::WrongCode { attempts_left } => Self::WrongCode { attempts_left },
            ConfirmRefusal::Expired => Self::Expired,
            ConfirmRefusal::Exhausted { retry_after } => Self::Exhausted { retry_after },
        }
    }
}
