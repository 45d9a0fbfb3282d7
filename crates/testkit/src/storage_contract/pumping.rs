//! Codes that were sent and held back, and the budgets that they are held against.

use std::sync::Arc;
use std::time::Duration;

use time::UtcDateTime;
use uuid::Uuid;
use vestibule_domain::limits::{AddressBlock, Charge, Limit, Scope, Step, Tally, Unit};
use vestibule_domain::pumping::{HeldCodes, Part, Reason, SentCode, TracedCode, Traffic};
use vestibule_domain::quota::Quota;
use vestibule_domain::spending::Money;
use vestibule_domain::{AttemptId, ClientAddress, Country, MessageId, NumberRange};
use vestibule_port_storage::{Changes, CommitError, Outbox, Page, Room, Settlement, Storage, Sweep};

use super::{NOW, after, id, message, origin, phone, race, sent};

const HOUR: Duration = Duration::from_hours(1);

/// Each unit grows back in an hour.
const FOUR: Quota = Quota { burst: 4, period: Duration::from_hours(4) };

fn range(number: u32) -> Limit {
    Limit { step: Step::Code, scope: Scope::Range(NumberRange::of(&phone(number * 10_000))) }
}

fn country(code: &str) -> Limit {
    Limit { step: Step::Code, scope: Scope::Country(Country::parse(code).unwrap()) }
}

fn tally(limit: Limit, quota: Quota, taken: u32, returned: u32) -> Changes {
    let tallies = vec![Tally { limit, quota, taken, returned_percent: 100 * returned, now: NOW }];
    Changes { tallies, ..Changes::default() }
}

fn charge(limit: Limit, quota: Quota) -> Changes {
    let charges = vec![Charge { limit, quota, unit: Unit::Taken, now: NOW }];
    Changes { charges, ..Changes::default() }
}

/// When the budget is full again.
async fn full_at<S: Storage>(storage: &S, limit: Limit) -> Option<UtcDateTime> {
    let budgets = storage.budgets(&[limit]).await.unwrap();
    budgets.0.get(&limit).and_then(super::full_at)
}

pub async fn a_tally_is_never_refused_and_stays_within_the_budget<S: Storage>(storage: Arc<S>) {
    let limit = range(1);
    for (taken, returned, units) in [(1, 0, 1), (7, 0, 4), (1, 0, 4), (0, 1, 3), (2, 1, 4), (1, 3, 2)] {
        storage.commit(tally(limit, FOUR, taken, returned)).await.unwrap();
        assert_eq!(
            full_at(&*storage, limit).await,
            Some(NOW + HOUR * units),
            "{taken} taken, {returned} back"
        );
    }
    // Nothing is saved up beyond a full budget.
    storage.commit(tally(limit, FOUR, 0, 9)).await.unwrap();
    assert!(full_at(&*storage, limit).await.unwrap() <= NOW);
    storage.commit(tally(limit, FOUR, 1, 0)).await.unwrap();
    assert_eq!(full_at(&*storage, limit).await, Some(NOW + HOUR));
    // Nor by what was not there.
    storage.commit(tally(range(2), FOUR, 0, 9)).await.unwrap();
    storage.commit(tally(range(2), FOUR, 1, 0)).await.unwrap();
    assert_eq!(full_at(&*storage, range(2)).await, Some(NOW + HOUR));
}

pub async fn a_tally_brings_a_budget_from_before_within_the_quota_of_today<S: Storage>(storage: Arc<S>) {
    let of_old = Quota { period: FOUR.period * 100, ..FOUR };
    for (number, taken, returned) in [(1, 1, 0), (2, 0, 1), (3, 0, 0)] {
        storage.commit(tally(range(number), of_old, 4, 0)).await.unwrap();
        assert_eq!(full_at(&*storage, range(number)).await, Some(NOW + of_old.period));
        storage.commit(tally(range(number), FOUR, taken, returned)).await.unwrap();
        assert_eq!(full_at(&*storage, range(number)).await, Some(NOW + FOUR.period));
    }
}

pub async fn charges_and_tallies_see_each_other<S: Storage>(storage: Arc<S>) {
    let limit = range(1);
    let empty = Err(CommitError::LimitReached { retry_after: HOUR });
    storage.commit(charge(limit, FOUR)).await.unwrap();
    storage.commit(tally(limit, FOUR, 2, 0)).await.unwrap();
    storage.commit(charge(limit, FOUR)).await.unwrap();
    assert_eq!(storage.commit(charge(limit, FOUR)).await, empty);
    storage.commit(tally(limit, FOUR, 0, 1)).await.unwrap();
    storage.commit(charge(limit, FOUR)).await.unwrap();
    assert_eq!(storage.commit(charge(limit, FOUR)).await, empty);
}

pub async fn of_64_tallies_at_once_none_is_lost<S: Storage + 'static>(storage: Arc<S>) {
    let quota = Quota { burst: 100, period: HOUR * 100 };
    assert_eq!(race(&storage, |_| tally(range(1), quota, 1, 0)).await, (64, vec![]));
    assert_eq!(full_at(&*storage, range(1)).await, Some(NOW + HOUR * 64));
    // A budget that may be kept in parts has what is left in sum.
    let (limit, quota) = (country("GB"), Quota { burst: 160, period: HOUR * 160 });
    assert_eq!(race(&storage, |_| tally(limit, quota, 1, 0)).await, (64, vec![]));
    let mut left = 0;
    while storage.commit(charge(limit, quota)).await.is_ok() {
        left += 1;
    }
    assert_eq!(left, 96);
}

pub async fn returned_units_open_an_empty_budget<S: Storage + 'static>(storage: Arc<S>) {
    let quota = Quota { burst: 32, period: HOUR * 32 };
    for limit in [range(1), country("GB")] {
        assert_eq!(race(&storage, |_| tally(limit, quota, 1, 0)).await.0, 64);
        let charges = [Charge { limit, quota, unit: Unit::Taken, now: NOW }];
        for _ in 0..2 {
            assert!(storage.budgets(&[limit]).await.unwrap().admit(&charges).is_err());
            let refused = storage.commit(charge(limit, quota)).await;
            assert!(matches!(refused, Err(CommitError::LimitReached { .. })), "{refused:?}");
            storage.commit(tally(limit, quota, 0, 1)).await.unwrap();
            assert_eq!(storage.budgets(&[limit]).await.unwrap().admit(&charges), Ok(()));
            storage.commit(charge(limit, quota)).await.unwrap();
        }
    }
}

fn block(address: &str) -> AddressBlock {
    AddressBlock::of(ClientAddress::of(address.parse().unwrap()))
}

fn code(number: u32, attempt: u32, at: UtcDateTime) -> SentCode {
    SentCode {
        message: MessageId::new(id(number)),
        attempt: AttemptId::new(id(attempt)),
        traffic: Traffic {
            range: NumberRange::of(&phone(number)),
            block: block("192.0.2.1"),
            country: Some(Country::parse("GB").unwrap()),
        },
        price: Some(Money::from_micros(55_000)),
        part: Part::Shared,
        range_unit: Unit::Taken,
        at,
    }
}

fn sending(code: SentCode) -> Changes {
    Changes { sent_code: Some(code), ..Changes::default() }
}

fn page(limit: u32) -> Page {
    Page { since: UtcDateTime::UNIX_EPOCH, after: None, limit }
}

fn traced(sent: SentCode) -> TracedCode {
    TracedCode { sent, confirmed_at: None, provider: None }
}

pub async fn a_sent_code_is_read_as_it_was_recorded<S: Storage>(storage: Arc<S>) {
    let known = code(1, 1, NOW);
    // Nothing was sent, to a number of no country, from another kind of network.
    let traffic = Traffic { country: None, block: block("2001:db8:1:2::3"), ..known.traffic };
    let (part, range_unit) = (Part::Neither, Unit::Kept);
    let unknown = SentCode { price: None, traffic, part, range_unit, ..code(2, 2, after(1)) };
    for code in [known, unknown] {
        storage.commit(sending(code)).await.unwrap();
    }
    assert_eq!(storage.sent_codes(page(9)).await.unwrap(), [known, unknown].map(traced));
}

pub async fn a_refused_commit_leaves_no_code_and_no_tally<S: Storage>(storage: Arc<S>) {
    let (empty, untouched) = (range(1), range(2));
    storage.commit(sending(code(1, 1, NOW))).await.unwrap();
    storage.commit(tally(empty, FOUR, 4, 0)).await.unwrap();
    let refused = Err(CommitError::LimitReached { retry_after: HOUR });
    let sending = Changes { sent_code: Some(code(2, 2, NOW)), ..charge(empty, FOUR) };
    let returning = Changes {
        codes_back: Some((AttemptId::new(id(1)), NOW)),
        charges: charge(empty, FOUR).charges,
        ..tally(untouched, FOUR, 1, 0)
    };
    for changes in [sending, returning] {
        assert_eq!(storage.commit(changes).await, refused);
    }
    assert_eq!(storage.sent_codes(page(9)).await.unwrap(), [traced(code(1, 1, NOW))]);
    assert_eq!(full_at(&*storage, untouched).await, None);
}

pub async fn all_codes_of_an_attempt_come_back_and_of_no_other<S: Storage>(storage: Arc<S>) {
    let codes = [code(1, 1, NOW), code(2, 2, NOW), code(3, 1, after(1))];
    for code in codes {
        storage.commit(sending(code)).await.unwrap();
    }
    let back = |attempt| Changes {
        codes_back: Some((AttemptId::new(id(attempt)), after(60))),
        ..Changes::default()
    };
    storage.commit(back(1)).await.unwrap();
    storage.commit(back(9)).await.unwrap();
    let came_back = |code| TracedCode { confirmed_at: Some(after(60)), ..traced(code) };
    let [first, other, second] = codes;
    let expected = [came_back(first), traced(other), came_back(second)];
    assert_eq!(storage.sent_codes(page(9)).await.unwrap(), expected);
}

pub async fn the_provider_of_a_code_is_told_once_it_has_left<S: Storage + Outbox>(storage: Arc<S>) {
    let sent_code = code(1, 1, NOW);
    let changes = Changes { messages: vec![message(1, NOW)], ..sending(sent_code) };
    storage.commit(changes).await.unwrap();
    assert_eq!(storage.claim(Room::for_each(9), HOUR, NOW).await.unwrap().len(), 1);
    assert_eq!(storage.sent_codes(page(9)).await.unwrap(), [traced(sent_code)]);
    storage.settle(sent_code.message, 1, sent("a", None)).await.unwrap();
    let left = TracedCode { provider: Some("a".to_owned()), ..traced(sent_code) };
    assert_eq!(storage.sent_codes(page(9)).await.unwrap(), [left]);
}

/// Queues a code with its message, and leases it.
async fn sending_code<S: Storage + Outbox>(storage: &S, code: SentCode, number: u32) {
    let changes = Changes { messages: vec![message(number, NOW)], ..sending(code) };
    storage.commit(changes).await.unwrap();
    lease(storage, NOW).await;
}

async fn lease<S: Outbox>(storage: &S, now: UtcDateTime) {
    assert_eq!(storage.claim(Room::for_each(9), Duration::from_secs(1), now).await.unwrap().len(), 1);
}

fn dead() -> Settlement {
    Settlement::Dead { reason: "no provider works".to_owned() }
}

fn busy() -> Settlement {
    Settlement::Retry { at: NOW, reason: "busy".to_owned() }
}

pub async fn a_code_that_was_never_sent_is_told_once<S: Storage + Outbox>(storage: Arc<S>) {
    let expired = || Settlement::Expired { at: after(9) };
    let of_range = |number, range_unit| SentCode { range_unit, ..code(number, 7, NOW) };
    // The third is of no country.
    let traffic = Traffic { country: None, block: block("2001:db8:1:2::3"), ..code(3, 7, NOW).traffic };
    let codes = [
        of_range(1, Unit::Taken),
        of_range(2, Unit::Kept),
        SentCode { traffic, part: Part::Reserve, ..of_range(3, Unit::Taken) },
    ];
    for (number, (code, last)) in (1..).zip(codes.into_iter().zip([dead(), expired(), dead()])) {
        let settle = async |tries, settlement| storage.settle(code.message, tries, settlement).await.unwrap();
        sending_code(&*storage, code, number).await;
        assert_eq!(settle(1, busy()).await, None);
        lease(&*storage, NOW).await;
        assert_eq!(settle(2, busy()).await, None);
        lease(&*storage, NOW).await;
        assert_eq!(settle(2, last.clone()).await, None, "a late settlement tells nothing");
        let unsent = SentCode { price: None, ..code };
        assert_eq!(settle(3, last.clone()).await, Some(unsent));
        assert_eq!(settle(3, last).await, None);
    }
    let unsent = codes.map(|code| traced(SentCode { price: None, ..code }));
    assert_eq!(storage.sent_codes(page(9)).await.unwrap(), unsent);
}

pub async fn a_code_that_may_have_been_sent_is_not_told<S: Storage + Outbox>(storage: Arc<S>) {
    let reason = "no answer".to_owned();
    let in_doubt = Settlement::InDoubt { provider: "a", until: NOW, reason };
    // Whoever has leased the second dies, perhaps after it was handed over.
    for (number, first) in [(1, Some(in_doubt)), (2, None)] {
        let code = code(number, number, NOW);
        sending_code(&*storage, code, number).await;
        match first {
            Some(first) => {
                assert_eq!(storage.settle(code.message, 1, first).await.unwrap(), None);
                lease(&*storage, NOW).await;
            }
            None => lease(&*storage, after(2)).await,
        }
        assert_eq!(storage.settle(code.message, 2, busy()).await.unwrap(), None);
        lease(&*storage, after(2)).await;
        assert_eq!(storage.settle(code.message, 3, dead()).await.unwrap(), None);
    }
    let code_sent = code(3, 3, NOW);
    sending_code(&*storage, code_sent, 3).await;
    assert_eq!(storage.settle(code_sent.message, 1, sent("a", None)).await.unwrap(), None);
    let prices = storage.sent_codes(page(9)).await.unwrap().into_iter().map(|code| code.sent.price);
    assert_eq!(prices.collect::<Vec<_>>(), [code_sent.price; 3]);
}

pub async fn a_code_that_was_never_to_be_sent_is_not_told<S: Storage + Outbox>(storage: Arc<S>) {
    let concealed = SentCode { price: None, ..code(1, 1, NOW) };
    sending_code(&*storage, concealed, 1).await;
    let expired = Settlement::Expired { at: NOW };
    assert_eq!(storage.settle(concealed.message, 1, expired).await.unwrap(), None);
    // Nor is there a code in other messages.
    let changes = Changes { messages: vec![message(2, NOW)], ..Changes::default() };
    storage.commit(changes).await.unwrap();
    lease(&*storage, NOW).await;
    assert_eq!(storage.settle(MessageId::new(id(2)), 1, dead()).await.unwrap(), None);
}

/// By moment and number, in order; the ids of a moment are not in the order in which they are written here.
const PLACES: [(u64, u32); 7] = [(0, 9), (1, 3), (1, 5), (1, 6), (1, 7), (2, 1), (3, 2)];

/// Reads pages of two from the second moment on.
async fn walk<T>(
    place: impl Fn(&T) -> (UtcDateTime, Uuid),
    read: impl AsyncFn(Page) -> Vec<T>,
) -> Vec<(UtcDateTime, Uuid)> {
    let (mut places, mut next) = (Vec::new(), Page { since: after(1), after: None, limit: 2 });
    loop {
        let elements = read(next).await;
        assert!(elements.len() <= 2);
        let Some(last) = elements.last() else { return places };
        next.after = Some(place(last));
        places.extend(elements.iter().map(&place));
    }
}

fn from_the_second_moment() -> Vec<(UtcDateTime, Uuid)> {
    PLACES[1..].iter().map(|(seconds, number)| (after(*seconds), id(*number))).collect()
}

pub async fn sent_codes_are_read_in_pages<S: Storage>(storage: Arc<S>) {
    for (seconds, number) in PLACES.iter().rev() {
        storage.commit(sending(code(*number, *number, after(*seconds)))).await.unwrap();
    }
    let place = |code: &TracedCode| (code.sent.at, code.sent.message.uuid());
    let read = async |page| storage.sent_codes(page).await.unwrap();
    assert_eq!(walk(place, read).await, from_the_second_moment());
    // Whatever a page begins after need not be there any more, and may be from before the page.
    let page = Page { since: after(1), after: Some((after(1), id(4))), limit: 1 };
    assert_eq!(storage.sent_codes(page).await.unwrap(), [traced(code(5, 5, after(1)))]);
    let page = Page { after: Some((NOW, id(99))), ..page };
    assert_eq!(storage.sent_codes(page).await.unwrap(), [traced(code(3, 3, after(1)))]);
}

fn held(number: u32, at: UtcDateTime) -> (Uuid, HeldCodes) {
    let SentCode { traffic, .. } = code(number, number, at);
    let limit = Limit { step: Step::Code, scope: Scope::Range(traffic.range) };
    let (reason, price) = (Reason::Slowed, Money::from_micros(55_000));
    (id(number), HeldCodes { traffic, limit, reason, enforced: false, price, count: 1, at })
}

pub async fn held_codes_are_read_in_pages<S: Storage>(storage: Arc<S>) {
    let codes: Vec<_> = PLACES.iter().rev().map(|(seconds, number)| held(*number, after(*seconds))).collect();
    storage.record_held_codes(&codes).await.unwrap();
    let read = async |page| storage.held_codes(page).await.unwrap();
    assert_eq!(walk(|(id, held)| (held.at, *id), read).await, from_the_second_moment());
    let page = Page { since: after(1), after: Some((after(1), id(4))), limit: 1 };
    assert_eq!(storage.held_codes(page).await.unwrap(), [held(5, after(1))]);
}

pub async fn held_codes_are_read_as_they_were_recorded<S: Storage>(storage: Arc<S>) {
    let plain = held(1, NOW).1;
    let traffic = Traffic { country: None, block: block("2001:db8:1:2::3"), ..plain.traffic };
    let limit = |scope| Limit { step: Step::Code, scope };
    let codes = [
        plain,
        HeldCodes { reason: Reason::Stopped, enforced: true, limit: country("GB"), ..plain },
        HeldCodes { limit: limit(Scope::Block(traffic.block)), traffic, count: u32::MAX, ..plain },
    ];
    let codes: Vec<_> = (1..).map(id).zip(codes).collect();
    storage.record_held_codes(&codes).await.unwrap();
    storage.record_held_codes(&[]).await.unwrap();
    assert_eq!(storage.held_codes(page(9)).await.unwrap(), codes);
}

pub async fn of_held_codes_very_many_are_recorded_at_once<S: Storage>(storage: Arc<S>) {
    let codes: Vec<_> = (0..4096).map(|number| held(number, NOW)).collect();
    storage.record_held_codes(&codes).await.unwrap();
    assert_eq!(storage.held_codes(page(9999)).await.unwrap(), codes);
}

pub async fn budgets_in_use_are_those_of_the_step_that_are_not_full<S: Storage + 'static>(storage: Arc<S>) {
    let of_guesses = Limit { step: Step::CodeGuess, scope: Scope::Address(origin().address) };
    let of_mails = Limit { step: Step::Mail, scope: Scope::Address(origin().address) };
    for limit in [of_guesses, of_mails] {
        storage.commit(charge(limit, FOUR)).await.unwrap();
    }
    for (number, taken) in [(1, 2), (2, 1), (3, 3)] {
        storage.commit(tally(range(number), FOUR, taken, 0)).await.unwrap();
    }
    let in_use = async |now, limit| {
        let budgets = storage.budgets_in_use(Step::Code, now, limit).await.unwrap();
        let mut levels: Vec<_> = budgets
            .0
            .into_iter()
            .map(|(limit, level)| (super::full_at(&level).unwrap(), limit.to_string()))
            .collect();
        levels.sort();
        levels
    };
    let level = |number, hours| (NOW + HOUR * hours, range(number).to_string());
    assert_eq!(in_use(NOW, 9).await, [level(2, 1), level(1, 2), level(3, 3)]);
    assert_eq!(in_use(NOW, 2).await, [level(1, 2), level(3, 3)]);
    assert_eq!(in_use(NOW + HOUR, 9).await, [level(1, 2), level(3, 3)]);
    assert_eq!(in_use(NOW + HOUR * 3, 9).await, []);
    // A budget that may be kept in parts is in use when all of them are.
    let quota = Quota { burst: 32, period: HOUR * 32 };
    race(&storage, |_| tally(country("GB"), quota, 1, 0)).await;
    assert_eq!(in_use(NOW, 1).await, [(NOW + quota.period, country("GB").to_string())]);
    assert_eq!(in_use(NOW, 9).await.len(), 4);
}

pub async fn a_sweep_forgets_codes_with_the_messages_of_their_time<S: Storage>(storage: Arc<S>) {
    for (number, at) in [(1, NOW), (2, after(1))] {
        storage.commit(sending(code(number, number, at))).await.unwrap();
        storage.record_held_codes(&[held(number, at)]).await.unwrap();
    }
    let sweep = |messages_before| Sweep { now: NOW, messages_before, facts_before: NOW, batch: 100 };
    assert_eq!(storage.sweep(sweep(NOW)).await.unwrap(), 0);
    assert_eq!(storage.sweep(sweep(after(1))).await.unwrap(), 2);
    assert_eq!(storage.sent_codes(page(9)).await.unwrap(), [traced(code(2, 2, after(1)))]);
    assert_eq!(storage.held_codes(page(9)).await.unwrap(), [held(2, after(1))]);
}

pub async fn a_sweep_forgets_codes_in_batches<S: Storage>(storage: Arc<S>) {
    let held: Vec<_> = (0..25).map(|number| held(number, NOW)).collect();
    storage.record_held_codes(&held).await.unwrap();
    for number in 0..25 {
        storage.commit(sending(code(number, number, NOW))).await.unwrap();
    }
    let sweep = Sweep { now: NOW, messages_before: after(1), facts_before: NOW, batch: 10 };
    let mut swept = 0;
    loop {
        match storage.sweep(sweep).await.unwrap() {
            0 => break,
            rows => swept += rows,
        }
    }
    assert_eq!(swept, 50);
    assert!(storage.sent_codes(page(9)).await.unwrap().is_empty());
}
