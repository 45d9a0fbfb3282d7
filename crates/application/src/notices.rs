use std::time::Duration;

use futures_util::future::BoxFuture;
use vestibule_domain::limits::{Charge, Limit, Scope, Step, Unit};
use vestibule_domain::quota::Quota;
use vestibule_domain::registration::Outgoing;
use vestibule_domain::spending::{Audience, Spend, Unsent};
use vestibule_domain::{Account, AccountKind, Content, Message, Recipient, Voice};
use vestibule_port_storage::{Changes, CommitError};

use crate::Application;

/// How long the owner may be told of what has happened to the account.
const NOTICE_LIFE: Duration = Duration::from_hours(24);

/// How many SMS of this kind an account causes in a day. Whoever has the account can cause them, and need not be honest.
const SMS_NOTICES: Quota = Quota { burst: 5, period: Duration::from_hours(24) };

/// What the owner of an account is told of it, the SMS first, and what that costs.
pub(crate) struct Notices {
    pub(crate) messages: Vec<Message>,
    pub(crate) spends: Vec<Spend>,
    pub(crate) charges: Vec<Charge>,
}

impl Application {
    /// What the owner is told by SMS, unless it is a test account, and by mail where an address is confirmed.
    pub(crate) fn notices(&self, account: &Account, voice: &Voice, content: Content) -> Notices {
        let now = self.clock.now();
        let outgoing = Outgoing { content, expires_at: now + NOTICE_LIFE };
        let by_sms = match account.kind() {
            AccountKind::Customer => Some(account.phone()),
            AccountKind::Test => None,
        };
        let by_mail = account.email().confirmed().cloned().map(Recipient::Email);
        let recipients = by_sms.cloned().map(Recipient::Phone).into_iter().chain(by_mail);
        let spends = by_sms
            .map(|to| self.settings.spending.spends(to, Audience::Customer, Unsent::Returned, now))
            .unwrap_or_default();
        let limit = Limit { step: Step::Notice, scope: Scope::Account(account.user()) };
        let charge = Charge { limit, quota: SMS_NOTICES, unit: Unit::Taken, now };
        let messages = recipients.map(|to| self.message(to, voice, outgoing)).collect();
        Notices { messages, spends, charges: by_sms.map(|_| charge).into_iter().collect() }
    }

    /// Commits what is done whether or not it can be told by SMS, for which there may be no money, or too many today. Nothing else of it may be limited.
    pub(crate) fn commit_with_notices(&self, changes: Changes) -> BoxFuture<'_, Result<(), CommitError>> {
        let commit = async move {
            if changes.spends.is_empty() && changes.charges.is_empty() {
                return self.storage.commit(changes).await;
            }
            match self.storage.commit(changes.clone()).await {
                Err(CommitError::LimitReached { .. }) => {
                    tracing::warn!(
                        "a limit is reached: an owner is not told by SMS of a change to the account"
                    );
                    self.storage.commit(without_sms(changes)).await
                }
                outcome => outcome,
            }
        };
        Box::pin(commit)
    }
}

fn without_sms(mut changes: Changes) -> Changes {
    changes.messages.retain(|message| matches!(message.recipient, Recipient::Email(_)));
    changes.spends.clear();
    changes.charges.clear();
    changes
}
