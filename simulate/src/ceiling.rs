//! A crowd signs up at once, where fewer messages may be sent than it has people.
//!
//! Played over SQLite with one instance and over Postgres with one, two and four. However the requests meet, and wherever: exactly as
//! many are accepted as the ceiling has room for, everybody else is told how long to wait, and the provider is given no message
//! more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use time::UtcDateTime;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use vestibule_domain::Country;
use vestibule_domain::spending::{Money, Purse, Window};

use crate::client::{Answer, Client};
use crate::people::{Person, address, british, french};
use crate::place::{Database, Limits, Place};
use crate::report::Report;

/// The crowd: half of it has British numbers, half of it French ones.
const PEOPLE: u32 = 1000;

/// The number of the refusal for rate, by the contract.
const RATE_LIMIT: u64 = 167;

/// Where it is played.
const PLACES: [(Database, usize); 4] =
    [(Database::Sqlite, 1), (Database::Postgres, 1), (Database::Postgres, 2), (Database::Postgres, 4)];

/// What each message costs.
const PRICES: [(&str, &str); 2] = [("SPENDING__PRICES__GB", "0.05"), ("SPENDING__PRICES__FR", "0.05")];

/// A ceiling, and what must come of it.
struct Ceiling {
    name: &'static str,
    setting: (&'static str, &'static str),
    /// Who gets in.
    room: Room,
    /// Out of which purse it is paid, if it is one of money.
    purse: Option<Purse>,
}

/// How many people get in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    /// So many of all.
    All(usize),
    /// So many French, and everybody else.
    French(usize),
}

/// What came of a crowd.
#[derive(Debug)]
struct Outcome {
    /// With British and French numbers.
    accepted: [usize; 2],
    refused: usize,
    /// Refused, but not told for rate or not told how long to wait.
    ill_told: usize,
    /// What the provider was given.
    messages: usize,
    /// What was spent in the day, by the database.
    spent: Vec<(Purse, Money)>,
    took: Duration,
    not_served: u32,
}

/// Plays it with ceilings in money, for everybody and for a country, and with a limit on rates.
pub(crate) async fn play(report: &mut Report) -> anyhow::Result<()> {
    report.say(format_args!(
        "{PEOPLE} people sign up at once, half with British and half with French numbers, each message costs 0.05"
    ))?;
    for ceiling in ceilings()? {
        let (name, value) = ceiling.setting;
        report.say(format_args!("\n{}: {name} = {value}, so {}", ceiling.name, ceiling.room.sentence()))?;
        report.say(format_args!(
            "{:24}{:>10}{:>9}{:>9}{:>11}{:>9}{:>8}",
            "", "accepted", "refused", "no wait", "messages", "spent", "s"
        ))?;
        for (database, instances) in PLACES {
            let outcome = play_on_one_day(&ceiling, database, instances).await?;
            let place =
                format!("{database:?}, {instances} instance{}", if instances == 1 { "" } else { "s" });
            outcome.print(report, &place)?;
            outcome.judge(report, &ceiling, &place);
        }
    }
    Ok(())
}

fn ceilings() -> anyhow::Result<[Ceiling; 3]> {
    Ok([
        Ceiling {
            name: "money, everybody",
            // A fifth of it is kept for customers.
            setting: ("SPENDING__PER_DAY", "25"),
            room: Room::All(400),
            purse: Some(Purse::All),
        },
        Ceiling {
            name: "money, one country",
            setting: ("SPENDING__COUNTRIES__FR__PER_DAY", "12.5"),
            room: Room::French(200),
            purse: Some(Purse::Country(Country::parse("FR")?)),
        },
        Ceiling {
            name: "rate, everybody",
            // Few enough that none comes back while it is played.
            setting: ("LIMITS__SIGNUP_PER_HOUR", "96"),
            room: Room::All(96),
            purse: None,
        },
    ])
}

/// Plays it anew where midnight, which makes room, came in between.
async fn play_on_one_day(ceiling: &Ceiling, database: Database, instances: usize) -> anyhow::Result<Outcome> {
    loop {
        let begun = Window::Day.start(now());
        let outcome = play_once(ceiling, database, instances).await?;
        if Window::Day.start(now()) == begun {
            return Ok(outcome);
        }
    }
}

async fn play_once(ceiling: &Ceiling, database: Database, instances: usize) -> anyhow::Result<Outcome> {
    let settings: Vec<_> = PRICES.into_iter().chain([ceiling.setting]).collect();
    let place = Place::start(database, instances, Limits::Ample, &settings).await?;
    let (answers, took) = sign_up_at_once(&place.client).await?;
    let messages = place.messages().await?;
    let purses = [Purse::All, Purse::Country(Country::parse("GB")?), Purse::Country(Country::parse("FR")?)];
    let spent = place.spent(&purses, now()).await?.into_iter().filter(|spent| spent.window == Window::Day);

    let accepted =
        |nth| answers.iter().filter(|(number, answer)| number % 2 == nth && answer.is_done()).count();
    let refused = answers.iter().filter(|(_, answer)| !answer.is_done());
    let well_told = |answer: &Answer| answer.is_refused_by(RATE_LIMIT) && answer.retry_after() > Some(0);
    Ok(Outcome {
        accepted: [accepted(0), accepted(1)],
        refused: refused.clone().count(),
        ill_told: refused.filter(|(_, answer)| !well_told(answer)).count(),
        messages,
        spent: spent.map(|spent| (spent.purse, spent.amount)).collect(),
        took,
        not_served: place.client.not_served(),
    })
}

/// What each is answered, and how long it took until all were.
async fn sign_up_at_once(client: &Arc<Client>) -> anyhow::Result<(Vec<(u32, Answer)>, Duration)> {
    let together = Arc::new(Barrier::new(usize::try_from(PEOPLE)?));
    let mut crowd = JoinSet::new();
    for number in 0..PEOPLE {
        let (client, together) = (Arc::clone(client), Arc::clone(&together));
        let phone = if number.is_multiple_of(2) { british(number) } else { french(number) };
        let person = Person { phone, address: address(number) };
        crowd.spawn(async move {
            together.wait().await;
            (number, client.sign_up(&person).await)
        });
    }
    let begun = Instant::now();
    let mut answers = Vec::new();
    while let Some(answered) = crowd.join_next().await {
        let (number, answer) = answered?;
        answers.push((number, answer?));
    }
    Ok((answers, begun.elapsed()))
}

impl Room {
    fn accepted(self, accepted: [usize; 2]) -> bool {
        let [british, french] = accepted;
        match self {
            Self::All(room) => british + french == room,
            Self::French(room) => accepted == [PEOPLE as usize / 2, room],
        }
    }

    fn sentence(self) -> String {
        match self {
            Self::All(room) => format!("there is room for {room}"),
            Self::French(room) => {
                format!("there is room for {room} French numbers, and for all British ones")
            }
        }
    }
}

impl Outcome {
    fn print(&self, report: &mut Report, place: &str) -> anyhow::Result<()> {
        let spent: Vec<_> = self.spent.iter().map(|(_, amount)| amount.to_string()).collect();
        let spent = if spent.is_empty() { "-".to_owned() } else { spent.join(" ") };
        let busy = match self.not_served {
            0 => String::new(),
            times => format!("  (too busy {times} times, and asked again)"),
        };
        report.say(format_args!(
            "{place:24}{:>10}{:>9}{:>9}{:>11}{spent:>9}{:>8.1}{busy}",
            self.accepted.iter().sum::<usize>(),
            self.refused,
            self.ill_told,
            self.messages,
            self.took.as_secs_f64(),
        ))
    }

    fn judge(&self, report: &mut Report, ceiling: &Ceiling, place: &str) {
        let [british, french] = self.accepted;
        let name = format!("{}, {place}", ceiling.name);
        report.promise(
            ceiling.room.accepted(self.accepted),
            format!(
                "{name}: {british} British and {french} French were accepted, although {}",
                ceiling.room.sentence()
            ),
        );
        report.promise(
            self.messages == british + french,
            format!("{name}: {} messages for {} who were accepted", self.messages, british + french),
        );
        report.promise(
            self.ill_told == 0,
            format!("{name}: {} were refused in another way, or without Retry-After", self.ill_told),
        );
        let price = Money::from_micros(50_000);
        let paid = |purse: &Purse| match purse {
            Purse::All => british + french,
            Purse::Country(_) => french,
            Purse::Provider(_) => 0,
        };
        let due = |purse: Purse| {
            let sum = price.times(u32::try_from(paid(&purse)).unwrap_or(u32::MAX));
            (purse, sum)
        };
        report.promise(
            self.spent == ceiling.purse.clone().map(due).into_iter().collect::<Vec<_>>(),
            format!("{name}: the database says that {:?} was spent", self.spent),
        );
    }
}

#[expect(clippy::disallowed_methods, reason = "the instances have the machine's clock")]
fn now() -> UtcDateTime {
    UtcDateTime::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome() -> Outcome {
        let spent = vec![(Purse::All, Money::from_micros(20_000_000))];
        Outcome {
            accepted: [190, 210],
            refused: 600,
            ill_told: 0,
            messages: 400,
            spent,
            took: Duration::from_secs(1),
            not_served: 0,
        }
    }

    fn complaints(outcome: &Outcome) -> usize {
        let mut report = Report::new();
        outcome.judge(&mut report, &ceilings().unwrap()[0], "somewhere");
        report.broken().len()
    }

    #[test]
    fn a_kept_ceiling_is_not_complained_of() {
        assert_eq!(complaints(&outcome()), 0);
    }

    #[test]
    fn one_too_many_one_too_few_and_one_that_was_told_nothing_are_found() {
        assert_eq!(complaints(&Outcome { messages: 401, ..outcome() }), 1);
        assert_eq!(complaints(&Outcome { ill_told: 1, ..outcome() }), 1);
        assert_eq!(complaints(&Outcome { spent: Vec::new(), ..outcome() }), 1);
        // Of one that is accepted too few, the message and the money are too many.
        assert_eq!(complaints(&Outcome { accepted: [190, 209], ..outcome() }), 3);
    }

    #[test]
    fn room_for_a_country_is_room_for_all_others() {
        assert!(Room::French(200).accepted([500, 200]));
        assert!(!Room::French(200).accepted([499, 201]));
    }
}
