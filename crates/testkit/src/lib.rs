//! For tests only: fakes, a fixed clock, protocol-true servers, and the contract suite of the storage port.

mod clock;
mod in_memory;
mod security;
pub mod storage_contract;

pub use clock::ManualClock;
pub use in_memory::InMemoryStorage;
pub use security::{CountingEntropy, FakeHasher, FakeTokens, OneCountry};
