//! Registrations and accounts to measure with. They are written through the storage port, which is quicker than to sign up.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::{StreamExt as _, TryStreamExt as _};
use time::UtcDateTime;
use uuid::Uuid;
use vestibule_application::{Derivation, MasterKeys};
use vestibule_argon2::{Argon2Pool, Settings};
use vestibule_domain::limits::{AddressBlock, Charge, Limit, Scope, Step, Unit};
use vestibule_domain::quota::Quota;
use vestibule_domain::registration::{Confirm, Confirmation, NumberUse, Others, Registration, Rules, SignUp};
use vestibule_domain::{
    AccountKind, AttemptId, Claim, ClientAddress, Fingerprint, KycLevel, OneTimeCodes, Origin, Password,
    PasswordHash, PhoneNumber, RefreshToken, SessionId, UserId,
};
use vestibule_paseto::{KeyRing, PasetoTokens};
use vestibule_port_security::{AccessClaims, AccessTokens as _, PasswordHasher as _};
use vestibule_port_storage::{Changes, NewPassword, NewRefreshToken, Save, Storage};

use crate::client::request;
use crate::service::ISSUER;

const QUOTA: Quota = Quota { burst: u32::MAX, period: Duration::from_hours(24) };

/// The service's own, but for the quotas.
pub(crate) const RULES: Rules = Rules {
    code_ttl: Duration::from_mins(10),
    code_guesses: 5,
    resend_cooldown: Duration::from_mins(1),
    max_messages: 5,
    sign_ups: QUOTA,
    guesses: QUOTA,
    places: 20,
};

/// Everybody's password, and one that is nobody's.
pub(crate) const PASSWORD: &str = "correct-horse-7";
pub(crate) const WRONG_PASSWORD: &str = "correct-horse-8";

/// How the service hashes by default.
const HASHING: Settings = Settings { memory_kib: 19_456, iterations: 2, threads: 1, queue: 1 };

/// Any will do: the service reads them from a file that is written here.
const MASTER_KEY: [u8; 32] = [0x61; 32];

/// Commits at once.
const WRITERS: usize = 16;

/// Whether a sign-up reads and charges limits.
#[derive(Clone, Copy)]
pub(crate) enum Limited {
    Yes,
    No,
}

/// Makes people whose codes and tokens the service accepts.
pub(crate) struct People {
    derivation: Derivation,
    tokens: PasetoTokens,
    /// One for all of them, since each costs as much as any other to verify.
    password: PasswordHash,
    now: UtcDateTime,
    origin: Origin,
}

impl People {
    /// Writes the service's keys to its data directory.
    pub(crate) async fn of(directory: &Path) -> anyhow::Result<Self> {
        use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};

        let data = directory.join("data");
        std::fs::DirBuilder::new().mode(0o700).create(&data)?;
        let (file, key) = (data.join("master.key"), "61".repeat(32));
        std::fs::write(&file, format!("active = \"{key}\"\nnumbers = \"{key}\"\n"))?;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600))?;
        let master = MasterKeys { active: MASTER_KEY, previous: None, numbers: MASTER_KEY };
        let tokens = KeyRing::generate_file(&data.join("token.keys"))?;
        #[expect(clippy::disallowed_methods, reason = "codes and tokens must live while the service runs")]
        let now = UtcDateTime::now();
        let password = Argon2Pool::new(HASHING)?.hash(Password::prepare(PASSWORD)?).await?;
        Ok(Self {
            derivation: Derivation::new(&master, 6),
            tokens: PasetoTokens::new(tokens, ISSUER.to_owned(), ISSUER.to_owned()),
            password,
            now: now.replace_nanosecond(0)?,
            origin: Origin { fingerprint: None, address: ClientAddress::of([127, 0, 0, 1].into()) },
        })
    }

    /// Writes those who have signed up and not confirmed.
    pub(crate) async fn sign_up(
        &self,
        storage: &dyn Storage,
        numbers: std::ops::Range<u32>,
    ) -> anyhow::Result<()> {
        let changes = |number| {
            let registration = Some(Save::new(self.registration(number)?));
            anyhow::Ok(Changes { registration, ..Changes::default() })
        };
        commit(storage, numbers.map(changes)).await
    }

    /// Asks of storage what one sign-up asks.
    pub(crate) async fn sign_up_alone(
        &self,
        storage: &dyn Storage,
        number: u32,
        limited: Limited,
    ) -> anyhow::Result<()> {
        let registration = self.registration(number)?;
        let charges = match limited {
            Limited::Yes => charges(number, self.now),
            Limited::No => Vec::new(),
        };
        let limits: Vec<_> = charges.iter().map(|charge| charge.limit).collect();
        let digest = self.derivation.number_digest(registration.phone());
        storage.sign_up_state(registration.phone(), &digest, &limits).await?;
        let changes = Changes { registration: Some(Save::new(registration)), charges, ..Changes::default() };
        storage.commit(changes).await.context("somebody cannot be written")
    }

    /// Writes those who have an account and a session.
    pub(crate) async fn register(
        &self,
        storage: &dyn Storage,
        numbers: impl Iterator<Item = u32>,
    ) -> anyhow::Result<()> {
        commit(storage, numbers.map(|number| self.account(number))).await
    }

    /// The confirmation of somebody who has signed up.
    pub(crate) fn confirmation(&self, number: u32) -> Vec<u8> {
        let (phone, attempt) = (phone(number), id(number));
        let code = self.derivation.codes(None).code(AttemptId::new(attempt), 0);
        let body =
            format!(r#"{{"phone":"{phone}","smsCode":"{}","registrationId":"{attempt}"}}"#, code.expose());
        request("POST", "/v2/mobile/phone/confirm", None, &body)
    }

    /// An access token of somebody who has an account.
    pub(crate) fn token(&self, number: u32) -> String {
        let claims = AccessClaims {
            user: UserId::new(id(number)),
            session: SessionId::new(id(number)),
            generation: 0,
            id: id(number),
            issued_at: self.now,
            expires_at: self.now + Duration::from_mins(15),
            kyc: KycLevel::None,
        };
        self.tokens.issue(&claims).expose().to_owned()
    }

    fn registration(&self, number: u32) -> anyhow::Result<Registration> {
        let sign_up = SignUp {
            attempt: AttemptId::new(id(number)),
            phone: PhoneNumber::restore(&phone(number))?,
            password: self.password.clone(),
            origin: Origin { fingerprint: None, address: address(number) },
        };
        let signed_up = Registration::sign_up(
            None,
            NumberUse::Unused,
            sign_up,
            &self.derivation.codes(None),
            &RULES,
            self.now,
        )?;
        Ok(signed_up.registration)
    }

    fn account(&self, number: u32) -> anyhow::Result<Changes> {
        let (user, session) = (UserId::new(id(number)), SessionId::new(id(number)));
        let attempt = AttemptId::new(id(number));
        let confirm = Confirm {
            code: Some(self.derivation.codes(None).code(attempt, 0)),
            claim: Claim { attempt: Some(attempt), origin: self.origin },
            user,
            session,
            others: Others::Told,
            kind: AccountKind::Customer,
        };
        let outcome =
            self.registration(number)?.confirm(&confirm, &self.derivation.codes(None), &RULES, self.now);
        let Confirmation::Opened { registration, account, password, session, .. } = outcome else {
            anyhow::bail!("a code was refused");
        };
        let refresh_token = NewRefreshToken {
            hash: refresh_token(number).hash(),
            session: session.id(),
            generation: session.generation(),
            issued_at: self.now,
            expires_at: self.now + Duration::from_hours(24),
        };
        Ok(Changes {
            registration: Some(Save::new(registration)),
            used_number: Some(self.derivation.number_digest(account.phone())),
            account: Some(Save::new(*account)),
            password: Some(NewPassword { user, hash: password, set_at: self.now }),
            // As after the first request with its token, which is on record.
            session: Some(Save::new(session.shown(0, self.now).unwrap_or(session))),
            refresh_token: Some(refresh_token),
            ..Changes::default()
        })
    }
}

/// Where somebody is: few have a block of addresses in common.
pub(crate) fn place(number: u32) -> Ipv4Addr {
    let [_, high, middle, low] = number.to_be_bytes();
    Ipv4Addr::new(10, low, middle, high)
}

fn address(number: u32) -> ClientAddress {
    ClientAddress::of(place(number).into())
}

/// What a sign-up charges from a device and an address of its own.
fn charges(number: u32, now: UtcDateTime) -> Vec<Charge> {
    let address = address(number);
    let device = Fingerprint::of(&number.to_string()).map(Scope::Device);
    let shared = [Scope::Address(address), Scope::Block(AddressBlock::of(address)), Scope::Everyone];
    let charge =
        |scope| Charge { limit: Limit { step: Step::SignUp, scope }, quota: QUOTA, unit: Unit::Taken, now };
    device.into_iter().chain(shared).map(charge).collect()
}

/// Somebody signs up.
pub(crate) fn sign_up(number: u32) -> Vec<u8> {
    let body = format!(r#"{{"phone":"{}","password":"{PASSWORD}"}}"#, phone(number));
    request("POST", "/v2/mobile/signup", None, &body)
}

/// A sign-in of somebody who has an account, from where it was opened.
pub(crate) fn sign_in(number: u32) -> Vec<u8> {
    let phone = phone(number);
    let body = format!(r#"{{"grant_type":"mobile_phone","number":"{phone}","password":"{PASSWORD}"}}"#);
    request("POST", "/oauth/token", None, &body)
}

/// The first refresh of somebody who has an account.
pub(crate) fn refresh(number: u32) -> Vec<u8> {
    let token = refresh_token(number);
    let body = format!(r#"{{"grant_type":"refresh_token","refresh_token":"{}"}}"#, token.expose());
    request("POST", "/oauth/token", None, &body)
}

/// A number that is valid for each below ten million, in the form that the scripts for pgbench write too.
pub(crate) fn phone(number: u32) -> String {
    // Neighbours are far apart, as customers are.
    let number = u64::from(number) * 1_000_003 % 10_000_000;
    format!("+44740{number:07}")
}

fn refresh_token(number: u32) -> RefreshToken {
    let mut random = [0; 32];
    random.split_at_mut(4).0.copy_from_slice(&number.to_be_bytes());
    RefreshToken::from_random(random)
}

fn id(number: u32) -> Uuid {
    Uuid::from_u128(number.into())
}

async fn commit(
    storage: &dyn Storage,
    changes: impl Iterator<Item = anyhow::Result<Changes>>,
) -> anyhow::Result<()> {
    futures_util::stream::iter(changes)
        .map(|changes| async { storage.commit(changes?).await.context("people cannot be written") })
        .buffer_unordered(WRITERS)
        .try_collect()
        .await
}
