//! Whether the time of a refused sign-in tells which numbers have an account.
//!
//! One client presents a wrong password, in turns for a number that has an account and for one that has none. It is a stranger to
//! all of them, as whoever wants to know would be: it names a device that no account was opened from. Numbers come again
//! after all others, so that of both kinds the first failure and later ones are measured, and never so often that a lock stands before the
//! password.

use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use vestibule_meter::is_turn_of_first;

use crate::client::{Client, request};
use crate::figures::Figures;
use crate::people::{WRONG_PASSWORD, phone};

/// Numbers of each kind. From the first on, every other one has an account, so that the two kinds lie side by side in every index.
const NUMBERS: u32 = 512;
const FIRST: u32 = 600_000;

/// Failures that a number bears before a lock is in sight.
const FAILURES: u32 = 8;

/// How long is measured.
const SPAN: Duration = Duration::from_secs(50);

/// Refusals that are not counted, while caches fill and statements are prepared.
const WARM_UP: u32 = 32;

/// Those with an account, which nobody else may sign in to.
pub(crate) fn known() -> impl Iterator<Item = u32> {
    (FIRST..FIRST + 2 * NUMBERS).step_by(2)
}

/// Times how the two kinds are refused, and judges whether they are the same.
pub(crate) fn measure(figures: &mut Figures<impl Write>, address: SocketAddr) -> anyhow::Result<()> {
    let mut client = Client::connect(address)?;
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    let begun = Instant::now();
    for turn in 0..2 * FAILURES * NUMBERS {
        if begun.elapsed() >= SPAN {
            break;
        }
        let number = FIRST + 2 * (turn / 2 % NUMBERS);
        let (number, durations) =
            if is_turn_of_first(turn) { (number, &mut known) } else { (number + 1, &mut unknown) };
        let took = refuse(&mut client, number)?;
        if turn >= WARM_UP {
            durations.push(took);
        }
    }
    Ok(figures.alike("refused sign-ins", ["known", "unknown"], [known, unknown])?)
}

/// How long it takes to be refused.
fn refuse(client: &mut Client, number: u32) -> anyhow::Result<Duration> {
    let body = format!(
        r#"{{"grant_type":"mobile_phone","number":"{}","password":"{WRONG_PASSWORD}","fingerprint":"a stranger's"}}"#,
        phone(number)
    );
    let request = request("POST", "/oauth/token", None, &body);
    let sent = Instant::now();
    let answer = client.send(&request)?;
    let took = sent.elapsed();
    let body = String::from_utf8_lossy(answer.body);
    let is_refused = answer.status == 400 && body.contains(r#""WRONG_LOGIN_OR_PASSWORD_EXCEPTION""#);
    anyhow::ensure!(is_refused, "a wrong password was answered with {}: {body}", answer.status);
    Ok(took)
}
