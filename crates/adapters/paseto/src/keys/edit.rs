//! Changes of a key file. What is not concerned stays as it was written.

use std::path::Path;
use std::time::Duration;

use time::UtcDateTime;
use zeroize::Zeroizing;

use super::file::Locked;
use super::line::{Line, Role};
use super::{Fresh, KeyFileError, KeyRing, identify};
use crate::moment;

/// More than a line grows by a change, and than a new line has.
const LONGEST_CHANGE: usize = 256;

/// When a new key is to take over.
#[derive(Debug, Clone, Copy)]
pub struct Rotation {
    /// The time now.
    pub now: UtcDateTime,
    /// How long the new key is published before it signs.
    pub delay: Duration,
    /// How long the old key verifies after that: not less than the life of a token.
    pub keep: Duration,
}

/// What a rotation will do by itself.
#[derive(Debug, PartialEq, Eq)]
pub struct Rotated {
    /// The new key.
    pub new: String,
    /// The key that signs until then.
    pub old: String,
    /// From when on the new one signs.
    pub from: UtcDateTime,
    /// The first moment at which the old one does not verify.
    pub until: UtcDateTime,
    /// Keys whose time was over, and which are no longer in the file.
    pub dropped: Vec<String>,
}

/// Why a key file was not changed.
#[derive(Debug, thiserror::Error)]
pub enum KeyChangeError {
    /// It cannot be read or written, or does not make sense.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// A new key waits to sign already.
    #[error("a rotation is under way: {id} signs from {from}; wait for it, or retire that key")]
    UnderWay {
        /// The new key.
        id: String,
        /// From when on it signs.
        from: String,
    },
    /// The file has no such key.
    #[error("the token key file has no key {id}")]
    Unknown {
        /// The identifier that was asked for.
        id: String,
    },
    /// Nothing would be left that signs.
    #[error("{id} is the only key that signs; rotate first")]
    OnlySigner {
        /// The key.
        id: String,
    },
    /// What is left would not make sense, which only a file with several keys to come can lead to.
    #[error("the file that is left would not make sense ({0}); change it by hand")]
    Leaves(#[source] KeyFileError),
}

/// Adds a key to a file: published at once, and signing after the delay, when the key that signs now steps back.
pub fn rotate(path: &Path, rotation: &Rotation) -> Result<Rotated, KeyChangeError> {
    let fresh = Fresh::generate()?;
    let file = Locked::open(path)?;
    let text = file.read()?;
    let (changed, rotated) = with(&text, &fresh, rotation)?;
    file.replace(&changed)?;
    Ok(rotated)
}

/// Takes a key out of a file: its tokens are refused by every instance that has noticed. Retiring a key that has not
/// signed yet calls off its rotation; retiring the one that signs hands over to the next at once.
///
/// Returns the keys whose time was over, and which are no longer in the file either.
pub fn retire(path: &Path, id: &str, now: UtcDateTime) -> Result<Vec<String>, KeyChangeError> {
    let file = Locked::open(path)?;
    let text = file.read()?;
    let (changed, dropped) = without(&text, id, now)?;
    file.replace(&changed)?;
    Ok(dropped)
}

/// The text with a new key.
fn with(
    text: &str,
    fresh: &Fresh,
    rotation: &Rotation,
) -> Result<(Zeroizing<String>, Rotated), KeyChangeError> {
    let now = rotation.now;
    let mut draft = Draft::parse(text)?;
    if let Some(next) = draft.next_after(Some(now)) {
        let from = next.line.from.and_then(moment::format).unwrap_or_default();
        return Err(KeyChangeError::UnderWay { id: next.id.clone(), from });
    }
    let dropped = draft.tidy(now);
    let mut from = moment::whole_seconds(now).saturating_add(span(rotation.delay));
    let old = draft.signing(now).ok_or(KeyFileError::NoActiveKey)?;
    if let Some(since) = old.line.from {
        // Two keys cannot take over at the same moment.
        from = from.max(since.saturating_add(time::Duration::SECOND));
    }
    let until = from.saturating_add(span(rotation.keep));
    old.change(|line| line.until = Some(until));
    let rotated = Rotated { new: fresh.id.clone(), old: old.id.clone(), from, until, dropped };
    let line = Line { role: Role::Active, key: &fresh.secret, from: Some(from), until: None, comment: "" };
    draft.0.push(Part::Key(Entry { raw: None, id: fresh.id.clone(), line }));
    Ok((draft.write(text.len())?, rotated))
}

/// The text without a key.
fn without(
    text: &str,
    id: &str,
    now: UtcDateTime,
) -> Result<(Zeroizing<String>, Vec<String>), KeyChangeError> {
    let mut draft = Draft::parse(text)?;
    let unknown = || KeyChangeError::Unknown { id: id.to_owned() };
    let (role, from) = draft
        .entries()
        .find(|entry| entry.id == id)
        .map(|entry| (entry.line.role, entry.line.from))
        .ok_or_else(unknown)?;
    let signs = draft.signing(now).is_some_and(|signing| signing.id == id);
    if signs {
        let next = draft.next_after(from).ok_or_else(|| KeyChangeError::OnlySigner { id: id.to_owned() })?;
        next.change(|line| line.from = Some(moment::whole_seconds(now)));
    } else if role == Role::Active && from > Some(now) && draft.next_after(from).is_none() {
        // The key before it signs on after all.
        if let Some(before) = draft.last_before(from) {
            before.change(|line| line.until = None);
        }
    }
    draft.0.retain(|part| !matches!(part, Part::Key(entry) if entry.id == id));
    let dropped = draft.tidy(now);
    Ok((draft.write(text.len())?, dropped))
}

fn span(duration: Duration) -> time::Duration {
    duration.try_into().unwrap_or(time::Duration::MAX)
}

/// A key file that is being changed.
struct Draft<'a>(Vec<Part<'a>>);

enum Part<'a> {
    /// A comment or an empty line, with its end.
    Other(&'a str),
    Key(Entry<'a>),
}

struct Entry<'a> {
    /// As it was written; `None` once it has changed.
    raw: Option<&'a str>,
    id: String,
    line: Line<'a>,
}

impl<'a> Entry<'a> {
    fn change(&mut self, how: impl FnOnce(&mut Line<'a>)) {
        how(&mut self.line);
        self.raw = None;
    }
}

impl<'a> Draft<'a> {
    fn parse(text: &'a str) -> Result<Self, KeyFileError> {
        // Whatever is wrong with it is found first, so that nothing is built upon it.
        KeyRing::parse(text)?;
        let part = |(index, raw): (usize, &'a str)| {
            let at_line = |problem| KeyFileError::Line { line: index + 1, problem };
            let Some(line) = Line::parse(raw).map_err(at_line)? else { return Ok(Part::Other(raw)) };
            let id = identify(&line.keys().map_err(at_line)?.0);
            Ok(Part::Key(Entry { raw: Some(raw), id, line }))
        };
        text.split_inclusive('\n').enumerate().map(part).collect::<Result<_, _>>().map(Self)
    }

    fn entries(&mut self) -> impl Iterator<Item = &mut Entry<'a>> {
        self.0.iter_mut().filter_map(|part| match part {
            Part::Other(_) => None,
            Part::Key(entry) => Some(entry),
        })
    }

    fn active(&mut self) -> impl Iterator<Item = &mut Entry<'a>> {
        self.entries().filter(|entry| entry.line.role == Role::Active)
    }

    /// The key that signs, by the rule of [`KeyRing`].
    fn signing(&mut self, now: UtcDateTime) -> Option<&mut Entry<'a>> {
        let froms: Vec<_> = self.active().map(|entry| entry.line.from).collect();
        let passed = froms.iter().filter(|from| **from <= Some(now)).max();
        let since = *passed.or(froms.iter().min())?;
        self.active().find(|entry| entry.line.from == since)
    }

    /// The first key that takes over after a time.
    fn next_after(&mut self, time: Option<UtcDateTime>) -> Option<&mut Entry<'a>> {
        self.active().filter(|entry| entry.line.from > time).min_by_key(|entry| entry.line.from)
    }

    /// The last key that takes over before a time.
    fn last_before(&mut self, time: Option<UtcDateTime>) -> Option<&mut Entry<'a>> {
        self.active().filter(|entry| entry.line.from < time).max_by_key(|entry| entry.line.from)
    }

    /// Makes keys whose turn to sign is over such that only verify, and drops those whose time is over.
    fn tidy(&mut self, now: UtcDateTime) -> Vec<String> {
        let since = self.signing(now).and_then(|signing| signing.line.from);
        for entry in self.active().filter(|entry| entry.line.from < since) {
            entry.change(|line| {
                line.role = Role::Verify;
                line.from = None;
            });
        }
        let is_over = |entry: &Entry<'_>| entry.line.until.is_some_and(|until| until <= now);
        let dropped = self.entries().filter(|entry| is_over(entry)).map(|entry| entry.id.clone()).collect();
        self.0.retain(|part| !matches!(part, Part::Key(entry) if is_over(entry)));
        dropped
    }

    /// The text; `length` is that of the text before.
    fn write(&self, length: usize) -> Result<Zeroizing<String>, KeyChangeError> {
        // Room from the start: a string that grows leaves copies of its beginning behind.
        let room = length + self.0.len() * LONGEST_CHANGE + LONGEST_CHANGE;
        let mut text = Zeroizing::new(String::with_capacity(room));
        for part in &self.0 {
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            match part {
                Part::Other(raw) | Part::Key(Entry { raw: Some(raw), .. }) => text.push_str(raw),
                Part::Key(Entry { line, .. }) => line.write(&mut text),
            }
        }
        KeyRing::parse(&text).map_err(KeyChangeError::Leaves)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests;
