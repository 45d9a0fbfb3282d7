use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use unicode_general_category::{GeneralCategory, get_general_category};
use unicode_normalization::UnicodeNormalization;

/// An e-mail address of the kind that people have: a dot-atom local part (RFC 5322, RFC 6531) at a domain name.
///
/// It is kept as it was written. Two addresses are equal when their [canonical](Self::canonical) forms are. `Debug` shows
/// the [masked](Self::masked) form; there is no `Display`.
#[derive(Clone)]
pub struct EmailAddress {
    written: String,
    at: usize,
    canonical: String,
}

/// The text is no address that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an e-mail address")]
pub struct EmailError;

/// Limits of RFC 5321, section 4.5.3.1: a path of 256 octets less its angle brackets, a local part of 64.
const MAX_BYTES: usize = 254;
const MAX_LOCAL_BYTES: usize = 64;

impl EmailAddress {
    /// Reads an address. Refused, though the grammar has them: quoted local parts, address literals, comments,
    /// display names, and domains of one label.
    ///
    /// # Errors
    /// [`EmailError`]
    pub fn parse(text: &str) -> Result<Self, EmailError> {
        let text = text.trim();
        if text.len() > MAX_BYTES || text.chars().any(is_unprintable) {
            return Err(EmailError);
        }
        let written: String = text.nfc().collect();
        email_address::EmailAddress::from_str(&written).map_err(|_| EmailError)?;
        let at = written.rfind('@').ok_or(EmailError)?;
        let (local, domain) = written.split_at_checked(at).ok_or(EmailError)?;
        let domain = domain.trim_start_matches('@');
        if local.is_empty()
            || local.len() > MAX_LOCAL_BYTES
            || local.contains(['"', '@', '\\', ' ', '<', '>'])
        {
            return Err(EmailError);
        }
        let ascii_domain = idna::domain_to_ascii_strict(domain).map_err(|_| EmailError)?;
        if !ascii_domain.contains('.') || ascii_domain.ends_with('.') || is_address(&ascii_domain) {
            return Err(EmailError);
        }
        let local = without_case(local);
        let canonical = format!("{local}@{ascii_domain}");
        // Some letters take more bytes in lower case.
        if local.len() > MAX_LOCAL_BYTES || canonical.len() > MAX_BYTES {
            return Err(EmailError);
        }
        Ok(Self { written, at, canonical })
    }

    /// An address that was parsed before. The rules for domain names change, so only its shape is checked.
    ///
    /// # Errors
    /// [`EmailError`] if one side of the `@` is empty, or the whole is longer than 254 bytes or has white space or
    /// control characters.
    pub fn restore(stored: &str) -> Result<Self, EmailError> {
        let (local, domain) = stored.rsplit_once('@').ok_or(EmailError)?;
        let fits = stored.len() <= MAX_BYTES && !stored.chars().any(|c| c.is_control() || c.is_whitespace());
        if local.is_empty() || domain.is_empty() || !fits {
            return Err(EmailError);
        }
        let domain = idna::domain_to_ascii_strict(domain).unwrap_or_else(|_| domain.to_lowercase());
        let canonical = format!("{}@{domain}", without_case(local));
        Ok(Self { written: stored.to_owned(), at: local.len(), canonical })
    }

    /// As it was written, in Unicode normalisation form C.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// The form that is unique among accounts: lower case, the domain in ASCII.
    #[must_use]
    pub fn canonical(&self) -> &str {
        &self.canonical
    }

    /// What stands before the `@`.
    #[must_use]
    pub fn local_part(&self) -> &str {
        self.written.get(..self.at).unwrap_or_default()
    }

    /// What stands after it, as written.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.written.get(self.at + 1..).unwrap_or_default()
    }

    /// For logs: the first character of each side and the top-level domain.
    #[must_use]
    pub fn masked(&self) -> String {
        let first = |part: &str| part.chars().next().unwrap_or('*');
        let top = self.domain().rsplit('.').next().unwrap_or_default();
        format!("{}***@{}***.{top}", first(self.local_part()), first(self.domain()))
    }
}

impl PartialEq for EmailAddress {
    fn eq(&self, other: &Self) -> bool {
        self.canonical == other.canonical
    }
}

impl Eq for EmailAddress {}

impl Hash for EmailAddress {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.canonical.hash(state);
    }
}

impl fmt::Debug for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

/// Lower case, letter by letter: the small sigma at the end of a word is the same letter as within.
fn without_case(local: &str) -> String {
    local.chars().flat_map(char::to_lowercase).map(|c| if c == 'ς' { 'σ' } else { c }).nfc().collect()
}

fn is_unprintable(c: char) -> bool {
    use GeneralCategory as Category;
    c.is_control()
        || c.is_whitespace()
        || matches!(
            get_general_category(c),
            Category::Format | Category::Unassigned | Category::PrivateUse | Category::Surrogate
        )
}

/// Whether the domain is an IPv4 address: its last label would have to be a number.
fn is_address(domain: &str) -> bool {
    domain.rsplit('.').next().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("Anna@Example.com", "anna@example.com")]
    #[case(" anna+app@example.com ", "anna+app@example.com")]
    #[case("anna@müller.example", "anna@xn--mller-kva.example")]
    #[case("ännA@example.com", "änna@example.com")]
    #[case("a\u{308}nna@example.com", "änna@example.com")]
    #[case("o'neil@example.co.uk", "o'neil@example.co.uk")]
    #[case("ΝΙΚΟΣ@example.com", "νικοσ@example.com")]
    #[case("νικος@example.com", "νικοσ@example.com")]
    #[case("Anna@XN--MLLER-KVA.Example", "anna@xn--mller-kva.example")]
    fn addresses(#[case] text: &str, #[case] canonical: &str) {
        assert_eq!(EmailAddress::parse(text).unwrap().canonical(), canonical);
    }

    #[rstest]
    #[case("")]
    #[case("anna")]
    #[case("@example.com")]
    #[case("anna@")]
    #[case("anna@localhost")]
    #[case("anna@[127.0.0.1]")]
    #[case("anna@127.0.0.1")]
    #[case("\"anna b\"@example.com")]
    #[case("Anna <anna@example.com>")]
    #[case("anna@example.com\r\nBcc: all@example.com")]
    #[case("anna@example.com,bert@example.com")]
    #[case("an\u{202e}na@example.com")]
    #[case("an\0na@example.com")]
    #[case("anna@@example.com")]
    #[case("anna@example..com")]
    #[case("anna@-example.com")]
    #[case("anna@example.com.")]
    #[case("an na@example.com")]
    #[case("anna@exam\u{200b}ple.com")]
    #[case("anna(home)@example.com")]
    #[case("anna@[IPv6:::1]")]
    fn refusals(#[case] text: &str) {
        assert!(EmailAddress::parse(text).is_err(), "{text:?}");
    }

    #[test]
    fn lengths_are_bounded() {
        assert!(EmailAddress::parse(&format!("{}@example.com", "a".repeat(64))).is_ok());
        assert!(EmailAddress::parse(&format!("{}@example.com", "a".repeat(65))).is_err());
        assert!(EmailAddress::parse(&format!("a@{}.com", "a.".repeat(130))).is_err());
        // Two bytes each as written, three in lower case.
        assert!(EmailAddress::parse(&format!("{}@example.com", "\u{23a}".repeat(32))).is_err());
    }

    #[rstest]
    #[case("Anna@Müller.example", true)]
    #[case("anna@a_host_that_was_allowed.example", true)]
    #[case("anna", false)]
    #[case("@example.com", false)]
    #[case("anna@", false)]
    #[case("anna@exa\nmple.com", false)]
    fn what_was_stored_is_judged_by_its_shape_alone(#[case] stored: &str, #[case] restored: bool) {
        let address = EmailAddress::restore(stored);
        assert_eq!(address.as_ref().is_ok_and(|address| address.as_str() == stored), restored);
        if let Ok(parsed) = EmailAddress::parse(stored) {
            assert_eq!(address.unwrap().canonical(), parsed.canonical());
        }
    }

    #[test]
    fn what_is_shown_is_masked() {
        let address = EmailAddress::parse("anna.smith@example.com").unwrap();
        assert_eq!(format!("{address:?}"), "a***@e***.com");
    }

    proptest! {
        #[test]
        fn any_text_is_judged(text in "(?s).{0,40}@.{0,40}") {
            let _ = EmailAddress::parse(&text);
            let _ = EmailAddress::restore(&text);
        }

        #[test]
        fn the_canonical_form_stays(text in "\\PC{1,12}@(\\pL|[0-9-]){1,8}\\.[a-zA-Zäß]{2,4}") {
            if let Ok(address) = EmailAddress::parse(&text) {
                let again = EmailAddress::parse(address.canonical()).unwrap();
                prop_assert_eq!(again.canonical(), address.canonical());
                let stored = EmailAddress::restore(address.as_str()).unwrap();
                prop_assert_eq!(stored.canonical(), address.canonical());
                prop_assert_eq!((stored.local_part(), stored.domain()), (address.local_part(), address.domain()));
            }
        }

        #[test]
        fn what_is_shown_hides_all_but_the_first_letters(local in "[a-m]{6,20}", domain in "[n-y]{6,20}") {
            let shown = EmailAddress::parse(&format!("{local}@{domain}.com")).unwrap().masked();
            prop_assert!(!shown.contains(&local[1..3]) && !shown.contains(&domain[1..3]));
        }
    }
}
