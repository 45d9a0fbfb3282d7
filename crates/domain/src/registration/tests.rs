use time::macros::utc_datetime;
use uuid::Uuid;

use super::*;
use crate::{AccountKind, Claim, ClientAddress, Fingerprint, OneTimeCode, OneTimeCodes, PasswordHash};

const NOW: UtcDateTime = utc_datetime!(2026-11-24 12:00);
const RULES: Rules = Rules {
    code_ttl: Duration::from_mins(10),
    code_guesses: 5,
    resend_cooldown: Duration::from_mins(1),
    max_messages: 5,
    sign_ups: Quota { burst: 10, period: Duration::from_hours(24) },
    guesses: Quota { burst: 30, period: Duration::from_hours(24) },
    places: 20,
};

/// Codes that a test can foretell: the attempt's number and the generation; every odd attempt's first code
/// is that of attempt 0, so that codes can collide.
struct PlainCodes;

impl OneTimeCodes for PlainCodes {
    fn code(&self, attempt: AttemptId, generation: Generation) -> OneTimeCode {
        let number = attempt.uuid().as_u128();
        let number = if generation == 0 { number / 2 * 2 } else { number };
        OneTimeCode::parse(&format!("{number:03}{generation:03}")).unwrap()
    }

    fn matches(&self, attempt: AttemptId, generation: Generation, candidate: &OneTimeCode) -> bool {
        self.code(attempt, generation) == *candidate
    }
}

fn id(number: u128) -> AttemptId {
    AttemptId::new(Uuid::from_u128(number))
}

fn phone() -> PhoneNumber {
    PhoneNumber::parse("+447871234567").unwrap()
}

fn origin(name: &str) -> Origin {
    Origin { fingerprint: Fingerprint::of(name), address: ClientAddress::of([192, 0, 2, 1].into()) }
}

fn claim(name: &str) -> Claim {
    Claim { attempt: None, origin: origin(name) }
}

fn after(seconds: u64) -> UtcDateTime {
    NOW + Duration::from_secs(seconds)
}

fn try_sign_up(
    current: Option<Registration>,
    number: u128,
    from: &str,
    used: NumberUse,
    at: UtcDateTime,
) -> Result<SignedUp, SignUpRefusal> {
    let password = PasswordHash::new(format!("hash-{number}"));
    let sign_up = SignUp { attempt: id(number), phone: phone(), password, origin: origin(from) };
    Registration::sign_up(current, used, sign_up, &PlainCodes, &RULES, at)
}

fn signed_up(current: Option<Registration>, number: u128, from: &str, at: UtcDateTime) -> Registration {
    try_sign_up(current, number, from, NumberUse::Unused, at).unwrap().registration
}

fn code_of(message: Outgoing) -> (AttemptId, Generation) {
    match message.content {
        Content::SignUpCode { attempt, generation } => (attempt, generation),
        other => panic!("{other:?}"),
    }
}

fn typed(code: &str, claim: Claim) -> Confirm {
    Confirm {
        code: OneTimeCode::parse(code),
        claim,
        user: UserId::new(Uuid::from_u128(77)),
        session: SessionId::new(Uuid::from_u128(88)),
        others: Others::Told,
        kind: AccountKind::Customer,
    }
}

fn confirm_with(registration: Registration, code: &str, claim: Claim, at: UtcDateTime) -> Confirmation {
    registration.confirm(&typed(code, claim), &PlainCodes, &RULES, at)
}

/// The refusal, and the registration as it is afterwards.
fn refused(
    registration: Registration,
    code: &str,
    claim: Claim,
    at: UtcDateTime,
) -> (ConfirmRefusal, Registration) {
    match confirm_with(registration.clone(), code, claim, at) {
        Confirmation::Refused { spent, refusal } => (refusal, spent.unwrap_or(registration)),
        other => panic!("{other:?}"),
    }
}

/// The password of the account that was opened, and the registration.
fn opened(
    registration: Registration,
    code: &str,
    claim: Claim,
    at: UtcDateTime,
) -> (PasswordHash, Registration) {
    match confirm_with(registration, code, claim, at) {
        Confirmation::Opened { registration, account, password, session, .. } => {
            assert_eq!(account.user(), session.user());
            assert_eq!(*account.phone(), phone());
            (password, registration)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_code_opens_one_account_and_a_repeat_its_session() {
    let pending = signed_up(None, 2, "a", NOW);
    let (password, confirmed) = opened(pending, "002000", claim("a"), after(5));
    assert_eq!(password.expose(), "hash-2");
    for at in [6, 124] {
        assert!(matches!(
            confirm_with(confirmed.clone(), "002000", claim("a"), after(at)),
            Confirmation::Repeated { user, .. } if user.uuid().as_u128() == 77
        ));
    }
    for (code, from, at) in [("002000", "a", 125), ("002000", "b", 6), ("002001", "a", 6), ("", "a", 6)] {
        assert_eq!(refused(confirmed.clone(), code, claim(from), after(at)).0, ConfirmRefusal::NotFound);
    }
}

#[test]
fn wrong_repeats_are_counted_and_end_the_repeats() {
    let (_, mut confirmed) = opened(signed_up(None, 2, "a", NOW), "002000", claim("a"), after(5));
    for _ in 0..RULES.code_guesses {
        confirmed = refused(confirmed, "999999", claim("a"), after(6)).1;
    }
    assert_eq!(refused(confirmed, "002000", claim("a"), after(6)).0, ConfirmRefusal::NotFound);
}

#[test]
fn five_guesses_and_no_more_are_evaluated() {
    let mut pending = signed_up(None, 2, "a", NOW);
    for left in (0..5).rev() {
        let (refusal, next) = refused(pending, "999999", claim("a"), after(1));
        assert_eq!(refusal, ConfirmRefusal::WrongCode { attempts_left: left });
        pending = next;
    }
    let (refusal, unchanged) = refused(pending.clone(), "002000", claim("a"), after(1));
    assert_eq!(refusal, ConfirmRefusal::Exhausted { retry_after: Duration::from_secs(59) });
    assert_eq!(unchanged, pending);
}

#[test]
fn an_exhausted_code_is_replaced_at_the_next_resend_and_the_new_one_has_guesses() {
    let mut pending = signed_up(None, 2, "a", NOW);
    for _ in 0..5 {
        pending = refused(pending, "999999", claim("a"), after(1)).1;
    }
    let resend = Resend { claim: claim("a") };
    let early = pending.clone().resend(&resend, &PlainCodes, &RULES, after(59)).unwrap_err();
    assert_eq!(early, ResendRefusal::CoolDown { retry_after: Duration::from_secs(1) });
    let resent = pending.resend(&resend, &PlainCodes, &RULES, after(60)).unwrap();
    assert_eq!(code_of(resent.message), (id(2), 1));
    assert_eq!(opened(resent.registration, "002001", claim("a"), after(61)).0.expose(), "hash-2");
}

#[test]
fn an_exhausted_code_that_no_message_can_replace_says_so() {
    let mut pending = signed_up(None, 2, "a", NOW);
    let resend = Resend { claim: claim("a") };
    for at in 1..5 {
        pending = pending.resend(&resend, &PlainCodes, &RULES, after(60 * at)).unwrap().registration;
    }
    for _ in 0..5 {
        pending = refused(pending, "999999", claim("a"), after(310)).1;
    }
    let (refusal, pending) = refused(pending, "002000", claim("a"), after(310));
    let retry_after = Duration::from_secs(86_400 - 310);
    assert_eq!(refusal, ConfirmRefusal::Exhausted { retry_after });
    let resent = pending.resend(&resend, &PlainCodes, &RULES, after(310)).unwrap_err();
    assert_eq!(resent, ResendRefusal::TooMany { retry_after }, "both say the same");
}

#[test]
fn a_resend_repeats_the_living_code_and_gives_no_guesses() {
    let pending = refused(signed_up(None, 2, "a", NOW), "999999", claim("a"), after(1)).1;
    let resent = pending.resend(&Resend { claim: claim("a") }, &PlainCodes, &RULES, after(60)).unwrap();
    assert_eq!(code_of(resent.message), (id(2), 0));
    assert_eq!(resent.message.expires_at, NOW + RULES.code_ttl);
    let (refusal, _) = refused(resent.registration, "999999", claim("a"), after(61));
    assert_eq!(refusal, ConfirmRefusal::WrongCode { attempts_left: 3 });
}

#[test]
fn an_expired_code_is_told_and_renewed_and_an_old_attempt_is_closed() {
    let pending = signed_up(None, 2, "a", NOW);
    assert_eq!(refused(pending.clone(), "002000", claim("a"), after(600)).0, ConfirmRefusal::Expired);
    let resend = Resend { claim: claim("") };
    let resent = pending.clone().resend(&resend, &PlainCodes, &RULES, after(600)).unwrap();
    assert_eq!(code_of(resent.message), (id(2), 1));
    let next_day = NOW + OPEN_FOR;
    let last =
        pending.clone().resend(&resend, &PlainCodes, &RULES, next_day - Duration::from_mins(2)).unwrap();
    assert_eq!(last.message.expires_at, next_day, "no longer than its attempt");
    assert_eq!(refused(pending.clone(), "002000", claim("a"), next_day).0, ConfirmRefusal::NotFound);
    assert_eq!(pending.resend(&resend, &PlainCodes, &RULES, next_day).unwrap_err(), ResendRefusal::NotFound);
}

#[test]
fn an_attempt_is_told_to_its_own_client_only() {
    let both = signed_up(Some(signed_up(None, 2, "a", NOW)), 4, "b", after(1));
    let named = |attempt| Claim { attempt: Some(attempt), origin: origin("c") };
    let claimed = |claim: Claim| both.claimed_attempt(&claim, after(2));
    assert_eq!((claimed(claim("a")), claimed(claim("b"))), (Some(id(2)), Some(id(4))));
    assert_eq!((claimed(named(id(2))), claimed(named(id(9)))), (Some(id(2)), None));
    assert_eq!(
        claimed(claim("c")),
        None,
        "a resend from there means the newest of all, which is not its own"
    );
    assert_eq!(both.claimed_attempt(&claim("a"), NOW + OPEN_FOR), None);
    let again = signed_up(Some(both.clone()), 6, "a", after(60));
    assert_eq!(again.claimed_attempt(&claim("a"), after(61)), Some(id(6)), "the newest of its own");
    let confirmed = opened(both, "002000", claim("a"), after(61)).1;
    assert_eq!(confirmed.claimed_attempt(&claim("a"), after(62)), None);
}

#[test]
fn messages_are_limited_per_origin() {
    let mut pending = signed_up(None, 2, "a", NOW);
    let resend = Resend { claim: claim("a") };
    for at in 1..5 {
        pending = pending.resend(&resend, &PlainCodes, &RULES, after(60 * at)).unwrap().registration;
    }
    let refusal = pending.clone().resend(&resend, &PlainCodes, &RULES, after(301)).unwrap_err();
    let retry_after = Duration::from_secs(86_400 - 301);
    assert_eq!(refusal, ResendRefusal::TooMany { retry_after });
    let again = try_sign_up(Some(pending.clone()), 3, "a", NumberUse::Unused, after(301)).unwrap_err();
    assert_eq!(again, SignUpRefusal::TooMany { retry_after });
    assert!(try_sign_up(Some(pending), 3, "b", NumberUse::Unused, after(301)).is_ok());
}

#[test]
fn a_second_sign_up_cools_down_and_stands_beside_the_first() {
    let first = signed_up(None, 2, "a", NOW);
    let early = try_sign_up(Some(first.clone()), 4, "a", NumberUse::Unused, after(30)).unwrap_err();
    assert_eq!(early, SignUpRefusal::CoolDown { retry_after: Duration::from_secs(30) });
    let both = signed_up(Some(first), 4, "a", after(60));
    assert_eq!(opened(both.clone(), "002000", claim("a"), after(61)).0.expose(), "hash-2");
    assert_eq!(opened(both, "004000", claim("a"), after(61)).0.expose(), "hash-4");
}

#[test]
fn living_codes_of_one_phone_differ() {
    let first = signed_up(None, 2, "a", NOW);
    let second = try_sign_up(Some(first), 3, "b", NumberUse::Unused, after(1)).unwrap();
    assert_eq!(code_of(second.message), (id(3), 1), "generation 0 has the first attempt's code");
}

#[test]
fn a_fourth_living_attempt_of_those_without_a_place_waits_for_one_to_die() {
    let mut pending = None;
    // The first has the block's place.
    for number in 0..4_u8 {
        let from = number.to_string();
        pending = Some(signed_up(pending, u128::from(number) * 2, &from, after(u64::from(number))));
    }
    let refusal = try_sign_up(pending.clone(), 8, "x", NumberUse::Unused, after(10)).unwrap_err();
    assert_eq!(refusal, SignUpRefusal::TooMany { retry_after: Duration::from_secs(591) });
    assert!(try_sign_up(pending, 8, "x", NumberUse::Unused, after(601)).is_ok());
}

#[test]
fn sign_ups_of_a_phone_are_limited_per_day() {
    let mut pending = None;
    for number in 0..10_u8 {
        let at = after(u64::from(number) * 600);
        pending = Some(signed_up(pending, u128::from(number), &number.to_string(), at));
    }
    let refusal = try_sign_up(pending, 99, "x", NumberUse::Unused, after(6000)).unwrap_err();
    assert!(matches!(refusal, SignUpRefusal::TooMany { .. }));
}

#[test]
fn a_strangers_attempt_is_out_of_reach() {
    let owner = signed_up(None, 2, "owner", NOW);
    let both = signed_up(Some(owner), 4, "stranger", after(5));
    let (refusal, unmoved) = refused(both.clone(), "004000", claim("owner"), after(6));
    assert_eq!(refusal, ConfirmRefusal::WrongCode { attempts_left: 4 });
    assert_eq!(opened(unmoved, "002000", claim("owner"), after(7)).0.expose(), "hash-2");
    // Somebody who is neither is answered as for a wrong code, and costs nobody a guess.
    let (refusal, unmoved) = refused(both.clone(), "002000", claim("third"), after(6));
    assert_eq!(refusal, ConfirmRefusal::WrongCode { attempts_left: 5 });
    assert_eq!(unmoved, both);
    // The owner's registrationId reaches the owner's attempt from anywhere.
    let named = Claim { attempt: Some(id(2)), ..claim("third") };
    assert_eq!(opened(both, "002000", named, after(7)).0.expose(), "hash-2");
}

#[test]
fn a_stranger_who_signs_up_last_gains_nothing_when_the_owners_code_has_died() {
    let owner = signed_up(None, 2, "owner", NOW);
    let both = signed_up(Some(owner), 4, "stranger", after(590));
    assert_eq!(refused(both, "004000", claim("owner"), after(610)).0, ConfirmRefusal::Expired);
}

#[test]
fn wrong_guesses_of_a_stranger_leave_the_owners_alone() {
    let mut both = signed_up(Some(signed_up(None, 2, "owner", NOW)), 4, "stranger", after(5));
    for _ in 0..9 {
        both = refused(both, "999999", claim("stranger"), after(6)).1;
    }
    assert_eq!(opened(both, "002000", claim("owner"), after(7)).0.expose(), "hash-2");
}

#[test]
fn one_origin_may_confirm_from_another_network() {
    let pending = signed_up(None, 2, "", NOW);
    let elsewhere = Claim {
        attempt: None,
        origin: Origin { fingerprint: None, address: ClientAddress::of([198, 51, 100, 7].into()) },
    };
    assert_eq!(opened(pending, "002000", elsewhere, after(7)).0.expose(), "hash-2");
}

#[test]
fn who_names_a_device_at_the_sign_up_only_goes_on_from_its_address() {
    let stranger = Origin { fingerprint: None, address: ClientAddress::of([203, 0, 113, 9].into()) };
    let password = PasswordHash::new("hash-4".to_owned());
    let sign_up = SignUp { attempt: id(4), phone: phone(), password, origin: stranger };
    let pending = signed_up(None, 2, "a", NOW);
    let both = Registration::sign_up(Some(pending), NumberUse::Unused, sign_up, &PlainCodes, &RULES, NOW);
    let mut both = both.unwrap().registration;
    // All her messages but one, since it may be a neighbour who asks.
    for (minutes, most) in [(1, true), (2, true), (3, true), (4, false)] {
        let resend = Resend { claim: claim("") };
        match both.clone().resend(&resend, &PlainCodes, &RULES, after(60 * minutes)) {
            Ok(resent) => {
                assert_eq!(code_of(resent.message), (id(2), 0));
                both = resent.registration;
                assert!(most);
            }
            Err(refusal) => assert!(!most, "{refusal:?}"),
        }
    }
    let (_, both) = refused(both, "999999", claim(""), after(241));
    assert_eq!(opened(both, "002000", claim(""), after(242)).0.expose(), "hash-2");
}

#[test]
fn who_names_no_device_reaches_none_where_two_are_at_its_address() {
    let both = signed_up(Some(signed_up(None, 2, "a", NOW)), 4, "b", after(60));
    let (refusal, _) = refused(both, "002000", claim(""), after(61));
    assert!(matches!(refusal, ConfirmRefusal::WrongCode { .. }));
}

#[test]
fn a_foreign_registration_id_is_a_wrong_code() {
    let pending = signed_up(None, 2, "a", NOW);
    let foreign = Claim { attempt: Some(id(99)), ..claim("a") };
    let (refusal, unmoved) = refused(pending.clone(), "002000", foreign, after(1));
    assert_eq!(refusal, ConfirmRefusal::WrongCode { attempts_left: 5 });
    assert_eq!(unmoved, pending);
}

#[test]
fn guesses_for_one_phone_have_a_ceiling_over_all_codes() {
    let rules = Rules { guesses: Quota { burst: 7, period: Duration::from_hours(24) }, places: 0, ..RULES };
    let mut registration = signed_up(None, 2, "a", NOW);
    let mut evaluated = 0;
    for round in 0..4 {
        for _ in 0..6 {
            let at = after(round * 60);
            let outcome = registration.clone().confirm(&typed("999999", claim("a")), &PlainCodes, &rules, at);
            if let Confirmation::Refused { spent: Some(spent), .. } = outcome {
                registration = spent;
                evaluated += 1;
            }
        }
        let resend = Resend { claim: claim("a") };
        match registration.clone().resend(&resend, &PlainCodes, &rules, after(round * 60 + 60)) {
            Ok(resent) => registration = resent.registration,
            Err(refusal) => assert!(matches!(refusal, ResendRefusal::TooMany { .. })),
        }
    }
    assert_eq!(evaluated, 7);
}

#[test]
fn a_used_number_is_refused_before_anything_is_counted() {
    let refusal = try_sign_up(None, 2, "a", NumberUse::Used, NOW).unwrap_err();
    assert_eq!(refusal, SignUpRefusal::AlreadyRegistered);
    let admitted = Registration::admit_sign_up(None, NumberUse::Used, &origin("a"), &RULES, NOW);
    assert_eq!(admitted, Err(SignUpRefusal::AlreadyRegistered));
}

#[test]
fn a_concealed_number_behaves_like_any_other_but_never_opens() {
    let first = try_sign_up(None, 2, "a", NumberUse::UsedAndConcealed, NOW).unwrap();
    assert_eq!(first.message.content, Content::AlreadyRegistered);
    assert!(first.message.expires_at > NOW);
    assert_eq!(first.expires_at, NOW + RULES.code_ttl);
    let mut concealed = first.registration;
    let early =
        try_sign_up(Some(concealed.clone()), 4, "a", NumberUse::UsedAndConcealed, after(1)).unwrap_err();
    assert!(matches!(early, SignUpRefusal::CoolDown { .. }));
    let resent =
        concealed.clone().resend(&Resend { claim: claim("a") }, &PlainCodes, &RULES, after(60)).unwrap();
    assert!(resent.message.expires_at < NOW, "it is never sent");
    for left in (0..5).rev() {
        let (refusal, next) = refused(concealed, "002000", claim("a"), after(1));
        assert_eq!(refusal, ConfirmRefusal::WrongCode { attempts_left: left });
        concealed = next;
    }
    let (refusal, _) = refused(concealed.clone(), "002000", claim("a"), after(1));
    assert!(matches!(refusal, ConfirmRefusal::Exhausted { .. }));
    // The owner is told once a day.
    let again = try_sign_up(Some(concealed), 4, "a", NumberUse::UsedAndConcealed, after(60)).unwrap();
    assert!(again.message.expires_at < NOW, "it is never sent");
}

#[test]
fn concealing_does_not_take_the_repeat_from_the_owner() {
    let (_, confirmed) = opened(signed_up(None, 2, "a", NOW), "002000", claim("a"), after(5));
    let concealed =
        try_sign_up(Some(confirmed), 4, "b", NumberUse::UsedAndConcealed, after(6)).unwrap().registration;
    assert!(matches!(confirm_with(concealed, "002000", claim("a"), after(7)), Confirmation::Repeated { .. }));
}

#[test]
fn wrong_repeats_are_counted_where_accounts_are_concealed_too() {
    let (_, confirmed) = opened(signed_up(None, 2, "a", NOW), "002000", claim("a"), after(5));
    let concealed = try_sign_up(Some(confirmed), 4, "b", NumberUse::UsedAndConcealed, after(6)).unwrap();
    let mut concealed = concealed.registration;
    // The stranger's attempt has no guesses left that would be counted.
    for from in ["b"; 5].into_iter().chain(["a"; 5]) {
        concealed = refused(concealed, "999999", claim(from), after(7)).1;
    }
    assert!(matches!(confirm_with(concealed, "002000", claim("a"), after(8)), Confirmation::Refused { .. }));
}

#[test]
fn who_watches_an_attempt_of_his_own_does_not_learn_that_the_owner_has_an_account() {
    let both = signed_up(Some(signed_up(None, 2, "owner", NOW)), 4, "stranger", after(5));
    let open = |others| {
        let confirm = Confirm { others, ..typed("002000", claim("owner")) };
        match both.clone().confirm(&confirm, &PlainCodes, &RULES, after(6)) {
            Confirmation::Opened { registration, .. } => registration,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused(open(Others::Told), "1", claim("stranger"), after(7)).0, ConfirmRefusal::NotFound);
    let (untold, unopened) = (open(Others::Untold), refused(both.clone(), "1", claim("owner"), after(6)).1);
    for registration in [&untold, &unopened] {
        let refusal = refused(registration.clone(), "002000", claim("stranger"), after(7)).0;
        assert_eq!(refusal, ConfirmRefusal::WrongCode { attempts_left: 4 });
    }
    // His own code opens nothing any more.
    let refusal = refused(untold.clone(), "004000", claim("stranger"), after(7)).0;
    assert_eq!(refusal, ConfirmRefusal::WrongCode { attempts_left: 4 });
    let resend = Resend { claim: claim("stranger") };
    let resent = untold.clone().resend(&resend, &PlainCodes, &RULES, after(65)).unwrap();
    assert!(resent.message.expires_at < NOW, "it is never sent");
    let repeated = confirm_with(untold, "002000", claim("owner"), after(8));
    assert!(matches!(repeated, Confirmation::Repeated { .. }));
}

#[test]
fn a_record_restores_the_registration() {
    let pending = signed_up(None, 2, "a", NOW);
    let (_, confirmed) = opened(pending.clone(), "002000", claim("a"), after(5));
    let concealed = try_sign_up(None, 2, "a", NumberUse::UsedAndConcealed, NOW).unwrap().registration;
    for registration in [pending, confirmed, concealed] {
        assert!(registration.forget_at() > NOW);
        assert_eq!(Registration::restore(registration.clone().record()), registration);
    }
}

mod places;

/// Whatever owner and stranger do, in whatever order.
mod whatever_happens {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Deed {
        SignUp(&'static str),
        Resend(&'static str),
        WrongGuess(&'static str),
        Wait(u64),
    }

    fn deed() -> impl Strategy<Value = Deed> {
        let who = || prop_oneof![Just("owner"), Just("stranger")];
        prop_oneof![
            who().prop_map(Deed::SignUp),
            who().prop_map(Deed::Resend),
            who().prop_map(Deed::WrongGuess),
            (1..700_u64).prop_map(Deed::Wait),
        ]
    }

    /// The registration after the deed; a refused deed changes nothing.
    fn done(
        current: Option<Registration>,
        deed: &Deed,
        number: u128,
        at: UtcDateTime,
    ) -> Option<Registration> {
        match (current, deed) {
            (current, Deed::SignUp(who)) => {
                let signed_up = try_sign_up(current.clone(), number, who, NumberUse::Unused, at);
                signed_up.map_or(current, |signed_up| Some(signed_up.registration))
            }
            (Some(current), Deed::Resend(who)) => {
                let resent = current.clone().resend(&Resend { claim: claim(who) }, &PlainCodes, &RULES, at);
                Some(resent.map_or(current, |resent| resent.registration))
            }
            (Some(current), Deed::WrongGuess(who)) => Some(refused(current, "999999999", claim(who), at).1),
            (current, _) => current,
        }
    }

    proptest! {
        #[test]
        fn the_invariants_hold(deeds in proptest::collection::vec(deed(), 1..60)) {
            let (mut registration, mut seconds) = (None, 0);
            for (number, deed) in (0..).step_by(2).zip(&deeds) {
                if let Deed::Wait(more) = deed {
                    seconds += more;
                }
                let at = after(seconds);
                registration = done(registration, deed, number, at);
                let Some(registration) = registration.clone() else {
                    continue;
                };
                let attempts = registration.clone().record().attempts;
                let live: Vec<_> = attempts.iter().filter(|attempt| at < attempt.expires_at).collect();
                // Both have one address, so that one of them has its place.
                prop_assert!(live.len() <= 2 * MAX_LIVE_ATTEMPTS);
                let codes: HashSet<_> = live
                    .iter()
                    .map(|attempt| PlainCodes.code(attempt.id, attempt.generation).expose().to_owned())
                    .collect();
                prop_assert_eq!(codes.len(), live.len(), "two living codes are the same");
                prop_assert!(attempts.iter().all(|attempt| attempt.guesses <= RULES.code_guesses));
                let owner_has_open = attempts
                    .iter()
                    .any(|attempt| attempt.origin == origin("owner") && at < attempt.created_at + OPEN_FOR);
                for theirs in attempts.iter().filter(|attempt| attempt.origin == origin("stranger")) {
                    let code = PlainCodes.code(theirs.id, theirs.generation);
                    let outcome = confirm_with(registration.clone(), code.expose(), claim("owner"), at);
                    if let Confirmation::Opened { password, .. } = outcome {
                        prop_assert!(!owner_has_open, "the stranger's {password:?} was confirmed");
                    }
                }
                prop_assert_eq!(Registration::restore(registration.clone().record()), registration);
            }
        }
    }
}
