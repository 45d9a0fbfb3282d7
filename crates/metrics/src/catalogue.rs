use crate::kinds::{Counter, Described, Gauge, Histogram};

/// Of an answer to a client, who is given one within five seconds.
const ANSWERS: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// Of a password hash.
const HASHES: &[f64] = &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0];

/// Of the answer of a provider, which is waited for for ten seconds.
const PROVIDERS: &[f64] = &[0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Of the age of a message.
const AGES: &[f64] = &[0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0];

/// Each metric, and all of them. The comment is what the recorder is told that it means.
macro_rules! catalogue {
    ($(#[doc = $text:literal] $metric:ident: $kind:ident<$count:literal> = $($arguments:expr),+;)+) => {
        $(#[doc = $text] pub static $metric: $kind<$count> = $kind::new($($arguments),+);)+

        /// All metrics.
        pub static ALL: &[Described] = &[$($metric.described($text)),+];
    };
}

catalogue! {
    /// How long requests took, from their head to their answer.
    HTTP_REQUEST_DURATION: Histogram<3> = "vestibule_http_request_duration_seconds", ["route", "method", "status"], ANSWERS;

    /// Requests that were refused, by the name of the error that clients see.
    HTTP_REFUSALS: Counter<2> = "vestibule_http_refusals_total", ["route", "error"];

    /// Requests that were answered 503, by what did not work.
    HTTP_UNAVAILABLE: Counter<2> = "vestibule_http_unavailable_total", ["route", "cause"];

    /// How often a budget had nothing left, by what was asked of it and whose it is.
    LIMIT_OBJECTIONS: Counter<2> = "vestibule_limit_objections_total", ["step", "scope"];

    /// Threads that hash passwords.
    HASHING_THREADS: Gauge<0> = "vestibule_hashing_threads", [];

    /// Threads that hash a password now.
    HASHING_THREADS_BUSY: Gauge<0> = "vestibule_hashing_threads_busy", [];

    /// Passwords that wait for a thread.
    HASHING_QUEUE_WAITING: Gauge<0> = "vestibule_hashing_queue_waiting", [];

    /// Passwords that were refused because the queue was full.
    HASHING_REFUSED: Counter<0> = "vestibule_hashing_refused_total", [];

    /// How long a thread took for a password, without the wait in the queue.
    HASHING_DURATION: Histogram<0> = "vestibule_hashing_duration_seconds", [], HASHES;

    /// What came of tries to send a message.
    OUTBOX_OUTCOMES: Counter<3> = "vestibule_outbox_outcomes_total", ["channel", "provider", "outcome"];

    /// How old messages were when a provider took them.
    OUTBOX_SENT_AGE: Histogram<1> = "vestibule_outbox_sent_age_seconds", ["channel"], AGES;

    /// Messages that wait in the queue, of all instances; no more than 100,000 are counted.
    OUTBOX_WAITING: Gauge<1> = "vestibule_outbox_waiting", ["channel"];

    /// How long the message has been due that has been due longest, of all instances.
    OUTBOX_OLDEST_DUE: Gauge<1> = "vestibule_outbox_oldest_due_seconds", ["channel"];

    /// Messages that were given up and not swept yet, of all instances; no more than 100,000 are counted.
    OUTBOX_DEAD_LETTERS: Gauge<1> = "vestibule_outbox_dead_letters", ["channel"];

    /// How long a provider took for a message, by what it answered.
    PROVIDER_REQUEST_DURATION: Histogram<3> = "vestibule_provider_request_duration_seconds", ["channel", "provider", "answer"], PROVIDERS;

    /// Whether a provider is left alone because it fails: 1 until a message has gone through again.
    PROVIDER_BREAKER_OPEN: Gauge<1> = "vestibule_provider_breaker_open", ["provider"];

    /// Connections to Postgres, by what they are for and whether they are in use or idle.
    DATABASE_CONNECTIONS: Gauge<2> = "vestibule_database_connections", ["pool", "state"];

    /// How many connections to Postgres there may be.
    DATABASE_CONNECTIONS_MAX: Gauge<1> = "vestibule_database_connections_max", ["pool"];

    /// Who waits for a connection to Postgres.
    DATABASE_WAITING: Gauge<1> = "vestibule_database_waiting", ["pool"];

    /// How often the database could not be used, by why.
    DATABASE_FAILURES: Counter<1> = "vestibule_database_failures_total", ["cause"];

    /// 1, with the version that runs.
    BUILD_INFO: Gauge<1> = "vestibule_build_info", ["version"];

    /// When the service was started, in seconds since 1970.
    START_TIME: Gauge<0> = "vestibule_start_time_seconds", [];
}
