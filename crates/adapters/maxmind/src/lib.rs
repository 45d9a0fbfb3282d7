//! The address-to-country port on an MMDB file, the format of MaxMind's `GeoLite2` and of its kin
//! (<https://maxmind.github.io/MaxMind-DB/>).
//!
//! The operator supplies the file; none comes with this crate, and nothing is downloaded. It is read into memory, and
//! read again when it has changed. Which countries may come in is not known here.

mod edition;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use maxminddb::MaxMindDbError;
use vestibule_domain::Country;
use vestibule_port_security::ClientCountries;

use edition::{Edition, Mark, Sight};

/// The countries of an MMDB file.
#[derive(Debug)]
pub struct MmdbCountries {
    path: PathBuf,
    edition: RwLock<Arc<Edition>>,
    seen: Mutex<Sight>,
}

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
pub enum MmdbError {
    /// It cannot be read.
    #[error("the address database {} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It is not in the MMDB format, or damaged.
    #[error("the address database {} is not a valid MMDB file", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: MaxMindDbError,
    },
    /// It tells something else than countries. Used all the same, it would let everybody through.
    #[error("the address database {} (of the type `{kind}`) has no countries", path.display())]
    NoCountries {
        /// The file.
        path: PathBuf,
        /// The type that it names, such as `GeoLite2-ASN`.
        kind: String,
    },
}

/// What a look at the file has led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// The file is as it was.
    AsBefore,
    /// The file is another one, which is used from now on.
    NewEdition,
}

impl MmdbCountries {
    /// Reads a file of countries or cities into memory.
    pub fn open(path: &Path) -> Result<Self, MmdbError> {
        let (edition, mark) = Edition::read(path)?;
        Ok(Self {
            path: path.to_owned(),
            edition: RwLock::new(Arc::new(edition)),
            seen: Mutex::new(Sight::File(mark)),
        })
    }

    /// Looks at the file again, and takes it over at once as a whole if it has changed. Where it is of no use the edition from before
    /// stays; what is wrong is told once, not at every look. A file that cannot be read is tried again by every look, a broken one only
    /// when it has changed.
    pub fn look(&self) -> Result<Look, MmdbError> {
        self.look_by(Edition::read)
    }

    fn look_by(
        &self,
        read: impl FnOnce(&Path) -> Result<(Edition, Mark), MmdbError>,
    ) -> Result<Look, MmdbError> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let sight = Sight::of(&self.path);
        if sight == *seen {
            return Ok(Look::AsBefore);
        }
        let (edition, mark) = match read(&self.path) {
            Ok(edition) => edition,
            Err(MmdbError::Read { path, source }) => {
                // Its mark is not remembered: the next look tries it again.
                let failure = Sight::Unreadable(source.kind());
                if *seen == failure {
                    return Ok(Look::AsBefore);
                }
                *seen = failure;
                return Err(MmdbError::Read { path, source });
            }
            Err(broken) => {
                *seen = sight;
                return Err(broken);
            }
        };
        *seen = Sight::File(mark);
        *self.edition.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(edition);
        Ok(Look::NewEdition)
    }

    fn edition(&self) -> Arc<Edition> {
        Arc::clone(&self.edition.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ClientCountries for MmdbCountries {
    fn country_of(&self, address: IpAddr) -> Option<Country> {
        self.edition().country_of(address)
    }
}

/// No knowledge of countries, for a service whose operator has no file.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoCountries;

impl ClientCountries for NoCountries {
    fn country_of(&self, _: IpAddr) -> Option<Country> {
        None
    }
}

#[cfg(test)]
mod tests;
