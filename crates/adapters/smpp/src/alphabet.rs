//! The GSM 7-bit default alphabet and its extension table (3GPP TS 23.038, section 6.2.1), one septet to an octet.
//!
//! SMPP carries it unpacked as `data_coding` 0; packing seven octets out of eight is the SMSC's work.

/// Announces a character of the extension table.
pub(crate) const ESCAPE: u8 = 0x1b;

/// The code of a character: itself, or with [`ESCAPE`] before it. `None` if the alphabet lacks it.
pub(crate) fn encode(character: char) -> Option<Code> {
    let basic = BASIC.iter().position(|listed| *listed == Some(character));
    if let Some(code) = basic.and_then(|at| u8::try_from(at).ok()) {
        return Some(Code::Basic(code));
    }
    EXTENSION.iter().find(|(_, listed)| *listed == character).map(|(code, _)| Code::Extended(*code))
}

/// How a character is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// One septet.
    Basic(u8),
    /// Two: the escape, then this one.
    Extended(u8),
}

/// In the order of the codes. The place of the escape is empty.
#[rustfmt::skip]
const BASIC: [Option<char>; 128] = [
    Some('@'), Some('£'), Some('$'), Some('¥'), Some('è'), Some('é'), Some('ù'), Some('ì'),
    Some('ò'), Some('Ç'), Some('\n'), Some('Ø'), Some('ø'), Some('\r'), Some('Å'), Some('å'),
    Some('Δ'), Some('_'), Some('Φ'), Some('Γ'), Some('Λ'), Some('Ω'), Some('Π'), Some('Ψ'),
    Some('Σ'), Some('Θ'), Some('Ξ'), None, Some('Æ'), Some('æ'), Some('ß'), Some('É'),
    Some(' '), Some('!'), Some('"'), Some('#'), Some('¤'), Some('%'), Some('&'), Some('\''),
    Some('('), Some(')'), Some('*'), Some('+'), Some(','), Some('-'), Some('.'), Some('/'),
    Some('0'), Some('1'), Some('2'), Some('3'), Some('4'), Some('5'), Some('6'), Some('7'),
    Some('8'), Some('9'), Some(':'), Some(';'), Some('<'), Some('='), Some('>'), Some('?'),
    Some('¡'), Some('A'), Some('B'), Some('C'), Some('D'), Some('E'), Some('F'), Some('G'),
    Some('H'), Some('I'), Some('J'), Some('K'), Some('L'), Some('M'), Some('N'), Some('O'),
    Some('P'), Some('Q'), Some('R'), Some('S'), Some('T'), Some('U'), Some('V'), Some('W'),
    Some('X'), Some('Y'), Some('Z'), Some('Ä'), Some('Ö'), Some('Ñ'), Some('Ü'), Some('§'),
    Some('¿'), Some('a'), Some('b'), Some('c'), Some('d'), Some('e'), Some('f'), Some('g'),
    Some('h'), Some('i'), Some('j'), Some('k'), Some('l'), Some('m'), Some('n'), Some('o'),
    Some('p'), Some('q'), Some('r'), Some('s'), Some('t'), Some('u'), Some('v'), Some('w'),
    Some('x'), Some('y'), Some('z'), Some('ä'), Some('ö'), Some('ñ'), Some('ü'), Some('à'),
];

/// What follows the escape.
const EXTENSION: [(u8, char); 10] = [
    (0x0a, '\u{c}'),
    (0x14, '^'),
    (0x28, '{'),
    (0x29, '}'),
    (0x2f, '\\'),
    (0x3c, '['),
    (0x3d, '~'),
    (0x3e, ']'),
    (0x40, '|'),
    (0x65, '€'),
];

#[cfg(test)]
pub(crate) mod tests {
    use rstest::rstest;

    use super::*;

    /// The text of unpacked septets; `None` if they are none.
    pub(crate) fn decode(octets: &[u8]) -> Option<String> {
        let mut octets = octets.iter();
        let mut text = String::new();
        while let Some(&octet) = octets.next() {
            text.push(if octet == ESCAPE {
                let code = octets.next()?;
                EXTENSION.iter().find(|(listed, _)| listed == code)?.1
            } else {
                (*BASIC.get(usize::from(octet))?)?
            });
        }
        Some(text)
    }

    #[rstest]
    #[case('@', Some(Code::Basic(0x00)))]
    #[case('$', Some(Code::Basic(0x02)))]
    #[case('Ç', Some(Code::Basic(0x09)))]
    #[case('\n', Some(Code::Basic(0x0a)))]
    #[case('\r', Some(Code::Basic(0x0d)))]
    #[case('Δ', Some(Code::Basic(0x10)))]
    #[case('_', Some(Code::Basic(0x11)))]
    #[case('É', Some(Code::Basic(0x1f)))]
    #[case(' ', Some(Code::Basic(0x20)))]
    #[case('¤', Some(Code::Basic(0x24)))]
    #[case('0', Some(Code::Basic(0x30)))]
    #[case('¡', Some(Code::Basic(0x40)))]
    #[case('A', Some(Code::Basic(0x41)))]
    #[case('Z', Some(Code::Basic(0x5a)))]
    #[case('§', Some(Code::Basic(0x5f)))]
    #[case('¿', Some(Code::Basic(0x60)))]
    #[case('z', Some(Code::Basic(0x7a)))]
    #[case('à', Some(Code::Basic(0x7f)))]
    #[case('{', Some(Code::Extended(0x28)))]
    #[case('\\', Some(Code::Extended(0x2f)))]
    #[case('€', Some(Code::Extended(0x65)))]
    #[case('\u{c}', Some(Code::Extended(0x0a)))]
    #[case('ç', None)]
    #[case('`', None)]
    #[case('\t', None)]
    #[case('\u{1b}', None)]
    #[case('ё', None)]
    #[case('😀', None)]
    fn characters(#[case] character: char, #[case] code: Option<Code>) {
        assert_eq!(encode(character), code);
    }

    #[test]
    fn each_code_means_one_character() {
        let characters: std::collections::BTreeSet<char> = BASIC
            .iter()
            .flatten()
            .copied()
            .chain(EXTENSION.iter().map(|(_, character)| *character))
            .collect();
        assert_eq!(characters.len(), 127 + EXTENSION.len());
        assert_eq!(BASIC.iter().position(Option::is_none), Some(usize::from(ESCAPE)));
    }
}
