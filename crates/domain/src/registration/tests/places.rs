//! What is left to who comes last.

use super::*;

/// Somebody without a name, in a block of addresses.
fn at(block: u8, host: u8) -> Origin {
    Origin { fingerprint: None, address: ClientAddress::of([198, 51, block, host].into()) }
}

fn from(origin: Origin) -> Claim {
    Claim { attempt: None, origin }
}

fn sign_up_at(
    current: Option<Registration>,
    number: u128,
    origin: Origin,
    rules: &Rules,
    at: UtcDateTime,
) -> Result<Registration, SignUpRefusal> {
    let password = PasswordHash::new(format!("hash-{number}"));
    let sign_up = SignUp { attempt: id(number), phone: phone(), password, origin };
    let signed_up = Registration::sign_up(current, NumberUse::Unused, sign_up, &PlainCodes, rules, at);
    signed_up.map(|signed_up| signed_up.registration)
}

/// A number whose budgets of sign-ups and of guesses are empty, after an hour of many devices in one block.
fn used_up(rules: &Rules) -> Registration {
    let mut registration = None;
    for host in 0..60_u8 {
        let device = Origin { fingerprint: Fingerprint::of(&host.to_string()), ..at(1, host) };
        let then = NOW - Duration::from_mins(60 - u64::from(host));
        let number = u128::from(host) * 2;
        registration = sign_up_at(registration.clone(), number, device, rules, then).ok().or(registration);
        for _ in 0..rules.code_guesses {
            let guess = typed("999999999", from(device));
            let outcome = registration.clone().unwrap().confirm(&guess, &PlainCodes, rules, then);
            if let Confirmation::Refused { spent: Some(spent), .. } = outcome {
                registration = Some(spent);
            }
        }
    }
    registration.unwrap()
}

#[test]
fn a_strangers_guesses_are_the_phones_and_not_the_codes() {
    let mut pending = signed_up(None, 2, "owner", NOW);
    for left in [5; 25].into_iter().chain((0..5).rev()) {
        let (refusal, spent) = refused(pending, "999999", from(at(1, 1)), after(1));
        assert_eq!(refusal, ConfirmRefusal::WrongCode { attempts_left: left });
        pending = spent;
    }
    let (refusal, _) = refused(pending.clone(), "002000", from(at(1, 1)), after(1));
    assert!(matches!(refusal, ConfirmRefusal::Exhausted { .. }), "nor is he told that it was right");
    assert!(!pending.is_first_guess(&from(at(1, 1)), after(1)));
    assert!(pending.is_first_guess(&claim("owner"), after(1)));
    assert_eq!(opened(pending, "002000", claim("owner"), after(1)).0.expose(), "hash-2");
}

#[test]
fn a_stranger_leaves_messages_to_the_owner() {
    let mut pending = signed_up(None, 2, "owner", NOW);
    let resend =
        |pending: Registration, claim, at| pending.resend(&Resend { claim }, &PlainCodes, &RULES, after(at));
    pending = resend(pending, from(at(1, 1)), 60).unwrap().registration;
    let refusal = resend(pending.clone(), from(at(2, 1)), 120).unwrap_err();
    assert!(matches!(refusal, ResendRefusal::TooMany { .. }));
    for minute in 2..5 {
        pending = resend(pending, claim("owner"), 60 * minute).unwrap().registration;
    }
    assert!(matches!(resend(pending, claim("owner"), 300), Err(ResendRefusal::TooMany { .. })));
}

#[test]
fn the_first_of_a_block_signs_up_and_confirms_though_everything_is_used_up() {
    let rules = Rules { guesses: Quota { burst: 5, ..RULES.guesses }, ..RULES };
    let registration = used_up(&rules);
    let neighbour = sign_up_at(Some(registration.clone()), 500, at(1, 200), &rules, NOW);
    assert!(matches!(neighbour, Err(SignUpRefusal::TooMany { .. })), "the block has had its place");
    let registration = sign_up_at(Some(registration), 502, at(2, 1), &rules, NOW).unwrap();
    let made_up = Origin { fingerprint: Fingerprint::of("made up"), ..at(2, 2) };
    let made_up = sign_up_at(Some(registration.clone()), 504, made_up, &rules, NOW);
    assert!(matches!(made_up, Err(SignUpRefusal::TooMany { .. })), "a device makes no newcomer");
    let confirm = |registration: &Registration, code: &str, at| {
        registration.clone().confirm(&typed(code, from(super::places::at(2, 1))), &PlainCodes, &rules, at)
    };
    let Confirmation::Opened { password, .. } = confirm(&registration, "502000", after(1)) else {
        panic!("the first guess is refused");
    };
    assert_eq!(password.expose(), "hash-502");
    // Who mistypes needs a new code, and gets it.
    let Confirmation::Refused { spent: Some(spent), refusal } = confirm(&registration, "999999", after(1))
    else {
        panic!("not compared");
    };
    assert_eq!(refusal, ConfirmRefusal::WrongCode { attempts_left: 0 });
    let Confirmation::Refused { spent: None, refusal } = confirm(&spent, "502000", after(2)) else {
        panic!("compared");
    };
    assert_eq!(refusal, ConfirmRefusal::Exhausted { retry_after: Duration::from_secs(58) });
    let resend = Resend { claim: from(at(2, 1)) };
    let resent = spent.resend(&resend, &PlainCodes, &rules, after(60)).unwrap();
    assert_eq!(code_of(resent.message), (id(502), 1));
    assert!(matches!(confirm(&resent.registration, "502001", after(61)), Confirmation::Opened { .. }));
}

#[test]
fn there_are_so_many_places_and_they_are_kept_for_a_day() {
    let rules = Rules { places: 3, ..RULES };
    let registration = used_up(&rules);
    let registration = sign_up_at(Some(registration), 500, at(2, 1), &rules, NOW).unwrap();
    let registration = sign_up_at(Some(registration), 502, at(3, 1), &rules, NOW).unwrap();
    let fourth = |at| sign_up_at(Some(registration.clone()), 504, super::places::at(4, 1), &rules, at);
    assert!(matches!(fourth(NOW), Err(SignUpRefusal::TooMany { .. })));
    let again = sign_up_at(Some(registration.clone()), 506, at(3, 1), &rules, after(60));
    assert!(again.is_ok(), "the third has its place still");
    assert!(fourth(NOW + Duration::from_hours(23)).is_ok(), "the first is a day old");
}
