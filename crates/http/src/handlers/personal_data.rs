//! Personal data as its owner sees it.

use serde_json::{Map, Value, json};
use vestibule_application::PersonalData;
use vestibule_domain::audit::Fact;
use vestibule_domain::registration::Registration;
use vestibule_domain::{Account, Message, Origin, ProfileField, Session};

use super::sessions::rfc3339;

pub(super) fn shown(data: &PersonalData) -> Value {
    json!({
        "account": account(&data.account),
        "passwords": data.passwords_set_at.iter().map(|at| json!({ "setAt": rfc3339(*at) })).collect::<Vec<_>>(),
        "sessions": data.sessions.iter().map(session).collect::<Vec<_>>(),
        "knownDevices": data.known_origins.iter().map(|known| {
            with_origin(json!({ "seenAt": rfc3339(known.seen_at) }), Some(&known.origin))
        }).collect::<Vec<_>>(),
        "registration": data.registration.as_ref().map(registration),
        "waitingMessages": data.messages.iter().map(message).collect::<Vec<_>>(),
        "history": data.facts.iter().map(fact).collect::<Vec<_>>(),
    })
}

fn account(account: &Account) -> Value {
    let profile: Map<String, Value> = ProfileField::ALL
        .into_iter()
        .filter_map(|field| Some((field.as_str().to_owned(), json!(account.profile().value(field)?))))
        .collect();
    let shown = json!({
        "userId": account.user().to_string(),
        "phone": account.phone().as_str(),
        "email": account.email().address().map(vestibule_domain::EmailAddress::as_str),
        "confirmedEmail": account.email().confirmed().is_some(),
        "kycLevel": account.kyc().as_str(),
        "createdAt": rfc3339(account.created_at()),
        "profile": profile,
    });
    with_origin(shown, account.opened_from())
}

fn session(session: &Session) -> Value {
    let record = session.record();
    let shown = json!({
        "id": record.id.to_string(),
        "createdAt": rfc3339(record.created_at),
        "lastUsedAt": rfc3339(record.last_used_at),
    });
    with_origin(shown, Some(&record.origin))
}

fn registration(registration: &Registration) -> Value {
    json!({ "phone": registration.phone().as_str(), "forgottenAt": rfc3339(registration.forget_at()) })
}

fn message(message: &Message) -> Value {
    json!({
        "kind": message.content.kind(),
        "language": message.locale.as_str(),
        "queuedAt": rfc3339(message.queued_at),
        "expiresAt": rfc3339(message.expires_at),
    })
}

fn fact(fact: &Fact) -> Value {
    json!({
        "at": rfc3339(fact.at),
        "event": fact.event.as_str(),
        "session": fact.session.map(|session| session.to_string()),
        "device": fact.device.map(|device| hex::encode(device.digest())),
        "address": fact.address.map(|address| address.ip().to_string()),
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
