use std::collections::HashSet;

use time::UtcDateTime;
use vestibule_domain::limits::{Charge, Unit};
use vestibule_domain::quota::Quota;
use vestibule_domain::{Country, MerchantId, Origin, PhoneNumber};
use vestibule_port_storage::{SignatureDigest, Unavailable};

use crate::Application;

/// What is agreed with a partner.
#[derive(Debug, Clone, Default)]
pub struct Partner {
    /// Countries whose numbers may sign up by it; all that are not blocked if it names none.
    pub phone_countries: HashSet<Country>,
    /// How many sign-ups may come by it, where that is limited.
    pub sign_ups: Option<Quota>,
}

impl Partner {
    pub(crate) fn takes(&self, phone: &PhoneNumber) -> bool {
        let is_named = |country| self.phone_countries.contains(&country);
        self.phone_countries.is_empty() || phone.country().is_some_and(is_named)
    }
}

impl Application {
    /// Accepts a partner's signature, unless one of the instances has accepted it before; false if one has. It is remembered until
    /// `forget_at`, after which it must be too old to be accepted.
    ///
    /// # Errors
    /// [`Unavailable`]; the signature may count as accepted then.
    pub async fn accept_signature(
        &self,
        signature: &SignatureDigest,
        forget_at: UtcDateTime,
    ) -> Result<bool, Unavailable> {
        self.storage.accept_signature(signature, forget_at).await
    }

    pub(crate) fn partner(&self, merchant: Option<MerchantId>) -> Option<&Partner> {
        self.settings.partners.get(&merchant?)
    }

    /// What bears a sign-up from the origin by the merchant.
    pub(crate) fn sign_up_charges(
        &self,
        origin: &Origin,
        merchant: Option<MerchantId>,
        unit: Unit,
        now: UtcDateTime,
    ) -> Vec<Charge> {
        let quota = self.partner(merchant).and_then(|partner| partner.sign_ups);
        self.settings.quotas.sign_up_charges(origin, merchant.zip(quota), unit, now)
    }
}
