use time::UtcDateTime;

/// The time of day.
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait Clock: Send + Sync {
    /// The present moment, cut to whole milliseconds: the precision that storage keeps, so that a value read
    /// back equals the value written.
    fn now(&self) -> UtcDateTime;
}
