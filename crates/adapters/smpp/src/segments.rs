//! A text as short messages: in which alphabet, and cut where.
//!
//! A short message has 140 octets, which are 160 septets of the default alphabet or 70 UTF-16 units. A longer text is
//! cut; each part then starts with a header of six octets by which the handset joins them (3GPP TS 23.040,
//! section 9.2.3.24.1), and has room for 153 septets or 67 units.

use crate::alphabet::{self, Code, ESCAPE};

/// How the octets of a short message are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    /// The GSM default alphabet, unpacked.
    Gsm7,
    /// UTF-16, big-endian. The standard says UCS-2; handsets take pairs of surrogates.
    Ucs2,
}

impl Coding {
    /// The `data_coding` that announces it.
    pub(crate) fn data_coding(self) -> u8 {
        match self {
            Self::Gsm7 => 0x00,
            Self::Ucs2 => 0x08,
        }
    }

    /// Octets of a text that is sent alone, and of a part of a longer one.
    const fn room(self) -> (usize, usize) {
        match self {
            Self::Gsm7 => (160, 153),
            Self::Ucs2 => (140, 134),
        }
    }
}

/// A text as it goes to the SMSC.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Segments {
    /// How all of them are to be read.
    pub(crate) coding: Coding,
    /// Whether each starts with a header, since there are several.
    pub(crate) have_headers: bool,
    /// What each carries, the header included.
    pub(crate) octets: Vec<Vec<u8>>,
}

/// Why a text cannot be sent, whatever the SMSC says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unsendable {
    /// There is none.
    Empty,
    /// It would take more parts than a header can count, 255.
    TooLong,
}

/// Cuts a text. `reference` tells its parts from those of another text to the same receiver.
///
/// No character is cut: neither an escape from what it announces, nor one surrogate from the other.
pub(crate) fn segments(text: &str, reference: u8) -> Result<Segments, Unsendable> {
    if text.is_empty() {
        return Err(Unsendable::Empty);
    }
    let (coding, characters) = encode(text);
    let (alone, part) = coding.room();
    if characters.iter().map(Character::len).sum::<usize>() <= alone {
        let octets = characters.iter().flat_map(Character::octets).collect();
        return Ok(Segments { coding, have_headers: false, octets: vec![octets] });
    }
    let parts = cut(&characters, part);
    let total = u8::try_from(parts.len()).map_err(|_| Unsendable::TooLong)?;
    let octets = (1..=total)
        .zip(parts)
        // Length of the header; concatenation with a reference of 8 bits, and its length; reference, total, number.
        .map(|(number, part)| [&[0x05, 0x00, 0x03, reference, total, number], part.as_slice()].concat())
        .collect();
    Ok(Segments { coding, have_headers: true, octets })
}

/// The octets of one character: at most two of the default alphabet, or four of UTF-16.
struct Character {
    octets: [u8; 4],
    len: usize,
}

impl Character {
    fn new<const N: usize>(from: [u8; N]) -> Self {
        let mut octets = [0; 4];
        octets.iter_mut().zip(from).for_each(|(to, from)| *to = from);
        Self { octets, len: N }
    }

    fn len(&self) -> usize {
        self.len
    }

    fn octets(&self) -> impl Iterator<Item = u8> {
        self.octets.into_iter().take(self.len)
    }
}

/// In the default alphabet if it has every character, or else in UTF-16.
fn encode(text: &str) -> (Coding, Vec<Character>) {
    let gsm7 = |character| {
        alphabet::encode(character).map(|code| match code {
            Code::Basic(code) => Character::new([code]),
            Code::Extended(code) => Character::new([ESCAPE, code]),
        })
    };
    if let Some(characters) = text.chars().map(gsm7).collect() {
        return (Coding::Gsm7, characters);
    }
    let ucs2 = |character: char| match character.encode_utf16(&mut [0; 2]) {
        [unit] => Character::new(unit.to_be_bytes()),
        units => {
            let mut octets = [0; 4];
            octets
                .iter_mut()
                .zip(units.iter().flat_map(|unit| unit.to_be_bytes()))
                .for_each(|(to, it)| *to = it);
            Character::new(octets)
        }
    };
    (Coding::Ucs2, text.chars().map(ucs2).collect())
}

fn cut(characters: &[Character], room: usize) -> Vec<Vec<u8>> {
    let mut parts = Vec::new();
    let mut part = Vec::with_capacity(room);
    for character in characters {
        if part.len() + character.len() > room {
            parts.push(std::mem::replace(&mut part, Vec::with_capacity(room)));
        }
        part.extend(character.octets());
    }
    parts.push(part);
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::alphabet::tests::decode;

    const HEADER: usize = 6;

    /// The text that a handset shows.
    fn joined(segments: &Segments, reference: u8) -> String {
        let total = segments.octets.len();
        let parts = segments.octets.iter().enumerate().map(|(at, octets)| {
            let octets = if segments.have_headers {
                let (header, octets) = octets.split_at(HEADER);
                assert_eq!(
                    header,
                    [5, 0, 3, reference, u8::try_from(total).unwrap(), u8::try_from(at + 1).unwrap()]
                );
                octets
            } else {
                octets
            };
            // Each part alone makes sense, so nothing was cut in two.
            match segments.coding {
                Coding::Gsm7 => decode(octets).unwrap(),
                Coding::Ucs2 => {
                    let units: Vec<u16> =
                        octets.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
                    String::from_utf16(&units).unwrap()
                }
            }
        });
        parts.collect()
    }

    /// What a part takes on the air: the header fills up to whole septets.
    fn on_the_air(segments: &Segments, octets: &[u8]) -> usize {
        match (segments.coding, segments.have_headers) {
            (Coding::Ucs2, _) => octets.len(),
            (Coding::Gsm7, false) => (octets.len() * 7).div_ceil(8),
            (Coding::Gsm7, true) => (((HEADER * 8).div_ceil(7) + octets.len() - HEADER) * 7).div_ceil(8),
        }
    }

    #[rstest]
    #[case::alone("a", 160, Coding::Gsm7, 1)]
    #[case::two("a", 161, Coding::Gsm7, 2)]
    #[case::two_full("a", 306, Coding::Gsm7, 2)]
    #[case::three("a", 307, Coding::Gsm7, 3)]
    #[case::extended_alone("€", 80, Coding::Gsm7, 1)]
    #[case::extended_two("€", 81, Coding::Gsm7, 2)]
    // 153 is odd: 76 of them fit into a part, not 76 and a half.
    #[case::extended_two_full("€", 152, Coding::Gsm7, 2)]
    #[case::extended_three("€", 153, Coding::Gsm7, 3)]
    #[case::wide_alone("ж", 70, Coding::Ucs2, 1)]
    #[case::wide_two("ж", 71, Coding::Ucs2, 2)]
    #[case::wide_two_full("ж", 134, Coding::Ucs2, 2)]
    #[case::wide_three("ж", 135, Coding::Ucs2, 3)]
    #[case::pairs_alone("😀", 35, Coding::Ucs2, 1)]
    #[case::pairs_two("😀", 36, Coding::Ucs2, 2)]
    // 67 is odd as well.
    #[case::pairs_two_full("😀", 66, Coding::Ucs2, 2)]
    #[case::pairs_three("😀", 67, Coding::Ucs2, 3)]
    fn counts(#[case] character: &str, #[case] times: usize, #[case] coding: Coding, #[case] count: usize) {
        let text = character.repeat(times);
        let segments = segments(&text, 7).unwrap();
        assert_eq!((segments.coding, segments.octets.len()), (coding, count));
        assert_eq!(joined(&segments, 7), text);
    }

    #[test]
    fn one_character_outside_the_alphabet_turns_the_whole_text() {
        assert_eq!(segments("Your code: 123456", 0).unwrap().coding, Coding::Gsm7);
        assert_eq!(segments("Your code: 123456 ç", 0).unwrap().coding, Coding::Ucs2);
    }

    #[test]
    fn some_texts_cannot_be_sent() {
        assert_eq!(segments("", 0).err(), Some(Unsendable::Empty));
        assert!(segments(&"a".repeat(255 * 153), 0).is_ok());
        assert_eq!(segments(&"a".repeat(255 * 153 + 1), 0).err(), Some(Unsendable::TooLong));
    }

    proptest! {
        #[test]
        fn a_text_comes_out_as_it_went_in(
            text in prop_oneof!["[ -~€\n]{1,700}", "[a-z^{}€]{1,700}", "\\PC{1,300}", "[a-c😀ж]{1,300}"],
            reference: u8,
        ) {
            let segments = segments(&text, reference).unwrap();
            prop_assert_eq!(joined(&segments, reference), text);
            prop_assert_eq!(segments.have_headers, segments.octets.len() > 1);
            for octets in &segments.octets {
                prop_assert!(on_the_air(&segments, octets) <= 140);
            }
        }
    }
}
