//! Storage knows the key that it is used under by its mark, and keeps the first.

use std::collections::HashSet;
use std::sync::Arc;

use vestibule_domain::Account;
use vestibule_port_storage::{Changes, Erasure, KeyEvidence, KeyMark, Save, Storage, Version};

use super::{NOW, digest, origin, phone, user};

const fn mark(number: u8) -> KeyMark {
    KeyMark([number; 32])
}

pub async fn the_first_mark_is_kept<S: Storage>(storage: Arc<S>) {
    assert_eq!(storage.key_evidence().await.unwrap(), KeyEvidence { mark: None, phone: None });
    for number in [7, 7, 8] {
        assert_eq!(storage.keep_key_mark(&mark(number)).await.unwrap(), mark(7));
    }
    assert_eq!(storage.key_evidence().await.unwrap(), KeyEvidence { mark: Some(mark(7)), phone: None });
}

pub async fn of_32_marks_one_is_kept_and_all_are_told_it<S: Storage + 'static>(storage: Arc<S>) {
    let callers: Vec<_> = (0..32)
        .map(|number| {
            let storage = Arc::clone(&storage);
            tokio::spawn(async move { storage.keep_key_mark(&mark(number)).await.unwrap().0 })
        })
        .collect();
    let mut told = HashSet::new();
    for caller in callers {
        told.insert(caller.await.unwrap());
    }
    assert_eq!(told.len(), 1, "{told:?}");
    let kept = storage.key_evidence().await.unwrap().mark.unwrap();
    assert!(told.contains(&kept.0));
}

pub async fn the_mark_of_an_unfinished_copy_is_kept_like_any_other<S: Storage>(storage: Arc<S>) {
    let unfinished = KeyMark::OF_AN_UNFINISHED_COPY;
    for asked in [unfinished, mark(7)] {
        assert_eq!(storage.keep_key_mark(&asked).await.unwrap(), unfinished);
    }
    let evidence = storage.key_evidence().await.unwrap();
    assert_eq!(evidence, KeyEvidence { mark: Some(unfinished), phone: None });
}

pub async fn evidence_names_an_account_while_there_is_one<S: Storage>(storage: Arc<S>) {
    let account = Account::open(user(1), phone(1), origin(), NOW);
    let opening = Changes { account: Some(Save::new(account)), ..Changes::default() };
    storage.commit(opening).await.unwrap();
    assert_eq!(storage.key_evidence().await.unwrap().phone, Some(phone(1)));
    let erase =
        Erasure { user: user(1), replaces: Version(1), guard: None, phone: phone(1), number: digest(1) };
    storage.commit(Changes { erase: Some(erase), ..Changes::default() }).await.unwrap();
    assert_eq!(storage.key_evidence().await.unwrap(), KeyEvidence { mark: None, phone: None });
}
