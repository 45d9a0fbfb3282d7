use std::collections::HashMap;

use time::UtcDateTime;
use vestibule_domain::spending::{Audience, Money, Purse, Spent, Window};
use vestibule_port_storage::Unavailable;

use crate::Application;

/// The shares that are worth telling, in hundredths: of what newcomers may spend, which is when the first are refused. It is seldom reached to the
/// last millionth.
const SHARES: [u8; 3] = [95, 80, 50];

/// What this process has told the operator of the windows that are going on.
#[derive(Debug, Default)]
pub struct ToldOfSpending(HashMap<(Purse, Window, UtcDateTime), u8>);

impl Application {
    /// Warns the operator where half of what there is for newcomers is spent, four fifths, and nearly all: once in each window.
    ///
    /// # Errors
    /// [`Unavailable`]
    pub async fn watch_spending(&self, told: &mut ToldOfSpending) -> Result<(), Unavailable> {
        let budget = &self.settings.spending;
        let purses = budget.purses();
        if purses.is_empty() {
            return Ok(());
        }
        let now = self.clock.now();
        told.0.retain(|(_, window, start), _| *start == window.start(now));
        for Spent { purse, window, amount } in self.storage.spent(&purses, now).await? {
            let Some(ceiling) = budget.ceiling(&purse).of(window) else { continue };
            let for_newcomers = ceiling.percent(budget.share(Audience::Newcomer));
            let share = told.news((purse.clone(), window, window.start(now)), amount, for_newcomers);
            if let Some(share) = share {
                let window = window.as_str();
                tracing::warn!(%purse, window, spent = %amount, %ceiling, %for_newcomers, "{share} per cent of what newcomers may cost is spent");
            }
        }
        Ok(())
    }
}

impl ToldOfSpending {
    /// The share that has been reached, if nobody was told of it.
    fn news(&mut self, of: (Purse, Window, UtcDateTime), spent: Money, ceiling: Money) -> Option<u8> {
        let share = SHARES.into_iter().find(|share| spent >= ceiling.percent(*share))?;
        let told = self.0.entry(of).or_default();
        let is_news = *told < share;
        *told = share.max(*told);
        is_news.then_some(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_share_is_told_once_in_a_window() {
        let mut told = ToldOfSpending::default();
        let mut news = |window, spent| {
            let of = (Purse::All, window, UtcDateTime::UNIX_EPOCH);
            told.news(of, Money::from_micros(spent), Money::from_micros(200))
        };
        let hour = [99, 100, 101, 160, 120, 160, 190, 200].map(|spent| news(Window::Hour, spent));
        assert_eq!(hour, [None, Some(50), None, Some(80), None, None, Some(95), None]);
        assert_eq!([news(Window::Day, 199), news(Window::Day, 200)], [Some(95), None]);
    }
}
