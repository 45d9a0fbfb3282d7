//! The password-hashing port on Argon2id, in a bounded pool of threads.
