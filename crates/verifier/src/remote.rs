//! Keys from the service's endpoint.
//!
//! One task fetches them; verifying never waits for it. It ends with the last handle.

mod fetch;

use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

use crate::keys::KeySet;
use crate::remote::fetch::{FetchError, Fetcher};

/// The keys that the service publishes, kept up to date in the background. Copies share them; with the last one, the
/// background ends.
///
/// - They are fetched again every 5 minutes, and when a token names a key that is not there: at most every 10 s, so that
///   forged names do not make anybody hammer the endpoint.
/// - A key that the endpoint no longer names is no longer believed from then on.
/// - While the endpoint is down, or its answer makes no sense, the last good keys stay, for ever if need be. It is asked
///   again after 1 s, then after twice as long each time, up to a minute.
/// - Before the first good answer, tokens are refused with [`Refusal::NoKeysYet`](crate::Refusal::NoKeysYet).
///
/// ```no_run
/// use vestibule_verifier::{RemoteKeys, RemoteKeysError, Verifier};
///
/// #[tokio::main]
/// async fn main() -> Result<(), RemoteKeysError> {
///     let keys = RemoteKeys::start("https://id.example.com/.well-known/paseto-keys")?;
///     let verifier = Verifier::builder("https://id.example.com", "app").build(keys);
///     if let Err(refusal) = verifier.verify_now("v4.public.…") {
///         eprintln!("{refusal}");
///     }
///     Ok(())
/// }
/// ```
#[derive(Debug, Clone)]
pub struct RemoteKeys {
    keys: watch::Receiver<Option<KeySet>>,
    missed: Arc<Notify>,
}

/// How [`RemoteKeys`] will be fetched.
#[derive(Debug, Clone)]
#[must_use = "it starts nothing by itself"]
pub struct RemoteKeysBuilder {
    url: String,
    refresh: Duration,
    timeout: Duration,
    plain_http: bool,
}

/// Why keys cannot even be asked for. An endpoint that is down is not among the reasons.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteKeysError {
    /// That is no URL of `http` or `https`.
    #[error("the URL of the keys is not valid")]
    Url,
    /// The URL is `http`, and not of this machine: whoever is on the way could put keys of his own into the answer.
    #[error("keys over `http` can be forged on the way; use `https`, or allow it")]
    PlainHttp,
    /// The URL is `https`, and the system has no root certificates to check it with.
    #[error("the system has no root certificates")]
    NoRoots,
    /// The HTTP client cannot be set up.
    #[error("the HTTP client cannot be set up")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// There is no tokio runtime here for the background.
    #[error("there is no tokio runtime")]
    NoRuntime,
}

/// When to fetch.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// From one good answer to the next fetch.
    refresh: Duration,
    /// From one good answer to a fetch for an unknown key.
    rest: Duration,
    /// After the first failure.
    first_back_off: Duration,
    /// After many.
    last_back_off: Duration,
}

impl RemoteKeys {
    /// Begins to fetch keys from this URL, the endpoint's own. Nothing waits for the first answer.
    ///
    /// # Errors
    /// When no request can be made, whatever the endpoint does.
    pub fn start(url: impl Into<String>) -> Result<Self, RemoteKeysError> {
        Self::builder(url).start()
    }

    /// For other paces than the usual ones.
    pub fn builder(url: impl Into<String>) -> RemoteKeysBuilder {
        RemoteKeysBuilder {
            url: url.into(),
            refresh: Duration::from_mins(5),
            timeout: Duration::from_secs(5),
            plain_http: false,
        }
    }

    /// Whether any keys are known. A service may count this into its readiness; it stays true from the first good answer.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.keys.borrow().is_some()
    }

    /// Waits until keys are known.
    pub async fn ready(&self) {
        // An error says that the background has ended with its runtime, and then nobody is left to wait.
        let _ = self.keys.clone().wait_for(Option::is_some).await;
    }

    /// The keys as they are known now.
    pub(crate) fn current(&self) -> Option<KeySet> {
        self.keys.borrow().clone()
    }

    /// Notes that a token named a key that is not there.
    pub(crate) fn miss(&self) {
        // Any number of these is one wish, until the background has time for it.
        self.missed.notify_one();
    }

    /// Runs `fetch` in the background, at this pace.
    fn spawn<F>(runtime: &Handle, fetch: F, pace: Pace) -> Self
    where
        F: Fetch + Send + 'static,
    {
        let (sender, keys) = watch::channel(None);
        let missed = Arc::new(Notify::new());
        let wishes = Arc::clone(&missed);
        runtime.spawn(async move {
            tokio::select! {
                () = keep(fetch, &sender, &wishes, pace) => {}
                () = sender.closed() => {}
            }
        });
        Self { keys, missed }
    }
}

impl RemoteKeysBuilder {
    /// How often to fetch; 1 s at least. It is also how long a key is still believed that the service has dropped.
    pub fn refresh_every(mut self, period: Duration) -> Self {
        self.refresh = period.max(Duration::from_secs(1));
        self
    }

    /// How long an answer may take, all in all. 5 s, unless set.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Allows `http` to other machines too, for networks in which nobody can change what is on its way.
    pub fn allow_plain_http(mut self) -> Self {
        self.plain_http = true;
        self
    }

    /// Begins.
    ///
    /// # Errors
    /// When no request can be made, whatever the endpoint does.
    pub fn start(self) -> Result<RemoteKeys, RemoteKeysError> {
        let url = Url::parse(&self.url).map_err(|_| RemoteKeysError::Url)?;
        match url.scheme() {
            "https" => {}
            "http" if self.plain_http || is_this_machine(&url) => {}
            "http" => return Err(RemoteKeysError::PlainHttp),
            _ => return Err(RemoteKeysError::Url),
        }
        let fetcher = Fetcher::new(url, self.timeout)?;
        let runtime = Handle::try_current().map_err(|_| RemoteKeysError::NoRuntime)?;
        let pace = Pace {
            refresh: self.refresh,
            rest: Duration::from_secs(10).min(self.refresh),
            first_back_off: Duration::from_secs(1),
            last_back_off: Duration::from_mins(1),
        };
        Ok(RemoteKeys::spawn(&runtime, fetcher, pace))
    }
}

/// One attempt to have the keys; a double in tests.
trait Fetch {
    fn fetch(&self) -> impl Future<Output = Result<KeySet, FetchError>> + Send;
}

/// Fetches for ever.
async fn keep(fetch: impl Fetch, keys: &watch::Sender<Option<KeySet>>, wishes: &Notify, pace: Pace) {
    let mut failures = 0;
    loop {
        match fetch.fetch().await {
            Ok(fetched) => {
                if failures > 0 {
                    tracing::info!(failures, "the keys of access tokens can be had again");
                }
                failures = 0;
                keys.send_replace(Some(fetched));
                tokio::time::sleep(pace.rest).await;
                tokio::select! {
                    () = tokio::time::sleep(spread(pace.refresh).saturating_sub(pace.rest)) => {}
                    () = wishes.notified() => {}
                }
            }
            Err(error) => {
                tracing::warn!(%error, known = keys.borrow().is_some(), "the keys of access tokens cannot be fetched");
                tokio::time::sleep(spread(pace.back_off(failures))).await;
                failures = failures.saturating_add(1);
            }
        }
    }
}

impl Pace {
    /// How long to wait after one more failure than these.
    fn back_off(self, failures: u32) -> Duration {
        self.first_back_off.saturating_mul(2_u32.saturating_pow(failures)).min(self.last_back_off)
    }
}

/// A time up to a quarter shorter, so that many services do not ask at once.
fn spread(time: Duration) -> Duration {
    // Without randomness they do, which harms nobody.
    let random = getrandom::u32().unwrap_or(0);
    time.saturating_sub((time / 4).mul_f64(f64::from(random) / f64::from(u32::MAX)))
}

fn is_this_machine(url: &Url) -> bool {
    let Some(host) = url.host_str() else { return false };
    // IPv6 stands in brackets.
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    address.map_or(host == "localhost", |address| address.is_loopback())
}

#[cfg(test)]
mod tests;
