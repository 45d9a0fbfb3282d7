use argon2::password_hash::phc::{self, Output, ParamsString, PasswordHash, Salt};
use argon2::{ARGON2ID_IDENT, Params};

/// The most iterations that a stored hash may ask for.
pub(crate) const MAX_ITERATIONS: u32 = 16;

/// The most lanes that a stored hash may ask for.
const MAX_LANES: u32 = 4;

/// The shortest tag that counts as a password hash, in bytes. A shorter one could be met by chance.
const MIN_TAG_LENGTH: usize = 16;

/// The longest PHC string that is looked at, in bytes: the largest salt and tag that the format has fit well.
const MAX_TEXT_LENGTH: usize = 256;

/// The version of RFC 9106.
const VERSION: u32 = 0x13;

/// The memory that a stored hash may always ask for: 64 MiB, in KiB. Hashes outlive settings.
const MEMORY_ALWAYS_ALLOWED_KIB: u32 = 64 * 1024;

/// The most memory that a stored hash may ask for, in KiB, when new ones use `memory_kib`.
pub(crate) fn max_memory_kib(memory_kib: u32) -> u32 {
    memory_kib.saturating_mul(4).max(MEMORY_ALWAYS_ALLOWED_KIB)
}

/// A stored hash, taken apart and found to be affordable.
#[derive(Debug)]
pub(crate) struct StoredHash {
    params: Params,
    salt: Salt,
    tag: Output,
}

/// Why a stored hash is not computed. The hash itself is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StoredHashError {
    #[error("the stored password hash is not a PHC string")]
    Malformed,
    #[error("the stored password hash is not of the kind Argon2id, version 19")]
    OtherKind,
    #[error("the stored password hash asks for parameters out of bounds")]
    OutOfBounds,
}

impl StoredHash {
    /// Reads a PHC string: `$argon2id$v=19$m=…,t=…,p=…$salt$tag`.
    pub(crate) fn parse(text: &str, max_memory_kib: u32) -> Result<Self, StoredHashError> {
        if text.len() > MAX_TEXT_LENGTH {
            return Err(StoredHashError::Malformed);
        }
        let hash = PasswordHash::new(text).map_err(|_| StoredHashError::Malformed)?;
        if hash.algorithm != ARGON2ID_IDENT || hash.version != Some(VERSION) {
            return Err(StoredHashError::OtherKind);
        }
        let (Some(salt), Some(tag)) = (hash.salt, hash.hash) else {
            return Err(StoredHashError::Malformed);
        };
        let params = affordable(&hash.params, max_memory_kib, tag.len())?;
        Ok(Self { params, salt, tag })
    }

    /// What it costs.
    pub(crate) const fn params(&self) -> &Params {
        &self.params
    }

    /// Whether it costs what a hash with these parameters costs.
    pub(crate) fn costs_as(&self, params: &Params) -> bool {
        let costs = |params: &Params| (params.m_cost(), params.t_cost(), params.p_cost());
        costs(&self.params) == costs(params) && self.tag.len() == params.output_len().unwrap_or(0)
    }

    /// Its salt.
    pub(crate) fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// What the right password gives.
    pub(crate) fn tag(&self) -> &[u8] {
        self.tag.as_bytes()
    }
}

/// Writes a PHC string.
pub(crate) fn format(params: &Params, salt: &[u8], tag: &[u8]) -> Result<String, phc::Error> {
    let mut costs = ParamsString::new();
    costs.add_decimal("m", params.m_cost())?;
    costs.add_decimal("t", params.t_cost())?;
    costs.add_decimal("p", params.p_cost())?;
    let hash = PasswordHash {
        algorithm: ARGON2ID_IDENT,
        version: Some(VERSION),
        params: costs,
        salt: Some(Salt::new(salt)?),
        hash: Some(Output::new(tag)?),
    };
    Ok(hash.to_string())
}

/// A PHC string that costs what a new hash costs and that no password is known to fit: salt and tag are nothing but zeros.
pub(crate) fn nobodys(params: &Params) -> String {
    let (m, t, p) = (params.m_cost(), params.t_cost(), params.p_cost());
    let (salt, tag) = ("A".repeat(22), "A".repeat(43));
    format!("$argon2id$v={VERSION}$m={m},t={t},p={p}${salt}${tag}")
}

fn affordable(
    costs: &ParamsString,
    max_memory_kib: u32,
    tag_length: usize,
) -> Result<Params, StoredHashError> {
    let cost = |name| costs.get_decimal(name).ok_or(StoredHashError::Malformed);
    let (memory, iterations, lanes) = (cost("m")?, cost("t")?, cost("p")?);
    // A parameter that we don't know (a key id, associated data) would change what the right tag is.
    if costs.iter().count() != 3 {
        return Err(StoredHashError::OtherKind);
    }
    if memory > max_memory_kib
        || iterations > MAX_ITERATIONS
        || lanes > MAX_LANES
        || tag_length < MIN_TAG_LENGTH
    {
        return Err(StoredHashError::OutOfBounds);
    }
    Params::new(memory, iterations, lanes, Some(tag_length)).map_err(|_| StoredHashError::OutOfBounds)
}
