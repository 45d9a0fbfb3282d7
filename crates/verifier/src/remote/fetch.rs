use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, StatusCode, Url, redirect};
use rustls::{ClientConfig, RootCertStore};

use super::{Fetch, RemoteKeysError};
use crate::keys::{KeySet, KeySetError};

/// An endpoint that takes longer to reach is down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// A key has some 150 bytes. More than this, in bytes, is not read.
const MAX_ANSWER: usize = 64 * 1024;

/// Why there are no new keys.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("no answer: {}", reason(.0))]
    Exchange(reqwest::Error),
    #[error("the status is {0}")]
    Status(StatusCode),
    #[error("the answer is too long")]
    TooLong,
    #[error(transparent)]
    Keys(#[from] KeySetError),
}

/// Asks the endpoint.
pub(super) struct Fetcher {
    client: Client,
    url: Url,
}

impl Fetcher {
    /// It reads the system's root certificates; nothing is sent.
    pub(super) fn new(url: Url, timeout: Duration) -> Result<Self, RemoteKeysError> {
        let roots = system_roots();
        if url.scheme() == "https" && roots.is_empty() {
            return Err(RemoteKeysError::NoRoots);
        }
        let client = Client::builder()
            .tls_backend_preconfigured(tls(roots).map_err(|error| RemoteKeysError::Client(error.into()))?)
            .timeout(timeout)
            .connect_timeout(CONNECT_TIMEOUT.min(timeout))
            // Who may send us elsewhere could choose the keys.
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .user_agent(concat!("vestibule-verifier/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| RemoteKeysError::Client(error.into()))?;
        Ok(Self { client, url })
    }
}

impl Fetch for Fetcher {
    async fn fetch(&self) -> Result<KeySet, FetchError> {
        let mut response = self.client.get(self.url.clone()).send().await.map_err(FetchError::Exchange)?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(FetchError::Exchange)? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(FetchError::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(KeySet::from_json(&body)?)
    }
}

/// What went wrong, without the URL: it may hold credentials.
fn reason(error: &reqwest::Error) -> &'static str {
    if error.is_timeout() {
        "it took too long"
    } else if error.is_connect() {
        "no connection"
    } else {
        "the connection broke"
    }
}

/// The root certificates that the system trusts. Those that cannot be read are left out.
fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// TLS 1.2 and 1.3 with *ring*, whichever provider the process has chosen as its default.
fn tls(roots: RootCertStore) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
