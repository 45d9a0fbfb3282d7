//! Every way in which a token may be no good, each with the answer that is due.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure fails the test")]

mod issuer;

use std::time::{Duration, Instant};

use issuer::{Issuer, builder, claims};
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};
use time::UtcDateTime;
use time::macros::utc_datetime;
use vestibule_verifier::{KeySet, KycLevel, MAX_LEEWAY, MAX_TOKEN_LENGTH, Refusal, Uuid};

const ISSUED: UtcDateTime = utc_datetime!(2026-03-01 12:00:00);
const DURING: UtcDateTime = utc_datetime!(2026-03-01 12:07:00);
const EXPIRES: UtcDateTime = utc_datetime!(2026-03-01 12:15:00);
const SECOND: time::Duration = time::Duration::SECOND;

/// The alphabet of base64url.
const DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// What becomes of these claims, genuinely signed.
fn verdict(claims: &Value) -> Result<(), Refusal> {
    let issuer = Issuer::new();
    issuer.verifier().verify(&issuer.sign(claims), DURING).map(drop)
}

/// Good claims with another value for one of them.
fn with(claim: &str, value: Value) -> Value {
    let mut claims = claims(ISSUED);
    claims[claim] = value;
    claims
}

#[test]
fn a_good_token_says_who_its_bearer_is() {
    let issuer = Issuer::new();
    let token = issuer.sign(&with("kyc", json!("KYC_0")));
    let claims = issuer.verifier().verify(&token, DURING).unwrap();
    let ids = [claims.user_id, claims.session_id, claims.token_id];
    assert_eq!(ids, [1, 2, 3].map(Uuid::from_u128));
    assert_eq!((claims.issued_at, claims.expires_at), (ISSUED, EXPIRES));
    assert_eq!(claims.kyc, KycLevel::KYC_0);
    assert_eq!(claims.scopes().collect::<Vec<_>>(), ["read", "write"]);
}

#[test]
fn what_a_later_service_adds_disturbs_nobody() {
    let issuer = Issuer::new();
    let mut claims = with("kyc", json!("KYC_3"));
    claims["new"] = json!({ "deep": [1, 2] });
    let footer = json!({ "kid": issuer.id, "new": true }).to_string();
    let token = issuer.sign_bytes(claims.to_string().as_bytes(), footer.as_bytes());
    let verifier = builder().require_kyc(KycLevel::KYC_0).build(issuer.keys());
    assert_eq!(verifier.verify(&token, DURING).unwrap().kyc, KycLevel::parse("KYC_3").unwrap());
}

#[rstest]
#[case::before(Duration::ZERO, ISSUED - SECOND / 1000, Err(Refusal::NotYetValid))]
#[case::first(Duration::ZERO, ISSUED, Ok(()))]
#[case::last(Duration::ZERO, EXPIRES - SECOND / 1000, Ok(()))]
#[case::end(Duration::ZERO, EXPIRES, Err(Refusal::Expired))]
#[case::a_little_fast(Duration::from_secs(30), ISSUED - SECOND * 30, Ok(()))]
#[case::too_fast(Duration::from_secs(30), ISSUED - SECOND * 31, Err(Refusal::NotYetValid))]
#[case::a_little_slow(Duration::from_secs(30), EXPIRES + SECOND * 29, Ok(()))]
#[case::too_slow(Duration::from_secs(30), EXPIRES + SECOND * 30, Err(Refusal::Expired))]
#[case::leeway_has_a_limit(Duration::MAX, EXPIRES + MAX_LEEWAY, Err(Refusal::Expired))]
#[case::the_limit_itself(Duration::MAX, EXPIRES + MAX_LEEWAY - SECOND, Ok(()))]
#[case::long_after(Duration::ZERO, UtcDateTime::MAX, Err(Refusal::Expired))]
#[case::long_before(Duration::ZERO, UtcDateTime::MIN, Err(Refusal::NotYetValid))]
fn a_token_holds_in_its_time(
    #[case] leeway: Duration,
    #[case] now: UtcDateTime,
    #[case] expected: Result<(), Refusal>,
) {
    let issuer = Issuer::new();
    let verifier = builder().leeway(leeway).build(issuer.keys());
    assert_eq!(verifier.verify(&issuer.sign(&claims(ISSUED)), now).map(drop), expected);
}

#[test]
fn the_usual_leeway_is_half_a_minute() {
    let issuer = Issuer::new();
    let (verifier, token) = (issuer.verifier(), issuer.sign(&claims(ISSUED)));
    assert!(verifier.verify(&token, EXPIRES + SECOND * 29).is_ok());
    assert_eq!(verifier.verify(&token, EXPIRES + SECOND * 30), Err(Refusal::Expired));
}

#[test]
fn now_is_the_systems_clock() {
    let issuer = Issuer::new();
    #[expect(clippy::disallowed_methods, reason = "it is the system's clock that is tested")]
    let now = UtcDateTime::now();
    let verdict = |issued| issuer.verifier().verify_now(&issuer.sign(&claims(issued))).map(drop);
    assert_eq!(verdict(now), Ok(()));
    assert_eq!(verdict(now - SECOND * 3600), Err(Refusal::Expired));
    assert_eq!(verdict(now + SECOND * 3600), Err(Refusal::NotYetValid));
}

#[rstest]
fn the_later_of_iat_and_nbf_counts(#[values("iat", "nbf")] claim: &str) {
    assert_eq!(verdict(&with(claim, json!("2026-03-01T12:10:00Z"))), Err(Refusal::NotYetValid));
}

#[rstest]
#[case::first_year("0000-01-01T00:00:00Z", Err(Refusal::Expired))]
#[case::last_year("9999-12-31T23:59:59Z", Ok(()))]
#[case::last_moment_anywhere("9999-12-31T23:59:59-23:59", Err(Refusal::BadClaims))]
#[case::before_the_first("0000-01-01T00:00:00+23:59", Err(Refusal::Expired))]
#[case::five_digits("10000-01-01T00:00:00Z", Err(Refusal::BadClaims))]
#[case::negative("-0001-01-01T00:00:00Z", Err(Refusal::BadClaims))]
fn absurd_years_of_expiry(#[case] exp: &str, #[case] expected: Result<(), Refusal>) {
    assert_eq!(verdict(&with("exp", json!(exp))), expected);
}

#[test]
fn another_issuer() {
    for other in ["https://id.example.com.evil", "https://id.example.com/", "HTTPS://ID.EXAMPLE.COM", ""] {
        assert_eq!(verdict(&with("iss", json!(other))), Err(Refusal::WrongIssuer), "{other}");
    }
}

#[test]
fn another_audience() {
    for other in ["other", "APP", "app ", ""] {
        assert_eq!(verdict(&with("aud", json!(other))), Err(Refusal::WrongAudience), "{other}");
    }
}

#[rstest]
fn a_claim_is_missing(
    #[values("iss", "aud", "sub", "sid", "jti", "iat", "nbf", "exp", "scope", "kyc")] claim: &str,
) {
    let mut claims = claims(ISSUED);
    assert_eq!(verdict(&claims), Ok(()));
    claims.as_object_mut().unwrap().remove(claim).unwrap();
    assert_eq!(verdict(&claims), Err(Refusal::BadClaims));
}

#[rstest]
fn a_claim_is_doubled(
    #[values("iss", "aud", "sub", "sid", "jti", "iat", "nbf", "exp", "scope", "kyc")] claim: &str,
) {
    let issuer = Issuer::new();
    let claims = claims(ISSUED);
    let doubled = claims.to_string().replacen('{', &format!(r#"{{"{claim}":{},"#, claims[claim]), 1);
    let token = issuer.sign_bytes(doubled.as_bytes(), issuer.footer().as_bytes());
    assert_eq!(issuer.verifier().verify(&token, DURING), Err(Refusal::BadClaims));
}

#[rstest]
#[case::expiry_a_number("exp", json!(4_102_444_800_u64))]
#[case::expiry_no_time("exp", json!("tomorrow"))]
#[case::expiry_null("exp", json!(null))]
#[case::not_before_empty("nbf", json!(""))]
#[case::no_offset("iat", json!("2026-03-01T12:00:00"))]
#[case::audience_list("aud", json!(["app"]))]
#[case::subject_no_uuid("sub", json!("admin"))]
#[case::session_null("sid", json!(null))]
#[case::scope_list("scope", json!(["read"]))]
#[case::unknown_level("kyc", json!("VIP"))]
fn a_claim_makes_no_sense(#[case] claim: &str, #[case] value: Value) {
    assert_eq!(verdict(&with(claim, value)), Err(Refusal::BadClaims));
}

#[rstest]
#[case::no_json(b"hello".as_slice(), Refusal::BadClaims)]
#[case::no_object(b"[]", Refusal::BadClaims)]
#[case::deep(&[b'['; 700], Refusal::BadClaims)]
#[case::no_utf8(b"\xff\xfe", Refusal::BadSignature)]
fn a_signed_payload_is_no_claims(#[case] payload: &[u8], #[case] refusal: Refusal) {
    let issuer = Issuer::new();
    let token = issuer.sign_bytes(payload, issuer.footer().as_bytes());
    assert_eq!(issuer.verifier().verify(&token, DURING), Err(refusal));
}

#[test]
fn an_unknown_key() {
    let (ours, stranger) = (Issuer::new(), Issuer::new());
    let token = stranger.sign(&claims(ISSUED));
    assert_eq!(ours.verifier().verify(&token, DURING), Err(Refusal::UnknownKey));
}

#[test]
fn a_stranger_who_names_our_key() {
    let (ours, stranger) = (Issuer::new(), Issuer::new());
    let token = stranger.sign_bytes(claims(ISSUED).to_string().as_bytes(), ours.footer().as_bytes());
    assert_eq!(ours.verifier().verify(&token, DURING), Err(Refusal::BadSignature));
}

#[test]
fn the_footer_names_another_key_of_the_set() {
    let (one, other) = (Issuer::new(), Issuer::new());
    let verifier = builder().build(KeySet::from_paserk([&*one.key, &*other.key]).unwrap());
    for issuer in [&one, &other] {
        assert!(verifier.verify(&issuer.sign(&claims(ISSUED)), DURING).is_ok());
    }
    let crossed = one.sign_bytes(claims(ISSUED).to_string().as_bytes(), other.footer().as_bytes());
    assert_eq!(verifier.verify(&crossed, DURING), Err(Refusal::BadSignature));
}

/// The four parts of a token.
fn parts(token: &str) -> [&str; 4] {
    token.split('.').collect::<Vec<_>>().try_into().unwrap()
}

#[test]
fn the_payload_is_another_tokens() {
    let issuer = Issuer::new();
    let (low, high) = (issuer.sign(&claims(ISSUED)), issuer.sign(&with("kyc", json!("KYC_0"))));
    // The signature of one is the last 64 bytes of its third part, which are no whole digits; so take two of one length.
    let other = issuer.sign(&with("sub", json!(Uuid::from_u128(9))));
    let (mine, theirs) = (parts(&low)[2], parts(&other)[2]);
    assert_eq!(mine.len(), theirs.len());
    let payload = mine.len() - 88;
    let altered = low.replacen(&mine[..payload], &theirs[..payload], 1);
    assert_ne!(altered, low);
    for token in [&low, &high, &other] {
        assert!(issuer.verifier().verify(token, DURING).is_ok());
    }
    assert_eq!(issuer.verifier().verify(&altered, DURING), Err(Refusal::BadSignature));
}

#[test]
fn the_footer_was_altered_after_signing() {
    let issuer = Issuer::new();
    let payload = claims(ISSUED).to_string();
    let signed = issuer.sign_bytes(payload.as_bytes(), issuer.footer().as_bytes());
    let spaced = format!(r#"{{"kid": "{}"}}"#, issuer.id);
    let with_space = issuer.sign_bytes(payload.as_bytes(), spaced.as_bytes());
    let altered = signed.replacen(parts(&signed)[3], parts(&with_space)[3], 1);
    assert!(issuer.verifier().verify(&signed, DURING).is_ok());
    assert_eq!(issuer.verifier().verify(&altered, DURING), Err(Refusal::BadSignature));
}

#[rstest]
#[case::no_json(b"hello".as_slice())]
#[case::no_object(b"[]")]
#[case::no_kid(b"{}")]
#[case::kid_a_number(br#"{"kid":1}"#)]
#[case::kid_doubled(br#"{"kid":"a","kid":"a"}"#)]
#[case::bare_kid(b"k4.pid.AAAA")]
#[case::no_utf8(b"{\"kid\":\"\xff\"}")]
fn the_footer_names_no_key(#[case] footer: &[u8]) {
    let issuer = Issuer::new();
    let token = issuer.sign_bytes(claims(ISSUED).to_string().as_bytes(), footer);
    assert_eq!(issuer.verifier().verify(&token, DURING), Err(Refusal::Malformed));
}

#[rstest]
#[case::cut_off("")]
#[case::empty(".")]
#[case::another_dot("..")]
fn the_footer_is_missing(#[case] instead: &str) {
    let issuer = Issuer::new();
    let token = issuer.sign(&claims(ISSUED));
    let footer = format!(".{}", parts(&token)[3]);
    let token = token.replacen(&footer, instead, 1);
    assert_eq!(issuer.verifier().verify(&token, DURING), Err(Refusal::Malformed));
}

#[rstest]
#[case::one(".")]
#[case::two("..")]
#[case::a_part(".e30")]
#[case::padding("=")]
#[case::space(" ")]
#[case::new_line("\n")]
#[case::nothing_visible("\0")]
fn something_follows(#[case] tail: &str) {
    let issuer = Issuer::new();
    let token = issuer.sign(&claims(ISSUED)) + tail;
    assert_eq!(issuer.verifier().verify(&token, DURING), Err(Refusal::Malformed));
}

/// The tail of a good token under another head.
#[rstest]
#[case::another_purpose("v4.local.")]
#[case::version_1("v1.public.")]
#[case::version_2("v2.public.")]
#[case::version_3("v3.public.")]
#[case::version_5("v5.public.")]
#[case::no_algorithm("v4.none.")]
#[case::no_purpose("v4..")]
#[case::no_version(".public.")]
#[case::none_at_all("none.none.")]
#[case::upper_case("V4.PUBLIC.")]
#[case::nothing("")]
#[case::space(" v4.public.")]
#[case::scheme("Bearer v4.public.")]
fn another_head(#[case] head: &str) {
    let issuer = Issuer::new();
    let token = issuer.sign(&claims(ISSUED)).replacen("v4.public.", head, 1);
    assert_eq!(issuer.verifier().verify(&token, DURING), Err(Refusal::NotV4Public));
}

#[rstest]
#[case::nothing("", Refusal::NotV4Public)]
#[case::jwt_without_algorithm("eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.", Refusal::NotV4Public)]
#[case::head_only("v4.public.", Refusal::Malformed)]
#[case::empty_parts("v4.public..", Refusal::Malformed)]
#[case::short("v4.public.AAAA.e30", Refusal::Malformed)]
#[case::no_base64("v4.public.!!!!.e30", Refusal::Malformed)]
#[case::the_other_base64("v4.public.++//.e30", Refusal::Malformed)]
#[case::multibyte("v4.public.ä\u{10ffff}\0", Refusal::Malformed)]
fn no_token_at_all(#[case] token: &str, #[case] refusal: Refusal) {
    assert_eq!(Issuer::new().verifier().verify(token, DURING), Err(refusal));
}

/// No signature, however it is left out.
#[rstest]
fn no_signature(#[values(vec![], vec![0; 64])] signature: Vec<u8>) {
    let issuer = Issuer::new();
    let genuine = issuer.sign(&claims(ISSUED));
    // Signatures by nobody: none, and one of zeros, of which an Ed25519 without checks could think well.
    let payload = claims(ISSUED).to_string();
    let message = [payload.as_bytes(), &signature].concat();
    let token = format!("v4.public.{}.{}", base64(&message), parts(&genuine)[3]);
    assert_eq!(issuer.verifier().verify(&token, DURING), Err(Refusal::BadSignature));
}

/// Keys for which an Ed25519 without checks could accept signatures by anybody.
#[test]
fn weak_keys_verify_nothing() {
    let stranger = Issuer::new();
    for first in [0_u8, 1] {
        let mut bytes = [0; 32];
        bytes[0] = first;
        let keys = KeySet::from_paserk([&*format!("k4.public.{}", base64(&bytes))]).unwrap();
        let footer = json!({ "kid": keys.ids().next().unwrap() }).to_string();
        let payload = claims(ISSUED).to_string();
        let mut signature = [0; 64];
        signature[0] = first;
        let forged = [payload.as_bytes(), &signature].concat();
        let forged = format!("v4.public.{}.{}", base64(&forged), base64(footer.as_bytes()));
        let signed = stranger.sign_bytes(payload.as_bytes(), footer.as_bytes());
        let verifier = builder().build(keys);
        for token in [forged, signed] {
            assert_eq!(verifier.verify(&token, DURING), Err(Refusal::BadSignature));
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, bytes)
}

#[test]
fn a_megabyte_is_refused_before_it_is_looked_at() {
    let verifier = Issuer::new().verifier();
    let token = format!("v4.public.{}.e30", "A".repeat(1_000_000));
    let begun = Instant::now();
    for _ in 0..1000 {
        assert_eq!(verifier.verify(&token, DURING), Err(Refusal::TooLong));
    }
    // A thousand times decoding it would take seconds.
    assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
}

#[test]
fn the_longest_token() {
    let issuer = Issuer::new();
    let length = |padding| issuer.sign(&with("padding", json!("x".repeat(padding)))).len();
    let longest = (0..2048).take_while(|padding| length(*padding) <= MAX_TOKEN_LENGTH).last().unwrap();
    let verdict = |padding| verdict(&with("padding", json!("x".repeat(padding))));
    assert_eq!(verdict(longest), Ok(()));
    assert_eq!(verdict(longest + 1), Err(Refusal::TooLong));
}

#[rstest]
#[case::none_needed(&[], Ok(()))]
#[case::one(&["read"], Ok(()))]
#[case::all(&["write", "read"], Ok(()))]
#[case::another(&["read", "admin"], Err(Refusal::InsufficientScope))]
#[case::a_part_of_a_word(&["rea"], Err(Refusal::InsufficientScope))]
#[case::two_words_in_one(&["read write"], Err(Refusal::InsufficientScope))]
#[case::nothing(&[""], Err(Refusal::InsufficientScope))]
fn the_scope_must_suffice(#[case] scopes: &[&str], #[case] expected: Result<(), Refusal>) {
    let issuer = Issuer::new();
    let verifier = scopes.iter().fold(builder(), |builder, scope| builder.require_scope(*scope));
    let verifier = verifier.build(issuer.keys());
    assert_eq!(verifier.verify(&issuer.sign(&claims(ISSUED)), DURING).map(drop), expected);
}

#[test]
fn the_level_must_suffice() {
    let issuer = Issuer::new();
    let verifier = builder().require_kyc(KycLevel::KYC_0).build(issuer.keys());
    let verdict = |level| verifier.verify(&issuer.sign(&with("kyc", json!(level))), DURING).map(drop);
    assert_eq!(verdict("NONE"), Err(Refusal::InsufficientKyc));
    assert_eq!(verdict("KYC_0"), Ok(()));
}

/// Digits whose last bits carry nothing must not be exchangeable, or one token would have several forms.
#[test]
fn no_digit_at_the_end_of_a_part_may_be_another() {
    let issuer = Issuer::new();
    let verifier = issuer.verifier();
    let token = issuer.sign(&claims(ISSUED));
    let ends = [token.rfind('.').unwrap() - 1, token.len() - 1];
    for end in ends {
        for digit in DIGITS.chars().filter(|digit| !token[end..].starts_with(*digit)) {
            let mut altered = token.clone();
            altered.replace_range(end..=end, digit.encode_utf8(&mut [0; 4]));
            assert!(verifier.verify(&altered, DURING).is_err(), "{digit} at {end}");
        }
    }
}

proptest! {
    #[test]
    fn one_byte_altered_anywhere(at in any::<prop::sample::Index>(), other in 0_u8..128) {
        let issuer = Issuer::new();
        let token = issuer.sign(&claims(ISSUED));
        let mut altered = token.clone().into_bytes();
        let at = at.index(altered.len());
        prop_assume!(altered[at] != other);
        altered[at] = other;
        let altered = String::from_utf8(altered).unwrap();
        prop_assert!(issuer.verifier().verify(&altered, DURING).is_err());
        prop_assert!(issuer.verifier().verify(&token, DURING).is_ok());
    }

    #[test]
    fn one_byte_left_out_or_put_in_anywhere(at in any::<prop::sample::Index>(), new in 0_u8..128) {
        let issuer = Issuer::new();
        let token = issuer.sign(&claims(ISSUED));
        let at = at.index(token.len());
        let (mut longer, mut shorter) = (token.clone(), token.clone());
        longer.insert(at, char::from(new));
        shorter.remove(at);
        prop_assert!(issuer.verifier().verify(&longer, DURING).is_err());
        prop_assert!(issuer.verifier().verify(&shorter, DURING).is_err());
    }

    #[test]
    fn any_text_at_all_is_refused_without_a_panic(text in ".*", head in prop::bool::ANY) {
        let token = if head { format!("v4.public.{text}") } else { text };
        prop_assert!(Issuer::new().verifier().verify(&token, DURING).is_err());
    }
}
