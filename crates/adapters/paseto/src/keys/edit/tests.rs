use std::fs;
use std::path::PathBuf;
use std::sync::Barrier;
use std::thread;

use rstest::rstest;
use tempfile::TempDir;
use time::macros::utc_datetime;

use super::*;
use crate::{KeyDuty, KeyState};

const NOW: UtcDateTime = utc_datetime!(2026-03-01 12:00);
const SWITCH: UtcDateTime = utc_datetime!(2026-03-01 13:00);
const END: UtcDateTime = utc_datetime!(2026-03-01 13:20);
const ROTATION: Rotation =
    Rotation { now: NOW, delay: Duration::from_hours(1), keep: Duration::from_mins(20) };

/// A file with one key, and the key.
fn file() -> (TempDir, PathBuf, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token.keys");
    let id = KeyRing::generate_file(&path).unwrap().states(NOW)[0].id.clone();
    (directory, path, id)
}

fn states(path: &Path, now: UtcDateTime) -> Vec<(String, KeyDuty, Option<UtcDateTime>, Option<UtcDateTime>)> {
    let state = |KeyState { id, duty, from, until }| (id, duty, from, until);
    KeyRing::load(path).unwrap().states(now).into_iter().map(state).collect()
}

fn at(now: UtcDateTime) -> Rotation {
    Rotation { now, ..ROTATION }
}

#[test]
fn one_change_of_the_file_is_a_whole_rotation() {
    let (_directory, path, old) = file();
    let rotated = rotate(&path, &ROTATION).unwrap();
    let new = rotated.new.clone();
    assert_eq!(
        rotated,
        Rotated { new: new.clone(), old: old.clone(), from: SWITCH, until: END, dropped: vec![] }
    );
    let all = |first, second| {
        vec![(old.clone(), first, None, Some(END)), (new.clone(), second, Some(SWITCH), None)]
    };
    assert_eq!(states(&path, NOW), all(KeyDuty::Signing, KeyDuty::Next));
    assert_eq!(states(&path, SWITCH), all(KeyDuty::Verifying, KeyDuty::Signing));
    assert_eq!(states(&path, END), all(KeyDuty::Retired, KeyDuty::Signing));

    let before = fs::read(&path).unwrap();
    let refused = rotate(&path, &at(SWITCH - time::Duration::SECOND)).unwrap_err();
    assert!(
        matches!(&refused, KeyChangeError::UnderWay { id, from } if *id == new && from == "2026-03-01T13:00:00Z")
    );
    assert_eq!(fs::read(&path).unwrap(), before);

    let again = rotate(&path, &at(END)).unwrap();
    assert_eq!((&again.old, again.dropped), (&new, vec![old]));
    assert_eq!(states(&path, END).len(), 2);
}

#[test]
fn a_key_whose_turn_is_over_only_verifies_after_the_next_change() {
    let (_directory, path, old) = file();
    let first = rotate(&path, &ROTATION).unwrap().new;
    rotate(&path, &at(SWITCH)).unwrap();
    assert!(fs::read_to_string(&path).unwrap().contains("\nverify k4.secret."));
    // So the key that signed before does not come back.
    retire(&path, &first, SWITCH).unwrap();
    let now = states(&path, SWITCH);
    assert_eq!((now[0].0.as_str(), now[0].1), (old.as_str(), KeyDuty::Verifying));
    assert_eq!((now[1].1, now[1].2), (KeyDuty::Signing, Some(SWITCH)), "nobody signs");
}

#[test]
fn without_delay_the_new_key_signs_at_once() {
    let (_directory, path, _) = file();
    let soon = NOW + time::Duration::milliseconds(700);
    let rotation = Rotation { delay: Duration::ZERO, now: soon, ..ROTATION };
    let rotated = rotate(&path, &rotation).unwrap();
    assert_eq!(rotated.from, NOW);
    assert_eq!(states(&path, soon)[1].1, KeyDuty::Signing);
    // Within the same second, too; then a second later.
    assert_eq!(rotate(&path, &rotation).unwrap().from, NOW + time::Duration::SECOND);
    assert!(matches!(rotate(&path, &rotation), Err(KeyChangeError::UnderWay { .. })));
}

#[test]
fn retiring_the_next_key_calls_its_rotation_off() {
    let (_directory, path, old) = file();
    let before = fs::read_to_string(&path).unwrap();
    let new = rotate(&path, &ROTATION).unwrap().new;
    retire(&path, &new, NOW).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), before);
    assert_eq!(states(&path, END), [(old, KeyDuty::Signing, None, None)]);
}

#[test]
fn what_signs_is_retired_only_if_another_can() {
    let (_directory, path, old) = file();
    let before = fs::read(&path).unwrap();
    assert!(matches!(retire(&path, &old, NOW), Err(KeyChangeError::OnlySigner { id }) if id == old));
    assert!(matches!(retire(&path, "k4.pid.none", NOW), Err(KeyChangeError::Unknown { .. })));
    assert_eq!(fs::read(&path).unwrap(), before);
    let new = rotate(&path, &ROTATION).unwrap().new;
    assert!(
        matches!(retire(&path, &new, SWITCH), Err(KeyChangeError::OnlySigner { .. })),
        "the old one is back"
    );
    retire(&path, &old, NOW).unwrap();
    assert_eq!(states(&path, NOW), [(new, KeyDuty::Signing, Some(NOW), None)]);
}

#[rstest]
#[case::plain("\n")]
#[case::windows("\r\n")]
fn what_the_operator_wrote_stays(#[case] end: &str) {
    let (_directory, path, old) = file();
    let generated = fs::read_to_string(&path).unwrap();
    let key = generated.split_whitespace().last().unwrap();
    let others = "k4.public.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let line = format!("\tactive   {key}   # ours, since March");
    let text = ["# the keys", "", &line, &format!("  verify {others}# of the shop")].join(end);
    fs::write(&path, &text).unwrap();
    let new = rotate(&path, &ROTATION).unwrap().new;
    let changed = fs::read_to_string(&path).unwrap();
    let expected = format!(
        "# the keys{end}{end}active {key} until=2026-03-01T13:20:00Z  # ours, since March\n  verify {others}# of the shop\nactive k4.secret."
    );
    assert!(changed.starts_with(&expected), "{changed}");
    assert!(changed.ends_with(" from=2026-03-01T13:00:00Z\n"), "{changed}");
    retire(&path, &old, SWITCH).unwrap();
    let changed = fs::read_to_string(&path).unwrap();
    assert!(
        changed.starts_with(&format!("# the keys{end}{end}  verify {others}# of the shop\nactive ")),
        "{changed}"
    );
    assert_eq!(states(&path, SWITCH)[1].0, new);
}

#[test]
fn a_file_that_makes_no_sense_is_left_alone() {
    let (_directory, path, id) = file();
    fs::write(&path, "active hush").unwrap();
    let error = rotate(&path, &ROTATION).unwrap_err();
    assert_eq!(error.to_string(), "line 1 of the token keys: the active key must be a valid `k4.secret` key");
    assert!(matches!(retire(&path, &id, NOW), Err(KeyChangeError::File(KeyFileError::Line { line: 1, .. }))));
    assert_eq!(fs::read_to_string(&path).unwrap(), "active hush");
}

#[test]
fn a_file_does_not_grow_beyond_what_is_read() {
    let (_directory, path, _) = file();
    let mut text = fs::read_to_string(&path).unwrap();
    text.extend(["#".repeat(64 * 1024 - text.len() - 1), "\n".to_owned()]);
    fs::write(&path, &text).unwrap();
    let error = rotate(&path, &ROTATION).unwrap_err();
    assert!(matches!(error, KeyChangeError::File(KeyFileError::Write { .. })), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn changes_at_once_lose_nothing() {
    let (directory, path, first) = file();
    let mut text = fs::read_to_string(&path).unwrap();
    let others: Vec<_> = (0..8).map(|_| Fresh::generate().unwrap()).collect();
    for other in &others {
        text.extend(["verify ", &*other.secret, "\n"]);
    }
    fs::write(&path, text).unwrap();
    let barrier = Barrier::new(10);
    let rotated = thread::scope(|scope| {
        for other in &others {
            scope.spawn(|| {
                barrier.wait();
                retire(&path, &other.id, NOW).unwrap();
            });
        }
        let rotating: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    rotate(&path, &ROTATION)
                })
            })
            .collect();
        rotating.into_iter().filter_map(|rotating| rotating.join().unwrap().ok()).collect::<Vec<_>>()
    });
    assert_eq!(rotated.len(), 1);
    let left: Vec<_> = states(&path, NOW).into_iter().map(|state| state.0).collect();
    assert_eq!(left, [first, rotated[0].new.clone()]);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "a draft or a lock was left behind");
}

#[cfg(unix)]
#[test]
fn a_draft_that_a_killed_process_left_is_not_in_the_way_and_goes() {
    use std::os::unix::fs::PermissionsExt;
    let (directory, path, _) = file();
    let draft = directory.path().join(".token.keys.draft");
    fs::write(&draft, "active k4.secret.half").unwrap();
    rotate(&path, &ROTATION).unwrap();
    assert!(!draft.exists());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[cfg(unix)]
#[test]
fn who_may_read_the_file_may_read_the_changed_one_and_a_link_stays_one() {
    use std::os::unix::fs::PermissionsExt;
    let (directory, path, _) = file();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    rotate(&link, &ROTATION).unwrap();
    assert!(link.is_symlink());
    assert_eq!(states(&path, NOW).len(), 2);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
}

#[cfg(unix)]
#[test]
fn a_directory_where_nothing_can_be_written_is_named() {
    let (directory, path, _) = file();
    // A directory in the draft's place is in the way of everybody, the superuser too.
    fs::create_dir(directory.path().join(".token.keys.draft")).unwrap();
    let before = fs::read(&path).unwrap();
    let error = rotate(&path, &ROTATION).unwrap_err();
    assert!(matches!(&error, KeyChangeError::File(KeyFileError::Write { .. })), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);
}
