use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use vestibule_domain::audit::Event;
use vestibule_domain::{ConfirmEmail, EmailAddress};
use vestibule_port_storage::{Changes, CommitError, Save, Unavailable};

use crate::derivation::UnverifiedLink;
use crate::facts::Scene;
use crate::{Application, EMAIL_CONFIRMATION_EVENT, MAX_ROUNDS, contended, impossible};

/// What a confirmation link carries. Each value is plain or in base64, with either alphabet, padded or not.
#[derive(Debug, Clone, Copy)]
pub struct EmailLink<'a> {
    /// The address.
    pub email: &'a str,
    /// What the link is for.
    pub event: &'a str,
    /// The proof.
    pub token: &'a str,
}

/// Why the address is not confirmed.
#[derive(Debug, thiserror::Error)]
pub enum ConfirmEmailError {
    /// The link is not ours, for something else, or for an address that was since replaced.
    #[error("the link is not valid")]
    Invalid,
    /// The link's life is over.
    #[error("the link has expired")]
    Expired,
    /// Another account was faster to confirm the address.
    #[error("the address belongs to another account")]
    Taken,
    /// Storage does not answer.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl Application {
    /// Confirms the address that the link was made for. Doing it again is no error.
    ///
    /// # Errors
    /// [`ConfirmEmailError`]
    pub async fn confirm_email(&self, link: EmailLink<'_>) -> Result<(), ConfirmEmailError> {
        let (address, unverified) = read(link).ok_or(ConfirmEmailError::Invalid)?;
        if !self.derivation.is_genuine(unverified.link, &address, &unverified.proof) {
            return Err(ConfirmEmailError::Invalid);
        }
        for _ in 0..MAX_ROUNDS {
            let loaded = self.storage.account_by_email_verification(unverified.link).await?;
            let loaded = loaded.ok_or(ConfirmEmailError::Invalid)?;
            let account = match loaded.value.confirm_email(unverified.link, self.clock.now()) {
                ConfirmEmail::Confirmed(account) => *account,
                ConfirmEmail::AlreadyConfirmed => return Ok(()),
                ConfirmEmail::Expired => return Err(ConfirmEmailError::Expired),
                ConfirmEmail::Replaced => return Err(ConfirmEmailError::Invalid),
            };
            let facts = vec![self.fact(Event::EmailConfirmed, &Scene::of(&account))];
            let account = Some(Save::over(loaded.version, account));
            match self.storage.commit(Changes { account, facts, ..Changes::default() }).await {
                Ok(()) => return Ok(()),
                Err(CommitError::Conflict) => {}
                Err(CommitError::EmailTaken) => return Err(ConfirmEmailError::Taken),
                Err(CommitError::Unavailable(unavailable)) => return Err(unavailable.into()),
                Err(error @ (CommitError::PhoneTaken | CommitError::LimitReached { .. })) => {
                    return Err(impossible(&error).into());
                }
            }
        }
        Err(contended().into())
    }
}

fn read(link: EmailLink<'_>) -> Option<(EmailAddress, UnverifiedLink)> {
    let is_ours = |event: &str| event == EMAIL_CONFIRMATION_EVENT;
    let event_fits = is_ours(link.event) || decode_text(link.event).is_some_and(|event| is_ours(&event));
    // In a plain value a `+` that was not escaped has arrived as a space.
    let address = EmailAddress::parse(&link.email.trim().replace(' ', "+"))
        .ok()
        .or_else(|| EmailAddress::parse(&decode_text(link.email)?).ok())?;
    // The token is base64 already; encoded once more, as the other values may be, it is read too.
    let token = decode(link.token)?;
    let unverified = UnverifiedLink::parse(&token)
        .or_else(|| UnverifiedLink::parse(&decode(std::str::from_utf8(&token).ok()?)?))?;
    event_fits.then_some((address, unverified))
}

fn decode_text(value: &str) -> Option<String> {
    String::from_utf8(decode(value)?).ok()
}

fn decode(value: &str) -> Option<Vec<u8>> {
    const EITHER_PADDING: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    // A `+` that was not escaped arrives as a space.
    let value = value.trim().replace(' ', "+");
    let alphabet = if value.contains(['-', '_']) { URL_SAFE } else { STANDARD };
    GeneralPurpose::new(&alphabet, EITHER_PADDING).decode(value).ok()
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose;

    use super::*;

    #[test]
    fn values_are_read_in_every_dress() {
        let token = general_purpose::URL_SAFE_NO_PAD.encode([0xfb; 48]);
        let dressed = |value: &str| {
            [
                value.to_owned(),
                general_purpose::STANDARD.encode(value),
                general_purpose::STANDARD_NO_PAD.encode(value),
                general_purpose::URL_SAFE.encode(value),
                general_purpose::URL_SAFE_NO_PAD.encode(value),
            ]
        };
        for email in dressed("Änna+x@example.com").into_iter().chain(["Änna x@example.com".to_owned()]) {
            for event in dressed(EMAIL_CONFIRMATION_EVENT) {
                for token in dressed(&token) {
                    let (address, link) =
                        read(EmailLink { email: &email, event: &event, token: &token }).unwrap();
                    assert_eq!(address.as_str(), "Änna+x@example.com");
                    assert_eq!(link.proof, [0xfb; 32]);
                }
            }
        }
    }

    #[test]
    fn nonsense_is_no_link() {
        let token = general_purpose::URL_SAFE_NO_PAD.encode([1; 48]);
        for (email, event, token) in [
            ("anna@example.com", "password_reset", token.as_str()),
            ("nobody", EMAIL_CONFIRMATION_EVENT, &token),
            ("anna@example.com", EMAIL_CONFIRMATION_EVENT, "abc"),
            ("anna@example.com", EMAIL_CONFIRMATION_EVENT, ""),
            ("", "", ""),
        ] {
            assert!(read(EmailLink { email, event, token }).is_none());
        }
    }
}
