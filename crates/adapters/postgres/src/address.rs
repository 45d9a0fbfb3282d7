//! Where the server is and how far the network to it is trusted.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres_rustls::MakeRustlsConnect;
use url::form_urlencoded;

use crate::OpenError;

/// A server that takes longer to reach is down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A server that has acknowledged nothing for so long is gone, whatever the network says.
const SILENCE: Duration = Duration::from_secs(5);

/// How to reach the database.
#[derive(Clone)]
pub(crate) struct Address {
    /// Tried in this order, from the one that was reached last. If they are several, one of them takes writes and is the one to use.
    pub(crate) servers: Vec<Config>,
    /// Which of them was reached last.
    pub(crate) reached: Arc<AtomicUsize>,
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
    /// Reads `postgres://user:password@host:port/database` with libpq's parameters; several hosts are separated by commas. `sslmode` is
    /// `disable` or `verify-full`; without it, `verify-full` except to this machine. `sslrootcert` names a file with authorities to
    /// trust instead of the system's.
    pub(crate) fn parse(text: &str) -> Result<Self, OpenError> {
        let refuse = |problem: &str| OpenError::Url(problem.to_owned());
        let (base, query) = text.split_once('?').unwrap_or((text, ""));
        let (mut mode, mut roots) = (None, None);
        let mut others = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match form_urlencoded::parse(pair.as_bytes()).next() {
                Some((name, value)) if name == "sslmode" => mode = Some(value.into_owned()),
                Some((name, value)) if name == "sslrootcert" => roots = Some(PathBuf::from(&*value)),
                _ => others.push(pair),
            }
        }
        let mut servers = Vec::new();
        for url in one_for_each_host(base, &others.join("&"))? {
            // The message of the parser repeats nothing of the URL but the name of a parameter.
            servers.push(url.parse().map_err(|error| refuse(&describe(&error)))?);
        }
        let several = servers.len() > 1;
        for server in &mut servers {
            set_up(server, several)?;
        }
        let encrypt = match mode.as_deref() {
            None => !servers.iter().all(is_here),
            Some("disable") => false,
            Some("verify-full") => true,
            Some(_) => return Err(refuse("`sslmode` must be `verify-full` or `disable`")),
        };
        for server in &mut servers {
            server.ssl_mode(if encrypt { SslMode::Require } else { SslMode::Disable });
        }
        let security =
            if encrypt { Security::Verified(verifying(roots.as_deref())?) } else { Security::Plain };
        Ok(Self { servers, reached: Arc::default(), security })
    }
}

/// A URL of its own for each host of one that names several. The driver would take them all, but gives a server that accepts
/// a connection and then says nothing no time limit: so each is tried by itself.
fn one_for_each_host(base: &str, query: &str) -> Result<Vec<String>, OpenError> {
    let schemes = ["postgres://", "postgresql://"];
    let rest = schemes.iter().find_map(|scheme| base.strip_prefix(scheme));
    let rest = rest.ok_or_else(|| OpenError::Url("it does not begin with `postgres://`".to_owned()))?;
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let at = if user.is_empty() { "" } else { "@" };
    Ok(hosts.split(',').map(|host| format!("postgres://{user}{at}{host}/{database}?{query}")).collect())
}

fn set_up(server: &mut Config, several: bool) -> Result<(), OpenError> {
    if server.get_dbname().is_none_or(str::is_empty) {
        return Err(OpenError::Url("it names no database".to_owned()));
    }
    if server.get_hosts().is_empty() && server.get_hostaddrs().is_empty() {
        return Err(OpenError::Url("it names no host".to_owned()));
    }
    if server.get_application_name().is_none() {
        server.application_name("vestibule");
    }
    if server.get_connect_timeout().is_none() {
        server.connect_timeout(CONNECT_TIMEOUT);
    }
    if several {
        // What a standby answers is not the latest, and it takes no writes.
        server.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    server.tcp_user_timeout(SILENCE).keepalives_idle(SILENCE);
    Ok(())
}

/// Whether the way to the server does not leave this machine.
fn is_here(server: &Config) -> bool {
    server.get_hostaddrs().iter().all(IpAddr::is_loopback) && server.get_hosts().iter().all(is_name_of_here)
}

fn is_name_of_here(host: &Host) -> bool {
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

    #[test]
    fn only_this_machine_is_spoken_to_in_the_clear() {
        for url in [
            "postgres://a@localhost/b",
            "postgres://a:c@127.0.0.1:5433/b",
            "postgresql://a@[::1]/b",
            "postgres://a@db.example.com/b?sslmode=disable",
            "postgres://a@localhost/b?application_name=c",
            "postgres://a@127.0.0.1:5433,127.0.0.1:5434/b?target_session_attrs=read-write",
            "postgres://a@/b?host=/run/postgresql",
        ] {
            assert!(matches!(Address::parse(url).unwrap().security, Security::Plain), "{url}");
        }
        // A machine without authorities of its own refuses these, and does not fall back to plain text.
        for url in [
            "postgres://a@db.example.com/b",
            "postgres://a@localhost,db.example.com/b",
            "postgres://a@localhost/b?hostaddr=192.0.2.1",
            "postgres://a@localhost/b?sslmode=verify-full",
        ] {
            match Address::parse(url) {
                Ok(address) => assert!(matches!(address.security, Security::Verified(_)), "{url}"),
                Err(error) => assert!(matches!(error, OpenError::Roots(_)), "{url}: {error}"),
            }
        }
    }

    #[test]
    fn a_url_that_makes_no_sense_is_refused_without_its_password() {
        for url in [
            "localhost",
            "mysql://a:hush@localhost/b",
            "postgres://a:hush@localhost",
            "postgres://a:hush@localhost/",
            "postgres://a:hush@localhost:hush/b",
            "postgres://a:hush@/b",
            "postgres://a:hush@db.example.com/b?sslmode=require",
            "postgres://a:hush@localhost/b?nonsense=1",
            "postgres://a:hush@db.example.com/b?sslmode=verify-full&sslrootcert=/no/such/file",
        ] {
            let error = Address::parse(url).err().expect(url).to_string();
            assert!(!error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn of_several_hosts_each_is_an_address_and_must_take_writes() {
        let address = Address::parse("postgres://a:p%40ss@one:5433,[::1],three/b?sslmode=disable").unwrap();
        let places: Vec<_> = address
            .servers
            .iter()
            .map(|server| (server.get_hosts().to_vec(), server.get_ports().to_vec()))
            .collect();
        let tcp = |name: &str| vec![Host::Tcp(name.to_owned())];
        assert_eq!(places, [(tcp("one"), vec![5433]), (tcp("::1"), vec![5432]), (tcp("three"), vec![5432])]);
        for server in &address.servers {
            assert_eq!((server.get_user(), server.get_dbname()), (Some("a"), Some("b")));
            assert_eq!(server.get_password(), Some(&b"p@ss"[..]));
            assert_eq!(server.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
        }
    }
}
