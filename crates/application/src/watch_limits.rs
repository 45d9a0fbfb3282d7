use std::collections::HashSet;

use vestibule_domain::limits::Step;
use vestibule_port_storage::Unavailable;

use crate::Application;

/// The share of a budget that is left, in hundredths, at which the operator is told; and the share at which it may be told again.
const NEARLY_SPENT: u64 = 5;
const RECOVERED: u64 = 50;

/// What this process has told the operator of budgets that are nearly spent.
#[derive(Debug, Default)]
pub struct ToldOfLimits(HashSet<Step>);

impl Application {
    /// Warns the operator where everyone's budget of a step is spent, or nearly so: then everybody is refused because of somebody, who
    /// has many addresses. Once, until half of it has grown back. Returns the steps that were told of.
    ///
    /// # Errors
    /// [`Unavailable`]
    pub async fn watch_limits(&self, told: &mut ToldOfLimits) -> Result<Vec<Step>, Unavailable> {
        let everyones = Step::ALL.into_iter().filter_map(|step| self.settings.quotas.everyones(step));
        let (limits, quotas): (Vec<_>, Vec<_>) = everyones.unzip();
        let budgets = self.storage.budgets(&limits).await?;
        let now = self.clock.now();
        let mut news = Vec::new();
        for (limit, quota) in limits.into_iter().zip(quotas) {
            let percent = budgets.0.get(&limit).map_or(100, |level| {
                let (part, full_at) = level.fullest(quota);
                let left = u64::from(part.left(full_at, now));
                left * 100 / u64::from(part.burst.max(1))
            });
            if told.is_news(limit.step, percent) {
                let step = limit.step.as_str();
                tracing::warn!(step, "everyone's budget is spent or nearly so: everybody may be refused");
                news.push(limit.step);
            }
        }
        Ok(news)
    }
}

impl ToldOfLimits {
    fn is_news(&mut self, step: Step, percent_left: u64) -> bool {
        if percent_left >= RECOVERED {
            self.0.remove(&step);
        }
        percent_left <= NEARLY_SPENT && self.0.insert(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spent_budget_is_told_once_until_it_has_recovered() {
        let mut told = ToldOfLimits::default();
        let news = [100, 6, 5, 0, 20, 3, 50, 4].map(|left| told.is_news(Step::CodeGuess, left));
        assert_eq!(news, [false, false, true, false, false, false, false, true]);
        assert!(told.is_news(Step::Reset, 0), "each step is told on its own");
    }
}
