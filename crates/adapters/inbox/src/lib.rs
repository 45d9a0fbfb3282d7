//! The SMS and e-mail ports for development: messages are kept in memory and shown on a page.
