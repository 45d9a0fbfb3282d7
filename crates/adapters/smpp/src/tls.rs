//! TLS as this adapter has it: *ring*, TLS 1.2 and 1.3, the system's root certificates and those of a file. It is set up
//! here so that it does not depend on which provider the process has chosen as its default, or whether it has chosen one.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use crate::SettingsError;

/// A client that trusts the system's authorities and those in `ca_file`.
pub(crate) fn client(ca_file: Option<&Path>) -> Result<ClientConfig, SettingsError> {
    let mut roots = RootCertStore::empty();
    // Those of the system that cannot be read are left out.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        let unusable = |error: &dyn std::fmt::Display| SettingsError::CaFile(error.to_string());
        let mut found = false;
        for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unusable(&error))? {
            let certificate = certificate.map_err(|error| unusable(&error))?;
            roots.add(certificate).map_err(|error| unusable(&error))?;
            found = true;
        }
        if !found {
            return Err(unusable(&"it holds no certificate"));
        }
    }
    if roots.is_empty() {
        return Err(SettingsError::NoRoots);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(SettingsError::Tls)?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
