//! The first answers to requests that may be repeated.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;
use vestibule_domain::limits::{Charge, Limit, Scope, Step, Unit};
use vestibule_domain::quota::Quota;
use vestibule_port_storage::{
    Answers, BeginError, Beginning, Execution, PayloadDigest, RequestDigest, Storage, Sweep,
};

use super::{NOW, after, id, origin};

const LEASE: u64 = 30;
const LIFE: u64 = 24 * 3600;

/// Execution `number` of request 1, so many seconds later.
fn execution(number: u32, seconds: u64) -> Execution {
    Execution {
        id: id(number),
        request: RequestDigest([1; 32]),
        payload: PayloadDigest([1; 32]),
        now: after(seconds),
        leased_until: after(seconds + LEASE),
        forget_at: after(seconds + LIFE),
    }
}

fn answered(by: Uuid, sealed: &[u8]) -> Beginning {
    Beginning::Answered { by, sealed: sealed.to_vec() }
}

pub async fn of_32_executions_at_once_one_begins<S: Answers + 'static>(storage: Arc<S>) {
    let executions: Vec<_> = (0..32)
        .map(|number| {
            let storage = Arc::clone(&storage);
            tokio::spawn(async move { storage.begin(&execution(number, 0), &[]).await.unwrap() })
        })
        .collect();
    let mut begun = 0;
    for execution in executions {
        match execution.await.unwrap() {
            Beginning::Begun => begun += 1,
            other => assert_eq!(other, Beginning::Running),
        }
    }
    assert_eq!(begun, 1);
}

pub async fn an_answer_is_repeated_as_it_was_kept<S: Answers>(storage: Arc<S>) {
    let first = execution(1, 0);
    assert_eq!(storage.begin(&first, &[]).await.unwrap(), Beginning::Begun);
    assert_eq!(storage.begin(&execution(2, 1), &[]).await.unwrap(), Beginning::Running);
    let sealed: Vec<u8> = (0..=255).cycle().take(20_000).collect();
    storage.keep_answer(&first, sealed.clone()).await.unwrap();
    for (number, seconds) in [(3, 2), (4, LEASE), (5, LIFE - 1)] {
        let again = storage.begin(&execution(number, seconds), &[]).await.unwrap();
        assert_eq!(again, answered(first.id, &sealed), "after {seconds} seconds");
    }
    let other = Execution { request: RequestDigest([2; 32]), ..execution(6, 2) };
    assert_eq!(storage.begin(&other, &[]).await.unwrap(), Beginning::Begun, "another request");
}

pub async fn a_request_with_another_payload_is_refused<S: Answers>(storage: Arc<S>) {
    let first = execution(1, 0);
    let other = |number, seconds| Execution { payload: PayloadDigest([2; 32]), ..execution(number, seconds) };
    storage.begin(&first, &[]).await.unwrap();
    assert_eq!(storage.begin(&other(2, 1), &[]).await.unwrap(), Beginning::OtherPayload, "while it runs");
    assert_eq!(
        storage.begin(&other(3, LEASE), &[]).await.unwrap(),
        Beginning::OtherPayload,
        "when it has died"
    );
    storage.keep_answer(&first, vec![7]).await.unwrap();
    assert_eq!(
        storage.begin(&other(4, 2), &[]).await.unwrap(),
        Beginning::OtherPayload,
        "when it is answered"
    );
    assert_eq!(storage.begin(&execution(5, 2), &[]).await.unwrap(), answered(first.id, &[7]));
}

pub async fn an_execution_that_died_is_begun_again_once<S: Answers + 'static>(storage: Arc<S>) {
    storage.begin(&execution(100, 0), &[]).await.unwrap();
    assert_eq!(storage.begin(&execution(101, LEASE - 1), &[]).await.unwrap(), Beginning::Running);
    let executions: Vec<_> = (0..32)
        .map(|number| {
            let storage = Arc::clone(&storage);
            tokio::spawn(async move { storage.begin(&execution(number, LEASE), &[]).await.unwrap() })
        })
        .collect();
    let mut begun = 0;
    for execution in executions {
        begun += usize::from(execution.await.unwrap() == Beginning::Begun);
    }
    assert_eq!(begun, 1);
}

pub async fn only_the_last_execution_answers_or_forgets<S: Answers>(storage: Arc<S>) {
    let (dead, living) = (execution(1, 0), execution(2, LEASE));
    storage.begin(&dead, &[]).await.unwrap();
    assert_eq!(storage.begin(&living, &[]).await.unwrap(), Beginning::Begun);
    storage.keep_answer(&dead, vec![1]).await.unwrap();
    storage.forget_request(&dead.request, dead.id).await.unwrap();
    assert_eq!(storage.begin(&execution(3, LEASE), &[]).await.unwrap(), Beginning::Running);
    storage.keep_answer(&living, vec![2]).await.unwrap();
    storage.keep_answer(&living, vec![3]).await.unwrap();
    assert_eq!(
        storage.begin(&execution(4, LEASE), &[]).await.unwrap(),
        answered(living.id, &[2]),
        "the first"
    );
}

pub async fn a_forgotten_request_is_new<S: Answers>(storage: Arc<S>) {
    let first = execution(1, 0);
    storage.begin(&first, &[]).await.unwrap();
    storage.forget_request(&first.request, first.id).await.unwrap();
    let other = Execution { payload: PayloadDigest([2; 32]), ..execution(2, 0) };
    assert_eq!(storage.begin(&other, &[]).await.unwrap(), Beginning::Begun);
    storage.keep_answer(&other, vec![2]).await.unwrap();
    storage.forget_request(&other.request, other.id).await.unwrap();
    assert_eq!(storage.begin(&execution(3, 0), &[]).await.unwrap(), Beginning::Begun, "with its answer");
}

/// So many requests an hour from an address, and in all, of which nobody else takes any.
fn charges(of_address: u32, of_everyone: u32, seconds: u64) -> [Charge; 2] {
    let scopes = [(Scope::Address(origin().address), of_address), (Scope::Everyone, of_everyone)];
    scopes.map(|(scope, burst)| Charge {
        limit: Limit { step: Step::KeyedRequest, scope },
        quota: Quota { burst, period: Duration::from_hours(1) },
        unit: Unit::Taken,
        now: after(seconds),
    })
}

pub async fn what_begins_is_charged_and_what_is_repeated_is_not<S: Answers + Storage>(storage: Arc<S>) {
    let at = |number: u8, seconds| Execution {
        request: RequestDigest([number; 32]),
        ..execution(number.into(), seconds)
    };
    let begin = async |number, seconds| storage.begin(&at(number, seconds), &charges(2, 1000, seconds)).await;
    assert_eq!(begin(1, 0).await, Ok(Beginning::Begun));
    storage.keep_answer(&at(1, 0), vec![1]).await.unwrap();
    let other = Execution { payload: PayloadDigest([9; 32]), ..at(1, 0) };
    for _ in 0..4 {
        assert_eq!(begin(1, 0).await, Ok(answered(id(1), &[1])));
        assert_eq!(storage.begin(&other, &charges(2, 1000, 0)).await, Ok(Beginning::OtherPayload));
    }
    assert_eq!(begin(2, 0).await, Ok(Beginning::Begun));
    assert_eq!(begin(2, 0).await, Ok(Beginning::Running));
    let half_an_hour = Duration::from_mins(30);
    assert_eq!(begin(3, 0).await, Err(BeginError::LimitReached { retry_after: half_an_hour }));
    assert_eq!(begin(1, 0).await, Ok(answered(id(1), &[1])), "from an empty budget too");
    assert_eq!(begin(2, 0).await, Ok(Beginning::Running));
    let early = begin(3, 1799).await;
    assert_eq!(early, Err(BeginError::LimitReached { retry_after: Duration::from_secs(1) }));
    assert_eq!(begin(3, 1800).await, Ok(Beginning::Begun), "nothing was left of it");
    let none = storage.begin(&at(4, 9999), &charges(0, 1000, 9999)).await;
    assert!(matches!(none, Err(BeginError::LimitReached { .. })));
}

pub async fn a_refused_beginning_charges_nobody<S: Answers + Storage>(storage: Arc<S>) {
    let at = |number: u8| Execution { request: RequestDigest([number; 32]), ..execution(number.into(), 0) };
    // The second of the two is empty.
    let [mut first, everyones] = charges(1, 1, 0);
    first.quota.burst = 2;
    storage.begin(&at(1), &[everyones]).await.unwrap();
    for _ in 0..3 {
        let refused = storage.begin(&at(2), &[first, everyones]).await;
        assert!(matches!(refused, Err(BeginError::LimitReached { .. })), "{refused:?}");
    }
    assert!(!storage.budgets(&[first.limit]).await.unwrap().0.contains_key(&first.limit));
    for number in 2..4 {
        assert_eq!(storage.begin(&at(number), &[first]).await, Ok(Beginning::Begun));
    }
    assert!(storage.begin(&at(4), &[first]).await.is_err());
}

pub async fn of_32_beginnings_at_once_as_many_begin_as_there_are_units<S: Answers + 'static>(
    storage: Arc<S>,
) {
    let executions: Vec<_> = (0..32_u8)
        .map(|number| {
            let storage = Arc::clone(&storage);
            let execution = Execution { request: RequestDigest([number; 32]), ..execution(number.into(), 0) };
            tokio::spawn(async move { storage.begin(&execution, &charges(21, 21, 0)).await })
        })
        .collect();
    let mut begun = 0;
    for execution in executions {
        match execution.await.unwrap() {
            Ok(beginning) => {
                assert_eq!(beginning, Beginning::Begun);
                begun += 1;
            }
            Err(error) => assert!(matches!(error, BeginError::LimitReached { .. }), "{error:?}"),
        }
    }
    assert_eq!(begun, 21);
}

pub async fn an_answer_past_its_life_is_forgotten<S: Storage + Answers>(storage: Arc<S>) {
    let at = |number: u8, seconds| Execution {
        request: RequestDigest([number; 32]),
        ..execution(number.into(), seconds)
    };
    for (number, seconds) in [(1, 0), (2, 0), (3, 1)] {
        storage.begin(&at(number, seconds), &[]).await.unwrap();
        storage.keep_answer(&at(number, seconds), vec![number]).await.unwrap();
    }
    let other = Execution { id: id(9), payload: PayloadDigest([9; 32]), ..at(1, LIFE) };
    assert_eq!(storage.begin(&other, &[]).await.unwrap(), Beginning::Begun, "though it was not swept");
    let sweep = |seconds| Sweep { now: after(seconds), messages_before: NOW, facts_before: NOW, batch: 100 };
    assert_eq!(storage.sweep(sweep(LIFE - 1)).await.unwrap(), 0);
    assert_eq!(storage.sweep(sweep(LIFE)).await.unwrap(), 1);
    assert_eq!(storage.begin(&at(3, 2), &[]).await.unwrap(), answered(id(3), &[3]));
    assert_eq!(storage.begin(&at(2, 2), &[]).await.unwrap(), Beginning::Begun);
    for number in 20..45 {
        storage.begin(&at(number, 0), &[]).await.unwrap();
    }
    let in_batches = Sweep { now: NOW + Duration::from_hours(999), batch: 10, ..sweep(0) };
    let mut swept = 0;
    while let rows @ 1.. = storage.sweep(in_batches).await.unwrap() {
        swept += rows;
    }
    assert_eq!(swept, 28);
}
