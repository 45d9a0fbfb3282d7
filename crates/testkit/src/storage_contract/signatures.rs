//! What partners have signed is accepted once.

use std::sync::Arc;
use std::time::Duration;

use vestibule_port_storage::{SignatureDigest, Storage, Sweep};

use super::{NOW, after};

const fn signature(number: u8) -> SignatureDigest {
    SignatureDigest([number; 32])
}

fn at(now: u64, batch: u32) -> Sweep {
    Sweep { now: after(now), messages_before: NOW, facts_before: NOW, batch }
}

pub async fn a_signature_is_accepted_once<S: Storage>(storage: Arc<S>) {
    assert!(storage.accept_signature(&signature(1), after(600)).await.unwrap());
    assert!(!storage.accept_signature(&signature(1), after(600)).await.unwrap());
    assert!(!storage.accept_signature(&signature(1), after(9000)).await.unwrap());
    assert!(storage.accept_signature(&signature(2), after(600)).await.unwrap());
}

pub async fn of_32_callers_with_one_signature_one_is_told<S: Storage + 'static>(storage: Arc<S>) {
    let callers: Vec<_> = (0..32)
        .map(|_| {
            let storage = Arc::clone(&storage);
            tokio::spawn(async move { storage.accept_signature(&signature(1), after(600)).await })
        })
        .collect();
    let mut accepted = 0;
    for caller in callers {
        accepted += u32::from(caller.await.unwrap().unwrap());
    }
    assert_eq!(accepted, 1);
}

pub async fn a_signature_is_forgotten_when_its_time_is_over<S: Storage>(storage: Arc<S>) {
    for (number, seconds) in [(1, 600), (2, 601)] {
        assert!(storage.accept_signature(&signature(number), after(seconds)).await.unwrap());
    }
    let nearly = Sweep { now: after(600) - Duration::from_millis(1), ..at(600, 100) };
    assert_eq!(storage.sweep(nearly).await.unwrap(), 0);
    assert_eq!(storage.sweep(at(600, 100)).await.unwrap(), 1);
    assert!(storage.accept_signature(&signature(1), after(1200)).await.unwrap());
    assert!(!storage.accept_signature(&signature(2), after(1200)).await.unwrap());
}

pub async fn signatures_are_forgotten_in_batches<S: Storage>(storage: Arc<S>) {
    for number in 0..25 {
        assert!(storage.accept_signature(&signature(number), after(600)).await.unwrap());
    }
    let mut swept = 0;
    loop {
        match storage.sweep(at(600, 10)).await.unwrap() {
            0 => break,
            rows => swept += rows,
        }
    }
    assert_eq!(swept, 25);
}
