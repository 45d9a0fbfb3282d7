//! The clauses of the storage port, as plain functions over any implementation. The macro of the same name stamps one test for
//! each.

#![expect(missing_docs, reason = "the name of a clause says what it holds")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "a clause that does not hold panics: these are tests"
)]

use std::sync::Arc;
use std::time::Duration;

use time::UtcDateTime;
use time::macros::utc_datetime;
use uuid::Uuid;
use vestibule_domain::quota::Quota;
use vestibule_domain::registration::{Confirm, Confirmation, NumberUse, Registration, Rules, SignUp};
use vestibule_domain::{
    Account, AddEmail, AttemptId, Claim, ClientAddress, ConfirmEmail, Content, DeliveryState, EmailAddress,
    EmailRules, EmailVerificationId, Fingerprint, Generation, Locale, Message, MessageId, OneTimeCode,
    OneTimeCodes, Origin, PasswordHash, PhoneNumber, ProfileField, ProfilePatch, Recipient, RefreshToken,
    Session, SessionId, UserId,
};
use vestibule_port_storage::{
    Changes, Charge, CommitError, Limit, Loaded, NewPassword, NewRefreshToken, NumberDigest, Outbox, Report,
    Reported, Save, Settlement, Storage, Sweep, Version,
};

/// Stamps the contract's tests for a storage that `$open` makes afresh: an async function that returns an
/// `Arc` of it and whatever must live as long.
#[macro_export]
macro_rules! storage_contract {
    ($open:path) => {
        $crate::storage_contract!(@stamp $open:
            a_registration_is_read_as_it_was_saved,
            an_account_is_read_as_it_was_saved,
            a_commit_over_another_version_changes_nothing,
            a_second_insert_is_a_conflict,
            of_64_commits_over_one_version_one_succeeds,
            of_64_first_sign_ups_one_succeeds,
            a_used_number_is_used_once,
            of_64_confirmations_one_opens_the_account,
            a_phone_has_one_account,
            a_confirmed_address_has_one_account,
            of_64_confirmations_of_one_address_one_succeeds,
            an_unconfirmed_address_may_be_anyones,
            an_account_is_seen_through_its_own_session_only,
            a_limit_is_charged_to_its_end_and_no_further,
            a_refused_commit_leaves_nothing,
            a_dropped_commit_is_whole_or_not_at_all,
            a_message_is_leased_to_one_caller,
            an_unsettled_message_comes_back_after_its_lease,
            a_late_settlement_does_nothing,
            a_settled_message_is_gone_retried_or_dead,
            a_sent_message_is_followed_by_its_id_and_reference,
            a_report_of_a_queued_message_settles_it,
            a_failure_in_doubt_is_tried_again_at_once,
            the_newest_message_of_an_attempt_tells_its_delivery,
            a_commit_wakes_who_waits_for_messages,
            a_sweep_forgets_what_no_longer_matters,
            a_sweep_ends_sessions_without_tokens_only,
            a_sweep_goes_in_batches,
        );
    };
    (@stamp $open:path: $($clause:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $clause() {
                let (storage, _keep) = $open().await;
                $crate::storage_contract::$clause(storage).await;
            }
        )*
    };
}

const NOW: UtcDateTime = utc_datetime!(2026-11-24 12:00);
const RULES: Rules = Rules {
    code_ttl: Duration::from_mins(10),
    code_guesses: 5,
    resend_cooldown: Duration::from_mins(1),
    max_messages: 5,
    sign_ups: Quota { burst: 10, period: Duration::from_hours(24) },
    guesses: Quota { burst: 30, period: Duration::from_hours(24) },
};
const EMAIL_RULES: EmailRules = EmailRules {
    link_ttl: Duration::from_hours(24),
    resend_cooldown: Duration::from_mins(1),
    mails: Quota { burst: 10, period: Duration::from_hours(24) },
};

/// Every code is the same, which is all that these tests need.
struct OneCode;

impl OneTimeCodes for OneCode {
    fn code(&self, _: AttemptId, generation: Generation) -> OneTimeCode {
        OneTimeCode::from_number(generation.into(), 6)
    }

    fn matches(&self, attempt: AttemptId, generation: Generation, candidate: &OneTimeCode) -> bool {
        self.code(attempt, generation) == *candidate
    }
}

fn id(number: u32) -> Uuid {
    Uuid::from_u128(u128::from(number) + 1)
}

fn phone(number: u32) -> PhoneNumber {
    PhoneNumber::restore(&format!("+4478712{number:05}")).unwrap()
}

fn origin() -> Origin {
    Origin { fingerprint: Fingerprint::of("device"), address: ClientAddress::of([192, 0, 2, 1].into()) }
}

fn digest(number: u8) -> NumberDigest {
    NumberDigest([number; 32])
}

fn after(seconds: u64) -> UtcDateTime {
    NOW + Duration::from_secs(seconds)
}

fn sign_up(current: Option<Registration>, number: u32, attempt: u32, at: UtcDateTime) -> Registration {
    let sign_up = SignUp {
        attempt: AttemptId::new(id(attempt)),
        phone: phone(number),
        password: PasswordHash::new("hash".to_owned()),
        origin: origin(),
    };
    Registration::sign_up(current, NumberUse::Unused, sign_up, &OneCode, &RULES, at).unwrap().registration
}

fn message(number: u32, queued_at: UtcDateTime) -> Message {
    Message {
        id: MessageId::new(id(number)),
        recipient: Recipient::Phone(phone(number)),
        content: Content::SignUpCode { attempt: AttemptId::new(id(number)), generation: 3 },
        locale: Locale::new("de"),
        queued_at,
        expires_at: queued_at + Duration::from_mins(10),
    }
}

fn saving_registration(save: Save<Registration>) -> Changes {
    Changes { registration: Some(save), ..Changes::default() }
}

fn saving_account(save: Save<Account>) -> Changes {
    Changes { account: Some(save), ..Changes::default() }
}

fn account(number: u32) -> Account {
    Account::open(UserId::new(id(number)), phone(number), NOW)
}

fn with_email(account: Account, address: &str, link: u32) -> Account {
    let add = AddEmail {
        address: EmailAddress::parse(address).unwrap(),
        verification: EmailVerificationId::new(id(link)),
    };
    account.add_email(add, &EMAIL_RULES, NOW).unwrap().unwrap().account
}

fn confirmed(account: Account, link: u32) -> Account {
    match account.confirm_email(EmailVerificationId::new(id(link)), after(1)) {
        ConfirmEmail::Confirmed(account) => *account,
        other => panic!("{other:?}"),
    }
}

fn session(number: u32, user: u32) -> Session {
    Session { id: SessionId::new(id(number)), user: UserId::new(id(user)), origin: origin(), created_at: NOW }
}

/// Everything that a right code changes.
fn opening(loaded: Loaded<Registration>, number: u32) -> Changes {
    let confirm = Confirm {
        code: Some(OneTimeCode::from_number(0, 6)),
        claim: Claim { attempt: None, origin: origin() },
        user: UserId::new(id(number)),
        session: SessionId::new(id(number)),
    };
    match loaded.value.confirm(&confirm, &OneCode, &RULES, after(5)) {
        Confirmation::Opened { registration, account, password, session } => Changes {
            registration: Some(Save::over(loaded.version, registration)),
            password: Some(NewPassword { user: account.user(), hash: password, set_at: NOW }),
            account: Some(Save::new(*account)),
            used_number: Some(digest(1)),
            refresh_token: Some(NewRefreshToken {
                hash: RefreshToken::from_random([u8::try_from(number % 256).unwrap(); 32]).hash(),
                session: session.id,
                issued_at: NOW,
                expires_at: after(3600),
            }),
            session: Some(session),
            ..Changes::default()
        },
        other => panic!("{other:?}"),
    }
}

async fn registered(storage: &impl Storage, number: u32) -> Loaded<Registration> {
    storage.commit(saving_registration(Save::new(sign_up(None, number, number, NOW)))).await.unwrap();
    storage.registration(&phone(number)).await.unwrap().unwrap()
}

/// Runs 64 commits at once; how many succeeded, and what the others were answered.
async fn race<S: Storage + 'static>(
    storage: &Arc<S>,
    changes: impl Fn(u32) -> Changes,
) -> (usize, Vec<CommitError>) {
    let commits: Vec<_> = (0..64)
        .map(|number| {
            let (storage, changes) = (Arc::clone(storage), changes(number));
            tokio::spawn(async move { storage.commit(changes).await })
        })
        .collect();
    let mut won = 0;
    let mut lost = Vec::new();
    for commit in commits {
        match commit.await.unwrap() {
            Ok(()) => won += 1,
            Err(error) => lost.push(error),
        }
    }
    (won, lost)
}

pub async fn a_registration_is_read_as_it_was_saved<S: Storage>(storage: Arc<S>) {
    assert_eq!(storage.registration(&phone(1)).await.unwrap(), None);
    let first = sign_up(None, 1, 1, NOW);
    storage.commit(saving_registration(Save::new(first.clone()))).await.unwrap();
    let loaded = storage.registration(&phone(1)).await.unwrap().unwrap();
    assert_eq!(loaded.value, first);
    let second = sign_up(Some(first), 1, 2, after(60));
    storage.commit(saving_registration(Save::over(loaded.version, second.clone()))).await.unwrap();
    let loaded = storage.registration(&phone(1)).await.unwrap().unwrap();
    assert_eq!(loaded.value, second);
    let changes = opening(Loaded { value: second, version: loaded.version }, 1);
    let opened = changes.registration.clone().unwrap().value;
    storage.commit(changes).await.unwrap();
    let loaded = storage.registration(&phone(1)).await.unwrap().unwrap();
    assert_eq!(loaded.value, opened);
    let attempt = SignUp {
        attempt: AttemptId::new(id(9)),
        phone: phone(1),
        password: PasswordHash::new("hash".to_owned()),
        origin: origin(),
    };
    let concealed = Registration::sign_up(
        Some(opened),
        NumberUse::UsedAndConcealed,
        attempt,
        &OneCode,
        &RULES,
        after(99),
    )
    .unwrap();
    storage
        .commit(saving_registration(Save::over(loaded.version, concealed.registration.clone())))
        .await
        .unwrap();
    assert_eq!(storage.registration(&phone(1)).await.unwrap().unwrap().value, concealed.registration);
}

pub async fn an_account_is_read_as_it_was_saved<S: Storage>(storage: Arc<S>) {
    let values = [
        (ProfileField::FirstName, "Zoë"),
        (ProfileField::LastName, "O\u{2019}Neil"),
        (ProfileField::DateOfBirth, "1990-05-17"),
        (ProfileField::PrimaryCurrency, "EUR"),
        (ProfileField::ResidenceCountry, "GB"),
        (ProfileField::CitizenshipCountry, "DE"),
        (ProfileField::ResidenceState, "Kent"),
        (ProfileField::ResidenceCity, "東京"),
        (ProfileField::ResidenceStreet, "1 High Street"),
        (ProfileField::ResidenceZipCode, "SW1A 1AA"),
    ];
    let patch = values
        .into_iter()
        .fold(ProfilePatch::default(), |patch, (field, value)| patch.with(field, Some(value.to_owned())));
    let first = account(1);
    let mut changes = saving_account(Save::new(first.clone()));
    changes.session = Some(session(1, 1));
    storage.commit(changes).await.unwrap();
    let mut version = Version(1);
    let unconfirmed = with_email(first, "Zoë+x@Müller.example", 7);
    let full = unconfirmed.clone().patch_profile(&patch, NOW.date(), 18).unwrap();
    let cleared = ProfilePatch::default().with(ProfileField::ResidenceState, None);
    let partly = full.clone().patch_profile(&cleared, NOW.date(), 18).unwrap();
    for saved in [unconfirmed, full.clone(), confirmed(full, 7), partly] {
        storage.commit(saving_account(Save::over(version, saved.clone()))).await.unwrap();
        let loaded =
            storage.account_of_session(UserId::new(id(1)), SessionId::new(id(1))).await.unwrap().unwrap();
        assert_eq!(loaded.value, saved);
        assert_eq!(loaded.value.email().address().unwrap().as_str(), "Zoë+x@Müller.example");
        version = loaded.version;
        let by_link = storage.account_by_email_verification(EmailVerificationId::new(id(7))).await.unwrap();
        assert_eq!(by_link.unwrap(), loaded);
    }
    assert_eq!(storage.account_by_email_verification(EmailVerificationId::new(id(8))).await.unwrap(), None);
}

pub async fn a_commit_over_another_version_changes_nothing<S: Storage>(storage: Arc<S>) {
    let loaded = registered(&*storage, 1).await;
    let next = sign_up(Some(loaded.value.clone()), 1, 2, after(60));
    let stale = Version(loaded.version.0 + 1);
    let mut changes = saving_registration(Save::over(stale, next.clone()));
    changes.used_number = Some(digest(5));
    assert_eq!(storage.commit(changes).await, Err(CommitError::Conflict));
    assert_eq!(storage.registration(&phone(1)).await.unwrap().unwrap(), loaded);
    // Nor does one over a registration that is not there.
    let absent = saving_registration(Save::over(Version(1), sign_up(None, 2, 3, NOW)));
    assert_eq!(storage.commit(absent).await, Err(CommitError::Conflict));
    storage.commit(saving_account(Save::new(account(1)))).await.unwrap();
    let stale = saving_account(Save::over(Version(9), account(1)));
    assert_eq!(storage.commit(stale).await, Err(CommitError::Conflict));
}

pub async fn a_second_insert_is_a_conflict<S: Storage>(storage: Arc<S>) {
    registered(&*storage, 1).await;
    let again = saving_registration(Save::new(sign_up(None, 1, 2, NOW)));
    assert_eq!(storage.commit(again).await, Err(CommitError::Conflict));
    storage.commit(saving_account(Save::new(account(1)))).await.unwrap();
    let other = Account::open(UserId::new(id(1)), phone(3), NOW);
    assert_eq!(storage.commit(saving_account(Save::new(other))).await, Err(CommitError::Conflict));
}

pub async fn of_64_commits_over_one_version_one_succeeds<S: Storage + 'static>(storage: Arc<S>) {
    let loaded = registered(&*storage, 1).await;
    let (won, lost) = race(&storage, |number| {
        let next = sign_up(Some(loaded.value.clone()), 1, 100 + number, after(60));
        saving_registration(Save::over(loaded.version, next))
    })
    .await;
    assert_eq!(won, 1);
    assert!(lost.iter().all(|error| *error == CommitError::Conflict), "{lost:?}");
}

pub async fn of_64_first_sign_ups_one_succeeds<S: Storage + 'static>(storage: Arc<S>) {
    let (won, lost) =
        race(&storage, |number| saving_registration(Save::new(sign_up(None, 1, 100 + number, NOW)))).await;
    assert_eq!(won, 1);
    assert!(lost.iter().all(|error| *error == CommitError::Conflict), "{lost:?}");
}

pub async fn a_used_number_is_used_once<S: Storage>(storage: Arc<S>) {
    let limit = Limit::SignUpsFrom(origin().address);
    let is_used =
        async |number| storage.sign_up_state(&phone(1), &digest(number), &limit).await.unwrap().number_used;
    assert!(!is_used(1).await);
    let using = |number| Changes { used_number: Some(digest(number)), ..Changes::default() };
    storage.commit(using(1)).await.unwrap();
    assert!(is_used(1).await);
    assert!(!is_used(2).await);
    assert_eq!(storage.commit(using(1)).await, Err(CommitError::PhoneTaken));
    storage.commit(using(2)).await.unwrap();
}

pub async fn of_64_confirmations_one_opens_the_account<S: Storage + 'static>(storage: Arc<S>) {
    let loaded = registered(&*storage, 1).await;
    let (won, lost) = race(&storage, |number| opening(loaded.clone(), 100 + number)).await;
    assert_eq!(won, 1);
    assert!(lost.iter().all(|error| *error == CommitError::Conflict), "{lost:?}");
    let mut accounts = 0;
    for number in 100..164 {
        let (user, session) = (UserId::new(id(number)), SessionId::new(id(number)));
        accounts += usize::from(storage.account_of_session(user, session).await.unwrap().is_some());
    }
    assert_eq!(accounts, 1);
}

pub async fn a_phone_has_one_account<S: Storage>(storage: Arc<S>) {
    storage.commit(saving_account(Save::new(account(1)))).await.unwrap();
    let other = Account::open(UserId::new(id(2)), phone(1), NOW);
    assert_eq!(storage.commit(saving_account(Save::new(other))).await, Err(CommitError::PhoneTaken));
}

pub async fn a_confirmed_address_has_one_account<S: Storage>(storage: Arc<S>) {
    let owner = confirmed(with_email(account(1), "Anna@Example.com", 1), 1);
    storage.commit(saving_account(Save::new(owner.clone()))).await.unwrap();
    let other = confirmed(with_email(account(2), "anna@example.com", 2), 2);
    assert_eq!(storage.commit(saving_account(Save::new(other))).await, Err(CommitError::EmailTaken));
    let address = EmailAddress::parse("ANNA@example.com").unwrap();
    assert!(storage.email_confirmed_by_other(&address, UserId::new(id(2))).await.unwrap());
    assert!(!storage.email_confirmed_by_other(&address, UserId::new(id(1))).await.unwrap());
    // Saving the owner again takes nothing from anybody.
    storage.commit(saving_account(Save::over(Version(1), owner))).await.unwrap();
}

pub async fn of_64_confirmations_of_one_address_one_succeeds<S: Storage + 'static>(storage: Arc<S>) {
    for number in 0..64 {
        let unconfirmed = with_email(account(number), "anna@example.com", number);
        storage.commit(saving_account(Save::new(unconfirmed))).await.unwrap();
    }
    let (won, lost) = race(&storage, |number| {
        let account = confirmed(with_email(account(number), "anna@example.com", number), number);
        saving_account(Save::over(Version(1), account))
    })
    .await;
    assert_eq!(won, 1);
    assert!(lost.iter().all(|error| *error == CommitError::EmailTaken), "{lost:?}");
}

pub async fn an_unconfirmed_address_may_be_anyones<S: Storage>(storage: Arc<S>) {
    for number in 1..4 {
        let account = with_email(account(number), "anna@example.com", number);
        storage.commit(saving_account(Save::new(account))).await.unwrap();
    }
    let address = EmailAddress::parse("anna@example.com").unwrap();
    assert!(!storage.email_confirmed_by_other(&address, UserId::new(id(9))).await.unwrap());
}

pub async fn an_account_is_seen_through_its_own_session_only<S: Storage>(storage: Arc<S>) {
    for number in 1..3 {
        let mut changes = saving_account(Save::new(account(number)));
        changes.session = Some(session(number, number));
        storage.commit(changes).await.unwrap();
    }
    let seen = async |user, session| {
        storage.account_of_session(UserId::new(id(user)), SessionId::new(id(session))).await.unwrap()
    };
    assert_eq!(seen(1, 1).await.unwrap().value, account(1));
    for (user, session) in [(1, 2), (2, 1), (1, 9), (9, 1), (9, 9)] {
        assert_eq!(seen(user, session).await, None, "user {user}, session {session}");
    }
}

pub async fn a_limit_is_charged_to_its_end_and_no_further<S: Storage + 'static>(storage: Arc<S>) {
    let quota = Quota { burst: 30, period: Duration::from_hours(1) };
    let limit = Limit::SignUpsFrom(origin().address);
    let charging = |limit, now| Changes { charge: Some(Charge { limit, quota, now }), ..Changes::default() };
    let (won, lost) = race(&storage, |_| charging(limit, NOW)).await;
    assert_eq!(won, 30);
    let retry_after = Duration::from_mins(2);
    assert!(lost.iter().all(|error| *error == CommitError::LimitReached { retry_after }), "{lost:?}");
    let other = Limit::SignUpsFrom(ClientAddress::of([192, 0, 2, 2].into()));
    storage.commit(charging(other, NOW)).await.unwrap();
    storage.commit(charging(limit, NOW + retry_after)).await.unwrap();
    let state = storage.sign_up_state(&phone(1), &digest(1), &limit).await.unwrap();
    assert_eq!(state.client_full_at, Some(NOW + retry_after + Duration::from_hours(1)));
}

pub async fn a_refused_commit_leaves_nothing<S: Storage + Outbox>(storage: Arc<S>) {
    storage.commit(Changes { used_number: Some(digest(1)), ..Changes::default() }).await.unwrap();
    let loaded = registered(&*storage, 1).await;
    let mut changes = opening(loaded.clone(), 1);
    changes.messages = vec![message(1, NOW)];
    assert_eq!(storage.commit(changes).await, Err(CommitError::PhoneTaken));
    assert_eq!(storage.registration(&phone(1)).await.unwrap().unwrap(), loaded);
    assert_eq!(storage.account_of_session(UserId::new(id(1)), SessionId::new(id(1))).await.unwrap(), None);
    assert!(storage.claim(9, Duration::from_secs(1), NOW).await.unwrap().is_empty());
    let quota = Quota { burst: 0, period: Duration::from_hours(1) };
    let limit = Limit::SignUpsFrom(origin().address);
    let refused = Changes {
        registration: Some(Save::new(sign_up(None, 2, 2, NOW))),
        charge: Some(Charge { limit, quota, now: NOW }),
        ..Changes::default()
    };
    assert!(matches!(storage.commit(refused).await, Err(CommitError::LimitReached { .. })));
    assert_eq!(storage.registration(&phone(2)).await.unwrap(), None);
}

pub async fn a_dropped_commit_is_whole_or_not_at_all<S: Storage + Outbox + 'static>(storage: Arc<S>) {
    for number in 0..32 {
        let mut changes = saving_registration(Save::new(sign_up(None, number, number, NOW)));
        changes.messages = vec![message(number, NOW)];
        let storage = Arc::clone(&storage);
        let commit = tokio::spawn(async move { storage.commit(changes).await });
        tokio::task::yield_now().await;
        commit.abort();
        let _ = commit.await;
    }
    // Whatever was queued has woken who waits, though nobody waits for the commits themselves.
    let mut retained = false;
    for number in 0..32 {
        retained |= storage.registration(&phone(number)).await.unwrap().is_some();
    }
    if retained {
        tokio::time::timeout(Duration::from_secs(10), storage.queued()).await.expect("nobody was woken");
    }
    // A commit after them all ends only when none of theirs is open any more.
    registered(&*storage, 99).await;
    let messages: Vec<_> = storage.claim(99, Duration::from_secs(1), NOW).await.unwrap();
    for number in 0..32 {
        let saved = storage.registration(&phone(number)).await.unwrap().is_some();
        let queued = messages.iter().any(|claimed| claimed.message.id == MessageId::new(id(number)));
        assert_eq!(saved, queued, "registration {number}");
    }
}

pub async fn a_message_is_leased_to_one_caller<S: Storage + Outbox + 'static>(storage: Arc<S>) {
    for number in 0..40 {
        let messages = vec![message(number, NOW)];
        storage.commit(Changes { messages, ..Changes::default() }).await.unwrap();
    }
    let claims: Vec<_> = (0..16)
        .map(|_| {
            let storage = Arc::clone(&storage);
            tokio::spawn(async move { storage.claim(5, Duration::from_mins(1), NOW).await.unwrap() })
        })
        .collect();
    let mut claimed = Vec::new();
    for claim in claims {
        claimed.extend(claim.await.unwrap().into_iter().map(|claimed| claimed.message.id));
    }
    claimed.sort();
    let leased = claimed.len();
    claimed.dedup();
    assert_eq!((leased, claimed.len()), (40, 40));
}

pub async fn an_unsettled_message_comes_back_after_its_lease<S: Storage + Outbox>(storage: Arc<S>) {
    assert_eq!(storage.next_due().await.unwrap(), None);
    let mail = Message {
        recipient: Recipient::Email(EmailAddress::parse("Anna@example.com").unwrap()),
        content: Content::EmailConfirmation { verification: EmailVerificationId::new(id(4)) },
        ..message(2, after(1))
    };
    let notice = Message { content: Content::AlreadyRegistered, ..message(3, after(2)) };
    let messages = vec![message(1, NOW), mail, notice];
    storage.commit(Changes { messages: messages.clone(), ..Changes::default() }).await.unwrap();
    assert_eq!(storage.next_due().await.unwrap(), Some(NOW));
    let lease = Duration::from_secs(30);
    let first = storage.claim(9, lease, after(2)).await.unwrap();
    assert_eq!(first.iter().map(|claimed| claimed.message.clone()).collect::<Vec<_>>(), messages);
    assert!(first.iter().all(|claimed| claimed.tries == 1));
    assert!(storage.claim(9, lease, after(31)).await.unwrap().is_empty());
    assert_eq!(storage.next_due().await.unwrap(), Some(after(32)));
    let second = storage.claim(9, lease, after(32)).await.unwrap();
    assert!(second.len() == 3 && second.iter().all(|claimed| claimed.tries == 2));
}

pub async fn a_late_settlement_does_nothing<S: Storage + Outbox>(storage: Arc<S>) {
    storage.commit(Changes { messages: vec![message(1, NOW)], ..Changes::default() }).await.unwrap();
    let lease = Duration::from_secs(30);
    storage.claim(1, lease, NOW).await.unwrap();
    storage.claim(1, lease, after(30)).await.unwrap();
    let id = MessageId::new(id(1));
    for settlement in [
        sent("a", None),
        Settlement::Expired { at: NOW },
        Settlement::InDoubt { provider: "a", until: NOW, reason: String::new() },
        Settlement::Retry { at: NOW, reason: String::new() },
        Settlement::Dead { reason: String::new() },
    ] {
        storage.settle(id, 1, settlement).await.unwrap();
        assert_eq!(storage.next_due().await.unwrap(), Some(after(60)));
    }
    storage.settle(id, 2, sent("a", None)).await.unwrap();
    assert_eq!(storage.next_due().await.unwrap(), None);
}

pub async fn a_settled_message_is_gone_retried_or_dead<S: Storage + Outbox>(storage: Arc<S>) {
    let messages = (1..4).map(|number| message(number, NOW)).collect();
    storage.commit(Changes { messages, ..Changes::default() }).await.unwrap();
    assert_eq!(storage.claim(9, Duration::from_secs(30), NOW).await.unwrap().len(), 3);
    let settle =
        async |number, settlement| storage.settle(MessageId::new(id(number)), 1, settlement).await.unwrap();
    settle(1, sent("a", None)).await;
    settle(2, Settlement::Retry { at: after(90), reason: "busy".to_owned() }).await;
    settle(3, Settlement::Dead { reason: "no such number".to_owned() }).await;
    let again = storage.claim(9, Duration::from_secs(30), after(90)).await.unwrap();
    assert_eq!(again.len(), 1);
    assert_eq!((again[0].message.id, again[0].tries), (MessageId::new(id(2)), 2));
    let dead = storage.dead_letters(9).await.unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!((dead[0].message.id, dead[0].reason.as_str()), (MessageId::new(id(3)), "no such number"));
    assert!(storage.dead_letters(0).await.unwrap().is_empty());
}

fn sent(provider: &'static str, reference: Option<&str>) -> Settlement {
    Settlement::Sent { provider, reference: reference.map(str::to_owned), at: NOW }
}

/// Queues and leases message `number`, which carries a code of attempt `number`.
async fn leased<S: Storage + Outbox>(storage: &S, number: u32) -> MessageId {
    storage.commit(Changes { messages: vec![message(number, NOW)], ..Changes::default() }).await.unwrap();
    assert_eq!(storage.claim(9, Duration::from_secs(30), NOW).await.unwrap().len(), 1);
    MessageId::new(id(number))
}

fn report(message: Reported, state: DeliveryState) -> Report {
    Report { provider: "a", message, state, reason: None, at: after(9) }
}

async fn delivery(storage: &impl Storage, attempt: u32) -> Option<DeliveryState> {
    storage.delivery(AttemptId::new(id(attempt))).await.unwrap()
}

pub async fn a_sent_message_is_followed_by_its_id_and_reference<S: Storage + Outbox>(storage: Arc<S>) {
    use DeliveryState::{Delivered, Expired, Failed, Sent};
    let reference = || Reported::Reference("x1".to_owned());
    let first = leased(&*storage, 1).await;
    assert_eq!(delivery(&*storage, 1).await, Some(DeliveryState::Queued));
    // Not settled yet: it is to be said again.
    assert!(!storage.record_delivery(&report(reference(), Delivered)).await.unwrap());
    storage.settle(first, 1, sent("a", Some("x1"))).await.unwrap();
    assert_eq!(delivery(&*storage, 1).await, Some(Sent));
    let elsewhere = Report { provider: "b", ..report(reference(), Failed) };
    assert!(!storage.record_delivery(&elsewhere).await.unwrap(), "another provider's reference");
    for (said, stands) in [(Failed, Failed), (Sent, Failed), (Delivered, Delivered), (Expired, Delivered)] {
        assert!(storage.record_delivery(&report(reference(), said)).await.unwrap());
        assert_eq!(delivery(&*storage, 1).await, Some(stands), "{said:?}");
    }
    let second = leased(&*storage, 2).await;
    storage.settle(second, 1, sent("b", None)).await.unwrap();
    for said in [Expired, Failed] {
        assert!(storage.record_delivery(&report(Reported::Message(second), said)).await.unwrap());
        assert_eq!(delivery(&*storage, 2).await, Some(Sent), "another provider's copy");
    }
    let own = Report { provider: "b", ..report(Reported::Message(second), Expired) };
    assert!(storage.record_delivery(&own).await.unwrap());
    assert_eq!(delivery(&*storage, 2).await, Some(Expired));
    assert!(storage.record_delivery(&report(Reported::Message(second), Delivered)).await.unwrap());
    assert_eq!(delivery(&*storage, 2).await, Some(Delivered), "whoever has delivered it");
    let unknown = Reported::Message(MessageId::new(id(77)));
    assert!(storage.record_delivery(&report(unknown, Delivered)).await.unwrap());
}

pub async fn a_report_of_a_queued_message_settles_it<S: Storage + Outbox>(storage: Arc<S>) {
    let message = leased(&*storage, 1).await;
    let failed = report(Reported::Message(message), DeliveryState::Failed);
    assert!(!storage.record_delivery(&failed).await.unwrap(), "its try is not settled yet");
    let delivered = report(Reported::Message(message), DeliveryState::Delivered);
    assert!(storage.record_delivery(&delivered).await.unwrap());
    assert_eq!(delivery(&*storage, 1).await, Some(DeliveryState::Delivered));
    // The answer of the provider was slower than its report.
    storage.settle(message, 1, sent("a", Some("x1"))).await.unwrap();
    assert_eq!(delivery(&*storage, 1).await, Some(DeliveryState::Delivered));
    assert!(storage.claim(9, Duration::from_secs(1), after(3600)).await.unwrap().is_empty());
    // A dead letter can arrive after all, by the provider that it was in doubt with; its failure is no news.
    let dead = leased(&*storage, 2).await;
    storage.settle(dead, 1, Settlement::Dead { reason: "refused".to_owned() }).await.unwrap();
    for state in [DeliveryState::Failed, DeliveryState::Expired] {
        assert!(storage.record_delivery(&report(Reported::Message(dead), state)).await.unwrap());
        assert_eq!(storage.dead_letters(9).await.unwrap().len(), 1);
    }
    assert!(
        storage.record_delivery(&report(Reported::Message(dead), DeliveryState::Delivered)).await.unwrap()
    );
    assert_eq!(delivery(&*storage, 2).await, Some(DeliveryState::Delivered));
    assert!(storage.dead_letters(9).await.unwrap().is_empty());
}

pub async fn a_failure_in_doubt_is_tried_again_at_once<S: Storage + Outbox>(storage: Arc<S>) {
    let message = leased(&*storage, 1).await;
    let in_doubt = |until| Settlement::InDoubt { provider: "a", until, reason: "no answer".to_owned() };
    storage.settle(message, 1, in_doubt(after(60))).await.unwrap();
    let failed = report(Reported::Message(message), DeliveryState::Failed);
    let elsewhere = Report { provider: "b", ..failed.clone() };
    assert!(!storage.record_delivery(&elsewhere).await.unwrap(), "another provider's failure");
    assert!(storage.claim(9, Duration::from_secs(30), after(59)).await.unwrap().is_empty());
    assert!(storage.record_delivery(&failed).await.unwrap());
    assert!(storage.record_delivery(&failed).await.unwrap(), "said again");
    let claimed = storage.claim(9, Duration::from_secs(30), after(9)).await.unwrap();
    assert_eq!((claimed.len(), claimed[0].doubted.as_deref()), (1, Some("a")));
    assert!(!storage.record_delivery(&failed).await.unwrap(), "it is in doubt no more");
    storage.settle(message, 2, in_doubt(after(120))).await.unwrap();
    let again = storage.claim(9, Duration::from_secs(30), after(120)).await.unwrap();
    assert_eq!(again.len(), 1, "no report came, so it is tried again");
    let late = storage.claim(9, Duration::from_secs(30), after(150)).await.unwrap();
    assert_eq!((late[0].tries, late[0].doubted.as_deref()), (4, None), "the lease has ended the doubt");
}

pub async fn the_newest_message_of_an_attempt_tells_its_delivery<S: Storage + Outbox>(storage: Arc<S>) {
    assert_eq!(delivery(&*storage, 1).await, None);
    let first = leased(&*storage, 1).await;
    storage.settle(first, 1, sent("a", None)).await.unwrap();
    let again = Message { id: MessageId::new(id(50)), ..message(1, NOW) };
    let again = Message { queued_at: after(60), ..again };
    storage.commit(Changes { messages: vec![again.clone()], ..Changes::default() }).await.unwrap();
    assert_eq!(delivery(&*storage, 1).await, Some(DeliveryState::Queued));
    storage.claim(9, Duration::from_secs(30), after(60)).await.unwrap();
    storage.settle(again.id, 1, Settlement::Dead { reason: "refused".to_owned() }).await.unwrap();
    assert_eq!(delivery(&*storage, 1).await, Some(DeliveryState::Failed));
    assert!(
        storage.record_delivery(&report(Reported::Message(first), DeliveryState::Delivered)).await.unwrap()
    );
    assert_eq!(delivery(&*storage, 1).await, Some(DeliveryState::Failed), "that was an older message");
}

pub async fn a_commit_wakes_who_waits_for_messages<S: Storage + Outbox + 'static>(storage: Arc<S>) {
    let waiting = {
        let storage = Arc::clone(&storage);
        tokio::spawn(async move { storage.queued().await })
    };
    storage.commit(Changes { messages: vec![message(1, NOW)], ..Changes::default() }).await.unwrap();
    tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("nobody was woken").unwrap();
}

pub async fn a_sweep_forgets_what_no_longer_matters<S: Storage + Outbox>(storage: Arc<S>) {
    let loaded = registered(&*storage, 1).await;
    let limit = Limit::SignUpsFrom(origin().address);
    let quota = Quota { burst: 2, period: Duration::from_hours(1) };
    let mut changes = opening(loaded, 1);
    changes.charge = Some(Charge { limit, quota, now: NOW });
    storage.commit(changes).await.unwrap();
    let kept = registered(&*storage, 2).await;
    for number in [8, 9] {
        let message = leased(&*storage, number).await;
        let dead = Settlement::Dead { reason: "refused".to_owned() };
        storage.settle(message, 1, if number == 8 { sent("a", None) } else { dead }).await.unwrap();
    }
    let waiting = Changes { messages: vec![message(10, NOW)], ..Changes::default() };
    storage.commit(waiting).await.unwrap();
    let at = |now| Sweep { now, messages_before: NOW, batch: 100 };
    assert_eq!(storage.sweep(at(after(60))).await.unwrap(), 0);
    assert!(storage.account_of_session(UserId::new(id(1)), SessionId::new(id(1))).await.unwrap().is_some());
    // The limit, the refresh token with its session and the confirmed registration are past; the pending one is not.
    assert_eq!(storage.sweep(at(after(86_000))).await.unwrap(), 4);
    assert_eq!(storage.registration(&phone(1)).await.unwrap(), None);
    assert_eq!(storage.registration(&phone(2)).await.unwrap(), Some(kept));
    let state = storage.sign_up_state(&phone(1), &digest(1), &limit).await.unwrap();
    assert!(state.number_used, "a used number stays used");
    assert_eq!(state.client_full_at, None);
    assert_eq!(storage.account_of_session(UserId::new(id(1)), SessionId::new(id(1))).await.unwrap(), None);
    // What was sent and what is dead is old now; what waits never is.
    let old = Sweep { messages_before: after(1), ..at(NOW) };
    assert_eq!(storage.sweep(old).await.unwrap(), 2);
    assert_eq!(delivery(&*storage, 8).await, None);
    assert!(storage.dead_letters(9).await.unwrap().is_empty());
    assert_eq!(delivery(&*storage, 10).await, Some(DeliveryState::Queued));
}

pub async fn a_sweep_ends_sessions_without_tokens_only<S: Storage>(storage: Arc<S>) {
    let loaded = registered(&*storage, 1).await;
    storage.commit(opening(loaded, 1)).await.unwrap();
    let later = NewRefreshToken {
        hash: RefreshToken::from_random([9; 32]).hash(),
        session: SessionId::new(id(1)),
        issued_at: after(60),
        expires_at: after(7200),
    };
    storage.commit(Changes { refresh_token: Some(later), ..Changes::default() }).await.unwrap();
    let at = |now| Sweep { now, messages_before: NOW, batch: 100 };
    assert_eq!(storage.sweep(at(after(3600))).await.unwrap(), 1);
    assert!(storage.account_of_session(UserId::new(id(1)), SessionId::new(id(1))).await.unwrap().is_some());
    assert_eq!(storage.sweep(at(after(7200))).await.unwrap(), 2);
    assert_eq!(storage.account_of_session(UserId::new(id(1)), SessionId::new(id(1))).await.unwrap(), None);
}

pub async fn a_sweep_goes_in_batches<S: Storage>(storage: Arc<S>) {
    for number in 0..25 {
        registered(&*storage, number).await;
    }
    let sweep = Sweep { now: after(999_999), messages_before: NOW, batch: 10 };
    let mut swept = 0;
    loop {
        match storage.sweep(sweep).await.unwrap() {
            0 => break,
            rows => swept += rows,
        }
    }
    assert_eq!(swept, 25);
}
