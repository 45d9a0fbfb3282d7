//! Codes and links are derived from a master key and never stored: the database, the queue and the backups hold nothing
//! that a code could be guessed from. What must be stored and may hold a token, the answer to a request that may be repeated, is encrypted.

mod seal;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use uuid::Uuid;
use vestibule_domain::{
    AccountKind, AttemptId, EmailAddress, EmailVerificationId, Generation, MerchantId, OneTimeCode,
    OneTimeCodes, PhoneNumber,
};
use vestibule_port_security::Entropy;
use vestibule_port_storage::{Execution, KeyMark, NumberDigest, PayloadDigest, RequestDigest};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{Asker, KeyedRequest};

/// What an e-mail link is for, as its `event` says.
pub const EMAIL_CONFIRMATION_EVENT: &str = "email_confirmation";

/// The secrets that everything is derived from.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct MasterKeys {
    /// Makes new codes and links, and seals answers.
    pub active: [u8; 32],
    /// Made and sealed them before a rotation; they are accepted as long as they live.
    pub previous: Option<[u8; 32]>,
    /// Hashes used phone numbers, and requests that may be repeated. It can never be replaced, since the numbers are not kept.
    pub numbers: [u8; 32],
}

impl std::fmt::Debug for MasterKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKeys([redacted])")
    }
}

/// Derives codes, links and digests, each with a key of its own (HKDF, RFC 5869).
#[derive(Debug)]
pub struct Derivation {
    active: Subkeys,
    previous: Option<Subkeys>,
    numbers: Subkey,
    mark: KeyMark,
    /// Of the key that is never replaced: a request is found whichever key was active when it was made.
    requests: Subkey,
    payloads: Subkey,
    code_length: u8,
}

#[derive(Debug)]
struct Subkeys {
    codes: Subkey,
    links: Subkey,
    answers: Subkey,
}

#[derive(Zeroize, ZeroizeOnDrop)]
struct Subkey([u8; 32]);

impl Derivation {
    /// Derives from these keys; codes get `code_length` digits, 4 to 10.
    #[must_use]
    pub fn new(keys: &MasterKeys, code_length: u8) -> Self {
        let subkeys = |master: &[u8; 32]| Subkeys {
            codes: Subkey::derive(master, "vestibule one-time code"),
            links: Subkey::derive(master, "vestibule e-mail link"),
            answers: Subkey::derive(master, "vestibule kept answer"),
        };
        Self {
            active: subkeys(&keys.active),
            previous: keys.previous.as_ref().map(subkeys),
            numbers: Subkey::derive(&keys.numbers, "vestibule used number"),
            mark: KeyMark(Subkey::derive(&keys.numbers, "vestibule mark of a database").mac(&[])),
            requests: Subkey::derive(&keys.numbers, "vestibule repeatable request"),
            payloads: Subkey::derive(&keys.numbers, "vestibule payload of a request"),
            code_length: code_length.clamp(4, 10),
        }
    }

    /// The codes of a number: its fixed one, if it has one, or else those that are derived.
    #[must_use]
    pub const fn codes<'a>(&'a self, fixed: Option<&'a OneTimeCode>) -> Codes<'a> {
        Codes { derivation: self, fixed }
    }

    /// The keyed hash under which a number counts as used for good.
    #[must_use]
    pub fn number_digest(&self, phone: &PhoneNumber) -> NumberDigest {
        NumberDigest(self.numbers.mac(&[phone.as_str().as_bytes()]))
    }

    /// What a database knows the key of used numbers by.
    pub(crate) const fn key_mark(&self) -> KeyMark {
        self.mark
    }

    /// The token of the link that confirms an address: the link's identity and a proof that we made it for that address.
    #[must_use]
    pub fn email_token(&self, link: EmailVerificationId, address: &EmailAddress) -> String {
        let mut token = link.uuid().as_bytes().to_vec();
        token.extend(email_proof(&self.active.links, link, address));
        URL_SAFE_NO_PAD.encode(token)
    }

    /// Whether the proof was made for the link and the address.
    #[must_use]
    pub fn is_genuine(&self, link: EmailVerificationId, address: &EmailAddress, proof: &[u8]) -> bool {
        self.generations().any(|subkeys| email_proof(&subkeys.links, link, address).ct_eq(proof).into())
    }

    /// The keyed hash that a request is found by.
    pub(crate) fn request_digest(&self, request: &KeyedRequest<'_>) -> RequestDigest {
        let [method, path] = request.target.map(str::as_bytes);
        let key = request.key.as_bytes();
        let merchant = request.merchant.as_ref().map_or("", MerchantId::as_str).as_bytes();
        RequestDigest(match request.asker {
            Asker::Customer(user, session) => {
                let (user, session) = (user.uuid(), session.uuid());
                let customer: [&[u8]; 3] = [b"customer", user.as_bytes(), session.as_bytes()];
                self.requests.mac(&[[key, method, path, merchant].as_slice(), &customer].concat())
            }
            Asker::Anybody(Some(device)) => {
                self.requests.mac(&[key, method, path, merchant, b"device", device.digest()])
            }
            Asker::Anybody(None) => self.requests.mac(&[key, method, path, merchant]),
        })
    }

    /// The keyed hash of what a request carries; the same under another key is another hash.
    pub(crate) fn payload_digest(&self, of: &RequestDigest, payload: &[&[u8]]) -> PayloadDigest {
        let parts: Vec<&[u8]> = std::iter::once(of.0.as_slice()).chain(payload.iter().copied()).collect();
        PayloadDigest(self.payloads.mac(&parts))
    }

    /// An answer, readable only as the answer to this request with what it carries.
    pub(crate) fn seal_answer(
        &self,
        to: &Execution,
        entropy: &dyn Entropy,
        answer: &[u8],
    ) -> Option<Vec<u8>> {
        let mut nonce = [0; seal::NONCE_BYTES];
        nonce.copy_from_slice(entropy.bytes().split_at(seal::NONCE_BYTES).0);
        self.active.answers.seal(nonce, &place(to), answer)
    }

    /// The answer, unless it was sealed for another request, or with a key that is gone.
    pub(crate) fn open_answer(&self, to: &Execution, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        self.generations().find_map(|subkeys| subkeys.answers.open(&place(to), sealed))
    }

    /// How many values are accepted for each code that is derived: one, or two while the key before is accepted too.
    #[must_use]
    pub fn values_per_code(&self) -> u32 {
        if self.previous.is_some() { 2 } else { 1 }
    }

    fn generations(&self) -> impl Iterator<Item = &Subkeys> {
        std::iter::once(&self.active).chain(&self.previous)
    }

    fn code_of(&self, key: &Subkey, attempt: AttemptId, generation: Generation) -> OneTimeCode {
        let mac = key.mac(&[attempt.uuid().as_bytes(), &generation.to_be_bytes()]);
        // 128 bits against at most 10 digits: the bias of the remainder is far below anything that can be used.
        let number = Uuid::from_bytes(half(&mac)).as_u128() % 10_u128.pow(self.code_length.into());
        let width = usize::from(self.code_length);
        OneTimeCode::from_number(number, width)
    }
}

/// The codes of one number. There are no others: what is derived is sent, what is fixed is not, and marks the account that it opens.
#[derive(Debug, Clone, Copy)]
pub struct Codes<'a> {
    derivation: &'a Derivation,
    fixed: Option<&'a OneTimeCode>,
}

impl Codes<'_> {
    /// What is to be sent of a message with a code: nothing where the code is fixed.
    pub(crate) fn sent<T>(&self, message: T) -> Option<T> {
        self.fixed.is_none().then_some(message)
    }

    /// Whose account one of these opens.
    pub(crate) const fn kind(&self) -> AccountKind {
        match self.fixed {
            Some(_) => AccountKind::Test,
            None => AccountKind::Customer,
        }
    }
}

impl OneTimeCodes for Codes<'_> {
    fn code(&self, attempt: AttemptId, generation: Generation) -> OneTimeCode {
        let derived = || self.derivation.code_of(&self.derivation.active.codes, attempt, generation);
        self.fixed.cloned().unwrap_or_else(derived)
    }

    fn matches(&self, attempt: AttemptId, generation: Generation, candidate: &OneTimeCode) -> bool {
        if let Some(fixed) = self.fixed {
            return fixed == candidate;
        }
        let derivation = self.derivation;
        derivation
            .generations()
            .any(|subkeys| derivation.code_of(&subkeys.codes, attempt, generation) == *candidate)
    }
}

/// The parts of a link's token, not yet believed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UnverifiedLink {
    pub(crate) link: EmailVerificationId,
    pub(crate) proof: [u8; 32],
}

impl UnverifiedLink {
    pub(crate) fn parse(token: &[u8]) -> Option<Self> {
        let (id, proof) = token.split_first_chunk::<16>()?;
        let proof = proof.try_into().ok()?;
        Some(Self { link: EmailVerificationId::new(Uuid::from_bytes(*id)), proof })
    }
}

fn email_proof(key: &Subkey, link: EmailVerificationId, address: &EmailAddress) -> [u8; 32] {
    key.mac(&[EMAIL_CONFIRMATION_EVENT.as_bytes(), link.uuid().as_bytes(), address.canonical().as_bytes()])
}

/// Where an answer belongs.
fn place(execution: &Execution) -> Vec<u8> {
    [execution.request.0, execution.payload.0].concat()
}

fn half(mac: &[u8; 32]) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(mac.split_at(16).0);
    half
}

impl Subkey {
    fn derive(master: &[u8; 32], purpose: &str) -> Self {
        let mut key = [0; 32];
        // HKDF refuses only outputs of more than 255 blocks; this is one.
        let expanded = Hkdf::<Sha256>::new(None, master).expand(purpose.as_bytes(), &mut key);
        debug_assert!(expanded.is_ok());
        Self(key)
    }

    /// HMAC-SHA-256 over the parts, each preceded by its length so that they can't be shifted against each other.
    fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        // HMAC pads a short key with zeros to the block of the hash.
        let mut block = Zeroizing::new([0; 64]);
        block.split_at_mut(32).0.copy_from_slice(&self.0);
        let mut mac = Hmac::<Sha256>::new((&*block).into());
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

impl std::fmt::Debug for Subkey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use time::UtcDateTime;
    use vestibule_domain::{ClientAddress, Fingerprint, Origin, SessionId, UserId};
    use vestibule_testkit::CountingEntropy;

    use crate::IdempotencyKey;

    use super::*;

    fn derivation(active: u8, previous: Option<u8>) -> Derivation {
        let keys =
            MasterKeys { active: [active; 32], previous: previous.map(|key| [key; 32]), numbers: [9; 32] };
        Derivation::new(&keys, 6)
    }

    fn attempt(number: u128) -> AttemptId {
        AttemptId::new(Uuid::from_u128(number))
    }

    #[test]
    fn a_code_is_repeatable_and_belongs_to_its_attempt_and_generation() {
        let derivation = derivation(1, None);
        let codes = derivation.codes(None);
        assert_eq!(codes.code(attempt(1), 0), codes.code(attempt(1), 0));
        let distinct: HashSet<_> = (0..100)
            .flat_map(|number| (0..3).map(move |generation| (number, generation)))
            .map(|(number, generation)| codes.code(attempt(number), generation).expose().to_owned())
            .collect();
        assert!(distinct.len() > 295, "{}", distinct.len());
        assert!(
            distinct.iter().all(|code| code.len() == 6 && code.bytes().all(|byte| byte.is_ascii_digit()))
        );
    }

    #[test]
    fn a_rotated_key_is_accepted_until_it_is_dropped() {
        let code = derivation(1, None).codes(None).code(attempt(1), 0);
        assert!(derivation(2, Some(1)).codes(None).matches(attempt(1), 0, &code));
        assert!(!derivation(2, None).codes(None).matches(attempt(1), 0, &code));
        assert_ne!(derivation(2, Some(1)).codes(None).code(attempt(1), 0), code);
        assert_eq!([derivation(1, None), derivation(2, Some(1))].map(|keys| keys.values_per_code()), [1, 2]);
    }

    #[test]
    fn a_fixed_code_is_the_only_one_and_is_not_sent() {
        let derivation = derivation(1, Some(2));
        let fixed = OneTimeCode::parse("123456").unwrap();
        let (codes, derived) = (derivation.codes(Some(&fixed)), derivation.codes(None));
        assert_eq!(codes.code(attempt(1), 0), fixed);
        assert!(codes.matches(attempt(2), 7, &fixed));
        assert!(!codes.matches(attempt(1), 0, &derived.code(attempt(1), 0)));
        assert!(!derived.matches(attempt(1), 0, &fixed));
        assert_eq!((codes.sent(1), derived.sent(1)), (None, Some(1)));
        assert_eq!((codes.kind(), derived.kind()), (AccountKind::Test, AccountKind::Customer));
    }

    #[test]
    fn a_link_belongs_to_its_address() {
        let derivation = derivation(1, None);
        let address = |text| EmailAddress::parse(text).unwrap();
        let link = EmailVerificationId::new(Uuid::from_u128(7));
        let token =
            URL_SAFE_NO_PAD.decode(derivation.email_token(link, &address("anna@example.com"))).unwrap();
        let parsed = UnverifiedLink::parse(&token).unwrap();
        assert_eq!(parsed.link, link);
        assert!(derivation.is_genuine(link, &address("Anna@EXAMPLE.com"), &parsed.proof));
        assert!(!derivation.is_genuine(link, &address("bea@example.com"), &parsed.proof));
        assert!(!derivation.is_genuine(
            EmailVerificationId::new(Uuid::nil()),
            &address("anna@example.com"),
            &parsed.proof
        ));
        assert!(UnverifiedLink::parse(&token[..47]).is_none());
    }

    #[test]
    fn a_used_number_stays_used_when_the_master_key_rotates() {
        let phone = PhoneNumber::parse("+447871234567").unwrap();
        assert_eq!(derivation(1, None).number_digest(&phone), derivation(2, Some(1)).number_digest(&phone));
        assert_eq!(derivation(1, None).key_mark(), derivation(2, Some(1)).key_mark());
    }

    fn request<'a>(key: &'a IdempotencyKey, target: [&'a str; 2], asker: Asker) -> KeyedRequest<'a> {
        let origin = Origin { fingerprint: None, address: ClientAddress::of([192, 0, 2, 1].into()) };
        KeyedRequest { key, target, asker, merchant: None, origin, payload: &[] }
    }

    #[test]
    fn a_request_is_known_by_its_key_its_target_and_who_asks() {
        let keys = ["a", "b", "aPOST"].map(|key| IdempotencyKey::parse(key).unwrap());
        let customer = |user, session| {
            let [user, session] = [user, session].map(Uuid::from_u128);
            Asker::Customer(UserId::new(user), SessionId::new(session))
        };
        let device = Asker::Anybody(Fingerprint::of("device"));
        let askers = [customer(1, 1), customer(1, 2), customer(2, 1), device, Asker::Anybody(None)];
        let merchants = [None, MerchantId::parse("acme"), MerchantId::parse("bolt")];
        let targets = [["POST", "/x"], ["PUT", "/x"], ["POST", "/y"], ["POST", "/xy"]];
        let derivation = derivation(1, None);
        let mut known = HashSet::new();
        for key in &keys {
            for asker in askers {
                for target in targets {
                    for merchant in merchants {
                        let request = KeyedRequest { merchant, ..request(key, target, asker) };
                        assert!(known.insert(derivation.request_digest(&request)));
                    }
                }
            }
        }
        let of = RequestDigest([1; 32]);
        let payload = |parts: &[&[u8]]| derivation.payload_digest(&of, parts);
        assert_eq!(payload(&[b"x", b"yz"]), payload(&[b"x", b"yz"]));
        assert_ne!(payload(&[b"x", b"yz"]), payload(&[b"xy", b"z"]));
        let elsewhere = derivation.payload_digest(&RequestDigest([2; 32]), &[b"x", b"yz"]);
        assert_ne!(payload(&[b"x", b"yz"]), elsewhere, "equal payloads are not told from the database");
    }

    #[test]
    fn an_answer_is_found_and_opened_when_the_master_key_rotates() {
        let key = IdempotencyKey::parse("k").unwrap();
        let request = request(&key, ["POST", "/x"], Asker::Anybody(None));
        let (before, after, gone) = (derivation(1, None), derivation(2, Some(1)), derivation(3, Some(2)));
        let known_by = before.request_digest(&request);
        assert_eq!(known_by, after.request_digest(&request));
        let moment = UtcDateTime::UNIX_EPOCH;
        let execution = Execution {
            id: Uuid::nil(),
            request: known_by,
            payload: before.payload_digest(&known_by, &[b"body"]),
            now: moment,
            leased_until: moment,
            forget_at: moment,
        };
        assert_eq!(execution.payload, after.payload_digest(&known_by, &[b"body"]));
        let sealed = before.seal_answer(&execution, &CountingEntropy::default(), b"answer").unwrap();
        assert_eq!(after.open_answer(&execution, &sealed).unwrap().as_slice(), b"answer");
        assert_eq!(gone.open_answer(&execution, &sealed), None);
        for moved in [
            Execution { request: RequestDigest([7; 32]), ..execution },
            Execution { payload: PayloadDigest([7; 32]), ..execution },
        ] {
            assert_eq!(before.open_answer(&moved, &sealed), None);
        }
    }

    #[test]
    fn nothing_shows_a_key() {
        assert_eq!(format!("{:?}", derivation(1, None).active.codes), "[redacted]");
    }
}
