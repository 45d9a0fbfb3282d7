//! Whether a password contains something from its owner's profile, however it is disguised.

use time::Date;
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::code::ascii_digit;

/// Shorter parts occur in innocent passwords.
const MIN_PART_CHARACTERS: usize = 4;

/// A password, folded once for many comparisons, and wiped as the password is.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct Folded {
    letters: String,
    digits: String,
}

impl Folded {
    pub(super) fn of(password: &str) -> Self {
        let digits = password.chars().filter(|c| !is_date_separator(*c)).map(or_ascii_digit).collect();
        Self { letters: fold(password), digits }
    }

    /// Whether the text, or one of its words, is in the password.
    pub(super) fn contains(&self, text: &str) -> bool {
        let words = text.split(|c: char| !c.is_alphanumeric());
        std::iter::once(text)
            .chain(words)
            // Counted before folding, which takes some letters apart and drops others.
            .filter(|part| part.chars().filter(|c| c.is_alphanumeric()).count() >= MIN_PART_CHARACTERS)
            .map(fold)
            .any(|part| part.chars().count() >= MIN_PART_CHARACTERS && self.letters.contains(&part))
    }

    /// Whether the date is in the password in one of its usual forms, with or without separators and leading zeros.
    pub(super) fn contains_date(&self, date: Date) -> bool {
        let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
        let years = [format!("{year:04}"), format!("{:02}", year.rem_euclid(100))];
        let months = [format!("{month:02}"), month.to_string()];
        let days = [format!("{day:02}"), day.to_string()];
        let mut forms = years.iter().flat_map(|y| {
            months
                .iter()
                .flat_map(|m| days.iter().map(move |d| (m, d)))
                .flat_map(move |(m, d)| [format!("{y}{m}{d}"), format!("{d}{m}{y}"), format!("{m}{d}{y}")])
        });
        // The shortest form has four digits, as 7.5.90.
        forms.any(|form| self.digits.contains(&form))
    }
}

fn or_ascii_digit(c: char) -> char {
    ascii_digit(c).unwrap_or(c)
}

fn is_date_separator(c: char) -> bool {
    matches!(c, '-' | '.' | '/' | '_' | ',' | ':' | ' ')
}

/// Lower case without accents, look-alike digits and signs as the letter they stand for, everything else that is no letter or
/// digit dropped. Letters that share a look-alike (`i`, `l`) become the same.
fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    let letters = text.nfkd().filter(|c| !is_combining_mark(*c)).flat_map(char::to_lowercase);
    for c in letters.map(or_ascii_digit) {
        match c {
            '0' | 'ø' => folded.push('o'),
            '1' | '!' | '|' | 'l' | 'ı' | 'ł' => folded.push('i'),
            '2' => folded.push('z'),
            '3' | '€' => folded.push('e'),
            '4' | '@' => folded.push('a'),
            '5' | '$' | '§' => folded.push('s'),
            '6' | '9' => folded.push('g'),
            '7' | '+' => folded.push('t'),
            '8' => folded.push('b'),
            'đ' => folded.push('d'),
            'ς' => folded.push('σ'),
            'ß' => folded.push_str("ss"),
            'æ' => folded.push_str("ae"),
            'œ' => folded.push_str("oe"),
            c if c.is_alphanumeric() => folded.push(c),
            _ => {}
        }
    }
    folded
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use time::macros::date;

    use super::*;

    #[rstest]
    #[case("xxannaxx", "Anna", true)]
    #[case("xxÄNNAxx", "Anna", true)]
    #[case("sm1th-77", "Smith", true)]
    #[case("$m!th-77", "Smith", true)]
    #[case("w1ll1am9", "William", true)]
    #[case("baker22x", "221b Baker Street", true)]
    #[case("SW1A1AAx", "SW1A 1AA", true)]
    #[case("xMullerx", "Müller", true)]
    #[case("strasseX", "Straße", true)]
    #[case("ＳＭＩＴＨ-77", "Smith", true)]
    #[case("ΝΙΚΟΣ-77", "Νίκος", true)]
    #[case("newyork-7", "New York", true)]
    #[case("york-7-77", "New York", true)]
    #[case("x١٠١١٥x", "10115", true)]
    #[case("6r33n-88", "Green", true)]
    #[case("8aker-7t7", "Baker", true)]
    #[case("xxAnnxx9", "Ann", false)]
    #[case("new-77-77", "New York", false)]
    #[case("mass-7-77", "Maß", false)]
    #[case("김철수-비밀-7", "김철수", false)]
    #[case("correct horse", "Anna", false)]
    fn texts(#[case] password: &str, #[case] text: &str, #[case] contained: bool) {
        assert_eq!(Folded::of(password).contains(text), contained);
    }

    #[rstest]
    #[case("x19900507x", true)]
    #[case("x1990-05-07x", true)]
    #[case("x7.5.1990x", true)]
    #[case("x05/07/1990", true)]
    #[case("x070590x", true)]
    #[case("x900507x", true)]
    #[case("x050790x", true)]
    #[case("x1990/5/7x", true)]
    #[case("x07.5.1990x", true)]
    #[case("x7-05-90x", true)]
    #[case("x１９９００５０７x", true)]
    #[case("x0705x", false)]
    #[case("x1990x", false)]
    #[case("x19910507x", false)]
    fn dates(#[case] password: &str, #[case] contained: bool) {
        assert_eq!(Folded::of(password).contains_date(date!(1990 - 05 - 07)), contained);
    }
}
