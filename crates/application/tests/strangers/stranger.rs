//! Who knows the number and nothing else: neither the password, nor what comes to the phone, nor the owner's device.

use std::net::IpAddr;
use std::time::Duration;

use vestibule_application::{
    CheckResetCode, ConfirmPhone, ConfirmPhoneError, RequestReset, ResendCode, ResetPassword, SignIn, SignUp,
    SignUpError, SignedUp,
};
use vestibule_domain::{AttemptId, Fingerprint, Locale, OneTimeCode, Voice};

use crate::owner::client;
use crate::world::{PHONE, World};

const PASSWORD: &str = "the-strangers-own-1";

/// More than any budget of a number bears at once.
const MANY: usize = 40;

/// Refusals one after another that are hardly all by chance.
const MANY_REFUSALS: usize = 15;

/// The block of [`HOME`].
const HOMES: u8 = 0;

/// The owner's own address.
pub(crate) const HOME: Place = Place::plain(HOMES);

/// Where a stranger acts from: a block of addresses, and a device that the request makes up or leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) block: u8,
    pub(crate) device: Option<u8>,
}

impl Place {
    pub(crate) const fn plain(block: u8) -> Self {
        Self { block, device: None }
    }

    fn address(self) -> IpAddr {
        if self.block == HOMES { client() } else { [203, 0, self.block, 1].into() }
    }

    fn fingerprint(self) -> Option<Fingerprint> {
        self.device.and_then(|device| Fingerprint::of(&format!("made up {device}")))
    }
}

/// What a stranger does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    /// With a password of his own.
    SignUp(Place),
    /// Of neighbours of the number, until all are refused.
    SignUpNeighbours(Place),
    /// Of numbers of the same country, each of another range, until all are refused.
    SignUpCompatriots(Place),
    /// Without naming an attempt.
    Resend(Place),
    /// By the `registrationId` of his own last sign-up.
    ResendOwn(Place),
    /// One wrong code.
    Guess(Place),
    /// Wrong codes until they are compared no more.
    GuessAll(Place),
    /// The same, by the `registrationId` of his own last sign-up.
    GuessAllOwn(Place),
    /// Wrong passwords until they are refused for that; his own among them.
    SignIn(Place),
    RequestReset(Place),
    /// Wrong codes of a reset, until they are compared no more.
    GuessReset(Place),
    /// For so many seconds.
    Wait(u64),
}

/// One person behind any number of addresses and devices.
#[derive(Debug, Default)]
pub(crate) struct Stranger {
    own: Option<AttemptId>,
    /// How many other numbers he has signed up.
    others: u32,
}

impl Stranger {
    pub(crate) async fn act(&mut self, world: &mut World, deed: Deed) {
        match deed {
            Deed::SignUp(place) => self.sign_up(world, place).await,
            Deed::SignUpNeighbours(place) => {
                self.sign_up_others(world, place, |number| format!("+44787123{number:04}")).await;
            }
            Deed::SignUpCompatriots(place) => {
                self.sign_up_others(world, place, |number| format!("+4474{number:04}4567")).await;
            }
            Deed::Resend(place) => resend(world, place, None).await,
            Deed::ResendOwn(place) => resend(world, place, self.own).await,
            Deed::Guess(place) => guess(world, place, None, 1).await,
            Deed::GuessAll(place) => guess(world, place, None, MANY).await,
            Deed::GuessAllOwn(place) => guess(world, place, self.own, MANY).await,
            Deed::SignIn(place) => sign_in(world, place).await,
            Deed::RequestReset(place) => {
                let (fingerprint, client) = (place.fingerprint(), place.address());
                let request = RequestReset { phone: PHONE.to_owned(), fingerprint, client, voice: voice() };
                let _ = world.application.request_reset(request).await;
            }
            Deed::GuessReset(place) => guess_reset(world, place).await,
            Deed::Wait(seconds) => world.pass(Duration::from_secs(seconds)).await,
        }
    }

    async fn sign_up(&mut self, world: &World, place: Place) {
        if let Ok(signed_up) = sign_up(world, place, PHONE.to_owned()).await {
            self.own = Some(signed_up.registration);
        }
    }

    /// Numbers that nobody has signed up before.
    async fn sign_up_others(&mut self, world: &World, place: Place, phone: impl Fn(u32) -> String) {
        let mut refused = 0;
        while refused < MANY_REFUSALS {
            self.others = (self.others + 1) % 10_000;
            let phone = Some(phone(self.others)).filter(|phone| phone != PHONE);
            let Some(phone) = phone else { continue };
            refused = if sign_up(world, place, phone).await.is_err() { refused + 1 } else { 0 };
        }
    }
}

async fn sign_up(world: &World, place: Place, phone: String) -> Result<SignedUp, SignUpError> {
    let sign_up = SignUp {
        phone,
        password: PASSWORD.to_owned().into(),
        client: place.address(),
        fingerprint: place.fingerprint(),
        voice: voice(),
    };
    world.application.sign_up(sign_up).await
}

async fn resend(world: &World, place: Place, registration: Option<AttemptId>) {
    let (fingerprint, client) = (place.fingerprint(), place.address());
    let phone = PHONE.to_owned();
    let resend = ResendCode { phone, registration, fingerprint, client, voice: voice() };
    let _ = world.application.resend_code(resend).await;
}

async fn guess(world: &World, place: Place, registration: Option<AttemptId>, times: usize) {
    for _ in 0..times {
        let confirm = ConfirmPhone {
            phone: PHONE.to_owned(),
            code: wrong_code(),
            registration,
            fingerprint: place.fingerprint(),
            client: place.address(),
        };
        match world.application.confirm_phone(confirm).await {
            Ok(_) => panic!("a stranger opened the account"),
            Err(ConfirmPhoneError::WrongCode { attempts_left: 1.. }) => {}
            Err(_) => return,
        }
    }
}

async fn sign_in(world: &World, place: Place) {
    for number in 0..MANY {
        let password = if number == 0 { PASSWORD.to_owned() } else { format!("wrong-{number}") };
        let (fingerprint, client) = (place.fingerprint(), place.address());
        let sign_in = SignIn { phone: PHONE.to_owned(), password: password.into(), fingerprint, client };
        match world.application.sign_in(sign_in).await {
            Ok(_) => panic!("a stranger signed in"),
            Err(vestibule_application::SignInError::WrongPassword) => {}
            Err(_) => return,
        }
    }
}

async fn guess_reset(world: &World, place: Place) {
    use vestibule_application::{CheckResetCodeError, ResetPasswordError};
    for _ in 0..MANY {
        let check = CheckResetCode {
            phone: PHONE.to_owned(),
            code: wrong_code(),
            fingerprint: place.fingerprint(),
            client: place.address(),
        };
        let reset = ResetPassword { check, password: PASSWORD.to_owned().into(), voice: voice() };
        match world.application.reset_password(reset).await {
            Ok(_) => panic!("a stranger set the password"),
            Err(ResetPasswordError::Code(CheckResetCodeError::WrongCode { attempts_left: 1.. })) => {}
            Err(_) => return,
        }
    }
}

/// Longer than any that is sent, so that no chance makes it right.
fn wrong_code() -> Option<OneTimeCode> {
    OneTimeCode::parse("00000000")
}

pub(crate) fn voice() -> Voice {
    Locale::new("en").into()
}
