use std::net::IpAddr;
use std::time::Duration;

use vestibule_domain::audit::Event;
use vestibule_domain::limits::{Limit, Unit};
use vestibule_domain::pumping::Part;
use vestibule_domain::registration::{self, NumberUse, Registration, SignUpRefusal};
use vestibule_domain::spending::{Audience, Unsent};
use vestibule_domain::{
    AttemptId, ClientAddress, Fingerprint, MerchantId, Origin, PhoneError, Recipient, Violations, Voice,
};
use vestibule_port_security::HashError;
use vestibule_port_storage::{Changes, CommitError, NumberDigest, Save, SignUpState, Unavailable};
use zeroize::Zeroizing;

use crate::check_password::Subject;
use crate::facts::Scene;
use crate::measure::admit;
use crate::watch_pumping::Watched;
use crate::{Application, MAX_ROUNDS, contended, impossible};

/// Somebody wants to register.
pub struct SignUp {
    /// As it was written.
    pub phone: String,
    /// As it was written.
    pub password: Zeroizing<String>,
    /// Where the request comes from.
    pub client: IpAddr,
    /// Which device it comes from, if it says so.
    pub fingerprint: Option<Fingerprint>,
    /// How the message speaks.
    pub voice: Voice,
}

/// A sign-up that was recorded. Its message is on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedUp {
    /// Names the attempt, and proves to come from the client that made it.
    pub registration: AttemptId,
    /// How long the code lives.
    pub expires_in: Duration,
    /// How soon it can be sent again.
    pub resend_in: Duration,
}

/// Why nothing was recorded.
#[derive(Debug, thiserror::Error)]
pub enum SignUpError {
    /// The client's address is in a blocked country.
    #[error("the client's country is blocked")]
    ClientCountryBlocked,
    /// The phone is none that can receive SMS.
    #[error(transparent)]
    Phone(#[from] PhoneError),
    /// The number belongs to a blocked country, or to one that the partner does not serve.
    #[error("the number's country is blocked")]
    PhoneCountryBlocked,
    /// The password breaks the policy.
    #[error(transparent)]
    Password(#[from] Violations),
    /// The number was used before.
    #[error("the number has been used before")]
    AlreadyRegistered,
    /// The last message is too recent.
    #[error("the last message is too recent")]
    CoolDown {
        /// How long to wait.
        retry_after: Duration,
    },
    /// Too many sign-ups for the number or from the client, or no money left for the message.
    #[error("too many sign-ups")]
    TooMany {
        /// How long to wait.
        retry_after: Duration,
    },
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
    /// Records a sign-up and queues the message with its code. The cheap checks come first, hashing the password last.
    ///
    /// # Errors
    /// [`SignUpError`]
    pub async fn sign_up(&self, sign_up: SignUp) -> Result<SignedUp, SignUpError> {
        let beat = self.beat();
        beat.keep(self.sign_up_at_once(sign_up).await).await
    }

    async fn sign_up_at_once(&self, sign_up: SignUp) -> Result<SignedUp, SignUpError> {
        let SignUp { phone, password, client, fingerprint, voice } = sign_up;
        if !self.settings.client_countries.admits(self.countries.country_of(client)) {
            return Err(SignUpError::ClientCountryBlocked);
        }
        let phone = self.phone_number(&phone)?;
        if !self.settings.phone_countries.admits(phone.country()) {
            return Err(SignUpError::PhoneCountryBlocked);
        }
        let merchant = voice.merchant;
        if self.partner(merchant).is_some_and(|partner| !partner.takes(&phone)) {
            return Err(SignUpError::PhoneCountryBlocked);
        }
        let password = self.check_password(password, Subject::of_phone(&phone)).await??;

        let origin = Origin { fingerprint, address: ClientAddress::of(client) };
        let digest = self.derivation.number_digest(&phone);
        let now = self.clock.now();
        let codes = self.sign_up_codes(&phone, now);
        let watched = self.watched(&phone, origin.address, 0, &codes, now);
        let mut limits = self.sign_up_limits(&origin, merchant);
        limits.extend(watched.iter().flat_map(Watched::limits));
        let state = self.storage.sign_up_state(&phone, &digest, &limits).await?;
        self.admit_sign_up(&state, &origin, merchant)?;
        let passed = self.pass_guard(watched.as_ref(), &phone, &state.budgets, now);
        let part = passed.map_err(|retry_after| SignUpError::TooMany { retry_after })?;
        let spends = self.settings.spending.spends(&phone, Audience::Newcomer, Unsent::Returned, now);
        let admitted = self.admit_spends(&codes.sent(spends).unwrap_or_default(), now).await?;
        admitted.map_err(|retry_after| SignUpError::TooMany { retry_after })?;
        let password = self.hasher.hash(password).await.map_err(|error| match error {
            HashError::Busy { retry_after } => SignUpError::Busy { retry_after },
            HashError::Unavailable(reason) => SignUpError::Unavailable(Unavailable(reason)),
        })?;
        let attempt = AttemptId::new(self.entropy.unguessable_id());
        let sign_up = registration::SignUp { attempt, phone, password, origin };
        self.record_sign_up(sign_up, state, digest, part, &voice).await
    }

    async fn record_sign_up(
        &self,
        sign_up: registration::SignUp,
        mut state: SignUpState,
        digest: NumberDigest,
        mut part: Part,
        voice: &Voice,
    ) -> Result<SignedUp, SignUpError> {
        let mut tried_again = false;
        for _ in 0..MAX_ROUNDS {
            let now = self.clock.now();
            let (current, replaces) = match state.registration.take() {
                Some(loaded) => (Some(loaded.value), Some(loaded.version)),
                None => (None, None),
            };
            let sent_before = current.as_ref().map_or(0, |current: &Registration| current.messages(now));
            let number = self.number_use(state.number_used);
            let rules = &self.settings.registration;
            let codes = self.sign_up_codes(&sign_up.phone, now);
            let step = Registration::sign_up(current, number, sign_up.clone(), &codes, rules, now)?;
            let to = Recipient::Phone(sign_up.phone.clone());
            let message = codes.sent(step.message).map(|message| self.message(to, voice, message));
            let watched = self.watched(&sign_up.phone, sign_up.origin.address, sent_before, &codes, now);
            let mut charges = self.sign_up_charges(&sign_up.origin, voice.merchant, Unit::Taken, now);
            charges.extend(self.guard_charges(watched.as_ref(), part, now));
            let changes = Changes {
                registration: Some(Save { value: step.registration, replaces }),
                charges,
                tallies: self.guard_tallies(watched.as_ref(), part, now),
                sent_code: self.sent_code(watched.as_ref(), part, &sign_up.phone, message.as_ref()),
                spends: self.spends(message.as_ref(), &sign_up.phone, Audience::Newcomer, now),
                messages: message.into_iter().collect(),
                facts: vec![self.fact(Event::SignedUp, &Scene::at(&sign_up.phone, &sign_up.origin))],
                ..Changes::default()
            };
            match self.storage.commit(changes).await {
                Ok(()) => {
                    return Ok(SignedUp {
                        registration: sign_up.attempt,
                        expires_in: (step.expires_at - now).unsigned_abs(),
                        resend_in: rules.resend_cooldown,
                    });
                }
                Err(CommitError::Conflict) => {}
                Err(CommitError::LimitReached { retry_after }) => {
                    let to = &sign_up.phone;
                    let again =
                        self.pass_guard_again(watched.as_ref(), to, retry_after, tried_again, now).await;
                    part = again.map_err(|retry_after| SignUpError::TooMany { retry_after })?;
                    tried_again = true;
                }
                Err(CommitError::Unavailable(unavailable)) => return Err(unavailable.into()),
                Err(error @ (CommitError::PhoneTaken | CommitError::EmailTaken)) => {
                    return Err(impossible(&error).into());
                }
            }
            let limits = self.sign_up_limits(&sign_up.origin, voice.merchant);
            state = self.storage.sign_up_state(&sign_up.phone, &digest, &limits).await?;
        }
        Err(contended().into())
    }

    /// Refuses before the password is hashed what would be refused after.
    fn admit_sign_up(
        &self,
        state: &SignUpState,
        origin: &Origin,
        merchant: Option<MerchantId>,
    ) -> Result<(), SignUpError> {
        let now = self.clock.now();
        let current = state.registration.as_ref().map(|loaded| &loaded.value);
        let number = self.number_use(state.number_used);
        Registration::admit_sign_up(current, number, origin, &self.settings.registration, now)?;
        let charges = self.sign_up_charges(origin, merchant, Unit::Taken, now);
        admit(&state.budgets, &charges).map_err(|retry_after| SignUpError::TooMany { retry_after })
    }

    fn sign_up_limits(&self, origin: &Origin, merchant: Option<MerchantId>) -> Vec<Limit> {
        let charges = self.sign_up_charges(origin, merchant, Unit::Kept, self.clock.now());
        charges.iter().map(|charge| charge.limit).collect()
    }

    fn number_use(&self, used: bool) -> NumberUse {
        match (used, self.settings.conceal_accounts) {
            (false, _) => NumberUse::Unused,
            (true, false) => NumberUse::Used,
            (true, true) => NumberUse::UsedAndConcealed,
        }
    }
}

impl From<SignUpRefusal> for SignUpError {
    fn from(refusal: SignUpRefusal) -> Self {
        match refusal {
            SignUpRefusal::AlreadyRegistered => Self::AlreadyRegistered,
            SignUpRefusal::CoolDown { retry_after } => Self::CoolDown { retry_after },
            SignUpRefusal::TooMany { retry_after } => Self::TooMany { retry_after },
        }
    }
}
