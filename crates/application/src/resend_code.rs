use std::net::IpAddr;
use std::time::Duration;

use time::UtcDateTime;
use vestibule_domain::limits::{Step, Unit};
use vestibule_domain::registration::{Registration, Resend, ResendRefusal};
use vestibule_domain::spending::Audience;
use vestibule_domain::{
    AttemptId, Claim, ClientAddress, DeliveryState, Fingerprint, Origin, PhoneError, Recipient, Voice,
};
use vestibule_port_storage::{Budgets, Changes, CommitError, Save, Unavailable};

use crate::watch_pumping::Watched;
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
    /// How the message speaks.
    pub voice: Voice,
}

/// The message is queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResentCode {
    /// How far the message before this one has come, as far as the caller may know.
    pub delivery: Option<DeliveryState>,
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
        /// How far the last message has come, as far as the caller may know.
        delivery: Option<DeliveryState>,
    },
    /// Too many messages for this registration, or asked for from where it comes from, or no money left for another.
    #[error("too many messages")]
    TooMany {
        /// How long to wait.
        retry_after: Duration,
        /// How far the last message has come, as far as the caller may know.
        delivery: Option<DeliveryState>,
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
    pub async fn resend_code(&self, request: ResendCode) -> Result<ResentCode, ResendCodeError> {
        let beat = self.beat();
        beat.keep(self.resend_at_once(request).await).await
    }

    async fn resend_at_once(&self, request: ResendCode) -> Result<ResentCode, ResendCodeError> {
        let phone = self.phone_number(&request.phone)?;
        let origin = Origin { fingerprint: request.fingerprint, address: ClientAddress::of(request.client) };
        let resend = Resend { claim: Claim { attempt: request.registration, origin } };
        let mut tried_again = false;
        for _ in 0..MAX_ROUNDS {
            let loaded = self.storage.registration(&phone).await?.ok_or(ResendCodeError::NotFound)?;
            let now = self.clock.now();
            let delivery = self.known_delivery(&loaded.value, &resend.claim, now).await?;
            let codes = self.sign_up_codes(&phone, now);
            let sent_before = loaded.value.messages(now);
            let step = loaded
                .value
                .resend(&resend, &codes, &self.settings.registration, now)
                .map_err(|refusal| refused(refusal, delivery))?;
            let watched = self.watched(&phone, origin.address, sent_before, &codes, now);
            let limits = watched.as_ref().map(Watched::limits).unwrap_or_default();
            let budgets =
                if limits.is_empty() { Budgets::default() } else { self.storage.budgets(limits).await? };
            let passed = self.pass_guard(watched.as_ref(), &phone, &budgets, now);
            let part = passed.map_err(|retry_after| ResendCodeError::TooMany { retry_after, delivery })?;
            let to = Recipient::Phone(phone.clone());
            let message = codes.sent(step.message).map(|message| self.message(to, &request.voice, message));
            let mut charges = self.settings.quotas.charges(Step::Resend, &origin, Unit::Taken, now);
            charges.extend(self.guard_charges(watched.as_ref(), part, now));
            let changes = Changes {
                registration: Some(Save::over(loaded.version, step.registration)),
                charges,
                tallies: self.guard_tallies(watched.as_ref(), part, now),
                sent_code: self.sent_code(watched.as_ref(), part, &phone, message.as_ref()),
                spends: self.spends(message.as_ref(), &phone, Audience::Newcomer, now),
                messages: message.into_iter().collect(),
                ..Changes::default()
            };
            match self.storage.commit(changes).await {
                Ok(()) => return Ok(ResentCode { delivery }),
                Err(CommitError::Conflict) => {}
                Err(CommitError::LimitReached { retry_after }) => {
                    // The next round looks for itself which part bears it.
                    let again =
                        self.pass_guard_again(watched.as_ref(), &phone, retry_after, tried_again, now).await;
                    again.map_err(|retry_after| ResendCodeError::TooMany { retry_after, delivery })?;
                    tried_again = true;
                }
                Err(CommitError::Unavailable(unavailable)) => return Err(unavailable.into()),
                Err(error) => return Err(impossible(&error).into()),
            }
        }
        Err(contended().into())
    }

    /// How far the newest message of the caller's own attempt has come. Not told where accounts are concealed, since a concealed number has
    /// no messages.
    async fn known_delivery(
        &self,
        registration: &Registration,
        claim: &Claim,
        now: UtcDateTime,
    ) -> Result<Option<DeliveryState>, Unavailable> {
        match registration.claimed_attempt(claim, now) {
            Some(attempt) if !self.settings.conceal_accounts => self.storage.delivery(attempt).await,
            _ => Ok(None),
        }
    }
}

fn refused(refusal: ResendRefusal, delivery: Option<DeliveryState>) -> ResendCodeError {
    match refusal {
        ResendRefusal::NotFound => ResendCodeError::NotFound,
        ResendRefusal::CoolDown { retry_after } => ResendCodeError::CoolDown { retry_after, delivery },
        ResendRefusal::TooMany { retry_after } => ResendCodeError::TooMany { retry_after, delivery },
    }
}
