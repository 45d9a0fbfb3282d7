use std::time::Duration;

use time::UtcDateTime;

use crate::quota::Quota;
use crate::registration::Outgoing;
use crate::{
    Content, EmailAddress, EmailVerificationId, InvalidField, KycLevel, Origin, PhoneNumber, Profile,
    ProfilePatch, Requirement, UserId, missing_for_kyc0,
};

/// A person with a confirmed phone number.
///
/// KYC_0 is granted by the transition that completes it, so that it is saved with what completed it. It is never taken
/// back: a field that it needs may be changed, not cleared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    user: UserId,
    phone: PhoneNumber,
    email: EmailState,
    profile: Profile,
    kyc: KycLevel,
    created_at: UtcDateTime,
    opened_from: Option<Origin>,
    kind: AccountKind,
    standing: Standing,
    mails_full_at: Option<UtcDateTime>,
}

/// Whose account it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountKind {
    /// A customer's, who has shown that the phone is hers.
    Customer,
    /// Of whoever knows the code of a test number.
    Test,
}

/// Whether the owner may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Yes.
    Good,
    /// The operator has blocked the account.
    Blocked,
}

impl Standing {
    /// The name, in lower case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Blocked => "blocked",
        }
    }
}

/// The e-mail address of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EmailState {
    /// There is none.
    None,
    /// It was given; its link was not followed yet. Several accounts may have the same unconfirmed address.
    Unconfirmed {
        /// The address.
        address: EmailAddress,
        /// The identity of the link that confirms it.
        verification: EmailVerificationId,
        /// When the link dies.
        expires_at: UtcDateTime,
        /// When the last mail with the link was queued.
        last_mail_at: UtcDateTime,
    },
    /// Its owner followed the link. No other account can confirm it.
    Confirmed {
        /// The address.
        address: EmailAddress,
        /// The link that confirmed it, so that following it again is no error.
        verification: EmailVerificationId,
    },
}

/// The limits of e-mail confirmation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmailRules {
    /// How long a link lives; a resend does not lengthen it.
    pub link_ttl: Duration,
    /// The least time between two mails to the same address.
    pub resend_cooldown: Duration,
    /// Mails of one account, to whatever addresses, and answers that an address is another's.
    pub mails: Quota,
}

/// An address to add or to replace the unconfirmed one with.
#[derive(Debug, Clone)]
pub struct AddEmail {
    /// The address.
    pub address: EmailAddress,
    /// A fresh identifier, for the link.
    pub verification: EmailVerificationId,
}

/// The account after a step with its e-mail address, to be saved with its mail.
#[derive(Debug)]
#[must_use = "the step counts once it is saved, together with its mail"]
pub struct EmailStep {
    /// The state to save.
    pub account: Account,
    /// The mail to queue with it.
    pub mail: Outgoing,
}

/// Why nothing happens with an e-mail address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EmailRefusal {
    /// The account's address is confirmed already.
    #[error("the address is already confirmed")]
    AlreadyConfirmed,
    /// There is no address to send to.
    #[error("there is no address to confirm")]
    NoAddress,
    /// The last mail is too recent.
    #[error("the last mail is too recent")]
    CoolDown {
        /// How long to wait.
        retry_after: Duration,
    },
    /// The account has caused too many mails.
    #[error("too many mails")]
    TooMany {
        /// How long to wait.
        retry_after: Duration,
    },
}

/// What following a genuine link led to.
#[derive(Debug)]
#[must_use = "the address counts as confirmed once the account is saved"]
pub enum ConfirmEmail {
    /// The address is confirmed now: save the account.
    Confirmed(Box<Account>),
    /// It was before; there is nothing to save.
    AlreadyConfirmed,
    /// The link's life is over.
    Expired,
    /// The link belongs to an address that was since replaced.
    Replaced,
}

impl Account {
    /// The account that a confirmed phone opens.
    #[must_use]
    pub fn open(user: UserId, phone: PhoneNumber, from: Origin, now: UtcDateTime) -> Self {
        Self {
            user,
            phone,
            email: EmailState::None,
            profile: Profile::default(),
            kyc: KycLevel::None,
            created_at: now,
            opened_from: Some(from),
            kind: AccountKind::Customer,
            standing: Standing::Good,
            mails_full_at: None,
        }
    }

    /// Whose it is.
    #[must_use]
    pub const fn user(&self) -> UserId {
        self.user
    }

    /// Its confirmed phone.
    #[must_use]
    pub const fn phone(&self) -> &PhoneNumber {
        &self.phone
    }

    /// Its e-mail address and how far that has come.
    #[must_use]
    pub const fn email(&self) -> &EmailState {
        &self.email
    }

    /// The personal details.
    #[must_use]
    pub const fn profile(&self) -> &Profile {
        &self.profile
    }

    /// The level that it has reached.
    #[must_use]
    pub const fn kyc(&self) -> KycLevel {
        self.kyc
    }

    /// When it was opened.
    #[must_use]
    pub const fn created_at(&self) -> UtcDateTime {
        self.created_at
    }

    /// Where the confirmation came from that opened it, as far as that is known.
    #[must_use]
    pub const fn opened_from(&self) -> Option<&Origin> {
        self.opened_from.as_ref()
    }

    /// Whose account it is.
    #[must_use]
    pub const fn kind(&self) -> AccountKind {
        self.kind
    }

    /// The account as one of another kind.
    #[must_use]
    pub fn of_kind(self, kind: AccountKind) -> Self {
        Self { kind, ..self }
    }

    /// Whether the owner may come in.
    #[must_use]
    pub const fn standing(&self) -> Standing {
        self.standing
    }

    /// The account in another standing.
    #[must_use]
    pub fn stand(self, standing: Standing) -> Self {
        Self { standing, ..self }
    }

    /// What still stands between it and KYC_0.
    #[must_use]
    pub fn missing(&self) -> Vec<Requirement> {
        missing_for_kyc0(self.email.address().is_some(), &self.profile)
    }

    /// Adds an address, or replaces one that is not confirmed. The address that is there already, given again within
    /// the cool-down, is a repeat of the request: `Ok(None)`, with nothing to save.
    ///
    /// # Errors
    /// [`EmailRefusal::AlreadyConfirmed`], [`EmailRefusal::TooMany`].
    pub fn add_email(
        self,
        add: AddEmail,
        rules: &EmailRules,
        now: UtcDateTime,
    ) -> Result<Option<EmailStep>, EmailRefusal> {
        match &self.email {
            EmailState::Confirmed { .. } => return Err(EmailRefusal::AlreadyConfirmed),
            EmailState::Unconfirmed { address, expires_at, .. }
                if *address == add.address && now < *expires_at =>
            {
                return match self.resend_email(add.verification, rules, now) {
                    Ok(step) => Ok(Some(step)),
                    Err(EmailRefusal::CoolDown { .. }) => Ok(None),
                    Err(refusal) => Err(refusal),
                };
            }
            EmailState::Unconfirmed { .. } | EmailState::None => {}
        }
        self.send_link(add.address, add.verification, now + rules.link_ttl, rules, now).map(Some)
    }

    /// Pays for the answer that an address belongs to another account, as for a mail: else who has an account could ask for any
    /// number of addresses. The address that is there stays, and its cool-down.
    ///
    /// # Errors
    /// [`EmailRefusal::AlreadyConfirmed`], [`EmailRefusal::TooMany`].
    pub fn refuse_email(self, rules: &EmailRules, now: UtcDateTime) -> Result<Self, EmailRefusal> {
        if self.email.confirmed().is_some() {
            return Err(EmailRefusal::AlreadyConfirmed);
        }
        self.charge_mail(rules, now)
    }

    /// Sends the link once more; a link whose life is over is replaced by `fresh`.
    ///
    /// # Errors
    /// [`EmailRefusal`]; nothing needs to be saved then.
    pub fn resend_email(
        self,
        fresh: EmailVerificationId,
        rules: &EmailRules,
        now: UtcDateTime,
    ) -> Result<EmailStep, EmailRefusal> {
        let (address, link, link_expires_at, last_mail_at) = match &self.email {
            EmailState::None => return Err(EmailRefusal::NoAddress),
            EmailState::Confirmed { .. } => return Err(EmailRefusal::AlreadyConfirmed),
            EmailState::Unconfirmed { address, verification, expires_at, last_mail_at } => {
                (address.clone(), *verification, *expires_at, *last_mail_at)
            }
        };
        let rest = last_mail_at + rules.resend_cooldown - now;
        if rest.is_positive() {
            return Err(EmailRefusal::CoolDown { retry_after: rest.unsigned_abs() });
        }
        if now < link_expires_at {
            self.send_link(address, link, link_expires_at, rules, now)
        } else {
            self.send_link(address, fresh, now + rules.link_ttl, rules, now)
        }
    }

    /// Confirms the address that the link was made for. That the link is genuine is checked before.
    pub fn confirm_email(self, link: EmailVerificationId, now: UtcDateTime) -> ConfirmEmail {
        match self.email {
            EmailState::Confirmed { verification, .. } if verification == link => {
                ConfirmEmail::AlreadyConfirmed
            }
            EmailState::Unconfirmed { verification, expires_at, .. }
                if verification == link && now >= expires_at =>
            {
                ConfirmEmail::Expired
            }
            EmailState::Unconfirmed { address, verification, .. } if verification == link => {
                let email = EmailState::Confirmed { address, verification };
                ConfirmEmail::Confirmed(Box::new(Self { email, ..self }.graded()))
            }
            EmailState::None | EmailState::Unconfirmed { .. } | EmailState::Confirmed { .. } => {
                ConfirmEmail::Replaced
            }
        }
    }

    /// Changes personal details, all or nothing.
    ///
    /// # Errors
    /// The first field whose value cannot be taken.
    pub fn patch_profile(
        self,
        patch: &ProfilePatch,
        today: time::Date,
        min_age_years: u8,
    ) -> Result<Self, InvalidField> {
        let profile = self.profile.patched(patch, today, min_age_years, self.kyc)?;
        Ok(Self { profile, ..self }.graded())
    }

    fn send_link(
        self,
        address: EmailAddress,
        verification: EmailVerificationId,
        expires_at: UtcDateTime,
        rules: &EmailRules,
        now: UtcDateTime,
    ) -> Result<EmailStep, EmailRefusal> {
        let charged = self.charge_mail(rules, now)?;
        let email = EmailState::Unconfirmed { address, verification, expires_at, last_mail_at: now };
        let mail = Outgoing { content: Content::EmailConfirmation { verification }, expires_at };
        Ok(EmailStep { account: Self { email, ..charged }.graded(), mail })
    }

    fn charge_mail(self, rules: &EmailRules, now: UtcDateTime) -> Result<Self, EmailRefusal> {
        let charged = rules.mails.charge(self.mails_full_at, now);
        let full_at = charged.map_err(|retry_after| EmailRefusal::TooMany { retry_after })?;
        Ok(Self { mails_full_at: Some(full_at), ..self })
    }

    fn graded(self) -> Self {
        let kyc = if self.missing().is_empty() { KycLevel::Kyc0 } else { self.kyc };
        Self { kyc, ..self }
    }

    /// What storage keeps.
    #[must_use]
    pub fn record(self) -> AccountRecord {
        let Self { user, phone, email, profile, kyc, created_at, opened_from, kind, standing, mails_full_at } =
            self;
        AccountRecord {
            user,
            phone,
            email,
            profile,
            kyc,
            created_at,
            opened_from,
            kind,
            standing,
            mails_full_at,
        }
    }

    /// The account that a record was made of. The record is believed.
    #[must_use]
    pub fn restore(record: AccountRecord) -> Self {
        let AccountRecord {
            user,
            phone,
            email,
            profile,
            kyc,
            created_at,
            opened_from,
            kind,
            standing,
            mails_full_at,
        } = record;
        Self { user, phone, email, profile, kyc, created_at, opened_from, kind, standing, mails_full_at }
    }
}

/// An [`Account`] with its content laid open, for storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountRecord {
    /// Whose it is.
    pub user: UserId,
    /// Its confirmed phone.
    pub phone: PhoneNumber,
    /// Its e-mail address.
    pub email: EmailState,
    /// The personal details.
    pub profile: Profile,
    /// The level that it has reached.
    pub kyc: KycLevel,
    /// When it was opened.
    pub created_at: UtcDateTime,
    /// Where the confirmation came from that opened it; accounts of the first versions have none.
    pub opened_from: Option<Origin>,
    /// Whose account it is.
    pub kind: AccountKind,
    /// Whether the owner may come in.
    pub standing: Standing,
    /// When its budget of mails is full again, see [`quota`](crate::quota).
    pub mails_full_at: Option<UtcDateTime>,
}

impl EmailState {
    /// The address, confirmed or not.
    #[must_use]
    pub const fn address(&self) -> Option<&EmailAddress> {
        match self {
            Self::None => None,
            Self::Unconfirmed { address, .. } | Self::Confirmed { address, .. } => Some(address),
        }
    }

    /// The address, if its owner has confirmed it.
    #[must_use]
    pub const fn confirmed(&self) -> Option<&EmailAddress> {
        match self {
            Self::None | Self::Unconfirmed { .. } => None,
            Self::Confirmed { address, .. } => Some(address),
        }
    }

    /// The link that confirms the address, or has confirmed it.
    #[must_use]
    pub const fn verification(&self) -> Option<EmailVerificationId> {
        match self {
            Self::None => None,
            Self::Unconfirmed { verification, .. } | Self::Confirmed { verification, .. } => {
                Some(*verification)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use time::macros::{date, utc_datetime};
    use uuid::Uuid;

    use super::*;
    use crate::{ClientAddress, KYC0_FIELDS, ProfileField};

    const NOW: UtcDateTime = utc_datetime!(2026-11-24 12:00);
    const RULES: EmailRules = EmailRules {
        link_ttl: Duration::from_hours(24),
        resend_cooldown: Duration::from_mins(1),
        mails: Quota { burst: 3, period: Duration::from_hours(24) },
    };

    fn account() -> Account {
        Account::open(UserId::new(Uuid::nil()), PhoneNumber::parse("+447871234567").unwrap(), origin(), NOW)
    }

    fn origin() -> Origin {
        Origin { fingerprint: None, address: ClientAddress::of([192, 0, 2, 1].into()) }
    }

    fn link(number: u128) -> EmailVerificationId {
        EmailVerificationId::new(Uuid::from_u128(number))
    }

    fn add(address: &str, number: u128) -> AddEmail {
        AddEmail { address: EmailAddress::parse(address).unwrap(), verification: link(number) }
    }

    fn added(account: Account, address: &str, number: u128, at: UtcDateTime) -> Account {
        account.add_email(add(address, number), &RULES, at).unwrap().unwrap().account
    }

    fn after(seconds: u64) -> UtcDateTime {
        NOW + Duration::from_secs(seconds)
    }

    #[test]
    fn an_address_is_confirmed_by_its_link_and_stays_so() {
        let account = added(account(), "anna@example.com", 1, NOW);
        let ConfirmEmail::Confirmed(account) = account.confirm_email(link(1), after(9)) else { panic!() };
        assert_eq!(account.email().confirmed().unwrap().as_str(), "anna@example.com");
        assert!(matches!(
            account.clone().confirm_email(link(1), after(99_999)),
            ConfirmEmail::AlreadyConfirmed
        ));
        let again = account.add_email(add("bea@example.com", 2), &RULES, after(99)).unwrap_err();
        assert_eq!(again, EmailRefusal::AlreadyConfirmed);
    }

    #[test]
    fn a_replaced_or_late_link_confirms_nothing() {
        let account = added(added(account(), "anna@example.com", 1, NOW), "bea@example.com", 2, after(1));
        assert!(matches!(account.clone().confirm_email(link(1), after(2)), ConfirmEmail::Replaced));
        assert!(matches!(account.clone().confirm_email(link(2), after(86_400)), ConfirmEmail::Confirmed(_)));
        assert!(matches!(account.confirm_email(link(2), after(86_401)), ConfirmEmail::Expired));
    }

    #[test]
    fn the_same_address_again_is_a_repeat_while_it_cools_down() {
        let account = added(account(), "anna@example.com", 1, NOW);
        assert!(account.clone().add_email(add("Anna@Example.com", 2), &RULES, after(59)).unwrap().is_none());
        let step = account.add_email(add("anna@example.com", 2), &RULES, after(60)).unwrap().unwrap();
        assert_eq!(step.mail.content, Content::EmailConfirmation { verification: link(1) });
    }

    #[test]
    fn a_resend_cools_down_repeats_the_link_and_renews_a_dead_one() {
        assert_eq!(account().resend_email(link(9), &RULES, NOW).unwrap_err(), EmailRefusal::NoAddress);
        let account = added(account(), "anna@example.com", 1, NOW);
        assert_eq!(
            account.clone().resend_email(link(9), &RULES, after(50)).unwrap_err(),
            EmailRefusal::CoolDown { retry_after: Duration::from_secs(10) }
        );
        let step = account.clone().resend_email(link(9), &RULES, after(60)).unwrap();
        assert_eq!(step.mail.content, Content::EmailConfirmation { verification: link(1) });
        assert_eq!(step.mail.expires_at, after(86_400), "a resend does not lengthen the link's life");
        let step = account.resend_email(link(9), &RULES, after(86_400)).unwrap();
        assert_eq!(step.mail.content, Content::EmailConfirmation { verification: link(9) });
    }

    #[test]
    fn mails_are_limited_whatever_the_address() {
        let mut account = account();
        for number in 0..3_u8 {
            account = added(account, &format!("a{number}@example.com"), u128::from(number), NOW);
        }
        let refusal = account.add_email(add("b@example.com", 9), &RULES, NOW).unwrap_err();
        assert_eq!(refusal, EmailRefusal::TooMany { retry_after: Duration::from_hours(8) });
    }

    #[test]
    fn an_address_of_another_costs_a_mail_and_changes_nothing_else() {
        let mut account = added(account(), "anna@example.com", 1, NOW);
        let before = account.email().clone();
        for _ in 0..2 {
            account = account.refuse_email(&RULES, NOW).unwrap();
        }
        assert_eq!(account.email(), &before);
        let refusal = EmailRefusal::TooMany { retry_after: Duration::from_hours(8) };
        assert_eq!(account.clone().refuse_email(&RULES, NOW).unwrap_err(), refusal);
        assert_eq!(account.add_email(add("b@example.com", 9), &RULES, NOW).unwrap_err(), refusal);
    }

    #[test]
    fn kyc0_comes_with_whatever_completes_it() {
        let value = |field| match field {
            ProfileField::DateOfBirth => "1990-05-17",
            ProfileField::ResidenceCountry => "GB",
            _ => "Anna 1",
        };
        let full = KYC0_FIELDS
            .into_iter()
            .fold(ProfilePatch::default(), |patch, field| patch.with(field, Some(value(field).to_owned())));
        let patch = |account: Account| account.patch_profile(&full, date!(2026 - 11 - 24), 18).unwrap();

        let profile_first = patch(account());
        assert_eq!(profile_first.missing(), [Requirement::Email]);
        assert_eq!(profile_first.kyc(), KycLevel::None);
        assert_eq!(added(profile_first, "anna@example.com", 1, NOW).kyc(), KycLevel::Kyc0);

        let email_first = added(account(), "anna@example.com", 1, NOW);
        assert_eq!(email_first.missing().len(), 7);
        let complete = patch(email_first);
        assert_eq!(complete.kyc(), KycLevel::Kyc0);
        assert_eq!(Account::restore(complete.clone().record()), complete);
    }
}
