//! The audit trail.

use std::sync::Arc;

use time::UtcDateTime;
use vestibule_domain::audit::{Event, Fact};
use vestibule_domain::{ClientAddress, FactId, NumberDigest};
use vestibule_port_storage::{Changes, CommitError, FactsOf, Save, Storage, Version};

use super::{account, after, digest, id, origin, phone, saving_account, session_id, user};

/// A fact of the user with everything that a fact can have.
pub(super) fn fact(number: u32, of: u32, about: NumberDigest, at: UtcDateTime) -> Fact {
    Fact {
        id: FactId::new(id(number)),
        at,
        event: Event::SignedIn,
        number: about,
        phone: phone(of).masked(),
        user: Some(user(of)),
        session: Some(session_id(number)),
        device: origin().fingerprint,
        address: Some(origin().address),
    }
}

pub(super) fn noting(facts: Vec<Fact>) -> Changes {
    Changes { facts, ..Changes::default() }
}

pub async fn every_fact_is_read_as_it_was_noted<S: Storage>(storage: Arc<S>) {
    let v6 = ClientAddress::of("2001:db8::1".parse().unwrap());
    let mut facts: Vec<_> = (1..)
        .zip(Event::ALL)
        .map(|(number, event)| {
            let at = after(number.into()) + std::time::Duration::from_millis(number.into());
            Fact { event, ..fact(number, 1, digest(1), at) }
        })
        .collect();
    let bare = Fact { session: None, device: None, address: None, ..fact(90, 1, digest(1), after(90)) };
    facts.extend([bare, Fact { address: Some(v6), ..fact(91, 1, digest(1), after(91)) }]);
    storage.commit(noting(facts.clone())).await.unwrap();
    facts.reverse();
    assert_eq!(storage.facts(FactsOf::User(user(1)), 99).await.unwrap(), facts);
    assert_eq!(storage.facts(FactsOf::Number(digest(1)), 99).await.unwrap(), facts);
}

pub async fn facts_are_found_by_user_and_by_number<S: Storage>(storage: Arc<S>) {
    // From before the account was opened, of its own, and of others.
    let before = Fact { user: None, ..fact(1, 1, digest(1), after(1)) };
    let own = [fact(4, 1, digest(1), after(2)), fact(3, 1, digest(1), after(9))];
    let others =
        vec![fact(5, 2, digest(2), after(3)), Fact { user: None, ..fact(6, 2, digest(3), after(4)) }];
    storage.commit(noting(others)).await.unwrap();
    storage.commit(noting(vec![own[1].clone(), before.clone()])).await.unwrap();
    storage.commit(noting(vec![own[0].clone()])).await.unwrap();
    let found = async |of, limit| storage.facts(of, limit).await.unwrap();
    assert_eq!(found(FactsOf::User(user(1)), 9).await, [own[1].clone(), own[0].clone()]);
    let all = [own[1].clone(), own[0].clone(), before];
    assert_eq!(found(FactsOf::Number(digest(1)), 9).await, all);
    assert_eq!(found(FactsOf::Number(digest(1)), 2).await, all[..2]);
    assert_eq!(found(FactsOf::User(user(1)), 1).await, all[..1]);
    assert!(found(FactsOf::User(user(1)), 0).await.is_empty());
    assert!(found(FactsOf::User(user(9)), 9).await.is_empty());
    assert!(found(FactsOf::Number(digest(9)), 9).await.is_empty());
}

pub async fn facts_of_one_moment_are_in_the_order_of_their_ids<S: Storage>(storage: Arc<S>) {
    let at = |number| fact(number, 1, digest(1), after(1));
    storage.commit(noting(vec![at(2), at(3), at(1)])).await.unwrap();
    for of in [FactsOf::User(user(1)), FactsOf::Number(digest(1))] {
        assert_eq!(storage.facts(of, 2).await.unwrap(), [at(3), at(2)]);
    }
}

pub async fn a_refused_commit_notes_nothing<S: Storage>(storage: Arc<S>) {
    storage.commit(saving_account(Save::new(account(1)))).await.unwrap();
    let refused = Changes {
        facts: vec![fact(1, 1, digest(1), after(1))],
        ..saving_account(Save::over(Version(9), account(1)))
    };
    assert_eq!(storage.commit(refused).await, Err(CommitError::Conflict));
    assert!(storage.facts(FactsOf::User(user(1)), 9).await.unwrap().is_empty());
}
