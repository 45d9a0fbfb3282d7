//! What messages and errors say, in every language that has a file in `locales/`.

use std::collections::{BTreeMap, HashMap};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use minijinja::{Environment, context};
use serde::Deserialize;
use vestibule_domain::{Content, EmailAddress, Locale, MerchantId, Message, OneTimeCodes as _, Voice};

use crate::{Derivation, EMAIL_CONFIRMATION_EVENT};

/// The files of `locales/`: language tag and content.
const LOCALES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/locales.rs"));

/// The language that everybody gets who asks for none that we have.
const FALLBACK: &str = "en";

/// The characters of one SMS in the GSM 7-bit alphabet (3GPP TS 23.038).
const SMS_CHARACTERS: usize = 160;

/// The longest code that there is.
const LONGEST_CODE: &str = "0000000000";

/// One language's file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Texts {
    sms: SmsTexts,
    email: EmailTexts,
    errors: BTreeMap<String, String>,
    fields: BTreeMap<String, String>,
    page: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SmsTexts {
    sign_up_code: String,
    already_registered: String,
    reset_code: String,
    password_changed: String,
    session_stolen: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EmailTexts {
    confirmation: MailTemplate,
    password_changed: MailTemplate,
    session_stolen: MailTemplate,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MailTemplate {
    subject: String,
    text: String,
    html: String,
}

/// A mail, ready to send.
#[derive(Clone)]
pub struct MailText {
    /// The subject.
    pub subject: String,
    /// The plain-text part.
    pub text: String,
    /// The HTML part.
    pub html: String,
}

/// A wording file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WordingError {
    /// It is not of the form that a wording file has.
    #[error("locales/{locale}.toml: {source}")]
    Form {
        /// The file's language.
        locale: &'static str,
        /// What is wrong.
        source: Box<toml::de::Error>,
    },
    /// A text is no valid template.
    #[error("locales/{locale}.toml: {source}")]
    Template {
        /// The file's language.
        locale: &'static str,
        /// What is wrong.
        source: minijinja::Error,
    },
    /// An SMS would not fit into one message with the domain that its last line names.
    #[error(
        "locales/{locale}.toml: an SMS with the code and the domain `{domain}` is longer than {SMS_CHARACTERS} characters"
    )]
    TooLong {
        /// The file's language.
        locale: &'static str,
        /// The host of the public URL.
        domain: String,
    },
    /// Nor would one that names the brand.
    #[error(
        "`{brand}` is too long a brand: with it an SMS of locales/{locale}.toml is longer than {SMS_CHARACTERS} characters"
    )]
    BrandTooLong {
        /// The file's language.
        locale: &'static str,
        /// The brand.
        brand: String,
    },
    /// There is no file for the language that everybody else gets.
    #[error("locales/en.toml is missing")]
    NoFallback,
}

/// All texts, and what is the same in each of them.
#[derive(Debug)]
pub struct Wording {
    languages: BTreeMap<&'static str, Texts>,
    templates: Environment<'static>,
    public_url: String,
    domain: String,
    android_app_hash: Option<String>,
    brands: HashMap<MerchantId, String>,
}

impl Wording {
    /// Reads the texts.
    ///
    /// Links begin with `public_url` (without a slash at the end). SMS codes are bound to its host (the `@domain #code` line that
    /// phones read: origin-bound one-time codes, WICG), and carry the Android app's hash where there is one, for
    /// its SMS Retriever.
    ///
    /// # Errors
    /// [`WordingError`]
    pub fn new(public_url: &str, android_app_hash: Option<String>) -> Result<Self, WordingError> {
        let mut languages = BTreeMap::new();
        let mut templates = Environment::new();
        for (locale, file) in LOCALES {
            let texts: Texts = toml::from_str(file)
                .map_err(|source| WordingError::Form { locale, source: Box::new(source) })?;
            let (sms, email) = (&texts.sms, &texts.email);
            let mut texts_of_messages = vec![
                ("sms/sign_up_code".to_owned(), &sms.sign_up_code),
                ("sms/already_registered".to_owned(), &sms.already_registered),
                ("sms/reset_code".to_owned(), &sms.reset_code),
                ("sms/password_changed".to_owned(), &sms.password_changed),
                ("sms/session_stolen".to_owned(), &sms.session_stolen),
            ];
            for (name, mail) in [
                ("email_confirmation", &email.confirmation),
                ("password_changed", &email.password_changed),
                ("session_stolen", &email.session_stolen),
            ] {
                texts_of_messages.push((format!("{name}.subject"), &mail.subject));
                texts_of_messages.push((format!("{name}.text"), &mail.text));
                // The ending makes minijinja escape what is put in.
                texts_of_messages.push((format!("{name}.html"), &mail.html));
            }
            for (name, text) in texts_of_messages {
                templates
                    .add_template_owned(format!("{locale}/{name}"), text.trim().to_owned())
                    .map_err(|source| WordingError::Template { locale, source })?;
            }
            languages.insert(*locale, texts);
        }
        if !languages.contains_key(FALLBACK) {
            return Err(WordingError::NoFallback);
        }
        let public_url = public_url.trim_end_matches('/').to_owned();
        let domain = host(&public_url).to_owned();
        let brands = HashMap::new();
        let wording = Self { languages, templates, public_url, domain, android_app_hash, brands };
        match wording.language_without_room(None) {
            Some(locale) => Err(WordingError::TooLong { locale, domain: wording.domain }),
            None => Ok(wording),
        }
    }

    /// With the names under which messages of partners speak. A partner that has none, or is not known any more, speaks as we do.
    ///
    /// # Errors
    /// [`WordingError::BrandTooLong`]
    pub fn with_brands(self, brands: HashMap<MerchantId, String>) -> Result<Self, WordingError> {
        for brand in brands.values() {
            if let Some(locale) = self.language_without_room(Some(brand)) {
                return Err(WordingError::BrandTooLong { locale, brand: brand.clone() });
            }
        }
        Ok(Self { brands, ..self })
    }

    /// A language in which a code does not fit into one SMS.
    fn language_without_room(&self, brand: Option<&str>) -> Option<&'static str> {
        let is_too_long = |locale: &&str| {
            let texts = ["sms/sign_up_code", "sms/reset_code"]
                .map(|name| self.code(&Locale::new(locale), name, LONGEST_CODE, brand));
            texts.into_iter().flatten().any(|text| text.chars().count() > SMS_CHARACTERS)
        };
        self.languages.keys().copied().find(is_too_long)
    }

    /// The best language for an `Accept-Language` value (RFC 9110, section 12.5.4): by weight, then by order, a
    /// regional variant standing for its language.
    #[must_use]
    pub fn negotiate(&self, accept_language: Option<&str>) -> Locale {
        let mut best: Option<(&str, f32)> = None;
        // No client has more languages than this; a longer header is not read to its end.
        for range in accept_language.unwrap_or_default().split(',').take(32) {
            let mut parts = range.split(';').map(str::trim);
            let tag = parts.next().unwrap_or_default();
            let weight = parts
                .find_map(|part| part.strip_prefix("q="))
                .map_or(1.0, |weight| weight.trim().parse::<f32>().unwrap_or(0.0));
            let primary = tag.split(['-', '_']).next().unwrap_or_default();
            let known = [tag, primary]
                .iter()
                .find_map(|wanted| self.languages.keys().find(|known| known.eq_ignore_ascii_case(wanted)));
            let known = known.copied().or_else(|| (tag == "*").then_some(FALLBACK));
            if let Some(known) = known
                && weight > best.map_or(0.0, |(_, weight)| weight)
            {
                best = Some((known, weight));
            }
        }
        Locale::new(best.map_or(FALLBACK, |(tag, _)| tag))
    }

    /// What an error says to a person.
    #[must_use]
    pub fn error<'a>(&'a self, locale: &Locale, name: &'a str) -> &'a str {
        self.text(locale, |texts| texts.errors.get(name)).map_or(name, String::as_str)
    }

    /// What it says of a value that is missing or not valid, if it says more of this one than of any.
    #[must_use]
    pub fn field(&self, locale: &Locale, name: &str) -> Option<&str> {
        self.text(locale, |texts| texts.fields.get(name)).map(String::as_str)
    }

    /// A text of the pages that people see in a browser.
    #[must_use]
    pub fn page<'a>(&'a self, locale: &Locale, name: &'a str) -> &'a str {
        self.text(locale, |texts| texts.page.get(name)).map_or(name, String::as_str)
    }

    /// The text of an SMS; `None` for a content that is none.
    pub(crate) fn sms(&self, message: &Message, derivation: &Derivation) -> Option<String> {
        let (locale, brand) = (&message.voice.locale, self.brand(&message.voice));
        match message.content {
            Content::SignUpCode { attempt, generation } => {
                let code = derivation.codes(None).code(attempt, generation);
                self.code(locale, "sms/sign_up_code", code.expose(), brand)
            }
            Content::ResetCode { attempt, generation } => {
                let code = derivation.codes(None).code(attempt, generation);
                self.code(locale, "sms/reset_code", code.expose(), brand)
            }
            Content::AlreadyRegistered => self.render(locale, "sms/already_registered", context! { brand }),
            Content::PasswordChanged => self.render(locale, "sms/password_changed", context! { brand }),
            Content::SessionStolen => self.render(locale, "sms/session_stolen", context! { brand }),
            Content::EmailConfirmation { .. } => None,
        }
    }

    /// A text with a code, bound to our domain.
    fn code(&self, locale: &Locale, name: &str, code: &str, brand: Option<&str>) -> Option<String> {
        let text = self.render(locale, name, context! { code, brand })?;
        let hash = self.android_app_hash.as_ref().map(|hash| format!("{hash}\n")).unwrap_or_default();
        Some(format!("{text}\n\n{hash}@{} #{code}", self.domain))
    }

    /// The text of a mail; `None` for a content that is none.
    pub(crate) fn mail(
        &self,
        message: &Message,
        to: &EmailAddress,
        derivation: &Derivation,
    ) -> Option<MailText> {
        let brand = self.brand(&message.voice);
        match message.content {
            Content::EmailConfirmation { verification } => {
                let link = format!(
                    "{}/v2/mobile/email/confirm?email={}&event={}&token={}",
                    self.public_url,
                    URL_SAFE_NO_PAD.encode(to.as_str()),
                    URL_SAFE_NO_PAD.encode(EMAIL_CONFIRMATION_EVENT),
                    derivation.email_token(verification, to),
                );
                self.letter(message, &context! { link, email => to.as_str(), brand })
            }
            Content::PasswordChanged | Content::SessionStolen => self.letter(message, &context! { brand }),
            Content::SignUpCode { .. } | Content::ResetCode { .. } | Content::AlreadyRegistered => None,
        }
    }

    fn brand(&self, voice: &Voice) -> Option<&str> {
        self.brands.get(&voice.merchant?).map(String::as_str)
    }

    fn letter(&self, message: &Message, context: &minijinja::Value) -> Option<MailText> {
        let part = |part| {
            let name = format!("{}.{part}", message.content.kind());
            self.render(&message.voice.locale, &name, context.clone())
        };
        Some(MailText { subject: part("subject")?, text: part("text")?, html: part("html")? })
    }

    fn render(&self, locale: &Locale, name: &str, context: minijinja::Value) -> Option<String> {
        let in_locale = self.templates.get_template(&format!("{}/{name}", locale.as_str()));
        let template =
            in_locale.or_else(|_| self.templates.get_template(&format!("{FALLBACK}/{name}"))).ok()?;
        template.render(context).ok()
    }

    fn text<'a, T>(&'a self, locale: &Locale, pick: impl Fn(&'a Texts) -> Option<&'a T>) -> Option<&'a T> {
        let in_locale = self.languages.get(locale.as_str()).and_then(&pick);
        in_locale.or_else(|| self.languages.get(FALLBACK).and_then(&pick))
    }
}

/// The host of a URL, without its port. An IPv6 address keeps its brackets.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or(rest);
    match authority.split_once(']') {
        Some((address, _)) => authority.get(..=address.len()).unwrap_or(authority),
        None => authority.split(':').next().unwrap_or(authority),
    }
}

#[cfg(test)]
mod tests;
