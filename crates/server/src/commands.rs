//! The commands beside `serve`, and how a command ends badly.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use vestibule_domain::spending::{Ceiling, Purse, Window};

use crate::config::{Config, ConfigError};
use crate::{countries, odds, test_numbers, wiring};

/// What `check` says where nothing bounds what messages may cost in a day.
pub(crate) const UNLIMITED_BILL: &str = "worst daily bill: unlimited: set spending.per_day";

/// Ends with status 2: a setting makes no sense.
pub(crate) fn refuse(error: &ConfigError) -> ExitCode {
    complain(&error.to_string());
    ExitCode::from(2)
}

/// Ends with status 2 where a setting is at fault, as everything that wiring refuses is.
pub(crate) fn end(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::from(2)
        }
    }
}

fn complain(sentence: &str) {
    // Standard error may be closed; there is nobody left to tell then.
    let _ = writeln!(std::io::stderr(), "vestibule: {sentence}");
}

pub(crate) async fn migrate(config: &Config) -> anyhow::Result<()> {
    wiring::migrate(config).await?;
    tracing::info!("the database is up to date");
    Ok(())
}

/// Whether the service would start: tables that the start would bring up to date are no fault, those that it would refuse are. Nothing is
/// migrated, since the instances that run may be of the version before.
pub(crate) async fn check(config: &Config) -> anyhow::Result<()> {
    let service = wiring::look(config).await?;
    let is_migrated_by_the_start = config.database.migrate_on_start;
    let database = match &service.behind {
        None => {
            service.application.ready().await.context("database")?;
            "ok".to_owned()
        }
        Some(behind) if is_migrated_by_the_start => {
            format!("{}, or let the next start do it", behind.root_cause())
        }
        Some(behind) => behind.root_cause().to_string(),
    };
    let mut out = std::io::stdout().lock();
    let compared = if service.behind.is_some() { ", not compared with the database yet" } else { "" };
    writeln!(out, "configuration: ok\nkeys: ok{compared}\ndatabase: {database}")?;
    if let Some(smpp) = &service.smpp {
        smpp.wait_until_bound(vestibule_smpp::TIMEOUT).await.context("sms.smpp.url")?;
        smpp.stop().await;
    }
    countries::describe(config)?.iter().try_for_each(|sentence| writeln!(out, "{sentence}"))?;
    let (numbers, now) = (&service.application.settings.test_numbers, service.application.clock.now());
    test_numbers::describe(numbers, now).try_for_each(|sentence| writeln!(out, "{sentence}"))?;
    let (budget, currency) = (&service.application.settings.spending, &config.spending.currency);
    for name in service.dispatcher.senders.sms.names() {
        writeln!(out, "sms: {name}{}", most(budget.ceiling(&Purse::Provider(name.to_owned())), currency))?;
    }
    for name in config.spending.unused_providers(&config.sms) {
        writeln!(out, "spending.providers.{name}: has no effect, since `sms` does not use it")?;
    }
    match budget.worst_day() {
        Some(worst) => writeln!(out, "worst daily bill: {worst} {currency}")?,
        None => writeln!(out, "{UNLIMITED_BILL}")?,
    }
    let (settings, values) =
        (&service.application.settings, service.application.derivation.values_per_code());
    for sentence in odds::describe(settings, config.registration.code_length, values) {
        writeln!(out, "{sentence}")?;
    }
    writeln!(out, "email: {}", service.dispatcher.senders.email.name())?;
    // Last, so that whoever is about to upgrade has heard of everything else.
    match service.behind {
        Some(behind) if !is_migrated_by_the_start => Err(behind),
        _ => Ok(()),
    }
}

/// The most that may be spent, where there is an end to it.
fn most(ceiling: Ceiling, currency: &str) -> String {
    let most = |window: Window| Some(format!("{} {currency} each {}", ceiling.of(window)?, window.as_str()));
    let most: Vec<_> = Window::ALL.into_iter().filter_map(most).collect();
    if most.is_empty() { String::new() } else { format!(", at most {}", most.join(" and ")) }
}
