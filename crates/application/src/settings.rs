use std::collections::HashMap;
use std::time::Duration;

use vestibule_domain::limits::Quotas;
use vestibule_domain::pumping::PumpingGuard;
use vestibule_domain::registration::Rules;
use vestibule_domain::sign_in::GuardRules;
use vestibule_domain::spending::Budget;
use vestibule_domain::{CountryRule, EmailRules, MerchantId, PasswordPolicy, SessionLives, TestNumbers};

use crate::Partner;

/// Limits and lives, as the operator has set them.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Of a registration.
    pub registration: Rules,
    /// Of e-mail confirmation.
    pub email: EmailRules,
    /// How often who may do what.
    pub quotas: Quotas,
    /// Which sign-ups are held back because too few codes come back.
    pub pumping: PumpingGuard,
    /// What messages may cost.
    pub spending: Budget,
    /// Wrong passwords that are borne.
    pub guard: GuardRules,
    /// Whether a sign-up with a used number must look like any other.
    pub conceal_accounts: bool,
    /// The age that a customer must have reached.
    pub min_age_years: u8,
    /// Countries whose client addresses may sign up.
    pub client_countries: CountryRule,
    /// Countries whose numbers may sign up.
    pub phone_countries: CountryRule,
    /// Numbers with a code of their own.
    pub test_numbers: TestNumbers,
    /// Whose apps people sign up in.
    pub partners: HashMap<MerchantId, Partner>,
    /// The rules for new passwords.
    pub passwords: PasswordPolicy,
    /// How long an access token lives; whole seconds.
    pub access_ttl: Duration,
    /// How long the record of a message is kept after it has left.
    pub keep_messages: Duration,
    /// How long facts are kept.
    pub keep_facts: Duration,
    /// How long sessions live.
    pub sessions: SessionLives,
}
