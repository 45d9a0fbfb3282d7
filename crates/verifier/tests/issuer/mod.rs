//! Who issues tokens in these tests: good ones as Vestibule does, and any others.

use pasetors::keys::{AsymmetricKeyPair, Generate};
use pasetors::paserk::{FormatAsPaserk, Id};
use pasetors::version4::{PublicToken, V4};
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use time::{Duration, UtcDateTime};
use vestibule_verifier::{KeySet, Uuid, Verifier, VerifierBuilder};

pub(crate) struct Issuer {
    pair: AsymmetricKeyPair<V4>,
    pub(crate) key: String,
    pub(crate) id: String,
}

impl Issuer {
    pub(crate) fn new() -> Self {
        let pair = AsymmetricKeyPair::generate().unwrap();
        let (mut key, mut id) = (String::new(), String::new());
        pair.public.fmt(&mut key).unwrap();
        Id::from(&pair.public).fmt(&mut id).unwrap();
        Self { pair, key, id }
    }

    pub(crate) fn keys(&self) -> KeySet {
        KeySet::from_paserk([&*self.key]).unwrap()
    }

    pub(crate) fn verifier(&self) -> Verifier {
        builder().build(self.keys())
    }

    pub(crate) fn footer(&self) -> String {
        json!({ "kid": self.id }).to_string()
    }

    /// A token with these claims and the usual footer.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.sign_bytes(claims.to_string().as_bytes(), self.footer().as_bytes())
    }

    pub(crate) fn sign_bytes(&self, payload: &[u8], footer: &[u8]) -> String {
        PublicToken::sign(&self.pair.secret, payload, Some(footer), None).unwrap()
    }
}

/// A verifier in the making that accepts [`claims`].
pub(crate) fn builder() -> VerifierBuilder {
    Verifier::builder("https://id.example.com", "app")
}

/// Good claims, for fifteen minutes from this moment.
pub(crate) fn claims(issued: UtcDateTime) -> Value {
    let text = |moment: UtcDateTime| moment.replace_nanosecond(0).unwrap().format(&Rfc3339).unwrap();
    json!({
        "iss": "https://id.example.com",
        "aud": "app",
        "sub": Uuid::from_u128(1),
        "sid": Uuid::from_u128(2),
        "jti": Uuid::from_u128(3),
        "iat": text(issued),
        "nbf": text(issued),
        "exp": text(issued + Duration::minutes(15)),
        "scope": "read write",
        "kyc": "NONE",
    })
}
