//! Twilio's error codes (<https://www.twilio.com/docs/api/errors>), sorted by who can mend the error.
//!
//! - Nobody can: the receiver's number, or the receiver's own wish. The message is given up.
//! - The operator or time can: the account, the sender, the region, the route. The message waits, for it would be lost
//!   for nothing otherwise, and another provider may take it at once.
//! - The account sends too much. The message waits as long as Twilio wants.
//!
//! A code that is not listed counts as one that can be mended: a wrong guess that way costs some requests until
//! the message expires, and the other way a message.

/// Who can mend an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nobody.
    Permanent,
    /// The operator, or time.
    Temporary,
    /// Whoever sends less.
    Throttled,
}

/// What a code means, in our words: Twilio's own repeat the receiver's number.
pub(crate) fn meaning(code: u32) -> Option<(Kind, &'static str)> {
    TABLE.iter().find(|(listed, ..)| *listed == code).map(|(_, kind, meaning)| (*kind, *meaning))
}

/// The code and its meaning, for the operator.
pub(crate) fn describe(code: u32) -> String {
    let meaning = meaning(code).map_or("a code that is not known here", |(_, meaning)| meaning);
    format!("Twilio {code}: {meaning}")
}

use Kind::{Permanent, Temporary, Throttled};

/// In the order of the codes.
const TABLE: &[(u32, Kind, &str)] = &[
    (14107, Throttled, "the account sends faster than it may"),
    (20003, Temporary, "the account's SID or token is wrong"),
    (20005, Temporary, "the account is not active"),
    (20006, Temporary, "the account may not do this"),
    (20008, Temporary, "these are test credentials"),
    (20404, Temporary, "there is no such account"),
    (20429, Throttled, "too many requests"),
    (21211, Permanent, "there is no such number"),
    (21214, Permanent, "the number cannot be reached"),
    (21217, Permanent, "there is no such number"),
    (21219, Temporary, "a trial account may send to verified numbers only"),
    (21265, Permanent, "the number is a short code"),
    // The operator enables regions in the console, and another provider may have this one enabled.
    (21408, Temporary, "the account may not send to this region"),
    (21421, Permanent, "there is no such number"),
    (21602, Permanent, "the text is empty"),
    (21603, Temporary, "there is no sender"),
    (21604, Permanent, "there is no receiver"),
    (21605, Permanent, "the text is too long"),
    (21606, Temporary, "the sender is not a number of the account that can send"),
    (21608, Temporary, "a trial account may send to verified numbers only"),
    (21610, Permanent, "the receiver has unsubscribed"),
    (21611, Throttled, "the sender's queue is full"),
    // This is about the pair of sender and receiver: another sender may have a route.
    (21612, Temporary, "there is no route from this sender to the number"),
    (21614, Permanent, "the number is not a mobile number"),
    (21617, Permanent, "the text is too long"),
    (21619, Permanent, "the text is empty"),
    (21635, Permanent, "the number is a landline"),
    (21660, Temporary, "the sender is not a number of the account"),
    (21661, Temporary, "the sender cannot send text messages"),
    (21701, Temporary, "there is no such messaging service"),
    (21703, Temporary, "the messaging service has no senders"),
    (21704, Temporary, "the messaging service has no sender that can be used"),
    (21705, Temporary, "the messaging service's SID is wrong"),
    (21910, Temporary, "the sender is of another channel"),
    (30001, Throttled, "the queue is full"),
    (30002, Temporary, "the account is suspended"),
    // A handset that is off, or out of reach: it may be back before the code expires.
    (30003, Temporary, "the handset is not reachable"),
    (30004, Permanent, "the receiver, or the receiver's carrier, blocks such messages"),
    (30005, Permanent, "the number is unknown or no longer in use"),
    (30006, Permanent, "the number is a landline, or its carrier cannot be reached"),
    // Filters judge the sender and the text together; another sender may pass.
    (30007, Temporary, "a carrier's filter stopped the message"),
    (30008, Temporary, "unknown error"),
    (30022, Throttled, "the campaign sends faster than it may"),
    (30023, Throttled, "the brand has reached its limit of the day"),
    (30032, Temporary, "the toll-free sender is not verified"),
    (30034, Temporary, "the sender is not registered for this country"),
    (30036, Temporary, "the handset was not reached in the time that was given"),
    (30410, Temporary, "the carrier did not answer in time"),
    (30450, Permanent, "stopped by the protection against pumping"),
    (63038, Throttled, "the account has reached its limit of the day"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_is_listed_once_and_in_order() {
        assert!(TABLE.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn an_unlisted_code_means_nothing() {
        assert_eq!(meaning(12345), None);
    }
}
