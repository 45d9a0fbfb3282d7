//! Measures from outside whether a deployment tells which numbers have an account.
//!
//! A stranger who knows no more than numbers takes one step with numbers of two populations, those that have an account and those
//! that have none, in turns. Whatever he is answered is compared: statuses, headers, bodies, waits, and how long it takes.
//! The benchmark takes its statistics from here.
//!
//! Not here: anything of the service's. What is measured is a URL.

mod client;
pub mod comparison;
mod findings;
mod prepare;
mod probe;
mod samples;

pub use client::{Answer, Client, Clock};
pub use findings::Findings;
pub use prepare::prepare;
pub use probe::Probe;
pub use samples::{Plan, Samples, is_turn_of_first, take};
