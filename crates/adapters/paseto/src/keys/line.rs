//! One line of a key file.

use pasetors::keys::{AsymmetricPublicKey, AsymmetricSecretKey};
use pasetors::version4::V4;
use time::UtcDateTime;

use crate::moment;

/// What can be wrong with a line of a key file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LineProblem {
    /// It is not of the form `active KEY` or `verify KEY`, with or without times.
    #[error(
        "expected `active` or `verify`, one key, and at most one `from=` (of an active key) and `until=`"
    )]
    Form,
    /// A time is none.
    #[error("expected a time like 2026-11-25T12:00:00Z after `from=` and `until=`")]
    Time,
    /// The active key is no secret key.
    #[error("the active key must be a valid `k4.secret` key")]
    Secret,
    /// The key is neither a secret nor a public key of version 4.
    #[error("expected a valid `k4.secret` or `k4.public` key")]
    Key,
    /// There is an active key already for the same time.
    #[error("a second active key from the same time on")]
    SecondActive,
    /// The same key stands above.
    #[error("the same key for the second time")]
    Duplicate,
    /// It would not verify its own tokens, or not until the next key signs.
    #[error("an active key must verify at least until the next one signs: its `until` is too early")]
    EndsTooEarly,
    /// Nothing would sign after it.
    #[error("no key signs after this one, so it must not have `until`")]
    LastEnds,
}

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It signs when its time has come.
    Active,
    /// It never signs.
    Verify,
}

/// A line with a key, which is not looked at yet.
pub(super) struct Line<'a> {
    pub(super) role: Role,
    pub(super) key: &'a str,
    pub(super) from: Option<UtcDateTime>,
    pub(super) until: Option<UtcDateTime>,
    /// From the `#` on, if there is one.
    pub(super) comment: &'a str,
}

impl<'a> Line<'a> {
    /// Reads a line; `None` if it is empty or a comment.
    pub(super) fn parse(line: &'a str) -> Result<Option<Self>, LineProblem> {
        let (content, comment) = line.split_at(line.find('#').unwrap_or(line.len()));
        let mut words = content.split_whitespace();
        let (role, key) = match (words.next(), words.next()) {
            (None, _) => return Ok(None),
            (Some("active"), Some(key)) => (Role::Active, key),
            (Some("verify"), Some(key)) => (Role::Verify, key),
            _ => return Err(LineProblem::Form),
        };
        let mut line = Self { role, key, from: None, until: None, comment: comment.trim_end() };
        for word in words {
            let (place, text) = match word.split_once('=') {
                Some(("from", text)) if role == Role::Active => (&mut line.from, text),
                Some(("until", text)) => (&mut line.until, text),
                _ => return Err(LineProblem::Form),
            };
            let time = moment::parse(text).ok_or(LineProblem::Time)?;
            if place.replace(time).is_some() {
                return Err(LineProblem::Form);
            }
        }
        match (line.from, line.until) {
            (Some(from), Some(until)) if until <= from => Err(LineProblem::EndsTooEarly),
            _ => Ok(Some(line)),
        }
    }

    /// The key; its secret only if it is to sign.
    pub(super) fn keys(
        &self,
    ) -> Result<(AsymmetricPublicKey<V4>, Option<AsymmetricSecretKey<V4>>), LineProblem> {
        match self.role {
            Role::Active => {
                let secret = secret_key(self.key).ok_or(LineProblem::Secret)?;
                let public = AsymmetricPublicKey::try_from(&secret).map_err(|_| LineProblem::Secret)?;
                Ok((public, Some(secret)))
            }
            Role::Verify => {
                let public = match secret_key(self.key) {
                    Some(secret) => AsymmetricPublicKey::try_from(&secret),
                    None => AsymmetricPublicKey::try_from(self.key),
                };
                Ok((public.map_err(|_| LineProblem::Key)?, None))
            }
        }
    }

    /// Writes the line. The text should have room for it, since it holds a secret.
    pub(super) fn write(&self, text: &mut String) {
        let role = match self.role {
            Role::Active => "active",
            Role::Verify => "verify",
        };
        text.push_str(role);
        text.push(' ');
        text.push_str(self.key);
        for (name, time) in [(" from=", self.from), (" until=", self.until)] {
            // A time that was read can be written.
            if let Some(time) = time.and_then(moment::format) {
                text.push_str(name);
                text.push_str(&time);
            }
        }
        if !self.comment.is_empty() {
            text.push_str("  ");
            text.push_str(self.comment);
        }
        text.push('\n');
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
