//! What an SMSC takes, and with what status it refuses the rest.

use super::wire::{self, Fields};
use super::{AcceptedPart, PASSWORD, SYSTEM_ID};

/// The status of the answer to a bind.
pub(super) fn bind(body: &[u8]) -> u32 {
    let mut fields = Fields(body);
    let read = (|| {
        let (user, password) = (fields.string(16)?, fields.string(9)?);
        let (_system_type, version) = (fields.string(13)?, fields.octet()?);
        let (_ton, _npi, _range) = (fields.octet()?, fields.octet()?, fields.string(41)?);
        fields.0.is_empty().then_some((user, password, version))
    })();
    match read {
        Some((user, password, 0x34)) if user == SYSTEM_ID && password == PASSWORD => 0,
        Some((_, _, 0x34)) => wire::INVALID_PASSWORD,
        _ => wire::BIND_FAILED,
    }
}

/// Reads a submission as an SMSC of a GSM network takes it, or says with what status it is refused.
pub(super) fn part(body: &[u8]) -> Result<AcceptedPart, u32> {
    let mut fields = Fields(body);
    let read = (|| {
        let _service_type = fields.string(6)?;
        let (from_type, from) = ((fields.octet()?, fields.octet()?), fields.string(21)?);
        let (to_type, to) = ((fields.octet()?, fields.octet()?), fields.string(21)?);
        let (class, _protocol, _priority) = (fields.octet()?, fields.octet()?, fields.octet()?);
        let (_schedule, _validity) = (fields.string(17)?, fields.string(17)?);
        let (registered_delivery, _replace) = (fields.octet()?, fields.octet()?);
        let (data_coding, _canned, length) = (fields.octet()?, fields.octet()?, fields.octet()?);
        let octets = fields.octets(usize::from(length))?;
        let part = AcceptedPart {
            id: String::new(),
            to,
            to_type,
            from,
            from_type,
            registered_delivery,
            data_coding,
            concatenation: None,
            text: String::new(),
        };
        fields.0.is_empty().then_some((part, class, octets))
    })();
    let (mut part, class, octets) = read.ok_or(wire::SUBMIT_FAILED)?;
    if !(7..=15).contains(&part.to.len()) || !part.to.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wire::INVALID_DESTINATION);
    }
    let (octets, (alone, joined)) = match class {
        0x00 => (octets, (160, 140)),
        0x40 => {
            let ([5, 0, 3, reference, total, number], octets) =
                octets.split_first_chunk().ok_or(wire::INVALID_CLASS)?
            else {
                return Err(wire::INVALID_CLASS);
            };
            part.concatenation = Some((*reference, *total, *number));
            (octets, (153, 134))
        }
        _ => return Err(wire::INVALID_CLASS),
    };
    let room = if part.data_coding == 0 { alone } else { joined };
    if octets.is_empty() || octets.len() > room {
        return Err(wire::INVALID_LENGTH);
    }
    part.text = wire::decode(part.data_coding, octets).ok_or(wire::INVALID_CODING)?;
    Ok(part)
}
