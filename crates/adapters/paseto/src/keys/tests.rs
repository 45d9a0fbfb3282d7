use std::fs::File;
use std::sync::Barrier;
use std::thread;

use rstest::rstest;
use time::macros::utc_datetime;

use super::*;

// The official PASERK test vectors for k4.secret, k4.public and k4.pid.
const SECRET: &str =
    "k4.secret.cHFyc3R1dnd4eXp7fH1-f4CBgoOEhYaHiImKi4yNjo8c5WpIyC_5kWKhS8VEYSZ05dYfuTF-ZdQFV4D9vLTcNQ";
const ZERO_SECRET: &str =
    "k4.secret.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA7aie8zrakLWKjqNAqbw1zZTIVdx3iQ6Y6wEihi1naKQ";
const ZERO_PUBLIC: &str = "k4.public.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const ZERO_ID: &str = "k4.pid.S_XQmeEwHbbvRmiyfXfHYpLGjXGzjTRSDoT1YtTakWFE";

const NOW: UtcDateTime = utc_datetime!(2026-03-01 12:00);

fn generated() -> AsymmetricKeyPair<V4> {
    AsymmetricKeyPair::generate().unwrap()
}

#[test]
fn a_ring_has_the_active_key_and_those_that_verify_in_order() {
    let (old, other) = (generated(), generated());
    let text = format!(
        "# keys\r\n\n verify {}  # last week's\nactive\t{SECRET}\nverify {}\nverify {ZERO_PUBLIC}",
        paserk(&old.secret),
        paserk(&other.public),
    );
    let keys = KeyRing::parse(&text).unwrap().public_keys(NOW);
    assert_eq!(keys.iter().map(|key| key.active).collect::<Vec<_>>(), [false, true, false, false]);
    assert_eq!(keys[0].key, paserk(&old.public));
    assert_eq!(keys[2].key, paserk(&other.public));
    assert_eq!((keys[3].key.as_str(), keys[3].id.as_str()), (ZERO_PUBLIC, ZERO_ID));
}

#[rstest]
#[case::one_word(format!("active\nactive {SECRET}"), 1, LineProblem::Form)]
#[case::three_words(format!("\n\nactive {SECRET} again"), 3, LineProblem::Form)]
#[case::bare_key(SECRET.to_owned(), 1, LineProblem::Form)]
#[case::unknown_role(format!("sign {SECRET}"), 1, LineProblem::Form)]
#[case::public_as_active(format!("active {ZERO_PUBLIC}"), 1, LineProblem::Secret)]
#[case::cut_short(format!("active {}", &SECRET[..60]), 1, LineProblem::Secret)]
#[case::halves_do_not_fit(format!("active {}", SECRET.replace("cHFyc3R1", "cHFyc3R2")), 1, LineProblem::Secret)]
#[case::all_zero(format!("active {ZERO_SECRET}"), 1, LineProblem::Secret)]
#[case::all_zero_to_verify(format!("active {SECRET}\nverify {ZERO_SECRET}"), 2, LineProblem::Key)]
#[case::older_version(format!("active {}", SECRET.replace("k4", "k2")), 1, LineProblem::Secret)]
#[case::symmetric(format!("active {SECRET}\nverify {}", ZERO_PUBLIC.replace("public", "local")), 2, LineProblem::Key)]
#[case::an_identifier(format!("active {SECRET}\nverify {ZERO_ID}"), 2, LineProblem::Key)]
#[case::no_base64(format!("active {SECRET}\nverify k4.public.ÄÖÜ"), 2, LineProblem::Key)]
#[case::two_active(format!("active {SECRET}\nactive {}", paserk(&generated().secret)), 2, LineProblem::SecondActive)]
#[case::two_active_from_the_same_time(format!("active {SECRET}\nactive {0} from=2026-03-01T12:00:00Z\nactive {1} from=2026-03-01T13:00:00+01:00", paserk(&generated().secret), paserk(&generated().secret)), 3, LineProblem::SecondActive)]
#[case::no_time(format!("active {SECRET} from=tomorrow"), 1, LineProblem::Time)]
#[case::beyond_the_calendar(format!("active {SECRET} from=9999-12-31T23:59:59-23:59"), 1, LineProblem::Time)]
#[case::before_the_calendar(format!("active {SECRET} from=0000-01-01T00:00:00+23:59"), 1, LineProblem::Time)]
#[case::two_times(format!("active {SECRET} from=2026-03-01T12:00:00Z from=2026-03-01T12:00:00Z"), 1, LineProblem::Form)]
#[case::other_attribute(format!("active {SECRET} since=2026-03-01T12:00:00Z"), 1, LineProblem::Form)]
#[case::verify_from(format!("active {SECRET}\nverify {ZERO_PUBLIC} from=2026-03-01T12:00:00Z"), 2, LineProblem::Form)]
#[case::ends_before_it_begins(format!("active {SECRET} from=2026-03-01T12:00:00Z until=2026-03-01T12:00:00Z"), 1, LineProblem::EndsTooEarly)]
#[case::ends_before_the_next(format!("active {SECRET} until=2026-03-01T11:59:59Z\nactive {} from=2026-03-01T12:00:00Z", paserk(&generated().secret)), 1, LineProblem::EndsTooEarly)]
#[case::the_last_ends(format!("active {SECRET} until=2026-03-01T12:00:00Z"), 1, LineProblem::LastEnds)]
#[case::twice(format!("active {SECRET}\n\nverify {SECRET}"), 3, LineProblem::Duplicate)]
fn a_bad_line_is_named_and_not_repeated(#[case] text: String, #[case] at: usize, #[case] what: LineProblem) {
    let error = KeyRing::parse(&text).unwrap_err();
    let KeyFileError::Line { line, problem } = &error else { panic!("{error}") };
    assert_eq!((*line, *problem), (at, what));
    assert!(!error.to_string().contains("cHFyc3R1"), "{error}");
    assert!(!format!("{error:?}").contains("cHFyc3R1"), "{error:?}");
}

#[rstest]
#[case("")]
#[case("# active k4.secret.AAAA")]
#[case("verify k4.public.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")]
fn a_ring_without_an_active_key_is_refused(#[case] text: &str) {
    assert!(matches!(KeyRing::parse(text), Err(KeyFileError::NoActiveKey)));
}

#[test]
fn debug_shows_identifiers_and_no_secret() {
    let shown = format!("{:?}", KeyRing::parse(&format!("active {SECRET}")).unwrap());
    assert!(shown.contains("k4.pid.") && !shown.contains("secret") && !shown.contains("cHFyc3R1"), "{shown}");
}

#[test]
fn a_generated_file_is_private_and_loads() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token.keys");
    let made = KeyRing::generate_file(&path).unwrap().public_keys(NOW);
    assert_eq!(KeyRing::load(&path).unwrap().public_keys(NOW), made);
    assert_eq!(
        KeyRing::generate_file(&path).unwrap().public_keys(NOW),
        made,
        "an existing file was replaced"
    );
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "a draft was left behind");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_directory_that_is_not_there_is_made_for_the_owner_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("deep/er/token.keys");
    KeyRing::generate_file(&path).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let made = std::fs::metadata(path.parent().unwrap()).unwrap();
        assert_eq!(made.permissions().mode() & 0o777, 0o700);
    }
}

#[test]
fn starts_at_once_get_the_same_key() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token.keys");
    let barrier = Barrier::new(8);
    let ids: Vec<_> = thread::scope(|scope| {
        let start = || {
            barrier.wait();
            KeyRing::generate_file(&path).unwrap().public_keys(NOW)
        };
        let starts: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    assert!(ids.iter().all(|keys| *keys == ids[0]));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn a_file_is_made_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("deep/token.keys");
    assert!(KeyRing::make_file(&path).unwrap());
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!KeyRing::make_file(&path).unwrap());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn a_file_that_cannot_be_read_or_made_is_no_key_ring() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("missing").join("token.keys");
    let error = KeyRing::load(&path).unwrap_err();
    assert!(matches!(error, KeyFileError::Read { .. }), "{error}");
    std::fs::write(directory.path().join("missing"), "a file, where a directory should be").unwrap();
    let error = KeyRing::generate_file(&path).unwrap_err();
    assert!(matches!(error, KeyFileError::Read { .. } | KeyFileError::Write { .. }), "{error}");
    let huge = directory.path().join("huge");
    std::fs::write(&huge, "#".repeat(70_000)).unwrap();
    assert!(matches!(KeyRing::load(&huge), Err(KeyFileError::Read { .. })));
    std::fs::write(&huge, [0xff, 0xfe]).unwrap();
    assert!(matches!(KeyRing::load(&huge), Err(KeyFileError::Read { .. })));
}

#[test]
fn something_always_signs() {
    use KeyDuty::{Next, Retired, Signing, Verifying};
    let (one, two) = (generated(), generated());
    let text = format!(
        "active {} from=2026-03-01T13:00:00Z\nactive {} from=2026-03-01T12:30:00Z\nverify {ZERO_PUBLIC} until=2026-03-01T12:00:00Z",
        paserk(&one.secret),
        paserk(&two.secret),
    );
    let ring = KeyRing::parse(&text).unwrap();
    let duties = |now| ring.states(now).into_iter().map(|state| state.duty).collect::<Vec<_>>();
    assert_eq!(duties(NOW - time::Duration::SECOND), [Next, Signing, Verifying]);
    assert_eq!(duties(NOW), [Next, Signing, Retired]);
    assert_eq!(duties(utc_datetime!(2026-03-01 12:59:59)), [Next, Signing, Retired]);
    assert_eq!(duties(utc_datetime!(2026-03-01 13:00)), [Signing, Verifying, Retired]);
    assert!(ring.sign(b"{}", UtcDateTime::MIN).is_some());
    assert!(ring.sign(b"{}", UtcDateTime::MAX).is_some());
}

#[test]
fn a_changed_file_is_noticed_once_and_a_broken_one_told_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token.keys");
    KeyRing::generate_file(&path).unwrap();
    let good = std::fs::read_to_string(&path).unwrap();
    let (_, mut watch) = KeyFileWatch::open(&path).unwrap();
    assert!(watch.look().unwrap().is_none());

    let metadata = std::fs::metadata(&path).unwrap();
    std::fs::write(&path, good.replace("Signs", "sIGNS")).unwrap();
    // Not by its time, nor by its size.
    File::options().write(true).open(&path).unwrap().set_modified(metadata.modified().unwrap()).unwrap();
    assert!(watch.look().unwrap().is_some());
    assert!(watch.look().unwrap().is_none());

    std::fs::write(&path, "active k4.secret.hush").unwrap();
    let error = watch.look().unwrap_err();
    assert!(!error.to_string().contains("hush"), "{error}");
    assert!(watch.look().unwrap().is_none());
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(watch.look(), Err(KeyFileError::Read { .. })));
    assert!(watch.look().unwrap().is_none());
    std::fs::write(&path, &good).unwrap();
    assert!(watch.look().unwrap().is_some());
}
