//! What is forgotten, and what is not.

use std::sync::Arc;
use std::time::Duration;

use vestibule_domain::DeliveryState;
use vestibule_domain::limits::{Charge, Limit, Scope, Step, Unit};
use vestibule_domain::password_reset::{PasswordReset, ResetRecord};
use vestibule_domain::quota::Quota;
use vestibule_domain::sign_in::{FAILURES_COUNT_FOR, SignInGuard, Throttle};
use vestibule_port_storage::{
    Budgets, Changes, FactsOf, NewRefreshToken, Outbox, Save, Settlement, Storage, Sweep,
};

use super::facts::fact;
use super::proofs::requested;
use super::{
    NOW, after, delivery, digest, leased, message, opening, origin, phone, registered, sent, session_id,
    token, user,
};

pub async fn a_sweep_forgets_what_no_longer_matters<S: Storage + Outbox>(storage: Arc<S>) {
    let loaded = registered(&*storage, 1).await;
    let limit = Limit { step: Step::SignUp, scope: Scope::Address(origin().address) };
    let quota = Quota { burst: 2, period: Duration::from_hours(1) };
    let mut changes = opening(loaded, 1);
    changes.charges = vec![Charge { limit, quota, unit: Unit::Taken, now: NOW }];
    storage.commit(changes).await.unwrap();
    let kept = registered(&*storage, 2).await;
    for number in [8, 9] {
        let message = leased(&*storage, number).await;
        let dead = Settlement::Dead { reason: "refused".to_owned() };
        storage.settle(message, 1, if number == 8 { sent("a", None) } else { dead }).await.unwrap();
    }
    let waiting = Changes { messages: vec![message(10, NOW)], ..Changes::default() };
    storage.commit(waiting).await.unwrap();
    let at = |now| Sweep { now, messages_before: NOW, facts_before: NOW, batch: 100 };
    assert_eq!(storage.sweep(at(after(60))).await.unwrap(), 0);
    assert!(storage.account_of_session(user(1), session_id(1)).await.unwrap().is_some());
    // The limit, the refresh token with its session and the confirmed registration are past; the pending one is not.
    assert_eq!(storage.sweep(at(after(86_000))).await.unwrap(), 4);
    assert_eq!(storage.registration(&phone(1)).await.unwrap(), None);
    assert_eq!(storage.registration(&phone(2)).await.unwrap(), Some(kept));
    let state = storage.sign_up_state(&phone(1), &digest(1), &[limit]).await.unwrap();
    assert!(state.number_used, "a used number stays used");
    assert_eq!(state.budgets, Budgets::default());
    assert!(storage.account_of_session(user(1), session_id(1)).await.unwrap().is_none());
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
    let later = NewRefreshToken { issued_at: after(60), ..token(9, 1, after(7200)) };
    storage.commit(Changes { refresh_token: Some(later), ..Changes::default() }).await.unwrap();
    let at = |now| Sweep { now, messages_before: NOW, facts_before: NOW, batch: 100 };
    // The confirmation cannot be repeated any more, and goes too.
    assert_eq!(storage.sweep(at(after(3600))).await.unwrap(), 2);
    assert!(storage.account_of_session(user(1), session_id(1)).await.unwrap().is_some());
    assert_eq!(storage.sweep(at(after(7200))).await.unwrap(), 2);
    assert!(storage.account_of_session(user(1), session_id(1)).await.unwrap().is_none());
}

pub async fn a_sweep_goes_in_batches<S: Storage>(storage: Arc<S>) {
    for number in 0..25 {
        registered(&*storage, number).await;
    }
    let sweep = Sweep { now: after(999_999), messages_before: NOW, facts_before: NOW, batch: 10 };
    let mut swept = 0;
    loop {
        match storage.sweep(sweep).await.unwrap() {
            0 => break,
            rows => swept += rows,
        }
    }
    assert_eq!(swept, 25);
}

pub async fn a_sweep_forgets_guards_resets_and_facts<S: Storage>(storage: Arc<S>) {
    let guard = |number, failed_at| {
        let strangers = Throttle { failures: 1, failed_at: Some(failed_at), locked_until: None };
        Save::new(SignInGuard { strangers, ..SignInGuard::new(phone(number)) })
    };
    let until = NOW + FAILURES_COUNT_FOR;
    for (number, failed_at) in [(1, NOW), (2, after(1))] {
        let changes = Changes { guard: Some(guard(number, failed_at)), ..Changes::default() };
        storage.commit(changes).await.unwrap();
    }
    let reset = |number, full_at| {
        let record = ResetRecord {
            phone: phone(number),
            attempts: Vec::new(),
            requests_full_at: None,
            guesses_full_at: Some(full_at),
            finished: None,
        };
        Changes { reset: Some(Save::new(PasswordReset::restore(record))), ..Changes::default() }
    };
    storage.commit(reset(1, until)).await.unwrap();
    storage.commit(reset(2, until + Duration::from_millis(1))).await.unwrap();
    let facts = [fact(1, 1, digest(1), NOW), fact(2, 1, digest(1), after(60))];
    storage.commit(Changes { facts: facts.to_vec(), ..Changes::default() }).await.unwrap();
    let at = |now, facts_before| Sweep { now, messages_before: NOW, facts_before, batch: 100 };
    let nearly = until - Duration::from_millis(1);
    assert_eq!(storage.sweep(at(nearly, NOW)).await.unwrap(), 0);
    assert_eq!(storage.sweep(at(until, after(60))).await.unwrap(), 3);
    let client = Limit { step: Step::Reset, scope: Scope::Address(origin().address) };
    for (number, is_kept) in [(1, false), (2, true)] {
        let state = storage.credentials(&phone(number), &[client]).await.unwrap();
        assert_eq!((state.guard.is_some(), state.reset.is_some()), (is_kept, is_kept), "phone {number}");
    }
    assert_eq!(storage.facts(FactsOf::User(user(1)), 9).await.unwrap(), facts[1..]);
    assert_eq!(storage.sweep(at(until, after(60))).await.unwrap(), 0);
}

pub async fn a_sweep_of_every_kind_goes_in_batches<S: Storage>(storage: Arc<S>) {
    for number in 0..25 {
        let changes = Changes {
            guard: Some(Save::new(SignInGuard::new(phone(number)))),
            reset: Some(Save::new(requested(number))),
            facts: vec![fact(number, number, digest(1), NOW)],
            ..Changes::default()
        };
        storage.commit(changes).await.unwrap();
    }
    let later = NOW + Duration::from_hours(999);
    let sweep = Sweep { now: later, messages_before: NOW, facts_before: later, batch: 10 };
    let mut swept = 0;
    loop {
        match storage.sweep(sweep).await.unwrap() {
            0 => break,
            rows => swept += rows,
        }
    }
    assert_eq!(swept, 75);
}
