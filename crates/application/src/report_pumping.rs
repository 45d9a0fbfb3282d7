use std::cmp::Reverse;
use std::pin::pin;

use futures_util::stream::{Stream, TryStreamExt as _, iter, try_unfold};
use time::UtcDateTime;
use vestibule_domain::limits::{Charge, Scope, Step};
use vestibule_domain::pumping::{HeldCodes, PumpingGuard, Replay, Replayed, Report, TracedCode, judge};
use vestibule_port_storage::{Page, Storage, Unavailable};

use crate::Application;

/// Records that are read at once.
const PAGE: u32 = 1000;

/// Budgets that are looked at to find those that are used up.
const MAX_IN_USE: u32 = 10_000;

/// A budget of the guard against pumping that is more than half used up, or a reserve that is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LowBudget {
    /// What a code that is sent charges there.
    pub charge: Charge,
    /// How much of it is used, in hundredths.
    pub used_percent: u8,
    /// Whether all codes are held back; else some by chance.
    pub is_empty: bool,
}

impl Application {
    /// What went out since then, what came back, and what was held back.
    ///
    /// # Errors
    /// [`Unavailable`]
    pub async fn pumping_report(&self, since: UtcDateTime) -> Result<Report, Unavailable> {
        let mut report = Report::default();
        let mut sent = pin!(sent_codes(&*self.storage, since));
        while let Some(code) = sent.try_next().await? {
            report.sent(&code);
        }
        let mut held = pin!(held_codes(&*self.storage, since));
        while let Some(codes) = held.try_next().await? {
            report.held(&codes);
        }
        Ok(report)
    }

    /// What another guard would have done with what has happened since then.
    ///
    /// # Errors
    /// [`Unavailable`]
    pub async fn pumping_replay(
        &self,
        guard: &PumpingGuard,
        since: UtcDateTime,
    ) -> Result<Replayed, Unavailable> {
        let mut replay = Replay::new(guard);
        let mut sent = pin!(sent_codes(&*self.storage, since));
        let mut held = pin!(held_codes(&*self.storage, since));
        let (mut next_sent, mut next_held) = (sent.try_next().await?, held.try_next().await?);
        loop {
            let is_first = |code: &mut TracedCode| next_held.is_none_or(|codes| code.sent.at <= codes.at);
            if let Some(code) = next_sent.take_if(is_first) {
                replay.sent(&code);
                next_sent = sent.try_next().await?;
            } else if let Some(codes) = next_held.take() {
                replay.held(&codes);
                next_held = held.try_next().await?;
            } else {
                return Ok(replay.outcome());
            }
        }
    }

    /// Where sign-ups are held back now, or would be if the guard did not only observe; the most used budgets first.
    ///
    /// # Errors
    /// [`Unavailable`]
    pub async fn low_pumping_budgets(&self) -> Result<Vec<LowBudget>, Unavailable> {
        let now = self.clock.now();
        let mut in_use = self.storage.budgets_in_use(Step::Code, now, MAX_IN_USE).await?.0;
        let reserves = self.storage.budgets_in_use(Step::ReserveCode, now, MAX_IN_USE).await?.0;
        // What one block may take of them is soon used up, and says nothing.
        in_use.extend(reserves.into_iter().filter(|(limit, _)| !matches!(limit.scope, Scope::Block(_))));
        let low = in_use.into_iter().filter_map(|(limit, level)| {
            let charge = self.settings.pumping.charge(limit, now);
            let (quota, full_at) = level.fullest(charge.quota);
            let of_part = Charge { quota, ..charge };
            // The least of chances finds whatever is slowed.
            judge(&of_part, full_at, || 0).err()?;
            let is_empty = of_part.decide(full_at).is_err();
            Some(LowBudget { charge, used_percent: of_part.used_percent(full_at), is_empty })
        });
        let mut low: Vec<_> = low.collect();
        low.sort_by_key(|low| (Reverse(low.used_percent), low.charge.limit.to_string()));
        Ok(low)
    }
}

/// In the order of time, read a page at a time.
fn sent_codes(
    storage: &dyn Storage,
    since: UtcDateTime,
) -> impl Stream<Item = Result<TracedCode, Unavailable>> {
    let pages = try_unfold(Page { since, after: None, limit: PAGE }, async |page| {
        let codes = storage.sent_codes(page).await?;
        let after = codes.last().map(|code| (code.sent.at, code.sent.message.uuid()));
        Ok(after.map(|after| (iter(codes.into_iter().map(Ok)), Page { after: Some(after), ..page })))
    });
    pages.try_flatten()
}

/// In the order of time, read a page at a time.
fn held_codes(
    storage: &dyn Storage,
    since: UtcDateTime,
) -> impl Stream<Item = Result<HeldCodes, Unavailable>> {
    let pages = try_unfold(Page { since, after: None, limit: PAGE }, async |page| {
        let held = storage.held_codes(page).await?;
        let after = held.last().map(|(id, codes)| (codes.at, *id));
        let codes = iter(held.into_iter().map(|(_, codes)| Ok(codes)));
        Ok(after.map(|after| (codes, Page { after: Some(after), ..page })))
    });
    pages.try_flatten()
}
