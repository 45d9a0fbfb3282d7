//! Applies [`Changes`] inside the writer's transaction.

use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error};
use vestibule_domain::registration::Registration;
use vestibule_domain::{Account, Session};
use vestibule_port_storage::{Changes, Charge, CommitError, NewRefreshToken, Save, Version};

use crate::connection::unavailable;
use crate::rows::{AccountRow, MessageRow, RegistrationRow, bytes, millis, moment, origin_columns};
use crate::schema::{
    accounts, attempts, limits, messages, passwords, refresh_tokens, registrations, sessions, used_numbers,
};

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
            _ => CommitError::Unavailable(unavailable(&error)),
        })
    }
}

impl From<vestibule_port_storage::Unavailable> for Refused {
    fn from(unavailable: vestibule_port_storage::Unavailable) -> Self {
        Self(unavailable.into())
    }
}

pub(crate) fn apply(connection: &mut SqliteConnection, changes: Changes) -> Result<(), Refused> {
    let Changes { registration, account, password, used_number, session, refresh_token, charge, messages } =
        changes;
    if let Some(registration) = registration {
        save_registration(connection, registration)?;
    }
    if let Some(digest) = used_number {
        diesel::insert_into(used_numbers::table)
            .values(used_numbers::digest.eq(digest.0.as_slice()))
            .execute(connection)?;
    }
    if let Some(account) = account {
        save_account(connection, account)?;
    }
    if let Some(password) = password {
        diesel::insert_into(passwords::table)
            .values((
                passwords::user_id.eq(bytes(password.user.uuid())),
                passwords::set_at.eq(millis(password.set_at)),
                passwords::hash.eq(password.hash.expose()),
            ))
            .execute(connection)?;
    }
    if let Some(session) = session {
        open_session(connection, &session)?;
    }
    if let Some(token) = refresh_token {
        add_refresh_token(connection, &token)?;
    }
    if let Some(charge) = charge {
        take_unit(connection, charge)?;
    }
    for message in &messages {
        diesel::insert_into(messages::table).values(MessageRow::of(message)).execute(connection)?;
    }
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

fn save_account(connection: &mut SqliteConnection, save: Save<Account>) -> Result<(), Refused> {
    let user = bytes(save.value.user().uuid());
    let row = AccountRow::of(save.value, next(save.replaces));
    match save.replaces {
        None => {
            diesel::insert_into(accounts::table).values(&row).execute(connection)?;
        }
        Some(Version(version)) => {
            let present =
                accounts::table.filter(accounts::user_id.eq(user)).filter(accounts::version.eq(version));
            one(diesel::update(present).set(&row).execute(connection)?)?;
        }
    }
    Ok(())
}

fn open_session(connection: &mut SqliteConnection, session: &Session) -> QueryResult<()> {
    let (fingerprint, address) = origin_columns(&session.origin);
    diesel::insert_into(sessions::table)
        .values((
            sessions::id.eq(bytes(session.id.uuid())),
            sessions::user_id.eq(bytes(session.user.uuid())),
            sessions::fingerprint.eq(fingerprint),
            sessions::address.eq(address),
            sessions::created_at.eq(millis(session.created_at)),
        ))
        .execute(connection)
        .map(|_| ())
}

fn add_refresh_token(connection: &mut SqliteConnection, token: &NewRefreshToken) -> QueryResult<()> {
    diesel::insert_into(refresh_tokens::table)
        .values((
            refresh_tokens::hash.eq(token.hash.digest().as_slice()),
            refresh_tokens::session_id.eq(bytes(token.session.uuid())),
            refresh_tokens::issued_at.eq(millis(token.issued_at)),
            refresh_tokens::expires_at.eq(millis(token.expires_at)),
        ))
        .execute(connection)
        .map(|_| ())
}

/// Nobody else writes between the read and the write: there is one writer.
fn take_unit(connection: &mut SqliteConnection, charge: Charge) -> Result<(), Refused> {
    let key = charge.limit.key();
    let full_at: Option<i64> =
        limits::table.find(&key).select(limits::full_at).first(connection).optional()?;
    let full_at = full_at.map(moment).transpose().map_err(vestibule_port_storage::Unavailable::from)?;
    let charged = charge.quota.charge(full_at, charge.now);
    let next = charged.map_err(|retry_after| Refused(CommitError::LimitReached { retry_after }))?;
    diesel::replace_into(limits::table)
        .values((limits::key.eq(key), limits::full_at.eq(millis(next))))
        .execute(connection)?;
    Ok(())
}

fn next(replaces: Option<Version>) -> i64 {
    replaces.map_or(1, |Version(version)| version + 1)
}

fn one(rows: usize) -> Result<(), Refused> {
    if rows == 1 { Ok(()) } else { Err(Refused(CommitError::Conflict)) }
}
