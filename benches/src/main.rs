//! The figures of the service, measured in one run on one machine, so that their ratios mean something.
//!
//! It drives the release binary beside it over real HTTP, as a client would; see `just bench`. The load, the service and the database
//! server share the processors: what the load takes is missing to the service, as what `pgbench` takes is to its server.

mod client;
mod figures;
mod hashing;
mod load;
mod people;
mod pgbench;
mod postgres;
mod processor;
mod refusals;
mod service;
mod sqlite;

use client::request;
use figures::Figures;
use load::{Script, Then};
use people::{PASSWORD, phone};

/// Hash threads of the service and of the bare rate.
const HASH_THREADS: usize = 2;

/// More sign-ups than a client can make while it is measured.
const SIGN_UPS: u32 = 2000;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut figures = Figures::new(std::io::stdout().lock());
    postgres::measure(&mut figures).await?;
    sqlite::measure(&mut figures).await?;
    Ok(figures.end()?)
}

/// Clients that sign up, each time with another number.
fn sign_ups(clients: u32, first: u32) -> Vec<Script> {
    let sign_up = |number| {
        let body = format!(r#"{{"phone":"{}","password":"{PASSWORD}"}}"#, phone(number));
        request("POST", "/v2/mobile/signup", None, &body)
    };
    (0..clients)
        .map(|client| {
            let first = first + client * SIGN_UPS;
            Script { requests: (first..first + SIGN_UPS).map(sign_up).collect(), then: Then::Stop }
        })
        .collect()
}
