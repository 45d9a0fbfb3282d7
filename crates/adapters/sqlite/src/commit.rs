//! Applies [`Changes`] inside the writer's transaction.

use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error};
use diesel::upsert::excluded;
use time::UtcDateTime;
use vestibule_domain::UserId;
use vestibule_domain::limits::{Charge, Tally};
use vestibule_domain::registration::Registration;
use vestibule_metrics::objected;
use vestibule_port_storage::{
    Changes, CommitError, EndSessions, Erasure, NumberDigest, Save, Unavailable, Version,
};

use crate::connection::unavailable;
use crate::pumping::SentCodeRow;
use crate::rows::{
    AccountRow, FactRow, GuardRow, MessageRow, PasswordRow, RefreshTokenRow, RegistrationRow, ResetRow,
    SessionRow, bytes, millis, moment,
};
use crate::schema::{
    accounts, attempts, facts, limits, messages, password_resets, passwords, refresh_tokens, registrations,
    sent_codes, sessions, sign_in_guards, used_numbers,
};
use crate::spending;

/// [`CommitError`], with room for the database's own.
pub(crate) struct Refused(pub(crate) CommitError);

impl From<Error> for Refused {
    /// The constraint decides who was first. SQLite names the columns of a violated index in the error's text.
    fn from(error: Error) -> Self {
        Self(match &error {
            Error::DatabaseError(DatabaseErrorKind::UniqueViolation, info) => match info.message() {
                text if text.contains("accounts.email_canonical") => CommitError::EmailTaken,
                text if text.contains("accounts.phone") || text.contains("used_numbers.digest") => {
                    CommitError::PhoneTaken
                }
                _ => CommitError::Conflict,
            },
            // Whose account or session it is has gone meanwhile.
            Error::DatabaseError(DatabaseErrorKind::ForeignKeyViolation, _) => CommitError::Conflict,
            _ => CommitError::Unavailable(unavailable(&error)),
        })
    }
}

impl From<Unavailable> for Refused {
    fn from(unavailable: Unavailable) -> Self {
        Self(unavailable.into())
    }
}

/// Adds the row, or puts it in the place of the one of the version that it replaces.
macro_rules! save {
    ($connection:ident, $replaces:expr, $table:ident.$key:ident of $row:expr) => {{
        let row = $row;
        match $replaces {
            None => {
                diesel::insert_into($table::table).values(&row).execute($connection)?;
            }
            Some(Version(version)) => {
                let present =
                    $table::table.filter($table::$key.eq(&row.$key)).filter($table::version.eq(version));
                one(diesel::update(present).set(&row).execute($connection)?)?;
            }
        }
    }};
}

/// Whatever ends goes first, so that what is opened in the same commit is not taken for it.
pub(crate) fn apply(connection: &mut SqliteConnection, changes: Changes) -> Result<(), Refused> {
    if let Some(end) = changes.end_sessions {
        end_sessions(connection, end)?;
    }
    if let Some(erasure) = &changes.erase {
        erase(connection, erasure)?;
        diesel::insert_or_ignore_into(used_numbers::table)
            .values(used_numbers::digest.eq(erasure.number.0.as_slice()))
            .execute(connection)?;
    }
    if let Some(registration) = changes.registration {
        save_registration(connection, registration)?;
    }
    if let Some(digest) = changes.used_number {
        diesel::insert_into(used_numbers::table)
            .values(used_numbers::digest.eq(digest.0.as_slice()))
            .execute(connection)?;
    }
    if let Some(NumberDigest(digest)) = changes.freed_number {
        diesel::delete(used_numbers::table.find(digest.as_slice())).execute(connection)?;
    }
    if let Some(Save { value, replaces }) = changes.account {
        save!(connection, replaces, accounts.user_id of AccountRow::of(value, next(replaces)));
    }
    if let Some(password) = &changes.password {
        // One that was set at the same moment is the same, hashed anew.
        diesel::insert_into(passwords::table)
            .values(PasswordRow::of(password))
            .on_conflict((passwords::user_id, passwords::set_at))
            .do_update()
            .set(passwords::hash.eq(excluded(passwords::hash)))
            .execute(connection)?;
    }
    for (user, set_at) in changes.forgotten_passwords {
        diesel::delete(passwords::table.find((bytes(user.uuid()), millis(set_at)))).execute(connection)?;
    }
    if let Some(Save { value, replaces }) = changes.guard {
        save!(connection, replaces, sign_in_guards.phone of GuardRow::of(&value, next(replaces)));
    }
    if let Some(Save { value, replaces }) = changes.reset {
        save!(connection, replaces, password_resets.phone of ResetRow::of(value, next(replaces)));
    }
    if let Some(Save { value, replaces }) = changes.session {
        save!(connection, replaces, sessions.id of SessionRow::of(&value, next(replaces)));
    }
    if let Some(token) = &changes.refresh_token {
        diesel::insert_into(refresh_tokens::table).values(RefreshTokenRow::of(token)).execute(connection)?;
    }
    for charge in changes.charges {
        take_unit(connection, charge)?;
    }
    for tally in &changes.tallies {
        correct(connection, tally)?;
    }
    for spend in &changes.spends {
        spending::add_up(connection, spend)?;
    }
    for correction in &changes.corrections {
        spending::correct(connection, correction)?;
    }
    for message in &changes.messages {
        diesel::insert_into(messages::table).values(MessageRow::of(message)).execute(connection)?;
    }
    if let Some(message) = changes.messages.first() {
        spending::reserve(connection, message.id, &changes.spends)?;
    }
    if let Some(sent) = &changes.sent_code {
        diesel::insert_into(sent_codes::table).values(SentCodeRow::of(sent)).execute(connection)?;
    }
    if let Some((attempt, at)) = changes.codes_back {
        diesel::update(sent_codes::table.filter(sent_codes::attempt.eq(bytes(attempt.uuid()))))
            .set(sent_codes::confirmed_at.eq(millis(at)))
            .execute(connection)?;
    }
    for fact in &changes.facts {
        diesel::insert_into(facts::table).values(FactRow::of(fact)).execute(connection)?;
    }
    Ok(())
}

/// Refresh tokens go with their sessions.
fn end_sessions(connection: &mut SqliteConnection, end: EndSessions) -> Result<(), Refused> {
    let of = |user: UserId| sessions::table.filter(sessions::user_id.eq(bytes(user.uuid())));
    match end {
        EndSessions::One(user, session) => {
            let session = of(user).filter(sessions::id.eq(bytes(session.uuid())));
            return one(diesel::delete(session).execute(connection)?);
        }
        EndSessions::AllBut(user, Some(session)) => {
            diesel::delete(of(user).filter(sessions::id.ne(bytes(session.uuid())))).execute(connection)?
        }
        EndSessions::AllBut(user, None) => diesel::delete(of(user)).execute(connection)?,
    };
    Ok(())
}

/// Passwords and sessions go with the account.
fn erase(
    connection: &mut SqliteConnection,
    Erasure { user, replaces, guard, phone, number: NumberDigest(digest) }: &Erasure,
) -> Result<(), Refused> {
    let (user, number) = (bytes(user.uuid()), phone.as_str());
    let account =
        accounts::table.filter(accounts::user_id.eq(&user)).filter(accounts::version.eq(replaces.0));
    let email = (accounts::email, accounts::email_confirmed, accounts::email_link);
    let email: Option<(Option<String>, bool, Option<Vec<u8>>)> =
        diesel::delete(account).returning(email).get_result(connection).optional()?;
    let (address, is_confirmed, link) = email.ok_or(Refused(CommitError::Conflict))?;
    diesel::delete(registrations::table.find(number)).execute(connection)?;
    let guards = sign_in_guards::table.find(number);
    match guard {
        Some(Version(version)) => {
            let loaded = guards.filter(sign_in_guards::version.eq(version));
            one(diesel::delete(loaded).execute(connection)?)?;
        }
        None => {
            diesel::delete(guards).execute(connection)?;
        }
    }
    diesel::delete(password_resets::table.find(number)).execute(connection)?;
    // An address that is not confirmed may be somebody else's.
    let to_confirmed = messages::email.eq(address.filter(|_| is_confirmed));
    let to_owner = messages::phone.eq(number).or(messages::link.eq(link)).or(to_confirmed);
    diesel::delete(messages::table.filter(to_owner)).execute(connection)?;
    let past = facts::number.eq(digest.as_slice()).or(facts::user_id.eq(&user));
    diesel::update(facts::table.filter(past))
        .set((facts::fingerprint.eq(None::<Vec<u8>>), facts::address.eq(None::<String>)))
        .execute(connection)?;
    Ok(())
}

fn save_registration(connection: &mut SqliteConnection, save: Save<Registration>) -> Result<(), Refused> {
    let (row, attempt_rows) = RegistrationRow::of(save.value, next(save.replaces));
    let phone = row.phone.clone();
    match save.replaces {
        None => {
            diesel::insert_into(registrations::table).values(&row).execute(connection)?;
        }
        Some(Version(version)) => {
            let present = registrations::table
                .filter(registrations::phone.eq(&phone))
                .filter(registrations::version.eq(version));
            one(diesel::update(present).set(&row).execute(connection)?)?;
            diesel::delete(attempts::table.filter(attempts::phone.eq(&phone))).execute(connection)?;
        }
    }
    for attempt in &attempt_rows {
        diesel::insert_into(attempts::table).values(attempt).execute(connection)?;
    }
    Ok(())
}

/// Nobody else writes between the read and the write: there is one writer.
pub(crate) fn take_unit(connection: &mut SqliteConnection, charge: Charge) -> Result<(), Refused> {
    let key = charge.limit.to_string();
    let next = charge.decide(full_at(connection, &key)?).map_err(|retry_after| {
        objected(charge.limit.step.as_str(), charge.limit.scope.kind());
        Refused(CommitError::LimitReached { retry_after })
    })?;
    set_full_at(connection, key, next)
}

fn correct(connection: &mut SqliteConnection, tally: &Tally) -> Result<(), Refused> {
    let key = tally.limit.to_string();
    let next = tally.apply(full_at(connection, &key)?);
    set_full_at(connection, key, next)
}

fn full_at(connection: &mut SqliteConnection, key: &str) -> Result<Option<UtcDateTime>, Refused> {
    let full_at: Option<i64> =
        limits::table.find(key).select(limits::full_at).first(connection).optional()?;
    Ok(full_at.map(moment).transpose().map_err(Unavailable::from)?)
}

fn set_full_at(connection: &mut SqliteConnection, key: String, full_at: UtcDateTime) -> Result<(), Refused> {
    diesel::replace_into(limits::table)
        .values((limits::key.eq(key), limits::full_at.eq(millis(full_at))))
        .execute(connection)?;
    Ok(())
}

fn next(replaces: Option<Version>) -> i64 {
    replaces.map_or(1, |Version(version)| version + 1)
}

fn one(rows: usize) -> Result<(), Refused> {
    if rows == 1 { Ok(()) } else { Err(Refused(CommitError::Conflict)) }
}
