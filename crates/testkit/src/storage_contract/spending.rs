//! What is spent, and what may not be.

use std::sync::Arc;
use std::time::Duration;

use time::UtcDateTime;
use vestibule_domain::limits::Unit;
use vestibule_domain::spending::{Money, Purse, Spend, Spent, Window};
use vestibule_domain::{Country, MessageId};
use vestibule_port_storage::{Changes, CommitError, Outbox, Save, Settlement, Storage, Sweep};

use super::{NOW, after, id, message, phone, race, sent, sign_up};

fn spend(purse: Purse, window: Window, amount: u64, ceiling: u64) -> Spend {
    Spend {
        purse,
        window,
        start: window.start(NOW),
        amount: Money::from_micros(amount),
        unit: Unit::Taken,
        ceiling: Money::from_micros(ceiling),
        rest: window.rest(NOW),
    }
}

fn spending(spends: &[Spend]) -> Changes {
    Changes { spends: spends.to_vec(), ..Changes::default() }
}

fn refused(window: Window) -> Result<(), CommitError> {
    Err(CommitError::LimitReached { retry_after: window.rest(NOW) })
}

pub async fn of_64_messages_as_many_are_queued_as_the_ceiling_allows<S: Storage + Outbox + 'static>(
    storage: Arc<S>,
) {
    let (all, country) = (Purse::All, Purse::Country(Country::parse("GB").unwrap()));
    let (won, lost) = race(&storage, |number| Changes {
        registration: Some(Save::new(sign_up(None, number, number, NOW))),
        spends: vec![spend(country, Window::Day, 30, 1000), spend(all, Window::Hour, 30, 329)],
        messages: vec![message(number, NOW)],
        ..Changes::default()
    })
    .await;
    assert_eq!(won, 10);
    let retry_after = Window::Hour.rest(NOW);
    assert!(lost.iter().all(|error| *error == CommitError::LimitReached { retry_after }), "{lost:?}");
    assert_eq!(storage.claim(99, Duration::from_secs(1), NOW).await.unwrap().len(), 10);
    // What was refused has spent nothing from the other purse.
    storage.commit(spending(&[spend(country, Window::Day, 700, 1000)])).await.unwrap();
    assert_eq!(storage.commit(spending(&[spend(country, Window::Day, 1, 1000)])).await, refused(Window::Day));
}

pub async fn a_purse_has_its_own_sum_in_every_window<S: Storage>(storage: Arc<S>) {
    let [germany, france] = ["DE", "FR"].map(|code| Purse::Country(Country::parse(code).unwrap()));
    let full = [
        spend(germany, Window::Hour, 5, 5),
        spend(france, Window::Hour, 5, 5),
        spend(Purse::All, Window::Hour, 5, 5),
        spend(Purse::All, Window::Day, 5, 5),
    ];
    for spend in &full {
        storage.commit(spending(std::slice::from_ref(spend))).await.unwrap();
    }
    for spend in &full {
        assert_eq!(storage.commit(spending(std::slice::from_ref(spend))).await, refused(spend.window));
    }
    let next = Spend { start: Window::Hour.start(after(3600)), ..full[0].clone() };
    storage.commit(spending(&[next])).await.unwrap();
}

pub async fn the_first_window_without_room_tells_how_long<S: Storage>(storage: Arc<S>) {
    let germany = Purse::Country(Country::parse("DE").unwrap());
    let day = spend(germany, Window::Day, 5, 5);
    let hour = spend(Purse::All, Window::Hour, 5, 5);
    storage.commit(spending(&[day.clone(), hour.clone()])).await.unwrap();
    assert_eq!(storage.commit(spending(&[day.clone(), hour.clone()])).await, refused(Window::Day));
    assert_eq!(storage.commit(spending(&[hour.clone(), day.clone()])).await, refused(Window::Hour));
    // One that is dearer than its whole ceiling has no room in an empty window either.
    let dear = spend(Purse::All, Window::Day, 6, 5);
    assert_eq!(storage.commit(spending(&[hour, dear.clone()])).await, refused(Window::Hour));
    assert_eq!(storage.commit(spending(&[dear])).await, refused(Window::Day));
}

pub async fn a_sum_that_is_kept_must_have_room_and_is_not_spent<S: Storage>(storage: Arc<S>) {
    let taken = spend(Purse::All, Window::Day, 2, 4);
    let kept = Spend { unit: Unit::Kept, ..taken.clone() };
    for spend in [&kept, &kept, &kept, &taken, &kept, &taken] {
        storage.commit(spending(std::slice::from_ref(spend))).await.unwrap();
    }
    for spend in [&kept, &taken] {
        assert_eq!(storage.commit(spending(std::slice::from_ref(spend))).await, refused(Window::Day));
    }
    // Who may spend more still can.
    let ceiling = Money::from_micros(5);
    storage.commit(spending(&[Spend { amount: Money::from_micros(1), ceiling, ..taken }])).await.unwrap();
}

pub async fn what_was_spent_is_told_of_the_present_windows<S: Storage>(storage: Arc<S>) {
    let germany = Purse::Country(Country::parse("DE").unwrap());
    let spends = [spend(germany, Window::Day, 2, 9), spend(Purse::All, Window::Hour, 3, 9)];
    storage.commit(spending(&spends)).await.unwrap();
    let day = Spent { purse: germany, window: Window::Day, amount: Money::from_micros(2) };
    let hour = Spent { purse: Purse::All, window: Window::Hour, amount: Money::from_micros(3) };
    let mut spent = storage.spent(after(3599)).await.unwrap();
    spent.sort_by_key(|spent| spent.amount);
    assert_eq!(spent, [day, hour]);
    assert_eq!(storage.spent(after(3600)).await.unwrap(), [day]);
    assert_eq!(storage.spent(NOW + Duration::from_hours(24)).await.unwrap(), []);
}

pub async fn a_refused_sum_leaves_nothing<S: Storage + Outbox>(storage: Arc<S>) {
    let changes = Changes {
        registration: Some(Save::new(sign_up(None, 1, 1, NOW))),
        messages: vec![message(1, NOW)],
        ..spending(&[spend(Purse::All, Window::Hour, 5, 9)])
    };
    storage.commit(spending(&[spend(Purse::All, Window::Hour, 5, 9)])).await.unwrap();
    assert_eq!(storage.commit(changes).await, refused(Window::Hour));
    assert_eq!(storage.registration(&phone(1)).await.unwrap(), None);
    assert!(storage.claim(9, Duration::from_secs(1), NOW).await.unwrap().is_empty());
    storage.commit(spending(&[spend(Purse::All, Window::Hour, 4, 9)])).await.unwrap();
}

/// How much is left of an hour's ceiling of 9.
async fn left<S: Storage>(storage: &S) -> usize {
    let whole = spend(Purse::All, Window::Hour, 0, 9);
    let fits = |amount| Spend { amount: Money::from_micros(amount), unit: Unit::Kept, ..whole.clone() };
    let mut left = 0;
    while storage.commit(spending(&[fits(left + 1)])).await.is_ok() {
        left += 1;
    }
    usize::try_from(left).unwrap()
}

/// Queues message `number` for 3, and leases it.
async fn bought<S: Storage + Outbox>(storage: &S, number: u32) -> MessageId {
    let spends = vec![spend(Purse::All, Window::Hour, 3, 9), spend(Purse::All, Window::Day, 3, 99)];
    let messages = vec![message(number, NOW)];
    storage.commit(Changes { spends, messages, ..Changes::default() }).await.unwrap();
    lease(storage, NOW).await;
    MessageId::new(id(number))
}

async fn lease<S: Outbox>(storage: &S, now: UtcDateTime) {
    assert_eq!(storage.claim(9, Duration::from_secs(1), now).await.unwrap().len(), 1);
}

fn dead() -> Settlement {
    Settlement::Dead { reason: "no such number".to_owned() }
}

pub async fn a_message_that_never_left_gives_its_money_back_once<S: Storage + Outbox>(storage: Arc<S>) {
    let never = bought(&*storage, 1).await;
    assert_eq!(left(&*storage).await, 6);
    for _ in 0..2 {
        storage.settle(never, 1, dead()).await.unwrap();
        assert_eq!(left(&*storage).await, 9);
    }
    let late = bought(&*storage, 2).await;
    storage.settle(late, 1, Settlement::Retry { at: NOW, reason: "busy".to_owned() }).await.unwrap();
    assert_eq!(left(&*storage).await, 6);
    lease(&*storage, NOW).await;
    storage.settle(late, 1, dead()).await.unwrap();
    assert_eq!(left(&*storage).await, 6, "a late settlement gives nothing back");
    storage.settle(late, 2, Settlement::Expired { at: NOW }).await.unwrap();
    assert_eq!(left(&*storage).await, 9);
}

pub async fn a_message_that_may_have_left_gives_nothing_back<S: Storage + Outbox>(storage: Arc<S>) {
    let gone = bought(&*storage, 1).await;
    storage.settle(gone, 1, sent("a", None)).await.unwrap();
    assert_eq!(left(&*storage).await, 6);
    let doubted = bought(&*storage, 2).await;
    let reason = "no answer".to_owned();
    storage.settle(doubted, 1, Settlement::InDoubt { provider: "a", until: NOW, reason }).await.unwrap();
    lease(&*storage, NOW).await;
    storage.settle(doubted, 2, Settlement::Retry { at: NOW, reason: "busy".to_owned() }).await.unwrap();
    lease(&*storage, NOW).await;
    storage.settle(doubted, 3, dead()).await.unwrap();
    assert_eq!(left(&*storage).await, 3);
    // Whoever had leased it has died, perhaps after it was handed over.
    let abandoned = bought(&*storage, 3).await;
    lease(&*storage, after(2)).await;
    storage.settle(abandoned, 2, Settlement::Expired { at: NOW }).await.unwrap();
    assert_eq!(left(&*storage).await, 0);
}

pub async fn a_sweep_forgets_past_windows<S: Storage>(storage: Arc<S>) {
    let spends = Window::ALL.map(|window| spend(Purse::All, window, 5, 5));
    storage.commit(spending(&spends)).await.unwrap();
    let sweep = |messages_before| Sweep { now: NOW, messages_before, facts_before: NOW, batch: 100 };
    assert_eq!(storage.sweep(sweep(Window::Day.start(NOW))).await.unwrap(), 0);
    assert_eq!(storage.commit(spending(&spends)).await, refused(Window::Hour));
    assert_eq!(storage.sweep(sweep(NOW)).await.unwrap(), 1);
    assert_eq!(storage.sweep(sweep(after(1))).await.unwrap(), 1);
    storage.commit(spending(&spends)).await.unwrap();
}
