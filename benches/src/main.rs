//! The figures of the service, measured in one run on one machine, so that their ratios mean something.
//!
//! It drives the release binary beside it over real HTTP, as a client would; see `just bench`.

mod load;
mod service;
mod storage;

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use argon2::{Algorithm, Argon2, Block, Params, Version};

use service::Service;

/// How long each rate is measured.
const SPAN: Duration = Duration::from_secs(8);

/// Hash threads of the service and of the bare rate.
const THREADS: usize = 2;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut out = std::io::stdout().lock();
    let directory = tempfile::tempdir()?;

    let service = Service::start(directory.path(), THREADS).await?;
    let idle = service.resident_kib()?;
    let bare_before = bare_argon2(THREADS)?;
    let (signed_up, peak) = load::sign_ups(&service, SPAN).await?;
    let bare_after = bare_argon2(THREADS)?;
    service.stop()?;
    let bare = f64::midpoint(bare_before, bare_after);
    writeln!(
        out,
        "bare Argon2id, {THREADS} threads:      {bare:8.1} /s (before {bare_before:.1}, after {bare_after:.1})"
    )?;
    writeln!(
        out,
        "sign-ups over HTTP:             {signed_up:8.1} /s, {:.2} of the bare rate",
        signed_up / bare
    )?;
    writeln!(out, "resident, idle:                 {:8.1} MiB", idle / 1024.0)?;
    writeln!(out, "resident, under load (peak):    {:8.1} MiB", peak / 1024.0)?;

    let mut starts = Vec::new();
    for _ in 0..5 {
        let begun = Instant::now();
        let service = Service::start(directory.path(), THREADS).await?;
        starts.push(begun.elapsed());
        service.stop()?;
    }
    starts.sort();
    let median = starts.get(starts.len() / 2).context("no start was measured")?;
    writeln!(out, "start to ready, existing data:  {:8.1} ms (median of 5)", median.as_secs_f64() * 1000.0)?;

    for writers in [1, 64] {
        let rate = storage::commits(writers, SPAN / 2).await?;
        writeln!(out, "durable commits, {writers:2} writers:    {rate:8.1} /s")?;
    }
    Ok(())
}

/// Hashes per second of nothing but Argon2id, with its memory kept, on so many threads.
fn bare_argon2(threads: usize) -> anyhow::Result<f64> {
    let params = Params::new(19_456, 2, 1, Some(32)).map_err(|error| anyhow::anyhow!("{error}"))?;
    let begun = Instant::now();
    let end = begun + SPAN / 2;
    let counting: Vec<_> = (0..threads)
        .map(|_| {
            let params = params.clone();
            std::thread::spawn(move || {
                let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
                let mut blocks = vec![Block::default(); params.block_count()];
                let mut hashes = 0_u32;
                while Instant::now() < end {
                    let mut tag = [0; 32];
                    let hashed = argon2.hash_password_into_with_memory(
                        b"correct-horse-7",
                        b"saltsaltsaltsalt",
                        &mut tag,
                        &mut blocks,
                    );
                    hashes += u32::from(hashed.is_ok());
                }
                hashes
            })
        })
        .collect();
    let hashes: u32 = counting.into_iter().map(|thread| thread.join().unwrap_or(0)).sum();
    Ok(f64::from(hashes) / begun.elapsed().as_secs_f64())
}
