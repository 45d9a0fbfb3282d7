//! Who knows a number and nothing else does not stop its owner: neither by guessing, nor by signing up, nor by asking for messages.
//!
//! The owner goes all the way, from the sign-up to a new password; strangers act before each of her steps and before each time that she
//! tries one again. What is claimed is that the ways are *bounded in time*: whatever strangers do, she reaches the end, and is told to
//! wait no longer than [`bound`] says in all. And never has a stranger tokens, nor opens the account with his own password.
//!
//! Not claimed: anything against an attacker who has [`PLACES`] blocks of addresses (/24, or /48) or more to spend on one number each
//! day, who was in the owner's block before her, who is behind her address while her app does not say which device it is, or who empties a budget of everyone's, which takes some hundreds of addresses. The budgets of
//! devices, addresses, blocks and everyone are ample here, so that strangers may do all that the number itself allows, and the guard
//! against pumping, which enforces.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a failure fails the test")]

mod owner;
mod stranger;
mod world;

use std::time::Duration;

use proptest::prelude::*;

use self::owner::{Gap, Habits, Interference, NamesDevice, Owner};
use self::stranger::{Deed, HOME, Place};
use self::world::{RULES, World};

/// What the owner waits at most, in all: for each of her two codes a cool-down, since a stranger may have caused the last message; and
/// another one if she mistypes it while strangers have used up the number's guesses, so that she needs a new one.
fn bound(habits: Habits) -> Duration {
    RULES.resend_cooldown * if habits.mistypes { 4 } else { 2 }
}

/// Blocks that have a share of a number each day.
const PLACES: u8 = 20;

/// An app of today, one that knows no `registrationId`, one that tells nothing, one that tells its device once; and somebody with clumsy fingers.
const HABITS: [Habits; 5] = [
    Habits { names_device: NamesDevice::Always, names_attempt: true, mistypes: false },
    Habits { names_device: NamesDevice::Always, names_attempt: false, mistypes: false },
    Habits { names_device: NamesDevice::Never, names_attempt: false, mistypes: false },
    Habits { names_device: NamesDevice::AtSignUp, names_attempt: false, mistypes: false },
    Habits { names_device: NamesDevice::Always, names_attempt: true, mistypes: true },
];

fn run<T>(future: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    // Answers of concealed accounts are kept for a moment: nobody waits for them here.
    runtime.enable_time().start_paused(true).build().unwrap().block_on(future)
}

fn walk(conceal: bool, habits: Habits, mut strangers: Interference, until: Gap) -> Duration {
    run(async {
        let mut world = World::new(conceal);
        Owner::journey(&mut world, habits, &mut strangers, until).await
    })
}

/// All sequences of up to so many of the deeds.
fn sequences(deeds: &[Deed], longest: usize) -> Vec<Vec<Deed>> {
    let mut all = vec![Vec::new()];
    let mut newest = all.clone();
    for _ in 0..longest {
        newest = newest
            .iter()
            .flat_map(|sequence| deeds.iter().map(move |deed| [sequence.as_slice(), &[*deed]].concat()))
            .collect();
        all.extend(newest.iter().cloned());
    }
    all
}

const NEAR: Place = Place::plain(1);
const FAR: Place = Place::plain(2);

const BEFORE_THE_ACCOUNT: [Deed; 9] = [
    Deed::SignUp(NEAR),
    Deed::SignUp(Place { block: 1, device: Some(1) }),
    Deed::GuessAll(NEAR),
    Deed::GuessAll(FAR),
    Deed::GuessAllOwn(FAR),
    Deed::Resend(FAR),
    Deed::ResendOwn(FAR),
    Deed::Wait(61),
    Deed::Wait(601),
];

const BESIDE_THE_ACCOUNT: [Deed; 8] = [
    Deed::SignUp(NEAR),
    Deed::SignIn(NEAR),
    Deed::RequestReset(NEAR),
    Deed::RequestReset(FAR),
    Deed::GuessReset(NEAR),
    Deed::GuessReset(Place::plain(3)),
    Deed::Wait(61),
    Deed::Wait(601),
];

fn stays_within_bound(conceal: bool, habits: Habits, once: &[(Gap, Vec<Deed>)], until: Gap) {
    let strangers = Interference { once: once.to_vec(), ..Interference::default() };
    let waited = walk(conceal, habits, strangers, until);
    assert!(
        waited <= bound(habits),
        "waited {waited:?} with {habits:?}, concealed: {conceal}, after {once:?}"
    );
}

#[test]
fn no_short_sequence_before_the_account_is_open_stops_its_owner() {
    for (longest, habits) in [(2, HABITS[0]), (2, HABITS[1]), (2, HABITS[2]), (2, HABITS[3]), (3, HABITS[4])]
    {
        for conceal in [false, true] {
            for deeds in sequences(&BEFORE_THE_ACCOUNT, if conceal { 2 } else { longest }) {
                stays_within_bound(conceal, habits, &[(Gap::SignUp, deeds.clone())], Gap::SignIn);
                stays_within_bound(conceal, habits, &[(Gap::Confirm, deeds)], Gap::SignIn);
            }
        }
    }
}

#[test]
fn no_short_sequences_in_two_places_stop_the_owner() {
    let sequences = sequences(&BEFORE_THE_ACCOUNT, 1);
    for habits in HABITS {
        for before in &sequences {
            for after in &sequences {
                let once = [(Gap::SignUp, before.clone()), (Gap::Confirm, after.clone())];
                stays_within_bound(true, habits, &once, Gap::SignIn);
            }
        }
    }
}

#[test]
fn no_short_sequence_stops_the_owner_where_her_range_and_country_are_closed() {
    let closed = [Deed::SignUpNeighbours(NEAR), Deed::SignUpCompatriots(FAR)];
    for deeds in sequences(&BEFORE_THE_ACCOUNT, 1) {
        let deeds = [&closed[..], &deeds].concat();
        for habits in HABITS {
            stays_within_bound(false, habits, &[(Gap::SignUp, deeds.clone())], Gap::SignIn);
            stays_within_bound(false, habits, &[(Gap::Confirm, deeds.clone())], Gap::SignIn);
        }
    }
}

#[test]
fn no_short_sequence_beside_the_account_stops_its_owner() {
    for conceal in [false, true] {
        for habits in HABITS {
            for gap in [Gap::SignIn, Gap::RequestReset, Gap::Reset, Gap::SignInAgain] {
                for deeds in sequences(&BESIDE_THE_ACCOUNT, 2) {
                    stays_within_bound(conceal, habits, &[(gap, deeds)], Gap::SignInAgain);
                }
            }
        }
    }
}

/// All that can be done from one place, with devices made up for it.
fn everything(block: u8) -> Vec<Deed> {
    let mut deeds = Vec::new();
    for device in [None, Some(1), Some(2), Some(3)] {
        let place = Place { block, device };
        deeds.extend([
            Deed::SignUp(place),
            Deed::GuessAllOwn(place),
            Deed::GuessAll(place),
            Deed::ResendOwn(place),
            Deed::Resend(place),
            Deed::SignIn(place),
            Deed::RequestReset(place),
            Deed::GuessReset(place),
        ]);
    }
    deeds
}

#[test]
fn whoever_does_everything_all_day_does_not_stop_the_owner() {
    for (blocks, conceal) in [(1, false), (3, true), (PLACES - 1, false)] {
        for habits in HABITS {
            let always: Vec<_> = (1..=blocks).flat_map(everything).collect();
            let hours = [always.as_slice(), &[Deed::Wait(4 * 3600)]].concat();
            let day = hours.repeat(6);
            let strangers =
                Interference { once: vec![(Gap::SignUp, day)], always, ..Interference::default() };
            let waited = walk(conceal, habits, strangers, Gap::SignInAgain);
            assert!(waited <= bound(habits), "waited {waited:?}: {blocks} blocks, {habits:?}, {conceal}");
        }
    }
}

/// Closes the range of the number, and its country, to newcomers.
#[test]
fn whoever_signs_up_other_numbers_all_day_does_not_stop_the_owner() {
    for (blocks, conceal) in [(1, false), (PLACES - 1, true)] {
        for habits in HABITS {
            let others = |block| {
                let place = Place::plain(block);
                [Deed::SignUpNeighbours(place), Deed::SignUpCompatriots(place), Deed::SignUp(place)]
            };
            let always: Vec<_> = (1..=blocks).flat_map(others).collect();
            let day = [always.as_slice(), &[Deed::Wait(3 * 3600)]].concat().repeat(8);
            let strangers =
                Interference { once: vec![(Gap::SignUp, day)], always, ..Interference::default() };
            let waited = walk(conceal, habits, strangers, Gap::SignInAgain);
            assert!(waited <= bound(habits), "waited {waited:?}: {blocks} blocks, {habits:?}, {conceal}");
        }
    }
}

/// Behind her own address, as in a carrier's network or an office, and each time after her; her app says which device it is.
#[test]
fn no_short_sequence_from_behind_the_owners_address_stops_her() {
    let behind = |deeds: &[fn(Place) -> Deed]| {
        let made_up = Place { device: Some(1), ..HOME };
        let deeds = deeds.iter().flat_map(|deed| [deed(HOME), deed(made_up)]);
        sequences(&deeds.chain([Deed::Wait(61), Deed::Wait(601)]).collect::<Vec<_>>(), 2)
    };
    let of_sign_up = [Deed::SignUp, Deed::GuessAll, Deed::GuessAllOwn, Deed::Resend, Deed::ResendOwn];
    let of_reset = [Deed::SignIn, Deed::RequestReset, Deed::GuessReset];
    for habits in HABITS.into_iter().filter(|habits| habits.names_device == NamesDevice::Always) {
        for conceal in [false, true] {
            for deeds in behind(&of_sign_up) {
                stays_within_bound(conceal, habits, &[(Gap::Confirm, deeds)], Gap::SignIn);
            }
            for deeds in behind(&of_reset) {
                stays_within_bound(conceal, habits, &[(Gap::Reset, deeds.clone())], Gap::SignInAgain);
                stays_within_bound(conceal, habits, &[(Gap::SignInAgain, deeds)], Gap::SignInAgain);
            }
        }
    }
}

#[test]
fn whoever_guesses_and_resends_without_an_attempt_of_his_own_does_not_stop_the_owner() {
    for habits in HABITS {
        let always =
            [FAR, NEAR].map(|place| [Deed::GuessAll(place), Deed::Resend(place), Deed::GuessReset(place)]);
        let strangers = Interference { always: always.concat(), ..Interference::default() };
        let waited = walk(false, habits, strangers, Gap::SignInAgain);
        assert!(waited <= bound(habits), "waited {waited:?} with {habits:?}");
    }
}

fn place() -> impl Strategy<Value = Place> {
    (1..PLACES, proptest::option::of(0..3_u8)).prop_map(|(block, device)| Place { block, device })
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        3 => place().prop_map(Deed::SignUp),
        1 => prop_oneof![place().prop_map(Deed::SignUpNeighbours), place().prop_map(Deed::SignUpCompatriots)],
        1 => place().prop_map(Deed::Resend),
        1 => place().prop_map(Deed::ResendOwn),
        1 => place().prop_map(Deed::Guess),
        2 => place().prop_map(Deed::GuessAll),
        1 => place().prop_map(Deed::GuessAllOwn),
        1 => place().prop_map(Deed::SignIn),
        2 => place().prop_map(Deed::RequestReset),
        2 => place().prop_map(Deed::GuessReset),
        2 => prop_oneof![1..70_u64, 500..700_u64, 3_000..90_000_u64].prop_map(Deed::Wait),
    ]
}

fn habits() -> impl Strategy<Value = Habits> {
    proptest::sample::select(&HABITS[..])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_strangers_do_the_owner_reaches_the_end(
        conceal in any::<bool>(),
        habits in habits(),
        once in proptest::collection::vec(
            (proptest::sample::select(&Gap::ALL[..]), proptest::collection::vec(deed(), 0..40)),
            1..8,
        ),
        always in proptest::collection::vec(deed().prop_filter("time", |deed| !matches!(deed, Deed::Wait(_))), 0..6),
    ) {
        let strangers = Interference { once, always, ..Interference::default() };
        prop_assert!(walk(conceal, habits, strangers, Gap::SignInAgain) <= bound(habits));
    }
}
