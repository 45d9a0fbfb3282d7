//! Who signs up: numbers that could be anybody's, and addresses.

use std::net::Ipv4Addr;

/// Everybody's password.
pub(crate) const PASSWORD: &str = "correct-horse-7";

/// Somebody with a number and an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Person {
    pub(crate) phone: String,
    pub(crate) address: Ipv4Addr,
}

/// A mobile number of Great Britain; another one for each of a million.
pub(crate) fn british(number: u32) -> String {
    format!("+447400{number:06}")
}

/// A mobile number of France; another one for each of a million.
pub(crate) fn french(number: u32) -> String {
    format!("+33612{number:06}")
}

/// A British mobile number of the range, one of a thousand times its ten thousand neighbours.
pub(crate) fn british_in(range: u32, number: u32) -> String {
    format!("+44730{range:03}{number:04}")
}

/// An address in a block of its own (/24); another one for each of 65,536.
pub(crate) fn address(number: u32) -> Ipv4Addr {
    let [_, _, high, low] = number.to_be_bytes();
    Ipv4Addr::new(10, high, low, 1)
}

#[cfg(test)]
mod tests {
    use vestibule_domain::PhoneNumber;

    use super::*;

    #[test]
    fn numbers_could_be_dialled_and_are_of_their_countries() {
        for number in [0, 1, 999, 123_456, 999_999] {
            for (phone, country) in [(british(number), "GB"), (french(number), "FR")] {
                let parsed = PhoneNumber::parse(&phone).unwrap();
                assert_eq!(parsed.country().unwrap().as_str(), country, "{phone}");
            }
        }
    }

    #[test]
    fn no_two_addresses_share_a_block() {
        let blocks = [0, 1, 255, 256, 65_535].map(|number| address(number).to_bits() >> 8);
        assert!(blocks.windows(2).all(|pair| pair[0] < pair[1]), "{blocks:?}");
    }
}
