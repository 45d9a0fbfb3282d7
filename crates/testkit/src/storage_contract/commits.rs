//! What commits keep, and which of them are refused.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use vestibule_domain::limits::{Charge, Limit, Scope, Step, Unit};
use vestibule_domain::quota::Quota;
use vestibule_domain::registration::{NumberUse, Registration, SignUp};
use vestibule_domain::{
    Account, AccountKind, AccountRecord, AttemptId, ClientAddress, EmailAddress, EmailVerificationId,
    MerchantId, MessageId, Origin, PasswordHash, ProfileField, ProfilePatch, Standing,
};
use vestibule_port_storage::{Changes, CommitError, Loaded, Outbox, Room, Save, Storage, Version};

use super::{
    NOW, OneCode, RULES, account, after, confirmed, digest, id, message, opening, origin, phone, race,
    registered, saving_account, saving_registration, session_id, sign_up, user, with_email,
};

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
    storage.commit(saving_account(Save::new(first.clone()))).await.unwrap();
    let mut version = Version(1);
    let unconfirmed = with_email(first, "Zoë+x@Müller.example", 7);
    let full = unconfirmed.clone().patch_profile(&patch, NOW.date(), 18).unwrap();
    let cleared = ProfilePatch::default().with(ProfileField::ResidenceState, None);
    let partly = full.clone().patch_profile(&cleared, NOW.date(), 18).unwrap();
    let blocked = full.clone().stand(Standing::Blocked);
    for saved in [unconfirmed, blocked, full.clone(), confirmed(full, 7), partly] {
        storage.commit(saving_account(Save::over(version, saved.clone()))).await.unwrap();
        let loaded = storage.account(user(1)).await.unwrap().unwrap();
        assert_eq!(loaded.value, saved);
        assert_eq!(loaded.value.email().address().unwrap().as_str(), "Zoë+x@Müller.example");
        version = loaded.version;
        let by_link = storage.account_by_email_verification(EmailVerificationId::new(id(7))).await.unwrap();
        assert_eq!(by_link.unwrap(), loaded);
    }
    assert_eq!(storage.account_by_email_verification(EmailVerificationId::new(id(8))).await.unwrap(), None);
    assert_eq!(storage.account(user(2)).await.unwrap(), None);
}

pub async fn an_account_knows_where_it_was_opened_from<S: Storage>(storage: Arc<S>) {
    let v6 = Origin { fingerprint: None, address: ClientAddress::of("2001:db8::1".parse().unwrap()) };
    for (number, opened_from) in [(1, None), (2, Some(origin())), (3, Some(v6))] {
        let record = AccountRecord { opened_from, ..account(number).record() };
        let saved = Account::restore(record);
        storage.commit(saving_account(Save::new(saved.clone()))).await.unwrap();
        assert_eq!(storage.account(user(number)).await.unwrap().unwrap().value, saved);
    }
}

pub async fn a_test_account_is_one_and_stays_one<S: Storage>(storage: Arc<S>) {
    for (number, kind) in [(1, AccountKind::Test), (2, AccountKind::Customer)] {
        let saved = account(number).of_kind(kind);
        storage.commit(saving_account(Save::new(saved.clone()))).await.unwrap();
        assert_eq!(storage.account(user(number)).await.unwrap().unwrap().value, saved);
        let next = with_email(saved, "anna@example.com", number);
        storage.commit(saving_account(Save::over(Version(1), next))).await.unwrap();
        let credentials = storage.credentials(&phone(number), &[]).await.unwrap();
        assert_eq!(credentials.account.unwrap().value.kind(), kind);
    }
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
    let other = Account::open(user(1), phone(3), origin(), NOW);
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
    let limit = Limit { step: Step::SignUp, scope: Scope::Address(origin().address) };
    let is_used =
        async |number| storage.sign_up_state(&phone(1), &digest(number), &[limit]).await.unwrap().number_used;
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
        let signed_in = storage.account_of_session(user(number), session_id(number)).await.unwrap();
        accounts += usize::from(signed_in.is_some());
    }
    assert_eq!(accounts, 1);
}

pub async fn a_phone_has_one_account<S: Storage>(storage: Arc<S>) {
    storage.commit(saving_account(Save::new(account(1)))).await.unwrap();
    let other = Account::open(user(2), phone(1), origin(), NOW);
    assert_eq!(storage.commit(saving_account(Save::new(other))).await, Err(CommitError::PhoneTaken));
}

pub async fn a_confirmed_address_has_one_account<S: Storage>(storage: Arc<S>) {
    let owner = confirmed(with_email(account(1), "Anna@Example.com", 1), 1);
    storage.commit(saving_account(Save::new(owner.clone()))).await.unwrap();
    let other = confirmed(with_email(account(2), "anna@example.com", 2), 2);
    assert_eq!(storage.commit(saving_account(Save::new(other))).await, Err(CommitError::EmailTaken));
    let address = EmailAddress::parse("ANNA@example.com").unwrap();
    assert!(storage.email_confirmed_by_other(&address, user(2)).await.unwrap());
    assert!(!storage.email_confirmed_by_other(&address, user(1)).await.unwrap());
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
    assert!(!storage.email_confirmed_by_other(&address, user(9)).await.unwrap());
}

pub async fn a_limit_is_charged_to_its_end_and_no_further<S: Storage + 'static>(storage: Arc<S>) {
    let quota = Quota { burst: 30, period: Duration::from_hours(1) };
    let limit = Limit { step: Step::SignUp, scope: Scope::Address(origin().address) };
    let charging = |limit, now| Changes {
        charges: vec![Charge { limit, quota, unit: Unit::Taken, now }],
        ..Changes::default()
    };
    let (won, lost) = race(&storage, |_| charging(limit, NOW)).await;
    assert_eq!(won, 30);
    let retry_after = Duration::from_mins(2);
    assert!(lost.iter().all(|error| *error == CommitError::LimitReached { retry_after }), "{lost:?}");
    let other = Limit { step: Step::SignUp, scope: Scope::Address(ClientAddress::of([192, 0, 2, 2].into())) };
    storage.commit(charging(other, NOW)).await.unwrap();
    storage.commit(charging(limit, NOW + retry_after)).await.unwrap();
    let state = storage.sign_up_state(&phone(1), &digest(1), &[limit]).await.unwrap();
    assert_eq!(
        state.budgets.0.get(&limit).and_then(super::full_at),
        Some(NOW + retry_after + Duration::from_hours(1))
    );
}

pub async fn everyones_budget_is_spent_to_the_last_unit<S: Storage + 'static>(storage: Arc<S>) {
    is_spent_to_the_last_unit(storage, Scope::Everyone).await;
}

pub async fn a_partners_budget_is_spent_to_the_last_unit<S: Storage + 'static>(storage: Arc<S>) {
    is_spent_to_the_last_unit(storage, Scope::Merchant(MerchantId::parse("acme").unwrap())).await;
}

/// One of more units than any store keeps in parts, and one of fewer.
async fn is_spent_to_the_last_unit<S: Storage + 'static>(storage: Arc<S>, scope: Scope) {
    for (step, burst) in [(Step::SignUp, 21), (Step::Resend, 5)] {
        is_spent_to_the_last_of(&storage, Limit { step, scope }, burst).await;
    }
}

async fn is_spent_to_the_last_of<S: Storage + 'static>(storage: &Arc<S>, limit: Limit, burst: usize) {
    let quota = Quota { burst: u32::try_from(burst).unwrap(), period: Duration::from_hours(1) };
    let charging = |now| Changes {
        charges: vec![Charge { limit, quota, unit: Unit::Taken, now }],
        ..Changes::default()
    };
    let mut taken = 0;
    while let (won @ 1.., lost) = race(storage, |_| charging(NOW)).await {
        taken += won;
        assert!(
            lost.iter()
                .all(|error| *error == CommitError::Conflict
                    || matches!(error, CommitError::LimitReached { .. })),
            "{lost:?}"
        );
    }
    assert_eq!(taken, burst);
    let Err(CommitError::LimitReached { retry_after }) = storage.commit(charging(NOW)).await else {
        panic!("there was a unit left");
    };
    // Who looks before is refused too; how long to wait may be told roughly.
    assert!(storage.budgets(&[limit]).await.unwrap().admit(&charging(NOW).charges).is_err());
    assert!(storage.commit(charging(NOW + retry_after - Duration::from_millis(1))).await.is_err());
    storage.commit(charging(NOW + retry_after)).await.unwrap();
}

pub async fn a_kept_unit_must_be_there_and_stays<S: Storage>(storage: Arc<S>) {
    let quota = Quota { burst: 2, period: Duration::from_mins(2) };
    let limit = Limit { step: Step::PasswordGuess, scope: Scope::Address(origin().address) };
    let charging =
        |unit, now| Changes { charges: vec![Charge { limit, quota, unit, now }], ..Changes::default() };
    for unit in [Unit::Kept, Unit::Kept, Unit::Kept, Unit::Taken, Unit::Kept, Unit::Taken] {
        storage.commit(charging(unit, NOW)).await.unwrap();
    }
    let refused = Err(CommitError::LimitReached { retry_after: Duration::from_mins(1) });
    for unit in [Unit::Kept, Unit::Taken] {
        assert_eq!(storage.commit(charging(unit, NOW)).await, refused);
    }
    for unit in [Unit::Kept, Unit::Taken] {
        storage.commit(charging(unit, after(60))).await.unwrap();
    }
    assert_eq!(storage.commit(charging(Unit::Kept, after(60))).await, refused);
}

pub async fn several_limits_are_charged_together_or_not_at_all<S: Storage>(storage: Arc<S>) {
    let roomy = Charge {
        limit: Limit { step: Step::SignUp, scope: Scope::Address(origin().address) },
        quota: Quota { burst: 9, period: Duration::from_mins(9) },
        unit: Unit::Taken,
        now: NOW,
    };
    let [one, two] = [
        (Limit { step: Step::Reset, scope: Scope::Address(origin().address) }, 1),
        (Limit { step: Step::PasswordGuess, scope: Scope::Address(origin().address) }, 2),
    ]
    .map(|(limit, burst)| Charge {
        limit,
        quota: Quota { burst, period: Duration::from_hours(1) },
        ..roomy
    });
    let charging = |charges| Changes { charges, ..Changes::default() };
    storage.commit(charging(vec![roomy, one, two])).await.unwrap();
    let hour = Err(CommitError::LimitReached { retry_after: Duration::from_hours(1) });
    assert_eq!(storage.commit(charging(vec![roomy, one, two])).await, hour);
    storage.commit(charging(vec![roomy, two])).await.unwrap();
    let half = Err(CommitError::LimitReached { retry_after: Duration::from_mins(30) });
    assert_eq!(storage.commit(charging(vec![roomy, two])).await, half);
    // The first that is empty tells how long to wait.
    assert_eq!(storage.commit(charging(vec![roomy, one, two])).await, hour);
    assert_eq!(storage.commit(charging(vec![two, one])).await, half);
    let state = storage.sign_up_state(&phone(1), &digest(1), &[roomy.limit]).await.unwrap();
    assert_eq!(state.budgets.0.get(&roomy.limit).and_then(super::full_at), Some(after(120)));
}

pub async fn a_refused_commit_leaves_nothing<S: Storage + Outbox>(storage: Arc<S>) {
    storage.commit(Changes { used_number: Some(digest(1)), ..Changes::default() }).await.unwrap();
    let loaded = registered(&*storage, 1).await;
    let mut changes = opening(loaded.clone(), 1);
    changes.messages = vec![message(1, NOW)];
    assert_eq!(storage.commit(changes).await, Err(CommitError::PhoneTaken));
    assert_eq!(storage.registration(&phone(1)).await.unwrap().unwrap(), loaded);
    assert_eq!(storage.account(user(1)).await.unwrap(), None);
    assert!(storage.claim(Room::for_each(9), Duration::from_secs(1), NOW).await.unwrap().is_empty());
    let quota = Quota { burst: 0, period: Duration::from_hours(1) };
    let limit = Limit { step: Step::SignUp, scope: Scope::Address(origin().address) };
    let refused = Changes {
        registration: Some(Save::new(sign_up(None, 2, 2, NOW))),
        charges: vec![Charge { limit, quota, unit: Unit::Taken, now: NOW }],
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
    // Some may still be on their way, each on a connection of its own: it is looked again until all that is saved is queued.
    let saved = async || {
        let mut saved = BTreeSet::new();
        for number in 0..32 {
            if storage.registration(&phone(number)).await.unwrap().is_some() {
                saved.insert(MessageId::new(id(number)));
            }
        }
        saved
    };
    let mut queued = BTreeSet::new();
    let whole = async {
        loop {
            let claimed = storage.claim(Room::for_each(99), Duration::from_hours(1), NOW).await.unwrap();
            queued.extend(claimed.iter().map(|claimed| claimed.message.id));
            if saved().await == queued {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), whole).await.expect("a commit is torn");
}
