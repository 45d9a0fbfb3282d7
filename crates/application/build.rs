//! Collects the wording files, so that adding a language is adding a file.

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let locales = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../../locales").canonicalize()?;
    println!("cargo::rerun-if-changed={}", locales.display());
    let mut files: Vec<_> =
        fs::read_dir(&locales)?.map(|entry| Ok(entry?.path())).collect::<Result<_, std::io::Error>>()?;
    files.sort();
    let mut source = String::from("&[\n");
    for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "toml")) {
        let tag = file
            .file_stem()
            .and_then(|stem| stem.to_str())
            .ok_or("a locale's file name is its language tag")?;
        let path = file.to_str().ok_or("the path is not UTF-8")?;
        writeln!(source, "    ({tag:?}, include_str!({path:?})),")?;
    }
    source.push(']');
    fs::write(Path::new(&env::var("OUT_DIR")?).join("locales.rs"), source)?;
    Ok(())
}
