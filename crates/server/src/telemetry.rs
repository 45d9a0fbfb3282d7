//! Structured logs: for people in development, JSON in production. `RUST_LOG` sets what is logged (`info` by default).

mod lines;

use std::io::{self, IsTerminal as _};

use tracing::{Level, Metadata};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt};

use crate::config::Environment;
use lines::Lines;

/// Writes what is left when it is dropped.
#[must_use]
pub(crate) struct Logs(Lines);

impl Drop for Logs {
    fn drop(&mut self) {
        self.0.write();
    }
}

/// Logs to standard error from now on, a few lines at a time.
///
/// # Errors
/// When there is no thread to write with.
pub(crate) fn start(environment: Environment) -> io::Result<Logs> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = Lines::to(io::stderr())?;
    lines.go_before_panics();
    let logs = fmt::layer().with_writer(lines.clone()).with_ansi(io::stderr().is_terminal());
    let logs = match environment {
        Environment::Development => logs.with_target(false).compact().boxed(),
        Environment::Production => logs.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(logs.with_filter(filter_fn(is_discreet))).with(filter).init();
    Ok(Logs(lines))
}

/// Where the HTTP library tells of bytes that are no request and of connections that broke, as errors: anybody on the network
/// can cause them, and none is one of ours.
const FAULTS_OF_CLIENTS: [&str; 2] = ["actix_http::h1::dispatcher", "actix_http::h1::decoder"];

/// Whether it is for the operator, and nothing personal can be in it. Libraries say what they handle when they are asked for details, phone numbers and
/// bytes from the wire among it; so they are heard only when something is wrong, whatever `RUST_LOG` says.
fn is_discreet(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    target.starts_with("vestibule")
        || *metadata.level() <= Level::WARN && !FAULTS_OF_CLIENTS.contains(&target)
}
