//! The bare rate of password hashes.

use std::time::{Duration, Instant};

use argon2::{Algorithm, Argon2, Block, Params, Version};

/// Hashes per second of nothing but Argon2id, with its memory kept, on so many threads.
pub(crate) fn bare(threads: usize, span: Duration) -> anyhow::Result<f64> {
    let params = Params::new(19_456, 2, 1, Some(32)).map_err(|error| anyhow::anyhow!("{error}"))?;
    let begun = Instant::now();
    let end = begun + span;
    let counting: Vec<_> = (0..threads)
        .map(|_| {
            let params = params.clone();
            std::thread::spawn(move || {
                // As the service's own hash threads, so that others on the machine take from both alike.
                let _ = rustix::process::nice(10);
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
