use std::net::IpAddr;
use std::time::Duration;

use vestibule_domain::audit::Event;
use vestibule_domain::limits::{Step, Unit};
use vestibule_domain::password_reset::{Owner, PasswordReset, Request};
use vestibule_domain::registration::ResendRefusal;
use vestibule_domain::sign_in::Caller;
use vestibule_domain::spending::Audience;
use vestibule_domain::{
    Account, AttemptId, ClientAddress, Fingerprint, Origin, PhoneError, Recipient, Standing, Voice,
};
use vestibule_port_storage::{Changes, CommitError, Credentials, Save, Unavailable};

use crate::facts::Scene;
use crate::{Application, MAX_ROUNDS, contended, undecided};

/// Somebody has forgotten a password.
pub struct RequestReset {
    /// As it was written.
    pub phone: String,
    /// Which device it comes from, if it says so.
    pub fingerprint: Option<Fingerprint>,
    /// Where the request comes from.
    pub client: IpAddr,
    /// How the message speaks.
    pub voice: Voice,
}

/// Why no code is sent. None of it tells whether the number has an account.
#[derive(Debug, thiserror::Error)]
pub enum RequestResetError {
    /// The phone is none.
    #[error(transparent)]
    Phone(#[from] PhoneError),
    /// The last message is too recent.
    #[error("the last message is too recent")]
    CoolDown {
        /// How long to wait.
        retry_after: Duration,
    },
    /// Too many requests for the number or from the client, or no money left for the message.
    #[error("too many requests")]
    TooMany {
        /// How long to wait.
        retry_after: Duration,
    },
    /// Storage does not answer.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl Application {
    /// Sends a code that allows to set a new password, if the number has an account. Who asks is answered the same if it has none.
    ///
    /// # Errors
    /// [`RequestResetError`]
    pub async fn request_reset(&self, request: RequestReset) -> Result<(), RequestResetError> {
        let beat = self.beat();
        beat.keep(self.request_at_once(request).await).await
    }

    async fn request_at_once(&self, request: RequestReset) -> Result<(), RequestResetError> {
        let phone = self.phone_number(&request.phone)?;
        let origin = Origin { fingerprint: request.fingerprint, address: ClientAddress::of(request.client) };
        for _ in 0..MAX_ROUNDS {
            let now = self.clock.now();
            let credentials = self.storage.credentials(&phone, &[]).await?;
            let (owner, audience) = (owner(&credentials), audience(&credentials, &origin));
            let account = credentials.account.as_ref().map(|account| &account.value);
            let (codes, account) = (self.reset_codes(account, now), account.map(Account::user));
            let (current, replaces) = match credentials.reset {
                Some(loaded) => (Some(loaded.value), Some(loaded.version)),
                None => (None, None),
            };
            let attempt = AttemptId::new(self.entropy.unguessable_id());
            let step = PasswordReset::request(
                current,
                owner,
                Request { attempt, phone: phone.clone(), origin },
                &codes,
                &self.settings.registration,
                now,
            )?;
            let to = Recipient::Phone(phone.clone());
            let message = codes.sent(step.message).map(|message| self.message(to, &request.voice, message));
            let scene = Scene { user: account, ..Scene::at(&phone, &origin) };
            let changes = Changes {
                reset: Some(Save { value: step.reset, replaces }),
                charges: self.settings.quotas.charges(Step::Reset, &origin, Unit::Taken, now),
                spends: self.spends(message.as_ref(), &phone, audience, now),
                messages: message.into_iter().collect(),
                facts: vec![self.fact(Event::ResetRequested, &scene)],
                ..Changes::default()
            };
            match self.storage.commit(changes).await {
                Ok(()) => return Ok(()),
                Err(CommitError::Conflict) => {}
                Err(CommitError::LimitReached { retry_after }) => {
                    return Err(RequestResetError::TooMany { retry_after });
                }
                Err(error) => return Err(undecided(&error).into()),
            }
        }
        Err(contended().into())
    }
}

/// Who asks for the reset, as far as can be told: whoever knows a number can say to be its owner.
fn audience(credentials: &Credentials, origin: &Origin) -> Audience {
    let founder = credentials.account.as_ref().and_then(|account| account.value.opened_from());
    let caller = Caller { origin, founder };
    let known = credentials.guard.as_ref().map(|guard| &*guard.value.origins).unwrap_or_default();
    if caller.is_known_device(known) { Audience::Customer } else { Audience::Claimant }
}

/// Whose password can be reset. An account that the operator has blocked is nobody's.
pub(crate) fn owner(credentials: &Credentials) -> Owner {
    match credentials.account.as_ref().map(|account| account.value.standing()) {
        Some(Standing::Good) => Owner::Account,
        Some(Standing::Blocked) | None => Owner::Nobody,
    }
}

impl From<ResendRefusal> for RequestResetError {
    fn from(refusal: ResendRefusal) -> Self {
        match refusal {
            ResendRefusal::CoolDown { retry_after } => Self::CoolDown { retry_after },
            ResendRefusal::TooMany { retry_after } => Self::TooMany { retry_after },
            ResendRefusal::NotFound => {
                Self::Unavailable(Unavailable("a reset request found no request of its own".to_owned()))
            }
        }
    }
}
