//! What is encrypted at rest: XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha), whose nonce of 192 bits may be random under one key.

use orion::hazardous::aead::xchacha20poly1305::{Nonce, SecretKey, XChaCha20Poly1305};
use zeroize::Zeroizing;

use super::Subkey;

pub(crate) const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;

impl Subkey {
    /// Encrypts a text so that only [`open`](Self::open) with the same key and the same `place` reads it. The nonce, which is
    /// the beginning of what is returned, must be random. `None` only for texts beyond 256 GiB.
    pub(super) fn seal(&self, nonce: [u8; NONCE_BYTES], place: &[u8], text: &[u8]) -> Option<Vec<u8>> {
        let mut sealed = vec![0; NONCE_BYTES + text.len() + TAG_BYTES];
        let (front, rest) = sealed.split_at_mut(NONCE_BYTES);
        front.copy_from_slice(&nonce);
        XChaCha20Poly1305::seal(&self.secret()?, &Nonce::from(nonce), text, Some(place), rest).ok()?;
        Some(sealed)
    }

    /// The text, if it was sealed with this key for this place and nobody has changed it since.
    pub(super) fn open(&self, place: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        let mut text = Zeroizing::new(vec![0; rest.len().checked_sub(TAG_BYTES)?]);
        XChaCha20Poly1305::open(&self.secret()?, &Nonce::from(*nonce), rest, Some(place), &mut text).ok()?;
        Some(text)
    }

    fn secret(&self) -> Option<SecretKey> {
        SecretKey::try_from(&self.0).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_text_is_read_in_its_place_by_its_key_and_unchanged() {
        let (key, other) = (Subkey([1; 32]), Subkey([2; 32]));
        for text in [&b""[..], b"answer", &[7; 5000]] {
            let sealed = key.seal([3; NONCE_BYTES], b"here", text).unwrap();
            assert_eq!(sealed.len(), NONCE_BYTES + text.len() + TAG_BYTES);
            assert_eq!(key.open(b"here", &sealed).unwrap().as_slice(), text);
            assert_eq!(other.open(b"here", &sealed), None);
            assert_eq!(key.open(b"there", &sealed), None);
            for at in [0, NONCE_BYTES, sealed.len() - 1] {
                let mut changed = sealed.clone();
                changed[at] ^= 1;
                assert_eq!(key.open(b"here", &changed), None, "changed at {at}");
            }
            for length in [0, NONCE_BYTES, NONCE_BYTES + TAG_BYTES - 1, sealed.len() - 1] {
                assert_eq!(key.open(b"here", &sealed[..length]), None, "cut to {length}");
            }
        }
        let sealed = key.seal([3; NONCE_BYTES], b"here", &[7; 5000]).unwrap();
        assert!(!sealed.windows(8).any(|window| window == [7; 8]), "it can be read");
    }
}
