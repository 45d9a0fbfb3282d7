//! Requests of people, each to the next instance in turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use reqwest::header::RETRY_AFTER;
use serde_json::{Value, json};
use vestibule_testkit::fleet::Fleet;

use crate::people::{PASSWORD, Person};

/// Longer than the service may take for an answer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);

/// How long a request is repeated that the service could not serve.
const PATIENCE: Duration = Duration::from_mins(1);

/// The number of the refusal of a second message so soon.
const COOL_DOWN: u64 = 157;

/// The people's way to the service.
pub(crate) struct Client {
    http: reqwest::Client,
    fleet: Arc<Fleet>,
    not_served: AtomicU32,
}

/// What somebody is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is done.
    Done,
    /// It is not done.
    Refused {
        /// Why, by the contract's numbers.
        id: u64,
        /// How long to wait, in seconds, if that is said in the header.
        retry_after: Option<u64>,
    },
}

impl Answer {
    pub(crate) fn is_done(self) -> bool {
        self == Self::Done
    }

    /// Whether it is this refusal.
    pub(crate) fn is_refused_by(self, refusal: u64) -> bool {
        matches!(self, Self::Refused { id, .. } if id == refusal)
    }

    /// How long to wait, in seconds.
    pub(crate) fn retry_after(self) -> Option<u64> {
        match self {
            Self::Done => None,
            Self::Refused { retry_after, .. } => retry_after,
        }
    }
}

impl Client {
    pub(crate) fn new(fleet: Arc<Fleet>) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().timeout(ANSWER_PATIENCE).build()?;
        Ok(Self { http, fleet, not_served: AtomicU32::new(0) })
    }

    /// How often the service was too busy for a request (503), which was repeated then.
    pub(crate) fn not_served(&self) -> u32 {
        self.not_served.load(Ordering::Relaxed)
    }

    pub(crate) async fn sign_up(&self, person: &Person) -> anyhow::Result<Answer> {
        let body = json!({ "phone": person.phone, "password": PASSWORD });
        self.ask(person, "/v2/mobile/signup", &body).await
    }

    pub(crate) async fn resend(&self, person: &Person) -> anyhow::Result<Answer> {
        self.ask(person, "/v2/mobile/phone/verify/resend", &json!({ "phone": person.phone })).await
    }

    pub(crate) async fn confirm(&self, person: &Person, code: &str) -> anyhow::Result<Answer> {
        let body = json!({ "phone": person.phone, "smsCode": code });
        self.ask(person, "/v2/mobile/phone/confirm", &body).await
    }

    /// Asks until there is an answer.
    async fn ask(&self, person: &Person, path: &str, body: &Value) -> anyhow::Result<Answer> {
        let end = Instant::now() + PATIENCE;
        let mut is_repeated = false;
        loop {
            let (_, url) = self.fleet.next().context("no instance runs")?;
            let sending = self.http.post(format!("{url}{path}")).json(body);
            let answer = sending.header("X-Forwarded-For", person.address.to_string()).send().await?;
            let status = answer.status();
            let retry_after = answer.headers().get(RETRY_AFTER);
            let retry_after = retry_after.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
            let body: Value = serde_json::from_str(&answer.text().await?).unwrap_or_default();
            if status.is_success() {
                return Ok(Answer::Done);
            }
            if status.is_client_error() {
                let id = body.get("errorId").and_then(Value::as_u64).unwrap_or(status.as_u16().into());
                // The cool-down of an earlier try, whose answer was lost.
                let was_done = is_repeated && id == COOL_DOWN;
                return Ok(if was_done { Answer::Done } else { Answer::Refused { id, retry_after } });
            }
            anyhow::ensure!(Instant::now() < end, "{path} is not served: {status} {body}");
            self.not_served.fetch_add(1, Ordering::Relaxed);
            is_repeated = true;
            tokio::time::sleep(Duration::from_secs(retry_after.unwrap_or(1))).await;
        }
    }
}
