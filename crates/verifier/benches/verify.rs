//! Verifications per second on one core. Every one checks the signature: the verifier remembers no tokens.

use std::hint::black_box;
use std::io::Write as _;
use std::time::{Duration, Instant};

use pasetors::keys::{AsymmetricKeyPair, Generate as _};
use pasetors::paserk::{FormatAsPaserk as _, Id};
use pasetors::version4::{PublicToken, V4};
use time::macros::utc_datetime;
use vestibule_verifier::{KeySet, Verifier};

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(1);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pair = AsymmetricKeyPair::<V4>::generate().map_err(|_| "no key")?;
    let (mut key, mut id) = (String::new(), String::new());
    pair.public.fmt(&mut key)?;
    Id::from(&pair.public).fmt(&mut id)?;
    // As the service writes it.
    let payload = br#"{"iss":"https://id.example.com","aud":"app","sub":"019ab0de-0000-7000-8000-000000000001","sid":"019ab0de-0000-7000-8000-000000000002","jti":"019ab0de-0000-7000-8000-000000000003","iat":"2026-03-01T12:00:00Z","nbf":"2026-03-01T12:00:00Z","exp":"2026-03-01T12:15:00Z","scope":"read write","kyc":"KYC_0"}"#;
    let footer = format!(r#"{{"kid":"{id}"}}"#);
    let token =
        PublicToken::sign(&pair.secret, payload, Some(footer.as_bytes()), None).map_err(|_| "no token")?;
    let verifier = Verifier::builder("https://id.example.com", "app").build(KeySet::from_paserk([&*key])?);
    let now = utc_datetime!(2026-03-01 12:07:00);
    verifier.verify(&token, now)?;

    let mut rates = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let (begun, mut done) = (Instant::now(), 0_u32);
        while begun.elapsed() < ROUND {
            black_box(verifier.verify(black_box(&token), now))?;
            done += 1;
        }
        rates.push(f64::from(done) / begun.elapsed().as_secs_f64());
    }
    rates.sort_by(f64::total_cmp);
    let [slowest, .., fastest] = rates.as_slice() else { return Ok(()) };
    let median = rates.get(ROUNDS / 2).unwrap_or(slowest);
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "verifications per second on one core: {median:.0} (of {ROUNDS} rounds, {slowest:.0} to {fastest:.0})"
    )?;
    Ok(())
}
