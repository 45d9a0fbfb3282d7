//! Rows and what they stand for. A row that cannot be read is a fault of the database, not of the request.

use std::net::IpAddr;

use diesel::prelude::*;
use time::UtcDateTime;
use uuid::Uuid;
use vestibule_domain::audit::{Event, Fact};
use vestibule_domain::password_reset::{PasswordReset, ResetRecord};
use vestibule_domain::registration::{Attempt, Opened, Registration, RegistrationRecord, Stage};
use vestibule_domain::sign_in::{SignInGuard, Throttle};
use vestibule_domain::{
    Account, AccountKind, AccountRecord, AttemptId, ClientAddress, Content, Country, Currency, DeliveryState,
    EmailAddress, EmailState, EmailVerificationId, FactId, Fingerprint, KycLevel, Locale, MerchantId,
    Message, MessageId, Origin, PasswordHash, PhoneNumber, Profile, ProfileRecord, Recipient,
    RefreshTokenHash, Session, SessionId, SessionRecord, Standing, UserId, Voice,
};
use vestibule_port_storage::archive::{Delivery, QueuedMessage};
use vestibule_port_storage::{
    Loaded, NewPassword, NewRefreshToken, NumberDigest, Unavailable, Version, encoding,
};

use crate::schema::{
    accounts, attempts, deliveries, facts, messages, password_resets, passwords, refresh_tokens,
    registrations, sessions, sign_in_guards,
};

#[derive(Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = registrations, primary_key(phone), treat_none_as_null = true)]
pub(crate) struct RegistrationRow {
    pub(crate) phone: String,
    version: i64,
    stage: String,
    sign_ups_full_at: Option<i64>,
    guesses_full_at: Option<i64>,
    opened_attempt: Option<Vec<u8>>,
    opened_generation: Option<i64>,
    opened_fingerprint: Option<Vec<u8>>,
    opened_address: Option<String>,
    opened_user: Option<Vec<u8>>,
    opened_session: Option<Vec<u8>>,
    opened_at: Option<i64>,
    opened_wrong_repeats: Option<i64>,
    owner_told_at: Option<i64>,
    forget_at: i64,
}

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = attempts)]
pub(crate) struct AttemptRow {
    id: Vec<u8>,
    phone: String,
    password: String,
    fingerprint: Option<Vec<u8>>,
    address: String,
    created_at: i64,
    generation: i64,
    expires_at: i64,
    guesses: i64,
    messages: i64,
    last_message_at: i64,
}

#[derive(Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = accounts, primary_key(user_id), treat_none_as_null = true)]
pub(crate) struct AccountRow {
    pub(crate) user_id: Vec<u8>,
    version: i64,
    phone: String,
    email: Option<String>,
    email_canonical: Option<String>,
    email_confirmed: bool,
    email_link: Option<Vec<u8>>,
    email_link_expires_at: Option<i64>,
    email_last_mail_at: Option<i64>,
    mails_full_at: Option<i64>,
    first_name: Option<String>,
    last_name: Option<String>,
    date_of_birth: Option<String>,
    primary_currency: Option<String>,
    residence_country: Option<String>,
    citizenship_country: Option<String>,
    residence_state: Option<String>,
    residence_city: Option<String>,
    residence_street: Option<String>,
    residence_zip_code: Option<String>,
    kyc_level: String,
    created_at: i64,
    opened_fingerprint: Option<Vec<u8>>,
    opened_address: Option<String>,
    blocked: bool,
    is_test: bool,
}

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = messages)]
pub(crate) struct MessageRow {
    pub(crate) id: Vec<u8>,
    kind: String,
    phone: Option<String>,
    email: Option<String>,
    attempt: Option<Vec<u8>>,
    generation: Option<i64>,
    link: Option<Vec<u8>>,
    locale: String,
    queued_at: i64,
    expires_at: i64,
    pub(crate) due_at: i64,
    pub(crate) tries: i64,
    dead: bool,
    pub(crate) reason: Option<String>,
    pub(crate) in_doubt_with: Option<String>,
    merchant: Option<String>,
}

/// What is kept of a message that has left the queue: nobody can be reached by it.
#[derive(Insertable)]
#[diesel(table_name = deliveries)]
pub(crate) struct DeliveryRow {
    id: Vec<u8>,
    kind: String,
    attempt: Option<Vec<u8>>,
    recipient: String,
    provider: Option<&'static str>,
    reference: Option<String>,
    state: &'static str,
    reason: Option<String>,
    tries: i64,
    queued_at: i64,
    changed_at: i64,
}

/// The record of a message that has left the queue, as it is read.
#[derive(Queryable, Selectable)]
#[diesel(table_name = deliveries)]
pub(crate) struct DeliveryRecordRow {
    id: Vec<u8>,
    kind: String,
    attempt: Option<Vec<u8>>,
    recipient: String,
    provider: Option<String>,
    reference: Option<String>,
    state: String,
    reason: Option<String>,
    tries: i64,
    queued_at: i64,
    changed_at: i64,
}

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = passwords)]
pub(crate) struct PasswordRow {
    user_id: Vec<u8>,
    set_at: i64,
    hash: String,
}

// In the rows below `None` is bound like any value, so that it makes no other statement to prepare.

#[derive(Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = sessions, treat_none_as_null = true, treat_none_as_default_value = false)]
pub(crate) struct SessionRow {
    pub(crate) id: Vec<u8>,
    user_id: Vec<u8>,
    fingerprint: Option<Vec<u8>>,
    address: String,
    created_at: i64,
    version: i64,
    /// Sessions of the first versions have none.
    last_used_at: Option<i64>,
    generation: i64,
    used: bool,
    spent: Option<Vec<u8>>,
}

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = refresh_tokens)]
pub(crate) struct RefreshTokenRow {
    hash: Vec<u8>,
    session_id: Vec<u8>,
    issued_at: i64,
    expires_at: i64,
    generation: i64,
}

#[derive(Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(
    table_name = sign_in_guards,
    primary_key(phone),
    treat_none_as_null = true,
    treat_none_as_default_value = false
)]
pub(crate) struct GuardRow {
    pub(crate) phone: String,
    version: i64,
    failures: i64,
    failed_at: Option<i64>,
    locked_until: Option<i64>,
    origins: String,
    forget_at: i64,
}

#[derive(Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(
    table_name = password_resets,
    primary_key(phone),
    treat_none_as_null = true,
    treat_none_as_default_value = false
)]
pub(crate) struct ResetRow {
    pub(crate) phone: String,
    version: i64,
    requests_full_at: Option<i64>,
    guesses_full_at: Option<i64>,
    attempts: String,
    forget_at: i64,
    finished: Option<String>,
}

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = facts, treat_none_as_default_value = false)]
pub(crate) struct FactRow {
    id: Vec<u8>,
    at: i64,
    event: String,
    number: Vec<u8>,
    phone: String,
    user_id: Option<Vec<u8>>,
    session_id: Option<Vec<u8>>,
    fingerprint: Option<Vec<u8>>,
    address: Option<String>,
}

/// A value in a row that nothing could have written there.
pub(crate) struct Unreadable(pub(crate) &'static str);

impl From<Unreadable> for Unavailable {
    fn from(unreadable: Unreadable) -> Self {
        Self(format!("{} in the database cannot be read", unreadable.0))
    }
}

pub(crate) fn millis(moment: UtcDateTime) -> i64 {
    i64::try_from(moment.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

pub(crate) fn moment(millis: i64) -> Result<UtcDateTime, Unreadable> {
    UtcDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000).map_err(|_| Unreadable("a moment"))
}

pub(crate) fn bytes(id: Uuid) -> Vec<u8> {
    id.as_bytes().to_vec()
}

fn fingerprint_column(origin: &Origin) -> Option<Vec<u8>> {
    origin.fingerprint.map(|fingerprint| fingerprint.digest().to_vec())
}

fn address_column(address: &ClientAddress) -> String {
    address.ip().to_string()
}

pub(crate) fn digest(bytes: Vec<u8>) -> Result<[u8; 32], Unreadable> {
    bytes.try_into().map_err(|_| Unreadable("a digest"))
}

pub(crate) fn optional_moment(millis: Option<i64>) -> Result<Option<UtcDateTime>, Unreadable> {
    millis.map(moment).transpose()
}

pub(crate) fn uuid(bytes: &[u8]) -> Result<Uuid, Unreadable> {
    Uuid::from_slice(bytes).map_err(|_| Unreadable("an identifier"))
}

pub(crate) fn count(value: i64) -> Result<u32, Unreadable> {
    u32::try_from(value).map_err(|_| Unreadable("a count"))
}

pub(crate) fn phone(text: &str) -> Result<PhoneNumber, Unreadable> {
    PhoneNumber::restore(text).map_err(|_| Unreadable("a phone number"))
}

fn email(text: &str) -> Result<EmailAddress, Unreadable> {
    EmailAddress::restore(text).map_err(|_| Unreadable("an e-mail address"))
}

fn origin(fingerprint: Option<Vec<u8>>, address: &str) -> Result<Origin, Unreadable> {
    Ok(Origin { fingerprint: device(fingerprint)?, address: client_address(address)? })
}

fn device(fingerprint: Option<Vec<u8>>) -> Result<Option<Fingerprint>, Unreadable> {
    let restore = |digest: Vec<u8>| digest.try_into().map(Fingerprint::restore);
    fingerprint.map(restore).transpose().map_err(|_| Unreadable("a fingerprint"))
}

fn client_address(text: &str) -> Result<ClientAddress, Unreadable> {
    let address: IpAddr = text.parse().map_err(|_| Unreadable("a network address"))?;
    Ok(ClientAddress::of(address))
}

impl RegistrationRow {
    pub(crate) fn of(registration: Registration, version: i64) -> (Self, Vec<AttemptRow>) {
        let forget_at = millis(registration.forget_at());
        let record = registration.record();
        let (stage, opened, owner_told_at) = match record.stage {
            Stage::Pending => ("pending", None, None),
            Stage::Confirmed(opened) => ("confirmed", Some(opened), None),
            Stage::Concealed { opened, owner_told_at } => ("concealed", opened, owner_told_at),
        };
        let phone = record.phone.as_str().to_owned();
        let attempts = record.attempts.iter().map(|attempt| AttemptRow::of(attempt, &phone)).collect();
        let row = Self {
            phone,
            version,
            stage: stage.to_owned(),
            sign_ups_full_at: record.sign_ups_full_at.map(millis),
            guesses_full_at: record.guesses_full_at.map(millis),
            opened_attempt: opened.map(|opened| bytes(opened.attempt.uuid())),
            opened_generation: opened.map(|opened| opened.generation.into()),
            opened_fingerprint: opened.and_then(|opened| fingerprint_column(&opened.origin)),
            opened_address: opened.map(|opened| address_column(&opened.origin.address)),
            opened_user: opened.map(|opened| bytes(opened.user.uuid())),
            opened_session: opened.map(|opened| bytes(opened.session.uuid())),
            opened_at: opened.map(|opened| millis(opened.at)),
            opened_wrong_repeats: opened.map(|opened| opened.wrong_repeats.into()),
            owner_told_at: owner_told_at.map(millis),
            forget_at,
        };
        (row, attempts)
    }

    pub(crate) fn load(self, attempts: Vec<AttemptRow>) -> Result<Loaded<Registration>, Unreadable> {
        let version = Version(self.version);
        let phone = phone(&self.phone)?;
        let sign_ups_full_at = optional_moment(self.sign_ups_full_at)?;
        let guesses_full_at = optional_moment(self.guesses_full_at)?;
        let attempts = attempts.into_iter().map(AttemptRow::load).collect::<Result<_, _>>()?;
        let stage = self.stage()?;
        let record = RegistrationRecord { phone, stage, attempts, sign_ups_full_at, guesses_full_at };
        Ok(Loaded { value: Registration::restore(record), version })
    }

    fn stage(self) -> Result<Stage, Unreadable> {
        let owner_told_at = optional_moment(self.owner_told_at)?;
        let stage = self.stage.clone();
        let opened = self.opened()?;
        match (stage.as_str(), opened) {
            ("pending", None) => Ok(Stage::Pending),
            ("confirmed", Some(opened)) => Ok(Stage::Confirmed(opened)),
            ("concealed", opened) => Ok(Stage::Concealed { opened, owner_told_at }),
            _ => Err(Unreadable("a registration's stage")),
        }
    }

    fn opened(self) -> Result<Option<Opened>, Unreadable> {
        let Some(attempt) = self.opened_attempt else {
            return Ok(None);
        };
        let missing = Unreadable("a registration's confirmation");
        let (Some(generation), Some(address), Some(user), Some(session), Some(at), Some(wrong_repeats)) = (
            self.opened_generation,
            self.opened_address,
            self.opened_user,
            self.opened_session,
            self.opened_at,
            self.opened_wrong_repeats,
        ) else {
            return Err(missing);
        };
        Ok(Some(Opened {
            attempt: AttemptId::new(uuid(&attempt)?),
            generation: count(generation)?,
            origin: origin(self.opened_fingerprint, &address)?,
            user: UserId::new(uuid(&user)?),
            session: SessionId::new(uuid(&session)?),
            at: moment(at)?,
            wrong_repeats: count(wrong_repeats)?,
        }))
    }
}

impl AttemptRow {
    fn of(attempt: &Attempt, phone: &str) -> Self {
        Self {
            id: bytes(attempt.id.uuid()),
            phone: phone.to_owned(),
            password: attempt.password.expose().to_owned(),
            fingerprint: fingerprint_column(&attempt.origin),
            address: address_column(&attempt.origin.address),
            created_at: millis(attempt.created_at),
            generation: attempt.generation.into(),
            expires_at: millis(attempt.expires_at),
            guesses: attempt.guesses.into(),
            messages: attempt.messages.into(),
            last_message_at: millis(attempt.last_message_at),
        }
    }

    fn load(self) -> Result<Attempt, Unreadable> {
        Ok(Attempt {
            id: AttemptId::new(uuid(&self.id)?),
            password: PasswordHash::new(self.password),
            origin: origin(self.fingerprint, &self.address)?,
            created_at: moment(self.created_at)?,
            generation: count(self.generation)?,
            expires_at: moment(self.expires_at)?,
            guesses: count(self.guesses)?,
            messages: count(self.messages)?,
            last_message_at: moment(self.last_message_at)?,
        })
    }
}

impl AccountRow {
    pub(crate) fn of(account: Account, version: i64) -> Self {
        let record = account.record();
        let address = record.email.address();
        let (link, expires_at, last_mail_at) = match &record.email {
            EmailState::None => (None, None, None),
            EmailState::Unconfirmed { verification, expires_at, last_mail_at, .. } => {
                (Some(bytes(verification.uuid())), Some(millis(*expires_at)), Some(millis(*last_mail_at)))
            }
            EmailState::Confirmed { verification, .. } => (Some(bytes(verification.uuid())), None, None),
        };
        let profile = record.profile.record().clone();
        Self {
            user_id: bytes(record.user.uuid()),
            version,
            phone: record.phone.as_str().to_owned(),
            email: address.map(|address| address.as_str().to_owned()),
            email_canonical: address.map(|address| address.canonical().to_owned()),
            email_confirmed: record.email.confirmed().is_some(),
            email_link: link,
            email_link_expires_at: expires_at,
            email_last_mail_at: last_mail_at,
            mails_full_at: record.mails_full_at.map(millis),
            first_name: profile.first_name,
            last_name: profile.last_name,
            date_of_birth: profile.date_of_birth.map(|date| date.to_string()),
            primary_currency: profile.primary_currency.map(|currency| currency.to_string()),
            residence_country: profile.residence_country.map(|country| country.to_string()),
            citizenship_country: profile.citizenship_country.map(|country| country.to_string()),
            residence_state: profile.residence_state,
            residence_city: profile.residence_city,
            residence_street: profile.residence_street,
            residence_zip_code: profile.residence_zip_code,
            kyc_level: record.kyc.as_str().to_owned(),
            created_at: millis(record.created_at),
            opened_fingerprint: record.opened_from.as_ref().and_then(fingerprint_column),
            opened_address: record.opened_from.map(|origin| address_column(&origin.address)),
            blocked: record.standing == Standing::Blocked,
            is_test: record.kind == AccountKind::Test,
        }
    }

    pub(crate) fn load(self) -> Result<Loaded<Account>, Unreadable> {
        let email = match (&self.email, &self.email_link, self.email_confirmed) {
            (None, _, _) => EmailState::None,
            (Some(address), Some(link), true) => EmailState::Confirmed {
                address: email(address)?,
                verification: EmailVerificationId::new(uuid(link)?),
            },
            (Some(address), Some(link), false) => {
                let incomplete = || Unreadable("an e-mail address");
                EmailState::Unconfirmed {
                    address: email(address)?,
                    verification: EmailVerificationId::new(uuid(link)?),
                    expires_at: moment(self.email_link_expires_at.ok_or_else(incomplete)?)?,
                    last_mail_at: moment(self.email_last_mail_at.ok_or_else(incomplete)?)?,
                }
            }
            (Some(_), None, _) => return Err(Unreadable("an e-mail address")),
        };
        let record = AccountRecord {
            user: UserId::new(uuid(&self.user_id)?),
            phone: phone(&self.phone)?,
            email,
            kyc: KycLevel::parse(&self.kyc_level).ok_or(Unreadable("a level"))?,
            created_at: moment(self.created_at)?,
            opened_from: match self.opened_address {
                Some(address) => Some(origin(self.opened_fingerprint, &address)?),
                None => None,
            },
            kind: if self.is_test { AccountKind::Test } else { AccountKind::Customer },
            standing: if self.blocked { Standing::Blocked } else { Standing::Good },
            mails_full_at: optional_moment(self.mails_full_at)?,
            profile: Profile::restore(ProfileRecord {
                date_of_birth: self.date_of_birth.as_deref().map(date).transpose()?,
                primary_currency: self.primary_currency.as_deref().map(currency).transpose()?,
                residence_country: self.residence_country.as_deref().map(country).transpose()?,
                citizenship_country: self.citizenship_country.as_deref().map(country).transpose()?,
                first_name: self.first_name,
                last_name: self.last_name,
                residence_state: self.residence_state,
                residence_city: self.residence_city,
                residence_street: self.residence_street,
                residence_zip_code: self.residence_zip_code,
            }),
        };
        Ok(Loaded { value: Account::restore(record), version: Version(self.version) })
    }
}

fn date(text: &str) -> Result<time::Date, Unreadable> {
    let format = time::macros::format_description!("[year]-[month]-[day]");
    time::Date::parse(text, &format).map_err(|_| Unreadable("a date"))
}

pub(crate) fn country(code: &str) -> Result<Country, Unreadable> {
    Country::parse(code).map_err(|_| Unreadable("a country"))
}

fn currency(code: &str) -> Result<Currency, Unreadable> {
    Currency::parse(code).map_err(|_| Unreadable("a currency"))
}

impl MessageRow {
    pub(crate) fn of(message: &Message) -> Self {
        let (phone, email) = match &message.recipient {
            Recipient::Phone(phone) => (Some(phone.as_str().to_owned()), None),
            Recipient::Email(email) => (None, Some(email.as_str().to_owned())),
        };
        let (attempt, generation, link) = match message.content {
            Content::SignUpCode { attempt, generation } | Content::ResetCode { attempt, generation } => {
                (Some(bytes(attempt.uuid())), Some(generation.into()), None)
            }
            Content::EmailConfirmation { verification } => (None, None, Some(bytes(verification.uuid()))),
            Content::AlreadyRegistered | Content::PasswordChanged | Content::SessionStolen => {
                (None, None, None)
            }
        };
        Self {
            id: bytes(message.id.uuid()),
            kind: message.content.kind().to_owned(),
            phone,
            email,
            attempt,
            generation,
            link,
            locale: message.voice.locale.as_str().to_owned(),
            queued_at: millis(message.queued_at),
            expires_at: millis(message.expires_at),
            due_at: millis(message.queued_at),
            tries: 0,
            dead: false,
            reason: None,
            in_doubt_with: None,
            merchant: message.voice.merchant.map(|merchant| merchant.to_string()),
        }
    }

    fn voice(&self) -> Result<Voice, Unreadable> {
        let parse = |id: &String| MerchantId::parse(id).ok_or(Unreadable("a merchant"));
        let merchant = self.merchant.as_ref().map(parse).transpose()?;
        Ok(Voice { locale: Locale::new(&self.locale), merchant })
    }

    fn recipient(&self) -> Result<Recipient, Unreadable> {
        match (&self.phone, &self.email) {
            (Some(number), None) => Ok(Recipient::Phone(phone(number)?)),
            (None, Some(address)) => Ok(Recipient::Email(email(address)?)),
            _ => Err(Unreadable("a message's recipient")),
        }
    }

    /// The record of a message that leaves the queue.
    pub(crate) fn left(
        self,
        state: DeliveryState,
        provider: Option<&'static str>,
        reference: Option<String>,
        at: UtcDateTime,
    ) -> DeliveryRow {
        DeliveryRow {
            recipient: self.recipient().map_or_else(|_| "?".to_owned(), |recipient| recipient.masked()),
            id: self.id,
            kind: self.kind,
            attempt: self.attempt,
            provider,
            reference,
            state: state.as_str(),
            reason: None,
            tries: self.tries,
            queued_at: self.queued_at,
            changed_at: millis(at),
        }
    }

    pub(crate) fn load(&self) -> Result<Message, Unreadable> {
        let recipient = self.recipient()?;
        let content = match (self.kind.as_str(), &self.attempt, self.generation, &self.link) {
            ("sign_up_code", Some(attempt), Some(generation), None) => Content::SignUpCode {
                attempt: AttemptId::new(uuid(attempt)?),
                generation: count(generation)?,
            },
            ("reset_code", Some(attempt), Some(generation), None) => {
                Content::ResetCode { attempt: AttemptId::new(uuid(attempt)?), generation: count(generation)? }
            }
            ("email_confirmation", None, None, Some(link)) => {
                Content::EmailConfirmation { verification: EmailVerificationId::new(uuid(link)?) }
            }
            ("already_registered", None, None, None) => Content::AlreadyRegistered,
            ("password_changed", None, None, None) => Content::PasswordChanged,
            ("session_stolen", None, None, None) => Content::SessionStolen,
            _ => return Err(Unreadable("a message's content")),
        };
        Ok(Message {
            id: MessageId::new(uuid(&self.id)?),
            recipient,
            content,
            voice: self.voice()?,
            queued_at: moment(self.queued_at)?,
            expires_at: moment(self.expires_at)?,
        })
    }

    pub(crate) fn tries(&self) -> Result<u32, Unreadable> {
        count(self.tries)
    }

    /// With how it stands in the queue.
    pub(crate) fn queued(self) -> Result<QueuedMessage, Unreadable> {
        Ok(QueuedMessage {
            message: self.load()?,
            due_at: moment(self.due_at)?,
            tries: self.tries()?,
            dead: self.dead,
            reason: self.reason,
            in_doubt_with: self.in_doubt_with,
        })
    }
}

impl DeliveryRecordRow {
    pub(crate) fn load(self) -> Result<Delivery, Unreadable> {
        Ok(Delivery {
            id: MessageId::new(uuid(&self.id)?),
            kind: self.kind,
            attempt: self.attempt.map(|attempt| uuid(&attempt).map(AttemptId::new)).transpose()?,
            recipient: self.recipient,
            provider: self.provider,
            reference: self.reference,
            state: DeliveryState::parse(&self.state).ok_or(Unreadable("a message's state"))?,
            reason: self.reason,
            tries: count(self.tries)?,
            queued_at: moment(self.queued_at)?,
            changed_at: moment(self.changed_at)?,
        })
    }
}

impl PasswordRow {
    pub(crate) fn of(password: &NewPassword) -> Self {
        Self {
            user_id: bytes(password.user.uuid()),
            set_at: millis(password.set_at),
            hash: password.hash.expose().to_owned(),
        }
    }

    pub(crate) fn load(self) -> Result<NewPassword, Unreadable> {
        let (user, set_at) = (UserId::new(uuid(&self.user_id)?), moment(self.set_at)?);
        Ok(NewPassword { user, hash: PasswordHash::new(self.hash), set_at })
    }
}

impl SessionRow {
    pub(crate) fn of(session: &Session, version: i64) -> Self {
        let record = session.record();
        Self {
            id: bytes(record.id.uuid()),
            user_id: bytes(record.user.uuid()),
            fingerprint: fingerprint_column(&record.origin),
            address: address_column(&record.origin.address),
            created_at: millis(record.created_at),
            version,
            last_used_at: Some(millis(record.last_used_at)),
            generation: record.generation.into(),
            used: record.used,
            spent: record.spent.map(|hash| hash.digest().to_vec()),
        }
    }

    pub(crate) fn load(self) -> Result<Loaded<Session>, Unreadable> {
        let record = SessionRecord {
            id: SessionId::new(uuid(&self.id)?),
            user: UserId::new(uuid(&self.user_id)?),
            origin: origin(self.fingerprint, &self.address)?,
            created_at: moment(self.created_at)?,
            last_used_at: moment(self.last_used_at.unwrap_or(self.created_at))?,
            generation: count(self.generation)?,
            used: self.used,
            spent: self.spent.map(digest).transpose()?.map(RefreshTokenHash::restore),
        };
        Ok(Loaded { value: Session::restore(record), version: Version(self.version) })
    }
}

impl RefreshTokenRow {
    pub(crate) fn of(token: &NewRefreshToken) -> Self {
        Self {
            hash: token.hash.digest().to_vec(),
            session_id: bytes(token.session.uuid()),
            issued_at: millis(token.issued_at),
            expires_at: millis(token.expires_at),
            generation: token.generation.into(),
        }
    }

    pub(crate) fn load(self) -> Result<NewRefreshToken, Unreadable> {
        Ok(NewRefreshToken {
            hash: RefreshTokenHash::restore(digest(self.hash)?),
            session: SessionId::new(uuid(&self.session_id)?),
            generation: count(self.generation)?,
            issued_at: moment(self.issued_at)?,
            expires_at: moment(self.expires_at)?,
        })
    }
}

impl GuardRow {
    pub(crate) fn of(guard: &SignInGuard, version: i64) -> Self {
        Self {
            phone: guard.phone.as_str().to_owned(),
            version,
            failures: guard.strangers.failures.into(),
            failed_at: guard.strangers.failed_at.map(millis),
            locked_until: guard.strangers.locked_until.map(millis),
            origins: encoding::write_origins(&guard.origins),
            forget_at: millis(guard.forget_at()),
        }
    }

    pub(crate) fn load(self) -> Result<Loaded<SignInGuard>, Unreadable> {
        let strangers = Throttle {
            failures: count(self.failures)?,
            failed_at: optional_moment(self.failed_at)?,
            locked_until: optional_moment(self.locked_until)?,
        };
        let origins = encoding::read_origins(&self.origins).ok_or(Unreadable("a guard's origins"))?;
        let guard = SignInGuard { phone: phone(&self.phone)?, strangers, origins };
        Ok(Loaded { value: guard, version: Version(self.version) })
    }
}

impl ResetRow {
    pub(crate) fn of(reset: PasswordReset, version: i64) -> Self {
        let forget_at = millis(reset.forget_at());
        let record = reset.record();
        Self {
            phone: record.phone.as_str().to_owned(),
            version,
            requests_full_at: record.requests_full_at.map(millis),
            guesses_full_at: record.guesses_full_at.map(millis),
            attempts: encoding::write_attempts(&record.attempts),
            forget_at,
            finished: record.finished.as_ref().map(encoding::write_finished),
        }
    }

    pub(crate) fn load(self) -> Result<Loaded<PasswordReset>, Unreadable> {
        let finished = |text: String| encoding::read_finished(&text).ok_or(Unreadable("a finished reset"));
        let record = ResetRecord {
            phone: phone(&self.phone)?,
            attempts: encoding::read_attempts(&self.attempts).ok_or(Unreadable("a reset's requests"))?,
            requests_full_at: optional_moment(self.requests_full_at)?,
            guesses_full_at: optional_moment(self.guesses_full_at)?,
            finished: self.finished.map(finished).transpose()?,
        };
        Ok(Loaded { value: PasswordReset::restore(record), version: Version(self.version) })
    }
}

impl FactRow {
    pub(crate) fn of(fact: &Fact) -> Self {
        Self {
            id: bytes(fact.id.uuid()),
            at: millis(fact.at),
            event: fact.event.as_str().to_owned(),
            number: fact.number.0.to_vec(),
            phone: fact.phone.clone(),
            user_id: fact.user.map(|id| bytes(id.uuid())),
            session_id: fact.session.map(|id| bytes(id.uuid())),
            fingerprint: fact.device.map(|device| device.digest().to_vec()),
            address: fact.address.as_ref().map(address_column),
        }
    }

    pub(crate) fn load(self) -> Result<Fact, Unreadable> {
        Ok(Fact {
            id: FactId::new(uuid(&self.id)?),
            at: moment(self.at)?,
            event: Event::parse(&self.event).ok_or(Unreadable("an event"))?,
            number: NumberDigest(digest(self.number)?),
            user: self.user_id.as_deref().map(uuid).transpose()?.map(UserId::new),
            session: self.session_id.as_deref().map(uuid).transpose()?.map(SessionId::new),
            device: device(self.fingerprint)?,
            address: self.address.as_deref().map(client_address).transpose()?,
            phone: self.phone,
        })
    }
}
