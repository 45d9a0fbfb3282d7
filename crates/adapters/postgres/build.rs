//! Collects the migrations, so that adding one is adding a folder.

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let manifest = env::var("CARGO_MANIFEST_DIR")?;
    let migrations = Path::new(&manifest).join("../../../migrations/postgres").canonicalize()?;
    println!("cargo::rerun-if-changed={}", migrations.display());
    let mut folders: Vec<_> =
        fs::read_dir(&migrations)?.map(|entry| Ok(entry?.path())).collect::<Result<_, std::io::Error>>()?;
    folders.sort();
    let mut source = String::from("&[\n");
    for folder in folders.iter().filter(|path| path.is_dir()) {
        let name = folder.file_name().and_then(|name| name.to_str()).ok_or("a migration has a name")?;
        let path = folder.join("up.sql");
        let path = path.to_str().ok_or("the path is not UTF-8")?;
        writeln!(source, "    ({name:?}, include_str!({path:?})),")?;
    }
    source.push(']');
    fs::write(Path::new(&env::var("OUT_DIR")?).join("migrations.rs"), source)?;
    Ok(())
}
