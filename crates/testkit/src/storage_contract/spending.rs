//! What is spent, and what may not be.

use std::sync::Arc;
use std::time::Duration;

use time::UtcDateTime;
use vestibule_domain::limits::Unit;
use vestibule_domain::pumping::{Part, SentCode, Traffic};
use vestibule_domain::spending::{Money, Purse, Spend, Spent, Unsent, Window};
use vestibule_domain::{AttemptId, ClientAddress, Country, MessageId};
use vestibule_port_storage::{Changes, CommitError, Outbox, Page, Room, Save, Settlement, Storage, Sweep};

use super::{NOW, after, id, message, phone, race, sent, sign_up};

fn spend(purse: Purse, window: Window, amount: u64, ceiling: u64) -> Spend {
    Spend {
        purse,
        window,
        start: window.start(NOW),
        amount: Money::from_micros(amount),
        unsent: Unsent::Returned,
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
        spends: vec![
            spend(country.clone(), Window::Day, 30, 1000),
            spend(all.clone(), Window::Hour, 30, 329),
        ],
        messages: vec![message(number, NOW)],
        ..Changes::default()
    })
    .await;
    assert_eq!(won, 10);
    let retry_after = Window::Hour.rest(NOW);
    assert!(lost.iter().all(|error| *error == CommitError::LimitReached { retry_after }), "{lost:?}");
    assert_eq!(storage.claim(Room::for_each(99), Duration::from_secs(1), NOW).await.unwrap().len(), 10);
    // What was refused has spent nothing from the other purse.
    storage.commit(spending(&[spend(country.clone(), Window::Day, 700, 1000)])).await.unwrap();
    assert_eq!(storage.commit(spending(&[spend(country, Window::Day, 1, 1000)])).await, refused(Window::Day));
}

pub async fn a_purse_has_its_own_sum_in_every_window<S: Storage>(storage: Arc<S>) {
    let [germany, france] = ["DE", "FR"].map(|code| Purse::Country(Country::parse(code).unwrap()));
    let full = [
        spend(germany, Window::Hour, 5, 5),
        spend(france, Window::Hour, 5, 5),
        spend(Purse::Provider("all".to_owned()), Window::Hour, 5, 5),
        spend(Purse::Provider("DE".to_owned()), Window::Hour, 5, 5),
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

pub async fn what_is_spent_for_a_message_that_is_never_to_be_sent_stays_so<S: Storage + Outbox>(
    storage: Arc<S>,
) {
    let kept = Window::ALL.map(|window| Spend { unsent: Unsent::Kept, ..spend(Purse::All, window, 3, 9) });
    let messages = |number| vec![message(number, NOW)];
    for (number, last) in [(1, Settlement::Expired { at: NOW }), (2, dead())] {
        let changes = Changes { messages: messages(number), ..spending(&kept) };
        storage.commit(changes).await.unwrap();
        lease(&*storage, NOW).await;
        storage.settle(MessageId::new(id(number)), 1, last).await.unwrap();
    }
    assert_eq!(spent(&*storage).await, (6, 6));
    storage.commit(Changes { messages: messages(3), ..spending(&kept) }).await.unwrap();
    let changes = Changes { messages: messages(4), ..spending(&kept) };
    assert_eq!(storage.commit(changes).await, refused(Window::Hour));
}

pub async fn a_sum_that_is_not_taken_must_have_room_and_is_not_spent<S: Storage>(storage: Arc<S>) {
    let taken = spend(Purse::All, Window::Day, 2, 4);
    let not_taken = Spend { unsent: Unsent::NotTaken, ..taken.clone() };
    for spend in [&not_taken, &not_taken, &not_taken, &taken, &not_taken, &taken] {
        storage.commit(spending(std::slice::from_ref(spend))).await.unwrap();
    }
    for spend in [&not_taken, &taken] {
        assert_eq!(storage.commit(spending(std::slice::from_ref(spend))).await, refused(Window::Day));
    }
}

pub async fn who_may_spend_more_still_can<S: Storage>(storage: Arc<S>) {
    let newcomers = spend(Purse::All, Window::Day, 4, 4);
    storage.commit(spending(std::slice::from_ref(&newcomers))).await.unwrap();
    assert_eq!(storage.commit(spending(&[newcomers])).await, refused(Window::Day));
    storage.commit(spending(&[spend(Purse::All, Window::Day, 1, 5)])).await.unwrap();
}

pub async fn what_was_spent_is_told_of_the_purses_that_are_asked_for<S: Storage>(storage: Arc<S>) {
    let [germany, france] = ["DE", "FR"].map(|code| Purse::Country(Country::parse(code).unwrap()));
    let provider = Purse::Provider("a".to_owned());
    let spends = [
        spend(germany.clone(), Window::Day, 2, 9),
        spend(provider.clone(), Window::Hour, 1, 9),
        spend(Purse::All, Window::Hour, 3, 9),
    ];
    storage.commit(spending(&spends)).await.unwrap();
    let day = Spent { purse: germany.clone(), window: Window::Day, amount: Money::from_micros(2) };
    let hour = |purse: &Purse, amount| Spent {
        purse: purse.clone(),
        window: Window::Hour,
        amount: Money::from_micros(amount),
    };
    let spent = async |of: &[Purse], at| {
        let mut spent = storage.spent(of, at).await.unwrap();
        spent.sort_by_key(|spent| spent.amount);
        spent
    };
    let all = [Purse::All, germany.clone(), provider.clone(), france.clone()];
    assert_eq!(spent(&all, after(3599)).await, [hour(&provider, 1), day.clone(), hour(&Purse::All, 3)]);
    assert_eq!(spent(&[Purse::All, france], after(3599)).await, [hour(&Purse::All, 3)]);
    assert_eq!(spent(&[], after(3599)).await, []);
    assert_eq!(spent(&all, after(3600)).await, [day]);
    assert_eq!(spent(&all, NOW + Duration::from_hours(24)).await, []);
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
    assert!(storage.claim(Room::for_each(9), Duration::from_secs(1), NOW).await.unwrap().is_empty());
    storage.commit(spending(&[spend(Purse::All, Window::Hour, 4, 9)])).await.unwrap();
}

/// How much is left of an hour's ceiling of 9.
async fn left<S: Storage>(storage: &S) -> u64 {
    9 - spent(storage).await.0
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
    assert_eq!(storage.claim(Room::for_each(9), Duration::from_secs(1), now).await.unwrap().len(), 1);
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

pub async fn of_64_charges_of_a_provider_as_many_pass_as_its_ceiling_allows<S: Storage + 'static>(
    storage: Arc<S>,
) {
    let hour = spend(Purse::Provider("a".to_owned()), Window::Hour, 30, 329);
    let day = spend(Purse::Provider("a".to_owned()), Window::Day, 30, 1000);
    let charges = [hour.clone(), day.clone()];
    let (won, lost) = race(&storage, |_| spending(&charges)).await;
    assert_eq!((won, lost.len()), (10, 54));
    assert!(lost.iter().all(|error| refused(Window::Hour) == Err(error.clone())), "{lost:?}");
    // All of them have failed, and at the same time others try.
    let (won, lost) = race(&storage, |number| match number {
        0..10 => Changes {
            corrections: charges.iter().map(|spend| spend.correction(Money::ZERO)).collect(),
            ..Changes::default()
        },
        _ => spending(&charges),
    })
    .await;
    assert!(won >= 10, "{lost:?}");
    let left = 10 - (won - 10);
    for _ in 0..left {
        storage.commit(spending(&charges)).await.unwrap();
    }
    assert_eq!(storage.commit(spending(&charges)).await, refused(Window::Hour));
}

pub async fn what_was_paid_counts_whatever_the_ceiling<S: Storage>(storage: Arc<S>) {
    let [hour, day] = Window::ALL.map(|window| spend(Purse::Provider("a".to_owned()), window, 3, 9));
    storage.commit(spending(&[hour.clone(), day.clone()])).await.unwrap();
    let correcting = |spends: &[&Spend], paid| Changes {
        corrections: spends.iter().map(|spend| spend.correction(Money::from_micros(paid))).collect(),
        ..Changes::default()
    };
    let spent = async |window| {
        let purse = Purse::Provider("a".to_owned());
        let spent = storage.spent(&[purse], NOW).await.unwrap();
        spent.iter().find(|spent| spent.window == window).map(|spent| spent.amount.micros())
    };
    storage.commit(correcting(&[&hour, &day], 1)).await.unwrap();
    assert_eq!((spent(Window::Hour).await, spent(Window::Day).await), (Some(1), Some(1)));
    storage.commit(spending(std::slice::from_ref(&hour))).await.unwrap();
    storage.commit(correcting(&[&hour], 10)).await.unwrap();
    assert_eq!((spent(Window::Hour).await, spent(Window::Day).await), (Some(11), Some(1)));
    assert_eq!(storage.commit(spending(std::slice::from_ref(&hour))).await, refused(Window::Hour));
    // Never below nothing, and nothing of a window that nobody knows.
    storage.commit(correcting(&[&day], 0)).await.unwrap();
    assert_eq!(spent(Window::Day).await, Some(0));
    let unknown = Spend { start: Window::Hour.start(after(3600)), ..hour };
    storage.commit(correcting(&[&unknown], 7)).await.unwrap();
    let later = storage.spent(std::slice::from_ref(&unknown.purse), after(3600)).await.unwrap();
    assert!(later.iter().all(|spent| spent.window == Window::Day), "{later:?}");
}

fn sent_for(cost: u64) -> Settlement {
    let cost = Some(Money::from_micros(cost));
    Settlement::Sent { provider: "a", reference: None, cost, at: NOW }
}

/// What was spent out of the purse of all, in the hour and in the day.
async fn spent<S: Storage>(storage: &S) -> (u64, u64) {
    let spent = storage.spent(&[Purse::All], NOW).await.unwrap();
    let [hour, day] = Window::ALL.map(|window| {
        let in_window = spent.iter().filter(|spent| spent.window == window);
        in_window.map(|spent| spent.amount.micros()).sum()
    });
    (hour, day)
}

pub async fn a_message_is_settled_for_what_it_cost<S: Storage + Outbox>(storage: Arc<S>) {
    for (number, cost, is_spent) in [(1, 1, 1), (2, 3, 4), (3, 5, 9)] {
        let bought = bought(&*storage, number).await;
        storage.settle(bought, 1, sent_for(cost)).await.unwrap();
        assert_eq!(spent(&*storage).await, (is_spent, is_spent));
        storage.settle(bought, 1, sent_for(cost)).await.unwrap();
        assert_eq!(spent(&*storage).await, (is_spent, is_spent), "a late settlement corrects nothing");
    }
    let one = [spend(Purse::All, Window::Hour, 1, 9)];
    assert_eq!(storage.commit(spending(&one)).await, refused(Window::Hour));
}

pub async fn of_32_messages_that_are_settled_at_once_each_counts_for_what_it_cost<
    S: Storage + Outbox + 'static,
>(
    storage: Arc<S>,
) {
    let queue = |number| Changes {
        spends: Window::ALL.map(|window| spend(Purse::All, window, 3, 999)).to_vec(),
        messages: vec![message(number, NOW)],
        ..Changes::default()
    };
    for number in 0..32 {
        storage.commit(queue(number)).await.unwrap();
    }
    assert_eq!(storage.claim(Room::for_each(99), Duration::from_mins(1), NOW).await.unwrap().len(), 32);
    // Meanwhile others are queued.
    let settlements = (0..32).map(|number| {
        let (storage, cost) = (Arc::clone(&storage), if number % 2 == 0 { 1 } else { 7 });
        let changes = queue(100 + number);
        tokio::spawn(async move {
            storage.settle(MessageId::new(id(number)), 1, sent_for(cost)).await.unwrap();
            storage.commit(changes).await
        })
    });
    for settlement in settlements.collect::<Vec<_>>() {
        assert_eq!(settlement.await.unwrap(), Ok(()));
    }
    let all = 16 + 16 * 7 + 32 * 3;
    assert_eq!(spent(&*storage).await, (all, all));
}

pub async fn a_message_that_cost_more_than_there_was_ends_all_sending<S: Storage + Outbox>(storage: Arc<S>) {
    let dear = bought(&*storage, 1).await;
    storage.settle(dear, 1, sent_for(100)).await.unwrap();
    assert_eq!(spent(&*storage).await, (100, 100));
    assert_eq!(
        storage.commit(spending(&[spend(Purse::All, Window::Day, 0, 99)])).await,
        refused(Window::Day)
    );
}

pub async fn a_message_that_may_have_been_billed_before_is_settled_for_no_less<S: Storage + Outbox>(
    storage: Arc<S>,
) {
    let busy = || Settlement::Retry { at: NOW, reason: "busy".to_owned() };
    let doubt = || {
        let reason = "no answer".to_owned();
        Settlement::InDoubt { provider: "b", until: NOW, reason }
    };
    for (number, before, cost, counts) in [(1, busy(), 1, 1), (2, doubt(), 1, 3), (3, doubt(), 4, 4)] {
        let (earlier, _) = spent(&*storage).await;
        let bought = bought(&*storage, number).await;
        storage.settle(bought, 1, before).await.unwrap();
        lease(&*storage, NOW).await;
        storage.settle(bought, 2, sent_for(cost)).await.unwrap();
        assert_eq!(spent(&*storage).await.0 - earlier, counts, "message {number}");
    }
}

pub async fn a_sent_code_shows_what_it_cost<S: Storage + Outbox>(storage: Arc<S>) {
    let code = |number: u32, price: Option<u64>| {
        let traffic = Traffic::new(&phone(number), ClientAddress::of([192, 0, 2, 1].into()));
        let (message, attempt) = (MessageId::new(id(number)), AttemptId::new(id(number)));
        let price = price.map(Money::from_micros);
        let (part, range_unit) = (Part::Shared, Unit::Taken);
        SentCode { message, attempt, traffic, price, part, range_unit, at: NOW }
    };
    for number in 1..=7 {
        let price = (number != 3).then_some(3);
        let sent_code = Some(code(number, price));
        let messages = vec![message(number, NOW)];
        storage.commit(Changes { messages, sent_code, ..Changes::default() }).await.unwrap();
    }
    storage.claim(Room::for_each(9), Duration::from_secs(1), NOW).await.unwrap();
    for (number, settlement) in [(1, sent_for(1)), (2, sent("a", None)), (3, sent_for(1))] {
        storage.settle(MessageId::new(id(number)), 1, settlement).await.unwrap();
    }
    // Somebody else has the message now.
    storage.settle(MessageId::new(id(4)), 7, sent_for(1)).await.unwrap();
    let reason = String::new;
    let in_doubt = || Settlement::InDoubt { provider: "b", until: NOW, reason: reason() };
    let failed = Settlement::Retry { at: NOW, reason: reason() };
    for (number, settlement) in [(5, in_doubt()), (6, in_doubt()), (7, failed)] {
        storage.settle(MessageId::new(id(number)), 1, settlement).await.unwrap();
    }
    assert_eq!(storage.claim(Room::for_each(9), Duration::from_secs(1), NOW).await.unwrap().len(), 3);
    // Whoever left it in doubt may have billed it too.
    for (number, cost) in [(5, 1), (6, 9), (7, 1)] {
        storage.settle(MessageId::new(id(number)), 2, sent_for(cost)).await.unwrap();
    }
    let page = Page { since: NOW, after: None, limit: 9 };
    let codes = storage.sent_codes(page).await.unwrap();
    let prices: Vec<_> = codes.iter().map(|code| code.sent.price.map(Money::micros)).collect();
    assert_eq!(prices, [Some(1), Some(3), None, Some(3), Some(3), Some(9), Some(1)]);
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
