//! `vestibule-meter`: takes samples, prints the findings. See `docs/operations.md`.

use std::io::{Write as _, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use reqwest::Url;
use vestibule_meter::{Client, Findings, Plan, Probe, prepare, take};

/// Measures from outside whether a deployment tells which numbers have an account. Ends with 0 when nothing tells them apart, with 1
/// when something does, with 2 when it cannot be measured.
#[derive(Parser)]
#[command(name = "vestibule-meter")]
struct Arguments {
    /// Where the deployment is.
    #[arg(long)]
    url: Url,
    /// A file of numbers that have an account, one a line. Enough of them keep the number's own limits out of the measurement.
    #[arg(long)]
    known: PathBuf,
    /// A file of numbers that have none.
    #[arg(long)]
    unknown: PathBuf,
    /// The step that is measured.
    #[arg(long)]
    probe: Probe,
    /// Samples of each population.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(20..=1_000_000))]
    samples: u32,
    /// Requests in a second, at most: above 0, to 10000.
    #[arg(long, default_value_t = 20.0, value_parser = |text: &str| positive(text, 10_000.0))]
    rate: f64,
    /// The probability with which populations that are the same may be told apart: above 0, to 0.5.
    #[arg(long, default_value_t = 0.01, value_parser = |text: &str| positive(text, 0.5))]
    level: f64,
    /// A header of each request, written `name: value`. May be repeated.
    #[arg(long)]
    header: Vec<String>,
    /// First opens an account for each known number, with codes from the development inbox.
    #[arg(long)]
    prepare: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "vestibule-meter: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether the populations are the same, as far as can be measured.
async fn run(arguments: Arguments) -> anyhow::Result<bool> {
    let Arguments { url, known, unknown, probe, samples, rate, level, header, prepare: is_to_prepare } =
        arguments;
    let (known, unknown) = (numbers(&known)?, numbers(&unknown)?);
    let client = Client::new(url.clone(), &header)?;
    if is_to_prepare {
        prepare(&client, &known).await.context("the accounts cannot be opened")?;
    }
    writeln!(stdout(), "{probe:?} at {url}: {samples} samples of each, {rate} a second\n")?;
    let plan = Plan { probe, known, unknown, samples, rate };
    let findings = Findings::of(&take(&client, &plan).await?, level)?;
    write!(stdout(), "{findings}")?;
    if let Some(why) = findings.unmeasured() {
        anyhow::bail!("nothing was measured: {why}");
    }
    Ok(findings.told_by().is_empty())
}

/// A number above 0 and up to `most`.
fn positive(text: &str, most: f64) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| *number > 0.0 && *number <= most);
    number.ok_or_else(|| format!("not a number above 0, up to {most}"))
}

/// The lines of a file that are not empty.
fn numbers(file: &Path) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_and_a_rate_have_bounds() {
        let takes = |option: &str, value: &str| {
            let required = "vestibule-meter --url http://127.0.0.1 --known a --unknown b --probe reset";
            let option = format!("--{option}={value}");
            Arguments::try_parse_from(required.split(' ').chain([option.as_str()])).is_ok()
        };
        for (option, value) in [("level", "1e-9"), ("level", "0.5"), ("rate", "0.1"), ("rate", "10000")] {
            assert!(takes(option, value), "{option} {value}");
        }
        for value in ["0", "-0.01", "0.51", "NaN", "inf", "x"] {
            assert!(!takes("level", value), "level {value}");
        }
        for value in ["0", "-1", "10000.1", "NaN", "inf", "x"] {
            assert!(!takes("rate", value), "rate {value}");
        }
    }
}
