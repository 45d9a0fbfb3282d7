use vestibule_domain::audit::{Event, Fact};
use vestibule_domain::{Account, FactId, Origin, PhoneNumber, SessionId, UserId};

use crate::Application;

/// Whom and what a fact is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scene<'a> {
    pub(crate) phone: &'a PhoneNumber,
    pub(crate) user: Option<UserId>,
    pub(crate) session: Option<SessionId>,
    pub(crate) origin: Option<&'a Origin>,
}

impl<'a> Scene<'a> {
    /// A number that somebody named from somewhere.
    pub(crate) const fn at(phone: &'a PhoneNumber, origin: &'a Origin) -> Self {
        Self { phone, user: None, session: None, origin: Some(origin) }
    }

    /// An account, whoever acted from wherever.
    pub(crate) const fn of(account: &'a Account) -> Self {
        Self { phone: account.phone(), user: Some(account.user()), session: None, origin: None }
    }
}

impl Application {
    /// A line for the audit trail, to be saved with what it tells of.
    pub(crate) fn fact(&self, event: Event, scene: &Scene<'_>) -> Fact {
        let at = self.clock.now();
        Fact {
            id: FactId::new(self.entropy.ordered_id(at)),
            at,
            event,
            number: self.derivation.number_digest(scene.phone),
            phone: scene.phone.masked(),
            user: scene.user,
            session: scene.session,
            device: scene.origin.and_then(|origin| origin.fingerprint),
            address: scene.origin.map(|origin| origin.address),
        }
    }
}
