use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use reqwest::header::{CONTENT_LENGTH, DATE, RETRY_AFTER};
use serde_json::Value;

use crate::client::Answer;
use crate::comparison::shares;

/// Members of a body whose values are another each time. That they are there, and how long a text is, is compared.
const CHANGING: [&str; 2] = ["registrationId", "retryAfterSeconds"];

/// An answer but for what is another each time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Shape {
    pub(super) status: u16,
    body: String,
    headers: BTreeSet<(String, String)>,
}

/// How often an answer of one shape was given to each population, and how far these shares are apart.
#[derive(Debug)]
pub(super) struct Shares {
    pub(super) shape: Shape,
    pub(super) known: usize,
    pub(super) unknown: usize,
    pub(super) z: f64,
}

/// The shapes that there are.
pub(super) fn compare(known: &[Answer], unknown: &[Answer]) -> Vec<Shares> {
    let mut counted = BTreeMap::<_, (usize, usize)>::new();
    for answer in known {
        counted.entry(Shape::of(answer)).or_default().0 += 1;
    }
    for answer in unknown {
        counted.entry(Shape::of(answer)).or_default().1 += 1;
    }
    let compared = counted.into_iter().map(|(shape, (one, other))| {
        let z = shares([one, known.len()], [other, unknown.len()]);
        Shares { shape, known: one, unknown: other, z }
    });
    compared.collect()
}

impl Shape {
    fn of(answer: &Answer) -> Self {
        let headers = answer.headers.iter().map(|(name, value)| {
            // The wait is compared on its own, and the length follows from the body.
            let changes = [DATE, RETRY_AFTER, CONTENT_LENGTH].contains(name) || name == "x-request-id";
            let value = if changes { "…".into() } else { String::from_utf8_lossy(value.as_bytes()) };
            (name.to_string(), value.into_owned())
        });
        let body = serde_json::from_str(&answer.body).map_or_else(
            |_| answer.body.clone(),
            |mut body| {
                mask(&mut body);
                body.to_string()
            },
        );
        Self { status: answer.status.as_u16(), body, headers: headers.collect() }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.body)?;
        self.headers.iter().try_for_each(|(name, value)| write!(f, "\n  {name}: {value}"))
    }
}

fn mask(body: &mut Value) {
    let Value::Object(members) = body else {
        return;
    };
    for (name, value) in members {
        if !CHANGING.contains(&name.as_str()) {
            mask(value);
        } else if let Value::String(text) = value {
            *value = format!("… ({})", text.chars().count()).into();
        } else {
            *value = "…".into();
        }
    }
}
