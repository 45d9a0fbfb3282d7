//! Where the server is and how far the network to it is trusted.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;
use url::Url;

use crate::OpenError;

/// A server that takes longer to reach is down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// A server that has acknowledged nothing for so long is gone, whatever the network says.
const SILENCE: Duration = Duration::from_secs(5);

/// How to reach the database.
#[derive(Clone)]
pub(crate) struct Address {
    pub(crate) server: Config,
    pub(crate) security: Security,
}

/// What protects the connection.
#[derive(Clone)]
pub(crate) enum Security {
    /// Nothing: the network is the machine's own, or the operator said so.
    Plain,
    /// TLS, with the certificate and the name in it verified (libpq's `verify-full`).
    Verified(MakeRustlsConnect),
}

impl Address {
    /// Reads `postgres://user:password@host:port/database` with libpq's parameters. `sslmode` is `disable` or `verify-full`; without
    /// it, `verify-full` except to this machine. `sslrootcert` names a file with authorities to trust instead of the system's.
    pub(crate) fn parse(text: &str) -> Result<Self, OpenError> {
        let refuse = |problem: &str| OpenError::Url(problem.to_owned());
        let mut url = Url::parse(text).map_err(|_| refuse("it is no URL"))?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(refuse("it does not begin with `postgres://`"));
        }
        let (mut mode, mut roots) = (None, None);
        let mut others = Vec::new();
        for (name, value) in url.query_pairs() {
            match &*name {
                "sslmode" => mode = Some(value.into_owned()),
                "sslrootcert" => roots = Some(PathBuf::from(&*value)),
                _ => others.push((name.into_owned(), value.into_owned())),
            }
        }
        url.set_query(None);
        if !others.is_empty() {
            url.query_pairs_mut().extend_pairs(others);
        }
        // The message of the parser repeats nothing of the URL but the name of a parameter.
        let mut server: Config = url.as_str().parse().map_err(|error| refuse(&describe(&error)))?;
        if server.get_dbname().is_none() {
            return Err(refuse("it names no database"));
        }
        if server.get_application_name().is_none() {
            server.application_name("vestibule");
        }
        if server.get_connect_timeout().is_none() {
            server.connect_timeout(CONNECT_TIMEOUT);
        }
        server.tcp_user_timeout(SILENCE).keepalives_idle(SILENCE);
        let encrypt = match mode.as_deref() {
            None => !server.get_hosts().iter().all(is_here),
            Some("disable") => false,
            Some("verify-full") => true,
            Some(_) => return Err(refuse("`sslmode` must be `verify-full` or `disable`")),
        };
        server.ssl_mode(if encrypt { SslMode::Require } else { SslMode::Disable });
        let security =
            if encrypt { Security::Verified(verifying(roots.as_deref())?) } else { Security::Plain };
        Ok(Self { server, security })
    }
}

fn is_here(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => {
            name == "localhost"
                || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        Host::Unix(_) => true,
    }
}

fn verifying(roots: Option<&Path>) -> Result<MakeRustlsConnect, OpenError> {
    let mut store = RootCertStore::empty();
    match roots {
        Some(path) => {
            let unreadable = || OpenError::Roots(path.display().to_string());
            for certificate in CertificateDer::pem_file_iter(path).map_err(|_| unreadable())? {
                store.add(certificate.map_err(|_| unreadable())?).map_err(|_| unreadable())?;
            }
        }
        None => {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if store.is_empty() {
        return Err(OpenError::Roots(roots.map_or("the system".to_owned(), |it| it.display().to_string())));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| OpenError::Tls(error.to_string()))?
        .with_root_certificates(store)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

/// An error with what caused it, which the driver's own text leaves out.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", describe(cause)),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encrypts(url: &str) -> bool {
        matches!(Address::parse(url).map(|address| address.security), Ok(Security::Verified(_)))
    }

    #[test]
    fn only_this_machine_is_spoken_to_in_the_clear() {
        for url in [
            "postgres://a@localhost/b",
            "postgres://a:c@127.0.0.1:5433/b",
            "postgresql://a@[::1]/b",
            "postgres://a@db.example.com/b?sslmode=disable",
            "postgres://a@localhost/b?application_name=c",
        ] {
            assert!(matches!(Address::parse(url).unwrap().security, Security::Plain), "{url}");
        }
        assert!(
            encrypts("postgres://a@db.example.com/b")
                || !encrypts("postgres://a@localhost/b?sslmode=verify-full")
        );
    }

    #[test]
    fn a_url_that_makes_no_sense_is_refused_without_its_password() {
        for url in [
            "localhost",
            "mysql://a:hush@localhost/b",
            "postgres://a:hush@localhost",
            "postgres://a:hush@db.example.com/b?sslmode=require",
            "postgres://a:hush@localhost/b?nonsense=1",
            "postgres://a:hush@db.example.com/b?sslmode=verify-full&sslrootcert=/no/such/file",
        ] {
            let error = Address::parse(url).err().expect(url).to_string();
            assert!(!error.contains("hush"), "{error}");
        }
    }
}
