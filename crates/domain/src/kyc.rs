use crate::{Profile, ProfileField};

/// How well a customer is known ("know your customer").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KycLevel {
    /// Only the phone is known.
    None,
    /// Phone, e-mail address and the personal details of [`KYC0_FIELDS`] are known.
    Kyc0,
}

impl KycLevel {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Kyc0 => "KYC_0",
        }
    }

    /// The level of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::None, Self::Kyc0].into_iter().find(|level| level.as_str() == name)
    }
}

/// The personal details that KYC_0 needs.
pub const KYC0_FIELDS: [ProfileField; 7] = [
    ProfileField::FirstName,
    ProfileField::LastName,
    ProfileField::DateOfBirth,
    ProfileField::ResidenceCountry,
    ProfileField::ResidenceCity,
    ProfileField::ResidenceStreet,
    ProfileField::ResidenceZipCode,
];

/// One thing that KYC_0 needs beside the phone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Requirement {
    /// An e-mail address.
    Email,
    /// A personal detail.
    Profile(ProfileField),
}

impl Requirement {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Profile(field) => field.as_str(),
        }
    }
}

/// What is missing for KYC_0.
#[must_use]
pub fn missing_for_kyc0(has_email: bool, profile: &Profile) -> Vec<Requirement> {
    let email = (!has_email).then_some(Requirement::Email);
    let fields = KYC0_FIELDS.into_iter().filter(|field| !profile.has(*field)).map(Requirement::Profile);
    email.into_iter().chain(fields).collect()
}

#[cfg(test)]
mod tests {
    use time::macros::date;

    use super::*;
    use crate::ProfilePatch;

    fn names(missing: &[Requirement]) -> Vec<&'static str> {
        missing.iter().map(|requirement| requirement.as_str()).collect()
    }

    #[test]
    fn what_is_missing_is_named_until_nothing_is() {
        let values = ["Anna", "Smith", "1990-05-17", "GB", "London", "221b Baker Street", "NW1 6XE"];
        let mut profile = Profile::default();
        let mut expected = vec![
            "firstName",
            "lastName",
            "dateOfBirth",
            "residenceCountry",
            "residenceCity",
            "residenceStreet",
            "residenceZipCode",
        ];
        for (field, value) in KYC0_FIELDS.into_iter().zip(values) {
            assert_eq!(names(&missing_for_kyc0(true, &profile)), expected);
            let patch = ProfilePatch::default().with(field, Some(value.to_owned()));
            profile = profile.patched(&patch, date!(2026 - 11 - 24), 18, KycLevel::None).unwrap();
            expected.remove(0);
        }
        assert_eq!(names(&missing_for_kyc0(true, &profile)), [""; 0]);
        assert_eq!(names(&missing_for_kyc0(false, &profile)), ["email"]);
    }

    #[test]
    fn levels_have_an_order_and_names() {
        assert!(KycLevel::None < KycLevel::Kyc0);
        assert_eq!(KycLevel::parse("NONE"), Some(KycLevel::None));
        assert_eq!(KycLevel::parse("KYC_0"), Some(KycLevel::Kyc0));
        assert_eq!(KycLevel::parse("kyc_0"), None);
    }
}
