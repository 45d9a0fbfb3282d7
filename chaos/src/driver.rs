//! People who register.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use vestibule_testkit::fleet::Fleet;

use crate::ledger::{Ledger, Outcome, Step, Story};
use crate::post::{Post, Way};

const PASSWORD: &str = "correct-horse-7";

/// Longer than the service may take for an answer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(6);

/// How long a step without an answer is repeated, and how long a message is waited for: longer than a message in doubt
/// waits for its report, and than the lease of one whose sender was killed.
const PATIENCE: Duration = Duration::from_secs(75);

/// How often a code that is refused is looked for anew: a repeated sign-up may have sent another one.
const CODES: u32 = 4;

/// People at once, for each client: so many may wait for a message while others go on.
const WAITING_PER_CLIENT: usize = 30;

/// Every so many people send their confirmation twice at once.
const IMPATIENT: u32 = 4;

/// Leads people through the five steps and notes what they are answered.
pub(crate) struct Driver {
    client: Client,
    fleet: Arc<Fleet>,
    post: Arc<Post>,
    ledger: Arc<Ledger>,
    /// Requests on their way. Who waits for a message does not count, so that the load goes on when none come.
    clients: Arc<Semaphore>,
    /// People who have begun.
    places: Arc<Semaphore>,
}

/// A request, to any instance.
struct Request<'a> {
    method: Method,
    path: &'a str,
    token: Option<&'a str>,
    body: Option<Value>,
}

/// A request's end.
struct Reply {
    instance: usize,
    outcome: Outcome,
    body: Value,
}

impl Driver {
    pub(crate) fn new(
        clients: usize,
        fleet: Arc<Fleet>,
        post: Arc<Post>,
        ledger: Arc<Ledger>,
    ) -> anyhow::Result<Self> {
        let client =
            Client::builder().timeout(ANSWER_PATIENCE).connect_timeout(Duration::from_secs(1)).build()?;
        let places = Arc::new(Semaphore::new(clients * WAITING_PER_CLIENT));
        Ok(Self { client, fleet, post, ledger, clients: Arc::new(Semaphore::new(clients)), places })
    }

    /// Registers people until it is over; their stories.
    pub(crate) async fn register_people(
        self: Arc<Self>,
        over: Arc<AtomicBool>,
    ) -> anyhow::Result<Vec<Story>> {
        let mut people = JoinSet::new();
        let mut numbers = 0..;
        while !over.load(Ordering::Relaxed) {
            let place = Arc::clone(&self.places).acquire_owned().await?;
            let turn = Arc::clone(&self.clients).acquire_owned().await?;
            let (driver, mut story) = (Arc::clone(&self), Story::of(numbers.next().unwrap_or_default()));
            people.spawn(async move {
                // A story that ends early is a matter for the auditor.
                let _ = driver.live(&mut story, turn).await;
                drop(place);
                story
            });
        }
        Ok(people.join_all().await)
    }

    /// All five steps; `None` as soon as one is not to be had.
    async fn live(&self, story: &mut Story, turn: OwnedSemaphorePermit) -> Option<()> {
        self.sign_up(story).await?;
        drop(turn);
        let (token, turn) = self.confirm_phone(story).await?;
        story.token = Some(token.clone());

        let body = json!({ "email": story.email });
        let add = Request::new(Method::PUT, "/v2/mobile/email/add").bearer(&token).json(body);
        self.insist(story, Step::AddEmail, &add).await.ok()?;

        drop(turn);
        let (link, _turn) = self.message(Way::Mail, &story.email).await?;
        self.insist(story, Step::ConfirmEmail, &Request::new(Method::GET, &link)).await.ok()?;

        let profile = json!({
            "firstName": "Anna", "lastName": "Smith", "dateOfBirth": "1990-05-17", "residenceCountry": "GB",
            "residenceCity": "London", "residenceStreet": story.street(), "residenceZipCode": "SW1A 1AA",
        });
        let patch = Request::new(Method::PATCH, "/v2/customer/profile").bearer(&token).json(profile);
        self.insist(story, Step::PatchProfile, &patch).await.ok()?;
        Some(())
    }

    async fn sign_up(&self, story: &mut Story) -> Option<()> {
        let body = json!({ "phone": story.phone, "password": PASSWORD });
        let request = Request::new(Method::POST, "/v2/mobile/signup").json(body);
        match self.insist(story, Step::SignUp, &request).await {
            Ok(_) => Some(()),
            // The cool-down of an earlier try, whose answer was lost.
            Err(Outcome::Refused(157)) if story.step(Step::SignUp).may_be_done() => Some(()),
            Err(_) => None,
        }
    }

    /// The access token.
    async fn confirm_phone(&self, story: &mut Story) -> Option<(String, OwnedSemaphorePermit)> {
        for _ in 0..CODES {
            let (code, turn) = self.message(Way::Sms, &story.phone).await?;
            let body = json!({ "phone": story.phone, "smsCode": code });
            let request = Request::new(Method::POST, "/v2/mobile/phone/confirm").json(body);
            if story.number.is_multiple_of(IMPATIENT) {
                let replies = tokio::join!(self.send(story, &request), self.send(story, &request));
                for reply in [replies.0, replies.1] {
                    self.ledger.note(story, Step::ConfirmPhone, reply.instance, reply.outcome);
                    story.note_user(&reply.body);
                }
            }
            match self.insist(story, Step::ConfirmPhone, &request).await {
                Ok(body) => {
                    story.note_user(&body);
                    return Some((body.get("access_token")?.as_str()?.to_owned(), turn));
                }
                Err(Outcome::Refused(117)) => tokio::time::sleep(Duration::from_secs(1)).await,
                Err(_) => return None,
            }
        }
        None
    }

    /// The code or link of the latest message, and the turn to use it.
    async fn message(&self, way: Way, to: &str) -> Option<(String, OwnedSemaphorePermit)> {
        let content = self.post.latest(way, to, PATIENCE).await?;
        Some((content, Arc::clone(&self.clients).acquire_owned().await.ok()?))
    }

    /// Repeats a step until it is acknowledged, as a client does that lost an answer; or the refusal.
    async fn insist(&self, story: &mut Story, step: Step, request: &Request<'_>) -> Result<Value, Outcome> {
        let end = Instant::now() + PATIENCE;
        loop {
            let reply = self.send(story, request).await;
            self.ledger.note(story, step, reply.instance, reply.outcome);
            match reply.outcome {
                Outcome::Acknowledged => return Ok(reply.body),
                Outcome::Refused(_) => return Err(reply.outcome),
                Outcome::InDoubt | Outcome::NotReached if Instant::now() > end => return Err(reply.outcome),
                Outcome::InDoubt | Outcome::NotReached => {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }

    async fn send(&self, story: &Story, request: &Request<'_>) -> Reply {
        let Some((instance, url)) = self.fleet.next() else {
            return Reply { instance: 0, outcome: Outcome::NotReached, body: Value::Null };
        };
        let [_, high, middle, low] = story.number.to_be_bytes();
        let mut sending = self
            .client
            .request(request.method.clone(), format!("{url}{}", request.path))
            .header("X-Forwarded-For", format!("10.{high}.{middle}.{low}"));
        if let Some(token) = request.token {
            sending = sending.bearer_auth(token);
        }
        if let Some(body) = &request.body {
            sending = sending.json(body);
        }
        let (outcome, body) = match sending.send().await {
            Err(error) if error.is_connect() => (Outcome::NotReached, Value::Null),
            Err(_) => (Outcome::InDoubt, Value::Null),
            Ok(answer) => {
                let status = answer.status();
                match answer.text().await.map(|text| serde_json::from_str(&text).unwrap_or(Value::Null)) {
                    Err(_) => (Outcome::InDoubt, Value::Null),
                    Ok(body) if status.is_success() => (Outcome::Acknowledged, body),
                    Ok(body) if status.is_client_error() => {
                        let id =
                            body.get("errorId").and_then(Value::as_u64).unwrap_or(status.as_u16().into());
                        (Outcome::Refused(id), body)
                    }
                    Ok(body) => (Outcome::InDoubt, body),
                }
            }
        };
        Reply { instance, outcome, body }
    }
}

impl<'a> Request<'a> {
    fn new(method: Method, path: &'a str) -> Self {
        Self { method, path, token: None, body: None }
    }

    fn bearer(self, token: &'a str) -> Self {
        Self { token: Some(token), ..self }
    }

    fn json(self, body: Value) -> Self {
        Self { body: Some(body), ..self }
    }
}

impl Story {
    fn note_user(&mut self, confirmed: &Value) {
        if let Some(user) = confirmed.get("userId").and_then(Value::as_str)
            && !self.users.iter().any(|known| known == user)
        {
            self.users.push(user.to_owned());
        }
    }
}
