use std::net::IpAddr;

use vestibule_domain::Country;

/// Where a client's address is, as far as the operator's data tells.
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait ClientCountries: Send + Sync {
    /// The country of an address; `None` where the data says nothing (private addresses, no data at all).
    fn country_of(&self, address: IpAddr) -> Option<Country>;
}
