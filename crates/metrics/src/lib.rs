//! What is measured, for the engineer on call: every metric with its name, its labels and its meaning, once.
//!
//! Any crate may record. Where no recorder is installed, as in tests and in every command but `serve`, that does nothing.
//!
//! The values of labels are of bounded sets: routes as patterns, names from the code or the configuration. Nothing that a client can choose, and nothing
//! that tells of a person, may become one.
//!
//! Not here: who keeps and shows the values, which is the server's; what a value means for the operator, which `docs/operations.md` says.

mod catalogue;
mod kinds;

pub use catalogue::{
    ALL, BUILD_INFO, DATABASE_CONNECTIONS, DATABASE_CONNECTIONS_MAX, DATABASE_FAILURES, DATABASE_WAITING,
    HASHING_DURATION, HASHING_QUEUE_WAITING, HASHING_REFUSED, HASHING_THREADS, HASHING_THREADS_BUSY,
    HTTP_REFUSALS, HTTP_REQUEST_DURATION, HTTP_UNAVAILABLE, LIMIT_OBJECTIONS, OUTBOX_DEAD_LETTERS,
    OUTBOX_OLDEST_DUE, OUTBOX_OUTCOMES, OUTBOX_SENT_AGE, OUTBOX_WAITING, PROVIDER_BREAKER_OPEN,
    PROVIDER_REQUEST_DURATION, START_TIME,
};
pub use kinds::{Counter, Described, Gauge, Histogram, Kind, Value, describe};
/// What records, once its labels have values. Kept by who records often.
pub use metrics::{Counter as CounterHandle, Gauge as GaugeHandle, Histogram as HistogramHandle};

/// Counts that a budget had nothing left for a step; `scope` is whose kind it is.
pub fn objected(step: &'static str, scope: &'static str) {
    LIMIT_OBJECTIONS.of([step.into(), scope.into()]).increment(1);
}
