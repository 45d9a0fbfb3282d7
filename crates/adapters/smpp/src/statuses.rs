//! The statuses of SMPP (v3.4, section 5.1.3) that an SMSC may answer a message or a bind with, sorted by who can mend
//! the error.
//!
//! - Nobody can: there is no such receiver. The message is given up.
//! - The operator or time can: the account, the sender, the route, the SMSC itself. The message waits, for it
//!   would be lost for nothing otherwise, and another provider may take it at once.
//! - We send too much.
//!
//! A status that is not listed counts as one that can be mended, as do those that each vendor defines for itself (0x400 and
//! above): a wrong guess that way costs some submissions until the message expires, and the other way a message.

use vestibule_port_sms::SmsError;

/// All is well.
pub(crate) const ROK: u32 = 0x00;
/// A PDU has an impossible length.
pub(crate) const RINVCMDLEN: u32 = 0x02;
/// There is no such command here.
pub(crate) const RINVCMDID: u32 = 0x03;
/// Not now; say it again.
pub(crate) const RX_T_APPN: u32 = 0x64;
/// Not this one, now or later.
pub(crate) const RX_R_APPN: u32 = 0x66;

/// What the refusal of a message means for it.
pub(crate) fn refusal(status: u32) -> SmsError {
    let kind = listed(status).map_or(Kind::Temporary, |(_, kind, ..)| *kind);
    let reason = describe(status);
    match kind {
        Kind::Permanent => SmsError::Permanent { reason },
        Kind::Temporary => SmsError::Temporary { reason },
        // SMPP has no way to say how long.
        Kind::Throttled => SmsError::Throttled { retry_after: None, reason },
    }
}

/// A status, for the operator.
pub(crate) fn describe(status: u32) -> String {
    match listed(status) {
        Some((_, _, name, meaning)) => format!("{name} (0x{status:08X}): {meaning}"),
        None => format!("status 0x{status:08X}: not known here"),
    }
}

fn listed(status: u32) -> Option<&'static (u32, Kind, &'static str, &'static str)> {
    TABLE.iter().find(|(listed, ..)| *listed == status)
}

/// Who can mend an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Nobody.
    Permanent,
    /// The operator, or time.
    Temporary,
    /// Whoever sends less.
    Throttled,
}

use Kind::{Permanent, Temporary, Throttled};

/// In the order of the statuses.
const TABLE: &[(u32, Kind, &str, &str)] = &[
    // Segments have a length that every network carries; another SMSC may take them.
    (0x01, Temporary, "ESME_RINVMSGLEN", "the text has a length that the SMSC does not take"),
    (0x02, Temporary, "ESME_RINVCMDLEN", "the SMSC found the PDU's length wrong"),
    (0x03, Temporary, "ESME_RINVCMDID", "the SMSC does not know the command"),
    (0x04, Temporary, "ESME_RINVBNDSTS", "the session may not send"),
    (0x05, Temporary, "ESME_RALYBND", "the account is already bound, perhaps as often as it may"),
    (0x06, Temporary, "ESME_RINVPRTFLG", "the SMSC does not take the priority"),
    (0x07, Temporary, "ESME_RINVREGDLVFLG", "the SMSC gives no delivery receipts"),
    (0x08, Temporary, "ESME_RSYSERR", "the SMSC has failed"),
    (0x0a, Temporary, "ESME_RINVSRCADR", "the account may not send from this address"),
    (0x0b, Permanent, "ESME_RINVDSTADR", "there is no such number"),
    (0x0d, Temporary, "ESME_RBINDFAIL", "the bind failed"),
    (0x0e, Temporary, "ESME_RINVPASWD", "the password is wrong"),
    (0x0f, Temporary, "ESME_RINVSYSID", "there is no such account"),
    (0x14, Throttled, "ESME_RMSGQFUL", "the queue is full"),
    (0x15, Temporary, "ESME_RINVSERTYP", "the SMSC does not take the service type"),
    (0x43, Temporary, "ESME_RINVESMCLASS", "the SMSC does not take long messages"),
    (0x45, Temporary, "ESME_RSUBMITFAIL", "the SMSC could not take the message"),
    (0x48, Temporary, "ESME_RINVSRCTON", "the type of the sender's address is wrong"),
    (0x49, Temporary, "ESME_RINVSRCNPI", "the numbering plan of the sender's address is wrong"),
    // Every number is sent as an international one: this is about the SMSC's ways, not about the number.
    (0x50, Temporary, "ESME_RINVDSTTON", "the SMSC does not take international numbers"),
    (0x51, Temporary, "ESME_RINVDSTNPI", "the SMSC does not take numbers of the telephone plan"),
    (0x53, Temporary, "ESME_RINVSYSTYP", "the system type is wrong"),
    (0x58, Throttled, "ESME_RTHROTTLED", "the account sends faster than it may"),
    (0x61, Temporary, "ESME_RINVSCHED", "the SMSC does not take the time of delivery"),
    (0x62, Temporary, "ESME_RINVEXPIRY", "the SMSC does not take the validity period"),
    (0x64, Temporary, "ESME_RX_T_APPN", "a receiving application cannot take it now"),
    (0x65, Temporary, "ESME_RX_P_APPN", "a receiving application does not take it"),
    (0x66, Temporary, "ESME_RX_R_APPN", "a receiving application has rejected it"),
    (0xc0, Temporary, "ESME_RINVOPTPARSTREAM", "the SMSC found optional parameters wrong"),
    (0xc1, Temporary, "ESME_ROPTPARNOTALLWD", "the SMSC does not take an optional parameter"),
    (0xfe, Temporary, "ESME_RDELIVERYFAILURE", "the message could not be delivered"),
    (0xff, Temporary, "ESME_RUNKNOWNERR", "unknown error"),
    // Of version 5, which some SMSCs use in a 3.4 session as well.
    (0x100, Temporary, "ESME_RSERTYPUNAUTH", "the account may not use the service type"),
    (0x101, Temporary, "ESME_RPROHIBITED", "the account may not do this"),
    (0x102, Temporary, "ESME_RSERTYPUNAVAIL", "the service is not available"),
    (0x103, Temporary, "ESME_RSERTYPDENIED", "the service does not take this content"),
    (0x104, Temporary, "ESME_RINVDCS", "the SMSC does not take the text's alphabet"),
];

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn each_status_is_listed_once_and_in_order() {
        assert!(TABLE.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[rstest]
    #[case(0x0b, SmsError::Permanent { reason: "ESME_RINVDSTADR (0x0000000B): there is no such number".into() })]
    #[case(0x08, SmsError::Temporary { reason: "ESME_RSYSERR (0x00000008): the SMSC has failed".into() })]
    #[case(0x58, SmsError::Throttled {
        retry_after: None,
        reason: "ESME_RTHROTTLED (0x00000058): the account sends faster than it may".into(),
    })]
    #[case(0x410, SmsError::Temporary { reason: "status 0x00000410: not known here".into() })]
    fn refusals(#[case] status: u32, #[case] error: SmsError) {
        assert_eq!(refusal(status), error);
    }
}
