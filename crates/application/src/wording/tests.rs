use rstest::rstest;
use time::UtcDateTime;
use uuid::Uuid;
use vestibule_domain::{AttemptId, EmailVerificationId, MessageId, PhoneNumber, Recipient};

use super::*;
use crate::MasterKeys;

/// The basic characters of GSM 03.38 beyond ASCII letters and digits; each costs one septet.
const GSM7: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./:;<=>?¡ÄÖÑÜ§¿äöñüà";

fn wording(app_hash: Option<&str>) -> Wording {
    Wording::new("https://a-rather-long-host.registration.example.com/", app_hash.map(str::to_owned)).unwrap()
}

fn derivation() -> Derivation {
    Derivation::new(&MasterKeys { active: [1; 32], previous: None, numbers: [2; 32] }, 10)
}

fn message(locale: &str, content: Content) -> Message {
    Message {
        id: MessageId::new(Uuid::nil()),
        recipient: Recipient::Phone(PhoneNumber::parse("+447871234567").unwrap()),
        content,
        voice: Locale::new(locale).into(),
        queued_at: UtcDateTime::UNIX_EPOCH,
        expires_at: UtcDateTime::UNIX_EPOCH,
    }
}

#[test]
fn every_language_has_every_text() {
    let wording = wording(None);
    let fallback = &wording.languages[FALLBACK];
    for (tag, texts) in &wording.languages {
        assert_eq!(
            texts.errors.keys().collect::<Vec<_>>(),
            fallback.errors.keys().collect::<Vec<_>>(),
            "errors of {tag}"
        );
        assert_eq!(
            texts.fields.keys().collect::<Vec<_>>(),
            fallback.fields.keys().collect::<Vec<_>>(),
            "fields of {tag}"
        );
        assert_eq!(
            texts.page.keys().collect::<Vec<_>>(),
            fallback.page.keys().collect::<Vec<_>>(),
            "page of {tag}"
        );
    }
}

#[test]
fn every_sms_is_one_gsm7_segment_and_ends_in_the_domain_bound_code() {
    let wording = wording(Some("FA+9qCX9VSu"));
    let content = Content::SignUpCode { attempt: AttemptId::new(Uuid::nil()), generation: 0 };
    for (tag, _) in LOCALES {
        let text = wording.sms(&message(tag, content), &derivation()).unwrap();
        let code = derivation().codes(None).code(AttemptId::new(Uuid::nil()), 0);
        assert_eq!(
            text.lines().last().unwrap(),
            format!("@a-rather-long-host.registration.example.com #{}", code.expose())
        );
        assert!(text.contains("\nFA+9qCX9VSu\n"), "{tag}");
        let notice = wording.sms(&message(tag, Content::AlreadyRegistered), &derivation()).unwrap();
        let reset = Content::ResetCode { attempt: AttemptId::new(Uuid::nil()), generation: 0 };
        let reset = wording.sms(&message(tag, reset), &derivation()).unwrap();
        for text in [text, reset, notice] {
            assert!(text.chars().all(|c| c.is_ascii_alphanumeric() || GSM7.contains(c)), "{tag}: {text}");
            assert!(text.chars().count() <= 160, "{tag}: {text}");
        }
    }
}

#[test]
fn a_domain_that_an_sms_has_no_room_for_is_refused() {
    let url = |length: usize| format!("https://{}.example", "a".repeat(length - 8));
    assert!(Wording::new(&url(70), Some("FA+9qCX9VSu".to_owned())).is_ok());
    let refusal = Wording::new(&url(120), None).unwrap_err().to_string();
    assert!(refusal.contains("longer than 160") && refusal.contains("aaa.example"), "{refusal}");
}

#[rstest]
#[case("https://id.example.com", "id.example.com")]
#[case("https://id.example.com:8443/base", "id.example.com")]
#[case("http://127.0.0.1:8080", "127.0.0.1")]
#[case("http://[::1]:8080", "[::1]")]
#[case("http://[2001:db8::1]", "[2001:db8::1]")]
fn the_domain_is_the_host(#[case] url: &str, #[case] domain: &str) {
    assert_eq!(Wording::new(url, None).unwrap().domain, domain);
}

#[test]
fn a_mail_has_the_link_in_both_parts_and_escapes_what_it_repeats() {
    let wording = wording(None);
    let to = EmailAddress::parse("an&na+x@example.com").unwrap();
    let content = Content::EmailConfirmation { verification: EmailVerificationId::new(Uuid::nil()) };
    for (tag, _) in LOCALES {
        let mail = wording.mail(&message(tag, content), &to, &derivation()).unwrap();
        let link = "https://a-rather-long-host.registration.example.com/v2/mobile/email/confirm?email=";
        assert!(mail.text.contains(link), "{tag}");
        assert!(
            mail.html.contains("/v2/mobile/email/confirm?email=")
                || mail.html.contains("&#x2f;v2&#x2f;mobile"),
            "{tag}: {}",
            mail.html
        );
        assert!(!mail.html.contains("an&na+x"), "{tag}");
        assert!(!mail.subject.is_empty() && !mail.subject.contains('\n'), "{tag}");
    }
}

#[rstest]
#[case(None, "en")]
#[case(Some(""), "en")]
#[case(Some("de"), "de")]
#[case(Some("de-AT,de;q=0.9,en;q=0.8"), "de")]
#[case(Some("en;q=0.5, DE;q=0.6"), "de")]
#[case(Some("fr, de;q=0"), "en")]
#[case(Some("*"), "en")]
#[case(Some(";;;,,q=,de;q=x"), "en")]
fn the_language_is_negotiated(#[case] header: Option<&str>, #[case] expected: &str) {
    assert_eq!(wording(None).negotiate(header).as_str(), expected);
}

#[test]
fn an_unknown_language_or_name_still_says_something() {
    let wording = wording(None);
    assert_eq!(
        wording.error(&Locale::new("xx"), "ALREADY_REGISTERED"),
        wording.error(&Locale::new("en"), "ALREADY_REGISTERED")
    );
    assert_eq!(wording.error(&Locale::new("en"), "NO_SUCH_ERROR"), "NO_SUCH_ERROR");
}

#[test]
fn a_message_of_a_partner_names_its_brand() {
    let acme = MerchantId::parse("acme");
    let brands = || HashMap::from([(acme.unwrap(), "Bölt & Co.".to_owned())]);
    let wording = wording(None).with_brands(brands()).unwrap();
    let content = Content::SignUpCode { attempt: AttemptId::new(Uuid::nil()), generation: 0 };
    let link = Content::EmailConfirmation { verification: EmailVerificationId::new(Uuid::nil()) };
    let to = EmailAddress::parse("anna@example.com").unwrap();
    for (tag, _) in LOCALES {
        let by = |content, merchant| {
            let message = message(tag, content);
            Message { voice: Voice { merchant, ..message.voice.clone() }, ..message }
        };
        for content in [content, Content::ResetCode { attempt: AttemptId::new(Uuid::nil()), generation: 0 }] {
            let text = wording.sms(&by(content, acme), &derivation()).unwrap();
            assert!(text.contains(" Bölt & Co."), "{tag}: {text}");
            // One that was removed from the configuration speaks as we do.
            let ours = wording.sms(&by(content, None), &derivation()).unwrap();
            assert_eq!(wording.sms(&by(content, MerchantId::parse("gone")), &derivation()).unwrap(), ours);
            assert!(!ours.contains("Bölt"), "{tag}: {ours}");
        }
        let mail = wording.mail(&by(link, acme), &to, &derivation()).unwrap();
        assert!(mail.subject.starts_with("Bölt & Co.: "), "{tag}: {}", mail.subject);
    }
}

#[test]
fn a_brand_that_an_sms_has_no_room_for_is_refused() {
    let url = format!("https://{}.example", "a".repeat(60));
    let with = |brand: &str| {
        let brands = HashMap::from([(MerchantId::parse("acme").unwrap(), brand.to_owned())]);
        Wording::new(&url, None).unwrap().with_brands(brands)
    };
    assert!(with("Acme").is_ok());
    let refusal = with(&"A".repeat(32)).unwrap_err().to_string();
    assert!(refusal.contains("longer than 160") && refusal.contains("AAA"), "{refusal}");
}
