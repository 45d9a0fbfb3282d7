//! Somebody earns by the messages to a range of numbers: signs them up from many addresses and confirms none, among ordinary customers
//! of the same country, some of whom have numbers of that range.
//!
//! The same customers come each time, alone, with an attack from very many places, and with one from few, so that it is seen whom the guard turns away on account of it. Customers take
//! seconds instead of minutes, and the attack is as fast as the machine bears; the guard's budgets do not fill again in such a time,
//! which makes it harder on customers, not easier. The rule is the default one, enforced; all other limits are ample and there is no ceiling.

mod crowd;
mod outcome;
mod told;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::task::JoinSet;

use crate::place::{Database, Limits, Place};
use crate::random::Random;
use crate::report::Report;
use crowd::{ATTACKS, Bots, CUSTOMERS, FEW, MANY, Purpose, SPAN, Visit, customers, with_attack};
use outcome::{Fate, Run};
use told::Told;

/// What the service is told beside the defaults.
const SETTINGS: [(&str, &str); 3] = [
    ("GUARD__MODE", "enforce"),
    ("SPENDING__PRICES__GB", "0.06"),
    // Nobody waits a minute here.
    ("REGISTRATION__RESEND_COOLDOWN_SECONDS", "10"),
];
const COOL_DOWN: Duration = Duration::from_secs(10);

/// How long a code may take to arrive, and the record of what was held back to be written.
const PATIENCE: Duration = Duration::from_secs(30);

/// The same customers and the same attack each time.
const SEED: u64 = 28;

/// Plays it without an attack, and with two.
pub(crate) async fn play(report: &mut Report, database: Database) -> anyhow::Result<()> {
    let mut random = Random::new(SEED);
    let customers = customers(&mut random);
    report.say(format_args!(
        "\n{CUSTOMERS} customers of a country in {} s, over {database:?}, by the default rule of the guard",
        SPAN.as_secs()
    ))?;
    let alone = run(database, customers.clone()).await?;
    alone.print_customers(report, "nobody else")?;
    alone.judge(report, "nobody else");
    alone.judge_quiet(report);

    for bots in [MANY, FEW] {
        let Bots { addresses, blocks } = bots;
        report.say(format_args!(
            "\nthe same, and {ATTACKS} sign-ups to one range of 10000 numbers, from {addresses} addresses in {blocks} blocks, none of them confirmed"
        ))?;
        let attacked = run(database, with_attack(customers.clone(), bots, &mut random)).await?;
        let when = format!("attacked from {blocks} blocks");
        attacked.print_attack(report)?;
        attacked.print_customers(report, &when)?;
        attacked.judge(report, &when);
        attacked.judge_attack(report);
        if blocks == FEW.blocks {
            attacked.judge_range(report);
        }
    }
    Ok(())
}

/// Lets everybody come at the time.
async fn run(database: Database, visits: Vec<Visit>) -> anyhow::Result<Run> {
    let place = Arc::new(Place::start(database, 1, Limits::Ample, &SETTINGS).await?);
    let begun = Instant::now();
    let mut living = JoinSet::new();
    for (turn, visit) in visits.into_iter().enumerate() {
        tokio::time::sleep_until((begun + visit.at).into()).await;
        let place = Arc::clone(&place);
        living.spawn(async move { live(&place, turn, begun.elapsed(), visit).await });
    }
    let mut fates = Vec::new();
    while let Some(fate) = living.join_next().await {
        fates.push(fate??);
    }
    fates.sort_by_key(|fate| fate.turn);
    let messages = place.messages().await?;
    let refused = fates.iter().map(Fate::refused).sum();
    let told = told(&place, refused).await?;
    Ok(Run { fates, messages, told, not_served: place.client.not_served() })
}

/// Somebody's whole visit.
async fn live(place: &Place, turn: usize, at: Duration, visit: Visit) -> anyhow::Result<Fate> {
    let Visit { who, why, .. } = visit;
    let signed_up = place.client.sign_up(&who).await?;
    let fate = Fate { turn, at, why, signed_up, resent: None, confirmed: None };
    let Purpose::Customer { types_after: Some(after), resends, .. } = why else { return Ok(fate) };
    if !signed_up.is_done() {
        return Ok(fate);
    }
    let sms = place.gateway.wait_for(&who.phone, 1, PATIENCE).await?;
    let mut resent = None;
    if resends {
        tokio::time::sleep(COOL_DOWN).await;
        resent = Some(place.client.resend(&who).await?);
    }
    tokio::time::sleep(after).await;
    let confirmed = Some(place.client.confirm(&who, sms.code().context("no code in the message")?).await?);
    Ok(Fate { resent, confirmed, ..fate })
}

/// What the service reports, once it has recorded that so many codes were held back.
async fn told(place: &Place, refused: u32) -> anyhow::Result<Told> {
    let end = Instant::now() + PATIENCE;
    loop {
        let fleet = Arc::clone(&place.fleet);
        let report = tokio::task::spawn_blocking(move || fleet.run(&["guard", "report", "--since", "1h"]));
        let told = Told::read(&report.await??)?;
        if told.blocked >= refused.into() || Instant::now() > end {
            return Ok(told);
        }
    }
}
