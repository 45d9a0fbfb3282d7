use std::io::{ErrorKind, Write};

use rstest::rstest;

use vestibule_testkit::mmdb;

use super::*;

fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// A file like GeoLite2-Country: IPv4 addresses stand in its IPv6 tree under `::/96`.
fn countries() -> MmdbCountries {
    let bytes = mmdb::file(
        6,
        "Test-Country",
        &[
            ("::192.0.2.0/120", &[("country", "DE"), ("registered_country", "US")]),
            ("::198.51.100.0/121", &[("registered_country", "GB")]),
            ("::198.51.100.128/121", &[("continent", "EU")]),
            ("::203.0.113.7/128", &[("country", "??")]),
            ("2001:db8::/32", &[("country", "FR")]),
        ],
    );
    MmdbCountries::open(file(&bytes).path()).unwrap()
}

#[rstest]
#[case::country("192.0.2.1", Some("DE"))]
#[case::last_of_the_network("192.0.2.255", Some("DE"))]
#[case::after_the_network("192.0.3.0", None)]
#[case::registered_only("198.51.100.1", Some("GB"))]
#[case::record_without_country("198.51.100.200", None)]
#[case::no_such_country("203.0.113.7", None)]
#[case::ipv6("2001:db8:1::1", Some("FR"))]
#[case::ipv6_elsewhere("2001:db9::1", None)]
#[case::ipv4_in_ipv6("::ffff:192.0.2.1", Some("DE"))]
#[case::private("10.0.0.1", None)]
#[case::loopback("127.0.0.1", None)]
#[case::ipv6_loopback("::1", None)]
fn an_address_is_where_the_file_says(#[case] address: &str, #[case] expected: Option<&str>) {
    let found = countries().country_of(address.parse().unwrap());
    assert_eq!(found.map(|country| country.as_str()), expected);
    assert_eq!(NoCountries.country_of(address.parse().unwrap()), None);
}

#[test]
fn a_file_of_ipv4_only_knows_no_ipv6_address() {
    let bytes = mmdb::file(4, "Test-Country", &[("192.0.2.0/24", &[("country", "DE")])]);
    let countries = MmdbCountries::open(file(&bytes).path()).unwrap();
    let country_of = |address: &str| countries.country_of(address.parse().unwrap());
    assert_eq!(country_of("192.0.2.1"), Country::parse("DE").ok());
    assert_eq!(country_of("::ffff:192.0.2.1"), Country::parse("DE").ok());
    assert_eq!(country_of("2001:db8::1"), None);
    assert!(!countries.edition().damage_reported.is_completed(), "an address of the other kind is no damage");
}

#[test]
fn a_damaged_record_is_reported_and_no_country() {
    let mut bytes = mmdb::file(
        4,
        "Test-Country",
        &[("192.0.2.0/24", &[("country", "DE")]), ("198.51.100.0/24", &[("country", "GB")])],
    );
    let code = bytes.windows(2).position(|window| window == b"GB").unwrap();
    // The control byte before it becomes one of a map.
    bytes[code - 1] = 0b1110_0010;
    let countries = MmdbCountries::open(file(&bytes).path()).unwrap();
    assert_eq!(countries.country_of("198.51.100.1".parse().unwrap()), None);
    assert!(countries.edition().damage_reported.is_completed());
    assert!(countries.country_of("192.0.2.1".parse().unwrap()).is_some());
}

#[rstest]
#[case::empty(Vec::new())]
#[case::text(b"<html>404 Not Found</html>".to_vec())]
#[case::marker_only(mmdb::MARKER.to_vec())]
#[case::zeros(vec![0; 100_000])]
fn what_is_no_mmdb_file_is_refused_by_name(#[case] bytes: Vec<u8>) {
    let file = file(&bytes);
    let error = MmdbCountries::open(file.path()).unwrap_err();
    assert!(matches!(error, MmdbError::Invalid { .. }), "{error:?}");
    assert!(error.to_string().contains(file.path().to_str().unwrap()));
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let bytes = mmdb::file(4, "Test-Country", &[("192.0.2.0/24", &[("country", "DE")])]);
    for length in 0..bytes.len() {
        assert!(MmdbCountries::open(file(&bytes[..length]).path()).is_err(), "cut at {length}");
    }
}

#[rstest]
#[case::nothing(&[])]
#[case::something_else(&[("192.0.2.0/24", [("continent", "EU")].as_slice())])]
fn a_file_without_countries_is_refused(#[case] networks: &[(&str, &[(&str, &str)])]) {
    let bytes = mmdb::file(4, "Test-ASN", networks);
    let error = MmdbCountries::open(file(&bytes).path()).unwrap_err();
    assert!(matches!(error, MmdbError::NoCountries { .. }), "{error:?}");
    assert!(error.to_string().contains("Test-ASN"));
}

#[test]
fn a_missing_file_is_named() {
    let error = MmdbCountries::open(Path::new("/nonexistent/countries.mmdb")).unwrap_err();
    assert!(matches!(error, MmdbError::Read { .. }));
    assert!(error.to_string().contains("/nonexistent/countries.mmdb"));
}

/// As tools that fetch such files do: written beside and renamed.
fn replace(path: &Path, bytes: &[u8]) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, bytes).unwrap();
    std::fs::rename(beside, path).unwrap();
}

#[test]
fn a_changed_file_is_taken_over_and_a_broken_one_is_told_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("countries.mmdb");
    let edition = |code: &str| mmdb::file(4, "Test-Country", &[("192.0.2.0/24", &[("country", code)])]);
    std::fs::write(&path, edition("DE")).unwrap();
    let countries = MmdbCountries::open(&path).unwrap();
    let country = || countries.country_of("192.0.2.1".parse().unwrap()).map(|country| country.as_str());
    assert_eq!((countries.look().unwrap(), country()), (Look::AsBefore, Some("DE")));

    // Of the same length, and of the same time as far as anyone can set it.
    let time = std::fs::metadata(&path).unwrap().modified().unwrap();
    replace(&path, &edition("GB"));
    std::fs::File::options().append(true).open(&path).unwrap().set_modified(time).unwrap();
    assert_eq!((countries.look().unwrap(), country()), (Look::NewEdition, Some("GB")));
    assert_eq!(countries.look().unwrap(), Look::AsBefore);

    // While it is written in its place, it is of no use; the next look finds the rest.
    let next = edition("FR");
    let (half, rest) = next.split_at(next.len() / 2);
    std::fs::write(&path, half).unwrap();
    assert!(matches!(countries.look(), Err(MmdbError::Invalid { .. })));
    assert_eq!((countries.look().unwrap(), country()), (Look::AsBefore, Some("GB")));
    std::fs::File::options().append(true).open(&path).unwrap().write_all(rest).unwrap();
    assert_eq!((countries.look().unwrap(), country()), (Look::NewEdition, Some("FR")));

    std::fs::remove_file(&path).unwrap();
    assert!(matches!(countries.look(), Err(MmdbError::Read { .. })));
    assert_eq!((countries.look().unwrap(), country()), (Look::AsBefore, Some("FR")));
    replace(&path, &mmdb::file(4, "Test-ASN", &[]));
    assert!(matches!(countries.look(), Err(MmdbError::NoCountries { .. })));
    assert_eq!(country(), Some("FR"));
    replace(&path, &edition("DE"));
    assert_eq!((countries.look().unwrap(), country()), (Look::NewEdition, Some("DE")));
}

#[test]
fn a_file_that_could_not_be_read_is_tried_again_and_told_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("countries.mmdb");
    let edition = |code: &str| mmdb::file(4, "Test-Country", &[("192.0.2.0/24", &[("country", code)])]);
    std::fs::write(&path, edition("DE")).unwrap();
    let countries = MmdbCountries::open(&path).unwrap();
    let country = || countries.country_of("192.0.2.1".parse().unwrap()).map(|country| country.as_str());
    let fail = |kind: ErrorKind| {
        countries.look_by(|path| Err(MmdbError::Read { path: path.to_owned(), source: kind.into() }))
    };

    replace(&path, &edition("GB"));
    assert!(matches!(fail(ErrorKind::TimedOut), Err(MmdbError::Read { .. })));
    assert_eq!((fail(ErrorKind::TimedOut).unwrap(), country()), (Look::AsBefore, Some("DE")));
    assert!(fail(ErrorKind::PermissionDenied).is_err(), "something else is wrong, which is told");
    assert_eq!((countries.look().unwrap(), country()), (Look::NewEdition, Some("GB")));
    assert_eq!(fail(ErrorKind::TimedOut).unwrap(), Look::AsBefore, "what was read is not read again");

    replace(&path, &edition("FR"));
    assert!(fail(ErrorKind::TimedOut).is_err(), "after a success a failure is told again");
}
