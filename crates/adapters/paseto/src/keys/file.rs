//! Key files on disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::KeyFileError;

/// The longest key file that is read, in bytes: room for hundreds of keys.
const MAX_LENGTH: u64 = 64 * 1024;

/// Reads a key file into memory that is wiped after use.
pub(super) fn read(path: &Path) -> Result<Zeroizing<String>, KeyFileError> {
    let failed = |source| KeyFileError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if is_readable_by_others(&metadata) {
        tracing::warn!(path = %path.display(), "the token key file can be read by others than its owner");
    }
    if metadata.len() > MAX_LENGTH {
        return Err(failed(io::ErrorKind::FileTooLarge.into()));
    }
    // Room from the start: a string that grows leaves copies of its beginning behind.
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(MAX_LENGTH).unwrap_or(0)));
    file.take(MAX_LENGTH).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

/// Writes a new file under a name of its own and gives it its place only when it is whole and on disk, so that no other
/// start and no crash can meet half of it. A file that already has the place keeps it; a directory that is not there is made.
pub(super) fn create(path: &Path, text: &str, unique: &str) -> Result<(), KeyFileError> {
    let failed = |source| KeyFileError::Write { path: path.to_owned(), source };
    let directory = directory_of(path);
    let draft = directory.join(format!(".{unique}.new"));
    make(&directory).map_err(failed)?;
    let written = write_durably(&draft, text).and_then(|()| match fs::hard_link(&draft, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    });
    let removed = fs::remove_file(&draft);
    written.and(removed).and_then(|()| sync_directory(&directory)).map_err(failed)
}

/// Makes a directory that is not there yet, for the owner only.
fn make(directory: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

fn directory_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn write_durably(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    for_owner_only(&mut options);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(unix)]
fn for_owner_only(options: &mut OpenOptions) {
    use std::os::unix::fs::OpenOptionsExt;
    options.mode(0o600);
}

#[cfg(not(unix))]
fn for_owner_only(_: &mut OpenOptions) {}

#[cfg(unix)]
fn is_readable_by_others(metadata: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    metadata.permissions().mode() & 0o044 != 0
}

#[cfg(not(unix))]
fn is_readable_by_others(_: &fs::Metadata) -> bool {
    false
}

/// A new name is durable when its directory is.
#[cfg(unix)]
fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(not(unix))]
fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}
