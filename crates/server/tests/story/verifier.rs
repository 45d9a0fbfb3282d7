//! The tokens of the running service, and the keys that it publishes, in the hands of another service.

use rstest::rstest;
use vestibule_verifier::{KycLevel, Refusal, RemoteKeys, Verifier};

use crate::harness::{Database, World};
use crate::{PHONE, text};

#[rstest]
#[case::sqlite(Database::Sqlite)]
#[case::postgres(Database::Postgres)]
#[tokio::test(flavor = "multi_thread")]
async fn another_service_knows_who_comes_even_when_this_one_has_gone(#[case] database: Database) {
    let world = World::new(database).await;
    let service = world.start();
    service.sign_up(PHONE).await;
    let confirmed = service.confirm(PHONE, &world.code(PHONE).await).await;
    let (token, user) = (text(&confirmed, "access_token"), text(&confirmed, "userId"));

    let keys = RemoteKeys::start(format!("{}/.well-known/paseto-keys", service.url)).unwrap();
    keys.ready().await;
    let issuer = service.url.clone();
    service.stop();

    let verifier = Verifier::builder(&issuer, &issuer).require_scope("read").build(keys.clone());
    let claims = verifier.verify_now(&token).unwrap();
    assert_eq!(claims.user_id.to_string(), user);
    assert_eq!(claims.kyc, KycLevel::NONE);
    assert_eq!(claims.scopes().collect::<Vec<_>>(), ["read", "write"]);

    let refusal = |verifier: Verifier| verifier.verify_now(&token).unwrap_err();
    let strict = Verifier::builder(&issuer, &issuer).require_kyc(KycLevel::KYC_0);
    assert_eq!(refusal(strict.build(keys.clone())), Refusal::InsufficientKyc);
    assert_eq!(refusal(Verifier::builder("another", &issuer).build(keys.clone())), Refusal::WrongIssuer);
    assert_eq!(refusal(Verifier::builder(&issuer, "another").build(keys)), Refusal::WrongAudience);
}
