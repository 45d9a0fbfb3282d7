//! TLS as the adapters have it: *ring*, TLS 1.2 and 1.3, the system's root certificates. It is set up here so that it does
//! not depend on which provider the process has chosen as its default, or whether it has chosen one.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

/// The root certificates that the system trusts. Those that cannot be read are left out.
pub(crate) fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// A client that trusts these.
pub(crate) fn client(roots: RootCertStore) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
