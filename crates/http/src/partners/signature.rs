//! `X-Signature: t=1764417600,n=5f0c1b7e9a3d4c22,v1=…`: when it was made, a text that no other has, and the HMAC-SHA256 in hex.
//!
//! Signed are six lines without a line feed after the last: the partner's id, the method, the path with its query as they are sent, `t`,
//! `n`, and the SHA-256 of the body in hex. None of them can hold a line feed, so that no two requests have one text.

use std::time::Duration;

use actix_web::http::header::HeaderMap;
use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256};
use time::UtcDateTime;
use vestibule_application::SignatureDigest;
use vestibule_domain::MerchantId;

use crate::partners::SIGNATURE;
use crate::problem::Problem;

/// How far the partner's clock may be from ours, either way.
pub(super) const LEEWAY: Duration = Duration::from_mins(5);

/// Signatures in one header: a partner that changes its secret signs with two.
const MAX_SIGNATURES: usize = 4;

/// How long the text may be that no other signature of a partner has in that second.
const NONCE: std::ops::RangeInclusive<usize> = 8..=64;

/// What a request says of its signature.
pub(super) struct SignatureHeader {
    /// As it was written, since that was signed.
    timestamp: String,
    time: UtcDateTime,
    nonce: String,
    signatures: Vec<[u8; 32]>,
}

/// What is signed, but for what the header says itself.
pub(super) struct Signed<'a> {
    pub(super) method: &'a str,
    /// Path and query.
    pub(super) target: &'a str,
    pub(super) body: &'a [u8],
}

impl SignatureHeader {
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut values = headers.get_all(SIGNATURE);
        let value = values.next().ok_or_else(Problem::signature_missing)?;
        let text = value.to_str().ok().filter(|_| values.next().is_none());
        text.and_then(Self::parse).ok_or_else(Problem::signature_invalid)
    }

    /// Parts with other names are left alone: a later version of the signature may stand beside this one.
    fn parse(text: &str) -> Option<Self> {
        let (mut timestamp, mut nonce, mut signatures) = (None, None, Vec::new());
        for part in text.split(',') {
            let (name, value) = part.trim().split_once('=')?;
            match name {
                "t" if timestamp.is_none() => timestamp = Some(value),
                "n" if nonce.is_none() => nonce = Some(value),
                "v1" if signatures.len() < MAX_SIGNATURES => {
                    let mut signature = [0; 32];
                    hex::decode_to_slice(value, &mut signature).ok()?;
                    signatures.push(signature);
                }
                "t" | "n" | "v1" => return None,
                _ => {}
            }
        }
        let (timestamp, nonce) = (timestamp?, nonce?);
        let is_number = !timestamp.is_empty() && timestamp.bytes().all(|byte| byte.is_ascii_digit());
        let time = UtcDateTime::from_unix_timestamp(timestamp.parse().ok().filter(|_| is_number)?).ok()?;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        let is_nonce = NONCE.contains(&nonce.len()) && nonce.bytes().all(is_plain);
        (is_nonce && !signatures.is_empty()).then(|| Self {
            timestamp: timestamp.to_owned(),
            time,
            nonce: nonce.to_owned(),
            signatures,
        })
    }

    /// When it was made.
    pub(super) const fn time(&self) -> UtcDateTime {
        self.time
    }

    pub(super) fn check_time(&self, now: UtcDateTime) -> Result<(), Problem> {
        let apart = (self.time - now).unsigned_abs();
        if apart <= LEEWAY { Ok(()) } else { Err(Problem::signature_expired()) }
    }

    /// What the signature is remembered by, if it is one with any of the secrets: whose it is, `t` and `n`. So no two signatures of one
    /// header count as two; and nobody who sees it can try out what was in the body.
    pub(super) fn verify(
        &self,
        signed: &Signed<'_>,
        merchant: MerchantId,
        secrets: &[Hmac<Sha256>],
    ) -> Result<SignatureDigest, Problem> {
        let text = self.text(signed, merchant);
        let is_of = |secret: &Hmac<Sha256>| {
            let mac = secret.clone().chain_update(&text);
            // In constant time.
            self.signatures.iter().any(|signature| mac.clone().verify_slice(signature).is_ok())
        };
        if secrets.iter().any(is_of) {
            let Self { timestamp, nonce, .. } = self;
            Ok(SignatureDigest(Sha256::digest(format!("{merchant}\n{timestamp}\n{nonce}")).into()))
        } else {
            Err(Problem::signature_invalid())
        }
    }

    fn text(&self, signed: &Signed<'_>, merchant: MerchantId) -> String {
        let Signed { method, target, body } = signed;
        let (Self { timestamp, nonce, .. }, body) = (self, hex::encode(Sha256::digest(body)));
        format!("{merchant}\n{method}\n{target}\n{timestamp}\n{nonce}\n{body}")
    }
}

#[cfg(test)]
mod tests {
    use hmac::KeyInit as _;
    use rstest::rstest;

    use super::*;

    const HEX: &str = "00000000000000000000000000000000000000000000000000000000000000ff";

    #[test]
    fn the_signature_of_the_documentation() {
        let documentation = include_str!("../../../../docs/partners.md");
        let header = documentation.lines().find_map(|line| line.strip_prefix("X-Signature: ")).unwrap();
        let header = SignatureHeader::parse(header).unwrap();
        let body = br#"{"phone":"+447871234567","password":"correct-horse-7"}"#;
        let signed = Signed { method: "POST", target: "/v2/mobile/signup", body };
        let secret = Hmac::new_from_slice(b"an example secret of 32 letters!").unwrap();
        let merchant = MerchantId::parse("acme").unwrap();
        header.verify(&signed, merchant, &[secret]).unwrap();
        assert!(documentation.contains(&header.text(&signed, merchant)));
    }

    #[rstest]
    #[case("t=1764417600,n=12345678,v1=HEX", true)]
    #[case(" n=12345678 , t=1764417600 , v1=HEX , v1=HEX", true)]
    #[case("t=1764417600,n=12345678,v0=x,v1=HEX,v2=y", true)]
    #[case("t=1764417600,n=12345678,v1=HEX,v1=HEX,v1=HEX,v1=HEX,v1=HEX", false)]
    #[case("t=1764417600,t=1764417600,n=12345678,v1=HEX", false)]
    #[case("t=1764417600,n=12345678,n=12345678,v1=HEX", false)]
    #[case("t=1764417600,n=12345678", false)]
    #[case("t=1764417600,v1=HEX", false)]
    #[case("n=12345678,v1=HEX", false)]
    #[case("t=1764417600,n=1234567,v1=HEX", false)]
    #[case("t=1764417600,n=1234 678,v1=HEX", false)]
    #[case("t=+1764417600,n=12345678,v1=HEX", false)]
    #[case("t=-5,n=12345678,v1=HEX", false)]
    #[case("t=,n=12345678,v1=HEX", false)]
    #[case("t=99999999999999999999,n=12345678,v1=HEX", false)]
    #[case("t=9999999999999999,n=12345678,v1=HEX", false)]
    #[case("t=1764417600,n=12345678,v1=00ff", false)]
    #[case("t=1764417600,n=12345678,v1", false)]
    #[case("", false)]
    fn a_header_is_whole_or_refused(#[case] header: &str, #[case] is_whole: bool) {
        assert_eq!(SignatureHeader::parse(&header.replace("HEX", HEX)).is_some(), is_whole);
    }

    #[rstest]
    #[case(-300_000, true)]
    #[case(300_000, true)]
    #[case(-300_001, false)]
    #[case(300_001, false)]
    fn clocks_may_be_five_minutes_apart(#[case] milliseconds: i64, #[case] is_good: bool) {
        let header = SignatureHeader::parse(&format!("t=1764417600,n=12345678,v1={HEX}")).unwrap();
        let now = header.time() + time::Duration::milliseconds(milliseconds);
        assert_eq!(header.check_time(now).is_ok(), is_good);
    }
}
