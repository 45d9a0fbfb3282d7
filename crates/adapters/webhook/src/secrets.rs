use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, STANDARD};
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::SettingsError;

/// What stands before a secret's base64.
const PREFIX: &str = "whsec_";

/// Base64 of secrets, which some make with padding and some without.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The secrets that both sides know.
pub(crate) struct Secrets(Vec<Key>);

/// A key, filled with zeros to a block of the hash, as HMAC does with it.
struct Key(Zeroizing<[u8; 64]>);

impl Secrets {
    pub(crate) fn parse(secrets: &[SecretString]) -> Result<Self, SettingsError> {
        if secrets.is_empty() {
            return Err(SettingsError::NoSecret);
        }
        let keys = secrets.iter().map(|secret| Key::parse(secret).ok_or(SettingsError::Secret));
        Ok(Self(keys.collect::<Result<_, _>>()?))
    }

    /// The signatures of a message, as they stand in the header: one for each secret.
    pub(crate) fn sign(&self, id: &str, timestamp: &str, body: &[u8]) -> String {
        let signature = |key: &Key| {
            format!("v1,{}", STANDARD.encode(key.mac(id, timestamp, body).finalize().into_bytes()))
        };
        self.0.iter().map(signature).collect::<Vec<_>>().join(" ")
    }

    /// Whether one of the signatures in a header is of one of the secrets. Signatures are compared in constant time;
    /// those of other versions are passed over.
    pub(crate) fn verify(&self, signatures: &str, id: &str, timestamp: &str, body: &[u8]) -> bool {
        let versions = signatures.split(' ').filter_map(|signature| signature.strip_prefix("v1,"));
        let signatures: Vec<_> = versions.filter_map(|signature| STANDARD.decode(signature).ok()).collect();
        self.0.iter().any(|key| {
            let mac = key.mac(id, timestamp, body);
            signatures.iter().any(|signature| mac.clone().verify_slice(signature).is_ok())
        })
    }
}

impl Key {
    fn parse(secret: &SecretString) -> Option<Self> {
        let encoded = secret.expose_secret().strip_prefix(PREFIX)?;
        let decoded = Zeroizing::new(LENIENT.decode(encoded).ok()?);
        if decoded.len() < 24 {
            return None;
        }
        let mut block = Zeroizing::new([0; 64]);
        block.get_mut(..decoded.len())?.copy_from_slice(&decoded);
        Some(Self(block))
    }

    fn mac(&self, id: &str, timestamp: &str, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new((&*self.0).into());
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            mac.update(part);
        }
        mac
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    // The example of the specification's own libraries.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const TIMESTAMP: &str = "1614265330";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    const OTHER: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    fn secrets(secrets: &[&str]) -> Secrets {
        let secrets: Vec<_> = secrets.iter().map(|secret| SecretString::from(*secret)).collect();
        Secrets::parse(&secrets).unwrap()
    }

    #[test]
    fn the_specifications_example() {
        let secrets = secrets(&[SECRET]);
        assert_eq!(secrets.sign(ID, TIMESTAMP, BODY), SIGNATURE);
        assert!(secrets.verify(SIGNATURE, ID, TIMESTAMP, BODY));
    }

    #[test]
    fn while_a_secret_changes_either_side_may_be_first() {
        let (old, both, new) = (secrets(&[SECRET]), secrets(&[OTHER, SECRET]), secrets(&[OTHER]));
        let signatures = both.sign(ID, TIMESTAMP, BODY);
        assert_eq!(signatures.split(' ').count(), 2);
        for side in [&old, &both, &new] {
            assert!(side.verify(&signatures, ID, TIMESTAMP, BODY));
            assert!(both.verify(&side.sign(ID, TIMESTAMP, BODY), ID, TIMESTAMP, BODY));
        }
        assert!(!new.verify(SIGNATURE, ID, TIMESTAMP, BODY));
    }

    #[rstest]
    #[case("", ID, TIMESTAMP, BODY)]
    #[case("v1,", ID, TIMESTAMP, BODY)]
    #[case("v1,nonsense", ID, TIMESTAMP, BODY)]
    #[case("g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", ID, TIMESTAMP, BODY)]
    #[case("v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", ID, TIMESTAMP, BODY)]
    #[case("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1A==", ID, TIMESTAMP, BODY)]
    #[case(SIGNATURE, "msg_other", TIMESTAMP, BODY)]
    #[case(SIGNATURE, ID, "1614265331", BODY)]
    #[case(SIGNATURE, ID, TIMESTAMP, br#"{"test": 2432232315}"#)]
    fn not_signed(#[case] signatures: &str, #[case] id: &str, #[case] timestamp: &str, #[case] body: &[u8]) {
        assert!(!secrets(&[SECRET]).verify(signatures, id, timestamp, body));
    }

    #[test]
    fn other_versions_are_passed_over() {
        let header = format!("v1a,AAAA {SIGNATURE} v9,x");
        assert!(secrets(&[SECRET]).verify(&header, ID, TIMESTAMP, BODY));
    }

    #[rstest]
    #[case(SECRET, true)]
    #[case("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", false)]
    #[case("whsec_", false)]
    #[case("whsec_plJ3nmyCDGBKInavdOK15jsl", false)]
    #[case("whsec_not base64", false)]
    #[case("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8", true)]
    fn what_is_a_secret(#[case] secret: &str, #[case] taken: bool) {
        assert_eq!(Key::parse(&SecretString::from(secret)).is_some(), taken);
    }

    #[test]
    fn how_long_a_secret_may_be() {
        for (length, taken) in [(23, false), (24, true), (64, true), (65, false)] {
            let secret = format!("{PREFIX}{}", STANDARD.encode(vec![7; length]));
            assert_eq!(Key::parse(&SecretString::from(secret)).is_some(), taken, "{length}");
        }
    }
}
