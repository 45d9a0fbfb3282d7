//! How values are written, and what is said of one that is not written so.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::de::{Error as _, IntoDeserializer as _};
use serde::{Deserialize, Deserializer};
use time::Date;
use time::macros::format_description;

/// A list, or in a variable its items with commas between them.
pub(super) fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    optional_list(deserializer).map(Option::unwrap_or_default)
}

pub(super) fn optional_list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Vec<T>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Items {
        Text(String),
        List(Vec<String>),
    }
    let items = match Items::deserialize(deserializer)? {
        Items::List(items) => items,
        Items::Text(text) => text.split(',').map(str::to_owned).collect(),
    };
    items
        .iter()
        .map(|item| item.trim())
        .filter(|item| !item.is_empty())
        .map(|item| T::deserialize(item.into_deserializer()))
        .collect::<Result<Vec<T>, D::Error>>()
        .map(Some)
}

/// One word of a few; the refusal names them.
pub(super) fn word<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    T::deserialize(String::deserialize(deserializer)?.into_deserializer())
}

pub(super) fn optional_word<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    word(deserializer).map(Some)
}

pub(super) fn listener<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| D::Error::custom("must be an address and a port, as `127.0.0.1:8080`"))
}

/// Networks; an address is one of its own.
pub(super) fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<IpNet>>, D::Error> {
    let network = |text: String| {
        let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map_err(|_| D::Error::custom("must be networks or addresses, as `10.0.0.0/8`"))
    };
    let texts = optional_list(deserializer)?;
    texts.map(|texts| texts.into_iter().map(network).collect()).transpose()
}

pub(super) fn day<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Date, D::Error> {
    let format = format_description!("[year]-[month]-[day]");
    let text = String::deserialize(deserializer)?;
    Date::parse(text.trim(), format).map_err(|_| D::Error::custom("must be a day, as `2027-01-31`"))
}

/// Serde's message without the value that it repeats in some of its sentences, and without the key, which is told before it.
pub(super) fn without_value(message: &str) -> String {
    let message = message.split_once(" for key `").map_or(message, |(message, _)| message);
    let Some(rest) =
        message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "))
    else {
        return message.to_owned();
    };
    match rest.split_once(", expected ") {
        Some((_, expected)) => format!("expected {expected}"),
        None => "not a valid value".to_owned(),
    }
}

/// The parser's message without the lines of the file that it repeats: a secret may stand in them.
pub(super) fn without_lines(message: &str) -> String {
    let is_repeated = |line: &&str| {
        let mut before = line.splitn(2, '|');
        let number = before.next().unwrap_or_default().trim();
        before.next().is_some() && number.bytes().all(|byte| byte.is_ascii_digit())
    };
    let told = message.lines().filter(|line| !is_repeated(line)).map(str::trim);
    told.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(": ")
}
