//! One client with one connection, which it keeps.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{StatusCode, Url};
use serde_json::Value;

/// A request that takes longer has failed: the service promises an answer within 5 s.
const PATIENCE: Duration = Duration::from_secs(10);

/// Tells the time since any fixed moment.
pub type Clock = Box<dyn Fn() -> Duration + Send>;

/// Asks one deployment, one thing at a time.
pub struct Client {
    http: reqwest::Client,
    base: Url,
    clock: Clock,
}

/// What was answered, and how long it took until all of it was there.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: String,
    /// From the first byte of the request to the last of the answer.
    pub took: Duration,
}

impl Client {
    /// For the deployment at `base`, by the machine's own clock. Each request carries the headers, written `name: value`.
    ///
    /// # Errors
    /// A header is none, or TLS cannot be set up.
    pub fn new(base: Url, headers: &[String]) -> anyhow::Result<Self> {
        let begun = Instant::now();
        Self::with_clock(base, headers, Box::new(move || begun.elapsed()))
    }

    /// The same by another clock.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn with_clock(base: Url, headers: &[String], clock: Clock) -> anyhow::Result<Self> {
        // Fails only when there is one already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let headers = headers.iter().map(|header| parse(header)).collect::<anyhow::Result<HeaderMap>>()?;
        let http = reqwest::Client::builder()
            .default_headers(headers)
            .timeout(PATIENCE)
            .no_proxy()
            .http1_only()
            .pool_max_idle_per_host(1)
            .tcp_nodelay(true)
            .build()?;
        Ok(Self { http, base, clock })
    }

    /// Posts a JSON body.
    ///
    /// # Errors
    /// There is no whole answer in time.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        self.send(self.http.post(self.base.join(path)?).json(body)).await
    }

    /// Reads. The query is of names and values.
    ///
    /// # Errors
    /// As [`Client::post`].
    pub async fn read(&self, path: &str, query: &[(&str, &str)]) -> anyhow::Result<Answer> {
        let mut url = self.base.join(path)?;
        url.query_pairs_mut().extend_pairs(query);
        self.send(self.http.get(url)).await
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> anyhow::Result<Answer> {
        let sent = (self.clock)();
        let response = request.send().await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.text().await?;
        Ok(Answer { status, headers, body, took: (self.clock)().saturating_sub(sent) })
    }
}

fn parse(header: &str) -> anyhow::Result<(HeaderName, HeaderValue)> {
    let (name, value) = header.split_once(':').with_context(|| format!("not a header: {header}"))?;
    Ok((name.trim().parse()?, value.trim().parse()?))
}
