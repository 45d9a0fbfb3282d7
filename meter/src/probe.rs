use serde_json::{Value, json};

/// Good enough for the policy, so that a sign-up goes all the way.
const PASSWORD: &str = "correct-horse-7";

/// What a sign-in tries: no account that the meter has prepared has it.
const WRONG_PASSWORD: &str = "correct-horse-8";

/// The right one once in a million.
const CODE: &str = "000000";

/// The step that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Probe {
    /// Signs up with the number.
    SignUp,
    /// Asks for the code again.
    Resend,
    /// Guesses at the code of a sign-up.
    Confirm,
    /// Asks for a new password.
    Reset,
    /// Guesses at the code of a reset.
    CheckReset,
    /// Sets a new password by a guess at the code of a reset.
    ResetConfirm,
    /// Tries a password.
    SignIn,
}

impl Probe {
    /// Where it is sent.
    pub(crate) const fn path(self) -> &'static str {
        match self {
            Self::SignUp => "/v2/mobile/signup",
            Self::Resend => "/v2/mobile/phone/verify/resend",
            Self::Confirm => "/v2/mobile/phone/confirm",
            Self::Reset => "/v2/mobile/password/reset",
            Self::CheckReset => "/v2/mobile/password/reset/confirm/code",
            Self::ResetConfirm => "/v2/mobile/password/reset/confirm",
            Self::SignIn => "/oauth/token",
        }
    }

    /// What is sent for the number.
    pub(crate) fn body(self, phone: &str) -> Value {
        match self {
            Self::SignUp => json!({ "phone": phone, "password": PASSWORD }),
            Self::Resend | Self::Reset => json!({ "phone": phone }),
            Self::Confirm => json!({ "phone": phone, "smsCode": CODE }),
            Self::CheckReset => json!({ "phone": phone, "code": CODE }),
            Self::ResetConfirm => json!({ "phone": phone, "code": CODE, "password": PASSWORD }),
            Self::SignIn => {
                json!({ "grant_type": "mobile_phone", "number": phone, "password": WRONG_PASSWORD })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn a_new_password_is_tried_with_a_code_that_is_hardly_right() {
        let probe = Probe::from_str("reset-confirm", false).unwrap();
        assert_eq!(probe.path(), "/v2/mobile/password/reset/confirm");
        let body = json!({ "phone": "+447400000001", "code": CODE, "password": PASSWORD });
        assert_eq!(probe.body("+447400000001"), body);
    }
}
