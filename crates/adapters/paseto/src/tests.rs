use pasetors::keys::{AsymmetricKeyPair, Generate};
use pasetors::paserk::FormatAsPaserk;
use rstest::rstest;
use serde_json::{Value, json};
use time::macros::utc_datetime;
use uuid::Uuid;
use vestibule_domain::{KycLevel, SessionId, UserId};

use super::*;

const ISSUED: UtcDateTime = utc_datetime!(2026-03-01 12:00:00);
const EXPIRES: UtcDateTime = utc_datetime!(2026-03-01 12:15:00);
const DURING: UtcDateTime = utc_datetime!(2026-03-01 12:07:00);

/// A key pair and its line in a key file.
struct Pair(AsymmetricKeyPair<V4>);

impl Pair {
    fn new() -> Self {
        Self(AsymmetricKeyPair::generate().unwrap())
    }

    fn line(&self, role: &str) -> String {
        let mut key = String::new();
        self.0.secret.fmt(&mut key).unwrap();
        format!("{role} {key}\n")
    }

    fn ring(&self) -> KeyRing {
        KeyRing::parse(&self.line("active")).unwrap()
    }

    fn tokens(&self) -> PasetoTokens {
        tokens(self.ring())
    }

    /// Any payload and footer, genuinely signed.
    fn sign(&self, payload: &[u8], footer: Option<&[u8]>) -> String {
        PublicToken::sign(&self.0.secret, payload, footer, None).unwrap()
    }

    /// Any payload with our footer.
    fn sign_ours(&self, payload: &Value) -> String {
        self.ring().sign(payload.to_string().as_bytes(), ISSUED).unwrap()
    }
}

fn tokens(keys: KeyRing) -> PasetoTokens {
    PasetoTokens::new(keys, "https://vestibule.example".to_owned(), "app".to_owned())
}

fn claims() -> AccessClaims {
    AccessClaims {
        user: UserId::new(Uuid::from_u128(1)),
        session: SessionId::new(Uuid::from_u128(2)),
        generation: 7,
        id: Uuid::from_u128(3),
        issued_at: ISSUED,
        expires_at: EXPIRES,
        kyc: KycLevel::Kyc0,
    }
}

fn payload() -> Value {
    json!({
        "iss": "https://vestibule.example",
        "aud": "app",
        "sub": Uuid::from_u128(1),
        "sid": Uuid::from_u128(2),
        "jti": Uuid::from_u128(3),
        "iat": "2026-03-01T12:00:00Z",
        "nbf": "2026-03-01T12:00:00Z",
        "exp": "2026-03-01T12:15:00Z",
        "gen": 7,
        "scope": "read write",
        "kyc": "KYC_0",
    })
}

/// The decoded message and footer of a token.
fn parts(token: &str) -> (Vec<u8>, Vec<u8>) {
    let untrusted = UntrustedToken::<Public, V4>::try_from(token).unwrap();
    (untrusted.untrusted_payload().to_vec(), untrusted.untrusted_footer().to_vec())
}

#[test]
fn a_token_says_what_the_wire_promises_and_is_believed() {
    let tokens = Pair::new().tokens();
    let token = tokens.issue(&claims());
    assert!(token.expose().starts_with("v4.public."));
    let (message, footer) = parts(token.expose());
    assert_eq!(serde_json::from_slice::<Value>(&message).unwrap(), payload());
    let id = &tokens.public_keys(DURING)[0].id;
    assert_eq!(footer, format!(r#"{{"kid":"{id}"}}"#).into_bytes());
    assert_eq!(tokens.verify(token.expose(), DURING), Ok(claims()));
    assert_eq!(tokens.verify(token.expose(), DURING), Ok(claims()), "the second look differs");
}

#[test]
fn times_are_cut_to_seconds() {
    let tokens = Pair::new().tokens();
    let half = time::Duration::milliseconds(500);
    let token =
        tokens.issue(&AccessClaims { issued_at: ISSUED + half, expires_at: EXPIRES + half, ..claims() });
    assert_eq!(tokens.verify(token.expose(), ISSUED + half), Ok(claims()));
    assert_eq!(tokens.verify(token.expose(), EXPIRES), Err(TokenError::Expired));
}

/// Each moment is asked of a fresh verifier and of one that remembers the token.
#[rstest]
#[case::before(ISSUED - time::Duration::milliseconds(1), Err(TokenError::NotYetValid))]
#[case::first(ISSUED, Ok(()))]
#[case::last(EXPIRES - time::Duration::milliseconds(1), Ok(()))]
#[case::end(EXPIRES, Err(TokenError::Expired))]
#[case::long_after(EXPIRES + time::Duration::days(3650), Err(TokenError::Expired))]
fn a_token_is_valid_from_nbf_until_just_before_exp(
    #[case] now: UtcDateTime,
    #[case] expected: Result<(), TokenError>,
) {
    let pair = Pair::new();
    let token = pair.tokens().issue(&claims());
    assert_eq!(pair.tokens().verify(token.expose(), now).map(drop), expected);

    let remembering = pair.tokens();
    remembering.verify(token.expose(), DURING).unwrap();
    assert!(remembering.current().verified.contains_key(&digest(token.expose())));
    assert_eq!(remembering.verify(token.expose(), now).map(drop), expected);
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[test]
fn only_tokens_that_were_believed_are_remembered() {
    let pair = Pair::new();
    let tokens = pair.tokens();
    let token = tokens.issue(&claims());
    let forged = Pair::new().tokens().issue(&claims());
    tokens.verify(token.expose(), EXPIRES).unwrap_err();
    tokens.verify(forged.expose(), DURING).unwrap_err();
    tokens.current().verified.run_pending_tasks();
    assert_eq!(tokens.current().verified.entry_count(), 0);
}

#[test]
fn what_is_remembered_is_really_used_and_has_the_tokens_life() {
    let pair = Pair::new();
    let tokens = pair.tokens();
    // An entry that no signature stands behind: if it is believed, the memory was asked.
    let life = Duration::from_mins(8);
    let verified = WireClaims::parse(&payload().to_string())
        .unwrap()
        .verify("https://vestibule.example", "app")
        .unwrap();
    tokens.current().verified.insert(digest("planted"), Remembered { verified, key_until: None, life });
    assert_eq!(tokens.verify("planted", DURING), Ok(claims()));

    let token = tokens.issue(&claims());
    tokens.verify(token.expose(), DURING).unwrap();
    let remembered = tokens.current().verified.get(&digest(token.expose())).unwrap();
    assert_eq!(UntilTokenExpires.expire_after_create(&[0; 32], &remembered, Instant::now()), Some(life));
}

#[rstest]
#[case::other_issuer("iss", json!("https://vestibule.example.evil"))]
#[case::other_audience("aud", json!("other"))]
#[case::audience_list("aud", json!(["app"]))]
#[case::other_scope("scope", json!("read"))]
#[case::subject_no_uuid("sub", json!("admin"))]
#[case::session_null("sid", json!(null))]
#[case::expiry_a_number("exp", json!(4_102_444_800_u64))]
#[case::expiry_no_time("exp", json!("tomorrow"))]
#[case::expiry_beyond_the_calendar("exp", json!("9999-12-31T23:59:59-23:59"))]
#[case::not_before_empty("nbf", json!(""))]
#[case::unknown_level("kyc", json!("KYC_9"))]
fn a_signed_token_with_a_wrong_claim_is_refused(#[case] claim: &str, #[case] value: Value) {
    let pair = Pair::new();
    let mut payload = payload();
    assert!(pair.tokens().verify(&pair.sign_ours(&payload), DURING).is_ok());
    payload[claim] = value;
    assert_eq!(pair.tokens().verify(&pair.sign_ours(&payload), DURING), Err(TokenError::WrongClaims));
}

#[rstest]
fn a_signed_token_without_a_claim_is_refused(
    #[values("iss", "aud", "sub", "sid", "jti", "iat", "nbf", "exp", "scope", "kyc")] claim: &str,
) {
    let pair = Pair::new();
    let mut payload = payload();
    payload.as_object_mut().unwrap().remove(claim).unwrap();
    assert_eq!(pair.tokens().verify(&pair.sign_ours(&payload), DURING), Err(TokenError::WrongClaims));
}

#[rstest]
#[case::no_json(b"hello".as_slice())]
#[case::no_object(b"[]")]
#[case::no_utf8(b"\xff\xfe")]
fn a_signed_payload_that_is_no_claims_is_refused(#[case] payload: &[u8]) {
    let pair = Pair::new();
    let token = pair.ring().sign(payload, ISSUED).unwrap();
    assert!(pair.tokens().verify(&token, DURING).is_err());
}

#[test]
fn a_doubled_claim_is_refused() {
    let pair = Pair::new();
    let doubled = payload().to_string().replacen('{', r#"{"sub":"00000000-0000-0000-0000-000000000009","#, 1);
    let token = pair.ring().sign(doubled.as_bytes(), ISSUED).unwrap();
    assert_eq!(pair.tokens().verify(&token, DURING), Err(TokenError::WrongClaims));
}

#[test]
fn the_later_of_iat_and_nbf_counts() {
    for claim in ["iat", "nbf"] {
        let pair = Pair::new();
        let mut payload = payload();
        payload[claim] = json!("2026-03-01T12:10:00Z");
        let token = pair.sign_ours(&payload);
        assert_eq!(pair.tokens().verify(&token, DURING), Err(TokenError::NotYetValid));
        assert!(pair.tokens().verify(&token, utc_datetime!(2026-03-01 12:10:00)).is_ok());
    }
}

#[test]
fn every_altered_character_is_noticed() {
    let tokens = Pair::new().tokens();
    let token = tokens.issue(&claims()).expose().to_owned();
    for at in 0..token.len() {
        let other = if &token[at..=at] == "A" { "Q" } else { "A" };
        let mut altered = token.clone();
        altered.replace_range(at..=at, other);
        assert!(tokens.verify(&altered, DURING).is_err(), "position {at}");
        assert!(tokens.verify(&token[..at], DURING).is_err(), "cut at {at}");
    }
    assert!(tokens.verify(&token, DURING).is_ok());
}

#[test]
fn another_footer_than_the_signed_one_is_refused() {
    let pair = Pair::new();
    let signed = pair.sign(payload().to_string().as_bytes(), None);
    let ours = pair.tokens().issue(&claims());
    let footer = ours.expose().rsplit('.').next().unwrap();
    let moved = format!("{signed}.{footer}");
    assert_eq!(pair.tokens().verify(&moved, DURING), Err(TokenError::BadSignature));
}

#[rstest]
#[case::none(None)]
#[case::empty_object(Some(b"{}".as_slice()))]
#[case::bare_id(Some(b"k4.pid.AAAA".as_slice()))]
#[case::kid_a_number(Some(br#"{"kid":1}"#.as_slice()))]
fn a_token_that_names_no_key_is_malformed(#[case] footer: Option<&[u8]>) {
    let pair = Pair::new();
    let token = pair.sign(payload().to_string().as_bytes(), footer);
    assert_eq!(pair.tokens().verify(&token, DURING), Err(TokenError::Malformed));
}

#[test]
fn a_stranger_is_refused_whichever_key_he_names() {
    let (ours, stranger) = (Pair::new(), Pair::new());
    let under_his_name = stranger.sign_ours(&payload());
    assert_eq!(ours.tokens().verify(&under_his_name, DURING), Err(TokenError::UnknownKey));
    let footer = parts(ours.tokens().issue(&claims()).expose()).1;
    let under_ours = stranger.sign(payload().to_string().as_bytes(), Some(&footer));
    assert_eq!(ours.tokens().verify(&under_ours, DURING), Err(TokenError::BadSignature));
}

#[rstest]
#[case::other_purpose("v4.local.")]
#[case::version_1("v1.public.")]
#[case::version_2("v2.public.")]
#[case::version_3("v3.public.")]
#[case::version_5("v5.public.")]
#[case::upper_case("V4.PUBLIC.")]
#[case::no_algorithm("v4.none.")]
#[case::no_header("")]
#[case::space(" v4.public.")]
#[case::bearer("Bearer v4.public.")]
fn another_header_is_malformed(#[case] header: &str) {
    let tokens = Pair::new().tokens();
    let token = tokens.issue(&claims()).expose().replacen("v4.public.", header, 1);
    assert_eq!(tokens.verify(&token, DURING), Err(TokenError::Malformed));
}

#[rstest]
#[case::nothing(String::new())]
#[case::header_only("v4.public.".to_owned())]
#[case::empty_parts("v4.public...".to_owned())]
#[case::short("v4.public.AAAA.e30".to_owned())]
#[case::jwt("eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.".to_owned())]
#[case::multibyte("v4.public.ä\u{10ffff}\0".to_owned())]
#[case::dots(".".repeat(2048))]
#[case::a_megabyte(format!("v4.public.{}", "A".repeat(1_000_000)))]
fn what_is_no_token_is_malformed(#[case] token: String) {
    assert_eq!(Pair::new().tokens().verify(&token, DURING), Err(TokenError::Malformed));
}

#[test]
fn an_overlong_token_is_refused_although_it_is_genuine() {
    let pair = Pair::new();
    let mut payload = payload();
    payload["padding"] = json!("x".repeat(2048));
    assert_eq!(pair.tokens().verify(&pair.sign_ours(&payload), DURING), Err(TokenError::Malformed));
    payload["padding"] = json!("an unknown claim is ignored");
    assert_eq!(pair.tokens().verify(&pair.sign_ours(&payload), DURING), Ok(claims()));
}

#[test]
fn keys_rotate_without_a_token_being_lost() {
    let (old, new) = (Pair::new(), Pair::new());
    let both = |first: &str, second: &str| {
        tokens(KeyRing::parse(&format!("{}{}", old.line(first), new.line(second))).unwrap())
    };
    let (before, after) = (both("active", "verify"), both("verify", "active"));
    let (early, late) = (before.issue(&claims()), after.issue(&claims()));
    for tokens in [&before, &after] {
        assert!(tokens.verify(early.expose(), DURING).is_ok());
        assert!(tokens.verify(late.expose(), DURING).is_ok());
    }
    let ids =
        |tokens: &PasetoTokens| tokens.public_keys(DURING).into_iter().map(|key| key.id).collect::<Vec<_>>();
    assert_eq!(ids(&before), ids(&after));
    assert_ne!(parts(early.expose()).1, parts(late.expose()).1);

    let finished = new.tokens();
    assert_eq!(finished.verify(early.expose(), DURING), Err(TokenError::UnknownKey));
    assert!(finished.verify(late.expose(), DURING).is_ok());
}

/// The two keys of a rotation: the switch is at 12:05, and the old one verifies until 12:20.
fn rotating(old: &Pair, new: &Pair) -> PasetoTokens {
    let old = old.line("active").replace('\n', " until=2026-03-01T12:20:00Z\n");
    let new = new.line("active").replace('\n', " from=2026-03-01T13:05:00+01:00\n");
    tokens(KeyRing::parse(&format!("{new}{old}")).unwrap())
}

/// Claims of a token that is issued at this minute after twelve, for a quarter of an hour.
fn issued(minute: i64) -> AccessClaims {
    let later = time::Duration::minutes(minute);
    AccessClaims { issued_at: ISSUED + later, expires_at: EXPIRES + later, ..claims() }
}

#[test]
fn a_rotation_takes_place_by_the_clock_alone() {
    let (old, new) = (Pair::new(), Pair::new());
    let (old_id, new_id) =
        (old.tokens().public_keys(ISSUED)[0].id.clone(), new.tokens().public_keys(ISSUED)[0].id.clone());
    let tokens = rotating(&old, &new);
    let switch = utc_datetime!(2026-03-01 12:05);
    let end = utc_datetime!(2026-03-01 12:20);
    let instant = time::Duration::milliseconds(1);
    for (now, expected) in [
        (ISSUED, vec![(&new_id, false), (&old_id, true)]),
        (switch - instant, vec![(&new_id, false), (&old_id, true)]),
        (switch, vec![(&new_id, true), (&old_id, false)]),
        (end - instant, vec![(&new_id, true), (&old_id, false)]),
        (end, vec![(&new_id, true)]),
    ] {
        let published = tokens.public_keys(now);
        assert_eq!(published.iter().map(|key| (&key.id, key.active)).collect::<Vec<_>>(), expected, "{now}");
        let claims =
            AccessClaims { issued_at: now, expires_at: now + time::Duration::minutes(15), ..claims() };
        let signed_by = String::from_utf8(parts(tokens.issue(&claims).expose()).1).unwrap();
        let signing = published.iter().find(|key| key.active).unwrap();
        assert!(signed_by.contains(&signing.id), "{now}");
    }
    // Signed in time by an instance whose clock is late, or that has the file late.
    let late = old.tokens().issue(&issued(6));
    // Signed early by one whose clock is ahead.
    let early = new.tokens().issue(&issued(0));
    for looks in ["first", "remembered"] {
        assert!(tokens.verify(early.expose(), ISSUED).is_ok(), "{looks}");
        assert!(tokens.verify(late.expose(), end - instant).is_ok(), "{looks}");
    }
    assert!(tokens.current().verified.contains_key(&digest(late.expose())));
    assert_eq!(tokens.verify(late.expose(), end), Err(TokenError::UnknownKey), "remembered for too long");
    assert_eq!(rotating(&old, &new).verify(late.expose(), end), Err(TokenError::UnknownKey));
}

#[test]
fn what_was_verified_with_a_retired_key_is_forgotten_with_it() {
    let (old, new) = (Pair::new(), Pair::new());
    let tokens = rotating(&old, &new);
    let token = tokens.issue(&claims());
    tokens.verify(token.expose(), DURING).unwrap();
    assert!(tokens.current().verified.contains_key(&digest(token.expose())));
    // A request that has begun before still ends as it began.
    let before = tokens.current();
    tokens.replace_keys(new.ring());
    assert_eq!(tokens.verify(token.expose(), DURING), Err(TokenError::UnknownKey));
    before.verified.insert(digest("late"), before.verified.get(&digest(token.expose())).unwrap());
    assert_eq!(tokens.verify("late", DURING), Err(TokenError::Malformed));
    tokens.verify(tokens.issue(&claims()).expose(), DURING).unwrap();
}

#[test]
fn a_time_that_cannot_be_written_gives_a_token_that_nobody_accepts() {
    let tokens = Pair::new().tokens();
    let token = tokens.issue(&AccessClaims { expires_at: utc_datetime!(-0001-01-01 0:00), ..claims() });
    assert_eq!(tokens.verify(token.expose(), DURING), Err(TokenError::Malformed));
}
