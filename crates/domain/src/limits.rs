//! How often who may do what. The budgets are counted in storage, so that any number of instances have one.
//!
//! Each step is counted for the device that asks, for its address, for the block of addresses around it, and for everyone. What is
//! counted for one phone stands where the phone's own state does, and is saved with it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use time::UtcDateTime;

use crate::quota::Quota;
use crate::{ClientAddress, Country, Fingerprint, MerchantId, NumberRange, Origin, UserId};

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// A sign-up.
    SignUp,
    /// A code that is sent again.
    Resend,
    /// A guess at a code, but for the first at each.
    CodeGuess,
    /// A wrong password from a device that the number does not know.
    PasswordGuess,
    /// A request for a password reset.
    Reset,
    /// A confirmation mail, or the answer that an address is another account's.
    Mail,
    /// A request that names itself by a key, so that its answer is kept.
    KeyedRequest,
    /// A code for a sign-up, until it comes back: see [`pumping`](crate::pumping).
    Code,
    /// A code that the guard's reserve bears: see [`pumping::Part`](crate::pumping::Part).
    ReserveCode,
    /// An SMS that tells the owner of a change to the account.
    Notice,
}

impl Step {
    /// All there are.
    pub const ALL: [Self; 10] = [
        Self::SignUp,
        Self::Resend,
        Self::CodeGuess,
        Self::PasswordGuess,
        Self::Reset,
        Self::Mail,
        Self::KeyedRequest,
        Self::Code,
        Self::ReserveCode,
        Self::Notice,
    ];

    /// Its name in storage.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SignUp => "sign-up",
            Self::Resend => "resend",
            Self::CodeGuess => "code-guess",
            Self::PasswordGuess => "password-guess",
            Self::Reset => "reset",
            Self::Mail => "mail",
            Self::KeyedRequest => "keyed-request",
            Self::Code => "code",
            Self::ReserveCode => "reserve-code",
            Self::Notice => "notice",
        }
    }

    /// The step of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.as_str() == name)
    }
}

/// The addresses around a client's: the /24 of an IPv4 address, the /48 of an IPv6 address, which is what one site is given (RFC 6177).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddressBlock(IpAddr);

impl AddressBlock {
    /// The block that the address lies in.
    #[must_use]
    pub fn of(address: ClientAddress) -> Self {
        Self(match address.ip() {
            IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() >> 8 << 8)),
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 80 << 80)),
        })
    }

    /// The block whose first address this is.
    #[must_use]
    pub fn restore(first: IpAddr) -> Option<Self> {
        let block = Self::of(ClientAddress::of(first));
        (block.0 == first).then_some(block)
    }

    /// The first address of the block, which stands for it.
    #[must_use]
    pub const fn ip(&self) -> IpAddr {
        self.0
    }
}

/// Whose budget it is, the narrowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// A device's that says which it is.
    Device(Fingerprint),
    /// An account's.
    Account(UserId),
    /// An address's.
    Address(ClientAddress),
    /// A block of addresses'.
    Block(AddressBlock),
    /// That of neighbouring phone numbers.
    Range(NumberRange),
    /// A partner's.
    Merchant(MerchantId),
    /// That of a country's phone numbers.
    Country(Country),
    /// Everyone's together.
    Everyone,
}

impl Scope {
    /// The name of its kind, in storage and for the operator. It tells of nobody.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Device(_) => "device",
            Self::Address(_) => "address",
            Self::Block(_) => "block",
            Self::Merchant(_) => "merchant",
            Self::Account(_) => "account",
            Self::Range(_) => "range",
            Self::Country(_) => "country",
            Self::Everyone => "everyone",
        }
    }

    /// The more clients share the budget, the wider it is.
    #[must_use]
    pub const fn width(&self) -> u8 {
        match self {
            Self::Device(_) => 0,
            Self::Account(_) => 1,
            Self::Address(_) => 2,
            Self::Block(_) => 3,
            Self::Range(_) => 4,
            Self::Merchant(_) => 5,
            Self::Country(_) => 6,
            Self::Everyone => 7,
        }
    }
}

/// What is counted, and against whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Limit {
    /// What.
    pub step: Step,
    /// Against whom.
    pub scope: Scope,
}

/// The key that a limit stands under in storage.
impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.step.as_str(), self.scope.kind())?;
        match self.scope {
            Scope::Device(device) => device.digest().iter().try_for_each(|byte| write!(f, "{byte:02x}")),
            Scope::Address(address) => write!(f, "{}", address.ip()),
            Scope::Block(block) => write!(f, "{}", block.ip()),
            Scope::Merchant(merchant) => write!(f, "{merchant}"),
            Scope::Account(user) => write!(f, "{user}"),
            Scope::Range(range) => write!(f, "{range}"),
            Scope::Country(country) => f.write_str(country.as_str()),
            Scope::Everyone => Ok(()),
        }
    }
}

impl Limit {
    /// The limit that stands under the key.
    #[must_use]
    pub fn parse(key: &str) -> Option<Self> {
        let mut parts = key.splitn(3, ':');
        let (step, kind, whose) = (Step::parse(parts.next()?)?, parts.next()?, parts.next()?);
        let scope = match kind {
            "device" => Scope::Device(Fingerprint::restore(digest(whose)?)),
            "address" => Scope::Address(ClientAddress::of(whose.parse().ok()?)),
            "block" => Scope::Block(AddressBlock::restore(whose.parse().ok()?)?),
            "merchant" => Scope::Merchant(MerchantId::parse(whose)?),
            "account" => Scope::Account(UserId::new(whose.parse().ok()?)),
            "range" => Scope::Range(NumberRange::parse(whose)?),
            "country" => Scope::Country(Country::parse(whose).ok()?),
            "everyone" if whose.is_empty() => Scope::Everyone,
            _ => return None,
        };
        Some(Self { step, scope })
    }
}

fn digest(hex: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if hex.len() != 2 * digest.len() {
        return None;
    }
    for (number, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hex.get(2 * number..2 * number + 2)?, 16).ok()?;
    }
    Some(digest)
}

/// A limit that a commit must keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charge {
    /// Whose budget.
    pub limit: Limit,
    /// How large it is.
    pub quota: Quota,
    /// What becomes of the unit that must be there.
    pub unit: Unit,
    /// The present moment.
    pub now: UtcDateTime,
}

/// What becomes of a unit of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// It is taken.
    Taken,
    /// It must be there, and stays.
    Kept,
}

impl Charge {
    /// When the budget is full again after this.
    ///
    /// # Errors
    /// The wait until there is a unit.
    pub fn decide(&self, full_at: Option<UtcDateTime>) -> Result<UtcDateTime, Duration> {
        let taken = self.quota.charge(full_at, self.now)?;
        Ok(match self.unit {
            Unit::Taken => taken,
            Unit::Kept => taken - self.quota.unit(),
        })
    }

    /// How much of the budget is used up, in hundredths, rounded down.
    #[must_use]
    pub fn used_percent(&self, full_at: Option<UtcDateTime>) -> u8 {
        let whole = self.quota.unit() * self.quota.burst.max(1);
        let used =
            full_at.map_or(Duration::ZERO, |full_at| (full_at - self.now).try_into().unwrap_or_default());
        let percent = used.as_micros() * 100 / whole.as_micros().max(1);
        u8::try_from(percent).unwrap_or(100).min(100)
    }
}

/// A correction of a budget that a commit makes whatever is left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Whose budget.
    pub limit: Limit,
    /// How large it is.
    pub quota: Quota,
    /// How many units are taken, as far as there are any.
    pub taken: u32,
    /// How much is given back, as far as there is room, in hundredths of a unit.
    pub returned_percent: u32,
    /// The present moment.
    pub now: UtcDateTime,
}

impl Tally {
    /// When the budget is full again after this; not after now if it is full.
    #[must_use]
    pub fn apply(&self, full_at: Option<UtcDateTime>) -> UtcDateTime {
        let Self { quota, now, .. } = *self;
        let before = full_at.map_or(now, |full_at| full_at.max(now));
        let after = before + quota.unit() * self.taken - quota.unit() * self.returned_percent / 100;
        after.min(now + quota.unit() * quota.burst)
    }
}

/// The budgets of one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepQuotas {
    /// A device's.
    pub device: Quota,
    /// An address's.
    pub address: Quota,
    /// A block of addresses'.
    pub block: Quota,
    /// Everyone's.
    pub everyone: Quota,
}

/// The budgets of all steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quotas {
    /// Of [`Step::SignUp`].
    pub sign_up: StepQuotas,
    /// Of [`Step::Resend`].
    pub resend: StepQuotas,
    /// Of [`Step::CodeGuess`].
    pub code_guess: StepQuotas,
    /// Of [`Step::PasswordGuess`].
    pub password_guess: StepQuotas,
    /// Of [`Step::Reset`].
    pub reset: StepQuotas,
    /// Of [`Step::Mail`].
    pub mail: StepQuotas,
    /// Of [`Step::KeyedRequest`].
    pub keyed_request: StepQuotas,
}

impl Quotas {
    /// The budgets that bear a step from the origin; none bears codes and notices as such. The narrowest come first: who has none of its own left does not touch, nor hold
    /// for a moment, what it shares with others.
    #[must_use]
    pub fn charges(&self, step: Step, origin: &Origin, unit: Unit, now: UtcDateTime) -> Vec<Charge> {
        let Some(quotas) = self.of(step) else { return Vec::new() };
        let device = origin.fingerprint.map(|device| (Scope::Device(device), quotas.device));
        let shared = [
            (Scope::Address(origin.address), quotas.address),
            (Scope::Block(AddressBlock::of(origin.address)), quotas.block),
            (Scope::Everyone, quotas.everyone),
        ];
        let charge = |(scope, quota)| Charge { limit: Limit { step, scope }, quota, unit, now };
        device.into_iter().chain(shared).map(charge).collect()
    }

    /// The budgets that bear a sign-up from the origin: as others, and that of the partner it comes by, where the partner has one of its
    /// own.
    #[must_use]
    pub fn sign_up_charges(
        &self,
        origin: &Origin,
        partner: Option<(MerchantId, Quota)>,
        unit: Unit,
        now: UtcDateTime,
    ) -> Vec<Charge> {
        let mut charges = self.charges(Step::SignUp, origin, unit, now);
        let everyones = charges.pop();
        charges.extend(partner.map(|(merchant, quota)| {
            let limit = Limit { step: Step::SignUp, scope: Scope::Merchant(merchant) };
            Charge { limit, quota, unit, now }
        }));
        charges.extend(everyones);
        charges
    }

    /// Everyone's budget of the step, if there is one, and where it stands.
    #[must_use]
    pub fn everyones(&self, step: Step) -> Option<(Limit, Quota)> {
        Some((Limit { step, scope: Scope::Everyone }, self.of(step)?.everyone))
    }

    const fn of(&self, step: Step) -> Option<&StepQuotas> {
        Some(match step {
            Step::SignUp => &self.sign_up,
            Step::Resend => &self.resend,
            Step::CodeGuess => &self.code_guess,
            Step::PasswordGuess => &self.password_guess,
            Step::Reset => &self.reset,
            Step::Mail => &self.mail,
            Step::KeyedRequest => &self.keyed_request,
            Step::Code | Step::ReserveCode | Step::Notice => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTA: Quota = Quota { burst: 2, period: Duration::from_hours(2) };

    fn address(text: &str) -> ClientAddress {
        ClientAddress::of(text.parse().unwrap())
    }

    #[test]
    fn a_limit_is_found_again_by_its_key() {
        let device = Scope::Device(Fingerprint::of("a").unwrap());
        let addresses = ["192.0.2.7", "2001:db8:1:2::3"].map(address);
        let scopes =
            addresses.iter().flat_map(|of| [Scope::Address(*of), Scope::Block(AddressBlock::of(*of))]);
        let merchant = Scope::Merchant(MerchantId::parse("Acme_Pay-7").unwrap());
        let range = Scope::Range(NumberRange::parse("4478712").unwrap());
        let country = Scope::Country(Country::parse("GB").unwrap());
        let account = Scope::Account(UserId::new(uuid::Uuid::from_u128(7)));
        for scope in scopes.chain([device, merchant, account, range, country, Scope::Everyone]) {
            for step in Step::ALL {
                let limit = Limit { step, scope };
                assert_eq!(Limit::parse(&limit.to_string()), Some(limit), "{limit}");
            }
        }
        for key in [
            "",
            "sign-up",
            "sign-up:address",
            "sign-up:address:x",
            "sign-up:merchant:",
            "code:range:",
            "code:range:+44",
            "code:country:XX",
            "x:everyone:",
            "sign-up:everyone:1",
        ] {
            assert_eq!(Limit::parse(key), None, "{key}");
        }
    }

    #[test]
    fn a_block_is_what_one_site_is_given() {
        let block = |text| AddressBlock::of(address(text)).ip().to_string();
        assert_eq!([block("192.0.2.7"), block("2001:db8:1:2::3")], ["192.0.2.0", "2001:db8:1::"]);
    }

    #[test]
    fn the_narrowest_budget_comes_first_and_everyones_last() {
        let step = StepQuotas { device: QUOTA, address: QUOTA, block: QUOTA, everyone: QUOTA };
        let quotas = Quotas {
            sign_up: step,
            resend: step,
            code_guess: step,
            password_guess: step,
            reset: step,
            mail: step,
            keyed_request: step,
        };
        let origin = Origin { fingerprint: Fingerprint::of("a"), address: address("192.0.2.7") };
        let keys = |origin| {
            let charges = quotas.charges(Step::Mail, &origin, Unit::Taken, UtcDateTime::UNIX_EPOCH);
            charges.iter().map(|charge| charge.limit.to_string()).collect::<Vec<_>>()
        };
        let shared = ["mail:address:192.0.2.7", "mail:block:192.0.2.0", "mail:everyone:"];
        assert_eq!(keys(Origin { fingerprint: None, ..origin }), shared);
        let device = keys(origin).remove(0);
        assert!(device.starts_with("mail:device:"), "{device}");
        assert_eq!(keys(origin).split_off(1), shared);
        let acme = MerchantId::parse("acme").unwrap();
        let charges =
            quotas.sign_up_charges(&origin, Some((acme, QUOTA)), Unit::Taken, UtcDateTime::UNIX_EPOCH);
        let scopes: Vec<_> = charges.iter().map(|charge| charge.limit.scope).skip(2).collect();
        let block = Scope::Block(AddressBlock::of(origin.address));
        assert_eq!(scopes, [block, Scope::Merchant(acme), Scope::Everyone]);
    }

    #[test]
    fn a_kept_unit_must_be_there_and_is_left() {
        let limit = Limit { step: Step::CodeGuess, scope: Scope::Everyone };
        let now = UtcDateTime::UNIX_EPOCH;
        let kept = Charge { limit, quota: QUOTA, unit: Unit::Kept, now };
        let taken = Charge { unit: Unit::Taken, ..kept };
        assert_eq!(kept.decide(None), Ok(now));
        let once = taken.decide(None).unwrap();
        assert_eq!(kept.decide(Some(once)), Ok(once));
        let twice = taken.decide(Some(once)).unwrap();
        assert_eq!(kept.decide(Some(twice)), Err(QUOTA.unit()));
        assert_eq!(taken.decide(Some(twice)), Err(QUOTA.unit()));
    }

    #[test]
    fn a_tally_is_never_refused_and_stays_within_the_budget() {
        let limit = Limit { step: Step::Code, scope: Scope::Everyone };
        let now = UtcDateTime::UNIX_EPOCH;
        let charge = Charge { limit, quota: QUOTA, unit: Unit::Taken, now };
        let tally = |taken, returned: u32| Tally {
            limit,
            quota: QUOTA,
            taken,
            returned_percent: 100 * returned,
            now,
        };
        let one = tally(1, 0).apply(None);
        assert_eq!((one, charge.used_percent(Some(one))), (charge.decide(None).unwrap(), 50));
        let empty = tally(1, 0).apply(Some(tally(7, 0).apply(Some(one))));
        assert_eq!((charge.used_percent(Some(empty)), charge.used_percent(None)), (100, 0));
        assert_eq!(charge.decide(Some(empty)), Err(QUOTA.unit()));
        assert_eq!(tally(0, 1).apply(Some(empty)), one);
        let full = tally(0, 9).apply(Some(empty));
        assert_eq!(charge.decide(Some(full)), charge.decide(None));
        assert_eq!(charge.used_percent(Some(full)), 0);
    }
}
