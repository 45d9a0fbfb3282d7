//! Those in whose apps people register.

use std::collections::HashMap;

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use vestibule_domain::MerchantId;

use super::forms::{list, optional_list};
use super::limits::Rate;
use super::{ConfigError, countries};

/// The shortest secret that a partner signs with, in bytes: as long as what the signature is made with (RFC 2104, section 3).
const MIN_PARTNER_SECRET: usize = 32;

/// The longest name that messages of a partner speak in, in characters.
const MAX_BRAND: usize = 32;

pub(super) fn check(partners: &HashMap<String, Partner>) -> Result<(), ConfigError> {
    for (id, partner) in partners {
        let refuse = |problem: String| ConfigError::of("partners", format!("`{id}`: {problem}"));
        if MerchantId::parse(id).is_none() {
            return Err(refuse("a partner's id is 1 to 64 of `A-Z`, `a-z`, `0-9`, `_` and `-`".to_owned()));
        }
        partner.check().map_err(refuse)?;
        countries("partners: `phone_countries`", &partner.phone_countries)?;
    }
    Ok(())
}

/// Somebody whose app people register in.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Partner {
    pub(crate) name: String,
    pub(crate) brand: Option<String>,
    #[serde(default, deserialize_with = "list")]
    pub(crate) phone_countries: Vec<String>,
    /// Several while a secret is changed: what is signed with any of them is believed.
    #[serde(default, deserialize_with = "optional_list")]
    pub(crate) secrets: Option<Vec<SecretString>>,
    pub(crate) signup_per_hour: Option<Rate>,
}

impl Partner {
    /// The name that its messages speak in.
    pub(crate) fn brand(&self) -> &str {
        self.brand.as_deref().unwrap_or(&self.name)
    }

    fn check(&self) -> Result<(), String> {
        // Of the characters that cost an SMS no more than a letter, those that names are written with, and none that ends a code's line.
        let is_plain = |c: char| c.is_ascii_alphanumeric() || " !&'()+,-./ÄÖÑÜÅÆØÉäöñüåæøéèìòùà".contains(c);
        let brand = self.brand();
        if brand.trim() != brand
            || !(1..=MAX_BRAND).contains(&brand.chars().count())
            || !brand.chars().all(is_plain)
        {
            return Err(format!(
                "its `brand` (else its `name`) must be 1 to {MAX_BRAND} letters, digits and signs that an SMS can carry"
            ));
        }
        // A variable that was left empty by mistake must not mean that nothing need be signed.
        if self.secrets.as_ref().is_some_and(Vec::is_empty) {
            return Err("its `secrets` must not be empty: leave them out if it does not sign".to_owned());
        }
        if self.secrets.iter().flatten().any(|secret| secret.expose_secret().len() < MIN_PARTNER_SECRET) {
            return Err(format!("each of its `secrets` must have at least {MIN_PARTNER_SECRET} characters"));
        }
        Ok(())
    }
}
