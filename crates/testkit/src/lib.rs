//! For tests only: fakes, a fixed clock, protocol-true servers, the contract suite of the storage port.
