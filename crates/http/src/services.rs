use std::fmt;

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

/// Services that may ask what a token is worth. Of their secrets only digests are kept, which are compared in constant time.
#[derive(Clone, Default)]
pub struct Services(Vec<([u8; 32], [u8; 32])>);

impl Services {
    /// Services by name and secret.
    pub fn new<'a>(services: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self(services.into_iter().map(|(name, secret)| (digest(name), digest(secret))).collect())
    }

    /// Whether there is a service of that name with that secret.
    pub(crate) fn admit(&self, name: &str, secret: &str) -> bool {
        let (name, secret) = (digest(name), digest(secret));
        let fits = |(known, its): &([u8; 32], [u8; 32])| known.ct_eq(&name) & its.ct_eq(&secret);
        self.0.iter().map(fits).fold(Choice::from(0), |any, one| any | one).into()
    }
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Services({})", self.0.len())
    }
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}
