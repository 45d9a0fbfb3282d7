//! A small load driver.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::json;

use crate::service::Service;

/// Clients at once: enough to keep the hash threads busy, few enough to leave the queue short.
const CLIENTS: u64 = 16;

/// Sign-ups per second, each with a number of its own, and the largest resident size seen meanwhile in KiB.
pub(crate) async fn sign_ups(service: &Service, span: Duration) -> anyhow::Result<(f64, f64)> {
    let client = reqwest::Client::new();
    let next = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let end = begun + span;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (client, next, url) =
                (client.clone(), Arc::clone(&next), format!("{}/v2/mobile/signup", service.url));
            tokio::spawn(async move {
                let mut done = 0_u32;
                while Instant::now() < end {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let body =
                        json!({ "phone": format!("+447400{number:06}"), "password": "correct-horse-7" });
                    let answer = client.post(&url).json(&body).send().await?;
                    let status = answer.status();
                    anyhow::ensure!(
                        status.is_success(),
                        "a sign-up was answered {status}: {}",
                        answer.text().await?
                    );
                    done += 1;
                }
                Ok(done)
            })
        })
        .collect();
    let mut peak = 0.0_f64;
    while Instant::now() < end {
        peak = peak.max(service.resident_kib()?);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut done = 0;
    for client in clients {
        done += client.await.context("a client ended")??;
    }
    Ok((f64::from(done) / begun.elapsed().as_secs_f64(), peak))
}
