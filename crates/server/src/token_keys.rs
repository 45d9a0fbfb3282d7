//! The keys that sign access tokens: `vestibule keys`, which makes their file and the other one too, and instances that notice a change.

use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use time::UtcDateTime;
use time::format_description::well_known::Rfc3339;
use vestibule_paseto::{
    KeyChangeError, KeyFileError, KeyFileWatch, KeyRing, PasetoTokens, Rotated, Rotation,
};
use vestibule_port_security::{AccessTokens as _, Clock};

use crate::config::Config;
use crate::follow::{LOOK_EVERY, follow};
use crate::keys;
use crate::machine::{SystemClock, SystemEntropy};

/// For how much longer than its last token an old key verifies: clocks differ, and an instance may notice late that it is to
/// sign with another.
const MARGIN: Duration = Duration::from_mins(5);

/// A shorter delay is told to be short. Whoever checks tokens may keep the published keys for five minutes, after an
/// instance has noticed.
const SHORT_DELAY: Duration = Duration::from_mins(6);

/// A longer delay is a slip of the pen.
const LONGEST_DELAY: Duration = Duration::from_hours(24 * 365);

/// What to do with the keys.
#[derive(clap::Subcommand)]
pub(crate) enum Keys {
    /// Make the key files of a new installation. One that is there already is left as it is.
    Init,
    /// Show the keys and what each of them does now. No secret is shown.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Add a new key. It is published at once and signs after the delay; the old one verifies until its last token has expired.
    Rotate {
        /// Until the new key signs, as `90s`, `15m`, `1h` or `2d`: so long that every instance has the file by then, and
        /// nobody who checks tokens has older keys.
        #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_delay)]
        delay: Duration,
    },
    /// Take a key out at once: its tokens are refused from then on. A key that has not signed yet does not take over.
    Retire {
        /// Its identifier, as `vestibule keys list` shows it.
        id: String,
    },
}

impl Keys {
    pub(crate) fn run(&self, config: &Config) -> anyhow::Result<()> {
        let now = SystemClock.now();
        let done = match self {
            Self::Init => return init(config),
            Self::List { json } => list(config, now, *json),
            Self::Rotate { delay } => rotate(config, now, *delay),
            Self::Retire { id } => retire(config, now, id),
        };
        done.map_err(|error| explain(config, error))
    }
}

/// An error about the token key file, with its name and what to do where it is missing.
pub(crate) fn explain(config: &Config, error: impl Into<anyhow::Error>) -> anyhow::Error {
    let error = error.into();
    let of_file = match error.downcast_ref() {
        Some(KeyChangeError::File(of_file)) => Some(of_file),
        _ => error.downcast_ref(),
    };
    let key = format!("secrets.token_key_file: {}", config.token_key_file().display());
    match of_file {
        Some(KeyFileError::Read { source }) if source.kind() == ErrorKind::NotFound => {
            anyhow::anyhow!("{key}: {}", keys::MISSING)
        }
        _ => error.context(key),
    }
}

fn init(config: &Config) -> anyhow::Result<()> {
    let (master, token) = (config.master_key_file(), config.token_key_file());
    let mut out = std::io::stdout().lock();
    let made = keys::generate(&master, &SystemEntropy).context("secrets.master_key_file")?;
    tell_made(&mut out, &master, made)?;
    keys::load(&master).context("secrets.master_key_file")?;
    let made = KeyRing::make_file(&token).map_err(|error| explain(config, error))?;
    tell_made(&mut out, &token, made)?;
    KeyRing::load(&token).map_err(|error| explain(config, error))?;
    writeln!(
        out,
        "Back both up, apart from the database, and give them to every instance. `numbers` in {} can never be replaced: used phone \
         numbers are known by it, and no database can be used without the one that it began with.",
        master.display()
    )?;
    Ok(())
}

fn tell_made(out: &mut impl std::io::Write, path: &Path, made: bool) -> std::io::Result<()> {
    let what = if made { "is made" } else { "is there already, and is left as it is" };
    writeln!(out, "{}  {what}", path.display())
}

fn list(config: &Config, now: UtcDateTime, json: bool) -> anyhow::Result<()> {
    let states = KeyRing::load(&config.token_key_file())?.states(now);
    let mut out = std::io::stdout().lock();
    if json {
        let states: Vec<_> = states
            .iter()
            .map(|state| {
                serde_json::json!({
                    "kid": state.id,
                    "duty": state.duty.as_str(),
                    "from": state.from.map(rfc3339),
                    "until": state.until.map(rfc3339),
                })
            })
            .collect();
        writeln!(out, "{}", serde_json::json!({ "keys": states }))?;
        return Ok(());
    }
    let time = |time: Option<UtcDateTime>| time.map_or_else(|| "-".to_owned(), rfc3339);
    writeln!(out, "{:<51}  {:<9}  {:<20}  VERIFIES UNTIL", "KEY", "NOW", "SIGNS FROM")?;
    for state in states {
        let (from, until) = (time(state.from), time(state.until));
        writeln!(out, "{:<51}  {:<9}  {from:<20}  {until}", state.id, state.duty.as_str())?;
    }
    Ok(())
}

fn rotate(config: &Config, now: UtcDateTime, delay: Duration) -> anyhow::Result<()> {
    let keep = Duration::from_secs(config.tokens.access_ttl_seconds) + MARGIN;
    let rotation = Rotation { now, delay, keep };
    let Rotated { new, old, from, until, dropped } =
        vestibule_paseto::rotate(&config.token_key_file(), &rotation)?;
    let (from, until) = (rfc3339(from), rfc3339(until));
    let mut out = std::io::stdout().lock();
    writeln!(out, "{new}  is published from now on, and signs from {from}")?;
    writeln!(out, "{old}  signs until then, and verifies until {until}")?;
    tell_dropped(&mut out, &dropped)?;
    writeln!(
        out,
        "Instances notice within {} seconds. Those on other machines need the file before the new key signs.",
        LOOK_EVERY.as_secs()
    )?;
    if delay < SHORT_DELAY {
        writeln!(
            out,
            "The delay is short: whoever has the published keys from before, or an instance without the new file, may refuse new tokens for a while."
        )?;
    }
    Ok(())
}

fn retire(config: &Config, now: UtcDateTime, id: &str) -> anyhow::Result<()> {
    let dropped = vestibule_paseto::retire(&config.token_key_file(), id, now)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{id}  is retired: its tokens are refused by every instance that has the changed file")?;
    tell_dropped(&mut out, &dropped)?;
    Ok(())
}

fn tell_dropped(out: &mut impl std::io::Write, dropped: &[String]) -> std::io::Result<()> {
    dropped.iter().try_for_each(|id| writeln!(out, "{id}  had ended and is no longer in the file"))
}

/// A time as the key file has it. It comes from there, where nothing stands that cannot be written.
fn rfc3339(time: UtcDateTime) -> String {
    time.format(&Rfc3339).unwrap_or_default()
}

fn parse_delay(text: &str) -> Result<Duration, &'static str> {
    const EXPECTED: &str = "expected a number and `s`, `m`, `h` or `d`, at most 365d";
    let unit = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 86_400,
        _ => return Err(EXPECTED),
    };
    let number = text.get(..text.len() - 1).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let seconds =
        number.and_then(|digits| digits.parse::<u64>().ok()).and_then(|number| number.checked_mul(unit));
    seconds.map(Duration::from_secs).filter(|delay| *delay <= LONGEST_DELAY).ok_or(EXPECTED)
}

/// Lets a running instance take over the keys of a file that has changed.
pub(crate) struct FollowKeys {
    pub(crate) tokens: Arc<PasetoTokens>,
    pub(crate) watch: KeyFileWatch,
    pub(crate) clock: Arc<dyn Clock>,
}

impl FollowKeys {
    /// Does not end.
    pub(crate) async fn run(mut self) {
        follow("the token key file", move || self.look()).await;
    }

    fn look(&mut self) {
        match self.watch.look() {
            Ok(None) => {}
            Ok(Some(keys)) => {
                self.tokens.replace_keys(keys);
                let keys = self.tokens.public_keys(self.clock.now());
                let signing = keys.iter().find(|key| key.active).map(|key| &key.id);
                let published: Vec<_> = keys.iter().map(|key| &key.id).collect();
                tracing::info!(?signing, ?published, "the token keys have changed");
            }
            Err(error) => {
                let error = format!("{:#}", anyhow::Error::new(error));
                tracing::error!(error, "the changed token key file is of no use; the keys from before stay");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rstest::rstest;

    use super::*;

    #[test]
    fn a_running_instance_follows_the_file_and_ignores_a_broken_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token.keys");
        KeyRing::generate_file(&path).unwrap();
        let (keys, watch) = KeyFileWatch::open(&path).unwrap();
        let tokens = Arc::new(PasetoTokens::new(keys, "issuer".to_owned(), "audience".to_owned()));
        let mut follow = FollowKeys { tokens: Arc::clone(&tokens), watch, clock: Arc::new(SystemClock) };
        let now = SystemClock.now();
        let old = tokens.public_keys(now);
        fs::write(&path, "active k4.secret.half").unwrap();
        follow.look();
        assert_eq!(tokens.public_keys(now), old);
        fs::remove_file(&path).unwrap();
        follow.look();
        assert_eq!(tokens.public_keys(now), old);
        KeyRing::generate_file(&path).unwrap();
        follow.look();
        let new = tokens.public_keys(now);
        assert!(new.len() == 1 && new != old, "{new:?}");
    }

    #[rstest]
    #[case("0s", Some(0))]
    #[case("90s", Some(90))]
    #[case("15m", Some(900))]
    #[case("1h", Some(3600))]
    #[case("365d", Some(31_536_000))]
    #[case("366d", None)]
    #[case("99999999999999999999d", None)]
    #[case("9999999999999999999d", None)]
    #[case("", None)]
    #[case("s", None)]
    #[case("1", None)]
    #[case("+1s", None)]
    #[case("-1s", None)]
    #[case("1.5h", None)]
    #[case("1 h", None)]
    #[case("1ä", None)]
    fn a_delay_is_a_number_and_a_unit(#[case] text: &str, #[case] seconds: Option<u64>) {
        assert_eq!(parse_delay(text).ok(), seconds.map(Duration::from_secs));
    }
}
