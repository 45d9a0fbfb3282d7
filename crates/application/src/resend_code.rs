use std::net::IpAddr;
use std::time::Duration;

use vestibule_domain::registration::{Resend, ResendRefusal};
use vestibule_domain::{
    AttemptId, Claim, ClientAddress, Fingerprint, Locale, Origin, PhoneError, PhoneNumber, Recipient,
};
use vestibule_port_storage::{Changes, CommitError, Save, Unavailable};

use crate::{Application, MAX_ROUNDS, contended, impossible};

/// Somebody wants the code again.
pub struct ResendCode {
    /// As it was written.
    pub phone: String,
    /// The `registrationId`, if the client repeats it.
    pub registration: Option<AttemptId>,
    /// Which device it comes from, if it says so.
    pub fingerprint: Option<Fingerprint>,
    /// Where the request comes from.
    pub client: IpAddr,
    /// The language for the message.
    pub locale: Locale,
}

/// Why nothing is sent.
#[derive(Debug, thiserror::Error)]
pub enum ResendCodeError {
    /// The phone is none.
    #[error(transparent)]
    Phone(#[from] PhoneError),
    /// Nobody is signing up with this number.
    #[error("no registration is pending")]
    NotFound,
    /// The last message is too recent.
    #[error("the last message is too recent")]
    CoolDown {
        /// How long to wait.
        retry_after: Duration,
    },
    /// Too many messages for this registration.
    #[error("too many messages")]
    TooMany {
        /// How long to wait.
        retry_after: Duration,
    },
    /// Storage does not answer.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl Application {
    /// Queues the message with the code once more.
    ///
    /// # Errors
    /// [`ResendCodeError`]
    pub async fn resend_code(&self, request: ResendCode) -> Result<(), ResendCodeError> {
        let phone = PhoneNumber::parse(&request.phone)?;
        let origin = Origin { fingerprint: request.fingerprint, address: ClientAddress::of(request.client) };
        let resend = Resend { claim: Claim { attempt: request.registration, origin } };
        for _ in 0..MAX_ROUNDS {
            let loaded = self.storage.registration(&phone).await?.ok_or(ResendCodeError::NotFound)?;
            let now = self.clock.now();
            let step = loaded.value.resend(&resend, &*self.derivation, &self.settings.registration, now)?;
            let to = || Recipient::Phone(phone.clone());
            let message = step.message.map(|message| self.message(to(), &request.locale, message));
            let changes = Changes {
                registration: Some(Save::over(loaded.version, step.registration)),
                messages: message.into_iter().collect(),
                ..Changes::default()
            };
            match self.storage.commit(changes).await {
                Ok(()) => return Ok(()),
                Err(CommitError::Conflict) => {}
                Err(CommitError::Unavailable(unavailable)) => return Err(unavailable.into()),
                Err(error) => return Err(impossible(&error).into()),
            }
        }
        Err(contended().into())
    }
}

impl From<ResendRefusal> for ResendCodeError {
    fn from(refusal: ResendRefusal) -> Self {
        match refusal {
            ResendRefusal::NotFound => Self::NotFound,
            ResendRefusal::CoolDown { retry_after } => Self::CoolDown { retry_after },
            ResendRefusal::TooMany { retry_after } => Self::TooMany { retry_after },
        }
    }
}
