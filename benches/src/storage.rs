//! Commits of the SQLite adapter, each what a sign-up commits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use time::UtcDateTime;
use uuid::Uuid;
use vestibule_domain::quota::Quota;
use vestibule_domain::registration::{NumberUse, Registration, Rules, SignUp};
use vestibule_domain::{
    AttemptId, ClientAddress, Content, Generation, Locale, Message, MessageId, OneTimeCode, OneTimeCodes,
    Origin, PasswordHash, PhoneNumber, Recipient,
};
use vestibule_port_storage::{Changes, Charge, Limit, Save, Storage as _};
use vestibule_sqlite::{Migrate, Sqlite};

const QUOTA: Quota = Quota { burst: u32::MAX, period: Duration::from_hours(24) };
const RULES: Rules = Rules {
    code_ttl: Duration::from_mins(10),
    code_guesses: 5,
    resend_cooldown: Duration::from_mins(1),
    max_messages: 5,
    sign_ups: QUOTA,
    guesses: QUOTA,
};

struct ZeroCodes;

impl OneTimeCodes for ZeroCodes {
    fn code(&self, _: AttemptId, generation: Generation) -> OneTimeCode {
        OneTimeCode::from_number(generation.into(), 6)
    }

    fn matches(&self, _: AttemptId, _: Generation, _: &OneTimeCode) -> bool {
        false
    }
}

/// Commits per second by so many writers at once, on a file of its own.
pub(crate) async fn commits(writers: u32, span: Duration) -> anyhow::Result<f64> {
    let directory = tempfile::tempdir_in(".")?;
    let storage = Arc::new(Sqlite::open(&directory.path().join("bench.db"), 2, Migrate::Yes)?);
    let begun = Instant::now();
    let end = begun + span;
    let writing: Vec<_> = (0..writers)
        .map(|writer| {
            let storage = Arc::clone(&storage);
            tokio::spawn(async move {
                let mut done = 0_u32;
                while Instant::now() < end {
                    storage.commit(sign_up(writer * 100_000 + done)?).await?;
                    done += 1;
                }
                anyhow::Ok(done)
            })
        })
        .collect();
    let mut done = 0;
    for writer in writing {
        done += writer.await??;
    }
    Ok(f64::from(done) / begun.elapsed().as_secs_f64())
}

fn sign_up(number: u32) -> anyhow::Result<Changes> {
    let now = UtcDateTime::UNIX_EPOCH;
    let phone = PhoneNumber::restore(&format!("+44{number:010}"))?;
    let id = Uuid::from_u128(u128::from(number) + 1);
    let address = ClientAddress::of([10, 0, 0, 1].into());
    let origin = Origin { fingerprint: None, address };
    let password =
        PasswordHash::new("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$0123456789".to_owned());
    let sign_up = SignUp { attempt: AttemptId::new(id), phone: phone.clone(), password, origin };
    let step = Registration::sign_up(None, NumberUse::Unused, sign_up, &ZeroCodes, &RULES, now)?;
    let message = Message {
        id: MessageId::new(id),
        recipient: Recipient::Phone(phone),
        content: Content::SignUpCode { attempt: AttemptId::new(id), generation: 0 },
        locale: Locale::new("en"),
        queued_at: now,
        expires_at: step.expires_at,
    };
    Ok(Changes {
        registration: Some(Save::new(step.registration)),
        charge: Some(Charge { limit: Limit::SignUpsFrom(address), quota: QUOTA, now }),
        messages: vec![message],
        ..Changes::default()
    })
}
