//! What the gateway's error codes mean for a message (<https://www.twilio.com/docs/api/errors>).

/// What to make of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// The message can never be delivered to this number.
    Permanent,
    /// The gateway wants fewer requests.
    Throttled,
}

/// The meaning of a code; `None` for one that a later try may overcome, unknown ones among them: credentials, money
/// and senders can be mended while the message waits.
pub(crate) fn meaning(code: u32) -> Option<Meaning> {
    match code {
        // The number: not valid (21211), not reachable from this sender (21214, 21217, 21612), opted out (21610), not mobile (21614),
        // not a number at all (21604), blacklisted or unknown to its carrier (30003 is a phone that is off and may return).
        21211 | 21214 | 21217 | 21604 | 21610 | 21612 | 21614 | 30004 | 30005 | 30006 => {
            Some(Meaning::Permanent)
        }
        // The text: empty (21602, 21619) or too long (21605, 21617).
        21602 | 21605 | 21617 | 21619 => Some(Meaning::Permanent),
        // Too many requests (20429), too many messages of one account or sender (14107, 21611, 30001, 30022, 63038).
        14107 | 20429 | 21611 | 30001 | 30022 | 63038 => Some(Meaning::Throttled),
        _ => None,
    }
}
