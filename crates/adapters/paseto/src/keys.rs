use std::fmt;
use std::io;
use std::path::Path;

use pasetors::keys::{AsymmetricKeyPair, AsymmetricPublicKey, AsymmetricSecretKey, Generate};
use pasetors::paserk::{FormatAsPaserk, Id};
use pasetors::version4::{PublicToken, V4};
use time::UtcDateTime;
use vestibule_port_security::PublicKey;
use zeroize::Zeroizing;

mod edit;
mod file;
mod line;
mod watch;

pub use self::edit::{KeyChangeError, Rotated, Rotation, retire, rotate};
pub use self::line::LineProblem;
pub use self::watch::KeyFileWatch;

use self::line::{Line, Role};

/// The keys of a service, each with the time that it has: at any moment one of them signs, and any number verify.
///
/// As text there is one key a line, in the PASERK form of v4; `#` begins a comment:
///
/// ```text
/// # signs, until the next one does; verifies until the last of its tokens has expired
/// active k4.secret.… until=2026-11-25T12:20:00Z
/// # published already; signs from then on
/// active k4.secret.… from=2026-11-25T12:00:00Z
/// # another service's
/// verify k4.public.…
/// ```
///
/// Of the `active` keys the one signs whose `from` was the last to pass; without `from` it has always passed. A key
/// verifies and is published from the moment that it stands in the file until just before its `until`. So all
/// instances that have the same file switch at the same moment, and none needs to be told.
///
/// There is no moment at which nothing signs: before every `from` the first of the keys signs, an active key verifies
/// at least until the next one signs, and the last one has no `until`.
pub struct KeyRing {
    keys: Vec<Key>,
    first: Signer,
    /// In the order of their times.
    later: Vec<Signer>,
}

struct Key {
    id: String,
    public: AsymmetricPublicKey<V4>,
    role: Role,
    from: Option<UtcDateTime>,
    until: Option<UtcDateTime>,
}

struct Signer {
    id: String,
    line: usize,
    from: Option<UtcDateTime>,
    until: Option<UtcDateTime>,
    secret: AsymmetricSecretKey<V4>,
    footer: Vec<u8>,
}

/// A key of a ring, as its operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyState {
    /// The PASERK identifier, `k4.pid.…`.
    pub id: String,
    /// What it does now.
    pub duty: KeyDuty,
    /// From when on it signs; `None` for a key that has always signed, or never does.
    pub from: Option<UtcDateTime>,
    /// The first moment at which it does not verify; `None` as long as nobody decides it.
    pub until: Option<UtcDateTime>,
}

/// What a key does at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyDuty {
    /// It signs new tokens.
    Signing,
    /// It will sign. It is published, and verifies.
    Next,
    /// It only verifies.
    Verifying,
    /// Nothing: its time is over.
    Retired,
}

impl KeyDuty {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Signing => "signing",
            Self::Next => "next",
            Self::Verifying => "verifying",
            Self::Retired => "retired",
        }
    }
}

/// Why there is no key ring. Errors name the line, never what it says, and not the file, which the caller has named.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file cannot be read.
    #[error("the token keys cannot be read")]
    Read {
        /// What the system says.
        source: io::Error,
    },
    /// The file cannot be made.
    #[error("the token keys cannot be written")]
    Write {
        /// What the system says.
        source: io::Error,
    },
    /// A line does not make sense.
    #[error("line {line} of the token keys: {problem}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it.
        problem: LineProblem,
    },
    /// No line says `active`.
    #[error("one of the token keys must be `active`")]
    NoActiveKey,
    /// The system gave no randomness for a new key.
    #[error("no token key could be generated")]
    Generate,
}

impl KeyRing {
    /// Reads the text of a key file.
    pub fn parse(text: &str) -> Result<Self, KeyFileError> {
        let mut signers = Vec::new();
        let mut keys: Vec<Key> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let at_line = |problem| KeyFileError::Line { line: index + 1, problem };
            let Some(line) = Line::parse(line).map_err(at_line)? else { continue };
            let (public, secret) = line.keys().map_err(at_line)?;
            let Line { role, from, until, .. } = line;
            let id = identify(&public);
            if keys.iter().any(|above| above.id == id) {
                return Err(at_line(LineProblem::Duplicate));
            }
            if let Some(secret) = secret {
                let footer = footer(&id);
                signers.push(Signer { id: id.clone(), line: index + 1, from, until, secret, footer });
            }
            keys.push(Key { id, public, role, from, until });
        }
        check(&mut signers)?;
        let mut signers = signers.into_iter();
        let first = signers.next().ok_or(KeyFileError::NoActiveKey)?;
        Ok(Self { keys, first, later: signers.collect() })
    }

    /// Reads a key file. One that other users of the machine may read is accepted, with a warning in the log.
    pub fn load(path: &Path) -> Result<Self, KeyFileError> {
        let text = file::read(path)?;
        file::warn_if_others_may_read(path);
        Self::parse(&text)
    }

    /// Makes a key file and reads it. One that is there already is left as it is and read: of two starts at once both get the same key.
    pub fn generate_file(path: &Path) -> Result<Self, KeyFileError> {
        Self::make_file(path)?;
        Self::load(path)
    }

    /// Makes a key file with one fresh key, readable by its owner only, durable once this returns; whether it did. One that is there
    /// already is left as it is.
    pub fn make_file(path: &Path) -> Result<bool, KeyFileError> {
        if path.try_exists().map_err(|source| KeyFileError::Read { source })? {
            return Ok(false);
        }
        let fresh = Fresh::generate()?;
        let mut text = Zeroizing::new(String::with_capacity(256));
        text.push_str("# Signs access tokens. Whoever reads this can sign in as anybody.\nactive ");
        text.push_str(&fresh.secret);
        text.push('\n');
        file::create(path, &text, &fresh.id)
    }

    /// What each key does at a moment, in the order of the file.
    #[must_use]
    pub fn states(&self, now: UtcDateTime) -> Vec<KeyState> {
        let signing = &self.signer(now).id;
        let duty = |key: &Key| {
            if !key.verifies(now) {
                KeyDuty::Retired
            } else if key.id == *signing {
                KeyDuty::Signing
            } else if key.role == Role::Active && key.from > Some(now) {
                KeyDuty::Next
            } else {
                KeyDuty::Verifying
            }
        };
        let state =
            |key: &Key| KeyState { id: key.id.clone(), duty: duty(key), from: key.from, until: key.until };
        self.keys.iter().map(state).collect()
    }

    /// Signs a payload with the key whose time it is.
    pub(crate) fn sign(&self, payload: &[u8], now: UtcDateTime) -> Option<String> {
        let signer = self.signer(now);
        PublicToken::sign(&signer.secret, payload, Some(&signer.footer), None).ok()
    }

    /// The key of that identifier, if it verifies now, and until when it does.
    pub(crate) fn verification_key(
        &self,
        id: &str,
        now: UtcDateTime,
    ) -> Option<(&AsymmetricPublicKey<V4>, Option<UtcDateTime>)> {
        let key = self.keys.iter().find(|key| key.id == id && key.verifies(now))?;
        Some((&key.public, key.until))
    }

    /// All keys that verify now, in the order of the file.
    pub(crate) fn public_keys(&self, now: UtcDateTime) -> Vec<PublicKey> {
        let signing = &self.signer(now).id;
        let published = |key: &Key| PublicKey {
            id: key.id.clone(),
            key: paserk(&key.public),
            active: key.id == *signing,
        };
        self.keys.iter().filter(|key| key.verifies(now)).map(published).collect()
    }

    fn signer(&self, now: UtcDateTime) -> &Signer {
        self.later.iter().rev().find(|signer| signer.from <= Some(now)).unwrap_or(&self.first)
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = self.keys.iter().map(|key| &key.id);
        f.write_str("KeyRing")?;
        f.debug_list().entries(ids).finish()
    }
}

impl Key {
    fn verifies(&self, now: UtcDateTime) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// Puts keys that sign in the order of their times, and refuses times with a gap between them.
fn check(signers: &mut [Signer]) -> Result<(), KeyFileError> {
    signers.sort_by_key(|signer| signer.from);
    let mut following = signers.iter().skip(1);
    for signer in &*signers {
        let next = following.next();
        let refused = |signer: &Signer, problem| Err(KeyFileError::Line { line: signer.line, problem });
        match (next, signer.until) {
            (Some(next), _) if next.from == signer.from => return refused(next, LineProblem::SecondActive),
            (Some(next), Some(until)) if Some(until) < next.from => {
                return refused(signer, LineProblem::EndsTooEarly);
            }
            (None, Some(_)) => return refused(signer, LineProblem::LastEnds),
            _ => {}
        }
    }
    Ok(())
}

/// A key that nobody has seen yet, in the form of a key file.
struct Fresh {
    id: String,
    secret: Zeroizing<String>,
}

impl Fresh {
    fn generate() -> Result<Self, KeyFileError> {
        let pair = AsymmetricKeyPair::<V4>::generate().map_err(|_| KeyFileError::Generate)?;
        // Room from the start: a string that grows leaves copies of its beginning behind.
        let mut secret = Zeroizing::new(String::with_capacity(128));
        pair.secret.fmt(&mut *secret).map_err(|_| KeyFileError::Generate)?;
        Ok(Self { id: identify(&pair.public), secret })
    }
}

fn footer(id: &str) -> Vec<u8> {
    serde_json::json!({ "kid": id }).to_string().into_bytes()
}

fn identify(key: &AsymmetricPublicKey<V4>) -> String {
    paserk(&Id::from(key))
}

fn paserk(value: &impl FormatAsPaserk) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = value.fmt(&mut text);
    text
}

#[cfg(test)]
mod tests;
