use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use time::UtcDateTime;
use vestibule_domain::spending::{Audience, Money, Purse, Spent, Window};
use vestibule_port_storage::Unavailable;

use crate::Application;

/// The shares that are worth telling, in hundredths: of what newcomers may spend, which is when the first are refused. It is seldom reached to the
/// last millionth.
const SHARES: [u8; 3] = [95, 80, 50];

/// The share of the reserve, in hundredths, at which it is as good as used up.
const NEARLY_ALL: u8 = 95;

/// What this process has told the operator of the windows that are going on.
#[derive(Debug, Default)]
pub struct ToldOfSpending(Mutex<HashMap<(Purse, Window, UtcDateTime), Reached>>);

/// How far what was spent has come: the further, the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reached {
    /// So many hundredths of what newcomers may cost.
    Share(u8),
    /// What is kept for customers, or nearly all of it.
    Reserve,
}

impl Application {
    /// Warns the operator where half of what there is for newcomers is spent, four fifths, and nearly all, and where the reserve is used up: once in
    /// each window. Sign-ups tell of the purses that they read, before they are refused; this looks at all of them.
    ///
    /// # Errors
    /// [`Unavailable`]
    pub async fn watch_spending(&self) -> Result<(), Unavailable> {
        let purses = self.settings.spending.purses();
        if purses.is_empty() {
            return Ok(());
        }
        let now = self.clock.now();
        self.told_of_spending.forget_before(now);
        let spent = self.storage.spent(&purses, now).await?;
        self.tell_of_spending(&spent, Money::ZERO, now);
        Ok(())
    }

    /// Warns the operator of what has been reached in these purses, if nobody was told of it. The next message is known to cost so much.
    pub(crate) fn tell_of_spending(&self, spent: &[Spent], next: Money, now: UtcDateTime) {
        let budget = &self.settings.spending;
        for Spent { purse, window, amount } in spent {
            let Some(ceiling) = budget.ceiling(purse).of(*window) else { continue };
            let for_newcomers = ceiling.percent(budget.share(Audience::Newcomer));
            let Some(reached) = reached(*amount, next, for_newcomers, ceiling) else { continue };
            if !self.told_of_spending.is_news((purse.clone(), *window, window.start(now)), reached) {
                continue;
            }
            let window = window.as_str();
            match reached {
                Reached::Share(share) => {
                    tracing::warn!(%purse, window, spent = %amount, %ceiling, %for_newcomers, "{share} per cent of what newcomers may cost is spent");
                }
                Reached::Reserve => {
                    tracing::warn!(%purse, window, spent = %amount, %ceiling, "the reserve is used up or nearly so: customers' messages are refused");
                }
            }
        }
    }
}

/// How far what was spent has come, if that is worth telling.
fn reached(spent: Money, next: Money, for_newcomers: Money, ceiling: Money) -> Option<Reached> {
    let nearly_all = for_newcomers.plus(ceiling.less(for_newcomers).percent(NEARLY_ALL));
    if spent >= nearly_all || spent.plus(next) > ceiling {
        return Some(Reached::Reserve);
    }
    SHARES.into_iter().find(|share| spent >= for_newcomers.percent(*share)).map(Reached::Share)
}

impl ToldOfSpending {
    /// Whether nobody was told of as much.
    fn is_news(&self, of: (Purse, Window, UtcDateTime), reached: Reached) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = told.get(&of).copied() < Some(reached);
        if is_news {
            told.insert(of, reached);
        }
        is_news
    }

    /// Windows that have ended are told of no more.
    fn forget_before(&self, now: UtcDateTime) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|(_, window, start), _| *start == window.start(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a ceiling of 250, of which newcomers have 200.
    fn reached_by(spent: u64, next: u64) -> Option<Reached> {
        let [spent, next, for_newcomers, ceiling] = [spent, next, 200, 250].map(Money::from_micros);
        reached(spent, next, for_newcomers, ceiling)
    }

    #[test]
    fn each_step_is_told_once_in_a_window() {
        let told = ToldOfSpending::default();
        let news = |window: Window, spent| {
            let reached = reached_by(spent, 0).filter(|reached| told.is_news(of(window), *reached));
            told.forget_before(UtcDateTime::UNIX_EPOCH);
            reached
        };
        let [half, most, nearly] = [50, 80, 95].map(|share| Some(Reached::Share(share)));
        let hour = [99, 100, 101, 160, 120, 160, 190, 200].map(|spent| news(Window::Hour, spent));
        assert_eq!(hour, [None, half, None, most, None, None, nearly, None]);
        let day = [199, 200, 246, 247, 230, 250].map(|spent| news(Window::Day, spent));
        assert_eq!(day, [nearly, None, None, Some(Reached::Reserve), None, None]);
        told.forget_before(UtcDateTime::UNIX_EPOCH + time::Duration::HOUR);
        assert_eq!(
            [Window::Hour, Window::Day].map(|window| news(window, 250)),
            [Some(Reached::Reserve), None]
        );
    }

    #[test]
    fn the_reserve_is_used_up_where_the_next_message_finds_no_room() {
        assert_eq!(reached_by(241, 9), Some(Reached::Share(95)));
        assert_eq!(reached_by(241, 10), Some(Reached::Reserve));
    }

    fn of(window: Window) -> (Purse, Window, UtcDateTime) {
        (Purse::All, window, UtcDateTime::UNIX_EPOCH)
    }
}
