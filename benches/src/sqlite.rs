//! The figures on the embedded default.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use time::UtcDateTime;
use uuid::Uuid;
use vestibule_domain::limits::{Charge, Limit, Scope, Step, Unit};
use vestibule_domain::registration::{NumberUse, Registration, SignUp};
use vestibule_domain::{
    AttemptId, ClientAddress, Content, Generation, Locale, Message, MessageId, OneTimeCode, OneTimeCodes,
    Origin, PasswordHash, PhoneNumber, Recipient,
};
use vestibule_port_storage::{Changes, Save, Storage as _};
use vestibule_sqlite::{Migrate, Sqlite};

use crate::figures::Figures;
use crate::load::as_fast_as_answered;
use crate::people::{People, RULES};
use crate::service::Service;
use crate::{HASH_THREADS, hashing, refusals, sign_ups};

/// How long a rate is measured.
const SPAN: Duration = Duration::from_secs(8);

/// Clients that sign up at once: enough to keep the hash threads busy, few enough to leave the queue short.
const CLIENTS: u32 = 16;

pub(crate) async fn measure(figures: &mut Figures<impl Write>) -> anyhow::Result<()> {
    figures.part("SQLite, sign-ups over HTTP; in a second, against bare Argon2id")?;
    let directory = tempfile::tempdir()?;
    let service = Service::start(directory.path(), None, HASH_THREADS)?;
    let idle = service.resident()?;
    let before = hashing::bare(HASH_THREADS, SPAN / 2)?;
    let begun = service.spent();
    let load = as_fast_as_answered(service.address, sign_ups(CLIENTS, 0), SPAN)?;
    let spent = service.spent() - begun;
    let after = hashing::bare(HASH_THREADS, SPAN / 2)?;
    figures.share("sign-ups", load.rate, [before, after], Some(0.95))?;
    figures.latencies("  sign-ups", &load.latencies)?;
    figures.cost(spent, load.latencies.requests())?;

    figures.part("SQLite, the rest")?;
    figures.at_most("resident when idle, MiB", idle, 20.0)?;
    figures.at_most("resident at most, MiB", service.most_resident()?, 56.0)?;
    service.stop()?;
    figures.at_most("from start to ready, ms", start(directory.path())?, 80.0)?;
    for writers in [1, 64] {
        let rate = commits(writers, SPAN / 2).await?;
        figures.plain(&format!("durable commits in a second, {writers} at once"), rate)?;
    }

    figures.part("SQLite, sign-ins with a wrong password, by one client")?;
    refuse(figures).await
}

/// Times refused sign-ins, on a service of their own.
async fn refuse(figures: &mut Figures<impl Write>) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let people = People::of(directory.path()).await?;
    let storage = Sqlite::open(&directory.path().join("data/vestibule.db"), 2, Migrate::Yes)?;
    people.register(&storage, refusals::known()).await?;
    drop(storage);
    let service = Service::start(directory.path(), None, HASH_THREADS)?;
    refusals::measure(figures, service.address)?;
    service.stop()
}

/// How long a start on data that is there takes, in milliseconds: the median of five.
fn start(directory: &std::path::Path) -> anyhow::Result<f64> {
    let mut starts = Vec::new();
    for _ in 0..5 {
        let begun = Instant::now();
        let service = Service::start(directory, None, HASH_THREADS)?;
        starts.push(begun.elapsed());
        service.stop()?;
    }
    starts.sort();
    let median = starts.get(starts.len() / 2).context("no start was measured")?;
    Ok(median.as_secs_f64() * 1000.0)
}

struct ZeroCodes;

impl OneTimeCodes for ZeroCodes {
    fn code(&self, _: AttemptId, generation: Generation) -> OneTimeCode {
        OneTimeCode::from_number(generation.into(), 6)
    }

    fn matches(&self, _: AttemptId, _: Generation, _: &OneTimeCode) -> bool {
        false
    }
}

/// Commits per second by so many writers at once, on a file of its own; each is what a sign-up commits.
async fn commits(writers: u32, span: Duration) -> anyhow::Result<f64> {
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
        voice: Locale::new("en").into(),
        queued_at: now,
        expires_at: step.expires_at,
    };
    Ok(Changes {
        registration: Some(Save::new(step.registration)),
        charges: vec![Charge {
            limit: Limit { step: Step::SignUp, scope: Scope::Address(address) },
            quota: RULES.sign_ups,
            unit: Unit::Taken,
            now,
        }],
        messages: vec![message],
        ..Changes::default()
    })
}
