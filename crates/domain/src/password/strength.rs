/// Estimates how many guesses a password withstands.
pub trait StrengthEstimator: Send + Sync {
    /// From 0 (guessed at once) to 4 (very unlikely to be guessed); `known` is what an attacker knows of its owner.
    fn score(&self, password: &str, known: &[&str]) -> u8;
}

/// Knows the passwords that were published in breaches.
pub trait BreachedPasswords: Send + Sync {
    /// Whether the password is one of them. A filter may be wrong with a small probability in the affirmative.
    fn contains(&self, password: &str) -> bool;
}

/// The estimator of Wheeler, *zxcvbn: Low-Budget Password Strength Estimation*, USENIX Security 2016.
#[derive(Debug, Clone, Copy, Default)]
pub struct Zxcvbn;

/// The estimate's time grows faster than its input: 0.3 ms for a usual password, 13 ms at 64 characters.
const MAX_CHARACTERS: usize = 64;

impl StrengthEstimator for Zxcvbn {
    fn score(&self, password: &str, known: &[&str]) -> u8 {
        let end = password.char_indices().nth(MAX_CHARACTERS).map_or(password.len(), |(index, _)| index);
        zxcvbn::zxcvbn(password.get(..end).unwrap_or_default(), known).score().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guessable_passwords_score_low_and_what_is_known_counts() {
        assert!(Zxcvbn.score("1234Qwerty", &[]) < 2);
        assert!(Zxcvbn.score("correct-horse-7", &[]) >= 2);
        assert!(Zxcvbn.score("vestibulary", &["vestibulary"]) < Zxcvbn.score("vestibulary", &[]));
    }

    #[test]
    fn only_the_beginning_of_a_long_text_is_estimated() {
        let weak = "ä".repeat(MAX_CHARACTERS);
        let tail = "kX7#vQ2!mZ9@rT4$";
        assert_eq!(Zxcvbn.score(&format!("{weak}{tail}"), &[]), Zxcvbn.score(&weak, &[]));
        assert!(Zxcvbn.score(tail, &[]) > Zxcvbn.score(&weak, &[]));
    }
}
