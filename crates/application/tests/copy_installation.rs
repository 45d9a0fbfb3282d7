//! Moving an installation, against archives in memory that fail and change on the way.

use vestibule_application::{CopyInstallationError, CopyPhase, CopyProgress, copy_installation};
use vestibule_port_storage::KeyMark;
use vestibule_port_storage::archive::{Record, Table};
use vestibule_testkit::InMemoryArchive;
use vestibule_testkit::archive_contract::{export_all, records};

const UNFINISHED: Record = Record::KeyMark(KeyMark::OF_AN_UNFINISHED_COPY);

fn source() -> InMemoryArchive {
    let source = InMemoryArchive::of(records());
    source.settle();
    source
}

async fn copy(
    source: &InMemoryArchive,
    target: &InMemoryArchive,
) -> Result<Vec<(Table, u64)>, CopyInstallationError> {
    copy_installation(source, target, 2, &mut |_| {}).await
}

#[tokio::test]
async fn everything_arrives_and_is_counted() {
    let target = InMemoryArchive::default();
    let mut said = Vec::new();
    let copied = copy_installation(&source(), &target, 2, &mut |progress| said.push(progress)).await.unwrap();
    assert_eq!(export_all(&target, 10).await, records());
    assert_eq!(copied.iter().map(|(_, records)| records).sum::<u64>(), records().len() as u64);
    for phase in [CopyPhase::Copying, CopyPhase::Checking] {
        for (table, total) in &copied {
            let end = CopyProgress { phase, table: *table, done: *total, total: *total };
            // The mark is not written before everything is equal.
            let is_said = phase == CopyPhase::Copying || *table != Table::KeyMark;
            assert_eq!(said.contains(&end), is_said, "{end:?}");
        }
    }
}

#[tokio::test]
async fn a_copy_that_was_interrupted_anywhere_goes_on_and_one_that_is_complete_stays() {
    let unmarked = records().split_off(1);
    assert_eq!(records()[..1], [Record::KeyMark(KeyMark([3; 32]))]);
    for whole in [records(), unmarked] {
        let source = InMemoryArchive::of(whole.clone());
        source.settle();
        let mut writes = 0;
        loop {
            let target = InMemoryArchive::default();
            target.fail_after(writes);
            let copied = copy(&source, &target).await;
            let left = export_all(&target, 10).await;
            if copied.is_ok() {
                assert_eq!(left, whole);
                break;
            }
            assert!(matches!(copied, Err(CopyInstallationError::Target(_))), "{writes}: {copied:?}");
            // Nobody serves what is there.
            assert!(left.len() >= writes && left.first() == (writes > 0).then_some(&UNFINISHED), "{writes}");
            target.recover();
            copy(&source, &target).await.unwrap();
            assert_eq!(export_all(&target, 10).await, whole);
            // Nothing is left to write.
            target.fail_after(0);
            copy(&source, &target).await.unwrap();
            writes += 1;
        }
        assert!(writes > 20, "{writes}");
    }
}

#[tokio::test]
async fn a_target_that_was_served_already_is_no_beginning_of_a_copy() {
    // With the same key, as long as nobody has signed up; and with records that the copy has not brought.
    for length in [1, 2, 7] {
        let served = records()[..length].to_vec();
        let target = InMemoryArchive::of(served.clone());
        let refused = copy(&source(), &target).await;
        assert!(matches!(refused, Err(CopyInstallationError::Served { .. })), "{refused:?}");
        assert_eq!(export_all(&target, 10).await, served);
    }
}

#[tokio::test]
async fn what_only_a_service_writes_stops_a_copy_at_its_beginning_and_at_its_end() {
    let used = Err(CopyInstallationError::Used { table: "sent_codes" });
    let target = InMemoryArchive::default();
    target.serve();
    assert_eq!(copy(&source(), &target).await, used);
    assert_eq!(export_all(&target, 10).await, []);

    let target = InMemoryArchive::default();
    let mut serve = |progress: CopyProgress| {
        if progress.phase == CopyPhase::Checking && progress.table == Table::Facts {
            target.serve();
        }
    };
    assert_eq!(copy_installation(&source(), &target, 100, &mut serve).await, used);
    assert_eq!(export_all(&target, 10).await[..1], [UNFINISHED]);
}

#[tokio::test]
async fn a_copy_that_is_not_equal_or_of_a_source_that_changes_stays_unfinished() {
    let target = InMemoryArchive::default();
    let touched = source();
    touched.tamper(|_| {});
    copy(&touched, &target).await.unwrap_err();
    assert_eq!(export_all(&target, 10).await[..1], [UNFINISHED]);

    let target = InMemoryArchive::default();
    let mut alter = |progress: CopyProgress| {
        if progress.phase == CopyPhase::Checking && progress.table == Table::Facts {
            target.tamper(|records| drop(records.pop()));
        }
    };
    copy_installation(&source(), &target, 100, &mut alter).await.unwrap_err();
    assert_eq!(export_all(&target, 10).await[..1], [UNFINISHED]);
}

#[tokio::test]
async fn whoever_is_at_the_mark_meanwhile_is_noticed() {
    for mark in [None, Some(KeyMark([4; 32]))] {
        let target = InMemoryArchive::default();
        let mut replace = |progress: CopyProgress| {
            if progress.phase == CopyPhase::Checking && progress.table == Table::Facts {
                target.tamper(|records| drop(records.splice(..1, mark.map(Record::KeyMark))));
            }
        };
        let noticed = copy_installation(&source(), &target, 100, &mut replace).await;
        assert_eq!(noticed, Err(CopyInstallationError::Rivalled { table: Table::KeyMark }));
    }

    // A service that starts before the copy does.
    let target = InMemoryArchive::default();
    let mut start = |progress: CopyProgress| {
        if progress.phase == CopyPhase::Copying && progress.table == Table::KeyMark {
            target.tamper(|kept| kept.push(records()[0].clone()));
        }
    };
    let noticed = copy_installation(&source(), &target, 100, &mut start).await;
    assert_eq!(noticed, Err(CopyInstallationError::Rivalled { table: Table::KeyMark }));
}

#[tokio::test]
async fn a_target_with_something_of_its_own_is_left_alone() {
    let others = records().into_iter().filter(|record| !matches!(record, Record::Registration(_)));
    for foreign in [vec![records().pop().unwrap()], others.collect(), records().split_off(7)] {
        let source = InMemoryArchive::of(records()[..6].to_vec());
        let target = InMemoryArchive::of(foreign.clone());
        let refused = copy(&source, &target).await;
        assert!(matches!(refused, Err(CopyInstallationError::Foreign { .. })), "{refused:?}");
        assert_eq!(export_all(&target, 10).await, foreign);
    }
}

#[tokio::test]
async fn a_record_that_was_altered_is_found() {
    let target = InMemoryArchive::default();
    copy(&source(), &target).await.unwrap();
    target.tamper(|records| {
        let Some(Record::Message(last)) =
            records.iter_mut().rfind(|record| matches!(record, Record::Message(_)))
        else {
            return;
        };
        last.tries += 1;
    });
    let messages = records().into_iter().filter(|record| matches!(record, Record::Message(_))).count() as u64;
    let found = CopyInstallationError::Foreign { table: Table::Messages, record: messages };
    assert_eq!(copy(&source(), &target).await, Err(found));
}

#[tokio::test]
async fn whoever_writes_to_either_meanwhile_is_noticed() {
    let writing = source();
    let target = InMemoryArchive::default();
    let mut write = |progress: CopyProgress| {
        if progress.phase == CopyPhase::Checking && progress.table == Table::Registrations {
            writing.tamper(|records| drop(records.pop()));
        }
    };
    let noticed = copy_installation(&writing, &target, 100, &mut write).await;
    assert!(matches!(noticed, Err(CopyInstallationError::Different { .. })), "{noticed:?}");

    // What a snapshot does not show is asked for at the end.
    let touched = source();
    touched.tamper(|_| {});
    let noticed = copy(&touched, &InMemoryArchive::default()).await;
    assert_eq!(noticed, Err(CopyInstallationError::Changed));

    let target = InMemoryArchive::default();
    let mut alter = |progress: CopyProgress| {
        if progress.phase == CopyPhase::Checking && progress.done == 0 && progress.table == Table::Passwords {
            target.tamper(|records| records.retain(|record| !matches!(record, Record::Password(_))));
        }
    };
    let noticed = copy_installation(&source(), &target, 100, &mut alter).await;
    let missing = CopyInstallationError::Different { table: Table::Passwords, record: 1 };
    assert_eq!(noticed, Err(missing));

    let target = InMemoryArchive::default();
    let mut rival = |progress: CopyProgress| {
        if progress.phase == CopyPhase::Copying && progress.table == Table::Accounts && progress.done == 0 {
            target.tamper(|kept| kept.push(records()[5].clone()));
        }
    };
    let noticed = copy_installation(&source(), &target, 100, &mut rival).await;
    assert_eq!(noticed, Err(CopyInstallationError::Rivalled { table: Table::Accounts }));
}
