//! A key file that is looked at again and again.

use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{KeyFileError, KeyRing, file};

/// Notices when the content of a key file has changed.
///
/// It reads the whole file at each look, which is smaller than what the system would tell of it, and misses nothing:
/// no change within the resolution of a time, no link that leads elsewhere now.
pub struct KeyFileWatch {
    path: PathBuf,
    seen: Sight,
}

/// What the last look has seen.
#[derive(PartialEq, Eq)]
enum Sight {
    Content([u8; 32]),
    Unreadable(io::ErrorKind),
}

impl KeyFileWatch {
    /// Reads the file for the first time.
    pub fn open(path: &Path) -> Result<(KeyRing, Self), KeyFileError> {
        let text = file::read(path)?;
        file::warn_if_others_may_read(path);
        let seen = Sight::Content(Sha256::digest(text.as_bytes()).into());
        Ok((KeyRing::parse(&text)?, Self { path: path.to_owned(), seen }))
    }

    /// Looks again: `None` if the file is as it was. What is wrong with it is told once, not at every look.
    pub fn look(&mut self) -> Result<Option<KeyRing>, KeyFileError> {
        let read = file::read(&self.path);
        let sight = match &read {
            Ok(text) => Sight::Content(Sha256::digest(text.as_bytes()).into()),
            Err(KeyFileError::Read { source, .. }) => Sight::Unreadable(source.kind()),
            Err(_) => Sight::Unreadable(io::ErrorKind::Other),
        };
        if sight == self.seen {
            return Ok(None);
        }
        self.seen = sight;
        let text = read?;
        file::warn_if_others_may_read(&self.path);
        KeyRing::parse(&text).map(Some)
    }
}
