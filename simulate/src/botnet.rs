//! A botnet guesses codes of many numbers from many addresses, none of which asks often.
//!
//! It has signed up with all the numbers itself, so it knows where to guess; each bot has an address in a block of its own, so no limit of
//! an address or a block is met. All limits are those of the default configuration. It guesses as fast as it is answered, at all numbers in
//! turn. The first guess at each code is compared, since customers make it; after it everyone's budget is spent, and then nothing
//! is compared any more than comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::task::JoinSet;

use crate::client::Answer;
use crate::people::{Person, address, british};
use crate::place::{Database, Limits, Place};
use crate::report::Report;

/// Bots, each with an address.
const BOTS: u32 = 400;

/// Numbers that they have signed up with.
const NUMBERS: u32 = 2000;

/// Guesses that the service takes at one code.
const GUESSES: u32 = 5;

/// Codes that there are.
const CODES: f64 = 1e6;

/// Guesses after the first at each code that everyone has in an hour, `limits.wrong_codes_per_hour`; and sign-ups.
const BUDGET: u32 = 1000;
const SIGN_UPS: u32 = 20_000;

/// Parts that Postgres keeps everyone's budget in.
const PARTS: u32 = 16;

/// Instances, over one database.
const INSTANCES: usize = 4;

/// How long it guesses.
const SPAN: Duration = Duration::from_secs(20);

/// Requests at once.
const AT_ONCE: usize = 64;

/// A number nobody else has.
const VICTIM: u32 = 900_000;

/// How long a code may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);

/// The numbers of the refusals, by the contract.
const WRONG_CODE: u64 = 117;
const NO_GUESSES: u64 = 119;

/// What became of guesses.
#[derive(Debug, Default)]
struct Guesses {
    /// Compared with the code, and wrong, in each whole second since the first guess.
    compared: Vec<u32>,
    /// Compared, and right.
    right: u32,
    /// Not compared.
    refused: u32,
    /// Not compared, and not told how long to wait.
    ill_told: u32,
}

/// Plays it over Postgres.
pub(crate) async fn play(report: &mut Report) -> anyhow::Result<()> {
    report.say(format_args!(
        "\n{BOTS} bots with addresses in as many blocks guess at codes of {NUMBERS} numbers for {} s, over {INSTANCES} instances, limits by default",
        SPAN.as_secs()
    ))?;
    let place = Arc::new(Place::start(Database::Postgres, INSTANCES, Limits::Default, &[]).await?);
    let signing_up = each(NUMBERS, |number| {
        let place = Arc::clone(&place);
        async move { place.client.sign_up(&own(number)).await }
    });
    let signed_up = signing_up.await?.into_iter().filter(|answer| answer.is_done()).count();
    report
        .promise(signed_up == NUMBERS as usize, format!("only {signed_up} numbers could be signed up with"));

    let (guesses, took) = guess(&place).await?;
    print(report, &guesses, took)?;
    judge(report, &guesses, took);

    let first = victims_guess(&place, VICTIM, 0).await?;
    let second = victims_guess(&place, VICTIM + 1, 1).await?;
    report.say(format_args!(
        "meanwhile somebody who has just got a code: right at the first guess {}, right at the second {}",
        told(first),
        told(second)
    ))?;
    report.promise(first.is_done(), format!("a fresh code's first guess was answered {first:?}"));
    Ok(())
}

/// Guesses for the whole time, all bots together.
async fn guess(place: &Arc<Place>) -> anyhow::Result<(Guesses, Duration)> {
    let turn = Arc::new(AtomicU32::new(0));
    let begun = Instant::now();
    let mut bots = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (place, turn) = (Arc::clone(place), Arc::clone(&turn));
        bots.spawn(async move {
            let mut guesses = Guesses::default();
            while begun.elapsed() < SPAN {
                let turn = turn.fetch_add(1, Ordering::Relaxed);
                // Nobody repeats a guess.
                let code = format!("{:06}", (turn / NUMBERS * 7919 + turn % NUMBERS * 31) % 1_000_000);
                let answer = place.client.confirm(&own(turn % NUMBERS), &code).await?;
                guesses.note(answer, begun.elapsed())?;
            }
            anyhow::Ok(guesses)
        });
    }
    let mut all = Guesses::default();
    while let Some(guesses) = bots.join_next().await {
        all.add(guesses??);
    }
    Ok((all, begun.elapsed()))
}

/// Somebody signs up while all budgets are spent, and types so many wrong codes before the right one.
async fn victims_guess(place: &Place, number: u32, wrong: u32) -> anyhow::Result<Answer> {
    let victim = Person { phone: british(number), address: address(BOTS + number % 100) };
    let signed_up = place.client.sign_up(&victim).await?;
    anyhow::ensure!(signed_up.is_done(), "the victim could not sign up: {signed_up:?}");
    let sms = place.gateway.wait_for(&victim.phone, 1, PATIENCE).await?;
    let code = sms.code().context("no code in the message")?;
    let wrong_code = if code == "000000" { "000001" } else { "000000" };
    for _ in 0..wrong {
        place.client.confirm(&victim, wrong_code).await?;
    }
    place.client.confirm(&victim, code).await
}

/// One of the botnet's numbers, with the bot that guesses at it.
fn own(number: u32) -> Person {
    Person { phone: british(number), address: address(number % BOTS) }
}

/// Does something for each number, a few at once.
async fn each<F>(numbers: u32, work: impl Fn(u32) -> F) -> anyhow::Result<Vec<Answer>>
where
    F: Future<Output = anyhow::Result<Answer>> + Send + 'static,
{
    let (mut working, mut answers) = (JoinSet::new(), Vec::new());
    for number in 0..numbers {
        if working.len() == AT_ONCE {
            answers.extend(working.join_next().await.transpose()?.transpose()?);
        }
        working.spawn(work(number));
    }
    while let Some(answer) = working.join_next().await {
        answers.push(answer??);
    }
    Ok(answers)
}

impl Guesses {
    fn note(&mut self, answer: Answer, after: Duration) -> anyhow::Result<()> {
        if answer.is_refused_by(WRONG_CODE) {
            let second = usize::try_from(after.as_secs())?;
            if self.compared.len() <= second {
                self.compared.resize(second + 1, 0);
            }
            self.compared.get_mut(second).into_iter().for_each(|count| *count += 1);
        } else if answer.is_refused_by(NO_GUESSES) {
            self.refused += 1;
            self.ill_told += u32::from(answer.retry_after().is_none());
        } else if answer.is_done() {
            self.right += 1;
        } else {
            anyhow::bail!("a guess was answered {answer:?}");
        }
        Ok(())
    }

    fn add(&mut self, other: Self) {
        let seconds = self.compared.len().max(other.compared.len());
        self.compared.resize(seconds, 0);
        self.compared.iter_mut().zip(other.compared).for_each(|(sum, count)| *sum += count);
        self.right += other.right;
        self.refused += other.refused;
        self.ill_told += other.ill_told;
    }

    fn all_compared(&self) -> u32 {
        self.compared.iter().sum::<u32>() + self.right
    }
}

/// What everyone's budget gets back in the time; at most so many more where it is kept in parts, which refill each by itself.
fn back(took: Duration) -> u32 {
    u32::try_from(took.as_secs() * u64::from(BUDGET) / 3600).unwrap_or(u32::MAX).saturating_add(PARTS)
}

/// The most that may be compared: the first guess at each code, and what everyone has and gets back.
fn most(took: Duration) -> u32 {
    NUMBERS + BUDGET + back(took)
}

/// The probability that one of so many guesses is right.
fn odds(guesses: u32) -> f64 {
    1.0 - (1.0 - 1.0 / CODES).powf(f64::from(guesses))
}

fn print(report: &mut Report, guesses: &Guesses, took: Duration) -> anyhow::Result<()> {
    let compared = guesses.all_compared();
    report.say(format_args!(
        "{} guesses in {:.1} s: {compared} compared (at most {}), {} right, {} refused without a look",
        compared + guesses.refused,
        took.as_secs_f64(),
        most(took),
        guesses.right,
        guesses.refused,
    ))?;
    let seconds: Vec<_> = guesses.compared.iter().map(u32::to_string).collect();
    report.say(format_args!("compared in each second: {}", seconds.join(" ")))?;
    report.say(format_args!(
        "odds to hit one code: {:.2} % with these; {:.2} % with all {} guesses that the codes alone allow",
        100.0 * odds(compared),
        100.0 * odds(NUMBERS * GUESSES),
        NUMBERS * GUESSES,
    ))?;
    report.say(format_args!(
        "in each further hour: {:.2} % with {BUDGET} guesses, and {:.2} % if it also signs up as often as everyone may ({SIGN_UPS}), each time for the price of a message",
        100.0 * odds(BUDGET),
        100.0 * odds(BUDGET + SIGN_UPS),
    ))
}

fn judge(report: &mut Report, guesses: &Guesses, took: Duration) {
    let compared = guesses.all_compared();
    report.promise(
        compared <= most(took),
        format!("{compared} guesses were compared, more than {}", most(took)),
    );
    report.promise(
        compared >= NUMBERS + BUDGET,
        format!("only {compared} guesses were compared: the botnet was too slow to meet the limit"),
    );
    report.promise(guesses.refused > 0, "no guess was refused");
    report.promise(guesses.ill_told == 0, format!("{} were refused without Retry-After", guesses.ill_told));
}

fn told(answer: Answer) -> String {
    match answer {
        Answer::Done => "gets in".to_owned(),
        Answer::Refused { id, retry_after: Some(seconds) } => format!("is refused ({id}) for {seconds} s"),
        Answer::Refused { id, retry_after: None } => format!("is refused ({id})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(compared: Vec<u32>) -> Vec<String> {
        let mut report = Report::new();
        let guesses = Guesses { compared, right: 0, refused: 9000, ill_told: 0 };
        judge(&mut report, &guesses, Duration::from_secs(20));
        report.broken().to_vec()
    }

    #[test]
    fn a_botnet_that_is_stopped_is_not_complained_of() {
        assert_eq!(outcome(vec![2000, 1000, 0, 1, 0, 0]), Vec::<String>::new());
        assert_eq!(outcome(vec![2999, 1, 0, 21]), Vec::<String>::new());
    }

    #[test]
    fn a_botnet_that_goes_on_and_one_that_never_met_the_limit_are_found() {
        assert_eq!(outcome(vec![2999, 1, 0, 22]).len(), 1);
        assert_eq!(outcome(vec![1000, 0, 0, 0]).len(), 1);
    }

    #[test]
    fn odds_are_those_of_independent_guesses() {
        assert!((odds(1) - 1e-6).abs() < 1e-12);
        assert!((odds(10_000) - 0.009_950_2).abs() < 1e-6);
    }

    #[test]
    fn guesses_are_added_second_by_second() {
        let wrong = Answer::Refused { id: WRONG_CODE, retry_after: None };
        let (mut sum, mut other) = (Guesses::default(), Guesses::default());
        sum.note(wrong, Duration::from_millis(999)).unwrap();
        other.note(wrong, Duration::from_millis(2500)).unwrap();
        other.note(Answer::Refused { id: NO_GUESSES, retry_after: Some(3) }, Duration::ZERO).unwrap();
        sum.add(other);
        assert_eq!((sum.compared, sum.refused, sum.ill_told), (vec![1, 0, 1], 1, 0));
    }
}
