use std::sync::Arc;

use rstest::rstest;

use super::*;

/// As cheap as Argon2id gets.
const CHEAP: Settings = Settings { memory_kib: 8, iterations: 1, threads: 2, queue: 64 };

fn pool() -> Argon2Pool {
    Argon2Pool::new(CHEAP).unwrap()
}

fn password(text: &str) -> Password {
    Password::prepare(text).unwrap()
}

#[tokio::test]
async fn a_hash_is_a_phc_string_with_a_salt_of_its_own() {
    let pool = pool();
    let hash = pool.hash(password("correct horse")).await.unwrap();
    let again = pool.hash(password("correct horse")).await.unwrap();
    assert_ne!(hash.expose(), again.expose());
    let fields: Vec<_> = hash.expose().split('$').collect();
    assert_eq!(fields[..4], ["", "argon2id", "v=19", "m=8,t=1,p=1"]);
    // Base64 without padding: 16 and 32 bytes.
    assert_eq!((fields[4].len(), fields[5].len(), fields.len()), (22, 43, 6));
}

#[tokio::test]
async fn the_right_password_fits_and_a_wrong_one_does_not() {
    let pool = pool();
    let hash = pool.hash(password("correct horse")).await.unwrap();
    assert_eq!(pool.verify(password("correct horse"), Some(hash.clone())).await, Ok(true));
    assert_eq!(pool.verify(password("correct horsf"), Some(hash.clone())).await, Ok(false));
    assert_eq!(pool.verify(password("correct hors"), Some(hash)).await, Ok(false));
}

#[tokio::test]
async fn the_production_cost_works_and_reuses_its_memory() {
    let pool = Argon2Pool::new(Settings { memory_kib: 19_456, iterations: 2, threads: 1, queue: 4 }).unwrap();
    let hash = pool.hash(password("correct horse")).await.unwrap();
    assert!(hash.expose().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
    // The second computation runs on the blocks that the first one left dirty.
    assert_eq!(pool.verify(password("correct horse"), Some(hash.clone())).await, Ok(true));
    assert_eq!(pool.verify(password("wrong"), Some(hash)).await, Ok(false));
}

/// From the reference implementation's own tests (phc-winner-argon2, `src/test.c`, version 0x13, Argon2id).
#[rstest]
#[case("$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4")]
#[case("$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc")]
#[tokio::test]
async fn a_hash_of_the_reference_implementation_is_understood(#[case] hash: &str) {
    let pool = pool();
    assert_eq!(pool.verify(password("password"), Some(PasswordHash::new(hash.to_owned()))).await, Ok(true));
    assert_eq!(
        pool.verify(password("differentpassword"), Some(PasswordHash::new(hash.to_owned()))).await,
        Ok(false)
    );
}

#[tokio::test]
async fn a_changed_salt_or_tag_does_not_fit() {
    let pool = pool();
    let hash = pool.hash(password("correct horse")).await.unwrap();
    for field in [4, 5] {
        let mut fields: Vec<_> = hash.expose().split('$').map(str::to_owned).collect();
        let first = if fields[field].starts_with('A') { "B" } else { "A" };
        fields[field].replace_range(..1, first);
        let tampered = PasswordHash::new(fields.join("$"));
        assert_eq!(pool.verify(password("correct horse"), Some(tampered)).await, Ok(false));
    }
}

#[rstest]
#[case::empty("")]
#[case::no_phc("correct horse")]
#[case::bcrypt("$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW")]
#[case::argon2i("$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4")]
#[case::argon2d("$argon2d$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4")]
#[case::old_version("$argon2id$v=16$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4")]
#[case::no_version("$argon2id$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4")]
#[case::no_tag("$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ")]
#[case::no_salt("$argon2id$v=19$m=256,t=2,p=1")]
#[case::no_costs("$argon2id$v=19$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4")]
#[case::cost_missing("$argon2id$v=19$m=256,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4")]
#[case::unknown_key(
    "$argon2id$v=19$m=256,t=2,p=1,keyid=AAAA$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"
)]
#[case::negative("$argon2id$v=19$m=-256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4")]
#[case::salt_too_short("$argon2id$v=19$m=256,t=2,p=1$c29t$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4")]
#[case::tag_too_short("$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIP")]
#[case::trailing("$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4$")]
#[case::memory("$argon2id$v=19$m=4294967295,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4")]
#[case::memory_just_beyond(
    "$argon2id$v=19$m=65537,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"
)]
#[case::memory_too_little(
    "$argon2id$v=19$m=7,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"
)]
#[case::iterations("$argon2id$v=19$m=256,t=17,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4")]
#[case::no_iterations("$argon2id$v=19$m=256,t=0,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4")]
#[case::lanes("$argon2id$v=19$m=256,t=2,p=5$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4")]
#[case::no_lanes("$argon2id$v=19$m=256,t=2,p=0$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4")]
#[case::lanes_overflow(
    "$argon2id$v=19$m=256,t=2,p=4294967295$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"
)]
#[case::beyond_32_bits(
    "$argon2id$v=19$m=256,t=2,p=4294967297$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"
)]
#[tokio::test]
async fn a_hash_that_is_not_ours_is_refused_without_computing(#[case] hash: &str) {
    let Err(refusal) = StoredHash::parse(hash, stored::max_memory_kib(CHEAP.memory_kib)) else {
        panic!("taken: {hash}");
    };
    let told = pool().verify(password("password"), Some(PasswordHash::new(hash.to_owned()))).await;
    assert_eq!(told, Err(HashError::Unavailable(refusal.to_string())));
}

#[tokio::test]
async fn an_endless_hash_is_refused_unread() {
    let hash = format!("$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ${}", "A".repeat(1_000_000));
    let told = pool().verify(password("password"), Some(PasswordHash::new(hash))).await;
    assert!(matches!(told, Err(HashError::Unavailable(_))));
}

#[test]
fn a_refusal_does_not_repeat_the_hash() {
    let refusal = StoredHash::parse("$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$AAAA", 256).unwrap_err();
    assert!(!refusal.to_string().contains("c29tZXNhbHQ"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_get_each_their_own_answer() {
    let pool = Arc::new(pool());
    let tasks: Vec<_> = (0..48)
        .map(|n| {
            let pool = Arc::clone(&pool);
            tokio::spawn(async move {
                let own = format!("password number {n}");
                let hash = pool.hash(password(&own)).await.unwrap();
                let right = pool.verify(password(&own), Some(hash.clone())).await.unwrap();
                let wrong = pool.verify(password("password number x"), Some(hash)).await.unwrap();
                (right, wrong)
            })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), (true, false));
    }
}

#[rstest]
#[case::memory_low(Settings { memory_kib: 7, ..CHEAP }, "8 to 4194304 KiB, not 7")]
#[case::memory_high(Settings { memory_kib: u32::MAX, ..CHEAP }, "8 to 4194304 KiB")]
#[case::no_iterations(Settings { iterations: 0, ..CHEAP }, "iterations")]
#[case::iterations_high(Settings { iterations: 17, ..CHEAP }, "not 17")]
#[case::no_threads(Settings { threads: 0, ..CHEAP }, "threads")]
#[case::threads_high(Settings { threads: 1025, ..CHEAP }, "not 1025")]
#[case::no_queue(Settings { queue: 0, ..CHEAP }, "queue")]
fn settings_that_make_no_sense_are_refused(#[case] settings: Settings, #[case] says: &str) {
    let refusal = Argon2Pool::new(settings).unwrap_err().to_string();
    assert!(refusal.contains(says), "{refusal}");
}

#[tokio::test]
async fn no_hash_is_met_by_no_password() {
    assert_eq!(pool().verify(password("correct horse"), None).await, Ok(false));
}

#[test]
fn no_hash_costs_what_a_new_one_costs() {
    let pool = pool();
    let stored = StoredHash::parse(pool.nobodys.expose(), pool.max_memory_kib).unwrap();
    assert!(stored.costs_as(&pool.params));
    assert_eq!((stored.salt(), stored.tag()), ([0; SALT_LENGTH].as_slice(), [0; TAG_LENGTH].as_slice()));
}

#[tokio::test]
async fn a_hash_of_other_costs_is_outdated() {
    let pool = pool();
    let hash = pool.hash(password("correct horse")).await.unwrap();
    assert!(!pool.is_outdated(&hash));
    let dearer = hash.expose().replace("t=1", "t=2");
    assert_ne!(dearer, hash.expose());
    assert!(pool.is_outdated(&PasswordHash::new(dearer)));
    assert!(!pool.is_outdated(&PasswordHash::new("nonsense".to_owned())));
}
