//! For tests only: fakes, a fixed clock, protocol-true servers, throwaway Postgres, a network that fails, and the contract suite of
//! the storage port.

pub mod archive_contract;
mod clock;
pub mod fake_gateway;
pub mod fake_smsc;
mod fault_proxy;
pub mod fleet;
mod in_memory;
mod in_memory_archive;
pub mod mmdb;
pub mod postgres;
mod security;
mod service_settings;
mod smtp_server;
pub mod sqlite;
pub mod storage_contract;

pub use clock::ManualClock;
pub use fake_gateway::{Behaviour, FakeGateway, Report, SentSms, Via};
pub use fake_smsc::{FakeSmsc, SmscBehaviour};
pub use fault_proxy::{Fault, FaultProxy};
pub use in_memory::InMemoryStorage;
pub use in_memory_archive::InMemoryArchive;
pub use security::{CountingEntropy, FakeHasher, FakeTokens, OneCountry, Pause};
pub use service_settings::{ample_limits, cheap_hashing};
pub use smtp_server::{MailServer, Options, ReceivedMail, Security, Stage};
