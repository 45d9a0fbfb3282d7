//! Where a request comes from, as far as it matters to whether two requests come from the same client.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use sha2::{Digest, Sha256};

use crate::AttemptId;

/// The fingerprint that a device sends, kept only as its SHA-256, so that its length and content don't matter.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Takes the text as sent; `None` for an empty one.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        Self::of_bytes(text.trim().as_bytes())
    }

    /// Takes bytes that need not be a text; `None` if there are none but spaces.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.trim_ascii();
        (!bytes.is_empty()).then(|| Self(Sha256::digest(bytes).into()))
    }

    /// From storage.
    #[must_use]
    pub const fn restore(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// The digest, for storage.
    #[must_use]
    pub const fn digest(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint(…)")
    }
}

/// A client's network address as a rule sees it: an IPv4 address, or the /64 of an IPv6 address, since a
/// device changes the lower half at will (RFC 8981).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientAddress(IpAddr);

impl ClientAddress {
    /// Cuts an address to what counts; an IPv4 address inside IPv6 is an IPv4 address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
            v4 @ IpAddr::V4(_) => v4,
        })
    }

    /// The address that stands for the block.
    #[must_use]
    pub const fn ip(&self) -> IpAddr {
        self.0
    }
}

/// Where an attempt was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The device, if it said which it is.
    pub fingerprint: Option<Fingerprint>,
    /// The client's address.
    pub address: ClientAddress,
}

impl Origin {
    /// Whether both are the same client: the same device, or the same address where neither says which device it is. A stranger who shares
    /// somebody's network and names no device, or makes one up, is not the same.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        match (self.fingerprint, other.fingerprint) {
            (Some(ours), Some(theirs)) => ours == theirs,
            (None, None) => self.address == other.address,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }

    /// Whether who named no device here may be the one who now names his: an app may say which device it is in a later step only.
    #[must_use]
    pub fn may_have_become(&self, later: &Self) -> bool {
        self.fingerprint.is_none() && self.address == later.address
    }
}

/// What a request says about the attempt it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The `registrationId`, if the client repeats it. It names one attempt and proves its origin.
    pub attempt: Option<AttemptId>,
    /// Where the request comes from.
    pub origin: Origin,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> ClientAddress {
        ClientAddress::of(text.parse().unwrap())
    }

    #[test]
    fn an_ipv6_client_is_its_64_and_a_mapped_ipv4_is_ipv4() {
        assert_eq!(address("2001:db8::1"), address("2001:db8::ffff:1"));
        assert_ne!(address("2001:db8::1"), address("2001:db8:0:1::1"));
        assert_eq!(address("::ffff:192.0.2.1"), address("192.0.2.1"));
        assert_ne!(address("192.0.2.1"), address("192.0.2.2"));
    }

    #[test]
    fn a_device_that_is_named_is_nobody_else() {
        let at = |fingerprint: &str, ip: &str| Origin {
            fingerprint: Fingerprint::of(fingerprint),
            address: address(ip),
        };
        assert!(at("a", "192.0.2.1").is_same(&at("a", "192.0.2.2")));
        assert!(!at("a", "192.0.2.1").is_same(&at("b", "192.0.2.1")));
        assert!(!at("a", "192.0.2.1").is_same(&at("", "192.0.2.1")));
        assert!(at("", "192.0.2.1").is_same(&at(" ", "192.0.2.1")));
        assert!(!at("", "192.0.2.1").is_same(&at(" ", "192.0.2.2")));
        assert!(at("", "192.0.2.1").may_have_become(&at("a", "192.0.2.1")));
        assert!(!at("", "192.0.2.1").may_have_become(&at("a", "192.0.2.2")));
        assert!(!at("a", "192.0.2.1").may_have_become(&at("", "192.0.2.1")));
    }
}
