//! The storage port on an embedded SQLite database.
