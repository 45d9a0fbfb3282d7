//! How what has parts is written into one column that is only ever read as a whole, the same in every database.

use serde::{Deserialize, Serialize};
use time::UtcDateTime;
use uuid::Uuid;
use vestibule_domain::password_reset::Finished;
use vestibule_domain::registration::Attempt;
use vestibule_domain::sign_in::{KnownOrigin, Throttle};
use vestibule_domain::{AttemptId, ClientAddress, Fingerprint, Origin, SessionId};

/// Where something came from.
#[derive(Serialize, Deserialize)]
struct From {
    #[serde(rename = "d", skip_serializing_if = "Option::is_none", default)]
    device: Option<String>,
    #[serde(rename = "a")]
    address: std::net::IpAddr,
}

/// One known origin: short names, since every sign-in writes them.
#[derive(Serialize, Deserialize)]
struct KnownEntry {
    #[serde(flatten)]
    from: From,
    #[serde(rename = "s")]
    seen_at: i64,
    #[serde(rename = "n", skip_serializing_if = "is_zero", default)]
    failures: u32,
    #[serde(rename = "f", skip_serializing_if = "Option::is_none", default)]
    failed_at: Option<i64>,
    #[serde(rename = "l", skip_serializing_if = "Option::is_none", default)]
    locked_until: Option<i64>,
}

/// The known origins of a guard as JSON; moments in milliseconds since 1970.
#[must_use]
pub fn write_origins(origins: &[KnownOrigin]) -> String {
    let entries: Vec<_> = origins
        .iter()
        .map(|known| KnownEntry {
            from: From::of(&known.origin),
            seen_at: millis(known.seen_at),
            failures: known.throttle.failures,
            failed_at: known.throttle.failed_at.map(millis),
            locked_until: known.throttle.locked_until.map(millis),
        })
        .collect();
    // Numbers and texts: nothing of it can fail to be written.
    serde_json::to_string(&entries).unwrap_or_default()
}

/// The known origins that [`write_origins`] has written; `None` for anything else.
#[must_use]
pub fn read_origins(text: &str) -> Option<Vec<KnownOrigin>> {
    let entries: Vec<KnownEntry> = serde_json::from_str(text).ok()?;
    entries.into_iter().map(KnownEntry::read).collect()
}

/// One request for a password reset.
#[derive(Serialize, Deserialize)]
struct AttemptEntry {
    id: Uuid,
    #[serde(flatten)]
    from: From,
    created_at: i64,
    generation: u32,
    expires_at: i64,
    guesses: u32,
    messages: u32,
    last_message_at: i64,
}

/// The requests of a password reset as JSON; moments in milliseconds since 1970.
#[must_use]
pub fn write_attempts(attempts: &[Attempt<()>]) -> String {
    let entries: Vec<_> = attempts
        .iter()
        .map(|attempt| AttemptEntry {
            id: attempt.id.uuid(),
            from: From::of(&attempt.origin),
            created_at: millis(attempt.created_at),
            generation: attempt.generation,
            expires_at: millis(attempt.expires_at),
            guesses: attempt.guesses,
            messages: attempt.messages,
            last_message_at: millis(attempt.last_message_at),
        })
        .collect();
    serde_json::to_string(&entries).unwrap_or_default()
}

/// The requests that [`write_attempts`] has written; `None` for anything else.
#[must_use]
pub fn read_attempts(text: &str) -> Option<Vec<Attempt<()>>> {
    let entries: Vec<AttemptEntry> = serde_json::from_str(text).ok()?;
    entries.into_iter().map(AttemptEntry::read).collect()
}

/// The last reset that was made.
#[derive(Serialize, Deserialize)]
struct FinishedEntry {
    attempt: Uuid,
    generation: u32,
    #[serde(flatten)]
    from: From,
    session: Uuid,
    set_at: i64,
    wrong_repeats: u32,
}

/// The last reset that was made as JSON; moments in milliseconds since 1970.
#[must_use]
pub fn write_finished(finished: &Finished) -> String {
    let entry = FinishedEntry {
        attempt: finished.attempt.uuid(),
        generation: finished.generation,
        from: From::of(&finished.origin),
        session: finished.session.uuid(),
        set_at: millis(finished.set_at),
        wrong_repeats: finished.wrong_repeats,
    };
    serde_json::to_string(&entry).unwrap_or_default()
}

/// The reset that [`write_finished`] has written; `None` for anything else.
#[must_use]
pub fn read_finished(text: &str) -> Option<Finished> {
    let entry: FinishedEntry = serde_json::from_str(text).ok()?;
    Some(Finished {
        attempt: AttemptId::new(entry.attempt),
        generation: entry.generation,
        origin: entry.from.read()?,
        session: SessionId::new(entry.session),
        set_at: moment(entry.set_at)?,
        wrong_repeats: entry.wrong_repeats,
    })
}

impl From {
    fn of(origin: &Origin) -> Self {
        let device = origin.fingerprint.map(|device| hex::encode(device.digest()));
        Self { device, address: origin.address.ip() }
    }

    fn read(self) -> Option<Origin> {
        let fingerprint = match self.device {
            None => None,
            Some(digits) => {
                let mut digest = [0; 32];
                hex::decode_to_slice(digits, &mut digest).ok()?;
                Some(Fingerprint::restore(digest))
            }
        };
        Some(Origin { fingerprint, address: ClientAddress::of(self.address) })
    }
}

impl KnownEntry {
    fn read(self) -> Option<KnownOrigin> {
        let optional = |millis: Option<i64>| millis.map_or(Some(None), |millis| moment(millis).map(Some));
        Some(KnownOrigin {
            origin: self.from.read()?,
            seen_at: moment(self.seen_at)?,
            throttle: Throttle {
                failures: self.failures,
                failed_at: optional(self.failed_at)?,
                locked_until: optional(self.locked_until)?,
            },
        })
    }
}

impl AttemptEntry {
    fn read(self) -> Option<Attempt<()>> {
        Some(Attempt {
            id: AttemptId::new(self.id),
            password: (),
            origin: self.from.read()?,
            created_at: moment(self.created_at)?,
            generation: self.generation,
            expires_at: moment(self.expires_at)?,
            guesses: self.guesses,
            messages: self.messages,
            last_message_at: moment(self.last_message_at)?,
        })
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn millis(moment: UtcDateTime) -> i64 {
    i64::try_from(moment.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

fn moment(millis: i64) -> Option<UtcDateTime> {
    UtcDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000).ok()
}

#[cfg(test)]
mod tests {
    use time::macros::utc_datetime;

    use super::*;

    #[test]
    fn origins_are_read_as_they_were_written() {
        let now = utc_datetime!(2026-11-25 12:00:00.123);
        let throttle = Throttle { failures: 3, failed_at: Some(now), locked_until: Some(now) };
        let origin = |device: &str, address: &str| Origin {
            fingerprint: Fingerprint::of(device),
            address: ClientAddress::of(address.parse().unwrap()),
        };
        let origins = vec![
            KnownOrigin { origin: origin("a", "192.0.2.1"), seen_at: now, throttle },
            KnownOrigin { origin: origin("", "2001:db8::1"), seen_at: now, throttle: Throttle::default() },
        ];
        assert_eq!(read_origins(&write_origins(&origins)).unwrap(), origins);
        assert_eq!(write_origins(&[]), "[]");
        for wrong in ["", "{}", r#"[{"a":"nowhere","s":0}]"#, r#"[{"a":"192.0.2.1","s":0,"d":"ab"}]"#] {
            assert!(read_origins(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn attempts_are_read_as_they_were_written() {
        let now = utc_datetime!(2026-11-25 12:00:00.123);
        let attempts = vec![Attempt {
            id: AttemptId::new(Uuid::from_u128(7)),
            password: (),
            origin: Origin { fingerprint: None, address: ClientAddress::of([192, 0, 2, 1].into()) },
            created_at: now,
            generation: 1,
            expires_at: now,
            guesses: 2,
            messages: 3,
            last_message_at: now,
        }];
        assert_eq!(read_attempts(&write_attempts(&attempts)).unwrap(), attempts);
        assert!(read_attempts("[{}]").is_none());
    }

    #[test]
    fn a_finished_reset_is_read_as_it_was_written() {
        let finished = |device: &str| Finished {
            attempt: AttemptId::new(Uuid::from_u128(7)),
            generation: 1,
            origin: Origin {
                fingerprint: Fingerprint::of(device),
                address: ClientAddress::of([192, 0, 2, 1].into()),
            },
            session: SessionId::new(Uuid::from_u128(8)),
            set_at: utc_datetime!(2026-11-25 12:00:00.123),
            wrong_repeats: 2,
        };
        for finished in [finished("device"), finished("")] {
            assert_eq!(read_finished(&write_finished(&finished)).unwrap(), finished);
        }
        for wrong in ["", "{}", "null", "[]"] {
            assert!(read_finished(wrong).is_none(), "{wrong}");
        }
    }
}
