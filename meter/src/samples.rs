use std::time::Duration;

use anyhow::Context as _;
use tokio::time::{MissedTickBehavior, interval};

use crate::client::{Answer, Client};
use crate::probe::Probe;

/// Turns that are not counted, while the connection is made, caches fill and statements are prepared.
const WARM_UP: u32 = 16;

/// What is to be measured.
#[derive(Debug)]
pub struct Plan {
    /// The step.
    pub probe: Probe,
    /// Numbers that have an account.
    pub known: Vec<String>,
    /// Numbers that have none.
    pub unknown: Vec<String>,
    /// Samples of each population. Numbers come again when there are fewer.
    pub samples: u32,
    /// Requests in a second, at most.
    pub rate: f64,
}

/// What both populations were answered.
#[derive(Debug, Default)]
pub struct Samples {
    /// Those with an account.
    pub known: Vec<Answer>,
    /// Those without.
    pub unknown: Vec<Answer>,
}

/// Whose turn it is: of every two turns one of each kind, in the order of Thue and Morse, which is fair to both while the machine
/// becomes faster or slower, and in which neither kind always comes after the other.
#[must_use]
pub const fn is_turn_of_first(turn: u32) -> bool {
    turn.count_ones().is_multiple_of(2)
}

/// Takes the step with both populations in turns, one request at a time.
///
/// # Errors
/// A population is empty, or an answer does not come.
pub async fn take(client: &Client, plan: &Plan) -> anyhow::Result<Samples> {
    anyhow::ensure!(plan.rate > 0.0, "the rate must be positive");
    let mut samples = Samples::default();
    let (mut known, mut unknown) = (plan.known.iter().cycle(), plan.unknown.iter().cycle());
    let mut pace = interval(Duration::from_secs_f64(1.0 / plan.rate));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for turn in 0..WARM_UP.saturating_add(plan.samples.saturating_mul(2)) {
        let (numbers, answers) = if is_turn_of_first(turn) {
            (&mut known, &mut samples.known)
        } else {
            (&mut unknown, &mut samples.unknown)
        };
        let phone = numbers.next().context("a population has no numbers")?;
        pace.tick().await;
        let answer = client.post(plan.probe.path(), &plan.probe.body(phone)).await?;
        if turn >= WARM_UP {
            answers.push(answer);
        }
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_two_turns_are_one_of_each_kind_in_either_order() {
        let turns: Vec<_> = (0..64).map(is_turn_of_first).collect();
        assert!(turns.chunks(2).all(|pair| pair.iter().filter(|is_first| **is_first).count() == 1));
        let first_begins = turns.chunks(2).filter(|pair| pair.first() == Some(&true)).count();
        assert_eq!(first_begins, 16);
    }
}
