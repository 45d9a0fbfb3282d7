//! Who sends a request, as far as a header may say so.

use std::net::{IpAddr, Ipv4Addr};

use actix_web::HttpRequest;
use actix_web::http::header::{ACCEPT, ACCEPT_LANGUAGE, AUTHORIZATION, HeaderMap};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use vestibule_domain::{ClientAddress, Fingerprint, Origin};
use zeroize::Zeroizing;

/// The client's address: the peer's, unless the peer is a proxy that we were told to trust. Then it is the last address in
/// `X-Forwarded-For` that is not such a proxy's: what stands before it anybody may have written, in any bytes.
pub(crate) fn address(request: &HttpRequest, trusted_proxies: &[IpNet]) -> IpAddr {
    let is_trusted =
        |address: IpAddr| trusted_proxies.iter().any(|proxies| proxies.contains(&address.to_canonical()));
    let peer = request.peer_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip().to_canonical());
    if !is_trusted(peer) {
        return peer;
    }
    let forwarded = request.headers().get_all("x-forwarded-for");
    let hops: Vec<&[u8]> = forwarded.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).collect();
    let mut client = peer;
    for hop in hops.into_iter().rev() {
        let Some(address) = parse_hop(hop) else {
            break;
        };
        client = address;
        if !is_trusted(address) {
            break;
        }
    }
    client
}

/// Which device the request names in its headers.
pub(crate) fn fingerprint(request: &HttpRequest) -> Option<Fingerprint> {
    // Whatever its bytes are: only that they are the same counts.
    let header = |name| {
        let value = request.headers().get(name)?.as_bytes();
        str::from_utf8(value).map_or_else(|_| Fingerprint::of_bytes(value), Fingerprint::of)
    };
    header("x-fingerprint").or_else(|| header("x-deviceid"))
}

/// Where the request comes from, as far as its head tells.
pub(crate) fn origin(request: &HttpRequest, trusted_proxies: &[IpNet]) -> Origin {
    let address = ClientAddress::of(address(request, trusted_proxies));
    Origin { fingerprint: fingerprint(request), address }
}

/// The value of `Accept-Language`.
pub(crate) fn accept_language(headers: &HeaderMap) -> Option<&str> {
    text(headers, ACCEPT_LANGUAGE.as_str())
}

/// Whether a person's browser asks, which wants to see a page. Media types have no case (RFC 9110, section 8.3.1), and a
/// header may come in several lines.
pub(crate) fn is_browser(request: &HttpRequest) -> bool {
    let accepted = request.headers().get_all(ACCEPT).filter_map(|value| value.to_str().ok());
    accepted
        .flat_map(|value| value.split(','))
        .filter_map(|range| range.split(';').next())
        .any(|range| range.trim().eq_ignore_ascii_case("text/html"))
}

/// The bearer token (RFC 6750, section 2.1).
pub(crate) fn bearer(request: &HttpRequest) -> Option<&str> {
    let (scheme, token) = text(request.headers(), AUTHORIZATION.as_str())?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The name and the secret of a service (HTTP Basic, RFC 7617, with both escaped as RFC 6749, section 2.3.1, asks for).
pub(crate) fn basic(request: &HttpRequest) -> Option<(String, Zeroizing<String>)> {
    let (scheme, credentials) = text(request.headers(), AUTHORIZATION.as_str())?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = Zeroizing::new(String::from_utf8(STANDARD.decode(credentials.trim()).ok()?).ok()?);
    let (name, secret) = decoded.split_once(':')?;
    Some((unescape(name), Zeroizing::new(unescape(secret))))
}

fn unescape(text: &str) -> String {
    // A pair without `=` is a name: the whole text.
    let text = text.replace('=', "%3D").replace('&', "%26");
    form_urlencoded::parse(text.as_bytes()).map(|(name, _)| name.into_owned()).next().unwrap_or_default()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// An address as proxies write it: bare, in brackets, or with a port.
fn parse_hop(hop: &[u8]) -> Option<IpAddr> {
    let hop = std::str::from_utf8(hop.trim_ascii()).ok()?;
    let bare = hop.trim_start_matches('[').split(']').next().unwrap_or(hop);
    let address = bare.parse().ok().or_else(|| hop.rsplit_once(':')?.0.parse().ok());
    address.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;
    use actix_web::test::TestRequest;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(&["text/html"], true)]
    #[case(&["Text/HTML;level=1"], true)]
    #[case(&["application/xhtml+xml, text/html;q=0.9"], true)]
    #[case(&["image/png", "TEXT/HTML"], true)]
    #[case(&["*/*"], false)]
    #[case(&["application/json, text/plain"], false)]
    #[case(&[], false)]
    fn a_browser_says_that_it_takes_pages(#[case] accept: &[&str], #[case] browser: bool) {
        let request = accept
            .iter()
            .fold(TestRequest::default(), |request, value| request.append_header(("Accept", *value)));
        assert_eq!(is_browser(&request.to_http_request()), browser);
    }

    #[test]
    fn devices_that_name_themselves_in_no_text_are_told_apart() {
        let of = |name: &[u8]| {
            let request =
                TestRequest::default().insert_header(("X-DeviceID", HeaderValue::from_bytes(name).unwrap()));
            fingerprint(&request.to_http_request())
        };
        assert!(of(b"Zo\xeb").is_some() && of(b"Zo\xeb") == of(b"Zo\xeb"));
        assert_ne!(of(b"Zo\xeb"), of(b"Zo\xf6"));
        assert_eq!(of("Zo\u{eb}".as_bytes()), Fingerprint::of("Zo\u{eb}"));
    }

    #[rstest]
    #[case("198.51.100.9", "203.0.113.7", "198.51.100.9")]
    #[case("10.0.0.1", "203.0.113.7", "203.0.113.7")]
    #[case("10.0.0.1", "6.6.6.6, 203.0.113.7", "203.0.113.7")]
    #[case("10.0.0.1", "6.6.6.6, 203.0.113.7, 10.0.0.2", "203.0.113.7")]
    #[case("10.0.0.1", "203.0.113.7:4711", "203.0.113.7")]
    #[case("10.0.0.1", "[2001:db8::1]:4711", "2001:db8::1")]
    #[case("10.0.0.1", "6.6.6.6, nonsense", "10.0.0.1")]
    #[case("10.0.0.1", "", "10.0.0.1")]
    #[case("::ffff:10.0.0.1", "203.0.113.7", "203.0.113.7")]
    fn only_a_trusted_proxy_is_believed(#[case] peer: &str, #[case] forwarded: &str, #[case] client: &str) {
        let peer: IpAddr = peer.parse().unwrap();
        let request = TestRequest::default()
            .peer_addr((peer, 80).into())
            .insert_header(("X-Forwarded-For", forwarded))
            .to_http_request();
        assert_eq!(address(&request, &["10.0.0.0/8".parse().unwrap()]), client.parse::<IpAddr>().unwrap());
        assert_eq!(address(&request, &[]), peer.to_canonical());
    }

    #[rstest]
    #[case(b"\xff, 203.0.113.7", "203.0.113.7")]
    #[case(b"\xff\n203.0.113.7", "203.0.113.7")]
    #[case(b"6.6.6.6, \xff, 10.0.0.2", "10.0.0.2")]
    #[case(b"6.6.6.6\n\xff\n10.0.0.2", "10.0.0.2")]
    fn bytes_that_are_no_text_hide_only_what_is_left_of_them(#[case] lines: &[u8], #[case] client: &str) {
        let lines = lines.split(|byte| *byte == b'\n').map(|line| HeaderValue::from_bytes(line).unwrap());
        let request = lines
            .fold(TestRequest::default().peer_addr(([10, 0, 0, 1], 80).into()), |request, line| {
                request.append_header(("X-Forwarded-For", line))
            });
        let client: IpAddr = client.parse().unwrap();
        assert_eq!(address(&request.to_http_request(), &["10.0.0.0/8".parse().unwrap()]), client);
    }
}
