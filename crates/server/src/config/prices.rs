//! What one SMS costs by country, where the operator has not said it.
//!
//! These are our own estimates in US dollars, rounded up, so that a ceiling holds before anybody has typed in a contract. They are no
//! provider's prices: whoever has a ceiling should set `spending.prices` from the bill.

use std::collections::HashMap;

use vestibule_domain::Country;
use vestibule_domain::spending::Money;

/// Where there is no estimate: as dear as all but a few countries are.
pub(super) const ELSEWHERE: Money = cents(35);

/// In cents.
const ESTIMATES: [(&str, u64); 52] = [
    ("AE", 12),
    ("AR", 9),
    ("AT", 12),
    ("AU", 6),
    ("BD", 35),
    ("BE", 13),
    ("BR", 5),
    ("CA", 2),
    ("CH", 9),
    ("CL", 8),
    ("CN", 6),
    ("CO", 3),
    ("CZ", 10),
    ("DE", 13),
    ("DK", 8),
    ("EG", 35),
    ("ES", 10),
    ("FI", 11),
    ("FR", 10),
    ("GB", 6),
    ("GR", 12),
    ("HK", 9),
    ("HU", 12),
    ("ID", 45),
    ("IE", 12),
    ("IL", 30),
    ("IN", 10),
    ("IT", 11),
    ("JP", 10),
    ("KE", 20),
    ("KR", 6),
    ("MX", 7),
    ("MY", 20),
    ("NG", 40),
    ("NL", 13),
    ("NO", 9),
    ("NZ", 13),
    ("PH", 25),
    ("PK", 45),
    ("PL", 6),
    ("PT", 7),
    ("RO", 10),
    ("SA", 25),
    ("SE", 8),
    ("SG", 7),
    ("TH", 5),
    ("TR", 6),
    ("TW", 8),
    ("UA", 25),
    ("US", 2),
    ("VN", 20),
    ("ZA", 5),
];

pub(super) fn by_country() -> HashMap<Country, Money> {
    let price = |(code, price): &(&str, u64)| Some((Country::parse(code).ok()?, cents(*price)));
    ESTIMATES.iter().filter_map(price).collect()
}

const fn cents(cents: u64) -> Money {
    Money::from_micros(cents * 10_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_estimate_is_of_a_country_of_its_own() {
        assert_eq!(by_country().len(), ESTIMATES.len());
        assert!(by_country().values().all(|price| *price > Money::ZERO));
    }
}
