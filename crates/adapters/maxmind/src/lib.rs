//! The address-to-country port on an MMDB file, the format of MaxMind's `GeoLite2` and of its kin
//! (<https://maxmind.github.io/MaxMind-DB/>).
//!
//! The operator supplies the file; none comes with this crate, and nothing is downloaded. It is read into memory once,
//! so a new edition takes a restart. Which countries are blocked is not known here.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Once;

use maxminddb::{MaxMindDbError, PathElement, Reader, WithinOptions};
use vestibule_domain::Country;
use vestibule_port_security::ClientCountries;

/// How many records are searched for a country before a file is taken to have none.
const PROBED_RECORDS: usize = 10_000;

/// Where a record has the country: where the address is used, and, where that is unknown, where it is registered.
const PATHS: [[PathElement<'static>; 2]; 2] = [
    [PathElement::Key("country"), PathElement::Key("iso_code")],
    [PathElement::Key("registered_country"), PathElement::Key("iso_code")],
];

/// The countries of an MMDB file.
#[derive(Debug)]
pub struct MmdbCountries {
    reader: Reader<Vec<u8>>,
    damage_reported: Once,
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

impl MmdbCountries {
    /// Reads a file of countries or cities into memory.
    pub fn open(path: &Path) -> Result<Self, MmdbError> {
        let bytes =
            std::fs::read(path).map_err(|source| MmdbError::Read { path: path.to_owned(), source })?;
        let invalid = |source| MmdbError::Invalid { path: path.to_owned(), source };
        let reader = Reader::from_source(bytes).map_err(invalid)?;
        if !has_countries(&reader).map_err(invalid)? {
            let kind = reader.metadata().database_type.clone();
            return Err(MmdbError::NoCountries { path: path.to_owned(), kind });
        }
        Ok(Self { reader, damage_reported: Once::new() })
    }
}

impl ClientCountries for MmdbCountries {
    fn country_of(&self, address: IpAddr) -> Option<Country> {
        let address = address.to_canonical();
        if address.is_ipv6() && self.reader.metadata().ip_version == 4 {
            return None;
        }
        let code = self.reader.lookup(address).and_then(|record| {
            PATHS.iter().find_map(|path| record.decode_path::<&str>(path).transpose()).transpose()
        });
        match code {
            Ok(code) => Country::parse(code?).ok(),
            Err(error) => {
                // Once, and without the address: a damaged file meets every request.
                self.damage_reported.call_once(|| tracing::error!(%error, "the address database is damaged"));
                None
            }
        }
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

fn has_countries(reader: &Reader<Vec<u8>>) -> Result<bool, MaxMindDbError> {
    for record in reader.networks(WithinOptions::default())?.take(PROBED_RECORDS) {
        let record = record?;
        for path in &PATHS {
            if record.decode_path::<&str>(path)?.is_some() {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests;
