//! Serialisation of the public values (feature `serde`). Reading goes through the same checks as parsing; secrets have none.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Country, Currency, EmailAddress, KycLevel, PhoneNumber, ProfileField, Requirement, Violation};

macro_rules! as_text {
    ($($type:ty: $parse:expr;)*) => {
        $(
            impl Serialize for $type {
                fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    serializer.serialize_str(self.as_str())
                }
            }

            impl<'de> Deserialize<'de> for $type {
                fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    let text = String::deserialize(deserializer)?;
                    $parse(&text).map_err(D::Error::custom)
                }
            }
        )*
    };
}

as_text! {
    PhoneNumber: PhoneNumber::parse;
    EmailAddress: EmailAddress::parse;
    Country: Country::parse;
    Currency: Currency::parse;
    KycLevel: |text: &str| KycLevel::parse(text).ok_or("not a level");
}

macro_rules! written_as_text {
    ($($type:ty),*) => {
        $(
            impl Serialize for $type {
                fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    serializer.serialize_str(self.as_str())
                }
            }
        )*
    };
}

written_as_text!(ProfileField, Requirement, Violation);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_texts_and_are_checked() {
        let phone: PhoneNumber = serde_json::from_str("\"+44 7871 234567\"").unwrap();
        assert_eq!(serde_json::to_string(&phone).unwrap(), "\"+447871234567\"");
        assert!(serde_json::from_str::<PhoneNumber>("\"112\"").is_err());
        assert_eq!(serde_json::to_string(&KycLevel::Kyc0).unwrap(), "\"KYC_0\"");
        assert!(serde_json::from_str::<EmailAddress>("\"nobody\"").is_err());
        assert_eq!(serde_json::to_string(&Violation::TooShort).unwrap(), "\"too_short\"");
        assert_eq!(serde_json::from_str::<Country>("\"gbr\"").unwrap().as_str(), "GB");
    }
}
