//! Connections that short reads share.
//!
//! A read that is one statement needs no connection to itself: tokio-postgres sends what several callers ask one after another, without waiting
//! for the answer to the first, and so does the server answer. Each thread has a connection of its own, which is driven where its callers
//! run: no read wakes another thread, and what is asked at once goes out in one packet.
//!
//! Not for reads that may take long: all behind one would wait. They have a pool.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use diesel_async::AsyncPgConnection;
use tokio::sync::Mutex;
use tokio::time::timeout;
use vestibule_port_storage::Unavailable;

use crate::address::Address;
use crate::connection::{self, PATIENCE};

/// The number of this thread, in the order in which threads have read.
fn this_thread() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: Cell<Option<usize>> = const { Cell::new(None) };
    }
    NUMBER.get().unwrap_or_else(|| {
        let number = THREADS.fetch_add(1, Ordering::Relaxed);
        NUMBER.set(Some(number));
        number
    })
}

/// A connection that is driven until it ends.
pub(crate) struct Driven {
    pub(crate) connection: AsyncPgConnection,
    pub(crate) has_ended: Arc<AtomicBool>,
}

/// As many connections as threads that read, up to a limit; each made when it is first needed, and again when it has ended.
pub(crate) struct Shared {
    address: Address,
    of_threads: Box<[Mutex<Option<Arc<Driven>>>]>,
}

impl Shared {
    /// Up to `size` connections.
    pub(crate) fn new(address: &Address, size: u32) -> Self {
        let of_threads = (0..size.max(1)).map(|_| Mutex::default()).collect();
        Self { address: address.clone(), of_threads }
    }

    /// Reads on this thread's connection, and answers in time. A connection that did not answer is used no more.
    pub(crate) async fn read<T, E: From<Unavailable>>(
        &self,
        read: impl AsyncFnOnce(&AsyncPgConnection) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut used = None;
        let answer = timeout(PATIENCE, async {
            let driven = self.connection().await?;
            used = Some(Arc::clone(&driven));
            read(&driven.connection).await
        });
        if let Ok(answer) = answer.await {
            return answer;
        }
        if let Some(driven) = used {
            driven.has_ended.store(true, Ordering::Relaxed);
        }
        Err(Unavailable("the server did not answer in time".to_owned()).into())
    }

    async fn connection(&self) -> Result<Arc<Driven>, Unavailable> {
        let number = this_thread().checked_rem(self.of_threads.len()).unwrap_or(0);
        let Some(of_thread) = self.of_threads.get(number) else {
            return Err(Unavailable("there is no connection".to_owned()));
        };
        let mut of_thread = of_thread.lock().await;
        if let Some(driven) = of_thread.as_ref().filter(|driven| !driven.has_ended.load(Ordering::Relaxed)) {
            return Ok(Arc::clone(driven));
        }
        *of_thread = None;
        let made = connection::connect_shared(&self.address).await;
        let made = Arc::new(made.map_err(|error| Unavailable(error.to_string()))?);
        *of_thread = Some(Arc::clone(&made));
        Ok(made)
    }
}
