//! The load, the fault and the audit of `scripts/failover.sh`, which makes the servers and says where they are.

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;

use super::harness::{Database, PASSWORD, PATIENCE, Service, World};
use super::phone;

const CLIENTS: usize = 8;

/// Steps on each side of the fault.
const ENOUGH: usize = 200;

/// What the clients were told.
#[derive(Default)]
struct Journal {
    /// When each step was acknowledged.
    acknowledged: Mutex<Vec<Instant>>,
    /// Numbers that signed up.
    signed_up: Mutex<Vec<String>>,
    /// Numbers that were confirmed, each with its token.
    confirmed: Mutex<Vec<(String, String)>>,
    /// Steps that were refused or not answered.
    not_acknowledged: AtomicUsize,
    slowest: Mutex<Duration>,
}

impl Journal {
    /// One call of a client; the answer's `access_token` or nothing where it has none, if it is a good answer.
    async fn call(&self, service: &Service, path: &str, body: serde_json::Value) -> Option<String> {
        let begun = Instant::now();
        let answer = service.try_call(Method::POST, path, None, Some(body)).await;
        let took = begun.elapsed();
        let mut slowest = self.slowest.lock().unwrap();
        *slowest = took.max(*slowest);
        let Some(answer) = answer.ok().filter(|answer| answer.status == 200) else {
            self.not_acknowledged.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        self.acknowledged.lock().unwrap().push(Instant::now());
        Some(answer.body["access_token"].as_str().unwrap_or_default().to_owned())
    }

    fn steps(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    async fn reaches(&self, steps: usize) {
        let begun = Instant::now();
        while self.steps() < steps {
            assert!(begun.elapsed() < PATIENCE, "{} of {steps} steps", self.steps());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "scripts/failover.sh runs it"]
async fn a_promoted_standby_has_all_that_was_acknowledged() {
    let url = std::env::var("VESTIBULE_FAILOVER_URL").expect("scripts/failover.sh sets it");
    let fault = std::env::var("VESTIBULE_FAILOVER_FAULT").expect("scripts/failover.sh sets it");
    let world = Arc::new(World::new(Database::Sqlite).await.with("DATABASE__URL", &url));
    let service = Arc::new(world.start());
    let journal = Arc::new(Journal::default());
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (world, service) = (Arc::clone(&world), Arc::clone(&service));
            let (journal, stop) = (Arc::clone(&journal), Arc::clone(&stop));
            tokio::spawn(async move {
                for number in (client..).step_by(CLIENTS) {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    register(&world, &service, &journal, phone(number)).await;
                }
            })
        })
        .collect();

    journal.reaches(ENOUGH).await;
    let killed = Instant::now();
    let failing = tokio::task::spawn_blocking(move || Command::new("sh").args(["-c", &fault]).status());
    assert!(failing.await.unwrap().unwrap().success());
    let promoted = killed.elapsed();
    journal.reaches(journal.steps() + ENOUGH).await;
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }

    let (mut lost, confirmed) = (0, journal.confirmed.lock().unwrap().clone());
    for (phone, token) in &confirmed {
        let seen = service.get("/v2/customer/profile", token).await;
        lost += usize::from(seen.body["phone"] != json!(phone));
    }
    let signed_up = journal.signed_up.lock().unwrap().clone();
    for phone in &signed_up {
        // Good for whoever was confirmed as well: a repeated confirmation is answered like the first.
        let answer = service.confirm(phone, &world.code(phone).await).await;
        lost += usize::from(answer.status != 200);
    }
    let acknowledged = journal.acknowledged.lock().unwrap().clone();
    let before = acknowledged.iter().filter(|at| **at < killed).max().copied().unwrap_or(killed);
    let after = acknowledged.iter().filter(|at| **at > killed + promoted).min().unwrap();
    println!("sign-ups acknowledged       {}", signed_up.len());
    println!("confirmations acknowledged  {}", confirmed.len());
    println!("not acknowledged            {}", journal.not_acknowledged.load(Ordering::Relaxed));
    println!("slowest answer              {:.1} s", journal.slowest.lock().unwrap().as_secs_f64());
    println!("kill to promoted            {:.1} s", promoted.as_secs_f64());
    println!("without service             {:.1} s", (*after - before).as_secs_f64());
    println!("lost                        {lost}");
    assert_eq!(lost, 0);
}

/// Signs up and confirms; gives up at the first step that is not acknowledged.
async fn register(world: &World, service: &Service, journal: &Journal, phone: String) {
    let body = json!({ "phone": phone, "password": PASSWORD });
    if journal.call(service, "/v2/mobile/signup", body).await.is_none() {
        return;
    }
    journal.signed_up.lock().unwrap().push(phone.clone());
    let body = json!({ "phone": phone, "smsCode": world.code(&phone).await });
    if let Some(token) = journal.call(service, "/v2/mobile/phone/confirm", body).await {
        journal.confirmed.lock().unwrap().push((phone, token));
    }
}
