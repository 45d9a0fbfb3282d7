//! As much of SMPP 3.4's wire as an SMSC for tests needs. It is written from the specification and shares nothing with the
//! adapter that it tests, so that an error is not made twice.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

pub(super) const GENERIC_NACK: u32 = 0x8000_0000;
pub(super) const SUBMIT_SM: u32 = 0x0000_0004;
pub(super) const DELIVER_SM: u32 = 0x0000_0005;
pub(super) const UNBIND: u32 = 0x0000_0006;
pub(super) const BIND_TRANSCEIVER: u32 = 0x0000_0009;
pub(super) const ENQUIRE_LINK: u32 = 0x0000_0015;
pub(super) const DATA_SM: u32 = 0x0000_0103;
/// The bit that makes an answer of a request.
pub(super) const ANSWER: u32 = 0x8000_0000;

pub(super) const INVALID_LENGTH: u32 = 0x01;
pub(super) const INVALID_COMMAND: u32 = 0x03;
pub(super) const NOT_BOUND: u32 = 0x04;
pub(super) const ALREADY_BOUND: u32 = 0x05;
pub(super) const INVALID_DESTINATION: u32 = 0x0b;
pub(super) const BIND_FAILED: u32 = 0x0d;
pub(super) const INVALID_PASSWORD: u32 = 0x0e;
pub(super) const INVALID_CLASS: u32 = 0x43;
pub(super) const SUBMIT_FAILED: u32 = 0x45;
pub(super) const INVALID_CODING: u32 = 0x104;

/// A PDU.
#[derive(Debug, Clone)]
pub(super) struct Pdu {
    pub(super) command: u32,
    pub(super) status: u32,
    pub(super) sequence: u32,
    pub(super) body: Vec<u8>,
}

impl Pdu {
    /// Reads one.
    pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Self> {
        let length = stream.read_u32().await?;
        let (command, status, sequence) =
            (stream.read_u32().await?, stream.read_u32().await?, stream.read_u32().await?);
        if !(16..=4096).contains(&length) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no PDU of ours has this length"));
        }
        let mut body = vec![0; usize::try_from(length - 16).unwrap_or_default()];
        stream.read_exact(&mut body).await?;
        Ok(Self { command, status, sequence, body })
    }

    /// Its octets.
    pub(super) fn octets(&self) -> Vec<u8> {
        let length = u32::try_from(16 + self.body.len()).unwrap_or(u32::MAX);
        let header = [length, self.command, self.status, self.sequence].map(u32::to_be_bytes);
        [header.as_flattened(), &self.body].concat()
    }
}

/// Reads the fields of a body, one after the other.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    /// A string that ends with NUL, which counts towards its bound.
    pub(super) fn string(&mut self, longest: usize) -> Option<String> {
        let end = self.0.iter().position(|octet| *octet == 0).filter(|end| *end < longest)?;
        let text = std::str::from_utf8(self.octets(end)?).ok().filter(|text| text.is_ascii())?.to_owned();
        self.octet()?;
        Some(text)
    }

    pub(super) fn octet(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(super) fn octets(&mut self, count: usize) -> Option<&'a [u8]> {
        let (octets, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(octets)
    }
}

/// The text of a short message; `None` if the octets are none in this coding.
pub(super) fn decode(coding: u8, octets: &[u8]) -> Option<String> {
    match coding {
        0 => gsm7(octets),
        8 if octets.len().is_multiple_of(2) => {
            let units: Vec<u16> = octets.as_chunks().0.iter().map(|pair| u16::from_be_bytes(*pair)).collect();
            String::from_utf16(&units).ok()
        }
        _ => None,
    }
}

fn gsm7(octets: &[u8]) -> Option<String> {
    // The escape's place is taken by a character that no text has.
    const ALPHABET: &str = concat!(
        "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ\u{0}ÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?",
        "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà",
    );
    const EXTENSION: &[(u8, char)] = &[
        (10, '\u{c}'),
        (20, '^'),
        (40, '{'),
        (41, '}'),
        (47, '\\'),
        (60, '['),
        (61, '~'),
        (62, ']'),
        (64, '|'),
        (101, '€'),
    ];
    let mut text = String::new();
    let mut octets = octets.iter();
    while let Some(&octet) = octets.next() {
        text.push(if octet == 27 {
            let code = octets.next()?;
            EXTENSION.iter().find(|(listed, _)| listed == code)?.1
        } else {
            ALPHABET.chars().nth(usize::from(octet))?
        });
    }
    Some(text)
}
