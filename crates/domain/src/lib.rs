//! What a registration is: the values, the password policy and the state machine.
//!
//! Everything here is a pure function of its arguments. There is no I/O, no clock, no randomness and no `async`: the
//! present moment, new identifiers and derived codes are passed in as values, so every rule can be tested
//! as a table and reused inside another service. Carrying decisions out (storing, sending, hashing) is the
//! caller's work.
//!
//! Start reading at [`registration`], the way from a sign-up to an account; [`sign_in`], [`password_reset`] and [`Session`] are the
//! ways back.

mod account;
pub mod audit;
mod code;
mod country;
mod country_rule;
mod email;
mod ids;
mod kyc;
pub mod limits;
mod merchant;
mod message;
mod number_range;
pub mod odds;
mod origin;
mod password;
pub mod password_reset;
mod phone;
mod profile;
pub mod pumping;
pub mod quota;
pub mod registration;
#[cfg(feature = "serde")]
mod serialized;
mod session;
pub mod sign_in;
pub mod spending;
mod test_numbers;
mod verification;

pub use account::{
    Account, AccountKind, AccountRecord, AddEmail, ConfirmEmail, EmailRefusal, EmailRules, EmailState,
    EmailStep, Standing,
};
pub use code::{Generation, OneTimeCode, OneTimeCodes};
pub use country::{Country, Currency, UnknownCountry, UnknownCurrency};
pub use country_rule::{AllowedAndBlocked, CountryRule, OfNoCountry};
pub use email::{EmailAddress, EmailError};
pub use ids::{AttemptId, EmailVerificationId, FactId, MessageId, SessionId, UserId};
pub use kyc::{KYC0_FIELDS, KycLevel, Requirement, missing_for_kyc0};
pub use merchant::MerchantId;
pub use message::{Channel, Content, DeliveryState, Locale, Message, Recipient, Voice};
pub use number_range::NumberRange;
pub use origin::{Claim, ClientAddress, Fingerprint, Origin};
pub use password::{
    BreachedPasswords, Password, PasswordHash, PasswordPolicy, PasswordSubject, PreparationError,
    StrengthEstimator, Violation, Violations, Zxcvbn,
};
pub use phone::{NumberDigest, PhoneError, PhoneNumber, warm_up};
pub use profile::{FieldFault, InvalidField, Profile, ProfileField, ProfilePatch, ProfileRecord};
pub use session::{
    HeldToken, RefreshToken, RefreshTokenHash, Refreshed, Session, SessionLives, SessionRecord,
};
pub use test_numbers::{TestNumber, TestNumbers};

/// The examples of the README are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
