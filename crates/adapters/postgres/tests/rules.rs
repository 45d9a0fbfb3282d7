//! The tables refuse what the domain refuses, whoever writes.

use std::collections::BTreeSet;

use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;
use vestibule_postgres::{Migrate, Postgres};
use vestibule_testkit::postgres::TestDatabases;

/// A rule for one column, by the name of its domain.
struct Rule {
    name: &'static str,
    /// What is let in, as SQL has it.
    right: &'static [&'static str],
    wrong: &'static [&'static str],
    columns: &'static [&'static str],
}

const RULES: [Rule; 19] = [
    Rule {
        name: "positive_number",
        right: &["1", "9223372036854775807"],
        wrong: &["0", "-1"],
        columns: &[
            "registrations.version",
            "accounts.version",
            "sessions.version",
            "sign_in_guards.version",
            "password_resets.version",
            "held_codes.count",
        ],
    },
    Rule {
        name: "whole_number",
        right: &["0", "9223372036854775807"],
        wrong: &["-1"],
        columns: &[
            "registrations.opened_generation",
            "registrations.opened_wrong_repeats",
            "attempts.generation",
            "attempts.guesses",
            "attempts.messages",
            "sessions.generation",
            "refresh_tokens.generation",
            "messages.generation",
            "messages.tries",
            "deliveries.tries",
            "sign_in_guards.failures",
            "spending.amount",
            "reservations.amount",
            "reservations.tries",
            "sent_codes.price",
            "sent_codes.tries",
            "held_codes.price",
        ],
    },
    Rule {
        name: "digest",
        right: &["sha256('')"],
        wrong: &["''", "sha224('')", "sha384('')"],
        columns: &[
            "registrations.opened_fingerprint",
            "attempts.fingerprint",
            "accounts.opened_fingerprint",
            "used_numbers.digest",
            "sessions.fingerprint",
            "sessions.spent",
            "refresh_tokens.hash",
            "facts.number",
            "facts.fingerprint",
            "kept_answers.request",
            "kept_answers.payload",
            "accepted_signatures.digest",
            "key_mark.mark",
        ],
    },
    Rule {
        name: "phone_number",
        right: &["'+12345'", "'+447871234567'", "'+123456789012345'"],
        wrong: &[
            "''",
            "'447871234567'",
            "'+0447871234567'",
            "'+1234'",
            "'+1234567890123456'",
            "'+44 7871 234567'",
        ],
        columns: &[
            "registrations.phone",
            "attempts.phone",
            "accounts.phone",
            "sign_in_guards.phone",
            "password_resets.phone",
        ],
    },
    Rule {
        name: "registration_stage",
        right: &["'pending'", "'confirmed'", "'concealed'"],
        wrong: &["'opened'", "''"],
        columns: &["registrations.stage"],
    },
    Rule {
        name: "password_hash",
        right: &["'x'", "repeat('x', 512)"],
        wrong: &["''", "repeat('x', 513)"],
        columns: &["attempts.password", "passwords.hash"],
    },
    Rule {
        name: "email_address",
        right: &["repeat('x', 254)"],
        wrong: &["repeat('x', 255)", "repeat('é', 128)"],
        columns: &["accounts.email", "accounts.email_canonical"],
    },
    Rule {
        name: "profile_text",
        right: &["'x'", "repeat('é', 100)"],
        wrong: &["''", "repeat('x', 101)"],
        columns: &[
            "accounts.first_name",
            "accounts.last_name",
            "accounts.residence_state",
            "accounts.residence_city",
            "accounts.residence_street",
        ],
    },
    Rule {
        name: "zip_code",
        right: &["'x'", "repeat('x', 16)"],
        wrong: &["''", "repeat('x', 17)"],
        columns: &["accounts.residence_zip_code"],
    },
    Rule {
        name: "country_code",
        right: &["'GB'"],
        wrong: &["''", "'gb'", "'GBR'"],
        columns: &[
            "accounts.residence_country",
            "accounts.citizenship_country",
            "sent_codes.country",
            "held_codes.country",
        ],
    },
    Rule {
        name: "currency_code",
        right: &["'GBP'"],
        wrong: &["''", "'GB'", "'GBPX'"],
        columns: &["accounts.primary_currency"],
    },
    Rule {
        name: "kyc_level",
        right: &["'NONE'", "'KYC_0'"],
        wrong: &["'KYC_1'", "'none'"],
        columns: &["accounts.kyc_level"],
    },
    Rule {
        name: "delivery_state",
        right: &["'sent'", "'delivered'", "'failed'", "'expired'"],
        wrong: &["'queued'", "''"],
        columns: &["deliveries.state"],
    },
    Rule {
        name: "merchant_id",
        right: &["'Acme_Pay-7'", "repeat('x', 64)"],
        wrong: &["''", "'Acme Pay'", "repeat('x', 65)"],
        columns: &["messages.merchant"],
    },
    Rule {
        name: "spending_span",
        right: &["'hour'", "'day'"],
        wrong: &["'week'"],
        columns: &["spending.span", "reservations.span"],
    },
    Rule {
        name: "number_range",
        right: &["'447'", "'44787123456'"],
        wrong: &["'44'", "'044'", "'447871234567'"],
        columns: &["sent_codes.number_range", "held_codes.number_range"],
    },
    Rule {
        name: "hold_reason",
        right: &["'slowed'", "'stopped'"],
        wrong: &["'held'"],
        columns: &["held_codes.reason"],
    },
    Rule {
        name: "budget_part",
        right: &["'shared'", "'reserve'", "'neither'"],
        wrong: &["'both'"],
        columns: &["sent_codes.part"],
    },
    Rule { name: "only_one", right: &["1"], wrong: &["0", "2"], columns: &["key_mark.one"] },
];

#[tokio::test(flavor = "multi_thread")]
async fn a_column_lets_in_what_its_rule_allows_and_nothing_else() {
    let migrate = async |url: &str| drop(Postgres::open(url, 1, Migrate::Yes).await.unwrap());
    let database = TestDatabases::create(migrate).await.unwrap();
    let (client, connection) = tokio_postgres::connect(&database.url, NoTls).await.unwrap();
    tokio::spawn(connection);

    let ruled = "SELECT domain_name::text, table_name || '.' || column_name FROM information_schema.columns
        WHERE domain_schema = 'public' AND table_schema = 'public'";
    let ruled: BTreeSet<(String, String)> =
        client.query(ruled, &[]).await.unwrap().iter().map(|row| (row.get(0), row.get(1))).collect();
    let rules = RULES.iter().flat_map(|rule| rule.columns.iter().map(|column| (rule.name, *column)));
    let rules = rules.map(|(name, column)| (name.to_owned(), column.to_owned()));
    assert_eq!(ruled, rules.collect());

    for Rule { name, right, wrong, columns } in RULES {
        for (table, column) in columns.iter().map(|column| column.split_once('.').unwrap()) {
            // The rest of the row is missing, which is said after what is wrong with a value.
            let insert = async |value| {
                let insert = format!("INSERT INTO {table} ({column}) VALUES ({value})");
                client.batch_execute(&insert).await.err().and_then(|error| error.code().cloned())
            };
            for value in right {
                assert_ne!(insert(value).await, Some(SqlState::CHECK_VIOLATION), "{table}.{column}: {value}");
            }
            for value in wrong {
                let refused = Some(SqlState::CHECK_VIOLATION);
                assert_eq!(insert(value).await, refused, "{name}: {value} as {table}.{column}");
            }
        }
    }
}
