//! Times as RFC 3339 writes them, to the second.

use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcDateTime};

/// `None` for a year that RFC 3339 cannot write.
pub(crate) fn format(moment: UtcDateTime) -> Option<String> {
    whole_seconds(moment).format(&Rfc3339).ok()
}

/// `None` for what is no time, or could not be written in UTC.
pub(crate) fn parse(text: &str) -> Option<UtcDateTime> {
    // `UtcDateTime::parse` panics where the offset leads out of the calendar.
    let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?.checked_to_utc()?;
    (0..=9999).contains(&moment.year()).then_some(moment)
}

/// The beginning of its second.
pub(crate) fn whole_seconds(moment: UtcDateTime) -> UtcDateTime {
    moment.replace_nanosecond(0).unwrap_or(moment)
}
