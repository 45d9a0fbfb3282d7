//! The file with the master keys.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context as _, bail};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use vestibule_application::MasterKeys;
use vestibule_port_security::Entropy;
use zeroize::Zeroizing;

/// The file's form: each key as 64 hexadecimal digits.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    active: SecretString,
    numbers: SecretString,
    previous: Option<SecretString>,
}

/// What to do where a key file is missing.
pub(crate) const MISSING: &str = "there is no such file: run `vestibule keys init` for a new installation, or put back the one that the database was used with";

pub(crate) fn load(path: &Path) -> anyhow::Result<MasterKeys> {
    let text = match read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => bail!("{}: {MISSING}", path.display()),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read the master keys in {}", path.display()));
        }
    };
    // The parser's own error would repeat a line of the file.
    let Ok(keys) = toml::from_str::<KeyFile>(&text) else {
        bail!(
            "{} does not have the form of a master key file: `active`, `numbers` and optionally `previous`",
            path.display()
        );
    };
    let parse = |name: &str, text: &SecretString| {
        let mut key = [0; 32];
        match hex::decode_to_slice(text.expose_secret().trim(), &mut key) {
            Ok(()) if key != [0; 32] => Ok(key),
            _ => bail!("`{name}` in {} is not 64 hexadecimal digits of a key", path.display()),
        }
    };
    Ok(MasterKeys {
        active: parse("active", &keys.active)?,
        numbers: parse("numbers", &keys.numbers)?,
        previous: keys.previous.as_ref().map(|text| parse("previous", text)).transpose()?,
    })
}

fn read(path: &Path) -> io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    let mut file = File::open(path)?;
    if file.metadata()?.mode() & 0o077 != 0 {
        tracing::warn!(path = %path.display(), "others may read the master keys; allow it to the owner only");
    }
    file.read_to_string(&mut text)?;
    Ok(text)
}

/// Makes the file if there is none; whether it did. Of two that start at once one makes it and both read it.
pub(crate) fn generate(path: &Path, entropy: &dyn Entropy) -> anyhow::Result<bool> {
    let text = Zeroizing::new(format!(
        "# Codes and links are derived from `active`. To replace it, see \"To rotate the master key\" in docs/operations.md.\n\
         # `numbers` can never be replaced: used phone numbers are known by it.\n\
         active = \"{}\"\nnumbers = \"{}\"\n",
        hex::encode(entropy.bytes()),
        hex::encode(entropy.bytes()),
    ));
    // The draft's name is like no other: one that a killed process has left must not be in the way of the next, which in a container
    // has the same process id.
    let draft = path.with_extension(format!("{}.draft", hex::encode(entropy.bytes())));
    make(path, &draft, &text).with_context(|| format!("cannot make {}", path.display()))
}

/// Writes the file beside and links it into place, so that nobody reads half of it, and none that is there is touched.
fn make(path: &Path, draft: &Path, text: &str) -> io::Result<bool> {
    if path.try_exists()? {
        return Ok(false);
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Only the service's own user needs to read what is in it.
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    let linked = std::fs::hard_link(draft, path);
    std::fs::remove_file(draft)?;
    match linked {
        Ok(()) => File::open(directory)?.sync_all()?,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(false),
        Err(error) => return Err(error),
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use vestibule_testkit::CountingEntropy;

    use super::*;

    #[test]
    fn a_generated_file_is_loaded_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/master.key");
        assert!(generate(&path, &CountingEntropy::default()).unwrap());
        let first = load(&path).unwrap();
        assert_ne!(first.active, first.numbers);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(!generate(&path, &CountingEntropy::default()).unwrap());
        assert_eq!(load(&path).unwrap().active, first.active);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "a draft was left");
    }

    #[test]
    fn a_draft_that_a_killed_process_left_is_not_in_the_way() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("master.key");
        std::fs::write(path.with_extension(format!("{}.draft", std::process::id())), "half").unwrap();
        generate(&path, &CountingEntropy::default()).unwrap();
        load(&path).unwrap();
    }

    #[test]
    fn a_file_that_cannot_be_made_is_named() {
        let path = Path::new("/proc/no/master.key");
        let error = format!("{:#}", generate(path, &CountingEntropy::default()).unwrap_err());
        assert!(error.starts_with("cannot make /proc/no/master.key: "), "{error}");
        let path = Path::new("/proc/master.key");
        let error = format!("{:#}", generate(path, &CountingEntropy::default()).unwrap_err());
        assert!(error.starts_with("cannot make /proc/master.key: "), "{error}");
    }

    #[test]
    fn a_wrong_file_is_refused_without_its_content() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("master.key");
        let good = "ab".repeat(32);
        for text in [
            String::new(),
            format!("active = \"{good}\""),
            format!("active = \"{good}\"\nnumbers = \"{good}00\""),
            format!("active = \"{}\"\nnumbers = \"{good}\"", "00".repeat(32)),
            format!("active = \"{good}\"\nnumbers = \"{good}\"\nsecret = \"{good}\""),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = format!("{:#}", load(&path).unwrap_err());
            assert!(error.contains("master.key") && !error.contains("abab"), "{error}");
        }
    }
}
