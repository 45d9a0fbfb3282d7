use std::{fmt, str};

/// A partner whose app people register in, by the name that it has in the configuration: 1 to 64 of `A`–`Z`, `a`–`z`, `0`–`9`, `_` and
/// `-`. Case matters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MerchantId {
    bytes: [u8; Self::MAX],
    length: usize,
}

impl MerchantId {
    /// The longest.
    const MAX: usize = 64;

    /// Takes the text as sent; `None` for one that names nobody.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        let mut bytes = [0; Self::MAX];
        bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        (!text.is_empty() && text.bytes().all(is_plain)).then_some(Self { bytes, length: text.len() })
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.bytes.get(..self.length).and_then(|bytes| str::from_utf8(bytes).ok()).unwrap_or_default()
    }
}

impl fmt::Display for MerchantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for MerchantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MerchantId({self})")
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("a")]
    #[case("Acme_Pay-7")]
    #[case(&"m".repeat(64))]
    fn a_name_is_read_back(#[case] text: &str) {
        assert_eq!(MerchantId::parse(text).unwrap().as_str(), text);
    }

    #[rstest]
    #[case("")]
    #[case(" acme")]
    #[case("acme:pay")]
    #[case("acme.pay")]
    #[case("ácme")]
    #[case(&"m".repeat(65))]
    fn what_names_nobody_is_refused(#[case] text: &str) {
        assert_eq!(MerchantId::parse(text), None);
    }

    #[test]
    fn case_matters() {
        assert_ne!(MerchantId::parse("acme"), MerchantId::parse("ACME"));
    }
}
