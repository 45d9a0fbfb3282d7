//! The password-hashing port on Argon2id (RFC 9106), in a bounded pool of threads.
//!
//! One hash keeps a core and 19 MiB busy for some 20 ms, so how many run at once, and how many may wait, decides what
//! a flood of sign-ups can do to the rest of the service. The pool has a fixed number of threads of its own,
//! each with memory that it keeps, and one queue with a limit. Beyond the limit a caller learns at once that it should
//! come back later; a job whose caller has gone is not computed. The threads are less urgent to the system's scheduler
//! than all others: a hash keeps a core busy for as long as it lasts, and what can be answered at once must not wait for it.
//!
//! The threads' memory comes from the allocator. Where glibc 2.35 or later is told so
//! (`GLIBC_TUNABLES=glibc.malloc.hugetlb=1`), it is in huge pages, which saves page-table walks; asking the kernel from
//! here would need `unsafe`. The memory is not wiped between jobs: that would be one more pass over it, and the next job
//! overwrites it.
//!
//! The password policy is not here, nor is when an old hash is made anew.

mod memory;
mod pool;
mod queue;
mod stored;

use std::io;

use argon2::{Algorithm, Argon2, Params, Version};
use async_trait::async_trait;
use subtle::ConstantTimeEq;
use vestibule_domain::{Password, PasswordHash};
use vestibule_port_security::{HashError, PasswordHasher};
use zeroize::Zeroizing;

use crate::memory::Memory;
use crate::pool::Pool;
use crate::stored::{MAX_ITERATIONS, StoredHash};

/// The salt of a new hash, in bytes (RFC 9106, section 4).
const SALT_LENGTH: usize = 16;

/// The tag of a new hash, in bytes (RFC 9106, section 4).
const TAG_LENGTH: usize = 32;

/// The most memory that may be set for one hash: 4 GiB, in KiB.
const MAX_MEMORY_KIB: u32 = 4 * 1024 * 1024;

/// The most threads that may be set.
const MAX_THREADS: usize = 1024;

/// What a new hash costs, and how much work is taken on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Memory of one hash in KiB: 8 to 4,194,304. OWASP's advice is 19,456 with two iterations.
    pub memory_kib: u32,
    /// Passes over the memory: 1 to 16.
    pub iterations: u32,
    /// Hashes computed at the same time: 1 to 1,024. Each thread keeps `memory_kib` from its first job on.
    pub threads: usize,
    /// Hashes that may wait for a thread, at least 1; those being computed do not count.
    pub queue: usize,
}

/// Why a pool cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// `memory_kib` is out of bounds.
    #[error("the memory of a hash must be 8 to 4194304 KiB, not {0}")]
    Memory(u32),
    /// `iterations` is out of bounds.
    #[error("the iterations of a hash must be 1 to 16, not {0}")]
    Iterations(u32),
    /// `threads` is out of bounds.
    #[error("the hashing threads must be 1 to 1024, not {0}")]
    Threads(usize),
    /// `queue` is zero.
    #[error("the hashing queue must have room for at least one job")]
    Queue,
    /// The system gave no thread.
    #[error("a hashing thread could not be started")]
    Spawn(#[source] io::Error),
}

/// A bounded pool of hashing threads.
///
/// Dropping it gives up what waits, lets each thread finish the hash it is at, and joins the threads: it blocks for
/// the time of one hash.
#[derive(Debug)]
pub struct Argon2Pool {
    pool: Pool,
    params: Params,
    max_memory_kib: u32,
    nobodys: PasswordHash,
}

impl Argon2Pool {
    /// Starts the threads.
    pub fn new(settings: Settings) -> Result<Self, SettingsError> {
        let Settings { memory_kib, iterations, threads, queue } = settings;
        if !(Params::MIN_M_COST..=MAX_MEMORY_KIB).contains(&memory_kib) {
            return Err(SettingsError::Memory(memory_kib));
        }
        if !(1..=MAX_ITERATIONS).contains(&iterations) {
            return Err(SettingsError::Iterations(iterations));
        }
        if !(1..=MAX_THREADS).contains(&threads) {
            return Err(SettingsError::Threads(threads));
        }
        if queue == 0 {
            return Err(SettingsError::Queue);
        }
        let params = Params::new(memory_kib, iterations, 1, Some(TAG_LENGTH))
            .map_err(|_| SettingsError::Memory(memory_kib))?;
        Ok(Self {
            pool: Pool::start(threads, queue, params.block_count()).map_err(SettingsError::Spawn)?,
            max_memory_kib: stored::max_memory_kib(memory_kib),
            nobodys: PasswordHash::new(stored::nobodys(&params)),
            params,
        })
    }
}

#[async_trait]
impl PasswordHasher for Argon2Pool {
    async fn hash(&self, password: Password) -> Result<PasswordHash, HashError> {
        let params = self.params.clone();
        self.pool.run(move |memory| hash_new(&password, &params, memory)).await
    }

    async fn verify(&self, password: Password, hash: Option<PasswordHash>) -> Result<bool, HashError> {
        let hash = hash.unwrap_or_else(|| self.nobodys.clone());
        let stored = StoredHash::parse(hash.expose(), self.max_memory_kib)
            .map_err(|reason| HashError::Unavailable(reason.to_string()))?;
        self.pool.run(move |memory| matches(&password, &stored, memory)).await
    }

    fn is_outdated(&self, hash: &PasswordHash) -> bool {
        let stored = StoredHash::parse(hash.expose(), self.max_memory_kib);
        stored.is_ok_and(|stored| !stored.costs_as(&self.params))
    }
}

fn hash_new(password: &Password, params: &Params, memory: &mut Memory) -> Result<PasswordHash, HashError> {
    let mut salt = [0; SALT_LENGTH];
    getrandom::fill(&mut salt).map_err(unavailable)?;
    let mut tag = Zeroizing::new([0; TAG_LENGTH]);
    compute(password, params, &salt, tag.as_mut_slice(), memory)?;
    stored::format(params, &salt, tag.as_slice()).map(PasswordHash::new).map_err(unavailable)
}

fn matches(password: &Password, stored: &StoredHash, memory: &mut Memory) -> Result<bool, HashError> {
    let mut tag = Zeroizing::new(vec![0; stored.tag().len()]);
    compute(password, stored.params(), stored.salt(), &mut tag, memory)?;
    Ok(tag.as_slice().ct_eq(stored.tag()).into())
}

fn compute(
    password: &Password,
    params: &Params,
    salt: &[u8],
    tag: &mut [u8],
    memory: &mut Memory,
) -> Result<(), HashError> {
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
    memory
        .with_blocks(params.block_count(), |blocks| {
            argon2.hash_password_into_with_memory(password.expose().as_bytes(), salt, tag, blocks)
        })
        .map_err(unavailable)?
        .map_err(unavailable)
}

fn unavailable(reason: impl std::fmt::Display) -> HashError {
    HashError::Unavailable(reason.to_string())
}

#[cfg(test)]
mod tests;
