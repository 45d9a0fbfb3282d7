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
    let text = File::open(path).and_then(|file| text_of(&file));
    text.map_err(|source| KeyFileError::Read { source })
}

/// Tells the operator, who may have chosen it for a group.
pub(super) fn warn_if_others_may_read(path: &Path) {
    if fs::metadata(path).is_ok_and(|metadata| is_readable_by_others(&metadata)) {
        tracing::warn!(path = %path.display(), "the token key file can be read by others than its owner");
    }
}

/// A key file that nobody else changes through [`Locked`] meanwhile.
pub(super) struct Locked {
    /// Where it really is: a link to it stays a link.
    path: PathBuf,
    file: File,
}

impl Locked {
    /// Waits until nobody else has it. The lock ends with the value, or with the process.
    pub(super) fn open(path: &Path) -> Result<Self, KeyFileError> {
        let failed = |source| KeyFileError::Read { source };
        let path = fs::canonicalize(path).map_err(failed)?;
        loop {
            let file = File::open(&path).map_err(failed)?;
            file.lock().map_err(failed)?;
            // Whoever had the lock has put another file into the place, and this one is no longer it.
            let (locked, there) = (file.metadata().map_err(failed)?, fs::metadata(&path).map_err(failed)?);
            if is_same(&locked, &there) {
                return Ok(Self { path, file });
            }
        }
    }

    pub(super) fn read(&self) -> Result<Zeroizing<String>, KeyFileError> {
        text_of(&self.file).map_err(|source| KeyFileError::Read { source })
    }

    /// Puts a new text into the place of the old, of which a reader and a crash see one or the other. Owner, group and
    /// permissions stay, so that the instances can read it whoever changes it.
    pub(super) fn replace(self, text: &str) -> Result<(), KeyFileError> {
        let failed = |source| KeyFileError::Write { source };
        if text.len() as u64 > MAX_LENGTH {
            return Err(failed(io::ErrorKind::FileTooLarge.into()));
        }
        let directory = directory_of(&self.path);
        let mut name = std::ffi::OsString::from(".");
        name.push(self.path.file_name().unwrap_or_default());
        name.push(".draft");
        let draft = directory.join(name);
        // Under the lock nobody else writes one: it is of a process that was killed, and holds secrets.
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let replaced = self
            .file
            .metadata()
            .and_then(|metadata| write_durably(&draft, text, Some(&metadata)))
            .and_then(|()| fs::rename(&draft, &self.path));
        if replaced.is_err() {
            // It may not even be there; the first error is the one to tell.
            let _ = fs::remove_file(&draft);
        }
        replaced.and_then(|()| sync_directory(&directory)).map_err(failed)
    }
}

/// Writes a new file under a name of its own and gives it its place only when it is whole and on disk, so that no other
/// start and no crash can meet half of it; whether it has the place. A file that already has it keeps it; a directory that is not there is made.
pub(super) fn create(path: &Path, text: &str, unique: &str) -> Result<bool, KeyFileError> {
    let failed = |source| KeyFileError::Write { source };
    let directory = directory_of(path);
    let draft = directory.join(format!(".{unique}.new"));
    make(&directory).map_err(failed)?;
    let placed = write_durably(&draft, text, None).and_then(|()| match fs::hard_link(&draft, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        linked => linked.map(|()| true),
    });
    let removed = fs::remove_file(&draft);
    let placed = placed.and_then(|placed| removed.map(|()| placed));
    placed.and_then(|placed| sync_directory(&directory).map(|()| placed)).map_err(failed)
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

fn text_of(file: &File) -> io::Result<Zeroizing<String>> {
    if file.metadata()?.len() > MAX_LENGTH {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    // Room from the start: a string that grows leaves copies of its beginning behind.
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(MAX_LENGTH).unwrap_or(0)));
    file.take(MAX_LENGTH).read_to_string(&mut text)?;
    Ok(text)
}

fn write_durably(path: &Path, text: &str, like: Option<&fs::Metadata>) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    for_owner_only(&mut options);
    let mut file = options.open(path)?;
    if let Some(like) = like {
        own_as(&file, like)?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Gives a file the owner, the group and the permissions of another.
#[cfg(unix)]
fn own_as(file: &File, like: &fs::Metadata) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, fchown};
    let own = file.metadata()?;
    if (own.uid(), own.gid()) != (like.uid(), like.gid()) {
        fchown(file, Some(like.uid()), Some(like.gid()))?;
    }
    file.set_permissions(like.permissions())
}

#[cfg(not(unix))]
fn own_as(_: &File, _: &fs::Metadata) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn is_same(one: &fs::Metadata, other: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

#[cfg(not(unix))]
fn is_same(_: &fs::Metadata, _: &fs::Metadata) -> bool {
    true
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
