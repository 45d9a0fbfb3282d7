//! What somebody proves to be the owner with: passwords, and what guards them.

use std::sync::Arc;
use std::time::Duration;

use vestibule_domain::limits::{AddressBlock, Charge, Limit, Scope, Step, Unit};
use vestibule_domain::password_reset::{Finished, Owner, PasswordReset, Request, ResetRecord};
use vestibule_domain::quota::Quota;
use vestibule_domain::registration::Attempt;
use vestibule_domain::sign_in::{KnownOrigin, SignInGuard, Throttle};
use vestibule_domain::{AttemptId, ClientAddress, Fingerprint, MerchantId, Origin, SessionId, UserId};
use vestibule_port_storage::{Budgets, Changes, CommitError, Credentials, Save, Storage, Version};

use super::{NOW, OneCode, RULES, account, after, id, origin, password, phone, race, saving_account, user};

fn client() -> Limit {
    Limit { step: Step::PasswordGuess, scope: Scope::Address(origin().address) }
}

async fn credentials(storage: &impl Storage, number: u32) -> Credentials {
    storage.credentials(&phone(number), &[client()]).await.unwrap()
}

fn saving_guard(save: Save<SignInGuard>) -> Changes {
    Changes { guard: Some(save), ..Changes::default() }
}

fn saving_reset(save: Save<PasswordReset>) -> Changes {
    Changes { reset: Some(save), ..Changes::default() }
}

fn from(device: &str, address: &str) -> Origin {
    Origin { fingerprint: Fingerprint::of(device), address: ClientAddress::of(address.parse().unwrap()) }
}

fn throttle(failures: u32) -> Throttle {
    let at = after(7) + Duration::from_millis(failures.into());
    Throttle { failures, failed_at: Some(at), locked_until: Some(at + Duration::from_millis(1)) }
}

/// With known devices of both kinds of addresses, and everything that can be locked locked.
fn full_guard(number: u32) -> SignInGuard {
    let known = |origin, throttle| KnownOrigin { origin, seen_at: after(3), throttle };
    let unlocked = Throttle { locked_until: None, ..throttle(2) };
    SignInGuard {
        phone: phone(number),
        strangers: throttle(123),
        origins: vec![
            known(from("device", "192.0.2.1"), Throttle::default()),
            known(from("", "2001:db8:1:2::"), throttle(456)),
            known(from("Ünïcode", "198.51.100.7"), unlocked),
        ],
    }
}

fn full_reset(number: u32) -> PasswordReset {
    let attempt = |attempt: u32, origin| Attempt {
        id: AttemptId::new(id(attempt)),
        password: (),
        origin,
        created_at: after(attempt.into()) + Duration::from_millis(1),
        generation: attempt,
        expires_at: after(600) + Duration::from_millis(2),
        guesses: 2,
        messages: 3,
        last_message_at: after(60) + Duration::from_millis(3),
    };
    PasswordReset::restore(ResetRecord {
        phone: phone(number),
        attempts: vec![attempt(2, from("device", "192.0.2.1")), attempt(1, from("", "2001:db8:1:2::"))],
        requests_full_at: Some(after(3600) + Duration::from_millis(4)),
        guesses_full_at: Some(after(60) + Duration::from_millis(5)),
        finished: Some(Finished {
            attempt: AttemptId::new(id(3)),
            generation: 4,
            origin: from("device", "2001:db8:1:2::"),
            session: SessionId::new(id(5)),
            set_at: after(120) + Duration::from_millis(6),
            wrong_repeats: 7,
        }),
    })
}

pub(super) fn requested(number: u32) -> PasswordReset {
    let request = Request { attempt: AttemptId::new(id(number)), phone: phone(number), origin: origin() };
    PasswordReset::request(None, Owner::Account, request, &OneCode, &RULES, NOW).unwrap().reset
}

pub async fn a_guard_is_read_as_it_was_saved<S: Storage>(storage: Arc<S>) {
    assert_eq!(credentials(&*storage, 1).await.guard, None);
    let mut version = None;
    for saved in [SignInGuard::new(phone(1)), full_guard(1), SignInGuard::new(phone(1))] {
        storage.commit(saving_guard(Save { value: saved.clone(), replaces: version })).await.unwrap();
        let loaded = credentials(&*storage, 1).await.guard.unwrap();
        assert_eq!(loaded.value, saved);
        version = Some(loaded.version);
    }
    assert_eq!(credentials(&*storage, 2).await.guard, None);
}

pub async fn a_guard_over_another_version_is_a_conflict<S: Storage + 'static>(storage: Arc<S>) {
    let absent = saving_guard(Save::over(Version(1), full_guard(1)));
    assert_eq!(storage.commit(absent).await, Err(CommitError::Conflict));
    let (won, lost) = race(&storage, |_| saving_guard(Save::new(SignInGuard::new(phone(1))))).await;
    assert_eq!(won, 1);
    assert!(lost.iter().all(|error| *error == CommitError::Conflict), "{lost:?}");
    let (won, lost) = race(&storage, |number| {
        let guard = SignInGuard { strangers: throttle(number), ..full_guard(1) };
        saving_guard(Save::over(Version(1), guard))
    })
    .await;
    assert_eq!(won, 1);
    assert!(lost.iter().all(|error| *error == CommitError::Conflict), "{lost:?}");
}

pub async fn a_reset_is_read_as_it_was_saved<S: Storage>(storage: Arc<S>) {
    assert_eq!(credentials(&*storage, 1).await.reset, None);
    let empty = ResetRecord {
        phone: phone(1),
        attempts: vec![],
        requests_full_at: None,
        guesses_full_at: None,
        finished: None,
    };
    let mut version = None;
    for saved in [requested(1), full_reset(1), PasswordReset::restore(empty)] {
        storage.commit(saving_reset(Save { value: saved.clone(), replaces: version })).await.unwrap();
        let loaded = credentials(&*storage, 1).await.reset.unwrap();
        assert_eq!(loaded.value, saved);
        version = Some(loaded.version);
    }
    assert_eq!(credentials(&*storage, 2).await.reset, None);
}

pub async fn a_reset_over_another_version_is_a_conflict<S: Storage + 'static>(storage: Arc<S>) {
    let absent = saving_reset(Save::over(Version(1), full_reset(1)));
    assert_eq!(storage.commit(absent).await, Err(CommitError::Conflict));
    let (won, lost) = race(&storage, |_| saving_reset(Save::new(requested(1)))).await;
    assert_eq!(won, 1);
    assert!(lost.iter().all(|error| *error == CommitError::Conflict), "{lost:?}");
    let (won, lost) = race(&storage, |_| saving_reset(Save::over(Version(1), full_reset(1)))).await;
    assert_eq!(won, 1);
    assert!(lost.iter().all(|error| *error == CommitError::Conflict), "{lost:?}");
}

pub async fn credentials_are_all_that_is_known_of_a_phone<S: Storage>(storage: Arc<S>) {
    let unknown = credentials(&*storage, 1).await;
    assert!(unknown.account.is_none() && unknown.passwords.is_empty());
    assert!(unknown.guard.is_none() && unknown.reset.is_none() && unknown.budgets == Budgets::default());
    // A phone is guarded whether or not it has an account.
    let unowned = Changes { reset: Some(Save::new(requested(2))), ..saving_guard(Save::new(full_guard(2))) };
    storage.commit(unowned).await.unwrap();
    let state = credentials(&*storage, 2).await;
    assert!(state.account.is_none() && state.passwords.is_empty());
    assert_eq!(state.guard.unwrap().value, full_guard(2));
    assert_eq!(state.reset.unwrap().value, requested(2));
    for number in [1, 3] {
        let changes = Changes {
            password: Some(password(number, "first", NOW)),
            guard: Some(Save::new(full_guard(number))),
            reset: Some(Save::new(full_reset(number))),
            ..saving_account(Save::new(account(number)))
        };
        storage.commit(changes).await.unwrap();
    }
    for (hash, seconds) in [("third", 120), ("second", 60)] {
        let changes = Changes { password: Some(password(1, hash, after(seconds))), ..Changes::default() };
        storage.commit(changes).await.unwrap();
    }
    let state = credentials(&*storage, 1).await;
    let loaded = state.account.unwrap();
    assert_eq!((loaded.value, loaded.version), (account(1), Version(1)));
    let newest_first =
        [password(1, "third", after(120)), password(1, "second", after(60)), password(1, "first", NOW)];
    assert_eq!(state.passwords, newest_first);
    assert_eq!(state.guard.unwrap().value, full_guard(1));
    assert_eq!(state.reset.unwrap().value, full_reset(1));
}

pub async fn every_limit_has_its_own_budget<S: Storage>(storage: Arc<S>) {
    let quota = Quota { burst: 1, period: Duration::from_mins(1) };
    let address = origin().address;
    let v6 = ClientAddress::of("2001:db8::1".parse().unwrap());
    let device = Scope::Device(Fingerprint::of("another").unwrap());
    let merchant = Scope::Merchant(MerchantId::parse("acme").unwrap());
    let blocks = [Scope::Block(AddressBlock::of(address)), Scope::Block(AddressBlock::of(v6))];
    let scopes = [Scope::Address(address), Scope::Address(v6), device, merchant, Scope::Everyone]
        .into_iter()
        .chain(blocks);
    let limits: Vec<_> = scopes.flat_map(|scope| Step::ALL.map(|step| Limit { step, scope })).collect();
    let full_at = async |limit| {
        let budgets = storage.credentials(&phone(1), std::slice::from_ref(limit)).await.unwrap().budgets;
        budgets.0.get(limit).and_then(super::full_at)
    };
    for (seconds, limit) in (0..).zip(&limits) {
        assert_eq!(full_at(limit).await, None, "{limit:?}");
        let charge = Charge { limit: *limit, quota, unit: Unit::Taken, now: after(seconds) };
        storage.commit(Changes { charges: vec![charge], ..Changes::default() }).await.unwrap();
        let again = Changes { charges: vec![charge], ..Changes::default() };
        assert!(matches!(storage.commit(again).await, Err(CommitError::LimitReached { .. })), "{limit:?}");
    }
    // Everyone's and a partner's may be counted in parts; then only a full one says nothing.
    let alone = |limit: &Limit| ![merchant, Scope::Everyone].contains(&limit.scope);
    for (seconds, limit) in (0..).zip(&limits).filter(|(_, limit)| alone(limit)) {
        assert_eq!(full_at(limit).await, Some(after(60 + seconds)), "{limit:?}");
    }
    let known = storage.credentials(&phone(1), &limits).await.unwrap().budgets;
    assert!(limits.iter().filter(|limit| alone(limit)).all(|limit| known.0.contains_key(limit)));
    assert_eq!(
        storage.credentials(&phone(1), &[]).await.unwrap().budgets,
        Budgets::default(),
        "nobody asked"
    );
}

pub async fn a_password_is_hashed_anew_in_its_place<S: Storage>(storage: Arc<S>) {
    let setting = |password| Changes { password: Some(password), ..Changes::default() };
    assert_eq!(storage.commit(setting(password(1, "early", NOW))).await, Err(CommitError::Conflict));
    for number in 1..3 {
        storage.commit(saving_account(Save::new(account(number)))).await.unwrap();
        storage.commit(setting(password(number, "old", NOW))).await.unwrap();
    }
    storage.commit(setting(password(1, "new", after(60)))).await.unwrap();
    storage.commit(setting(password(1, "costlier", NOW))).await.unwrap();
    let kept = [password(1, "new", after(60)), password(1, "costlier", NOW)];
    assert_eq!(credentials(&*storage, 1).await.passwords, kept);
    assert_eq!(credentials(&*storage, 2).await.passwords, [password(2, "old", NOW)]);
}

pub async fn forgotten_passwords_are_gone<S: Storage>(storage: Arc<S>) {
    for number in 1..3 {
        storage.commit(saving_account(Save::new(account(number)))).await.unwrap();
        for seconds in 0..4 {
            let password = password(number, "hash", after(seconds));
            storage.commit(Changes { password: Some(password), ..Changes::default() }).await.unwrap();
        }
    }
    // In the commit that sets another, and one that is not there.
    let forgotten: Vec<(UserId, _)> = [0, 2, 99].map(|seconds| (user(1), after(seconds))).into();
    let changes = Changes {
        password: Some(password(1, "newest", after(9))),
        forgotten_passwords: forgotten,
        ..Changes::default()
    };
    storage.commit(changes).await.unwrap();
    let set_at = async |number| {
        let passwords = credentials(&*storage, number).await.passwords;
        passwords.into_iter().map(|password| password.set_at).collect::<Vec<_>>()
    };
    assert_eq!(set_at(1).await, [after(9), after(3), after(1)]);
    assert_eq!(set_at(2).await, [after(3), after(2), after(1), after(0)]);
}
