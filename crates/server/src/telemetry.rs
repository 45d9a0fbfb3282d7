//! Structured logs: for people in development, JSON in production. `RUST_LOG` sets what is logged (`info` by default).

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::config::Environment;

pub(crate) fn start(environment: Environment) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match environment {
        Environment::Development => logs.with_target(false).compact().init(),
        Environment::Production => logs.json().with_span_events(FmtSpan::NONE).flatten_event(true).init(),
    }
}
