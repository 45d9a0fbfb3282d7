use std::net::IpAddr;
use std::time::Duration;

use vestibule_domain::audit::Event;
use vestibule_domain::limits::{Step, Unit};
use vestibule_domain::password_reset::{Checked, PasswordReset};
use vestibule_domain::registration::ConfirmRefusal;
use vestibule_domain::sign_in::SignInGuard;
use vestibule_domain::{
    ClientAddress, Content, Fingerprint, OneTimeCode, Origin, Password, PasswordHash, PhoneError,
    PhoneNumber, Session, SessionId, Violations, Voice,
};
use vestibule_port_security::HashError;
use vestibule_port_storage::{
    Changes, CommitError, Credentials, EndSessions, Loaded, NewPassword, Save, SignedInAccount, Unavailable,
};
use zeroize::Zeroizing;

use crate::facts::Scene;
use crate::notices::Notices;
use crate::request_reset::owner;
use crate::{Application, MAX_ROUNDS, TokenPair, contended, undecided};

/// Somebody typed the code of a reset.
pub struct CheckResetCode {
    /// As it was written.
    pub phone: String,
    /// What was typed; `None` if that is no code at all.
    pub code: Option<OneTimeCode>,
    /// Which device it comes from, if it says so.
    pub fingerprint: Option<Fingerprint>,
    /// Where the request comes from.
    pub client: IpAddr,
}

/// Somebody typed the code of a reset and a new password.
pub struct ResetPassword {
    /// The code.
    pub check: CheckResetCode,
    /// As it was written.
    pub password: Zeroizing<String>,
    /// How the notices speak.
    pub voice: Voice,
}

/// Why the code is not accepted. None of it tells whether the number has an account.
#[derive(Debug, thiserror::Error)]
pub enum CheckResetCodeError {
    /// The phone is none.
    #[error(transparent)]
    Phone(#[from] PhoneError),
    /// The code is wrong, or nobody has asked for one.
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

/// Why the password is what it was.
#[derive(Debug, thiserror::Error)]
pub enum ResetPasswordError {
    /// The code is not accepted.
    #[error(transparent)]
    Code(#[from] CheckResetCodeError),
    /// The password breaks the policy. The code is as good as before.
    #[error(transparent)]
    Password(#[from] Violations),
    /// Too many passwords are waiting to be hashed.
    #[error("too many passwords are waiting to be hashed")]
    Busy {
        /// How long to wait.
        retry_after: Duration,
    },
    /// Something that it needs does not work.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl Application {
    /// Compares a code without spending it.
    ///
    /// # Errors
    /// [`CheckResetCodeError`]
    pub async fn check_reset_code(&self, check: &CheckResetCode) -> Result<(), CheckResetCodeError> {
        let beat = self.beat();
        beat.keep_refusal(self.check_at_once(check).await).await
    }

    async fn check_at_once(&self, check: &CheckResetCode) -> Result<(), CheckResetCodeError> {
        let phone = self.phone_number(&check.phone)?;
        self.compare(&phone, check).await
    }

    /// Sets a new password for who has the code. All sessions end but the one that is opened, and the owner is told. A repeat gives tokens for
    /// that session and changes nothing else.
    ///
    /// # Errors
    /// [`ResetPasswordError`]
    pub async fn reset_password(&self, reset: ResetPassword) -> Result<TokenPair, ResetPasswordError> {
        let beat = self.beat();
        beat.keep_refusal(self.reset_at_once(reset).await).await
    }

    async fn reset_at_once(&self, reset: ResetPassword) -> Result<TokenPair, ResetPasswordError> {
        let phone = self.phone_number(&reset.check.phone).map_err(CheckResetCodeError::from)?;
        match self.repeat_reset(&phone, &reset).await? {
            Repeat::Same(pair) => return Ok(pair),
            Repeat::OtherPassword => return self.set_password(&phone, &reset).await,
            Repeat::None => {}
        }
        match self.set_password(&phone, &reset).await {
            // Of two that are the same and came at once, the other may have been faster.
            Err(refused @ (ResetPasswordError::Code(_) | ResetPasswordError::Password(_))) => {
                match self.repeat_reset(&phone, &reset).await? {
                    Repeat::Same(pair) => Ok(pair),
                    Repeat::OtherPassword | Repeat::None => Err(refused),
                }
            }
            done => done,
        }
    }

    /// Whether this is a reset that was made, once more: tokens for its session, then, as long as that lives and its password is the newest. What
    /// became of the password is on record before it is told, so that no more of them are tried than codes.
    async fn repeat_reset(
        &self,
        phone: &PhoneNumber,
        reset: &ResetPassword,
    ) -> Result<Repeat, ResetPasswordError> {
        let ResetPassword { check, password, .. } = reset;
        let password = Password::prepare(password).ok();
        let mut compared: Option<(PasswordHash, bool)> = None;
        for _ in 0..MAX_ROUNDS {
            let credentials = self.storage.credentials(phone, &[]).await?;
            let now = self.clock.now();
            let (Some(reset), Some(account), Some(newest)) =
                (&credentials.reset, &credentials.account, credentials.passwords.first())
            else {
                return Ok(Repeat::None);
            };
            let (account, code) = (&account.value, check.code.as_ref());
            let (codes, rules) = (self.reset_codes(Some(account), now), &self.settings.registration);
            let finished =
                reset.value.repeated(owner(&credentials), code, &check.origin(), &codes, rules, now);
            let Some(finished) = finished.filter(|finished| finished.set_at == newest.set_at) else {
                return Ok(Repeat::None);
            };
            let signed_in = self.storage.account_of_session(account.user(), finished.session).await?;
            let Some(SignedInAccount { session, .. }) = signed_in else {
                return Ok(Repeat::None);
            };
            let is_same = match (compared.take(), &password) {
                (Some((hash, is_same)), _) if hash == newest.hash => is_same,
                (_, Some(password)) => {
                    self.hasher.verify(password.clone(), Some(newest.hash.clone())).await?
                }
                (_, None) => false,
            };
            let value = reset.value.clone();
            let (changes, answer) = if is_same {
                let (pair, refresh_token) = self.token_pair(&session.value, account.kyc(), now);
                let changes = Changes {
                    reset: Some(Save::over(reset.version, value)),
                    // It may have been refreshed while the password was compared: a pair of the generation before would look stolen.
                    session: Some(Save::over(session.version, session.value)),
                    refresh_token: Some(refresh_token),
                    ..Changes::default()
                };
                (changes, Repeat::Same(pair))
            } else {
                let reset = Some(Save::over(reset.version, value.repeated_wrongly()));
                (Changes { reset, ..Changes::default() }, Repeat::OtherPassword)
            };
            match self.storage.commit(changes).await {
                Ok(()) => return Ok(answer),
                // Another repeat was counted first, or the session was refreshed or ended.
                Err(CommitError::Conflict) => compared = Some((newest.hash.clone(), is_same)),
                Err(error) => return Err(undecided(&error).into()),
            }
        }
        Err(contended().into())
    }

    async fn set_password(
        &self,
        phone: &PhoneNumber,
        reset: &ResetPassword,
    ) -> Result<TokenPair, ResetPasswordError> {
        let ResetPassword { check, password, voice } = reset;
        // On record before the password is looked at: what the policy says of it must not tell that the code was right.
        self.compare(phone, check).await?;
        let credentials = self.storage.credentials(phone, &[]).await?;
        let account =
            credentials.account.as_ref().ok_or(CheckResetCodeError::from(ConfirmRefusal::NotFound))?;
        let accepted = self.accept_password(password.clone(), &account.value, &credentials.passwords);
        let password = accepted.await??;
        let hash = self.hasher.hash(password.clone()).await?;
        self.replace_password(phone, check, (&password, &hash), credentials, voice).await
    }

    /// Compares the code. That it was right is told once nobody can have guessed faster.
    async fn compare(&self, phone: &PhoneNumber, check: &CheckResetCode) -> Result<(), CheckResetCodeError> {
        for _ in 0..MAX_ROUNDS {
            let credentials = self.storage.credentials(phone, &[]).await?;
            let (origin, now) = (check.origin(), self.clock.now());
            let is_first = |reset: &Loaded<PasswordReset>| reset.value.is_first_guess(&origin, now);
            let is_first = credentials.reset.as_ref().is_some_and(is_first);
            if !is_first {
                self.admit_step(Step::CodeGuess, &origin, now)
                    .await?
                    .map_err(|retry_after| CheckResetCodeError::TooMany { retry_after })?;
            }
            let (reset, unit, answer) = match self.checked(&credentials, check)? {
                Checked::Right { kept, .. } => (kept, Unit::Kept, Ok(())),
                Checked::Refused { spent: Some(reset), refusal } => (reset, Unit::Taken, Err(refusal.into())),
                Checked::Refused { spent: None, refusal } => return Err(refusal.into()),
            };
            let replaces = credentials.reset.map(|loaded| loaded.version);
            let charges = if is_first {
                Vec::new()
            } else {
                self.settings.quotas.charges(Step::CodeGuess, &origin, unit, now)
            };
            let changes =
                Changes { reset: Some(Save { value: reset, replaces }), charges, ..Changes::default() };
            match self.storage.commit(changes).await {
                Ok(()) => return answer,
                Err(CommitError::Conflict) => {}
                Err(CommitError::LimitReached { retry_after }) => {
                    return Err(CheckResetCodeError::TooMany { retry_after });
                }
                Err(error) => return Err(undecided(&error).into()),
            }
        }
        Err(contended().into())
    }

    fn checked(
        &self,
        credentials: &Credentials,
        check: &CheckResetCode,
    ) -> Result<Checked, CheckResetCodeError> {
        let Some(Loaded { value: reset, .. }) = &credentials.reset else {
            return Err(ConfirmRefusal::NotFound.into());
        };
        let now = self.clock.now();
        Ok(reset.clone().check(
            owner(credentials),
            check.code.as_ref(),
            &check.origin(),
            &self.reset_codes(credentials.account.as_ref().map(|account| &account.value), now),
            &self.settings.registration,
            now,
        ))
    }

    async fn replace_password(
        &self,
        phone: &PhoneNumber,
        check: &CheckResetCode,
        (password, hash): (&Password, &PasswordHash),
        mut credentials: Credentials,
        voice: &Voice,
    ) -> Result<TokenPair, ResetPasswordError> {
        let origin = check.origin();
        for _ in 0..MAX_ROUNDS {
            let now = self.clock.now();
            let code = match self.checked(&credentials, check)? {
                Checked::Right { code, .. } => code,
                Checked::Refused { refusal, .. } => return Err(CheckResetCodeError::from(refusal).into()),
            };
            let Credentials { account: Some(account), passwords, guard, reset, .. } = credentials else {
                return Err(CheckResetCodeError::from(ConfirmRefusal::NotFound).into());
            };
            let account = account.value;
            let (guard, guard_version) = match guard {
                Some(loaded) => (loaded.value, Some(loaded.version)),
                None => (SignInGuard::new(phone.clone()), None),
            };
            let id = SessionId::new(self.entropy.ordered_id(now));
            let session = Session::open(id, account.user(), origin, now);
            let (pair, refresh_token) = self.token_pair(&session, account.kyc(), now);
            let newest = Self::newest_password(account.user(), hash.clone(), &passwords, now);
            let spent = code.spend(id, newest.set_at);
            let scene = Scene { session: Some(id), origin: Some(&origin), ..Scene::of(&account) };
            let Notices { messages, spends, charges } =
                self.notices(&account, voice, Content::PasswordChanged);
            let changes = Changes {
                password: Some(newest),
                forgotten_passwords: self.forgotten(&passwords).collect(),
                guard: Some(Save { value: guard.proven(&origin, now), replaces: guard_version }),
                reset: Some(Save { value: spent, replaces: reset.map(|loaded| loaded.version) }),
                end_sessions: Some(EndSessions::AllBut(account.user(), None)),
                session: Some(Save::new(session)),
                refresh_token: Some(refresh_token),
                facts: vec![self.fact(Event::PasswordReset, &scene)],
                charges,
                messages,
                spends,
                ..Changes::default()
            };
            match self.commit_with_notices(changes).await {
                Ok(()) => return Ok(pair),
                Err(CommitError::Conflict) => {
                    credentials = self.storage.credentials(phone, &[]).await?;
                    let newest = |passwords: &[NewPassword]| passwords.first().map(|newest| newest.set_at);
                    // Who was faster may have set this very one.
                    if newest(&credentials.passwords) != newest(&passwords)
                        && self.is_recent(password, &credentials.passwords).await?
                    {
                        return Err(Violations::recently_used().into());
                    }
                }
                Err(error) => return Err(undecided(&error).into()),
            }
        }
        Err(contended().into())
    }
}

/// Whether a reset is one that was made, once more.
enum Repeat {
    /// It is none.
    None,
    /// It is, with the same password.
    Same(TokenPair),
    /// It is, but for the password.
    OtherPassword,
}

impl CheckResetCode {
    fn origin(&self) -> Origin {
        Origin { fingerprint: self.fingerprint, address: ClientAddress::of(self.client) }
    }
}

impl From<ConfirmRefusal> for CheckResetCodeError {
    fn from(refusal: ConfirmRefusal) -> Self {
        match refusal {
            ConfirmRefusal::NotFound => Self::WrongCode { attempts_left: 0 },
            ConfirmRefusal::WrongCode { attempts_left } => Self::WrongCode { attempts_left },
            ConfirmRefusal::Expired => Self::Expired,
            ConfirmRefusal::Exhausted { retry_after } => Self::Exhausted { retry_after },
        }
    }
}

impl From<HashError> for ResetPasswordError {
    fn from(error: HashError) -> Self {
        match error {
            HashError::Busy { retry_after } => Self::Busy { retry_after },
            HashError::Unavailable(reason) => Self::Unavailable(Unavailable(reason)),
        }
    }
}
