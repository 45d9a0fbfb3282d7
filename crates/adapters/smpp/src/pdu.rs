//! Protocol data units on the wire: cut out of the stream here, so that a bad one can neither reach into the next nor make us
//! reserve memory for it; what is inside is the codec's.

use bytes::{Buf as _, BufMut as _, BytesMut};
use rusmpp::decode::DecodeWithLength as _;
use rusmpp::encode::Length as _;
use rusmpp::encode::owned::Encode as _;
use rusmpp::pdus::{BindTransceiver, DataSmResp, DeliverSmResp, SubmitSm};
use rusmpp::types::{COctetString, OctetString};
use rusmpp::values::{DataCoding, EsmClass, InterfaceVersion, Npi, RegisteredDelivery, Ton};
use rusmpp::{Command, CommandId, CommandStatus, Pdu};
use secrecy::ExposeSecret as _;

use crate::segments::Coding;
use crate::settings::{Account, AddressType};

/// Length, command, status and sequence number.
const HEADER: usize = 16;
/// The longest PDU that is taken, in bytes: a `message_payload` of 64 KiB and what stands around it.
const MAX_LENGTH: usize = 66 * 1024;
/// The bit of a command that says that it answers one.
const IS_ANSWER: u32 = 0x8000_0000;
/// `esm_class` of a message whose text starts with a header.
const HAS_HEADER: u8 = 0x40;
/// `registered_delivery`: a receipt of what finally became of the message, good or bad.
const FINAL_RECEIPT: u8 = 0x01;

/// A PDU, its body not yet read.
pub(crate) struct Frame {
    /// Its command.
    pub(crate) command: CommandId,
    /// How a request went, in its answer.
    pub(crate) status: u32,
    /// What ties an answer to its request.
    pub(crate) sequence: u32,
    /// All after the length.
    octets: BytesMut,
}

/// The stream makes no sense from here on: a PDU says that it is shorter than a header, or longer than any can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ImpossibleLength;

impl Frame {
    /// Takes the first PDU from what was read, if it is there in full.
    pub(crate) fn take(input: &mut BytesMut) -> Result<Option<Self>, ImpossibleLength> {
        let Some(length) = input.first_chunk() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| ImpossibleLength)?;
        if !(HEADER..=MAX_LENGTH).contains(&length) {
            return Err(ImpossibleLength);
        }
        if input.len() < length {
            return Ok(None);
        }
        let mut octets = input.split_to(length);
        octets.advance(4);
        let mut header = octets.iter().as_slice();
        let (command, status, sequence) = (header.get_u32(), header.get_u32(), header.get_u32());
        Ok(Some(Self { command: CommandId::from(command), status, sequence, octets }))
    }

    /// Whether it answers a request; it must not be answered then.
    pub(crate) fn is_answer(&self) -> bool {
        u32::from(self.command) & IS_ANSWER != 0
    }

    /// The id that an accepted submission was given, if it is text: up to its NUL or, if that is missing, to the end. The
    /// codec would read the optional parameters as well, and nothing in them is worth an acceptance.
    pub(crate) fn accepted_id(&self) -> Option<&str> {
        let id = self.octets.get(HEADER - 4..)?.split(|octet| *octet == 0).next()?;
        std::str::from_utf8(id).ok()
    }

    /// What it says; `None` if it cannot be read, or says nothing.
    ///
    /// Some SMSCs write optional parameters that cannot be read, such as a message's id without its final NUL. A message
    /// to us is read without them then: a receipt says it all in its text as well.
    pub(crate) fn body(self) -> Option<Pdu> {
        let spare = (self.command == CommandId::DeliverSm).then(|| self.octets.clone());
        decode(self.octets).or_else(|| {
            let mut octets = spare?;
            octets.truncate(HEADER - 4 + mandatory(octets.get(HEADER - 4..)?)?);
            decode(octets)
        })
    }
}

fn decode(mut octets: BytesMut) -> Option<Pdu> {
    let length = octets.len();
    let (command, _) = Command::decode(&mut octets, length).ok()?;
    command.pdu().cloned()
}

/// The length of what stands before the optional parameters in the body of a `deliver_sm`.
fn mandatory(body: &[u8]) -> Option<usize> {
    let string = |from: usize| Some(from + body.get(from..)?.iter().position(|octet| *octet == 0)? + 1);
    let source = string(string(0)? + 2)?;
    let destination = string(source + 2)?;
    let validity = string(string(destination + 3)?)?;
    let text = validity + 5;
    Some(text + usize::from(*body.get(text - 1)?))
}

/// Appends a PDU.
pub(crate) fn write(output: &mut BytesMut, status: u32, sequence: u32, pdu: Pdu) {
    let command = Command::new(CommandStatus::from(status), sequence, pdu);
    let length = 4 + command.length();
    // Ours have some hundred octets.
    output.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    command.encode(output);
}

/// The answer to a message that the SMSC delivers; `None` if it is none.
pub(crate) fn delivery_answer(command: CommandId) -> Option<Pdu> {
    match command {
        CommandId::DeliverSm => Some(DeliverSmResp::default().into()),
        CommandId::DataSm => Some(DataSmResp::default().into()),
        _ => None,
    }
}

/// A value has more octets than its field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLong;

/// The request for a session that sends and receives, in version 3.4.
pub(crate) fn bind(account: &Account) -> Result<Pdu, TooLong> {
    let bind = BindTransceiver::builder()
        .system_id(string(&account.system_id)?)
        .password(string(account.password.expose_secret())?)
        .system_type(string(&account.system_type)?)
        .interface_version(InterfaceVersion::Smpp3_4)
        .build();
    Ok(bind.into())
}

/// A part of a message, or all of it.
pub(crate) struct Part<'a> {
    /// The number in international form.
    pub(crate) to: &'a str,
    /// How the octets are to be read.
    pub(crate) coding: Coding,
    /// Whether they start with a header.
    pub(crate) has_header: bool,
    /// The octets.
    pub(crate) octets: Vec<u8>,
    /// Whether the SMSC shall say what became of it.
    pub(crate) wants_receipt: bool,
}

/// The request to send a part.
pub(crate) fn submit(account: &Account, part: Part<'_>) -> Result<Pdu, TooLong> {
    let AddressType { ton, npi } = account.from.kind;
    let to = AddressType::INTERNATIONAL;
    let submit = SubmitSm::builder()
        .source_addr_ton(Ton::from(ton))
        .source_addr_npi(Npi::from(npi))
        .source_addr(string(&account.from.address)?)
        .dest_addr_ton(Ton::from(to.ton))
        .dest_addr_npi(Npi::from(to.npi))
        .destination_addr(string(part.to.trim_start_matches('+'))?)
        // Not the codec's default, which has a bit set.
        .esm_class(EsmClass::from(if part.has_header { HAS_HEADER } else { 0 }))
        .registered_delivery(RegisteredDelivery::from(if part.wants_receipt { FINAL_RECEIPT } else { 0 }))
        .data_coding(DataCoding::from(part.coding.data_coding()))
        .short_message(OctetString::from_vec(part.octets).map_err(|_| TooLong)?)
        .build();
    Ok(submit.into())
}

fn string<const MAX: usize>(text: &str) -> Result<COctetString<1, MAX>, TooLong> {
    COctetString::from_string(text.to_owned()).map_err(|_| TooLong)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_pdu_is_taken_when_it_is_there_in_full() {
        let mut wire = BytesMut::new();
        write(&mut wire, 0, 7, Pdu::EnquireLink);
        write(&mut wire, 8, 9, Pdu::GenericNack);
        let mut input = BytesMut::new();
        let mut taken = Vec::new();
        for octet in wire {
            input.put_u8(octet);
            while let Some(frame) = Frame::take(&mut input).unwrap() {
                taken.push((frame.command, frame.status, frame.sequence, frame.is_answer()));
            }
        }
        assert_eq!(taken, [(CommandId::EnquireLink, 0, 7, false), (CommandId::GenericNack, 8, 9, true)]);
    }

    #[test]
    fn an_impossible_length_is_seen_before_anything_is_reserved() {
        for length in [0, 15, 1024 * 1024, u32::MAX] {
            let mut input = BytesMut::from(&length.to_be_bytes()[..]);
            assert_eq!(Frame::take(&mut input).err(), Some(ImpossibleLength));
        }
    }

    proptest! {
        #[test]
        fn hostile_octets_do_no_harm(
            command in prop_oneof![0_u32..0x10, 0x8000_0000_u32..0x8000_0010, Just(0x103), any::<u32>()],
            body in proptest::collection::vec(prop_oneof![Just(0_u8), any::<u8>()], 0..200),
        ) {
            let mut input = BytesMut::new();
            input.put_u32(u32::try_from(HEADER + body.len()).unwrap());
            for field in [command, 0, 1] {
                input.put_u32(field);
            }
            input.extend_from_slice(&body);
            let frame = Frame::take(&mut input).unwrap().unwrap();
            prop_assert!(input.is_empty());
            let _ = frame.accepted_id();
            let _ = frame.body();
        }
    }
}
