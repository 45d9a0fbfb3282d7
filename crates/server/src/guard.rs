//! `vestibule guard`: what the guard against pumping has done, and what another rule would have.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use time::UtcDateTime;
use vestibule_application::{Application, LowBudget};
use vestibule_domain::pumping::{Mode, PumpingGuard, Replayed, Report, Row};

use crate::config::Config;
use crate::wiring;

#[derive(Subcommand)]
pub(crate) enum Guard {
    /// Print what was sent, came back, was held back and has cost, by country and provider; and where codes are held back now.
    Report(Period),
    /// Print what another rule would have done with what has happened.
    Replay(Policy),
}

#[derive(Args)]
pub(crate) struct Period {
    /// From when on: so many days, hours or minutes ago, as `14d`, `36h`, `30m`.
    #[arg(long, default_value = "14d", value_parser = ago)]
    since: Duration,
}

#[derive(Args)]
pub(crate) struct Policy {
    /// A file with a `[guard]`: what it leaves out is as configured.
    #[arg(long)]
    policy: PathBuf,
    #[command(flatten)]
    period: Period,
}

/// So much time ago.
fn ago(text: &str) -> Result<Duration, String> {
    const FORM: &str = "must be a number of days, hours or minutes, as `14d`, `36h` or `30m`";
    let unit = text.chars().last().ok_or(FORM)?;
    let minutes = match unit {
        'd' => 24 * 60,
        'h' => 60,
        'm' => 1,
        _ => return Err(FORM.to_owned()),
    };
    let number: u32 = text.strip_suffix(unit).and_then(|number| number.parse().ok()).ok_or(FORM)?;
    Ok(Duration::from_mins(u64::from(number) * minutes))
}

impl Period {
    /// When it begins; as long ago as there is a date for, at most.
    fn begin(&self, now: UtcDateTime) -> UtcDateTime {
        let ago = time::Duration::try_from(self.since).unwrap_or(time::Duration::MAX);
        now.checked_sub(ago).unwrap_or(UtcDateTime::UNIX_EPOCH).max(UtcDateTime::UNIX_EPOCH)
    }
}

impl Guard {
    pub(crate) async fn run(&self, config: &Config, file: Option<&Path>) -> anyhow::Result<()> {
        let application = wiring::use_cases(config).await?;
        let currency = &config.spending.currency;
        match self {
            Self::Report(period) => report(&application, period, currency).await,
            Self::Replay(Policy { policy, period }) => {
                let other = Config::load_under(file, policy).context("--policy")?;
                let other = other.guard.rule(other.environment)?;
                replay(&application, &other, period, currency).await
            }
        }
    }
}

async fn report(application: &Application, period: &Period, currency: &str) -> anyhow::Result<()> {
    let since = period.begin(application.clock.now());
    let report = application.pumping_report(since).await?;
    let low = application.low_pumping_budgets().await?;
    let mut out = io::stdout().lock();
    let mode = mode(application.settings.pumping.mode);
    writeln!(
        out,
        "The guard is {mode}. Costs are by the configured prices, or by what a provider has told, in {currency}.\n\
         Sent and confirmed are codes. Blocked and observed are requests, of which one client may make many.\n"
    )?;
    table(&mut out, &report)?;
    writeln!(out)?;
    if low.is_empty() {
        writeln!(out, "Nothing is held back now.")?;
    }
    low.iter().try_for_each(|low| describe(&mut out, low))?;
    Ok(())
}

const fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Off => "off",
        Mode::Observe => "observing",
        Mode::Enforce => "enforcing",
    }
}

fn table(out: &mut impl Write, report: &Report) -> io::Result<()> {
    writeln!(
        out,
        "{:<7}  {:<12}  {:>9}  {:>9}  {:>6}  {:>12}  {:>9}  {:>9}  {:>12}",
        "COUNTRY", "PROVIDER", "SENT", "CONFIRMED", "SHARE", "COST", "BLOCKED", "OBSERVED", "SPARED"
    )?;
    for (country, provider, row) in report.rows() {
        let country = country.map_or("-", |country| country.as_str());
        line(out, country, provider.unwrap_or("-"), row)?;
    }
    line(out, "all", "", &report.total())
}

fn line(out: &mut impl Write, country: &str, provider: &str, row: &Row) -> io::Result<()> {
    let Row { sent, confirmed, cost, held_back, objected_to, spared } = row;
    let share = confirmed.checked_mul(100).and_then(|hundredfold| hundredfold.checked_div(*sent));
    let share = share.map_or_else(|| "-".to_owned(), |share| format!("{share} %"));
    let (cost, spared) = (cost.to_string(), spared.to_string());
    writeln!(
        out,
        "{country:<7}  {provider:<12}  {sent:>9}  {confirmed:>9}  {share:>6}  {cost:>12}  {held_back:>9}  {objected_to:>9}  {spared:>12}"
    )
}

fn describe(out: &mut impl Write, low: &LowBudget) -> io::Result<()> {
    let LowBudget { charge, used_percent, is_empty } = low;
    let held = if *is_empty { "stopped" } else { "slowed" };
    let (limit, units) = (charge.limit, charge.quota.burst);
    writeln!(out, "{held}: {limit}: {used_percent} % of {units} codes are on their way or lost")
}

async fn replay(
    application: &Application,
    other: &PumpingGuard,
    period: &Period,
    currency: &str,
) -> anyhow::Result<()> {
    let since = period.begin(application.clock.now());
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "As if each rule had been enforced all the time, from full budgets on. Costs in {currency}.\n\n\
         {:<10}  {:>9}  {:>9}  {:>12}  {:>9}  {:>11}  {:>12}  {:>11}",
        "RULE", "SENT", "CONFIRMED", "COST", "BLOCKED", "TURNED AWAY", "SPARED", "LET THROUGH"
    )?;
    for (name, guard) in [("configured", &application.settings.pumping), ("policy", other)] {
        outcome(&mut out, name, application.pumping_replay(guard, since).await?)?;
    }
    writeln!(
        out,
        "\nTurned away: customers who did confirm and would have been blocked. Let through: requests that were blocked and would have\n\
         been sent; whether they would have come back nobody knows, so they count as lost."
    )?;
    Ok(())
}

fn outcome(out: &mut impl Write, name: &str, replayed: Replayed) -> io::Result<()> {
    let Replayed { sent, confirmed, cost, held_back, turned_away, spared, let_through } = replayed;
    let (cost, spared) = (cost.to_string(), spared.to_string());
    writeln!(
        out,
        "{name:<10}  {sent:>9}  {confirmed:>9}  {cost:>12}  {held_back:>9}  {turned_away:>11}  {spared:>12}  {let_through:>11}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_read() {
        assert_eq!(ago("14d"), Ok(Duration::from_hours(14 * 24)));
        assert_eq!([ago("36h"), ago("30m")], [Ok(Duration::from_hours(36)), Ok(Duration::from_mins(30))]);
        for text in ["", "d", "14", "14w", "-1d", "1.5h", "99999999999d", "1dd", "é"] {
            assert!(ago(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_longest_period_begins_with_time() {
        let period = Period { since: ago("4294967295d").unwrap() };
        assert_eq!(period.begin(UtcDateTime::UNIX_EPOCH), UtcDateTime::UNIX_EPOCH);
    }
}
