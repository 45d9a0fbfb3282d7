//! The guard against SMS pumping: sign-ups that nobody wants but who earns by the messages.
//!
//! A person who asks for a code types it. So each code that is sent takes a unit of a budget, and each that comes back returns more units than
//! it took: four, where at least one code in four comes back when nothing is wrong. There are budgets for the range of
//! numbers that the code goes to, for the block of addresses that asks, and for the country. Where codes come back as they should, a budget
//! stays full whatever the traffic. Where they do not, it runs out: in its second half ever more sign-ups are refused by chance, at its end all are.
//! Budgets also fill slowly by themselves, so that a few codes go out to try; once these come back, so do the units, and it opens again.
//!
//! Beside what all share, a range and a country keep a reserve of which each block of addresses may take a little: whoever closes
//! them from a few blocks does not close them to everybody else. See [`Part`].
//!
//! Nobody needs to be told of an attack for it to end, and what is borne of it is said before: see [`PumpingGuard::unconfirmed`].
//!
//! Not here: limits of how often ([`limits`](crate::limits)), and what messages may cost ([`spending`](crate::spending)), which bind an attacker who lets
//! codes come back.

mod defaults;
mod replay;
mod report;
mod unsent;

use std::collections::HashMap;
use std::time::Duration;

use time::UtcDateTime;

use crate::limits::{AddressBlock, Charge, Limit, Scope, Step, Tally, Unit};
use crate::quota::Quota;
use crate::spending::Money;
use crate::{AttemptId, ClientAddress, Country, MessageId, NumberRange, PhoneNumber};

pub use replay::{Replay, Replayed};
pub use report::{Report, Row};

/// How long somebody is told to wait who was refused by chance.
const SLOWED_FOR: Duration = Duration::from_mins(1);

/// How long somebody is told to wait at most who was refused at a budget's end: it may open whenever codes come back.
const STOPPED_FOR: Duration = Duration::from_mins(15);

/// How much of a budget may be used, in hundredths, before sign-ups are slowed.
const OPEN_PERCENT: u8 = 50;

/// Codes to one number within a day that are held against its range. Further ones need a unit there and leave it: or else who signs up one
/// number again and again would close its range, and keep its owner out.
pub const CODES_PER_NUMBER: u32 = 10;

/// Codes of one block of addresses that reserves bear within twice [`forget_after`](PumpingGuard::forget_after): one that is sent, and one that is
/// sent again.
pub const RESERVE_OF_A_BLOCK: u32 = 2;

/// Codes that the reserve of a range bears in that time, and that of a country at least: what thirty blocks may take of it. Whoever has fewer than twenty, as
/// many as have a place at a number by default, so leaves more than a third to others.
const LEAST_RESERVE: u32 = 30 * RESERVE_OF_A_BLOCK;

/// What becomes of what the guard finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Nothing is counted.
    Off,
    /// It is counted and recorded, and nobody is refused.
    #[default]
    Observe,
    /// Sign-ups are refused.
    Enforce,
}

/// What is normal in a country, and how much that is not is borne.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountryNorm {
    /// The share of codes that come back at least when nothing is wrong, in hundredths; 1 to 100.
    pub confirmed_percent: u8,
    /// Codes of the whole country that may be on their way or lost.
    pub unconfirmed: u32,
}

/// The rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PumpingGuard {
    /// What becomes of what it finds.
    pub mode: Mode,
    /// Of countries that have no norm of their own.
    pub norm: CountryNorm,
    /// Of some countries.
    pub countries: HashMap<Country, CountryNorm>,
    /// Codes to one range of numbers that may be on their way or lost.
    pub unconfirmed_per_range: u32,
    /// Codes that were asked for from one block of addresses and may be on their way or lost.
    pub unconfirmed_per_block: u32,
    /// How long it takes until what was lost is forgotten: an empty budget is full again.
    pub forget_after: Duration,
}

/// Where a code goes, and where it was asked for from: what a code's fate is held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Traffic {
    /// The range of the number.
    pub range: NumberRange,
    /// The block of the client's address.
    pub block: AddressBlock,
    /// The country of the number, if it is a country's.
    pub country: Option<Country>,
}

impl Traffic {
    /// That of a code to the number, asked for from the address.
    #[must_use]
    pub fn new(to: &PhoneNumber, from: ClientAddress) -> Self {
        Self { range: NumberRange::of(to), block: AddressBlock::of(from), country: to.country() }
    }
}

/// Which part of the budgets bears a code.
///
/// Who knows a number can sign its neighbours up until their range is closed, and so could keep its owner out. But what he has beyond a name and
/// a device, which cost nothing, are a few blocks of addresses. So a range and a country have a reserve beside what all share: for a range what thirty blocks
/// may take of it, for a country half of what is shared if that is more. Where what is shared holds a code back, the reserve bears it, so many of each block. It does not slow, and
/// fills by itself only, in twice [`forget_after`](PumpingGuard::forget_after).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// What all share.
    Shared,
    /// What is kept beside it, of which each block may take a little.
    Reserve,
    /// None of it: the code goes out because the guard only observes.
    Neither,
}

/// Why a sign-up is held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// More than half of the budget is used: refused by chance.
    Slowed,
    /// The budget is empty.
    Stopped,
}

impl Reason {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Slowed, Self::Stopped];

    /// The name in storage and in print.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Slowed => "slowed",
            Self::Stopped => "stopped",
        }
    }

    /// The reason of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }
}

/// The guard would not let a sign-up pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Objection {
    /// Which budget speaks against it.
    pub limit: Limit,
    /// Why.
    pub reason: Reason,
    /// How long to wait.
    pub retry_after: Duration,
}

/// A code that was queued for a sign-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentCode {
    /// The message.
    pub message: MessageId,
    /// Whose it is.
    pub attempt: AttemptId,
    /// Where it goes.
    pub traffic: Traffic,
    /// What it costs; `None` where nothing is sent: it is only queued to look like others, or was given up before anybody can have taken it.
    pub price: Option<Money>,
    /// Which part of the budgets bears it.
    pub part: Part,
    /// What became of the unit of its range: see [`CODES_PER_NUMBER`].
    pub range_unit: Unit,
    /// When.
    pub at: UtcDateTime,
}

/// A code with what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracedCode {
    /// The code.
    pub sent: SentCode,
    /// When it came back.
    pub confirmed_at: Option<UtcDateTime>,
    /// Who has carried it, where that is known still.
    pub provider: Option<String>,
}

/// Codes that the guard held back, or would have: as many alike as there were within about a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldCodes {
    /// Where they would have gone.
    pub traffic: Traffic,
    /// Which budget spoke against them.
    pub limit: Limit,
    /// Why.
    pub reason: Reason,
    /// Whether they were refused; else they went out.
    pub enforced: bool,
    /// What one of them would have cost.
    pub price: Money,
    /// How many.
    pub count: u32,
    /// When.
    pub at: UtcDateTime,
}

impl PumpingGuard {
    /// The norm of a country.
    #[must_use]
    pub fn norm(&self, country: Option<Country>) -> CountryNorm {
        country.and_then(|country| self.countries.get(&country)).copied().unwrap_or(self.norm)
    }

    /// Which part of its budgets bears a code, where the guard lets it pass. `sent_before` are the codes that were sent to the number
    /// within a day: see [`CODES_PER_NUMBER`]. `judge` holds charges against what is left, as [`judge`] does.
    ///
    /// # Errors
    /// The first objection that the shared budgets have. A block has no reserve for itself.
    pub fn admit(
        &self,
        traffic: &Traffic,
        sent_before: u32,
        now: UtcDateTime,
        judge: impl Fn(&[Charge]) -> Result<(), Objection>,
    ) -> Result<Part, Objection> {
        let passes = |part| judge(&self.charges(traffic, part, sent_before, now)).map(|()| part);
        passes(Part::Shared).or_else(|objection| match objection.limit.scope {
            Scope::Range(_) | Scope::Country(_) => passes(Part::Reserve).map_err(|_| objection),
            _ => Err(objection),
        })
    }

    /// The budgets that a code is held against, the narrowest first; none if the guard is off. Each must have a unit where the guard
    /// enforces. `sent_before` as for [`admit`](Self::admit).
    #[must_use]
    pub fn charges(&self, traffic: &Traffic, part: Part, sent_before: u32, now: UtcDateTime) -> Vec<Charge> {
        if self.mode == Mode::Off {
            return Vec::new();
        }
        let step = match part {
            Part::Shared => Step::Code,
            Part::Reserve => Step::ReserveCode,
            Part::Neither => return Vec::new(),
        };
        let charge = |step, scope| self.charge(Limit { step, scope }, now);
        let block = Scope::Block(traffic.block);
        let of_block = charge(Step::Code, block);
        let of_reserve = (part == Part::Reserve).then(|| charge(step, block));
        let of_range =
            Charge { unit: unit_of_range(sent_before), ..charge(step, Scope::Range(traffic.range)) };
        let of_country = traffic.country.map(|country| charge(step, Scope::Country(country)));
        [of_block].into_iter().chain(of_reserve).chain([of_range]).chain(of_country).collect()
    }

    /// The budgets that say which part bears a code; none if the guard is off.
    #[must_use]
    pub fn limits(&self, traffic: &Traffic, now: UtcDateTime) -> Vec<Limit> {
        let charges = [Part::Shared, Part::Reserve].map(|part| self.charges(traffic, part, 0, now));
        let [shared, reserve] = charges.map(|charges| charges.into_iter().map(|charge| charge.limit));
        // The block's own stands in both.
        shared.chain(reserve.skip(1)).collect()
    }

    /// The charge of a budget of the guard, whatever the mode.
    #[must_use]
    pub fn charge(&self, limit: Limit, now: UtcDateTime) -> Charge {
        let quota = match limit.step {
            Step::ReserveCode => Quota { burst: self.reserve(limit.scope), period: self.forget_after * 2 },
            _ => Quota { burst: self.unconfirmed(limit.scope), period: self.forget_after },
        };
        Charge { limit, quota, unit: Unit::Taken, now }
    }

    /// How many codes that count there are sent, if none comes back, before what all share is used; and as many again in
    /// [`forget_after`](Self::forget_after), to try. All codes count, but for a range's: see [`CODES_PER_NUMBER`].
    #[must_use]
    pub fn unconfirmed(&self, scope: Scope) -> u32 {
        match scope {
            Scope::Range(_) => self.unconfirmed_per_range,
            Scope::Country(country) => self.norm(Some(country)).unconfirmed,
            Scope::Block(_)
            | Scope::Device(_)
            | Scope::Address(_)
            | Scope::Merchant(_)
            | Scope::Account(_)
            | Scope::Everyone => self.unconfirmed_per_block,
        }
    }

    /// How many codes the reserve of a range or a country bears within twice [`forget_after`](Self::forget_after), or reserves bear of a block.
    #[must_use]
    pub fn reserve(&self, scope: Scope) -> u32 {
        match scope {
            Scope::Range(_) => LEAST_RESERVE,
            Scope::Country(_) => LEAST_RESERVE.max(self.unconfirmed(scope) / 2),
            Scope::Block(_)
            | Scope::Device(_)
            | Scope::Address(_)
            | Scope::Merchant(_)
            | Scope::Account(_)
            | Scope::Everyone => RESERVE_OF_A_BLOCK,
        }
    }

    /// What a code that goes out changes, where the guard only observes.
    #[must_use]
    pub fn sent(&self, traffic: &Traffic, part: Part, sent_before: u32, now: UtcDateTime) -> Vec<Tally> {
        let charges = self.charges(traffic, part, sent_before, now).into_iter();
        charges.filter(|charge| charge.unit == Unit::Taken).map(|charge| tally(charge, 1, 0)).collect()
    }

    /// What changes when a code comes back that took so many messages.
    #[must_use]
    pub fn returned(&self, traffic: &Traffic, messages: u32, now: UtcDateTime) -> Vec<Tally> {
        let percent = u32::from(self.norm(traffic.country).confirmed_percent.clamp(1, 100));
        let units = messages.saturating_mul(100 * 100) / percent;
        let charges = self.charges(traffic, Part::Shared, 0, now).into_iter();
        charges.map(|charge| tally(charge, 0, units)).collect()
    }
}

const fn tally(Charge { limit, quota, now, .. }: Charge, taken: u32, returned_percent: u32) -> Tally {
    Tally { limit, quota, taken, returned_percent, now }
}

/// What becomes of the unit of a range that a code must find, to whose number so many were sent within a day: see [`CODES_PER_NUMBER`].
#[must_use]
pub const fn unit_of_range(sent_before: u32) -> Unit {
    if sent_before < CODES_PER_NUMBER { Unit::Taken } else { Unit::Kept }
}

/// What one budget has to say of a code that would be charged to it.
///
/// `full_at` is when the budget is full again. `chance` gives numbers below 100, all alike; it is asked only where sign-ups are slowed, which reserves do
/// not.
///
/// # Errors
/// [`Objection`]
pub fn judge(
    charge: &Charge,
    full_at: Option<UtcDateTime>,
    chance: impl FnOnce() -> u8,
) -> Result<(), Objection> {
    let objection = |reason, retry_after| Objection { limit: charge.limit, reason, retry_after };
    let stopped = |retry_after: Duration| objection(Reason::Stopped, retry_after.min(STOPPED_FOR));
    charge.decide(full_at).map_err(stopped)?;
    let beyond = charge.used_percent(full_at).saturating_sub(OPEN_PERCENT);
    if charge.limit.step == Step::Code && beyond > 0 && chance() < beyond.saturating_mul(2) {
        return Err(objection(Reason::Slowed, SLOWED_FOR));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
