use proptest::prelude::*;
use time::macros::utc_datetime;
use uuid::Uuid;

use super::*;

const NOW: UtcDateTime = utc_datetime!(2026-11-30 12:00);

fn guard() -> PumpingGuard {
    PumpingGuard {
        mode: Mode::Enforce,
        norm: CountryNorm { confirmed_percent: 25, unconfirmed: 100 },
        countries: HashMap::new(),
        unconfirmed_per_range: 10,
        unconfirmed_per_block: 20,
        forget_after: Duration::from_hours(10),
    }
}

/// One of the numbers of a country from an address of its own block.
fn traffic(range: u8, block: u8) -> Traffic {
    let number = PhoneNumber::restore(&format!("+4478712{range}1234")).unwrap();
    Traffic::new(&number, ClientAddress::of([203, 0, block, 7].into()))
}

fn code(traffic: Traffic, at: UtcDateTime, comes_back_after: Option<Duration>) -> TracedCode {
    let sent = SentCode {
        message: MessageId::new(Uuid::nil()),
        attempt: AttemptId::new(Uuid::nil()),
        traffic,
        price: Some(Money::from_micros(50_000)),
        part: Part::Shared,
        range_unit: Unit::Taken,
        at,
    };
    TracedCode { sent, confirmed_at: comes_back_after.map(|after| at + after), provider: None }
}

fn held(traffic: Traffic, at: UtcDateTime, enforced: bool, count: u32) -> HeldCodes {
    let limit = Limit { step: Step::Code, scope: Scope::Range(traffic.range) };
    let price = Money::from_micros(50_000);
    HeldCodes { traffic, limit, reason: Reason::Stopped, enforced, price, count, at }
}

#[test]
fn reasons_have_names() {
    for reason in Reason::ALL {
        assert_eq!(Reason::parse(reason.as_str()), Some(reason));
    }
    assert_eq!(Reason::parse("closed"), None);
}

#[test]
fn the_narrowest_budget_comes_first() {
    let keys = |guard: PumpingGuard| {
        let charges = |part| guard.charges(&traffic(3, 113), part, 0, NOW);
        let charges = [Part::Shared, Part::Reserve, Part::Neither].into_iter().flat_map(charges);
        charges.map(|charge| format!("{} {}", charge.limit, charge.quota.burst)).collect::<Vec<_>>()
    };
    let shared = ["code:block:203.0.113.0 20", "code:range:44787123 10", "code:country:GB 100"];
    let reserve = [
        "code:block:203.0.113.0 20",
        "reserve-code:block:203.0.113.0 2",
        "reserve-code:range:44787123 60",
        "reserve-code:country:GB 60",
    ];
    assert_eq!(keys(guard()), [&shared[..], &reserve].concat());
    assert_eq!(keys(PumpingGuard { mode: Mode::Off, ..guard() }), Vec::<String>::new());
}

#[test]
fn sign_ups_are_slowed_in_the_second_half_of_a_budget_and_stopped_at_its_end() {
    let charge = guard().charges(&traffic(3, 1), Part::Shared, 0, NOW)[1];
    let unit = charge.quota.unit();
    let left = |used: u32| Some(NOW + unit * used);
    let judged = |used, chance| judge(&charge, left(used), || chance).map_err(|it| it.reason);
    assert_eq!([judged(0, 0), judged(5, 0)], [Ok(()); 2]);
    assert_eq!([judged(6, 19), judged(6, 20)], [Err(Reason::Slowed), Ok(())]);
    assert_eq!([judged(9, 79), judged(9, 80)], [Err(Reason::Slowed), Ok(())]);
    assert_eq!(judged(10, 99), Err(Reason::Stopped));
    let wait = |ahead| judge(&charge, Some(NOW + ahead), || 0).unwrap_err().retry_after;
    assert_eq!(wait(unit * 9 + Duration::from_mins(5)), Duration::from_mins(5));
    // Nobody is told to come back in days: it may open at any time.
    assert_eq!(wait(unit * 60), Duration::from_mins(15));
}

#[test]
fn a_code_that_comes_back_returns_what_four_took() {
    let (guard, traffic) = (guard(), traffic(3, 1));
    for tally in
        guard.sent(&traffic, Part::Shared, 0, NOW).into_iter().chain(guard.returned(&traffic, 2, NOW))
    {
        assert!(matches!((tally.taken, tally.returned_percent), (1, 0) | (0, 800)), "{tally:?}");
    }
    let usual = CountryNorm { confirmed_percent: 30, unconfirmed: 7 };
    let guard = PumpingGuard { countries: HashMap::from([(traffic.country.unwrap(), usual)]), ..guard };
    assert_eq!(guard.returned(&traffic, 1, NOW)[0].returned_percent, 333);
    assert_eq!(guard.charges(&traffic, Part::Shared, 0, NOW)[2].quota.burst, 7);
}

#[test]
fn one_number_alone_does_not_close_its_range() {
    let (guard, traffic) = (guard(), traffic(3, 1));
    let taken = |sent_before| {
        let charges = guard.charges(&traffic, Part::Shared, sent_before, NOW).into_iter();
        charges.filter(|charge| charge.unit == Unit::Taken).map(|charge| charge.limit).collect::<Vec<_>>()
    };
    assert_eq!(taken(CODES_PER_NUMBER - 1).len(), 3);
    let others = [Scope::Block(traffic.block), Scope::Country(traffic.country.unwrap())];
    assert_eq!(taken(CODES_PER_NUMBER), others.map(|scope| Limit { step: Step::Code, scope }));
    let tallies = guard.sent(&traffic, Part::Shared, CODES_PER_NUMBER, NOW);
    assert_eq!(tallies.iter().map(|tally| tally.limit).collect::<Vec<_>>(), taken(CODES_PER_NUMBER));
}

/// What is left of the budgets, charged as commits do it.
#[derive(Default)]
struct Books(HashMap<Limit, UtcDateTime>);

impl Books {
    /// Which part bears a code, if any does. Nobody is lucky, or everybody is.
    fn ask(&mut self, guard: &PumpingGuard, of: Traffic, now: UtcDateTime, chance: u8) -> Option<Part> {
        let left = |charge: &Charge| self.0.get(&charge.limit).copied();
        let judge_all =
            |charges: &[Charge]| charges.iter().try_for_each(|charge| judge(charge, left(charge), || chance));
        let part = guard.admit(&of, 0, now, judge_all).ok()?;
        for charge in guard.charges(&of, part, 0, now) {
            let after = charge.decide(self.0.get(&charge.limit).copied()).unwrap();
            self.0.insert(charge.limit, after);
        }
        Some(part)
    }
}

#[test]
fn the_reserve_bears_a_few_codes_of_each_block() {
    let (guard, mut books) = (guard(), Books::default());
    let mut parts = |block, asked: usize| {
        (0..asked).map(|_| books.ask(&guard, traffic(3, block), NOW, u8::MAX)).collect::<Vec<_>>()
    };
    let reserve = [Some(Part::Reserve); 2];
    assert_eq!(parts(1, 13), [&[Some(Part::Shared); 10][..], &reserve, &[None]].concat());
    assert_eq!(parts(2, 3), [&reserve[..], &[None]].concat());
    // All others together have what is left of that of the range.
    let of_others: usize = (3..100).map(|block| parts(block, 3).iter().flatten().count()).sum();
    assert_eq!(of_others, 28 * 2);
    // What all share is not touched by it: it opens as soon as a unit has grown back.
    let opens = NOW + guard.forget_after / 10;
    assert_eq!(books.ask(&guard, traffic(3, 99), opens, u8::MAX), Some(Part::Shared));
}

#[test]
fn a_block_has_no_reserve_for_itself() {
    let (guard, mut books) = (guard(), Books::default());
    for range in 0..10 {
        assert_eq!(books.ask(&guard, traffic(range, 1), NOW, u8::MAX), Some(Part::Shared));
        assert_eq!(books.ask(&guard, traffic(range, 1), NOW, u8::MAX), Some(Part::Shared));
    }
    assert_eq!(books.ask(&guard, traffic(3, 1), NOW, u8::MAX), None);
    assert_eq!(books.ask(&guard, traffic(3, 2), NOW, u8::MAX), Some(Part::Shared));
}

#[test]
fn the_reserve_is_not_slowed() {
    let (guard, mut books) = (guard(), Books::default());
    let mut parts = |asked: usize, chance| {
        (0..asked).map(|_| books.ask(&guard, traffic(3, 1), NOW, chance)).collect::<Vec<_>>()
    };
    assert_eq!(parts(6, u8::MAX), [Some(Part::Shared); 6]);
    assert_eq!(parts(3, 0), [&[Some(Part::Reserve); 2][..], &[None]].concat());
}

impl Books {
    /// Whether the first codes of ten blocks pass that were in no attack, however unlucky they are.
    fn let_others_in(&self, guard: &PumpingGuard, range: u8, now: UtcDateTime) -> bool {
        let mut books = Self(self.0.clone());
        let mut passes = |block| books.ask(guard, traffic(range, block), now, 0).is_some();
        (200..210).all(|block| (0..RESERVE_OF_A_BLOCK).all(|_| passes(block)))
    }
}

#[test]
fn nobody_who_asks_from_nineteen_blocks_all_week_keeps_others_out() {
    let (guard, mut books) = (guard(), Books::default());
    for minute in (0..7 * 24 * 60).step_by(15) {
        let now = NOW + Duration::from_mins(minute);
        for block in 1..20 {
            while books.ask(&guard, traffic(3, block), now, 99).is_some() {}
        }
        assert!(books.let_others_in(&guard, 3, now), "after {minute} minutes");
    }
}

/// What somebody does who wants to close a range, or its country, from nineteen blocks, and how lucky he is: from which block he asks, in which range, and
/// how many minutes he waits then.
fn attack() -> impl Strategy<Value = Vec<(u8, u8, u8, u64)>> {
    let minutes = prop_oneof![4 => Just(0), 1 => 0..10_u64, 1 => 30..90_u64];
    proptest::collection::vec((1..20_u8, 0..5_u8, 0..100_u8, minutes), 0..2000)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn in_whatever_order_nineteen_blocks_ask_they_keep_nobody_else_out(attack in attack()) {
        let (guard, mut books, mut now) = (guard(), Books::default(), NOW);
        for (block, range, chance, minutes) in attack {
            books.ask(&guard, traffic(range, block), now, chance);
            now += Duration::from_mins(minutes);
        }
        prop_assert!((0..5).all(|range| books.let_others_in(&guard, range, now)));
    }
}

#[test]
fn an_attack_on_a_range_costs_no_more_than_its_budget_and_what_is_sent_to_try() {
    let guard = guard();
    let mut replay = Replay::new(&guard);
    for second in 0..36_000 {
        let at = NOW + Duration::from_secs(second);
        replay.sent(&code(traffic(3, u8::try_from(second % 250).unwrap()), at, None));
    }
    let Replayed { sent, held_back, turned_away, spared, .. } = replay.outcome();
    // From 250 blocks: what all share, and in ten hours once more; the reserve, and half of it in that time.
    assert!((70..=110).contains(&sent), "{sent}");
    assert_eq!((held_back, turned_away), (36_000 - sent, 0));
    assert_eq!(spared, Money::from_micros(50_000 * held_back));
}

#[test]
fn customers_of_other_ranges_get_in_while_one_is_attacked() {
    let guard = guard();
    let mut replay = Replay::new(&guard);
    let soon = Some(Duration::from_secs(30));
    for second in 0..3600 {
        let at = NOW + Duration::from_secs(second);
        replay.sent(&code(traffic(3, u8::try_from(second % 250).unwrap()), at, None));
        if second % 60 == 0 {
            replay.sent(&code(traffic(5, 251), at, soon));
        }
    }
    let Replayed { confirmed, turned_away, .. } = replay.outcome();
    assert_eq!((confirmed, turned_away), (60, 0));
}

#[test]
fn it_opens_again_once_codes_come_back() {
    let guard = guard();
    let mut replay = Replay::new(&guard);
    for second in 0..600 {
        replay.sent(&code(traffic(3, 1), NOW + Duration::from_secs(second), None));
    }
    let before = replay.outcome();
    let begin = NOW + Duration::from_hours(1);
    for minute in 0..600_u64 {
        replay.sent(&code(traffic(3, 1), begin + Duration::from_mins(minute), Some(Duration::from_secs(30))));
    }
    let after = replay.outcome();
    assert!(after.turned_away < 120, "{after:?}");
    for minute in 600..660_u64 {
        replay.sent(&code(traffic(3, 1), begin + Duration::from_mins(minute), Some(Duration::from_secs(30))));
    }
    assert_eq!(replay.outcome().confirmed, after.confirmed + 60, "{before:?}");
}

#[test]
fn traffic_of_any_volume_that_comes_back_is_let_through() {
    let guard = guard();
    let mut replay = Replay::new(&guard);
    for number in 0..10_000_u64 {
        let comes_back = (number / 10 % 2 == 0).then_some(Duration::from_secs(20));
        let spread = u8::try_from(number % 10).unwrap();
        replay.sent(&code(traffic(spread, spread), NOW + Duration::from_secs(number), comes_back));
    }
    assert_eq!(replay.outcome().held_back, 0);
}

#[test]
fn a_replay_takes_what_was_held_back_for_lost() {
    let guard = guard();
    let mut replay = Replay::new(&guard);
    replay.held(&held(traffic(3, 1), NOW, true, 3));
    replay.held(&held(traffic(3, 1), NOW, false, 3));
    let Replayed { sent, let_through, held_back, .. } = replay.outcome();
    assert_eq!((sent, let_through, held_back), (3, 3, 0));
    replay.held(&held(traffic(3, 1), NOW, true, 30));
    assert!(replay.outcome().held_back >= 20);
}

#[test]
fn a_report_adds_up() {
    let mut report = Report::default();
    let by = |provider: &str, code: TracedCode| TracedCode { provider: Some(provider.to_owned()), ..code };
    report.sent(&by("a", code(traffic(1, 1), NOW, None)));
    report.sent(&by("a", code(traffic(1, 1), NOW, Some(Duration::ZERO))));
    report.sent(&by("b", code(traffic(1, 1), NOW, None)));
    let unsent = code(traffic(1, 1), NOW, None);
    report.sent(&TracedCode { sent: SentCode { price: None, ..unsent.sent }, ..unsent });
    report.held(&held(traffic(1, 1), NOW, true, 3));
    report.held(&held(traffic(1, 1), NOW, false, 4));
    let rows: Vec<_> = report.rows().map(|(_, provider, row)| (provider, row.sent, row.held_back)).collect();
    assert_eq!(rows, [(None, 0, 3), (Some("a"), 2, 0), (Some("b"), 1, 0)]);
    let total = Row {
        sent: 3,
        confirmed: 1,
        cost: Money::from_micros(150_000),
        held_back: 3,
        objected_to: 4,
        spared: Money::from_micros(150_000),
    };
    assert_eq!(report.total(), total);
}
