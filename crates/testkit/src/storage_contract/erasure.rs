//! What is left of an account that was erased: that its number was used, and what happened without where.

use std::sync::Arc;
use std::time::Duration;

use vestibule_domain::audit::{Event, Fact};
use vestibule_domain::limits::{Limit, Scope, Step};
use vestibule_domain::sign_in::SignInGuard;
use vestibule_domain::{Account, Content, EmailAddress, Message, MessageId, Recipient};
use vestibule_port_storage::{
    Changes, CommitError, EndSessions, Erasure, FactsOf, Outbox, Room, Save, Settlement, Storage, Version,
};

use super::facts::{fact, noting};
use super::proofs::requested;
use super::{
    NOW, account, after, confirmed, digest, id, link_mail, message, origin, password, phone, registered,
    saving_account, session, session_id, token, user, with_email,
};

fn client() -> Limit {
    Limit { step: Step::SignUp, scope: Scope::Address(origin().address) }
}

fn erasing(number: u32, replaces: Version) -> Changes {
    let digest = digest(u8::try_from(number).unwrap());
    let erase = Erasure { user: user(number), replaces, guard: None, phone: phone(number), number: digest };
    Changes { erase: Some(erase), ..Changes::default() }
}

fn owner(number: u32) -> Account {
    confirmed(with_email(account(number), &format!("user{number}@example.com"), number), number)
}

fn mail(number: u32, to: u32) -> Message {
    let address = EmailAddress::parse(&format!("user{to}@example.com")).unwrap();
    Message { recipient: Recipient::Email(address), ..message(number, NOW) }
}

fn sms(number: u32, to: u32) -> Message {
    Message { recipient: Recipient::Phone(phone(to)), ..message(number, NOW) }
}

/// Everything that there can be of a user; of each kind one.
async fn everything(storage: &impl Storage, number: u32) {
    registered(storage, number).await;
    let mark = u8::try_from(number).unwrap();
    let changes = Changes {
        password: Some(password(number, "hash", NOW)),
        used_number: Some(digest(mark)),
        guard: Some(Save::new(SignInGuard::new(phone(number)))),
        reset: Some(Save::new(requested(number))),
        session: Some(Save::new(session(number, number))),
        refresh_token: Some(token(mark, number, after(3600))),
        messages: vec![sms(10 + number, number), mail(20 + number, number)],
        facts: vec![
            // A sign-up has no account yet.
            Fact { user: None, event: Event::SignedUp, ..fact(10 + number, number, digest(mark), NOW) },
            fact(20 + number, number, digest(mark), after(1)),
        ],
        ..saving_account(Save::new(owner(number)))
    };
    storage.commit(changes).await.unwrap();
}

/// Whether everything that there can be of the user is there, or else that nothing is.
async fn has_everything(storage: &impl Storage, number: u32) -> bool {
    let state = storage.credentials(&phone(number), &[client()]).await.unwrap();
    let sign_up = storage.sign_up_state(&phone(number), &digest(0), &[client()]).await.unwrap();
    let hash = token(u8::try_from(number).unwrap(), number, NOW).hash;
    let session = storage.account_of_session(user(number), session_id(number)).await.unwrap();
    let there = [
        state.account.is_some(),
        !state.passwords.is_empty(),
        state.guard.is_some(),
        state.reset.is_some(),
        sign_up.registration.is_some(),
        session.is_some(),
        storage.account(user(number)).await.unwrap().is_some(),
        !storage.sessions(user(number)).await.unwrap().is_empty(),
        storage.refresh_state(&hash).await.unwrap().is_some(),
        storage.waiting_messages(&owner(number)).await.unwrap().len() == 2,
    ];
    assert!(there.iter().all(|&is_there| is_there == there[0]), "{there:?}");
    assert_eq!(storage.waiting_messages(&owner(number)).await.unwrap().is_empty(), !there[0]);
    there[0]
}

fn without_origin(fact: Fact) -> Fact {
    Fact { device: None, address: None, ..fact }
}

pub async fn an_erased_account_is_gone_with_everything_personal<S: Storage + Outbox>(storage: Arc<S>) {
    for number in 1..3 {
        everything(&*storage, number).await;
    }
    assert!(has_everything(&*storage, 1).await && has_everything(&*storage, 2).await);
    storage.commit(erasing(1, Version(1))).await.unwrap();
    assert!(!has_everything(&*storage, 1).await);
    assert!(has_everything(&*storage, 2).await, "another's is left alone");
    assert_eq!(left(&*storage).await, [12, 22].map(|number| MessageId::new(id(number))));
    assert_eq!(storage.commit(erasing(1, Version(1))).await, Err(CommitError::Conflict), "it is gone");
}

pub async fn facts_outlive_the_account_without_their_origins<S: Storage>(storage: Arc<S>) {
    for number in 1..3 {
        everything(&*storage, number).await;
    }
    let of_number = async |number| storage.facts(FactsOf::Number(digest(number)), 9).await.unwrap();
    let (own, others) = (of_number(1).await, of_number(2).await);
    assert_eq!((own.len(), others.len()), (2, 2));
    let erased = without_origin(Fact { event: Event::Erased, ..fact(30, 1, digest(1), after(9)) });
    let changes = Changes { facts: vec![erased.clone()], ..erasing(1, Version(1)) };
    storage.commit(changes).await.unwrap();
    let mut expected = vec![erased];
    expected.extend(own.into_iter().map(without_origin));
    assert_eq!(of_number(1).await, expected);
    assert_eq!(storage.facts(FactsOf::User(user(1)), 9).await.unwrap(), expected[..2]);
    assert_eq!(of_number(2).await, others);
    // What happens later is noted as ever.
    let later = Fact { user: None, ..fact(31, 1, digest(1), after(99)) };
    storage.commit(noting(vec![later.clone()])).await.unwrap();
    assert_eq!(of_number(1).await[0], later);
}

pub async fn dead_letters_of_an_erased_account_are_gone<S: Storage + Outbox>(storage: Arc<S>) {
    for number in 1..3 {
        everything(&*storage, number).await;
    }
    assert_eq!(storage.claim(Room::for_each(9), Duration::from_secs(1), NOW).await.unwrap().len(), 4);
    for number in [11, 21, 12, 22] {
        let dead = Settlement::Dead { reason: "refused".to_owned() };
        storage.settle(MessageId::new(id(number)), 1, dead).await.unwrap();
    }
    storage.commit(erasing(1, Version(1))).await.unwrap();
    let dead = storage.dead_letters(9).await.unwrap();
    let mut dead: Vec<_> = dead.into_iter().map(|letter| letter.message.id).collect();
    dead.sort();
    assert_eq!(dead, [12, 22].map(|number| MessageId::new(id(number))));
}

pub async fn an_erasure_over_another_version_changes_nothing<S: Storage>(storage: Arc<S>) {
    everything(&*storage, 1).await;
    let before = storage.facts(FactsOf::Number(digest(1)), 9).await.unwrap();
    for stale in [Version(2), Version(0)] {
        let changes = Changes { facts: vec![fact(30, 1, digest(1), after(9))], ..erasing(1, stale) };
        assert_eq!(storage.commit(changes).await, Err(CommitError::Conflict));
    }
    assert_eq!(storage.commit(erasing(9, Version(1))).await, Err(CommitError::Conflict));
    assert!(has_everything(&*storage, 1).await);
    assert_eq!(storage.facts(FactsOf::Number(digest(1)), 9).await.unwrap(), before);
}

pub async fn an_erasure_demands_the_guard_and_the_session_that_it_names<S: Storage>(storage: Arc<S>) {
    everything(&*storage, 1).await;
    everything(&*storage, 2).await;
    let erasing = |guard, session| {
        let mut changes = erasing(1, Version(1));
        changes.erase = changes.erase.map(|erasure| Erasure { guard: Some(guard), ..erasure });
        Changes { end_sessions: Some(EndSessions::One(user(1), session_id(session))), ..changes }
    };
    for (guard, session) in [(Version(2), 1), (Version(1), 7), (Version(1), 2)] {
        assert_eq!(
            storage.commit(erasing(guard, session)).await,
            Err(CommitError::Conflict),
            "{guard:?} {session}"
        );
        assert!(has_everything(&*storage, 1).await);
    }
    storage.commit(erasing(Version(1), 1)).await.unwrap();
    assert!(!has_everything(&*storage, 1).await);
    assert!(has_everything(&*storage, 2).await);
}

pub async fn an_erased_account_is_not_there_to_be_changed<S: Storage>(storage: Arc<S>) {
    everything(&*storage, 1).await;
    storage.commit(erasing(1, Version(1))).await.unwrap();
    let changes = Changes::default;
    for late in [
        saving_account(Save::over(Version(1), owner(1))),
        Changes { session: Some(Save::new(session(7, 1))), ..changes() },
        Changes { session: Some(Save::over(Version(1), session(1, 1))), ..changes() },
        Changes { refresh_token: Some(token(7, 1, after(60))), ..changes() },
        Changes { password: Some(password(1, "late", after(60))), ..changes() },
        Changes { password: Some(password(1, "late", NOW)), ..changes() },
        Changes { guard: Some(Save::over(Version(1), SignInGuard::new(phone(1)))), ..changes() },
        Changes { reset: Some(Save::over(Version(1), requested(1))), ..changes() },
    ] {
        let shown = format!("{late:?}");
        assert_eq!(storage.commit(late).await, Err(CommitError::Conflict), "{shown}");
    }
    assert!(!has_everything(&*storage, 1).await);
}

pub async fn a_number_stays_used_and_an_address_is_free_again<S: Storage>(storage: Arc<S>) {
    everything(&*storage, 1).await;
    storage.commit(erasing(1, Version(1))).await.unwrap();
    assert!(storage.sign_up_state(&phone(1), &digest(1), &[client()]).await.unwrap().number_used);
    let again = Changes { used_number: Some(digest(1)), ..Changes::default() };
    assert_eq!(storage.commit(again).await, Err(CommitError::PhoneTaken));
    let address = EmailAddress::parse("user1@example.com").unwrap();
    assert!(!storage.email_confirmed_by_other(&address, user(2)).await.unwrap());
    let heir = confirmed(with_email(account(2), "user1@example.com", 2), 2);
    storage.commit(saving_account(Save::new(heir))).await.unwrap();
    assert!(storage.email_confirmed_by_other(&address, user(3)).await.unwrap());
}

pub async fn a_number_that_was_known_by_a_lost_key_is_used_from_the_erasure_on<S: Storage>(storage: Arc<S>) {
    everything(&*storage, 1).await;
    let of_user = FactsOf::User(user(1));
    let erase = Erasure { number: digest(9), ..erasing(1, Version(1)).erase.unwrap() };
    storage.commit(Changes { erase: Some(erase), ..Changes::default() }).await.unwrap();
    assert!(storage.sign_up_state(&phone(1), &digest(9), &[client()]).await.unwrap().number_used);
    let facts = storage.facts(of_user, 9).await.unwrap();
    assert!(!facts.is_empty() && facts.iter().all(|fact| *fact == without_origin(fact.clone())), "{facts:?}");
}

pub async fn a_freed_number_is_used_no_more<S: Storage>(storage: Arc<S>) {
    for number in 1..3 {
        everything(&*storage, number).await;
    }
    let freeing = |version| Changes { freed_number: Some(digest(1)), ..erasing(1, version) };
    let is_used = async |number| {
        let digest = digest(u8::try_from(number).unwrap());
        storage.sign_up_state(&phone(number), &digest, &[]).await.unwrap().number_used
    };
    assert_eq!(storage.commit(freeing(Version(9))).await, Err(CommitError::Conflict));
    assert!(is_used(1).await, "a refused commit frees nothing");
    storage.commit(freeing(Version(1))).await.unwrap();
    assert!(!is_used(1).await && is_used(2).await);
    let again = Changes { used_number: Some(digest(1)), ..saving_account(Save::new(owner(1))) };
    storage.commit(again).await.unwrap();
    assert!(is_used(1).await);
}

pub async fn an_account_without_anything_is_erased<S: Storage>(storage: Arc<S>) {
    storage.commit(saving_account(Save::new(account(1)))).await.unwrap();
    storage
        .commit(saving_account(Save::over(Version(1), with_email(account(1), "a@example.com", 1))))
        .await
        .unwrap();
    assert_eq!(storage.commit(erasing(1, Version(1))).await, Err(CommitError::Conflict));
    storage.commit(erasing(1, Version(2))).await.unwrap();
    assert!(storage.account(user(1)).await.unwrap().is_none());
}

pub async fn nothing_of_an_erased_account_comes_back<S: Storage>(storage: Arc<S>) {
    everything(&*storage, 1).await;
    storage.commit(erasing(1, Version(1))).await.unwrap();
    // Nobody opens an account of the same user again, but it would show what was left behind.
    let changes =
        Changes { session: Some(Save::new(session(1, 1))), ..saving_account(Save::new(account(1))) };
    storage.commit(changes).await.unwrap();
    let state = storage.credentials(&phone(1), &[client()]).await.unwrap();
    assert!(state.account.is_some() && state.passwords.is_empty());
    let hash = token(1, 1, NOW).hash;
    assert!(storage.refresh_state(&hash).await.unwrap().is_none());
}

/// Two accounts with an address, and every mail to it: one with the link of each, numbered after it, and 3, a notice.
async fn sharing(storage: &impl Storage, one: Account, other: Account) {
    storage.commit(saving_account(Save::new(one))).await.unwrap();
    let notice = Message { content: Content::PasswordChanged, ..link_mail(3, "anna@example.com") };
    let messages = vec![link_mail(1, "anna@example.com"), link_mail(2, "anna@example.com"), notice];
    storage.commit(Changes { messages, ..saving_account(Save::new(other)) }).await.unwrap();
}

/// The messages that have not left, dead letters not included.
async fn left(storage: &impl Outbox) -> Vec<MessageId> {
    let left = storage.claim(Room::for_each(9), Duration::from_secs(1), NOW).await.unwrap();
    let mut left: Vec<_> = left.into_iter().map(|claimed| claimed.message.id).collect();
    left.sort();
    left
}

pub async fn mail_of_another_account_outlives_an_erasure<S: Storage + Outbox>(storage: Arc<S>) {
    let unconfirmed = |number| with_email(account(number), "anna@example.com", number);
    sharing(&*storage, unconfirmed(1), unconfirmed(2)).await;
    storage.commit(erasing(1, Version(1))).await.unwrap();
    assert_eq!(left(&*storage).await, [2, 3].map(|number| MessageId::new(id(number))));
}

pub async fn a_confirmed_address_takes_its_mail_along<S: Storage + Outbox>(storage: Arc<S>) {
    let unconfirmed = |number| with_email(account(number), "anna@example.com", number);
    sharing(&*storage, confirmed(unconfirmed(1), 1), unconfirmed(2)).await;
    // Hers stays when he goes who merely named her address.
    storage.commit(erasing(2, Version(1))).await.unwrap();
    assert_eq!(left(&*storage).await, [1, 3].map(|number| MessageId::new(id(number))));
    storage.commit(erasing(1, Version(1))).await.unwrap();
    assert_eq!(storage.next_due(Room::for_each(1)).await.unwrap(), None);
}
