//! Checks Vestibule's access tokens offline, in services that are not Vestibule.
//!
//! A token is PASETO v4.public: JSON claims under an Ed25519 signature. Whoever has the published keys can check one
//! without asking anybody:
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use vestibule_verifier::{KeySet, Refusal, Verifier};
//!
//! let keys = KeySet::from_paserk(["k4.public.cHFyc3R1dnd4eXp7fH1-f4CBgoOEhYaHiImKi4yNjo8"])?;
//! let verifier = Verifier::builder("https://id.example.com", "app").build(keys);
//! assert_eq!(verifier.verify_now("v4.none.e30"), Err(Refusal::NotV4Public));
//! # Ok(())
//! # }
//! ```
//!
//! | feature | brings |
//! |---|---|
//! | `remote` | `RemoteKeys`: keys from the service's endpoint, refreshed in the background, kept while it is down |
//! | `actix` | `Authenticated`, an extractor for actix-web 4, and refusals as its errors |
//! | `tower` | `VerifierLayer`, which puts [`Claims`] into the extensions of a request; for axum and whatever else is a tower |
//!
//! # What it cannot know
//!
//! A token says what was true when it was issued. Until it expires (15 minutes, by default) it passes here although its
//! session has ended meanwhile: by sign-out, by a new password, by theft that was noticed. Nor does a KYC level that has
//! been reached since show before the next token. Where that matters, ask Vestibule by introspection.

mod claims;
mod keys;
mod refusal;
mod signed;
mod verifier;

#[cfg(feature = "actix")]
mod extractor;
#[cfg(feature = "tower")]
mod layer;
#[cfg(feature = "remote")]
mod remote;
#[cfg(any(feature = "actix", feature = "tower"))]
mod request;

pub use crate::claims::{Claims, KycLevel};
#[cfg(feature = "actix")]
pub use crate::extractor::Authenticated;
pub use crate::keys::{KeySet, KeySetError};
#[cfg(feature = "tower")]
pub use crate::layer::{VerifierLayer, VerifierService};
pub use crate::refusal::Refusal;
#[cfg(feature = "remote")]
pub use crate::remote::{RemoteKeys, RemoteKeysBuilder, RemoteKeysError};
pub use crate::verifier::{KeySource, MAX_LEEWAY, MAX_TOKEN_LENGTH, Verifier, VerifierBuilder};

/// The types that stand in [`Claims`], for those who name them.
pub use {time::UtcDateTime, uuid::Uuid};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
