use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use sha2::{Digest, Sha256};
use time::UtcDateTime;
use tokio::sync::Notify;
use vestibule_domain::{Country, Password, PasswordHash};
use vestibule_port_security::{
    AccessClaims, AccessToken, AccessTokens, ClientCountries, Entropy, HashError, PasswordHasher, PublicKey,
    TokenError,
};

/// Entropy that is the same in every run: a hash of a counter.
#[derive(Debug, Default)]
pub struct CountingEntropy(AtomicU64);

impl Entropy for CountingEntropy {
    fn bytes(&self) -> [u8; 32] {
        Sha256::digest(self.0.fetch_add(1, Ordering::SeqCst).to_be_bytes()).into()
    }
}

/// A hasher that costs nothing and hides nothing. It can be made to wait, for a test of what happens while a password is hashed.
#[derive(Debug, Default)]
pub struct FakeHasher(Mutex<Option<(String, Arc<Pause>)>>);

/// Where a hasher waits.
#[derive(Debug, Default)]
pub struct Pause {
    reached: Notify,
    over: Notify,
}

impl Pause {
    /// Until the hasher has come to it.
    pub async fn reached(&self) {
        self.reached.notified().await;
    }

    /// The hasher goes on.
    pub fn end(&self) {
        self.over.notify_one();
    }
}

impl FakeHasher {
    /// The next time that this password is to be hashed or compared, it waits.
    pub fn pause_at(&self, password: &str) -> Arc<Pause> {
        let pause = Arc::<Pause>::default();
        *self.pause() = Some((password.to_owned(), Arc::clone(&pause)));
        pause
    }

    fn pause(&self) -> MutexGuard<'_, Option<(String, Arc<Pause>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn wait(&self, password: &Password) {
        let pause = self.pause().take_if(|(at, _)| at == password.expose());
        if let Some((_, pause)) = pause {
            pause.reached.notify_one();
            pause.over.notified().await;
        }
    }
}

#[async_trait]
impl PasswordHasher for FakeHasher {
    async fn hash(&self, password: Password) -> Result<PasswordHash, HashError> {
        self.wait(&password).await;
        Ok(PasswordHash::new(format!("fake${}", password.expose())))
    }

    async fn verify(&self, password: Password, hash: Option<PasswordHash>) -> Result<bool, HashError> {
        self.wait(&password).await;
        Ok(hash.is_some_and(|hash| hash.expose() == format!("fake${}", password.expose())))
    }

    fn is_outdated(&self, hash: &PasswordHash) -> bool {
        !hash.expose().starts_with("fake$")
    }
}

/// Access tokens that are looked up, not checked.
#[derive(Debug, Default)]
pub struct FakeTokens(Mutex<Vec<AccessClaims>>);

impl AccessTokens for FakeTokens {
    fn issue(&self, claims: &AccessClaims) -> AccessToken {
        let mut issued = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        issued.push(claims.clone());
        AccessToken::new(format!("fake-token-{}", issued.len() - 1))
    }

    fn verify(&self, token: &str, now: UtcDateTime) -> Result<AccessClaims, TokenError> {
        let issued = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let index = token.strip_prefix("fake-token-").and_then(|index| index.parse::<usize>().ok());
        let claims = index.and_then(|index| issued.get(index)).ok_or(TokenError::Malformed)?;
        if now < claims.expires_at { Ok(claims.clone()) } else { Err(TokenError::Expired) }
    }

    fn public_keys(&self, _: UtcDateTime) -> Vec<PublicKey> {
        vec![PublicKey { id: "k4.pid.fake".to_owned(), key: "k4.public.fake".to_owned(), active: true }]
    }
}

/// Every address is in the country that it was made with.
#[derive(Debug, Default)]
pub struct OneCountry(pub Option<Country>);

impl ClientCountries for OneCountry {
    fn country_of(&self, _: IpAddr) -> Option<Country> {
        self.0
    }
}
