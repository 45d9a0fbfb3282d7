//! Connections that short reads share.
//!
//! A read that is one statement needs no connection to itself: tokio-postgres sends what several callers ask one after another, without waiting
//! for the answer to the first, and so does the server answer. Each thread has a connection of its own, which is made and driven where its
//! callers run: no read wakes another thread, and what is asked at once goes out in one packet.
//!
//! Callers come and go, and none of them may decide for the others: a connection is made by a task of its own, and one that owes an answer
//! for too long is left, whoever asked and whether or not he still waits.
//!
//! Not for reads that may take long: all behind one would wait. They have a pool.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use diesel_async::{AsyncPgConnection, SimpleAsyncConnection as _};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use vestibule_port_storage::Unavailable;

use crate::Failure;
use crate::address::Address;
use crate::connection::{Driver, PATIENCE, connect_shared, late, unreachable};
use crate::gather::this_thread;

/// A connection that owes answers and has given none for so long is used no more. Whose token is read waits no longer than this.
const SILENCE: Duration = Duration::from_secs(1);

/// A connection that is being made, for all who wait for it, and then what has become of that.
type Making = watch::Receiver<Option<Result<Arc<Connection>, Unavailable>>>;

/// As many connections as threads that read, up to a limit; each made when it is first needed, and again when it can be used no more.
pub(crate) struct Shared {
    address: Address,
    of_threads: Box<[Mutex<Option<Making>>]>,
}

impl Shared {
    /// Up to `size` connections.
    pub(crate) fn new(address: &Address, size: u32) -> Self {
        let of_threads = (0..size.max(1)).map(|_| Mutex::default()).collect();
        Self { address: address.clone(), of_threads }
    }

    /// How many threads have a connection of their own.
    pub(crate) fn size(&self) -> usize {
        self.of_threads.len()
    }

    /// Reads on this thread's connection, and answers in time.
    pub(crate) async fn read<T>(
        &self,
        read: impl AsyncFnOnce(&AsyncPgConnection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.read_for(this_thread(), read).await
    }

    /// As [`Self::read`], on the connection of the thread of this number.
    pub(crate) async fn read_for<T>(
        &self,
        thread: usize,
        read: impl AsyncFnOnce(&AsyncPgConnection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let reading = timeout(PATIENCE, async {
            let connection = self.connection(thread).await?;
            let question = Question::ask(&connection);
            let answer = read(&connection.session).await;
            question.settle();
            if answer.as_ref().is_err_and(Failure::is_of_demoted) {
                connection.is_left.store(true, Ordering::Relaxed);
            }
            answer
        });
        reading.await.unwrap_or_else(|_| Err(late().into()))
    }

    /// A thread's connection. Who waits for it may go away: it is made all the same.
    async fn connection(&self, thread: usize) -> Result<Arc<Connection>, Unavailable> {
        let number = thread.checked_rem(self.of_threads.len()).unwrap_or(0);
        let Some(of_thread) = self.of_threads.get(number) else {
            return Err(Unavailable("there is no connection".to_owned()));
        };
        let mut making = {
            let mut of_thread = of_thread.lock().unwrap_or_else(PoisonError::into_inner);
            let in_the_making = match of_thread.as_ref() {
                Some(making) => match &*making.borrow() {
                    Some(Ok(connection)) if connection.is_usable() => return Ok(Arc::clone(connection)),
                    // Its thread may have ended.
                    None if making.has_changed().is_ok() => Some(making.clone()),
                    _ => None,
                },
                None => None,
            };
            in_the_making.unwrap_or_else(|| of_thread.insert(make(self.address.clone())).clone())
        };
        let made = making.wait_for(Option::is_some).await.ok().and_then(|made| made.clone());
        made.unwrap_or_else(|| Err(Unavailable("the thread that connects has ended".to_owned())))
    }
}

/// Makes a connection on this thread.
fn make(address: Address) -> Making {
    let (made, making) = watch::channel(None);
    tokio::spawn(async move {
        let connection = connect_shared(&address).await;
        let connection = connection.map(|(session, driver)| Arc::new(Connection::new(session, driver)));
        made.send_replace(Some(connection.map_err(|error| unreachable(&error))));
    });
    making
}

/// A connection, and what it owes. Questions have numbers, and are answered in their order.
struct Connection {
    session: AsyncPgConnection,
    driver: Driver,
    /// Whether its server is no longer the one to ask.
    is_left: AtomicBool,
    /// How many questions were asked.
    asked: AtomicU64,
    /// The last one that was answered, and so all before it.
    answered: AtomicU64,
    /// When the last answer came, or the first question that was asked when nothing was owed, in milliseconds since `made_at`.
    heard_at: AtomicU64,
    made_at: Instant,
}

impl Connection {
    fn new(session: AsyncPgConnection, driver: Driver) -> Self {
        Self {
            session,
            driver,
            is_left: AtomicBool::new(false),
            asked: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            heard_at: AtomicU64::new(0),
            made_at: Instant::now(),
        }
    }

    fn is_usable(&self) -> bool {
        !self.driver.has_ended() && !self.is_left.load(Ordering::Relaxed) && !self.is_silent()
    }

    fn is_silent(&self) -> bool {
        let heard_at = || Duration::from_millis(self.heard_at.load(Ordering::Relaxed));
        self.owes() && self.age().saturating_sub(heard_at()) >= SILENCE
    }

    fn owes(&self) -> bool {
        self.answered.load(Ordering::Acquire) < self.asked.load(Ordering::Acquire)
    }

    fn hear(&self) {
        let now = u64::try_from(self.age().as_millis()).unwrap_or(u64::MAX);
        self.heard_at.store(now, Ordering::Relaxed);
    }

    fn age(&self) -> Duration {
        self.made_at.elapsed()
    }
}

/// A question that is out.
struct Question<'a> {
    connection: &'a Arc<Connection>,
    number: u64,
    is_answered: bool,
}

impl<'a> Question<'a> {
    fn ask(connection: &'a Arc<Connection>) -> Self {
        if !connection.owes() {
            connection.hear();
        }
        let number = connection.asked.fetch_add(1, Ordering::Release) + 1;
        Self { connection, number, is_answered: false }
    }

    /// It is answered.
    fn settle(mut self) {
        self.is_answered = true;
        self.connection.hear();
        self.connection.answered.fetch_max(self.number, Ordering::Release);
    }
}

impl Drop for Question<'_> {
    /// Who asked has gone, and his answer will be thrown away unseen. The answer to another question tells that it has come.
    fn drop(&mut self) {
        if self.is_answered || !self.connection.is_usable() {
            return;
        }
        let connection = Arc::clone(self.connection);
        if let Ok(here) = Handle::try_current() {
            here.spawn(timeout(PATIENCE, async move {
                let question = Question::ask(&connection);
                let _ = (&connection.session).batch_execute("SELECT 1").await;
                question.settle();
            }));
        }
    }
}
