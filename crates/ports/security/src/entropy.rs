use time::UtcDateTime;
use uuid::Uuid;

/// Randomness from the operating system.
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait Entropy: Send + Sync {
    /// 256 unpredictable bits.
    fn bytes(&self) -> [u8; 32];
}

impl dyn Entropy {
    /// A random identifier (RFC 9562, version 4) that nobody can guess: 122 unpredictable bits.
    #[must_use]
    pub fn unguessable_id(&self) -> Uuid {
        uuid::Builder::from_random_bytes(self.half()).into_uuid()
    }

    /// An identifier that sorts by time (RFC 9562, version 7): unique, kind to indexes, and no secret.
    #[must_use]
    pub fn ordered_id(&self, now: UtcDateTime) -> Uuid {
        let millis = u64::try_from(now.unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
        let mut random = [0; 10];
        random.copy_from_slice(self.bytes().split_at(10).0);
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }

    fn half(&self) -> [u8; 16] {
        let bytes = self.bytes();
        let mut half = [0; 16];
        half.copy_from_slice(bytes.split_at(16).0);
        half
    }
}
