//! The owner of the number, who registers, signs out, comes back, forgets the password and sets another. She does what she is told: she
//! waits as long as a refusal says, and asks for a new code where one is needed.

use std::net::IpAddr;
use std::time::Duration;

use vestibule_application::{
    CheckResetCode, CheckResetCodeError, ConfirmPhone, ConfirmPhoneError, RequestReset, RequestResetError,
    ResendCode, ResendCodeError, ResetPassword, ResetPasswordError, SignIn, SignInError, SignUp, SignUpError,
    TokenPair,
};
use vestibule_domain::registration::OPEN_FOR;
use vestibule_domain::{AttemptId, ClientAddress, Fingerprint, OneTimeCode, Origin};

use crate::stranger::{Deed, Stranger, voice};
use crate::world::{For, PHONE, World};

const PASSWORD: &str = "correct-horse-7";
const NEW_PASSWORD: &str = "correct-horse-8";

/// More tries of one step than any that was seen to need.
const TRIES: usize = 12;

/// Before which step of the owner's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gap {
    SignUp,
    Confirm,
    SignIn,
    RequestReset,
    Reset,
    SignInAgain,
}

impl Gap {
    pub(crate) const ALL: [Self; 6] =
        [Self::SignUp, Self::Confirm, Self::SignIn, Self::RequestReset, Self::Reset, Self::SignInAgain];
}

/// What strangers do meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Interference {
    pub(crate) stranger: Stranger,
    /// Before a step is tried for the first time.
    pub(crate) once: Vec<(Gap, Vec<Deed>)>,
    /// Before every try.
    pub(crate) always: Vec<Deed>,
}

impl Interference {
    async fn before(&mut self, world: &mut World, gap: Gap) {
        let is_due = |(at, _): &mut (Gap, Vec<Deed>)| *at == gap;
        let once: Vec<_> = self.once.extract_if(.., is_due).flat_map(|(_, deeds)| deeds).collect();
        for deed in once.iter().chain(&self.always) {
            self.stranger.act(world, *deed).await;
        }
    }
}

/// In which steps an app says which device it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NamesDevice {
    Always,
    AtSignUp,
    Never,
}

/// How the owner's app goes about it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Habits {
    /// When it says which device it is.
    pub(crate) names_device: NamesDevice,
    /// Whether it repeats the `registrationId`.
    pub(crate) names_attempt: bool,
    /// Whether she mistypes each code at first.
    pub(crate) mistypes: bool,
}

pub(crate) struct Owner<'a> {
    world: &'a mut World,
    strangers: &'a mut Interference,
    habits: Habits,
    /// How long she was told to wait, in all.
    waited: Duration,
}

/// What to do after a refusal.
enum Next {
    Retry,
    NewCode,
}

impl<'a> Owner<'a> {
    /// Goes all the way, or until her own password has signed her in. How long she was told to wait, in all.
    pub(crate) async fn journey(
        world: &'a mut World,
        habits: Habits,
        strangers: &'a mut Interference,
        until: Gap,
    ) -> Duration {
        let mut owner = Self { world, strangers, habits, waited: Duration::ZERO };
        let attempt = owner.sign_up().await;
        let pair = owner.confirm(attempt).await;
        owner.sign_out(&pair).await;
        let pair = owner.sign_in(Gap::SignIn, PASSWORD).await;
        if until == Gap::SignIn {
            return owner.waited;
        }
        owner.sign_out(&pair).await;
        let attempt = owner.request_reset().await;
        let pair = owner.reset(attempt).await;
        owner.sign_out(&pair).await;
        owner.sign_in(Gap::SignInAgain, NEW_PASSWORD).await;
        owner.waited
    }

    async fn sign_up(&mut self) -> AttemptId {
        for _ in 0..TRIES {
            self.strangers.before(self.world, Gap::SignUp).await;
            let sign_up = SignUp {
                phone: PHONE.to_owned(),
                password: PASSWORD.to_owned().into(),
                client: client(),
                fingerprint: (self.habits.names_device != NamesDevice::Never).then(device),
                voice: voice(),
            };
            match self.world.application.sign_up(sign_up).await {
                Ok(signed_up) => return signed_up.registration,
                Err(SignUpError::CoolDown { retry_after } | SignUpError::TooMany { retry_after }) => {
                    self.wait(retry_after).await;
                }
                Err(error) => panic!("sign-up: {error}"),
            }
        }
        panic!("the owner cannot sign up; waited {:?}", self.waited)
    }

    async fn confirm(&mut self, mut attempt: AttemptId) -> TokenPair {
        let mut signed_up_at = self.world.now();
        let mut mistypes = self.habits.mistypes;
        for _ in 0..TRIES {
            self.strangers.before(self.world, Gap::Confirm).await;
            // She has left it lying for a day, and begins again.
            if self.world.now() >= signed_up_at + OPEN_FOR {
                attempt = self.sign_up().await;
                signed_up_at = self.world.now();
            }
            let code = self.world.newest_code(attempt).await.unwrap();
            let mistyped = std::mem::take(&mut mistypes);
            let confirm = ConfirmPhone {
                phone: PHONE.to_owned(),
                code: if mistyped { OneTimeCode::parse("99999999") } else { Some(code) },
                registration: self.habits.names_attempt.then_some(attempt),
                fingerprint: self.fingerprint(),
                client: client(),
            };
            let next = match self.world.application.confirm_phone(confirm).await {
                Ok(pair) => return pair,
                Err(ConfirmPhoneError::WrongCode { .. }) if mistyped => Next::Retry,
                Err(ConfirmPhoneError::Expired) => Next::NewCode,
                Err(ConfirmPhoneError::Exhausted { retry_after }) => {
                    self.wait(retry_after).await;
                    Next::NewCode
                }
                Err(ConfirmPhoneError::TooMany { retry_after }) => {
                    self.wait(retry_after).await;
                    Next::Retry
                }
                Err(error) => panic!("confirmation: {error}"),
            };
            if matches!(next, Next::NewCode) {
                self.resend(attempt).await;
            }
        }
        panic!("the owner cannot confirm; waited {:?}", self.waited)
    }

    async fn resend(&mut self, attempt: AttemptId) {
        for _ in 0..TRIES {
            self.strangers.before(self.world, Gap::Confirm).await;
            let resend = ResendCode {
                phone: PHONE.to_owned(),
                registration: self.habits.names_attempt.then_some(attempt),
                fingerprint: self.fingerprint(),
                client: client(),
                voice: voice(),
            };
            match self.world.application.resend_code(resend).await {
                Ok(_) => return,
                Err(
                    ResendCodeError::CoolDown { retry_after, .. }
                    | ResendCodeError::TooMany { retry_after, .. },
                ) => self.wait(retry_after).await,
                Err(error) => panic!("resend: {error}"),
            }
        }
        panic!("the owner gets no new code; waited {:?}", self.waited)
    }

    async fn sign_in(&mut self, gap: Gap, password: &str) -> TokenPair {
        for _ in 0..TRIES {
            self.strangers.before(self.world, gap).await;
            let sign_in = SignIn {
                phone: PHONE.to_owned(),
                password: password.to_owned().into(),
                fingerprint: self.fingerprint(),
                client: client(),
            };
            match self.world.application.sign_in(sign_in).await {
                Ok(pair) => return pair,
                Err(SignInError::Locked { retry_after }) => self.wait(retry_after).await,
                Err(error) => panic!("sign-in: {error}"),
            }
        }
        panic!("the owner cannot sign in; waited {:?}", self.waited)
    }

    async fn sign_out(&mut self, pair: &TokenPair) {
        let customer = self.world.application.authenticate(pair.access_token.expose()).await.unwrap();
        let origin = Origin { fingerprint: self.fingerprint(), address: ClientAddress::of(client()) };
        self.world.application.sign_out(&customer, &origin).await.unwrap();
    }

    /// The request, which only the phone tells of.
    async fn request_reset(&mut self) -> AttemptId {
        for _ in 0..TRIES {
            self.strangers.before(self.world, Gap::RequestReset).await;
            let request = RequestReset {
                phone: PHONE.to_owned(),
                fingerprint: self.fingerprint(),
                client: client(),
                voice: voice(),
            };
            match self.world.application.request_reset(request).await {
                Ok(()) => return self.world.newest_attempt(For::Reset).await.unwrap(),
                Err(
                    RequestResetError::CoolDown { retry_after } | RequestResetError::TooMany { retry_after },
                ) => self.wait(retry_after).await,
                Err(error) => panic!("request of a reset: {error}"),
            }
        }
        panic!("the owner cannot request a reset; waited {:?}", self.waited)
    }

    async fn reset(&mut self, mut attempt: AttemptId) -> TokenPair {
        let mut requested_at = self.world.now();
        let mut mistypes = self.habits.mistypes;
        for _ in 0..TRIES {
            self.strangers.before(self.world, Gap::Reset).await;
            if self.world.now() >= requested_at + OPEN_FOR {
                attempt = self.request_reset().await;
                requested_at = self.world.now();
            }
            let code = self.world.newest_code(attempt).await.unwrap();
            let mistyped = std::mem::take(&mut mistypes);
            let check = CheckResetCode {
                phone: PHONE.to_owned(),
                code: if mistyped { OneTimeCode::parse("99999999") } else { Some(code) },
                fingerprint: self.fingerprint(),
                client: client(),
            };
            let reset = ResetPassword { check, password: NEW_PASSWORD.to_owned().into(), voice: voice() };
            let next = match self.world.application.reset_password(reset).await {
                Ok(pair) => return pair,
                Err(ResetPasswordError::Code(error)) => match error {
                    CheckResetCodeError::WrongCode { .. } if mistyped => Next::Retry,
                    CheckResetCodeError::Expired => Next::NewCode,
                    CheckResetCodeError::Exhausted { retry_after } => {
                        self.wait(retry_after).await;
                        Next::NewCode
                    }
                    CheckResetCodeError::TooMany { retry_after } => {
                        self.wait(retry_after).await;
                        Next::Retry
                    }
                    error => panic!("reset: {error}"),
                },
                Err(error) => panic!("reset: {error}"),
            };
            if matches!(next, Next::NewCode) {
                attempt = self.request_reset().await;
                requested_at = self.world.now();
            }
        }
        panic!("the owner cannot reset the password; waited {:?}", self.waited)
    }

    async fn wait(&mut self, time: Duration) {
        self.waited += time;
        self.world.pass(time).await;
    }

    fn fingerprint(&self) -> Option<Fingerprint> {
        (self.habits.names_device == NamesDevice::Always).then(device)
    }
}

fn device() -> Fingerprint {
    Fingerprint::of("the owner's").unwrap()
}

/// Where she is, in a block that strangers are in only where they are behind the same address.
pub(crate) fn client() -> IpAddr {
    [192, 0, 2, 7].into()
}
