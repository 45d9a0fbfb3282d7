//! The access-token port on PASETO v4.public, with keys from a file.
