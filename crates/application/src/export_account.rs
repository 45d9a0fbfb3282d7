use time::UtcDateTime;
use vestibule_domain::audit::Fact;
use vestibule_domain::password_reset::PasswordReset;
use vestibule_domain::registration::Registration;
use vestibule_domain::sign_in::SignInGuard;
use vestibule_domain::{Account, Message, Session};
use vestibule_port_storage::{FactsOf, Unavailable};

use crate::{Application, Customer};

/// The most facts that are exported: years of them.
const MAX_FACTS: usize = 10_000;

/// Everything that is kept about a person. Records of messages that have left are not among it: of their recipients they hold a mask.
#[derive(Debug)]
pub struct PersonalData {
    /// The account.
    pub account: Account,
    /// When each of the remembered passwords was set. Their hashes are nobody's to see.
    pub passwords_set_at: Vec<UtcDateTime>,
    /// The living sessions.
    pub sessions: Vec<Session>,
    /// Where the right password came from, and wrong ones.
    pub guard: SignInGuard,
    /// What is still known of the sign-ups with the number.
    pub registration: Option<Registration>,
    /// What is still known of the requests for a new password.
    pub reset: Option<PasswordReset>,
    /// Messages that have not left yet.
    pub messages: Vec<Message>,
    /// What happened.
    pub facts: Vec<Fact>,
}

impl Application {
    /// Everything that is kept about the customer.
    ///
    /// # Errors
    /// [`Unavailable`]
    pub async fn export_account(&self, customer: Customer) -> Result<PersonalData, Unavailable> {
        let account = customer.account.value;
        let (phone, user) = (account.phone(), account.user());
        let credentials = self.storage.credentials(phone, &[]).await?;
        let number = FactsOf::Number(self.derivation.number_digest(phone));
        let facts = self.storage.facts(number, MAX_FACTS).await?;
        Ok(PersonalData {
            passwords_set_at: credentials.passwords.iter().map(|password| password.set_at).collect(),
            sessions: self.storage.sessions(user).await?,
            guard: credentials.guard.map_or_else(|| SignInGuard::new(phone.clone()), |loaded| loaded.value),
            registration: self.storage.registration(phone).await?.map(|loaded| loaded.value),
            reset: credentials.reset.map(|loaded| loaded.value),
            messages: self.storage.waiting_messages(&account).await?,
            facts,
            account,
        })
    }
}
