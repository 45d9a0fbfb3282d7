//! Databases of SQLite, past the service.

use std::error::Error;
use std::path::Path;

use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, SqliteConnection};
// Linked in, so that no library of the system is needed.
use libsqlite3_sys as _;

/// Runs statements on the file, which is made if there is none.
///
/// # Errors
/// SQLite's.
pub fn execute(path: &Path, statements: &str) -> Result<(), Box<dyn Error>> {
    let mut connection = SqliteConnection::establish(&path.to_string_lossy())?;
    Ok(connection.batch_execute(statements)?)
}
