//! What a delivery receipt says: by its optional parameters (v3.4, section 5.3.2), or by its text (appendix B), which every
//! vendor writes a little differently.
//!
//! The message's id is passed on as it stands, unless the operator says that the SMSC answers a submission with a
//! hexadecimal id and writes it in decimal in the receipt's text: nothing in an id such as `10` tells which it is. Both are
//! then written in one way, in hexadecimal without leading zeros.

use rusmpp::Pdu;
use rusmpp::tlvs::{Tlv, TlvValue};
use vestibule_port_sms::Delivery;

use crate::settings::ReceiptIds;

/// Bits of `esm_class` that say what a message is.
const MESSAGE_TYPE: u8 = 0b0011_1100;
/// It is about what finally became of a message.
const RECEIPT: u8 = 0b0000_0100;
/// It is about what happens to a message meanwhile.
const NOTIFICATION: u8 = 0b0010_0000;
/// Receipts have about 120 characters. More than this is not looked at.
const MAX_TEXT: usize = 512;
/// The protocol's bound on an id, without its NUL.
const MAX_ID: usize = 64;

/// What a message from the SMSC is to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Delivered {
    /// A report.
    Report {
        /// The id that the SMSC gave the message.
        id: String,
        /// What became of it.
        delivery: Delivery,
    },
    /// A report that the SMSC knows nothing more.
    NoNews,
    /// A report that cannot be read.
    Unreadable,
    /// A message from somebody; nobody here reads it.
    Message,
}

/// Reads a `deliver_sm` or `data_sm`.
pub(crate) fn read(pdu: &Pdu, ids: ReceiptIds) -> Delivered {
    let (class, text, tlvs) = match pdu {
        Pdu::DeliverSm(message) => (message.esm_class, message.short_message().as_ref(), message.tlvs()),
        Pdu::DataSm(message) => (message.esm_class, &[][..], message.tlvs()),
        _ => return Delivered::Message,
    };
    if !matches!(u8::from(class) & MESSAGE_TYPE, RECEIPT | NOTIFICATION) {
        return Delivered::Message;
    }
    let text = tlvs.iter().find_map(payload).unwrap_or(text);
    let text = Text::new(text);
    // Some SMSCs write the parameter and leave it empty.
    let id = tlvs.iter().filter_map(receipted_id).find(|id| is_id(id)).map(|id| given(id, ids));
    let id = id.or_else(|| text.field("id:").filter(|id| is_id(id)).map(|id| written(id, ids)));
    let state = tlvs.iter().find_map(state).or_else(|| text.field("stat:").and_then(by_word));
    let (Some(id), Some(state)) = (id, state) else { return Delivered::Unreadable };
    let delivery = match state {
        State::OnItsWay => Delivery::Sent,
        State::Delivered => Delivery::Delivered,
        State::Expired => Delivery::Expired,
        State::Failed(reason) => Delivery::Failed {
            reason: with_error(reason, text.field("err:"), tlvs.iter().find_map(network_error)),
        },
        State::Unknown => return Delivered::NoNews,
    };
    Delivered::Report { id, delivery }
}

/// Whether it can be an id. It goes into records and logs, so it must look like one.
pub(crate) fn is_id(text: &str) -> bool {
    (1..=MAX_ID).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// An id as the SMSC gave it, so that it can be compared.
pub(crate) fn given(id: &str, ids: ReceiptIds) -> String {
    let number = match ids {
        ReceiptIds::AsGiven => None,
        ReceiptIds::Decimal => number(id, 16),
    };
    number.map_or_else(|| id.to_owned(), hexadecimal)
}

/// An id as a receipt's text writes it, so that it can be compared.
fn written(id: &str, ids: ReceiptIds) -> String {
    let number = match ids {
        ReceiptIds::AsGiven => None,
        ReceiptIds::Decimal => number(id, 10),
    };
    number.map_or_else(|| given(id, ids), hexadecimal)
}

fn number(id: &str, base: u32) -> Option<u128> {
    // A sign would be read as well.
    id.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u128::from_str_radix(id, base).ok())?
}

fn hexadecimal(number: u128) -> String {
    format!("{number:X}")
}

#[derive(Debug, Clone, Copy)]
enum State {
    OnItsWay,
    Delivered,
    Expired,
    Failed(&'static str),
    Unknown,
}

const UNDELIVERABLE: State = State::Failed("UNDELIV: the message cannot be delivered");
const REJECTED: State = State::Failed("REJECTD: the message is rejected");
const DELETED: State = State::Failed("DELETED: the message was deleted");

/// A word of the receipt's text: in the standard of seven letters, elsewhere written out.
fn by_word(word: &str) -> Option<State> {
    const WORDS: [(&str, State); 9] = [
        ("ENROUTE", State::OnItsWay),
        ("ACCEPT", State::OnItsWay),
        ("DELIV", State::Delivered),
        ("EXPIRED", State::Expired),
        ("UNDELIV", UNDELIVERABLE),
        ("REJECT", REJECTED),
        ("DELETED", DELETED),
        ("UNKNOWN", State::Unknown),
        ("SCHEDULED", State::OnItsWay),
    ];
    let word = word.to_ascii_uppercase();
    WORDS.iter().find(|(start, _)| word.starts_with(start)).map(|(_, state)| *state)
}

fn state(tlv: &Tlv) -> Option<State> {
    let Some(TlvValue::MessageState(state)) = tlv.value() else { return None };
    Some(match u8::from(*state) {
        // Scheduled, en route, accepted.
        0 | 1 | 6 => State::OnItsWay,
        2 => State::Delivered,
        3 => State::Expired,
        4 => DELETED,
        5 => UNDELIVERABLE,
        8 => REJECTED,
        _ => State::Unknown,
    })
}

fn receipted_id(tlv: &Tlv) -> Option<&str> {
    let Some(TlvValue::ReceiptedMessageId(id)) = tlv.value() else { return None };
    Some(id.as_str())
}

fn payload(tlv: &Tlv) -> Option<&[u8]> {
    let Some(TlvValue::MessagePayload(payload)) = tlv.value() else { return None };
    Some(payload.value.as_ref())
}

fn network_error(tlv: &Tlv) -> Option<String> {
    let Some(TlvValue::NetworkErrorCode(error)) = tlv.value() else { return None };
    Some(format!("{}/{}", u8::from(error.network_type), error.error_code))
}

/// The SMSC's own error code goes into the reason if it looks like one.
fn with_error(reason: &str, in_text: Option<&str>, in_parameter: Option<String>) -> String {
    let is_code = |code: &str| {
        (1..=8).contains(&code.len())
            && code.bytes().all(|byte| byte.is_ascii_alphanumeric())
            && code.bytes().any(|byte| byte != b'0')
    };
    let code = in_text.filter(|code| is_code(code)).map(str::to_owned).or(in_parameter);
    code.map_or_else(|| reason.to_owned(), |code| format!("{reason} (error {code})"))
}

/// The fields of a receipt's text: `id:… sub:… dlvrd:… submit date:… done date:… stat:… err:… text:…`.
struct Text {
    text: String,
    lower: String,
}

impl Text {
    /// Leaves out what comes after `text:`: the message's own words.
    fn new(octets: &[u8]) -> Self {
        // Every octet of a field is ASCII, so that it does not matter how the others are read.
        let mut text: String = octets.iter().take(MAX_TEXT).map(|octet| char::from(octet & 0x7f)).collect();
        let mut lower = text.to_ascii_lowercase();
        let end = place("text:", &lower).unwrap_or(lower.len());
        text.truncate(end);
        lower.truncate(end);
        Self { text, lower }
    }

    fn field(&self, name: &str) -> Option<&str> {
        let start = place(name, &self.lower)? + name.len();
        let rest = self.text.get(start..)?;
        let word = rest.split_whitespace().next()?;
        // Some put a space after the colon; but then the next field must not be taken for this one's value.
        (!rest.starts_with(' ') || !word.contains(':')).then_some(word)
    }
}

/// Where a field starts: its name must not be the end of another word.
fn place(name: &str, text: &str) -> Option<usize> {
    text.match_indices(name)
        .map(|(at, _)| at)
        .find(|at| *at == 0 || text.as_bytes().get(at - 1) == Some(&b' '))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use rusmpp::pdus::DeliverSm;
    use rusmpp::types::OctetString;
    use rusmpp::values::EsmClass;

    use super::*;

    fn receipt(text: &[u8]) -> Pdu {
        DeliverSm::builder()
            .esm_class(EsmClass::from(RECEIPT))
            .short_message(OctetString::from_slice(text).unwrap())
            .build()
            .into()
    }

    fn failed(reason: &str) -> Delivery {
        Delivery::Failed { reason: reason.to_owned() }
    }

    #[rstest]
    #[case("ENROUTE", Delivery::Sent)]
    #[case("ACCEPTD", Delivery::Sent)]
    #[case("DELIVRD", Delivery::Delivered)]
    #[case("delivered", Delivery::Delivered)]
    #[case("EXPIRED", Delivery::Expired)]
    #[case("UNDELIV", failed("UNDELIV: the message cannot be delivered (error 034)"))]
    #[case("REJECTD", failed("REJECTD: the message is rejected (error 034)"))]
    #[case("DELETED", failed("DELETED: the message was deleted (error 034)"))]
    fn states(#[case] state: &str, #[case] delivery: Delivery) {
        let text = format!(
            "id:0A1b-2 sub:001 dlvrd:001 submit date:2611250101 done date:2611250102 stat:{state} err:034 text:Your code"
        );
        assert_eq!(
            read(&receipt(text.as_bytes()), ReceiptIds::AsGiven),
            Delivered::Report { id: "0A1b-2".to_owned(), delivery }
        );
    }

    #[rstest]
    #[case("ID: 7 STAT: DELIVRD", "7")]
    #[case("stat:DELIVRD id:7", "7")]
    #[case("mid:9 id:7 stat:DELIVRD", "7")]
    #[case("id:7 stat:DELIVRD text:id:8 stat:UNDELIV", "7")]
    #[case("Text: id:8 stat:DELIVRD", "")]
    #[case("id:7 text:stat:DELIVRD", "")]
    #[case("id: stat:DELIVRD", "")]
    #[case("id:7 stat:", "")]
    #[case("id:7 stat:OK", "")]
    #[case("", "")]
    fn texts(#[case] text: &str, #[case] id: &str) {
        let expected = if id.is_empty() {
            Delivered::Unreadable
        } else {
            Delivered::Report { id: id.to_owned(), delivery: Delivery::Delivered }
        };
        assert_eq!(read(&receipt(text.as_bytes()), ReceiptIds::AsGiven), expected);
    }

    #[test]
    fn an_unknown_state_is_no_news() {
        assert_eq!(read(&receipt(b"id:7 stat:UNKNOWN"), ReceiptIds::AsGiven), Delivered::NoNews);
    }

    #[test]
    fn an_error_that_is_none_is_left_out() {
        for text in ["id:7 stat:UNDELIV err:000", "id:7 stat:UNDELIV err:+447871234567", "id:7 stat:UNDELIV"]
        {
            let delivery = failed("UNDELIV: the message cannot be delivered");
            assert_eq!(
                read(&receipt(text.as_bytes()), ReceiptIds::AsGiven),
                Delivered::Report { id: "7".to_owned(), delivery }
            );
        }
    }

    #[test]
    fn an_ordinary_message_is_no_receipt() {
        let pdu = DeliverSm::builder()
            .esm_class(EsmClass::from(0))
            .short_message(OctetString::from_slice(b"id:7 stat:DELIVRD").unwrap())
            .build()
            .into();
        assert_eq!(read(&pdu, ReceiptIds::AsGiven), Delivered::Message);
    }

    #[rstest]
    #[case("0000000a", "10")]
    #[case("1F", "0031")]
    #[case("DE0B6B3A7640000", "1000000000000000000")]
    #[case("0", "000")]
    #[case("ffffffffffffffffffffffffffffffff", "340282366920938463463374607431768211455")]
    #[case("7-ab", "7-ab")]
    #[case("00AF", "af")]
    #[case("+1", "+1")]
    fn an_id_in_decimal_is_the_same_one(#[case] hexadecimal: &str, #[case] decimal: &str) {
        let ids = ReceiptIds::Decimal;
        let text = format!("id:{decimal} stat:DELIVRD");
        let expected = Delivered::Report { id: given(hexadecimal, ids), delivery: Delivery::Delivered };
        assert_eq!(read(&receipt(text.as_bytes()), ids), expected);
        assert_eq!(given(hexadecimal, ReceiptIds::AsGiven), hexadecimal);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_harm(
            text in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..255),
                "(id:|stat:|text:|err:|[ a-zé0]{0,5}){0,20}".prop_map(String::into_bytes),
            ],
        ) {
            prop_assume!(text.len() <= 255);
            let _ = read(&receipt(&text), ReceiptIds::AsGiven);
        }
    }
}
