//! The clauses of the storage port's archive, as plain functions over any implementation: for what reads an installation that
//! commits have made, and for what takes one in.

#![expect(missing_docs, reason = "the name of a clause says what it holds")]
#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a clause that does not hold panics: these are tests"
)]

use std::sync::Arc;
use std::time::Duration;

use time::UtcDateTime;
use time::macros::{date, utc_datetime};
use uuid::Uuid;
use vestibule_domain::audit::{Event, Fact};
use vestibule_domain::limits::{Charge, Limit, Scope, Step, Unit};
use vestibule_domain::password_reset::{Finished, PasswordReset, ResetRecord};
use vestibule_domain::quota::Quota;
use vestibule_domain::registration::{Attempt, Opened, Registration, RegistrationRecord, Stage};
use vestibule_domain::sign_in::{KnownOrigin, SignInGuard, Throttle};
use vestibule_domain::{
    Account, AccountKind, AccountRecord, AttemptId, ClientAddress, Content, Country, Currency, DeliveryState,
    EmailAddress, EmailState, EmailVerificationId, FactId, Fingerprint, KycLevel, MerchantId, Message,
    MessageId, NumberRange, Origin, PasswordHash, PhoneNumber, Profile, ProfileRecord, Recipient,
    RefreshTokenHash, Session, SessionId, SessionRecord, Standing, UserId,
};
use vestibule_port_storage::archive::{
    Archive, ArchiveTarget, Budget, Delivery, ImportError, QueuedMessage, Record, Table,
};
use vestibule_port_storage::{
    Changes, KeyMark, Loaded, NewPassword, NewRefreshToken, NumberDigest, Outbox, Room, Save, Settlement,
    Storage, Version,
};

/// Stamps the tests of what commits leave in an archive. `$open` makes a storage afresh, and `$read` opens an archive of what it holds: an
/// async function of whatever `$open` returned.
#[macro_export]
macro_rules! archive_contract {
    ($open:path, $read:path) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
        async fn whatever_was_committed_is_exported() {
            let (storage, keep) = $open().await;
            let committed = $crate::archive_contract::commit(&*storage).await;
            let archive = $read(&storage, &keep).await;
            $crate::archive_contract::whatever_was_committed_is_exported(&*archive, &committed).await;
        }
    };
}

/// Stamps the tests of what takes an installation in. `$open` makes an empty one.
#[macro_export]
macro_rules! archive_target_contract {
    ($open:path) => {
        $crate::archive_target_contract!(@stamp $open:
            what_was_imported_is_exported,
            pages_follow_each_other_in_the_order_of_keys,
            a_record_that_is_there_already_is_a_conflict,
            a_page_is_whole_or_not_at_all,
            an_unfinished_copy_is_finished_with_a_mark,
            an_unfinished_copy_is_finished_without_a_mark,
            of_16_that_finish_a_copy_one_succeeds,
            what_was_imported_is_no_trace_of_a_service,
        );
    };
    (@stamp $open:path: $($clause:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $clause() {
                let (archive, _keep) = $open().await;
                $crate::archive_contract::$clause(archive).await;
            }
        )*
    };
}

const NOW: UtcDateTime = utc_datetime!(2026-11-24 12:00:00.123);

fn id(number: u32) -> Uuid {
    Uuid::from_u128(u128::from(number) << 64 | 7)
}

fn after(seconds: u64) -> UtcDateTime {
    NOW + Duration::from_secs(seconds)
}

fn phone(number: u32) -> PhoneNumber {
    PhoneNumber::restore(&format!("+4478712{number:05}")).unwrap()
}

fn origin(device: &str) -> Origin {
    Origin { fingerprint: Fingerprint::of(device), address: ClientAddress::of([192, 0, 2, 1].into()) }
}

fn attempt(number: u32) -> Attempt {
    attempt_with(number, PasswordHash::new(format!("hash {number}")))
}

fn attempt_with<P>(number: u32, password: P) -> Attempt<P> {
    Attempt {
        id: AttemptId::new(id(number)),
        password,
        origin: origin(if number.is_multiple_of(2) { "" } else { "device" }),
        created_at: after(number.into()),
        generation: number % 3,
        expires_at: after(600),
        guesses: number % 5,
        messages: 1 + number,
        last_message_at: after(30),
    }
}

fn registration(number: u32, version: i64, stage: Stage, attempts: Vec<Attempt>) -> Record {
    let record = RegistrationRecord {
        phone: phone(number),
        stage,
        attempts,
        sign_ups_full_at: (version > 1).then(|| after(3600)),
        guesses_full_at: (version > 2).then(|| after(60)),
    };
    Record::Registration(Box::new(Loaded { value: Registration::restore(record), version: Version(version) }))
}

fn session(number: u32, version: i64, origin: Origin) -> Record {
    let record = SessionRecord {
        id: SessionId::new(id(number)),
        user: UserId::new(id(number)),
        origin,
        created_at: NOW,
        last_used_at: if version > 1 { after(70) } else { NOW },
        generation: if version > 1 { u32::MAX } else { 0 },
        used: version > 1,
        spent: (version > 1).then(|| RefreshTokenHash::restore([5; 32])),
    };
    Record::Session(Box::new(Loaded { value: Session::restore(record), version: Version(version) }))
}

fn guard(number: u32, version: i64, origins: Vec<KnownOrigin>) -> Record {
    let strangers = if version > 1 { throttle(u32::MAX) } else { Throttle::default() };
    let value = SignInGuard { phone: phone(number), strangers, origins };
    Record::Guard(Box::new(Loaded { value, version: Version(version) }))
}

fn known(origin: Origin, throttle: Throttle) -> KnownOrigin {
    KnownOrigin { origin, seen_at: after(3), throttle }
}

fn throttle(failures: u32) -> Throttle {
    Throttle { failures, failed_at: Some(after(8)), locked_until: Some(after(908)) }
}

fn reset(number: u32, version: i64, attempts: Vec<Attempt<()>>) -> Record {
    let record = ResetRecord {
        phone: phone(number),
        attempts,
        requests_full_at: (version > 1).then(|| after(3600)),
        guesses_full_at: (version > 2).then(|| after(60)),
        finished: (version > 2).then(|| Finished {
            attempt: AttemptId::new(id(number)),
            generation: 1,
            origin: origin("device"),
            session: SessionId::new(id(number)),
            set_at: after(9),
            wrong_repeats: 2,
        }),
    };
    Record::Reset(Box::new(Loaded { value: PasswordReset::restore(record), version: Version(version) }))
}

fn fact(number: u32, event: Event) -> Fact {
    Fact {
        id: FactId::new(id(number)),
        at: after(number.into()),
        event,
        number: NumberDigest([7; 32]),
        phone: phone(number).masked(),
        user: Some(UserId::new(id(number))),
        session: Some(SessionId::new(id(number + 1))),
        device: Fingerprint::of("device"),
        address: Some(v6()),
    }
}

fn v6() -> ClientAddress {
    ClientAddress::of("2001:db8:1:2::3".parse().unwrap())
}

fn opened(number: u32) -> Opened {
    Opened {
        attempt: AttemptId::new(id(number)),
        generation: 2,
        origin: origin("device"),
        user: UserId::new(id(number)),
        session: SessionId::new(id(number)),
        at: after(9),
        wrong_repeats: 3,
    }
}

fn account(number: u32, version: i64, email: EmailState, profile: ProfileRecord, kyc: KycLevel) -> Record {
    let record = AccountRecord {
        user: UserId::new(id(number)),
        phone: phone(number),
        email,
        kyc,
        created_at: NOW,
        opened_from: (version > 1).then(|| origin(if version > 9 { "" } else { "device" })),
        kind: if version > 9 { AccountKind::Test } else { AccountKind::Customer },
        standing: if version > 9 { Standing::Blocked } else { Standing::Good },
        mails_full_at: (version > 1).then(|| after(7200)),
        profile: Profile::restore(profile),
    };
    Record::Account(Box::new(Loaded { value: Account::restore(record), version: Version(version) }))
}

fn full_profile() -> ProfileRecord {
    ProfileRecord {
        first_name: Some("Zoë".to_owned()),
        last_name: Some("O\u{2019}Neil".to_owned()),
        date_of_birth: Some(date!(1990 - 05 - 17)),
        primary_currency: Currency::parse("EUR").ok(),
        residence_country: Country::parse("GB").ok(),
        citizenship_country: Country::parse("DE").ok(),
        residence_state: Some("Kent".to_owned()),
        residence_city: Some("東京".to_owned()),
        residence_street: Some("1 High Street".to_owned()),
        residence_zip_code: Some("SW1A 1AA".to_owned()),
    }
}

fn message(number: u32, recipient: Recipient, content: Content) -> Message {
    Message {
        id: MessageId::new(id(number)),
        recipient,
        content,
        voice: crate::storage_contract::voice(),
        queued_at: NOW,
        expires_at: after(600),
    }
}

fn sms(number: u32) -> Message {
    let content = Content::SignUpCode { attempt: AttemptId::new(id(number)), generation: 3 };
    message(number, Recipient::Phone(phone(number)), content)
}

fn delivery(number: u32, state: DeliveryState) -> Delivery {
    Delivery {
        id: MessageId::new(id(number)),
        kind: "sign_up_code".to_owned(),
        attempt: Some(AttemptId::new(id(number))),
        recipient: phone(number).masked(),
        provider: Some("twilio".to_owned()),
        reference: Some(format!("SM{number}")),
        state,
        reason: (state == DeliveryState::Failed).then(|| "30003".to_owned()),
        tries: 2,
        queued_at: NOW,
        changed_at: after(4),
    }
}

fn queued(message: Message) -> QueuedMessage {
    QueuedMessage {
        due_at: message.queued_at,
        message,
        tries: 0,
        dead: false,
        reason: None,
        in_doubt_with: None,
    }
}

/// Records of every kind and stage, in the order of tables and keys.
#[must_use]
pub fn records() -> Vec<Record> {
    let address = EmailAddress::parse("Zoë+x@Müller.example").unwrap();
    let verification = |number| EmailVerificationId::new(id(number));
    let unconfirmed = EmailState::Unconfirmed {
        address: address.clone(),
        verification: verification(1),
        expires_at: after(86_400),
        last_mail_at: after(5),
    };
    let confirmed = EmailState::Confirmed { address: address.clone(), verification: verification(2) };
    let told = Stage::Concealed { opened: Some(opened(3)), owner_told_at: Some(after(2)) };
    let untold = Stage::Concealed { opened: None, owner_told_at: None };
    let password = |of, seconds| {
        Record::Password(NewPassword {
            user: UserId::new(id(of)),
            hash: PasswordHash::new(format!("hash {of} {seconds}")),
            set_at: after(seconds),
        })
    };
    let token = |number: u8| {
        Record::RefreshToken(NewRefreshToken {
            hash: RefreshTokenHash::restore([number; 32]),
            session: SessionId::new(id(1)),
            generation: if number > 9 { u32::MAX } else { 0 },
            issued_at: NOW,
            expires_at: after(number.into()),
        })
    };
    let at = |address: &str| Scope::Address(ClientAddress::of(address.parse().unwrap()));
    let budget = |step, scope, seconds| {
        Record::Budget(Budget { limit: Limit { step, scope }, full_at: after(seconds) })
    };
    let by_mail = || Recipient::Email(address.clone());
    let mail = message(2, by_mail(), Content::EmailConfirmation { verification: verification(1) });
    let notice = message(3, Recipient::Phone(phone(3)), Content::AlreadyRegistered);
    let reset_code = Content::ResetCode { attempt: AttemptId::new(id(6)), generation: 4 };
    let in_doubt = QueuedMessage {
        due_at: after(30),
        tries: 1,
        reason: Some("no answer".to_owned()),
        in_doubt_with: Some("twilio".to_owned()),
        ..queued(mail)
    };
    let dead =
        QueuedMessage { dead: true, tries: 8, reason: Some("no such number".to_owned()), ..queued(notice) };
    let unnamed = Delivery {
        attempt: None,
        provider: None,
        reference: None,
        kind: "already_registered".to_owned(),
        ..delivery(5, DeliveryState::Expired)
    };
    let bare_fact =
        Fact { user: None, session: None, device: None, address: None, ..fact(2, Event::ResetRequested) };
    vec![
        Record::KeyMark(KeyMark([3; 32])),
        registration(1, 1, Stage::Pending, vec![attempt(1), attempt(2), attempt(5)]),
        registration(2, 7, Stage::Confirmed(opened(2)), vec![]),
        registration(3, 2, told, vec![attempt(3)]),
        registration(4, 3, untold, vec![attempt(4)]),
        account(1, 1, EmailState::None, ProfileRecord::default(), KycLevel::None),
        account(2, 3, unconfirmed, full_profile(), KycLevel::None),
        account(3, 12, confirmed, full_profile(), KycLevel::Kyc0),
        password(1, 0),
        password(1, 60),
        password(2, 30),
        Record::UsedNumber(NumberDigest([1; 32])),
        Record::UsedNumber(NumberDigest([200; 32])),
        session(1, 1, origin("device")),
        session(3, 5, Origin { address: v6(), ..origin("") }),
        token(9),
        token(130),
        budget(Step::Code, Scope::Country(Country::parse("GB").unwrap()), 67),
        budget(Step::Code, Scope::Range(NumberRange::parse("44787123").unwrap()), 68),
        budget(Step::PasswordGuess, at("192.0.2.1"), 64),
        budget(Step::Reset, at("192.0.2.1"), 59),
        budget(Step::SignUp, at("192.0.2.1"), 60),
        budget(Step::SignUp, at("192.0.2.10"), 61),
        budget(Step::SignUp, at("2001:db8::"), 62),
        budget(Step::SignUp, at("2001:db8:a::"), 63),
        budget(Step::SignUp, Scope::Everyone, 65),
        budget(Step::SignUp, Scope::Merchant(MerchantId::parse("acme").unwrap()), 66),
        Record::Message(Box::new(queued(sms(1)))),
        Record::Message(Box::new(in_doubt)),
        Record::Message(Box::new(dead)),
        Record::Message(Box::new(queued(message(6, Recipient::Phone(phone(3)), reset_code)))),
        Record::Message(Box::new(queued(message(7, by_mail(), Content::PasswordChanged)))),
        Record::Message(Box::new(queued(message(8, by_mail(), Content::SessionStolen)))),
        Record::Delivery(Box::new(delivery(3, DeliveryState::Failed))),
        Record::Delivery(Box::new(delivery(4, DeliveryState::Delivered))),
        Record::Delivery(Box::new(unnamed)),
        guard(1, 1, vec![]),
        guard(2, 9, vec![known(origin("device"), Throttle::default()), known(origin(""), throttle(2))]),
        // Nobody has to have an account.
        guard(90, 2, vec![known(Origin { address: v6(), ..origin("") }, throttle(1))]),
        reset(1, 1, vec![]),
        reset(2, 2, vec![attempt_with(2, ()), attempt_with(1, ())]),
        reset(90, 3, vec![attempt_with(3, ())]),
        Record::Fact(Box::new(fact(1, Event::PhoneConfirmed))),
        Record::Fact(Box::new(bare_fact)),
        Record::Fact(Box::new(fact(300, Event::RefreshTokenReused))),
    ]
}

/// Everything that an archive holds, read by pages.
pub async fn export_all(archive: &impl Archive, page: usize) -> Vec<Record> {
    let mut records = Vec::new();
    for table in Table::ALL {
        let mut last = None;
        loop {
            let next = archive.export(table, last.as_ref(), page).await.unwrap();
            assert!(next.len() <= page);
            let Some(record) = next.last() else { break };
            last = Some(record.key());
            records.extend(next);
        }
    }
    records
}

/// Commits what storage can be made to keep; the records that it makes.
pub async fn commit<S: Storage + Outbox>(storage: &S) -> Vec<Record> {
    let lease = Duration::from_secs(30);
    let (mut committed, mut after_messages) = (Vec::new(), Vec::new());
    // What a commit saves anew has the first version, so that only the second save of an aggregate shows another.
    for record in records() {
        let mut changes = Changes::default();
        match record.clone() {
            Record::Registration(loaded) => changes.registration = Some(Save::new(loaded.value)),
            Record::Account(loaded) => changes.account = Some(Save::new(loaded.value)),
            Record::Password(password) => changes.password = Some(password),
            Record::UsedNumber(digest) => changes.used_number = Some(digest),
            Record::Session(loaded) => changes.session = Some(Save::new(loaded.value)),
            Record::RefreshToken(token) => changes.refresh_token = Some(token),
            Record::Budget(Budget { limit, full_at }) => {
                let quota = Quota { burst: 1, period: Duration::from_mins(1) };
                changes.charges =
                    vec![Charge { limit, quota, unit: Unit::Taken, now: full_at - quota.period }];
            }
            Record::Guard(loaded) => changes.guard = Some(Save::new(loaded.value)),
            Record::Reset(loaded) => changes.reset = Some(Save::new(loaded.value)),
            Record::Fact(fact) => changes.facts = vec![*fact],
            Record::KeyMark(mark) => {
                assert_eq!(storage.keep_key_mark(&mark).await.unwrap(), mark);
                committed.push(record);
                continue;
            }
            Record::Message(_) | Record::Delivery(_) => continue,
        }
        storage.commit(changes).await.unwrap();
        let first = Version(1);
        match record {
            Record::Registration(loaded) => {
                let again = Save::over(first, loaded.value.clone());
                storage.commit(Changes { registration: Some(again), ..Changes::default() }).await.unwrap();
                committed.push(Record::Registration(Box::new(Loaded { version: Version(2), ..*loaded })));
            }
            Record::Account(loaded) => {
                committed.push(Record::Account(Box::new(Loaded { version: first, ..*loaded })));
            }
            Record::Session(loaded) => {
                committed.push(Record::Session(Box::new(Loaded { version: first, ..*loaded })));
            }
            Record::Guard(loaded) => {
                after_messages.push(Record::Guard(Box::new(Loaded { version: first, ..*loaded })));
            }
            Record::Reset(loaded) => {
                after_messages.push(Record::Reset(Box::new(Loaded { version: first, ..*loaded })));
            }
            fact @ Record::Fact(_) => after_messages.push(fact),
            other => committed.push(other),
        }
    }
    let messages: Vec<_> = (1..=4).map(sms).collect();
    storage.commit(Changes { messages, ..Changes::default() }).await.unwrap();
    assert_eq!(storage.claim(Room::for_each(9), lease, NOW).await.unwrap().len(), 4);
    let settle =
        async |number, settlement| storage.settle(MessageId::new(id(number)), 1, settlement).await.unwrap();
    let reason = "no answer".to_owned();
    settle(2, Settlement::InDoubt { provider: "twilio", until: after(60), reason: reason.clone() }).await;
    settle(3, Settlement::Dead { reason: reason.clone() }).await;
    let reference = Some("SM4".to_owned());
    settle(4, Settlement::Sent { provider: "twilio", reference, cost: None, at: after(4) }).await;
    let leased = |number| QueuedMessage { due_at: NOW + lease, tries: 1, ..queued(sms(number)) };
    let in_doubt = QueuedMessage {
        due_at: after(60),
        reason: Some(reason.clone()),
        in_doubt_with: Some("twilio".to_owned()),
        ..leased(2)
    };
    let dead = QueuedMessage { dead: true, reason: Some(reason), ..leased(3) };
    committed.extend([leased(1), in_doubt, dead].map(|queued| Record::Message(Box::new(queued))));
    committed.push(Record::Delivery(Box::new(Delivery { tries: 1, ..delivery(4, DeliveryState::Sent) })));
    committed.extend(after_messages);
    committed
}

pub async fn whatever_was_committed_is_exported<A: Archive>(archive: &A, committed: &[Record]) {
    for page in [1, 2, 1000] {
        assert_eq!(export_all(archive, page).await, committed);
    }
    for table in Table::ALL {
        let exported = archive.export(table, None, 1000).await.unwrap();
        assert_eq!(archive.count(table).await.unwrap(), exported.len() as u64);
    }
}

pub async fn what_was_imported_is_exported<A: ArchiveTarget>(archive: Arc<A>) {
    assert_eq!(export_all(&*archive, 10).await, []);
    archive.import(records()).await.unwrap();
    whatever_was_committed_is_exported(&*archive, &records()).await;
}

pub async fn pages_follow_each_other_in_the_order_of_keys<A: ArchiveTarget>(archive: Arc<A>) {
    // A table after those that it refers to, and within a table from the end.
    let (independent, dependent): (Vec<_>, Vec<_>) = records().into_iter().partition(|record| {
        !matches!(record, Record::Password(_) | Record::Session(_) | Record::RefreshToken(_))
    });
    let (tokens, others): (Vec<_>, Vec<_>) =
        dependent.into_iter().partition(|record| matches!(record, Record::RefreshToken(_)));
    for records in [independent, others, tokens] {
        for record in records.into_iter().rev() {
            archive.import(vec![record]).await.unwrap();
        }
    }
    for page in [1, 2, 3, 1000] {
        assert_eq!(export_all(&*archive, page).await, records());
    }
}

pub async fn a_record_that_is_there_already_is_a_conflict<A: ArchiveTarget>(archive: Arc<A>) {
    archive.import(records()).await.unwrap();
    for record in records() {
        assert_eq!(archive.import(vec![record]).await, Err(ImportError::Conflict));
    }
    assert_eq!(export_all(&*archive, 10).await, records());
}

pub async fn a_page_is_whole_or_not_at_all<A: ArchiveTarget>(archive: Arc<A>) {
    let last = records().pop().unwrap();
    archive.import(vec![last.clone()]).await.unwrap();
    assert_eq!(archive.import(records()).await, Err(ImportError::Conflict));
    assert_eq!(export_all(&*archive, 10).await, [last]);
}

const UNFINISHED: Record = Record::KeyMark(KeyMark::OF_AN_UNFINISHED_COPY);

pub async fn an_unfinished_copy_is_finished_with_a_mark<A: ArchiveTarget>(archive: Arc<A>) {
    let mark = KeyMark([3; 32]);
    assert_eq!(archive.finish(Some(mark)).await, Err(ImportError::Conflict));
    archive.import(vec![UNFINISHED]).await.unwrap();
    assert_eq!(archive.import(vec![Record::KeyMark(mark)]).await, Err(ImportError::Conflict));
    assert_eq!(export_all(&*archive, 10).await, [UNFINISHED]);
    archive.finish(Some(mark)).await.unwrap();
    for another in [Some(KeyMark([4; 32])), Some(mark), None] {
        assert_eq!(archive.finish(another).await, Err(ImportError::Conflict));
    }
    assert_eq!(export_all(&*archive, 10).await, [Record::KeyMark(mark)]);
}

pub async fn an_unfinished_copy_is_finished_without_a_mark<A: ArchiveTarget>(archive: Arc<A>) {
    let last = records().pop().unwrap();
    archive.import(vec![UNFINISHED, last.clone()]).await.unwrap();
    archive.finish(None).await.unwrap();
    assert_eq!(archive.finish(None).await, Err(ImportError::Conflict));
    assert_eq!(export_all(&*archive, 10).await, [last]);
}

pub async fn of_16_that_finish_a_copy_one_succeeds<A: ArchiveTarget + 'static>(archive: Arc<A>) {
    archive.import(vec![UNFINISHED]).await.unwrap();
    let finishing: Vec<_> = (1..=16)
        .map(|number| {
            let archive = Arc::clone(&archive);
            tokio::spawn(async move { (number, archive.finish(Some(KeyMark([number; 32]))).await) })
        })
        .collect();
    let mut succeeded = Vec::new();
    for finishing in finishing {
        match finishing.await.unwrap() {
            (number, Ok(())) => succeeded.push(Record::KeyMark(KeyMark([number; 32]))),
            (_, refused) => assert_eq!(refused, Err(ImportError::Conflict)),
        }
    }
    assert_eq!(succeeded.len(), 1, "{succeeded:?}");
    assert_eq!(export_all(&*archive, 10).await, succeeded);
}

pub async fn what_was_imported_is_no_trace_of_a_service<A: ArchiveTarget>(archive: Arc<A>) {
    assert_eq!(archive.trace_of_service().await.unwrap(), None);
    archive.import(records()).await.unwrap();
    assert_eq!(archive.trace_of_service().await.unwrap(), None);
}
