use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use time::UtcDateTime;

use super::{HeldCodes, Mode, PumpingGuard, TracedCode, Traffic, judge};
use crate::limits::{Charge, Limit, Tally};
use crate::spending::Money;

/// What another guard would have done with what happened, event by event as time went by.
///
/// It knows no more than was recorded: of a code that was held back nobody can say whether it would have come back, so it is taken for lost;
/// who would have been held back is taken to have come no second time; and each code counts as the first to its number.
#[derive(Debug)]
pub struct Replay {
    guard: PumpingGuard,
    budgets: HashMap<Limit, UtcDateTime>,
    /// Codes that will come back, the next one first.
    coming_back: BinaryHeap<Reverse<(UtcDateTime, Traffic)>>,
    turn: u8,
    so_far: Replayed,
}

/// What a guard would have done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Replayed {
    /// Codes that would have been sent.
    pub sent: u64,
    /// Those of them that came back.
    pub confirmed: u64,
    /// What they would have cost.
    pub cost: Money,
    /// Codes that would have been held back.
    pub held_back: u64,
    /// Those of them that were sent and came back: customers who would have been turned away.
    pub turned_away: u64,
    /// What those that were held back would have cost.
    pub spared: Money,
    /// Codes that were held back, and would have been sent.
    pub let_through: u64,
}

impl Replay {
    /// With full budgets. The guard is taken to enforce, whatever its mode.
    #[must_use]
    pub fn new(guard: &PumpingGuard) -> Self {
        let guard = PumpingGuard { mode: Mode::Enforce, ..guard.clone() };
        let (budgets, coming_back) = (HashMap::new(), BinaryHeap::new());
        Self { guard, budgets, coming_back, turn: 0, so_far: Replayed::default() }
    }

    /// A code that was sent, no earlier than what was replayed before.
    pub fn sent(&mut self, code: &TracedCode) {
        let Some(price) = code.sent.price else { return };
        let has_returned = code.confirmed_at.is_some();
        if self.admit(&code.sent.traffic, code.sent.at) {
            self.so_far.sent += 1;
            self.so_far.confirmed += u64::from(has_returned);
            self.so_far.cost = self.so_far.cost.plus(price);
            let returns = code.confirmed_at.map(|at| Reverse((at, code.sent.traffic)));
            self.coming_back.extend(returns);
        } else {
            self.so_far.held_back += 1;
            self.so_far.turned_away += u64::from(has_returned);
            self.so_far.spared = self.so_far.spared.plus(price);
        }
    }

    /// Codes that were held back, no earlier than what was replayed before. Those that the guard only objected to were sent: they are
    /// no event of their own.
    pub fn held(&mut self, held: &HeldCodes) {
        if !held.enforced {
            return;
        }
        for _ in 0..held.count {
            if self.admit(&held.traffic, held.at) {
                self.so_far.sent += 1;
                self.so_far.let_through += 1;
                self.so_far.cost = self.so_far.cost.plus(held.price);
            } else {
                self.so_far.held_back += 1;
                self.so_far.spared = self.so_far.spared.plus(held.price);
            }
        }
    }

    /// What it would have done.
    #[must_use]
    pub const fn outcome(&self) -> Replayed {
        self.so_far
    }

    /// Whether a code would be sent now; if so its budgets are charged.
    fn admit(&mut self, traffic: &Traffic, now: UtcDateTime) -> bool {
        self.come_back(now);
        let chance = self.chance();
        let left = |charge: &Charge| self.budgets.get(&charge.limit).copied();
        let judge_all = |charges: &[Charge], part| {
            charges.iter().try_for_each(|charge| judge(charge, part, left(charge), || chance))
        };
        let Ok(part) = self.guard.admit(traffic, 0, now, judge_all) else { return false };
        self.apply(&self.guard.sent(traffic, part, 0, now));
        true
    }

    /// Whatever has come back by now.
    fn come_back(&mut self, now: UtcDateTime) {
        while let Some(Reverse((at, traffic))) = self.coming_back.peek().copied()
            && at <= now
        {
            self.coming_back.pop();
            self.apply(&self.guard.returned(&traffic, 1, at));
        }
    }

    fn apply(&mut self, tallies: &[Tally]) {
        for tally in tallies {
            let full_at = tally.apply(self.budgets.get(&tally.limit).copied());
            self.budgets.insert(tally.limit, full_at);
        }
    }

    /// All numbers below 100 in turn, spread evenly: the same events have the same outcome.
    fn chance(&mut self) -> u8 {
        self.turn = (self.turn + 61) % 100;
        self.turn
    }
}
