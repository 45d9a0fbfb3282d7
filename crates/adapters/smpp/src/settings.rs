//! The settings as the operator writes them, and what they say once they are checked.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use rustls::pki_types::ServerName;
use secrecy::{ExposeSecret as _, SecretString};
use tokio_rustls::TlsConnector;
use url::Url;

use crate::tls;

/// How long a message may take by default, all in all.
pub const TIMEOUT: Duration = Duration::from_secs(8);
/// How many submissions may be unanswered by default.
pub const WINDOW: usize = 10;
/// After how long a silence the link is tested by default.
pub const ENQUIRE_LINK: Duration = Duration::from_secs(30);

/// The port's bound on a call.
const MAX_TIMEOUT: Duration = Duration::from_secs(10);
/// No SMSC grants more; the memory for them is bounded by it.
const MAX_WINDOW: usize = 1000;

/// How to reach an account at an SMSC.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `smpp://user:password@host` (port 2775 if none is given) or, inside TLS, `smpps://` (3550). User and password are
    /// percent-encoded, at most 15 and 8 characters (the protocol's bounds). Over `smpp://` everything travels in
    /// clear: it is for an SMSC on the same network or behind a tunnel.
    pub url: SecretString,
    /// Who sends: an international number, a short code or an alphanumeric sender.
    pub from: String,
    /// The type of the sender's address, if it is to be another than follows from its form.
    pub from_type: Option<AddressType>,
    /// What kind of system we are, where the SMSC wants it said; usually empty. At most 12 characters.
    pub system_type: String,
    /// How many submissions may be unanswered at a time, 1 to 1000; usually [`WINDOW`].
    pub window: usize,
    /// How many submissions the account may make in a second, if it is not left to the SMSC to say. A long message takes
    /// several.
    pub per_second: Option<NonZeroU32>,
    /// After how long a silence the link is tested, 1 s to an hour; usually [`ENQUIRE_LINK`].
    pub enquire_link: Duration,
    /// How long one message may take, at most 10 s; usually [`TIMEOUT`].
    pub timeout: Duration,
    /// Certificate authorities to trust beside the system's, in PEM.
    pub ca_file: Option<PathBuf>,
    /// How receipts write the ids of messages.
    pub receipt_ids: ReceiptIds,
    /// Any number. If instances have different ones, they do not all come back in the same moment after a loss.
    pub jitter_seed: u64,
}

/// How a receipt's text writes the id of the message that it is about. Nothing in an id such as `10` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReceiptIds {
    /// As it was given when the message was accepted.
    #[default]
    AsGiven,
    /// In decimal, while it was given in hexadecimal.
    Decimal,
}

/// The type of an address: TON and NPI (SMPP 3.4, sections 5.2.5 and 5.2.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressType {
    /// The type of number.
    pub ton: u8,
    /// The numbering plan.
    pub npi: u8,
}

impl AddressType {
    /// A number with its country code.
    pub const INTERNATIONAL: Self = Self { ton: 1, npi: 1 };
    /// A short code, which means something in one network.
    pub const SHORT_CODE: Self = Self { ton: 3, npi: 0 };
    /// A name.
    pub const ALPHANUMERIC: Self = Self { ton: 5, npi: 0 };
}

/// Why an account cannot be used as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The URL has another form; it is not repeated, since it holds a password.
    #[error("`url` is not smpp:// or smpps://, user:password@ and a host")]
    Url,
    /// User or password is longer than the protocol allows, or not ASCII.
    #[error("the user in `url` has more than 15 characters, its password more than 8, or they are not ASCII")]
    Credentials,
    /// The sender is neither of the three.
    #[error("`from` is neither an international number, a short code nor a name of 1 to 11 characters")]
    From,
    /// The system type is too long or not printable ASCII.
    #[error("`system_type` has more than 12 characters, or some that are not printable ASCII")]
    SystemType,
    /// The window is none.
    #[error("`window` is not between 1 and 1000")]
    Window,
    /// The interval is too short or too long.
    #[error("`enquire_link` is not between 1 s and 1 h")]
    EnquireLink,
    /// The time-out is too short or more than 10 s.
    #[error("the time-out is not between 10 ms and 10 s")]
    Timeout,
    /// The authorities cannot be used.
    #[error("`ca_file` cannot be used: {0}")]
    CaFile(String),
    /// The URL is `smpps`, and there are no root certificates to check it with.
    #[error("the system has no root certificates")]
    NoRoots,
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}

/// The settings, checked.
pub(crate) struct Account {
    pub(crate) endpoint: Endpoint,
    pub(crate) system_id: String,
    pub(crate) password: SecretString,
    pub(crate) system_type: String,
    pub(crate) from: Sender,
    pub(crate) window: usize,
    /// The least time between two submissions.
    pub(crate) pace: Duration,
    pub(crate) enquire_link: Duration,
    pub(crate) timeout: Duration,
    pub(crate) receipt_ids: ReceiptIds,
    pub(crate) jitter_seed: u64,
}

/// Where the SMSC is.
pub(crate) struct Endpoint {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// Who sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sender {
    pub(crate) address: String,
    pub(crate) kind: AddressType,
}

impl Account {
    pub(crate) fn new(settings: Settings) -> Result<Self, SettingsError> {
        let url = Url::parse(settings.url.expose_secret()).map_err(|_| SettingsError::Url)?;
        let (system_id, password) = credentials(&url)?;
        if !is_printable(&settings.system_type, 12) {
            return Err(SettingsError::SystemType);
        }
        if !(1..=MAX_WINDOW).contains(&settings.window) {
            return Err(SettingsError::Window);
        }
        if !(Duration::from_secs(1)..=Duration::from_hours(1)).contains(&settings.enquire_link) {
            return Err(SettingsError::EnquireLink);
        }
        if !(Duration::from_millis(10)..=MAX_TIMEOUT).contains(&settings.timeout) {
            return Err(SettingsError::Timeout);
        }
        let mut from = Sender::parse(&settings.from)?;
        from.kind = settings.from_type.unwrap_or(from.kind);
        Ok(Self {
            endpoint: endpoint(&url, settings.ca_file.as_deref())?,
            system_id,
            password,
            system_type: settings.system_type,
            from,
            window: settings.window,
            pace: settings.per_second.map_or(Duration::ZERO, |count| Duration::from_secs(1) / count.get()),
            enquire_link: settings.enquire_link,
            timeout: settings.timeout,
            receipt_ids: settings.receipt_ids,
            jitter_seed: settings.jitter_seed,
        })
    }
}

impl Sender {
    /// What an address is follows from its form.
    fn parse(text: &str) -> Result<Self, SettingsError> {
        let digits = text.strip_prefix('+').unwrap_or(text);
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let (address, kind) = match digits.len() {
            // A country code makes a number of at least seven digits, and E.164 of at most 15.
            7..=15 if is_number && digits != text => (digits, AddressType::INTERNATIONAL),
            9..=15 if is_number => (digits, AddressType::INTERNATIONAL),
            1..=8 if is_number && digits == text => (digits, AddressType::SHORT_CODE),
            1..=11 if !is_number && is_printable(text, 11) => (text, AddressType::ALPHANUMERIC),
            _ => return Err(SettingsError::From),
        };
        Ok(Self { address: address.to_owned(), kind })
    }
}

fn credentials(url: &Url) -> Result<(String, SecretString), SettingsError> {
    let decoded = |text: &str| {
        percent_decode_str(text).decode_utf8().map(String::from).map_err(|_| SettingsError::Credentials)
    };
    let user = decoded(url.username())?;
    let password = decoded(url.password().ok_or(SettingsError::Url)?)?;
    if user.is_empty() {
        return Err(SettingsError::Url);
    }
    if !is_printable(&user, 15) || !is_printable(&password, 8) {
        return Err(SettingsError::Credentials);
    }
    Ok((user, SecretString::from(password)))
}

fn endpoint(url: &Url, ca_file: Option<&std::path::Path>) -> Result<Endpoint, SettingsError> {
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err(SettingsError::Url);
    }
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or(SettingsError::Url)?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let (tls, usual_port) = match url.scheme() {
        "smpp" => (None, 2775),
        "smpps" => {
            let name = ServerName::try_from(host.clone()).map_err(|_| SettingsError::Url)?;
            (Some((TlsConnector::from(Arc::new(tls::client(ca_file)?)), name)), 3550)
        }
        _ => return Err(SettingsError::Url),
    };
    Ok(Endpoint { host, port: url.port().unwrap_or(usual_port), tls })
}

fn is_printable(text: &str, longest: usize) -> bool {
    text.len() <= longest && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn settings() -> Settings {
        Settings {
            url: SecretString::from("smpp://vestibule:s3cr%40t@smsc.example"),
            from: "+15005550006".to_owned(),
            from_type: None,
            system_type: String::new(),
            window: WINDOW,
            per_second: None,
            enquire_link: ENQUIRE_LINK,
            timeout: TIMEOUT,
            ca_file: None,
            receipt_ids: ReceiptIds::AsGiven,
            jitter_seed: 0,
        }
    }

    fn refused(change: fn(&mut Settings)) -> SettingsError {
        let mut settings = settings();
        change(&mut settings);
        Account::new(settings).err().unwrap()
    }

    #[rstest]
    #[case("smpp://u:p@h", "h", 2775)]
    #[case("smpp://u:p@10.0.0.1:9000/", "10.0.0.1", 9000)]
    #[case("smpp://u:p@[::1]:9000", "::1", 9000)]
    fn endpoints(#[case] url: &str, #[case] host: &str, #[case] port: u16) {
        let account = Account::new(Settings { url: SecretString::from(url), ..settings() }).unwrap();
        assert_eq!((account.endpoint.host.as_str(), account.endpoint.port), (host, port));
        assert!(account.endpoint.tls.is_none());
    }

    #[rstest]
    #[case("smsc.example")]
    #[case("http://u:p@h")]
    #[case("smpp://h")]
    #[case("smpp://u@h")]
    #[case("smpp://:p@h")]
    #[case("smpp://u:p@")]
    #[case("smpp://u:p@h/path")]
    #[case("smpp://u:p@h?a=b")]
    fn no_urls(#[case] url: &str) {
        let account = Account::new(Settings { url: SecretString::from(url), ..settings() });
        assert!(matches!(account.err(), Some(SettingsError::Url)));
    }

    #[test]
    fn credentials_are_decoded_and_bounded() {
        let account = Account::new(settings()).unwrap();
        assert_eq!((account.system_id.as_str(), account.password.expose_secret()), ("vestibule", "s3cr@t"));
        assert!(matches!(refused(|it| it.url = "smpp://u:123456789@h".into()), SettingsError::Credentials));
        assert!(matches!(refused(|it| it.url = "smpp://u:%00@h".into()), SettingsError::Credentials));
        assert!(matches!(
            refused(|it| it.url = "smpp://1234567890123456:p@h".into()),
            SettingsError::Credentials
        ));
    }

    #[rstest]
    #[case("+15005550006", "15005550006", AddressType::INTERNATIONAL)]
    #[case("15005550006", "15005550006", AddressType::INTERNATIONAL)]
    #[case("72345", "72345", AddressType::SHORT_CODE)]
    #[case("Example Co", "Example Co", AddressType::ALPHANUMERIC)]
    #[case("1&1", "1&1", AddressType::ALPHANUMERIC)]
    fn senders(#[case] from: &str, #[case] address: &str, #[case] kind: AddressType) {
        assert_eq!(Sender::parse(from).unwrap(), Sender { address: address.to_owned(), kind });
    }

    #[rstest]
    #[case("")]
    #[case("+")]
    #[case("+12345")]
    #[case("1234567890123456")]
    #[case("Twelve chars")]
    #[case("a\nb")]
    #[case("Gößnitz")]
    fn no_senders(#[case] from: &str) {
        assert!(matches!(Sender::parse(from), Err(SettingsError::From)));
    }

    #[test]
    fn settings_are_checked() {
        assert!(matches!(refused(|it| it.system_type = "1234567890123".into()), SettingsError::SystemType));
        assert!(matches!(refused(|it| it.window = 0), SettingsError::Window));
        assert!(matches!(refused(|it| it.window = 1001), SettingsError::Window));
        assert!(matches!(refused(|it| it.enquire_link = Duration::ZERO), SettingsError::EnquireLink));
        assert!(matches!(refused(|it| it.timeout = Duration::ZERO), SettingsError::Timeout));
        assert!(matches!(refused(|it| it.timeout = Duration::from_secs(11)), SettingsError::Timeout));
        let no_file = |it: &mut Settings| {
            it.url = "smpps://u:p@h".into();
            it.ca_file = Some("/nowhere.pem".into());
        };
        assert!(matches!(refused(no_file), SettingsError::CaFile(_)));
    }

    #[test]
    fn the_type_of_the_sender_can_be_set() {
        let kind = AddressType { ton: 6, npi: 1 };
        let account = Account::new(Settings { from_type: Some(kind), ..settings() }).unwrap();
        assert_eq!(account.from.kind, kind);
    }

    #[test]
    fn the_password_is_not_shown() {
        let shown = format!("{:?}", settings());
        assert!(!shown.contains("s3cr"), "{shown}");
    }
}
