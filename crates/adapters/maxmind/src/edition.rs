//! One edition of the file, in memory.

use std::io::Read as _;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Once;
use std::{fs, io};

use maxminddb::{MaxMindDbError, PathElement, Reader, WithinOptions};
use vestibule_domain::Country;

use crate::MmdbError;

/// How many records are searched for a country before a file is taken to have none.
const PROBED_RECORDS: usize = 10_000;

/// Where a record has the country: where the address is used, and, where that is unknown, where it is registered.
const PATHS: [[PathElement<'static>; 2]; 2] = [
    [PathElement::Key("country"), PathElement::Key("iso_code")],
    [PathElement::Key("registered_country"), PathElement::Key("iso_code")],
];

#[derive(Debug)]
pub(crate) struct Edition {
    reader: Reader<Vec<u8>>,
    pub(crate) damage_reported: Once,
}

/// What the system tells of a file without reading it. Files have tens of megabytes; these are replaced by another file as a rule,
/// and whoever writes into one leaves a time of change that nobody can set back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    device: u64,
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

/// What a look at the file has seen.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    File(Mark),
    Unreadable(io::ErrorKind),
}

impl Sight {
    pub(crate) fn of(path: &Path) -> Self {
        match fs::metadata(path) {
            Ok(metadata) => Self::File(Mark::of(&metadata)),
            Err(error) => Self::Unreadable(error.kind()),
        }
    }
}

impl Mark {
    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl Edition {
    /// Reads the whole file; its mark is from before, so that a change while it is read is noticed at the next look.
    pub(crate) fn read(path: &Path) -> Result<(Self, Mark), MmdbError> {
        let (bytes, mark) = read(path).map_err(|source| MmdbError::Read { path: path.to_owned(), source })?;
        let invalid = |source| MmdbError::Invalid { path: path.to_owned(), source };
        let reader = Reader::from_source(bytes).map_err(invalid)?;
        if !has_countries(&reader).map_err(invalid)? {
            let kind = reader.metadata().database_type.clone();
            return Err(MmdbError::NoCountries { path: path.to_owned(), kind });
        }
        Ok((Self { reader, damage_reported: Once::new() }, mark))
    }

    pub(crate) fn country_of(&self, address: IpAddr) -> Option<Country> {
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

fn read(path: &Path) -> io::Result<(Vec<u8>, Mark)> {
    let mut file = fs::File::open(path)?;
    let mark = Mark::of(&file.metadata()?);
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok((bytes, mark))
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
