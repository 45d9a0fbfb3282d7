//! The address-to-country port on an MMDB file.
