use std::fmt;

use uuid::Uuid;

/// Stamps an identifier type: a UUID that cannot be mistaken for another kind of identifier.
macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps a UUID that the caller made or read back.
            #[must_use]
            pub const fn new(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID itself.
            #[must_use]
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

identifier! {
    /// One sign-up of one phone: the `registrationId` that its client received. It must be unguessable, since
    /// knowing it proves that a confirmation comes from the client that signed up.
    AttemptId
}
identifier! {
    /// An account, for good: the `userId` of the wire and the `sub` of its tokens.
    UserId
}
identifier! {
    /// One signed-in device: the `sid` of its tokens.
    SessionId
}
identifier! {
    /// One message of the outbox.
    MessageId
}
identifier! {
    /// One e-mail confirmation link. A replaced address gets a new one, which makes the old link worthless.
    EmailVerificationId
}
identifier! {
    /// One line of the audit trail.
    FactId
}
