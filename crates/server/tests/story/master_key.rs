//! A database goes with the key that it began with.

use std::fs;
use std::process::Command;

use rstest::rstest;

use super::harness::{Database, World};
use super::{PHONE, live};

/// Every command that uses the database refuses it, and says which setting is at fault and what to do.
fn assert_foreign(world: &World) {
    let key = "secrets.master_key_file: data/master.key is not the key of this database: ";
    assert_refused(world, key, "Put back the file that the database was used with");
}

fn assert_refused(world: &World, fault: &str, advice: &str) {
    for command in [
        "serve",
        "check",
        "audit --phone +447871234567",
        "block --phone +447871234567",
        "unblock --phone +447871234567",
        "guard report",
    ] {
        // One that serves although it should not is ended.
        let mut process = Command::new("timeout");
        process.args(["15", env!("CARGO_BIN_EXE_vestibule")]).args(command.split(' '));
        let variables = world.variables.iter().map(|(name, value)| (name, value));
        let output = process.current_dir(world.directory.path()).envs(variables).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{command}: {said}");
        let last = said.lines().last().unwrap();
        assert!(last.starts_with(&format!("vestibule: {fault}")), "{command}: {said}");
        assert!(last.contains(advice), "{command}: {said}");
    }
}

#[rstest]
#[case::sqlite(Database::Sqlite)]
#[case::postgres(Database::Postgres)]
#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_used_under_its_own_key_only(#[case] database: Database) {
    let world =
        World::new(database).await.with("HTTP__LISTEN", "127.0.0.1:0").with("ADMIN__LISTEN", "127.0.0.1:0");
    let path = world.directory.path().join("data/master.key");
    // Who only looks binds nothing.
    world.command(&["migrate"]);
    world.command(&["check"]);
    fs::remove_file(&path).unwrap();
    drop(world.start());
    let own = fs::read_to_string(&path).unwrap();

    // Nobody has an account yet. In development another file makes itself.
    fs::remove_file(&path).unwrap();
    assert_foreign(&world);
    let other = fs::read_to_string(&path).unwrap();
    fs::write(&path, &own).unwrap();
    let service = world.start();
    live(&world, &service, PHONE, "anna@example.com").await;
    drop(service);
    fs::write(&path, &other).unwrap();
    assert_foreign(&world);

    // As a database is that was made before there were marks.
    world.tamper("DELETE FROM key_mark").await;
    assert_foreign(&world);
    fs::write(&path, &own).unwrap();
    world.command(&["audit", "--phone", PHONE]);
    drop(world.start());

    // Who has lost it says so.
    fs::write(&path, &other).unwrap();
    let lost = [("VESTIBULE__SECRETS__NUMBERS_KEY_IS_LOST".to_owned(), "true".to_owned())];
    let variables = world.variables.iter().chain(&lost).map(|(name, value)| (name, value));
    let mut check = Command::new(env!("CARGO_BIN_EXE_vestibule"));
    let output = check.arg("check").current_dir(world.directory.path()).envs(variables).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_foreign(&world);
    fs::write(&path, &own).unwrap();

    // The other keys may be replaced.
    let rotated = own.replace("active = ", "previous = ");
    fs::write(&path, format!("active = \"{}\"\n{rotated}", "5a".repeat(32))).unwrap();
    assert!(world.command(&["check"]).contains("database: ok\n"));
}

#[rstest]
#[case::sqlite(Database::Sqlite, "zeroblob(32)")]
#[case::postgres(Database::Postgres, "decode(repeat('00', 32), 'hex')")]
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_a_copy_has_not_filled_is_not_used(
    #[case] database: Database,
    #[case] nobodys: &str,
) {
    let mut world =
        World::new(database).await.with("HTTP__LISTEN", "127.0.0.1:0").with("ADMIN__LISTEN", "127.0.0.1:0");
    drop(world.start());
    world.tamper(&format!("UPDATE key_mark SET mark = {nobodys}")).await;
    let sentence = "a copy into this database is not complete: run `vestibule copy` again";
    assert_refused(&world, "database.url: ", sentence);
    world = world.with("SECRETS__NUMBERS_KEY_IS_LOST", "true");
    assert_refused(&world, "database.url: ", sentence);
}
