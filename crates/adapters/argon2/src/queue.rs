use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use vestibule_metrics::{GaugeHandle, HASHING_QUEUE_WAITING};

/// What waits for a thread, first come, first served, never more than the limit.
///
/// A mutex instead of a channel: the limit is exact, and what nobody waits for any more can be taken out of the middle.
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    limit: usize,
    measured: GaugeHandle,
}

struct State<T> {
    waiting: VecDeque<T>,
    closed: bool,
}

/// Why something was not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The limit is reached.
    Full,
    /// The queue is closed for good.
    Closed,
}

impl<T> Queue<T> {
    /// An open queue in which `limit` items may wait.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            state: Mutex::new(State { waiting: VecDeque::new(), closed: false }),
            changed: Condvar::new(),
            limit,
            measured: HASHING_QUEUE_WAITING.of([]),
        }
    }

    /// How many may wait.
    pub(crate) const fn limit(&self) -> usize {
        self.limit
    }

    /// Takes an item in, never blocking. A full queue first throws out what is stale, so that callers who left
    /// do not keep others out.
    pub(crate) fn push(&self, item: T, is_stale: impl Fn(&T) -> bool) -> Result<(), Refusal> {
        let mut state = self.lock();
        if state.closed {
            return Err(Refusal::Closed);
        }
        if state.waiting.len() >= self.limit {
            state.waiting.retain(|waiting| !is_stale(waiting));
        }
        if state.waiting.len() >= self.limit {
            return Err(Refusal::Full);
        }
        state.waiting.push_back(item);
        self.measure(&state);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// The next item, waiting for one; `None` once the queue is closed.
    pub(crate) fn pop(&self) -> Option<T> {
        let mut state = self
            .changed
            .wait_while(self.lock(), |state| state.waiting.is_empty() && !state.closed)
            .unwrap_or_else(PoisonError::into_inner);
        let next = state.waiting.pop_front();
        self.measure(&state);
        next
    }

    /// Closes the queue and drops what waits.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.waiting.clear();
        self.measure(&state);
        drop(state);
        self.changed.notify_all();
    }

    /// Under the lock, so that the last one to tell is right.
    fn measure(&self, state: &State<T>) {
        #[expect(clippy::cast_precision_loss, reason = "exact up to more than there is memory for")]
        self.measured.set(state.waiting.len() as f64);
    }

    /// A poisoned lock is as good as any: every change above is whole before anything can panic.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_exact_and_the_order_kept() {
        let queue = Queue::new(2);
        assert_eq!(queue.push(1, |_| false), Ok(()));
        assert_eq!(queue.push(2, |_| false), Ok(()));
        assert_eq!(queue.push(3, |_| false), Err(Refusal::Full));
        assert_eq!(queue.pop(), Some(1));
        assert_eq!(queue.push(4, |_| false), Ok(()));
        assert_eq!((queue.pop(), queue.pop()), (Some(2), Some(4)));
    }

    #[test]
    fn stale_items_make_room_when_it_is_needed() {
        let queue = Queue::new(3);
        for item in 1..=3 {
            queue.push(item, |_| false).unwrap();
        }
        assert_eq!(queue.push(5, |item| item % 2 == 0), Ok(()));
        assert_eq!((queue.pop(), queue.pop(), queue.pop()), (Some(1), Some(3), Some(5)));
    }

    #[test]
    fn closing_drops_what_waits_and_wakes_who_waits() {
        let queue = Queue::new(1);
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| queue.pop());
            queue.close();
            assert_eq!(waiter.join().unwrap(), None::<u8>);
        });
        assert_eq!(queue.push(1, |_| false), Err(Refusal::Closed));

        let queue = Queue::new(1);
        queue.push(1, |_| false).unwrap();
        queue.close();
        assert_eq!(queue.pop(), None);
    }
}
