//! The e-mail port on an SMTP server.
