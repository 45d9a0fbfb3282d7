//! SMS providers, and which of them are tried where.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::path::PathBuf;

use secrecy::SecretString;
use serde::Deserialize;
use vestibule_domain::Country;

use super::forms::{list, word};
use super::{ConfigError, by_country};

section! {
    /// SMS providers.
    Sms {
        #[serde(deserialize_with = "list")]
        providers: Vec<SmsProvider> = vec![SmsProvider::Inbox],
        countries: HashMap<String, SmsProviders> = HashMap::new(),
        twilio: Option<Twilio> = None,
        webhook: Option<Webhook> = None,
        smpp: Option<Smpp> = None,
    }
}

impl Sms {
    /// Whether any list names the provider.
    pub(crate) fn uses(&self, provider: SmsProvider) -> bool {
        self.providers.contains(&provider) || self.countries.values().any(|list| list.0.contains(&provider))
    }

    /// The countries with an order of their own.
    pub(crate) fn country_orders(&self) -> Result<HashMap<Country, &[SmsProvider]>, ConfigError> {
        let orders = by_country("sms.countries", &self.countries)?;
        Ok(orders.into_iter().map(|(country, SmsProviders(order))| (country, order.as_slice())).collect())
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        once_each("sms.providers", "", &self.providers)?;
        let orders = self.country_orders()?;
        for (country, providers) in &orders {
            once_each("sms.countries", &format!("{country}: "), providers)?;
        }
        for (provider, key, is_there) in [
            (SmsProvider::Twilio, "sms.twilio", self.twilio.is_some()),
            (SmsProvider::Webhook, "sms.webhook", self.webhook.is_some()),
            (SmsProvider::Smpp, "sms.smpp", self.smpp.is_some()),
        ] {
            if self.uses(provider) && !is_there {
                let problem = "is needed, since `sms.providers` or `sms.countries` names it";
                return Err(ConfigError::of(key, problem));
            }
        }
        Ok(())
    }
}

/// Providers in the order in which they are tried.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct SmsProviders(#[serde(deserialize_with = "list")] pub(crate) Vec<SmsProvider>);

/// A way to send SMS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SmsProvider {
    Inbox,
    Twilio,
    Webhook,
    Smpp,
}

impl SmsProvider {
    pub(super) const ALL: [Self; 4] = [Self::Inbox, Self::Twilio, Self::Webhook, Self::Smpp];

    /// Its name, which its adapter has too.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Inbox => "inbox",
            Self::Twilio => "twilio",
            Self::Webhook => "webhook",
            Self::Smpp => "smpp",
        }
    }
}

/// Access to Twilio.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Twilio {
    #[serde(default = "twilio_url")]
    pub(crate) base_url: String,
    pub(crate) account_sid: String,
    pub(crate) auth_token: SecretString,
    pub(crate) from: String,
    /// Whether Twilio can reach `http.public_url`, to tell what becomes of messages.
    #[serde(default)]
    pub(crate) callbacks: bool,
}

fn twilio_url() -> String {
    vestibule_twilio::DEFAULT_BASE_URL.to_owned()
}

/// Access to a receiver of webhooks.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Webhook {
    pub(crate) url: String,
    /// Several while a secret is changed: all of them sign, any of them is believed.
    #[serde(deserialize_with = "list")]
    pub(crate) secrets: Vec<SecretString>,
}

/// Access to an SMSC.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Smpp {
    pub(crate) url: SecretString,
    pub(crate) from: String,
    pub(crate) from_ton: Option<u8>,
    pub(crate) from_npi: Option<u8>,
    #[serde(default)]
    pub(crate) system_type: String,
    pub(crate) window: Option<usize>,
    pub(crate) per_second: Option<NonZeroU32>,
    pub(crate) enquire_link_seconds: Option<u64>,
    pub(crate) timeout_seconds: Option<u64>,
    pub(crate) ca_file: Option<PathBuf>,
    #[serde(default, deserialize_with = "word")]
    pub(crate) receipt_ids: ReceiptIds,
}

/// How an SMSC's receipts write the ids that it gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ReceiptIds {
    #[default]
    AsGiven,
    Decimal,
}

fn once_each(key: &'static str, whose: &str, providers: &[SmsProvider]) -> Result<(), ConfigError> {
    let refuse = |problem: &str| Err(ConfigError::of(key, format!("{whose}{problem}")));
    if providers.is_empty() {
        return refuse("must name at least one provider");
    }
    let twice = |(at, provider)| providers.iter().take(at).any(|earlier| earlier == provider);
    if providers.iter().enumerate().any(twice) { refuse("names a provider twice") } else { Ok(()) }
}
