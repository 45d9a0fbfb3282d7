//! Personal data as its owner sees it.
//!
//! What storage keeps is taken apart whole, so that whatever is added to it has to be shown here, or left out by name. Left out are
//! password hashes, and what is as good as a proof: who names the identity of an attempt counts as who made it.

use serde_json::{Map, Value, json};
use vestibule_application::PersonalData;
use vestibule_domain::audit::Fact;
use vestibule_domain::password_reset::{Finished, PasswordReset, ResetRecord};
use vestibule_domain::registration::{Attempt, Opened, Registration, RegistrationRecord, Stage};
use vestibule_domain::sign_in::{KnownOrigin, SignInGuard, Throttle};
use vestibule_domain::{
    Account, AccountKind, AccountRecord, EmailAddress, EmailState, Message, Origin, ProfileField, Recipient,
    Session, SessionRecord, Voice,
};

use super::sessions::rfc3339;

pub(super) fn shown(data: PersonalData) -> Value {
    let PersonalData { account, passwords_set_at, sessions, guard, registration, reset, messages, facts } =
        data;
    let SignInGuard { phone: _, strangers, origins } = guard;
    json!({
        "account": self::account(account),
        "passwords": list(&passwords_set_at, |at| json!({ "setAt": rfc3339(*at) })),
        "sessions": list(&sessions, session),
        "knownDevices": list(&origins, known_device),
        "unknownDevices": { "wrongPasswords": wrong_passwords(strangers) },
        "registration": registration.map(self::registration),
        "passwordReset": reset.map(password_reset),
        "waitingMessages": list(&messages, message),
        "history": list(&facts, fact),
    })
}

fn list<T>(all: &[T], shown: impl Fn(&T) -> Value) -> Vec<Value> {
    all.iter().map(shown).collect()
}

fn account(account: Account) -> Value {
    let AccountRecord {
        user,
        phone,
        email,
        profile,
        kyc,
        created_at,
        opened_from,
        kind,
        standing,
        mails_full_at,
    } = account.record();
    let (link_expires_at, last_mail_at) = match &email {
        EmailState::None | EmailState::Confirmed { .. } => (None, None),
        EmailState::Unconfirmed { address: _, verification: _, expires_at, last_mail_at } => {
            (Some(*expires_at), Some(*last_mail_at))
        }
    };
    let profile: Map<String, Value> = ProfileField::ALL
        .into_iter()
        .filter_map(|field| Some((field.as_str().to_owned(), json!(profile.value(field)?))))
        .collect();
    let shown = json!({
        "userId": user.to_string(),
        "phone": phone.as_str(),
        "email": email.address().map(EmailAddress::as_str),
        "confirmedEmail": email.confirmed().is_some(),
        "emailLinkExpiresAt": link_expires_at.and_then(rfc3339),
        "lastMailAt": last_mail_at.and_then(rfc3339),
        "mailsFullAt": mails_full_at.and_then(rfc3339),
        "kycLevel": kyc.as_str(),
        "standing": standing.as_str(),
        "testAccount": kind == AccountKind::Test,
        "createdAt": rfc3339(created_at),
        "profile": profile,
    });
    with_origin(shown, opened_from.as_ref())
}

fn session(session: &Session) -> Value {
    let SessionRecord { id, user: _, origin, created_at, last_used_at, generation: _, used: _, spent: _ } =
        session.record();
    let shown = json!({
        "id": id.to_string(),
        "createdAt": rfc3339(*created_at),
        "lastUsedAt": rfc3339(*last_used_at),
    });
    with_origin(shown, Some(origin))
}

fn known_device(known: &KnownOrigin) -> Value {
    let KnownOrigin { origin, seen_at, throttle } = *known;
    let shown = json!({ "seenAt": rfc3339(seen_at), "wrongPasswords": wrong_passwords(throttle) });
    with_origin(shown, Some(&origin))
}

fn wrong_passwords(throttle: Throttle) -> Value {
    let Throttle { failures, failed_at, locked_until } = throttle;
    json!({
        "count": failures,
        "lastAt": failed_at.and_then(rfc3339),
        "lockedUntil": locked_until.and_then(rfc3339),
    })
}

fn registration(registration: Registration) -> Value {
    let forgotten_at = registration.forget_at();
    let RegistrationRecord { phone, stage, attempts, sign_ups_full_at, guesses_full_at } =
        registration.record();
    let (stage, opened, owner_told_at) = match stage {
        Stage::Pending => ("pending", None, None),
        Stage::Confirmed(opened) => ("confirmed", Some(opened), None),
        Stage::Concealed { opened, owner_told_at } => ("concealed", opened, owner_told_at),
    };
    json!({
        "phone": phone.as_str(),
        "stage": stage,
        "attempts": list(&attempts, attempt),
        "confirmation": opened.map(confirmation),
        "ownerToldAt": owner_told_at.and_then(rfc3339),
        "signUpsFullAt": sign_ups_full_at.and_then(rfc3339),
        "guessesFullAt": guesses_full_at.and_then(rfc3339),
        "forgottenAt": rfc3339(forgotten_at),
    })
}

fn confirmation(opened: Opened) -> Value {
    let Opened { attempt: _, generation: _, origin, user: _, session, at, wrong_repeats } = opened;
    let shown = json!({ "at": rfc3339(at), "session": session.to_string(), "wrongRepeats": wrong_repeats });
    with_origin(shown, Some(&origin))
}

fn password_reset(reset: PasswordReset) -> Value {
    let forgotten_at = reset.forget_at();
    let ResetRecord { phone: _, attempts, requests_full_at, guesses_full_at, finished } = reset.record();
    json!({
        "requests": list(&attempts, attempt),
        "finished": finished.map(finished_reset),
        "requestsFullAt": requests_full_at.and_then(rfc3339),
        "guessesFullAt": guesses_full_at.and_then(rfc3339),
        "forgottenAt": rfc3339(forgotten_at),
    })
}

fn finished_reset(finished: Finished) -> Value {
    let Finished { attempt: _, generation: _, origin, session, set_at, wrong_repeats } = finished;
    let shown =
        json!({ "at": rfc3339(set_at), "session": session.to_string(), "wrongRepeats": wrong_repeats });
    with_origin(shown, Some(&origin))
}

/// A sign-up, or a request for a new password.
fn attempt<P>(attempt: &Attempt<P>) -> Value {
    let Attempt {
        id: _,
        password: _,
        origin,
        created_at,
        generation: _,
        expires_at,
        guesses,
        messages,
        last_message_at,
    } = attempt;
    let shown = json!({
        "createdAt": rfc3339(*created_at),
        "codeExpiresAt": rfc3339(*expires_at),
        "guesses": guesses,
        "messages": messages,
        "lastMessageAt": rfc3339(*last_message_at),
    });
    with_origin(shown, Some(origin))
}

fn message(message: &Message) -> Value {
    let Message { id: _, recipient, content, voice: Voice { locale, merchant }, queued_at, expires_at } =
        message;
    let to = match recipient {
        Recipient::Phone(phone) => phone.as_str(),
        Recipient::Email(address) => address.as_str(),
    };
    json!({
        "kind": content.kind(),
        "to": to,
        "language": locale.as_str(),
        "merchant": merchant.map(|merchant| merchant.to_string()),
        "queuedAt": rfc3339(*queued_at),
        "expiresAt": rfc3339(*expires_at),
    })
}

fn fact(fact: &Fact) -> Value {
    let Fact { id: _, at, event, number: _, phone: _, user: _, session, device, address } = fact;
    json!({
        "at": rfc3339(*at),
        "event": event.as_str(),
        "session": session.map(|session| session.to_string()),
        "device": device.map(|device| hex::encode(device.digest())),
        "address": address.map(|address| address.ip().to_string()),
    })
}

/// With the address, and the device by its hash, which is all that is kept of it.
fn with_origin(mut shown: Value, origin: Option<&Origin>) -> Value {
    if let (Value::Object(members), Some(origin)) = (&mut shown, origin) {
        members.insert("address".to_owned(), json!(origin.address.ip().to_string()));
        let device = origin.fingerprint.map(|device| json!(hex::encode(device.digest())));
        members.extend(device.map(|device| ("device".to_owned(), device)));
    }
    shown
}
