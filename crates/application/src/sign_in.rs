use std::net::IpAddr;
use std::time::Duration;

use vestibule_domain::audit::Event;
use vestibule_domain::{
    ClientAddress, Fingerprint, Origin, Password, PhoneError, Session, SessionId, Standing,
};
use vestibule_port_storage::{Changes, Save, Unavailable};
use zeroize::Zeroizing;

use crate::facts::Scene;
use crate::prove_password::{Presented, ProofError, Proven};
use crate::{Application, TokenPair};

/// Somebody comes back.
pub struct SignIn {
    /// As it was written.
    pub phone: String,
    /// As it was written.
    pub password: Zeroizing<String>,
    /// Which device it comes from, if it says so.
    pub fingerprint: Option<Fingerprint>,
    /// Where the request comes from.
    pub client: IpAddr,
}

/// Why there are no tokens.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// The phone is none.
    #[error(transparent)]
    Phone(#[from] PhoneError),
    /// The password is wrong, or there is no such account.
    #[error("wrong number or password")]
    WrongPassword,
    /// Too many wrong passwords.
    #[error("too many wrong passwords")]
    Locked {
        /// How long to wait.
        retry_after: Duration,
    },
    /// The operator has blocked the account. Only who knows the password is told.
    #[error("the account is blocked")]
    Blocked,
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
    /// Opens a session for who knows the password.
    ///
    /// # Errors
    /// [`SignInError`]
    pub async fn sign_in(&self, sign_in: SignIn) -> Result<TokenPair, SignInError> {
        let beat = self.beat();
        beat.keep_refusal(self.sign_in_at_once(sign_in).await).await
    }

    async fn sign_in_at_once(&self, sign_in: SignIn) -> Result<TokenPair, SignInError> {
        let SignIn { phone, password, fingerprint, client } = sign_in;
        let phone = self.phone_number(&phone)?;
        let origin = Origin { fingerprint, address: ClientAddress::of(client) };
        let password = Password::prepare(&password).ok();
        let presented =
            Presented { phone: &phone, password, origin: &origin, customer: None, successor: None };
        let opened = self.prove_password(&presented, |Proven { account, now, .. }| {
            let account = &account.value;
            if account.standing() == Standing::Blocked {
                return (Changes::default(), None);
            }
            let id = SessionId::new(self.entropy.ordered_id(now));
            let session = Session::open(id, account.user(), origin, now);
            let (pair, refresh_token) = self.token_pair(&session, account.kyc(), now);
            let scene = Scene { session: Some(id), origin: Some(&origin), ..Scene::of(account) };
            let changes = Changes {
                session: Some(Save::new(session)),
                refresh_token: Some(refresh_token),
                facts: vec![self.fact(Event::SignedIn, &scene)],
                ..Changes::default()
            };
            (changes, Some(pair))
        });
        opened.await?.ok_or(SignInError::Blocked)
    }
}

impl From<ProofError> for SignInError {
    fn from(error: ProofError) -> Self {
        match error {
            ProofError::Wrong | ProofError::Replaced | ProofError::Gone => Self::WrongPassword,
            ProofError::Locked { retry_after } => Self::Locked { retry_after },
            ProofError::Busy { retry_after } => Self::Busy { retry_after },
            ProofError::Unavailable(unavailable) => Self::Unavailable(unavailable),
        }
    }
}
