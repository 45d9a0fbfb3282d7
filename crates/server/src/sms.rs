//! Makes the SMS providers that the configuration names, and what they report by.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use vestibule_application::{Callbacks, Providers};
use vestibule_inbox::Inbox;
use vestibule_port_security::{Clock, Entropy};
use vestibule_port_sms::{DeliveryCallbacks, DeliveryReports, SmsSender};
use vestibule_smpp::{AddressType, Smpp};
use vestibule_twilio::Twilio;
use vestibule_webhook::Webhook;

use crate::config::{Config, ReceiptIds, SmsProvider};

/// What every provider may need.
pub(crate) struct Surroundings<'a> {
    pub(crate) config: &'a Config,
    pub(crate) inbox: Option<&'a Arc<Inbox>>,
    pub(crate) reports: Arc<dyn DeliveryReports>,
    pub(crate) clock: &'a Arc<dyn Clock>,
    pub(crate) entropy: &'a Arc<dyn Entropy>,
}

/// The SMS side of the service.
pub(crate) struct Sms {
    pub(crate) providers: Providers,
    /// Where any provider reports by calling.
    pub(crate) callbacks: Option<Callbacks>,
    /// The session with an SMSC, which ends only when it is told to.
    pub(crate) smpp: Option<Arc<Smpp>>,
}

impl Sms {
    /// Makes each provider that any list names, once.
    pub(crate) fn new(surroundings: Surroundings<'_>) -> anyhow::Result<Self> {
        let Surroundings { config, inbox, reports, clock, entropy } = surroundings;
        let mut made: Vec<(SmsProvider, Arc<dyn SmsSender>)> = Vec::new();
        let mut callbacks: Vec<Arc<dyn DeliveryCallbacks>> = Vec::new();
        if let Some(inbox) = inbox {
            made.push((SmsProvider::Inbox, Arc::clone(inbox) as _));
        }
        if config.sms.uses(SmsProvider::Twilio) {
            let twilio = twilio(config)?;
            callbacks.extend(twilio.callbacks().map(|callbacks| Arc::new(callbacks) as _));
            made.push((SmsProvider::Twilio, Arc::new(twilio)));
        }
        if config.sms.uses(SmsProvider::Webhook) {
            let webhook = webhook(config, clock)?;
            callbacks.push(Arc::new(webhook.callbacks()));
            made.push((SmsProvider::Webhook, Arc::new(webhook)));
        }
        let mut session = None;
        if config.sms.uses(SmsProvider::Smpp) {
            let smpp = Arc::new(smpp(config, Arc::clone(&reports), entropy)?);
            session = Some(Arc::clone(&smpp));
            made.push((SmsProvider::Smpp, smpp));
        }
        let of = |provider: &SmsProvider| {
            made.iter().find(|(kind, _)| kind == provider).map(|(_, sender)| Arc::clone(sender))
        };
        let order = |list: &[SmsProvider]| list.iter().filter_map(of).collect::<Vec<_>>();
        let countries = config.sms.country_orders()?;
        let countries: HashMap<_, _> =
            countries.into_iter().map(|(country, list)| (country, order(list))).collect();
        let callbacks = (!callbacks.is_empty()).then_some(Callbacks { providers: callbacks, reports });
        Ok(Self {
            providers: Providers::new(order(&config.sms.providers), countries),
            callbacks,
            smpp: session,
        })
    }
}

fn twilio(config: &Config) -> anyhow::Result<Twilio> {
    let twilio = config.sms.twilio.as_ref().context("sms.twilio: is needed")?;
    let settings = vestibule_twilio::Settings {
        base_url: twilio.base_url.clone(),
        account_sid: twilio.account_sid.clone(),
        auth_token: twilio.auth_token.clone(),
        from: twilio.from.clone(),
        public_url: twilio.callbacks.then(|| config.public_url()),
        currency: config.spending.currency.clone(),
        timeout: vestibule_twilio::TIMEOUT,
    };
    Twilio::new(settings).context("sms.twilio")
}

fn webhook(config: &Config, clock: &Arc<dyn Clock>) -> anyhow::Result<Webhook> {
    let webhook = config.sms.webhook.as_ref().context("sms.webhook: is needed")?;
    let settings = vestibule_webhook::Settings {
        url: webhook.url.clone(),
        secrets: webhook.secrets.clone(),
        timeout: vestibule_webhook::TIMEOUT,
    };
    Webhook::new(&settings, Arc::clone(clock)).context("sms.webhook")
}

fn smpp(
    config: &Config,
    reports: Arc<dyn DeliveryReports>,
    entropy: &Arc<dyn Entropy>,
) -> anyhow::Result<Smpp> {
    let smpp = config.sms.smpp.as_ref().context("sms.smpp: is needed")?;
    let from_type = match (smpp.from_ton, smpp.from_npi) {
        (None, None) => None,
        (Some(ton), Some(npi)) => Some(AddressType { ton, npi }),
        _ => anyhow::bail!("sms.smpp.from_ton: is needed together with `from_npi`"),
    };
    let settings = vestibule_smpp::Settings {
        url: smpp.url.clone(),
        from: smpp.from.clone(),
        from_type,
        system_type: smpp.system_type.clone(),
        window: smpp.window.unwrap_or(vestibule_smpp::WINDOW),
        per_second: smpp.per_second,
        enquire_link: smpp.enquire_link_seconds.map_or(vestibule_smpp::ENQUIRE_LINK, Duration::from_secs),
        timeout: smpp.timeout_seconds.map_or(vestibule_smpp::TIMEOUT, Duration::from_secs),
        ca_file: smpp.ca_file.clone(),
        receipt_ids: match smpp.receipt_ids {
            ReceiptIds::AsGiven => vestibule_smpp::ReceiptIds::AsGiven,
            ReceiptIds::Decimal => vestibule_smpp::ReceiptIds::Decimal,
        },
        // Instances that lost the same SMSC must not all come back at once.
        jitter_seed: entropy.unguessable_id().as_u64_pair().1,
    };
    Smpp::start(settings, reports).context("sms.smpp")
}
