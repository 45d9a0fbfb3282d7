use std::borrow::Cow;

use pasetors::keys::AsymmetricPublicKey;
use pasetors::token::{Public, UntrustedToken};
use pasetors::version4::{PublicToken, V4};
use serde::Deserialize;

use crate::refusal::Refusal;

/// A token in its parts, of which nothing is believed yet.
pub(crate) struct SignedToken(UntrustedToken<Public, V4>);

impl SignedToken {
    /// Takes a token apart. Its length must be bounded already.
    pub(crate) fn parse(token: &str) -> Result<Self, Refusal> {
        if !token.starts_with(PublicToken::HEADER) {
            return Err(Refusal::NotV4Public);
        }
        UntrustedToken::try_from(token).map(Self).map_err(|_| Refusal::Malformed)
    }

    /// The key that the footer names: a hint where to look, until the signature is verified.
    pub(crate) fn key_id(&self) -> Result<Cow<'_, str>, Refusal> {
        let footer: Footer =
            serde_json::from_slice(self.0.untrusted_footer()).map_err(|_| Refusal::Malformed)?;
        Ok(footer.kid)
    }

    /// The payload, if that key has signed it together with the footer and the implicit assertion.
    pub(crate) fn verify(
        &self,
        key: &AsymmetricPublicKey<V4>,
        implicit_assertion: &[u8],
    ) -> Result<String, Refusal> {
        // Without an expected footer, the token's own is covered by the signature all the same.
        PublicToken::verify(key, &self.0, None, Some(implicit_assertion))
            .map(|trusted| trusted.payload().to_owned())
            .map_err(|_| Refusal::BadSignature)
    }
}

#[derive(Deserialize)]
struct Footer<'a> {
    #[serde(borrow)]
    kid: Cow<'a, str>,
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// The cases of the official file for version 4, by the beginning of their names.
    fn vectors(prefix: &str) -> Vec<Value> {
        let mut file: Value = serde_json::from_str(include_str!("../tests/vectors/v4.json")).unwrap();
        let Value::Array(mut tests) = file["tests"].take() else { panic!("no tests") };
        tests.retain(|test| text(test, "name").starts_with(prefix));
        tests
    }

    fn text<'a>(test: &'a Value, member: &str) -> &'a str {
        test[member].as_str().unwrap()
    }

    fn open(test: &Value, key: &str) -> Result<String, Refusal> {
        let key = AsymmetricPublicKey::from(&hex::decode(key).unwrap()).unwrap();
        let token = SignedToken::parse(text(test, "token"))?;
        assert_eq!(token.0.untrusted_footer(), text(test, "footer").as_bytes());
        token.verify(&key, text(test, "implicit-assertion").as_bytes())
    }

    #[test]
    fn the_official_signed_tokens_open() {
        let tests = vectors("4-S-");
        assert_eq!(tests.len(), 3);
        for test in tests {
            assert_eq!(test["expect-fail"], false);
            let payload = open(&test, text(&test, "public-key"));
            assert_eq!(payload.as_deref(), Ok(text(&test, "payload")), "{}", test["name"]);
        }
    }

    #[test]
    fn the_official_failures_fail() {
        let key = vectors("4-S-")[0]["public-key"].take();
        let tests = vectors("4-F-");
        assert_eq!(tests.len(), 5);
        for test in tests {
            assert_eq!(test["expect-fail"], true);
            let is_signed = text(&test, "token").starts_with("v4.public.");
            let expected = if is_signed { Refusal::BadSignature } else { Refusal::NotV4Public };
            assert_eq!(open(&test, key.as_str().unwrap()), Err(expected), "{}", test["name"]);
        }
    }

    #[test]
    fn the_official_encrypted_tokens_are_of_another_purpose() {
        let tests = vectors("4-E-");
        assert_eq!(tests.len(), 9);
        for test in tests {
            assert_eq!(SignedToken::parse(text(&test, "token")).err(), Some(Refusal::NotV4Public));
        }
    }

    #[test]
    fn an_official_token_with_another_assertion_fails() {
        for mut test in vectors("4-S-") {
            test["implicit-assertion"] = "another".into();
            let key = text(&test, "public-key").to_owned();
            assert_eq!(open(&test, &key), Err(Refusal::BadSignature), "{}", test["name"]);
        }
    }
}
