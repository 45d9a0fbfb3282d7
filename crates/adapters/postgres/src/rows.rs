//! Rows and what they stand for. A row that cannot be read is a fault of the database, not of the request.

use std::net::IpAddr;

use diesel::{AsChangeset, Insertable, Queryable, QueryableByName, Selectable};
use time::{Date, OffsetDateTime, UtcDateTime};
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
    sign_ups_full_at: Option<OffsetDateTime>,
    guesses_full_at: Option<OffsetDateTime>,
    opened_attempt: Option<Uuid>,
    opened_generation: Option<i64>,
    opened_fingerprint: Option<Vec<u8>>,
    opened_address: Option<String>,
    opened_user: Option<Uuid>,
    opened_session: Option<Uuid>,
    opened_at: Option<OffsetDateTime>,
    opened_wrong_repeats: Option<i64>,
    owner_told_at: Option<OffsetDateTime>,
    forget_at: OffsetDateTime,
}

#[derive(Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = attempts, treat_none_as_null = true)]
pub(crate) struct AttemptRow {
    pub(crate) id: Uuid,
    pub(crate) phone: String,
    password: String,
    fingerprint: Option<Vec<u8>>,
    address: String,
    created_at: OffsetDateTime,
    generation: i64,
    expires_at: OffsetDateTime,
    guesses: i64,
    messages: i64,
    last_message_at: OffsetDateTime,
}

#[derive(Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = accounts, primary_key(user_id), treat_none_as_null = true)]
pub(crate) struct AccountRow {
    pub(crate) user_id: Uuid,
    version: i64,
    phone: String,
    email: Option<String>,
    email_canonical: Option<String>,
    email_confirmed: bool,
    email_link: Option<Uuid>,
    email_link_expires_at: Option<OffsetDateTime>,
    email_last_mail_at: Option<OffsetDateTime>,
    mails_full_at: Option<OffsetDateTime>,
    first_name: Option<String>,
    last_name: Option<String>,
    date_of_birth: Option<Date>,
    primary_currency: Option<String>,
    residence_country: Option<String>,
    citizenship_country: Option<String>,
    residence_state: Option<String>,
    residence_city: Option<String>,
    residence_street: Option<String>,
    residence_zip_code: Option<String>,
    kyc_level: String,
    created_at: OffsetDateTime,
    opened_fingerprint: Option<Vec<u8>>,
    opened_address: Option<String>,
    blocked: bool,
    is_test: bool,
}

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = passwords)]
pub(crate) struct PasswordRow {
    user_id: Uuid,
    set_at: OffsetDateTime,
    hash: String,
}

// In the rows below `None` is bound like any value, so that it makes no other statement to prepare.

#[derive(Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = sessions, treat_none_as_null = true, treat_none_as_default_value = false)]
pub(crate) struct SessionRow {
    pub(crate) id: Uuid,
    user_id: Uuid,
    fingerprint: Option<Vec<u8>>,
    address: String,
    created_at: OffsetDateTime,
    version: i64,
    /// Sessions of the first versions have none.
    last_used_at: Option<OffsetDateTime>,
    generation: i64,
    used: bool,
    spent: Option<Vec<u8>>,
}

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = refresh_tokens)]
pub(crate) struct RefreshTokenRow {
    pub(crate) hash: Vec<u8>,
    session_id: Uuid,
    issued_at: OffsetDateTime,
    expires_at: OffsetDateTime,
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
    failed_at: Option<OffsetDateTime>,
    locked_until: Option<OffsetDateTime>,
    origins: String,
    forget_at: OffsetDateTime,
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
    requests_full_at: Option<OffsetDateTime>,
    guesses_full_at: Option<OffsetDateTime>,
    attempts: String,
    forget_at: OffsetDateTime,
    finished: Option<String>,
}

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = facts, treat_none_as_default_value = false)]
pub(crate) struct FactRow {
    id: Uuid,
    at: OffsetDateTime,
    event: String,
    number: Vec<u8>,
    phone: String,
    user_id: Option<Uuid>,
    session_id: Option<Uuid>,
    fingerprint: Option<Vec<u8>>,
    address: Option<String>,
}

#[derive(Queryable, QueryableByName, Selectable, Insertable)]
#[diesel(table_name = messages)]
pub(crate) struct MessageRow {
    pub(crate) id: Uuid,
    kind: String,
    phone: Option<String>,
    email: Option<String>,
    attempt: Option<Uuid>,
    generation: Option<i64>,
    link: Option<Uuid>,
    locale: String,
    pub(crate) queued_at: OffsetDateTime,
    expires_at: OffsetDateTime,
    due_at: OffsetDateTime,
    pub(crate) tries: i64,
    dead: bool,
    pub(crate) reason: Option<String>,
    in_doubt_with: Option<String>,
    masked: String,
    merchant: Option<String>,
}

/// The record of a message that has left the queue.
#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = deliveries)]
pub(crate) struct DeliveryRow {
    id: Uuid,
    kind: String,
    attempt: Option<Uuid>,
    recipient: String,
    provider: Option<String>,
    reference: Option<String>,
    state: String,
    reason: Option<String>,
    tries: i64,
    queued_at: OffsetDateTime,
    changed_at: OffsetDateTime,
}

/// A value in a row that nothing could have written there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unreadable(pub(crate) &'static str);

impl From<Unreadable> for Unavailable {
    fn from(unreadable: Unreadable) -> Self {
        Self(format!("{} in the database cannot be read", unreadable.0))
    }
}

/// To the millisecond, as the port keeps moments.
pub(crate) fn stamp(moment: UtcDateTime) -> OffsetDateTime {
    let whole = moment.replace_millisecond(moment.millisecond()).unwrap_or(moment);
    whole.to_offset(time::UtcOffset::UTC)
}

pub(crate) fn moment(stamp: OffsetDateTime) -> UtcDateTime {
    stamp.to_utc()
}

pub(crate) fn count(value: i64) -> Result<u32, Unreadable> {
    u32::try_from(value).map_err(|_| Unreadable("a count"))
}

pub(crate) fn digest(bytes: Vec<u8>) -> Result<[u8; 32], Unreadable> {
    bytes.try_into().map_err(|_| Unreadable("a digest"))
}

pub(crate) fn phone(text: &str) -> Result<PhoneNumber, Unreadable> {
    PhoneNumber::restore(text).map_err(|_| Unreadable("a phone number"))
}

fn email(text: &str) -> Result<EmailAddress, Unreadable> {
    EmailAddress::restore(text).map_err(|_| Unreadable("an e-mail address"))
}

fn fingerprint_column(origin: &Origin) -> Option<Vec<u8>> {
    origin.fingerprint.map(|fingerprint| fingerprint.digest().to_vec())
}

fn address_column(address: &ClientAddress) -> String {
    address.ip().to_string()
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
    pub(crate) fn of(registration: Registration, version: Version) -> (Self, Vec<AttemptRow>) {
        let forget_at = stamp(registration.forget_at());
        let record = registration.record();
        let (stage, opened, owner_told_at) = match record.stage {
            Stage::Pending => ("pending", None, None),
            Stage::Confirmed(opened) => ("confirmed", Some(opened), None),
            Stage::Concealed { opened, owner_told_at } => ("concealed", opened, owner_told_at),
        };
        let phone = record.phone.as_str();
        let attempts = record.attempts.iter().map(|attempt| AttemptRow::of(attempt, phone)).collect();
        let row = Self {
            phone: phone.to_owned(),
            version: version.0,
            stage: stage.to_owned(),
            sign_ups_full_at: record.sign_ups_full_at.map(stamp),
            guesses_full_at: record.guesses_full_at.map(stamp),
            opened_attempt: opened.map(|opened| opened.attempt.uuid()),
            opened_generation: opened.map(|opened| opened.generation.into()),
            opened_fingerprint: opened.and_then(|opened| fingerprint_column(&opened.origin)),
            opened_address: opened.map(|opened| address_column(&opened.origin.address)),
            opened_user: opened.map(|opened| opened.user.uuid()),
            opened_session: opened.map(|opened| opened.session.uuid()),
            opened_at: opened.map(|opened| stamp(opened.at)),
            opened_wrong_repeats: opened.map(|opened| opened.wrong_repeats.into()),
            owner_told_at: owner_told_at.map(stamp),
            forget_at,
        };
        (row, attempts)
    }

    pub(crate) fn load(self, attempts: Vec<AttemptRow>) -> Result<Loaded<Registration>, Unreadable> {
        let version = Version(self.version);
        let mut attempts =
            attempts.into_iter().map(AttemptRow::load).collect::<Result<Vec<_>, Unreadable>>()?;
        attempts.sort_by_key(|attempt| (attempt.created_at, attempt.id));
        let record = RegistrationRecord {
            phone: phone(&self.phone)?,
            sign_ups_full_at: self.sign_ups_full_at.map(moment),
            guesses_full_at: self.guesses_full_at.map(moment),
            attempts,
            stage: self.stage()?,
        };
        Ok(Loaded { value: Registration::restore(record), version })
    }

    fn stage(self) -> Result<Stage, Unreadable> {
        let owner_told_at = self.owner_told_at.map(moment);
        let (stage, opened) = (self.stage.clone(), self.opened()?);
        match (stage.as_str(), opened) {
            ("pending", None) => Ok(Stage::Pending),
            ("confirmed", Some(opened)) => Ok(Stage::Confirmed(opened)),
            ("concealed", opened) => Ok(Stage::Concealed { opened, owner_told_at }),
            _ => Err(Unreadable("a registration's stage")),
        }
    }

    /// A constraint of the table sees to it that all columns of a confirmation are there or none.
    fn opened(self) -> Result<Option<Opened>, Unreadable> {
        let (
            Some(attempt),
            Some(generation),
            Some(address),
            Some(user),
            Some(session),
            Some(at),
            Some(wrong_repeats),
        ) = (
            self.opened_attempt,
            self.opened_generation,
            self.opened_address,
            self.opened_user,
            self.opened_session,
            self.opened_at,
            self.opened_wrong_repeats,
        )
        else {
            return Ok(None);
        };
        Ok(Some(Opened {
            attempt: AttemptId::new(attempt),
            generation: count(generation)?,
            origin: origin(self.opened_fingerprint, &address)?,
            user: UserId::new(user),
            session: SessionId::new(session),
            at: moment(at),
            wrong_repeats: count(wrong_repeats)?,
        }))
    }
}

impl AttemptRow {
    fn of(attempt: &Attempt, phone: &str) -> Self {
        Self {
            id: attempt.id.uuid(),
            phone: phone.to_owned(),
            password: attempt.password.expose().to_owned(),
            fingerprint: fingerprint_column(&attempt.origin),
            address: address_column(&attempt.origin.address),
            created_at: stamp(attempt.created_at),
            generation: attempt.generation.into(),
            expires_at: stamp(attempt.expires_at),
            guesses: attempt.guesses.into(),
            messages: attempt.messages.into(),
            last_message_at: stamp(attempt.last_message_at),
        }
    }

    fn load(self) -> Result<Attempt, Unreadable> {
        Ok(Attempt {
            id: AttemptId::new(self.id),
            origin: origin(self.fingerprint, &self.address)?,
            password: PasswordHash::new(self.password),
            created_at: moment(self.created_at),
            generation: count(self.generation)?,
            expires_at: moment(self.expires_at),
            guesses: count(self.guesses)?,
            messages: count(self.messages)?,
            last_message_at: moment(self.last_message_at),
        })
    }
}

impl AccountRow {
    pub(crate) fn of(account: Account, version: Version) -> Self {
        let record = account.record();
        let address = record.email.address();
        let (link, expires_at, last_mail_at) = match &record.email {
            EmailState::None => (None, None, None),
            EmailState::Unconfirmed { verification, expires_at, last_mail_at, .. } => {
                (Some(verification.uuid()), Some(stamp(*expires_at)), Some(stamp(*last_mail_at)))
            }
            EmailState::Confirmed { verification, .. } => (Some(verification.uuid()), None, None),
        };
        let profile = record.profile.record().clone();
        Self {
            user_id: record.user.uuid(),
            version: version.0,
            phone: record.phone.as_str().to_owned(),
            email: address.map(|address| address.as_str().to_owned()),
            email_canonical: address.map(|address| address.canonical().to_owned()),
            email_confirmed: record.email.confirmed().is_some(),
            email_link: link,
            email_link_expires_at: expires_at,
            email_last_mail_at: last_mail_at,
            mails_full_at: record.mails_full_at.map(stamp),
            first_name: profile.first_name,
            last_name: profile.last_name,
            date_of_birth: profile.date_of_birth,
            primary_currency: profile.primary_currency.map(|currency| currency.to_string()),
            residence_country: profile.residence_country.map(|country| country.to_string()),
            citizenship_country: profile.citizenship_country.map(|country| country.to_string()),
            residence_state: profile.residence_state,
            residence_city: profile.residence_city,
            residence_street: profile.residence_street,
            residence_zip_code: profile.residence_zip_code,
            kyc_level: record.kyc.as_str().to_owned(),
            created_at: stamp(record.created_at),
            opened_fingerprint: record.opened_from.as_ref().and_then(fingerprint_column),
            opened_address: record.opened_from.map(|origin| address_column(&origin.address)),
            blocked: record.standing == Standing::Blocked,
            is_test: record.kind == AccountKind::Test,
        }
    }

    pub(crate) fn load(self) -> Result<Loaded<Account>, Unreadable> {
        let country = |code: &String| Country::parse(code).map_err(|_| Unreadable("a country"));
        let currency = |code: &String| Currency::parse(code).map_err(|_| Unreadable("a currency"));
        let record = AccountRecord {
            user: UserId::new(self.user_id),
            phone: phone(&self.phone)?,
            email: self.email()?,
            kyc: KycLevel::parse(&self.kyc_level).ok_or(Unreadable("a level"))?,
            created_at: moment(self.created_at),
            opened_from: match self.opened_address {
                Some(address) => Some(origin(self.opened_fingerprint, &address)?),
                None => None,
            },
            kind: if self.is_test { AccountKind::Test } else { AccountKind::Customer },
            standing: if self.blocked { Standing::Blocked } else { Standing::Good },
            mails_full_at: self.mails_full_at.map(moment),
            profile: Profile::restore(ProfileRecord {
                date_of_birth: self.date_of_birth,
                primary_currency: self.primary_currency.as_ref().map(currency).transpose()?,
                residence_country: self.residence_country.as_ref().map(country).transpose()?,
                citizenship_country: self.citizenship_country.as_ref().map(country).transpose()?,
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

    fn email(&self) -> Result<EmailState, Unreadable> {
        let (Some(address), Some(link)) = (&self.email, self.email_link) else {
            return Ok(EmailState::None);
        };
        let (address, verification) = (email(address)?, EmailVerificationId::new(link));
        match (self.email_confirmed, self.email_link_expires_at, self.email_last_mail_at) {
            (true, _, _) => Ok(EmailState::Confirmed { address, verification }),
            (false, Some(expires_at), Some(last_mail_at)) => Ok(EmailState::Unconfirmed {
                address,
                verification,
                expires_at: moment(expires_at),
                last_mail_at: moment(last_mail_at),
            }),
            (false, _, _) => Err(Unreadable("an e-mail address")),
        }
    }
}

impl PasswordRow {
    pub(crate) fn of(password: &NewPassword) -> Self {
        Self {
            user_id: password.user.uuid(),
            set_at: stamp(password.set_at),
            hash: password.hash.expose().to_owned(),
        }
    }

    pub(crate) fn load(self) -> NewPassword {
        let (user, set_at) = (UserId::new(self.user_id), moment(self.set_at));
        NewPassword { user, hash: PasswordHash::new(self.hash), set_at }
    }
}

impl SessionRow {
    pub(crate) fn of(session: &Session, version: Version) -> Self {
        let record = session.record();
        Self {
            id: record.id.uuid(),
            user_id: record.user.uuid(),
            fingerprint: fingerprint_column(&record.origin),
            address: address_column(&record.origin.address),
            created_at: stamp(record.created_at),
            version: version.0,
            last_used_at: Some(stamp(record.last_used_at)),
            generation: record.generation.into(),
            used: record.used,
            spent: record.spent.map(|hash| hash.digest().to_vec()),
        }
    }

    pub(crate) fn load(self) -> Result<Loaded<Session>, Unreadable> {
        let record = SessionRecord {
            id: SessionId::new(self.id),
            user: UserId::new(self.user_id),
            origin: origin(self.fingerprint, &self.address)?,
            created_at: moment(self.created_at),
            last_used_at: moment(self.last_used_at.unwrap_or(self.created_at)),
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
            session_id: token.session.uuid(),
            issued_at: stamp(token.issued_at),
            expires_at: stamp(token.expires_at),
            generation: token.generation.into(),
        }
    }

    pub(crate) fn load(self) -> Result<NewRefreshToken, Unreadable> {
        Ok(NewRefreshToken {
            hash: RefreshTokenHash::restore(digest(self.hash)?),
            session: SessionId::new(self.session_id),
            generation: count(self.generation)?,
            issued_at: moment(self.issued_at),
            expires_at: moment(self.expires_at),
        })
    }
}

impl GuardRow {
    pub(crate) fn of(guard: &SignInGuard, version: Version) -> Self {
        Self {
            phone: guard.phone.as_str().to_owned(),
            version: version.0,
            failures: guard.strangers.failures.into(),
            failed_at: guard.strangers.failed_at.map(stamp),
            locked_until: guard.strangers.locked_until.map(stamp),
            origins: encoding::write_origins(&guard.origins),
            forget_at: stamp(guard.forget_at()),
        }
    }

    pub(crate) fn load(self) -> Result<Loaded<SignInGuard>, Unreadable> {
        let strangers = Throttle {
            failures: count(self.failures)?,
            failed_at: self.failed_at.map(moment),
            locked_until: self.locked_until.map(moment),
        };
        let origins = encoding::read_origins(&self.origins).ok_or(Unreadable("a guard's origins"))?;
        let guard = SignInGuard { phone: phone(&self.phone)?, strangers, origins };
        Ok(Loaded { value: guard, version: Version(self.version) })
    }
}

impl ResetRow {
    pub(crate) fn of(reset: PasswordReset, version: Version) -> Self {
        let forget_at = stamp(reset.forget_at());
        let record = reset.record();
        Self {
            phone: record.phone.as_str().to_owned(),
            version: version.0,
            requests_full_at: record.requests_full_at.map(stamp),
            guesses_full_at: record.guesses_full_at.map(stamp),
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
            requests_full_at: self.requests_full_at.map(moment),
            guesses_full_at: self.guesses_full_at.map(moment),
            finished: self.finished.map(finished).transpose()?,
        };
        Ok(Loaded { value: PasswordReset::restore(record), version: Version(self.version) })
    }
}

impl FactRow {
    pub(crate) fn of(fact: &Fact) -> Self {
        Self {
            id: fact.id.uuid(),
            at: stamp(fact.at),
            event: fact.event.as_str().to_owned(),
            number: fact.number.0.to_vec(),
            phone: fact.phone.clone(),
            user_id: fact.user.map(UserId::uuid),
            session_id: fact.session.map(SessionId::uuid),
            fingerprint: fact.device.map(|device| device.digest().to_vec()),
            address: fact.address.as_ref().map(address_column),
        }
    }

    pub(crate) fn load(self) -> Result<Fact, Unreadable> {
        Ok(Fact {
            id: FactId::new(self.id),
            at: moment(self.at),
            event: Event::parse(&self.event).ok_or(Unreadable("an event"))?,
            number: NumberDigest(digest(self.number)?),
            user: self.user_id.map(UserId::new),
            session: self.session_id.map(SessionId::new),
            device: device(self.fingerprint)?,
            address: self.address.as_deref().map(client_address).transpose()?,
            phone: self.phone,
        })
    }
}

impl MessageRow {
    pub(crate) fn of(message: &Message) -> Self {
        let (phone, email) = match &message.recipient {
            Recipient::Phone(phone) => (Some(phone.as_str().to_owned()), None),
            Recipient::Email(email) => (None, Some(email.as_str().to_owned())),
        };
        let (attempt, generation, link) = match message.content {
            Content::SignUpCode { attempt, generation } | Content::ResetCode { attempt, generation } => {
                (Some(attempt.uuid()), Some(generation.into()), None)
            }
            Content::EmailConfirmation { verification } => (None, None, Some(verification.uuid())),
            Content::AlreadyRegistered | Content::PasswordChanged | Content::SessionStolen => {
                (None, None, None)
            }
        };
        Self {
            id: message.id.uuid(),
            kind: message.content.kind().to_owned(),
            phone,
            email,
            attempt,
            generation,
            link,
            locale: message.voice.locale.as_str().to_owned(),
            queued_at: stamp(message.queued_at),
            expires_at: stamp(message.expires_at),
            due_at: stamp(message.queued_at),
            tries: 0,
            dead: false,
            reason: None,
            in_doubt_with: None,
            masked: message.recipient.masked(),
            merchant: message.voice.merchant.map(|merchant| merchant.to_string()),
        }
    }

    pub(crate) fn message(&self) -> Result<Message, Unreadable> {
        let content = match (self.kind.as_str(), self.attempt, self.generation, self.link) {
            ("sign_up_code", Some(attempt), Some(generation), None) => {
                Content::SignUpCode { attempt: AttemptId::new(attempt), generation: count(generation)? }
            }
            ("reset_code", Some(attempt), Some(generation), None) => {
                Content::ResetCode { attempt: AttemptId::new(attempt), generation: count(generation)? }
            }
            ("email_confirmation", None, None, Some(link)) => {
                Content::EmailConfirmation { verification: EmailVerificationId::new(link) }
            }
            ("already_registered", None, None, None) => Content::AlreadyRegistered,
            ("password_changed", None, None, None) => Content::PasswordChanged,
            ("session_stolen", None, None, None) => Content::SessionStolen,
            _ => return Err(Unreadable("a message's content")),
        };
        Ok(Message {
            id: MessageId::new(self.id),
            recipient: self.recipient()?,
            content,
            voice: self.voice()?,
            queued_at: moment(self.queued_at),
            expires_at: moment(self.expires_at),
        })
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

    pub(crate) fn tries(&self) -> Result<u32, Unreadable> {
        count(self.tries)
    }

    /// With how it stands in the queue.
    pub(crate) fn of_queued(queued: QueuedMessage) -> Self {
        Self {
            due_at: stamp(queued.due_at),
            tries: queued.tries.into(),
            dead: queued.dead,
            reason: queued.reason,
            in_doubt_with: queued.in_doubt_with,
            ..Self::of(&queued.message)
        }
    }

    pub(crate) fn queued(self) -> Result<QueuedMessage, Unreadable> {
        Ok(QueuedMessage {
            message: self.message()?,
            due_at: moment(self.due_at),
            tries: self.tries()?,
            dead: self.dead,
            reason: self.reason,
            in_doubt_with: self.in_doubt_with,
        })
    }
}

impl DeliveryRow {
    pub(crate) fn of(delivery: Delivery) -> Self {
        Self {
            id: delivery.id.uuid(),
            kind: delivery.kind,
            attempt: delivery.attempt.map(AttemptId::uuid),
            recipient: delivery.recipient,
            provider: delivery.provider,
            reference: delivery.reference,
            state: delivery.state.as_str().to_owned(),
            reason: delivery.reason,
            tries: delivery.tries.into(),
            queued_at: stamp(delivery.queued_at),
            changed_at: stamp(delivery.changed_at),
        }
    }

    pub(crate) fn load(self) -> Result<Delivery, Unreadable> {
        Ok(Delivery {
            id: MessageId::new(self.id),
            kind: self.kind,
            attempt: self.attempt.map(AttemptId::new),
            recipient: self.recipient,
            provider: self.provider,
            reference: self.reference,
            state: DeliveryState::parse(&self.state).ok_or(Unreadable("a message's state"))?,
            reason: self.reason,
            tries: count(self.tries)?,
            queued_at: moment(self.queued_at),
            changed_at: moment(self.changed_at),
        })
    }
}
