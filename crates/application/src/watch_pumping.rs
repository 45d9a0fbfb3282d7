use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use time::UtcDateTime;
use vestibule_domain::limits::{Charge, Limit, Scope, Tally};
use vestibule_domain::pumping::{HeldCodes, Mode, Objection, Part, Reason, SentCode, Traffic, unit_of_range};
use vestibule_domain::spending::Money;
use vestibule_domain::{AccountKind, ClientAddress, Message, PhoneNumber};
use vestibule_metrics::objected;
use vestibule_port_storage::{Budgets, Unavailable};

use crate::{Application, Codes};

/// Different records that wait to be written, at most. Storage is down, or somebody tries very many things at once, when there are more.
const MAX_WAITING: usize = 4096;

/// How long the operator is not told again that sign-ups are held back somewhere.
const TOLD_FOR: Duration = Duration::from_hours(1);

/// What makes records of one second alike.
type Kind = (Traffic, Limit, Reason, bool);

/// What this process has held back, or would have, and not yet recorded.
#[derive(Debug, Default)]
pub struct HeldBack(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    held: HashMap<Kind, (Money, u32)>,
    /// Codes of kinds that there was no room for.
    uncounted: u64,
    /// Where the operator was told of it, and when.
    told: HashMap<Scope, UtcDateTime>,
}

impl HeldBack {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn add(&mut self, kind: Kind, price: Money, count: u32) {
        if self.held.len() >= MAX_WAITING && !self.held.contains_key(&kind) {
            self.uncounted += u64::from(count);
            return;
        }
        let (dearest, counted) = self.held.entry(kind).or_default();
        *dearest = price.max(*dearest);
        *counted = counted.saturating_add(count);
    }

    /// Whether it is news that sign-ups are held back there.
    fn is_news(&mut self, scope: Scope, now: UtcDateTime) -> bool {
        self.told.retain(|_, at| now - *at < TOLD_FOR);
        if self.told.len() >= MAX_WAITING || self.told.contains_key(&scope) {
            return false;
        }
        self.told.insert(scope, now).is_none()
    }
}

/// A code that the guard against pumping has to do with.
pub(crate) struct Watched {
    traffic: Traffic,
    limits: Vec<Limit>,
    sent_before: u32,
}

impl Watched {
    /// The budgets that it is held against.
    pub(crate) fn limits(&self) -> &[Limit] {
        &self.limits
    }
}

impl Application {
    /// A code to the number, to which so many were sent within a day; nothing where none is sent, for a test number, or the guard is off.
    pub(crate) fn watched(
        &self,
        to: &PhoneNumber,
        from: ClientAddress,
        sent_before: u32,
        codes: &Codes<'_>,
        now: UtcDateTime,
    ) -> Option<Watched> {
        let guard = &self.settings.pumping;
        if guard.mode == Mode::Off || codes.kind() == AccountKind::Test {
            return None;
        }
        let traffic = Traffic::new(to, from);
        Some(Watched { traffic, limits: guard.limits(&traffic, now), sent_before })
    }

    /// Which part of the guard's budgets bears a code, if they are so. What it holds back is recorded, and so is what it would if it did not only
    /// observe.
    ///
    /// # Errors
    /// How long to wait.
    pub(crate) fn pass_guard(
        &self,
        watched: Option<&Watched>,
        to: &PhoneNumber,
        budgets: &Budgets,
        now: UtcDateTime,
    ) -> Result<Part, Duration> {
        watched
            .map_or(Ok(Part::Neither), |watched| self.judge_code(watched, to, budgets, now, || self.chance()))
    }

    fn judge_code(
        &self,
        watched: &Watched,
        to: &PhoneNumber,
        budgets: &Budgets,
        now: UtcDateTime,
        chance: impl Fn() -> u8,
    ) -> Result<Part, Duration> {
        let Watched { traffic, sent_before, .. } = watched;
        let guard = &self.settings.pumping;
        let judge = |charges: &[Charge]| budgets.judge(charges, &chance);
        guard.admit(traffic, *sent_before, now, judge).or_else(|objection| {
            self.note(watched, objection, to);
            match guard.mode {
                Mode::Enforce => Err(objection.retry_after),
                Mode::Observe | Mode::Off => Ok(Part::Neither),
            }
        })
    }

    /// What to do after a commit was refused which had passed the guard just before. Another part of the guard's budgets may bear the code, or the same one
    /// again, as codes come back all the time: that is worth one more try, unless this was it. Where none does, that is recorded.
    ///
    /// # Errors
    /// How long to wait, by the guard's objection, or as the commit was refused.
    pub(crate) async fn pass_guard_again(
        &self,
        watched: Option<&Watched>,
        to: &PhoneNumber,
        refused_for: Duration,
        is_last: bool,
        now: UtcDateTime,
    ) -> Result<Part, Duration> {
        let enforced = watched.filter(|_| self.settings.pumping.mode == Mode::Enforce);
        let watched = enforced.ok_or(refused_for)?;
        // The refusal stands, where it can't be told why.
        let budgets = self.storage.budgets(&watched.limits).await.map_err(|_| refused_for)?;
        // Nothing is slowed by the greatest of chances.
        let part = self.judge_code(watched, to, &budgets, now, || u8::MAX)?;
        if is_last { Err(refused_for) } else { Ok(part) }
    }

    fn note(&self, watched: &Watched, Objection { limit, reason, .. }: Objection, to: &PhoneNumber) {
        let enforced = self.settings.pumping.mode == Mode::Enforce;
        if enforced {
            objected(limit.step.as_str(), limit.scope.kind());
        }
        let price = self.settings.spending.prices.of(to);
        self.held_back.lock().add((watched.traffic, limit, reason, enforced), price, 1);
    }

    /// What a code that goes out charges.
    pub(crate) fn guard_charges(
        &self,
        watched: Option<&Watched>,
        part: Part,
        now: UtcDateTime,
    ) -> Vec<Charge> {
        let enforced = watched.filter(|_| self.settings.pumping.mode == Mode::Enforce);
        let charges = |Watched { traffic, sent_before, .. }: &Watched| {
            self.settings.pumping.charges(traffic, part, *sent_before, now)
        };
        enforced.map(charges).unwrap_or_default()
    }

    /// What a code that goes out is counted as, where nobody is refused.
    pub(crate) fn guard_tallies(
        &self,
        watched: Option<&Watched>,
        part: Part,
        now: UtcDateTime,
    ) -> Vec<Tally> {
        let observed = watched.filter(|_| self.settings.pumping.mode == Mode::Observe);
        let sent = |Watched { traffic, sent_before, .. }: &Watched| {
            self.settings.pumping.sent(traffic, part, *sent_before, now)
        };
        observed.map(sent).unwrap_or_default()
    }

    /// What codes that come back return, after so many messages.
    pub(crate) fn guard_returns(
        &self,
        watched: Option<&Watched>,
        messages: u32,
        now: UtcDateTime,
    ) -> Vec<Tally> {
        let returned = |watched: &Watched| self.settings.pumping.returned(&watched.traffic, messages, now);
        watched.map(returned).unwrap_or_default()
    }

    /// What is recorded of the message with a code.
    pub(crate) fn sent_code(
        &self,
        watched: Option<&Watched>,
        part: Part,
        to: &PhoneNumber,
        message: Option<&Message>,
    ) -> Option<SentCode> {
        let (message, Watched { traffic, sent_before, .. }) = (message?, watched?);
        let is_sent = message.expires_at > message.queued_at;
        Some(SentCode {
            message: message.id,
            attempt: message.content.attempt()?,
            traffic: *traffic,
            price: is_sent.then(|| self.settings.spending.prices.of(to)),
            part,
            range_unit: unit_of_range(*sent_before),
            at: message.queued_at,
        })
    }

    /// Records what was held back since the last time; how many codes that were. Tells the operator once where it began.
    ///
    /// # Errors
    /// [`Unavailable`]; it is recorded the next time.
    pub async fn record_held_back(&self) -> Result<u64, Unavailable> {
        let now = self.clock.now();
        let (held, uncounted) = {
            let mut waiting = self.held_back.lock();
            (std::mem::take(&mut waiting.held), std::mem::take(&mut waiting.uncounted))
        };
        if uncounted > 0 {
            tracing::warn!(uncounted, "more kinds of codes were held back than can be recorded one by one");
        }
        if held.is_empty() {
            return Ok(uncounted);
        }
        let record = |(&(traffic, limit, reason, enforced), &(price, count)): (&Kind, &(Money, u32))| {
            let id = self.entropy.ordered_id(now);
            (id, HeldCodes { traffic, limit, reason, enforced, price, count, at: now })
        };
        let records: Vec<_> = held.iter().map(record).collect();
        if let Err(error) = self.storage.record_held_codes(&records).await {
            let mut waiting = self.held_back.lock();
            for (kind, (price, count)) in held {
                waiting.add(kind, price, count);
            }
            return Err(error);
        }
        let mut waiting = self.held_back.lock();
        for (_, HeldCodes { limit, reason, enforced, .. }) in &records {
            if waiting.is_news(limit.scope, now) {
                let (reason, enforced) = (reason.as_str(), *enforced);
                tracing::warn!(%limit, reason, enforced, "too few codes come back: sign-ups are held back");
            }
        }
        Ok(uncounted + records.iter().map(|(_, held)| u64::from(held.count)).sum::<u64>())
    }

    /// Below 100, all alike.
    fn chance(&self) -> u8 {
        let [a, b, c, d, ..] = self.entropy.bytes();
        u8::try_from(u32::from_le_bytes([a, b, c, d]) % 100).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use vestibule_domain::limits::Step;

    use super::*;

    #[test]
    fn there_is_room_for_so_many_kinds_and_any_number_of_each() {
        let mut waiting = Waiting::default();
        let kind = |number: usize| {
            let phone = PhoneNumber::restore(&format!("+4478{number:04}1234")).unwrap();
            let traffic = Traffic::new(&phone, ClientAddress::of([192, 0, 2, 1].into()));
            let limit = Limit { step: Step::Code, scope: Scope::Range(traffic.range) };
            (traffic, limit, Reason::Stopped, true)
        };
        for number in 0..=MAX_WAITING {
            waiting.add(kind(number), Money::from_micros(1), 1);
        }
        waiting.add(kind(0), Money::from_micros(2), 5);
        assert_eq!((waiting.held.len(), waiting.uncounted), (MAX_WAITING, 1));
        assert_eq!(waiting.held.get(&kind(0)), Some(&(Money::from_micros(2), 6)));
    }

    #[test]
    fn the_operator_is_told_once_an_hour() {
        let (mut waiting, now) = (Waiting::default(), UtcDateTime::UNIX_EPOCH);
        let news =
            [0, 59, 60].map(|minute| waiting.is_news(Scope::Everyone, now + Duration::from_mins(minute)));
        assert_eq!(news, [true, false, true]);
    }
}
