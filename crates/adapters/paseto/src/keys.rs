use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use pasetors::keys::{AsymmetricKeyPair, AsymmetricPublicKey, AsymmetricSecretKey, Generate};
use pasetors::paserk::{FormatAsPaserk, Id};
use pasetors::version4::{PublicToken, V4};
use vestibule_port_security::PublicKey;
use zeroize::Zeroizing;

mod file;

/// The keys of a service: one that signs, any number that verify.
///
/// As text there is one key a line, in the PASERK form of v4; `#` begins a comment:
///
/// ```text
/// # signs new tokens
/// active k4.secret.…
/// # signed until last week: its tokens are still good
/// verify k4.secret.…
/// # another service's
/// verify k4.public.…
/// ```
///
/// To rotate, add the new key as `verify`, restart every instance, swap the two words, restart again; drop the old
/// line when the last token that it signed has expired.
pub struct KeyRing {
    secret: AsymmetricSecretKey<V4>,
    footer: Vec<u8>,
    keys: Vec<Key>,
}

struct Key {
    public: AsymmetricPublicKey<V4>,
    published: PublicKey,
}

/// Why there is no key ring. Errors name the line, never what it says.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file cannot be read.
    #[error("the token key file {} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file cannot be made.
    #[error("the token key file {} cannot be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
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

/// What can be wrong with a line of a key file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LineProblem {
    /// It is not of the form `active KEY` or `verify KEY`.
    #[error("expected `active` or `verify`, and one key")]
    Form,
    /// The active key is no secret key.
    #[error("the active key must be a valid `k4.secret` key")]
    Secret,
    /// The key is neither a secret nor a public key of version 4.
    #[error("expected a valid `k4.secret` or `k4.public` key")]
    Key,
    /// There is an active key already.
    #[error("a second active key")]
    SecondActive,
    /// The same key stands above.
    #[error("the same key for the second time")]
    Duplicate,
}

impl KeyRing {
    /// Reads the text of a key file.
    pub fn parse(text: &str) -> Result<Self, KeyFileError> {
        let mut active = None;
        let mut keys: Vec<Key> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let at_line = |problem| KeyFileError::Line { line: index + 1, problem };
            let Some(entry) = Entry::parse(line).map_err(at_line)? else { continue };
            let key = Key::new(entry.public, entry.secret.is_some());
            if keys.iter().any(|above| above.published.id == key.published.id) {
                return Err(at_line(LineProblem::Duplicate));
            }
            if let Some(secret) = entry.secret {
                if active.is_some() {
                    return Err(at_line(LineProblem::SecondActive));
                }
                active = Some((secret, footer(&key.published.id)));
            }
            keys.push(key);
        }
        let (secret, footer) = active.ok_or(KeyFileError::NoActiveKey)?;
        Ok(Self { secret, footer, keys })
    }

    /// Reads a key file. One that other users of the machine may read is accepted, with a warning in the log.
    pub fn load(path: &Path) -> Result<Self, KeyFileError> {
        Self::parse(&file::read(path)?)
    }

    /// Makes a key file with one fresh key, readable by its owner only, durable once this returns, and reads it.
    ///
    /// A file that is there already is left as it is and read: of two starts at once both get the same key.
    pub fn generate_file(path: &Path) -> Result<Self, KeyFileError> {
        let pair = AsymmetricKeyPair::<V4>::generate().map_err(|_| KeyFileError::Generate)?;
        let mut text = Zeroizing::new(String::with_capacity(256));
        text.push_str("# Signs access tokens. Whoever reads this can sign in as anybody.\nactive ");
        pair.secret.fmt(&mut *text).map_err(|_| KeyFileError::Generate)?;
        text.push('\n');
        file::create(path, &text, &identify(&pair.public))?;
        Self::load(path)
    }

    /// Signs a payload with the active key.
    pub(crate) fn sign(&self, payload: &[u8]) -> Option<String> {
        PublicToken::sign(&self.secret, payload, Some(&self.footer), None).ok()
    }

    /// The key of that identifier.
    pub(crate) fn verification_key(&self, id: &str) -> Option<&AsymmetricPublicKey<V4>> {
        self.keys.iter().find(|key| key.published.id == id).map(|key| &key.public)
    }

    /// All keys, in the order of the file.
    pub(crate) fn public_keys(&self) -> Vec<PublicKey> {
        self.keys.iter().map(|key| key.published.clone()).collect()
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = self.keys.iter().map(|key| &key.published.id);
        f.write_str("KeyRing")?;
        f.debug_list().entries(ids).finish()
    }
}

impl Key {
    fn new(public: AsymmetricPublicKey<V4>, active: bool) -> Self {
        let published = PublicKey { id: identify(&public), key: paserk(&public), active };
        Self { public, published }
    }
}

/// One line of a key file; the secret is kept of the active key only.
struct Entry {
    public: AsymmetricPublicKey<V4>,
    secret: Option<AsymmetricSecretKey<V4>>,
}

impl Entry {
    /// Reads a line; `None` if it is empty or a comment.
    fn parse(line: &str) -> Result<Option<Self>, LineProblem> {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let (role, key) = match (words.next(), words.next(), words.next()) {
            (None, _, _) => return Ok(None),
            (Some(role), Some(key), None) => (role, key),
            _ => return Err(LineProblem::Form),
        };
        match role {
            "active" => {
                let secret = secret_key(key).ok_or(LineProblem::Secret)?;
                let public = AsymmetricPublicKey::try_from(&secret).map_err(|_| LineProblem::Secret)?;
                Ok(Some(Self { public, secret: Some(secret) }))
            }
            "verify" => {
                let public = match secret_key(key) {
                    Some(secret) => AsymmetricPublicKey::try_from(&secret),
                    None => AsymmetricPublicKey::try_from(key),
                };
                Ok(Some(Self { public: public.map_err(|_| LineProblem::Key)?, secret: None }))
            }
            _ => Err(LineProblem::Form),
        }
    }
}

/// Reads a secret key.
///
/// One with an all-zero seed is refused before it is looked at: it is no secret, and the Ed25519 library panics at it.
/// The 42 digits are the first 252 bits of the seed.
fn secret_key(key: &str) -> Option<AsymmetricSecretKey<V4>> {
    let digits = key.strip_prefix("k4.secret.")?;
    if digits.bytes().take(42).all(|digit| digit == b'A') {
        return None;
    }
    AsymmetricSecretKey::try_from(key).ok()
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
