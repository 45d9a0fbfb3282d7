//! The use cases of registration, one file each, and the outbox dispatcher.
