//! Who comes when: ordinary customers of a country, and an attack on one range of its numbers.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::people::{Person, british_in};
use crate::random::Random;

/// How long all of it takes.
pub(super) const SPAN: Duration = Duration::from_secs(100);

/// Ordinary customers in that time.
pub(super) const CUSTOMERS: u32 = 600;

/// Sign-ups of the attack in that time, each to one of the ten thousand numbers of the range.
pub(super) const ATTACKS: u32 = 20_000;

/// Whence it comes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bots {
    pub(super) addresses: u32,
    pub(super) blocks: u32,
}

/// A botnet's, and all that one number's owner can be beset from without being kept out.
pub(super) const MANY: Bots = Bots { addresses: 1000, blocks: 250 };
pub(super) const FEW: Bots = Bots { addresses: 190, blocks: 19 };

/// The range that is attacked. So many customers of a hundred have a number in it, too.
pub(super) const RANGE: u32 = 555;
const IN_RANGE: f64 = 0.05;

/// Ranges that customers' numbers are in.
const RANGES: u32 = 500;

/// The share of customers who type the code; how soon half of them do, and how far the others are spread.
const TYPING: f64 = 0.75;
const TYPED_WITHIN: Duration = Duration::from_secs(4);
const SIGMA: f64 = 0.7;

/// The share of those who have it sent again before.
const RESENDING: f64 = 0.1;

/// Somebody who signs up.
#[derive(Debug, Clone)]
pub(super) struct Visit {
    /// When, since the begin.
    pub(super) at: Duration,
    pub(super) who: Person,
    pub(super) why: Purpose,
}

/// What somebody signs up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To make the phone ring.
    Attack,
    /// To have an account.
    Customer {
        /// Whether the number is of the attacked range.
        in_range: bool,
        /// How long after the code has come it is typed, if it is.
        types_after: Option<Duration>,
        /// Whether it is sent again before.
        resends: bool,
    },
}

/// Customers alone, in the order of time.
pub(super) fn customers(random: &mut Random) -> Vec<Visit> {
    let visit = |number: u32| {
        let [_, _, high, low] = number.to_be_bytes();
        let in_range = random.chance(IN_RANGE);
        let range = if in_range { RANGE } else { random.below(RANGES) };
        let who = Person {
            // No two have the same number.
            phone: british_in(range, number * 10 + random.below(10)),
            address: Ipv4Addr::new(11, high, low, 7),
        };
        let types_after = random.chance(TYPING).then(|| random.log_normal(TYPED_WITHIN, SIGMA));
        let resends = types_after.is_some() && random.chance(RESENDING);
        let why = Purpose::Customer { in_range, types_after, resends };
        Visit { at: SPAN.mul_f64(random.unit()), who, why }
    };
    in_order((0..CUSTOMERS).map(visit).collect())
}

/// The same customers, and the attack.
pub(super) fn with_attack(mut customers: Vec<Visit>, bots: Bots, random: &mut Random) -> Vec<Visit> {
    customers.extend((0..ATTACKS).map(|_| {
        let bot = random.below(bots.addresses);
        let [_, _, _, block] = (bot % bots.blocks).to_be_bytes();
        let [_, _, _, host] = (bot / bots.blocks + 1).to_be_bytes();
        let who = Person {
            phone: british_in(RANGE, random.below(10_000)),
            address: Ipv4Addr::new(10, 0, block, host),
        };
        Visit { at: SPAN.mul_f64(random.unit()), who, why: Purpose::Attack }
    }));
    in_order(customers)
}

fn in_order(mut visits: Vec<Visit>) -> Vec<Visit> {
    visits.sort_by_key(|visit| visit.at);
    visits
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn customers_are_the_same_each_time_and_none_has_anothers_number() {
        let phones = |visits: Vec<Visit>| visits.into_iter().map(|visit| visit.who.phone);
        let first: Vec<_> = phones(customers(&mut Random::new(1))).collect();
        assert_eq!(first, phones(customers(&mut Random::new(1))).collect::<Vec<_>>());
        assert_eq!(first.iter().collect::<HashSet<_>>().len(), CUSTOMERS as usize);
    }

    #[test]
    fn the_attack_goes_to_one_range_from_many_blocks() {
        let mut random = Random::new(1);
        let visits = with_attack(customers(&mut random), MANY, &mut random);
        let attacks: Vec<_> = visits.iter().filter(|visit| visit.why == Purpose::Attack).collect();
        let distinct =
            |of: fn(&Visit) -> String| attacks.iter().map(|visit| of(visit)).collect::<HashSet<_>>().len();
        assert_eq!((attacks.len(), visits.len()), (ATTACKS as usize, (ATTACKS + CUSTOMERS) as usize));
        assert_eq!(distinct(|visit| visit.who.phone[..9].to_owned()), 1);
        assert_eq!(distinct(|visit| visit.who.address.to_string()), MANY.addresses as usize);
        assert_eq!(distinct(|visit| format!("{:?}", &visit.who.address.octets()[..3])), MANY.blocks as usize);
    }
}
