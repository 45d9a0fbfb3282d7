//! `vestibule keys`, as an operator uses it.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure fails the test")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use vestibule_paseto::KeyRing;

/// Runs a command; its status, what it printed, and what it complained of. No secret is in either.
fn keys(directory: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_vestibule"))
        .current_dir(directory)
        .arg("keys")
        .args(arguments)
        .env("RUST_LOG", "trace")
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(!format!("{out}{err}").contains("k4.secret."), "{out}{err}");
    (output.status.code(), out, err)
}

fn done(directory: &Path, arguments: &[&str]) -> String {
    let (status, out, err) = keys(directory, arguments);
    assert_eq!(status, Some(0), "{arguments:?}: {err}");
    out
}

/// The last line of what it complained of.
fn refused(directory: &Path, arguments: &[&str]) -> String {
    let (status, out, err) = keys(directory, arguments);
    assert_eq!((status, out.as_str()), (Some(2), ""), "{arguments:?}: {err}");
    err.lines().last().unwrap().to_owned()
}

/// The identifier and the duty of each key.
fn list(directory: &Path) -> Vec<(String, String)> {
    let listed = done(directory, &["list"]);
    let mut lines = listed.lines();
    assert!(lines.next().unwrap().starts_with("KEY "), "{listed}");
    lines
        .map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            assert_eq!(words.len(), 4, "{line}");
            (words[0].to_owned(), words[1].to_owned())
        })
        .collect()
}

#[test]
fn a_key_is_listed_rotated_and_retired() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    KeyRing::generate_file(&directory.join("data/token.keys")).unwrap();
    let old = match &*list(directory) {
        [(id, duty)] if duty == "signing" => id.clone(),
        other => unreachable!("{other:?}"),
    };
    assert!(refused(directory, &["retire", &old]).ends_with("is the only key that signs; rotate first"));

    let said = done(directory, &["rotate"]);
    let new = said.split_whitespace().next().unwrap().to_owned();
    assert!(!said.contains("short"), "{said}");
    let duties = |old_duty: &str, new_duty: &str| {
        vec![(old.clone(), old_duty.to_owned()), (new.clone(), new_duty.to_owned())]
    };
    assert_eq!(list(directory), duties("signing", "next"));
    let json: serde_json::Value = serde_json::from_str(&done(directory, &["list", "--json"])).unwrap();
    assert_eq!((&json["keys"][1]["kid"], &json["keys"][1]["duty"]), (&new.as_str().into(), &"next".into()));
    assert!(json["keys"][0]["until"].as_str() > json["keys"][1]["from"].as_str(), "{json}");
    assert!(refused(directory, &["rotate", "--delay", "2d"]).contains("a rotation is under way"));
    done(directory, &["retire", &new]);
    assert_eq!(list(directory), [(old.clone(), "signing".to_owned())]);

    let said = done(directory, &["rotate", "--delay", "0s"]);
    let new = said.split_whitespace().next().unwrap().to_owned();
    assert!(said.contains("The delay is short"), "{said}");
    assert_eq!(list(directory), [(old.clone(), "verifying".to_owned()), (new.clone(), "signing".to_owned())]);
    assert!(refused(directory, &["retire", &new]).contains("rotate first"));
    done(directory, &["retire", &old]);
    assert_eq!(list(directory), [(new, "signing".to_owned())]);
    assert!(refused(directory, &["retire", &old]).contains("has no key"));
    assert_eq!(fs::read_dir(directory.join("data")).unwrap().count(), 1);
}

#[test]
fn both_files_are_made_and_none_is_touched() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let [master, token] = ["data/master.key", "data/token.keys"];
    let read = |path: &str| fs::read(directory.join(path)).unwrap();
    let said = done(directory, &["init"]);
    for path in [master, token] {
        assert!(said.contains(&format!("{path}  is made\n")), "{said}");
        assert_eq!(fs::metadata(directory.join(path)).unwrap().permissions().mode() & 0o777, 0o600, "{path}");
    }
    assert!(said.contains("`numbers` in data/master.key can never be replaced"), "{said}");
    assert_eq!(fs::read_dir(directory.join("data")).unwrap().count(), 2);

    let before = [master, token].map(read);
    let said = done(directory, &["init"]);
    assert!(!said.contains("is made"), "{said}");
    assert_eq!([master, token].map(read), before);

    fs::remove_file(directory.join(token)).unwrap();
    let said = done(directory, &["init"]);
    assert!(said.contains(&format!("{master}  is there already")), "{said}");
    assert!(said.contains(&format!("{token}  is made\n")), "{said}");
    assert_eq!(read(master), before[0]);

    fs::write(directory.join(token), "active k4.secret.hush\n").unwrap();
    let (status, _, said) = keys(directory, &["init"]);
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("secrets.token_key_file: data/token.keys: line 1"), "{said}");
    assert_eq!(read(token), b"active k4.secret.hush\n");
}

#[test]
fn what_makes_no_sense_is_refused_with_a_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    for arguments in [&["list"][..], &["rotate"], &["retire", "k4.pid.x"]] {
        let said = refused(directory, arguments);
        assert!(said.contains("secrets.token_key_file: data/token.keys: there is no such file"), "{said}");
        assert!(said.contains("run `vestibule keys init`"), "{said}");
    }
    fs::create_dir(directory.join("data")).unwrap();
    fs::write(directory.join("data/token.keys"), "active k4.secret.hush\n").unwrap();
    for arguments in [&["list"][..], &["rotate"], &["retire", "k4.pid.x"]] {
        let said = refused(directory, arguments);
        assert!(said.contains("line 1 of the token keys") && !said.contains("hush"), "{said}");
    }
    for wrong in [&[][..], &["rotate", "--delay", "soon"], &["retire"], &["retire", "a", "b"], &["show"]] {
        let (status, out, _) = keys(directory, wrong);
        assert_eq!((status, out.as_str()), (Some(2), ""), "{wrong:?}");
    }
}
