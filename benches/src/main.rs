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
mod protection;
mod refusals;
mod service;
mod sqlite;

use figures::Figures;
use load::{Script, Then};
use people::sign_up;

/// Hash threads of the service and of the bare rate.
const HASH_THREADS: usize = 2;

/// More sign-ups than a client can make while it is measured.
const SIGN_UPS: u32 = 2000;

/// What is measured, in this order; or only what the arguments name.
const PARTS: [&str; 3] = ["postgres", "protection", "sqlite"];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut figures = Figures::new(std::io::stdout().lock());
    let named: Vec<_> = std::env::args().skip(1).collect();
    if let Some(unknown) = named.iter().find(|name| !PARTS.contains(&name.as_str())) {
        anyhow::bail!("there is no part `{unknown}`, but there are {}", PARTS.join(", "));
    }
    let is_wanted = |part| named.is_empty() || named.iter().any(|name| name == part);
    let [on_postgres, of_protection, on_sqlite] = PARTS.map(is_wanted);
    if on_postgres {
        postgres::measure(&mut figures).await?;
    }
    if of_protection {
        protection::measure(&mut figures).await?;
    }
    if on_sqlite {
        sqlite::measure(&mut figures).await?;
    }
    Ok(figures.end()?)
}

/// Clients that sign up, each time with another number.
fn sign_ups(clients: u32, first: u32) -> Vec<Script> {
    (0..clients)
        .map(|client| {
            let first = first + client * SIGN_UPS;
            Script { requests: (first..first + SIGN_UPS).map(sign_up).collect(), then: Then::Stop }
        })
        .collect()
}
