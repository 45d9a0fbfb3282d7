use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use vestibule_metrics::{
    CounterHandle, GaugeHandle, HASHING_DURATION, HASHING_REFUSED, HASHING_THREADS, HASHING_THREADS_BUSY,
    HistogramHandle,
};
use vestibule_port_security::HashError;

use crate::memory::Memory;
use crate::queue::{Queue, Refusal};

/// The shortest advice to a caller that is turned away: `Retry-After` counts whole seconds.
const MIN_RETRY: Duration = Duration::from_secs(1);

/// How far the threads step back behind everything else, in the system's own measure (`nice`): where there is not enough
/// for both, they get a tenth of what a request gets that wants to be answered now.
pub(crate) const NICENESS: i32 = 10;

/// Threads with memory of their own, and the queue before them.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    queue: Queue<Box<dyn Job>>,
    pace: Pace,
    measured: Measured,
}

/// What is told of the pool.
struct Measured {
    busy: GaugeHandle,
    refused: CounterHandle,
    duration: HistogramHandle,
}

impl Pool {
    /// Starts `threads` threads, each of which keeps `blocks` KiB, before a queue for `queue` jobs.
    pub(crate) fn start(threads: usize, queue: usize, blocks: usize) -> io::Result<Self> {
        let measured = Measured {
            busy: HASHING_THREADS_BUSY.of([]),
            refused: HASHING_REFUSED.of([]),
            duration: HASHING_DURATION.of([]),
        };
        let shared = Arc::new(Shared { queue: Queue::new(queue), pace: Pace::default(), measured });
        // Filled in place, so that the threads that did start are stopped when a later one does not.
        let mut pool = Self { shared, threads: Vec::with_capacity(threads) };
        for number in 0..threads {
            let shared = Arc::clone(&pool.shared);
            let body = move || work(&shared, Memory::keeping(blocks));
            pool.threads.push(thread::Builder::new().name(format!("argon2-{number}")).spawn(body)?);
        }
        HASHING_THREADS.of([]).set(u32::try_from(threads).unwrap_or(u32::MAX));
        Ok(pool)
    }

    /// Computes something on one of the threads. If the returned future is dropped before a thread has begun, it
    /// is not computed.
    pub(crate) async fn run<T, F>(&self, compute: F) -> Result<T, HashError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Memory) -> Result<T, HashError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job = Box::new(Task { compute, reply });
        self.shared.queue.push(job, |waiting| waiting.is_abandoned()).map_err(|refusal| match refusal {
            Refusal::Full => {
                self.shared.measured.refused.increment(1);
                HashError::Busy { retry_after: self.retry_after() }
            }
            Refusal::Closed => stopped(),
        })?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// How long the threads need for a full queue, at the pace of late.
    fn retry_after(&self) -> Duration {
        let waiting = u32::try_from(self.shared.queue.limit()).unwrap_or(u32::MAX);
        let threads = u32::try_from(self.threads.len()).unwrap_or(u32::MAX).max(1);
        (self.shared.pace.average().saturating_mul(waiting) / threads).max(MIN_RETRY)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.queue.close();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a hashing thread had panicked");
            }
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("threads", &self.threads.len())
            .field("queue", &self.shared.queue.limit())
            .finish_non_exhaustive()
    }
}

/// A piece of work without its types, as the queue holds it.
trait Job: Send {
    /// Whether nobody waits for the answer any more.
    fn is_abandoned(&self) -> bool;

    /// Does the work and answers.
    fn run(self: Box<Self>, memory: &mut Memory);
}

struct Task<T, F> {
    compute: F,
    reply: oneshot::Sender<Result<T, HashError>>,
}

impl<T, F> Job for Task<T, F>
where
    T: Send,
    F: FnOnce(&mut Memory) -> Result<T, HashError> + Send,
{
    fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    fn run(self: Box<Self>, memory: &mut Memory) {
        let Self { compute, reply } = *self;
        // A caller that has gone in the meantime needs no answer.
        let _ = reply.send(compute(memory));
    }
}

/// The mean time of a job, the newest counting an eighth. An update lost to a race does no harm.
#[derive(Debug, Default)]
struct Pace(AtomicU64);

impl Pace {
    fn average(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }

    fn record(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let average = match self.0.load(Ordering::Relaxed) {
            0 => took,
            before => before - before / 8 + took / 8,
        };
        self.0.store(average, Ordering::Relaxed);
    }
}

/// The life of one thread.
fn work(shared: &Shared, mut memory: Memory) {
    // On Linux this is a matter of the thread, not of the process. Without it the work is done all the same.
    if let Err(error) = rustix::process::nice(NICENESS) {
        tracing::debug!(%error, "hashing is not less urgent than the rest");
    }
    while let Some(job) = shared.queue.pop() {
        if job.is_abandoned() {
            continue;
        }
        let Measured { busy, duration, .. } = &shared.measured;
        busy.increment(1);
        let began = Instant::now();
        // A defect in one job must not take the thread from all later ones. The caller sees its reply dropped; the
        // memory is overwritten by the next job, in whatever state it was left.
        if catch_unwind(AssertUnwindSafe(|| job.run(&mut memory))).is_err() {
            tracing::error!("a hashing job panicked");
        }
        let took = began.elapsed();
        shared.pace.record(took);
        duration.record(took);
        busy.decrement(1);
    }
}

fn stopped() -> HashError {
    HashError::Unavailable("the hashing threads gave the job up".to_owned())
}

#[cfg(test)]
mod tests {
    use std::pin::{Pin, pin};
    use std::sync::atomic::AtomicBool;
    use std::sync::mpsc;
    use std::task::{Context, Poll, Waker};

    use super::*;

    /// A pool of one thread that is busy until the sender is used or dropped.
    async fn busy_pool(queue: usize) -> (Arc<Pool>, mpsc::Sender<()>, tokio::task::JoinHandle<()>) {
        let pool = Arc::new(Pool::start(1, queue, 8).unwrap());
        let (release, released) = mpsc::channel::<()>();
        let (began, has_begun) = oneshot::channel();
        let blocker = tokio::spawn({
            let pool = Arc::clone(&pool);
            async move {
                let block = move |_: &mut Memory| {
                    began.send(()).unwrap();
                    let _ = released.recv();
                    Ok(())
                };
                pool.run(block).await.unwrap();
            }
        });
        has_begun.await.unwrap();
        (pool, release, blocker)
    }

    fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test]
    async fn the_queue_takes_its_limit_exactly_and_refuses_the_next_at_once() {
        let (pool, release, blocker) = busy_pool(3).await;
        let mut waiting: Vec<_> = (0..3).map(|n| Box::pin(pool.run(move |_| Ok(n)))).collect();
        for future in &mut waiting {
            assert!(poll_once(future.as_mut()).is_pending());
        }
        let Poll::Ready(Err(HashError::Busy { retry_after })) = poll_once(pin!(pool.run(|_| Ok(9)))) else {
            panic!("the fourth was taken in");
        };
        assert!(retry_after >= MIN_RETRY);
        release.send(()).unwrap();
        blocker.await.unwrap();
        for (n, future) in waiting.into_iter().enumerate() {
            assert_eq!(future.await, Ok(n));
        }
        assert_eq!(pool.run(|_| Ok(9)).await, Ok(9));
    }

    #[tokio::test]
    async fn a_job_whose_caller_has_gone_is_not_computed() {
        let (pool, release, blocker) = busy_pool(2).await;
        let computed = Arc::new(AtomicBool::new(false));
        let job = {
            let computed = Arc::clone(&computed);
            move |_: &mut Memory| {
                computed.store(true, Ordering::SeqCst);
                Ok(())
            }
        };
        {
            let mut gone = Box::pin(pool.run(job));
            assert!(poll_once(gone.as_mut()).is_pending());
        }
        release.send(()).unwrap();
        blocker.await.unwrap();
        // The only thread takes jobs in order: when this one is answered, the abandoned one was passed over.
        pool.run(|_| Ok(())).await.unwrap();
        assert!(!computed.load(Ordering::SeqCst));
    }

    #[tokio::test]
    async fn callers_that_have_gone_keep_nobody_out() {
        let (pool, release, blocker) = busy_pool(1).await;
        {
            let mut gone = Box::pin(pool.run(|_| Ok(0)));
            assert!(poll_once(gone.as_mut()).is_pending());
        }
        let mut next = Box::pin(pool.run(|_| Ok(1)));
        assert!(poll_once(next.as_mut()).is_pending());
        release.send(()).unwrap();
        blocker.await.unwrap();
        assert_eq!(next.await, Ok(1));
    }

    #[tokio::test]
    async fn a_thread_survives_errors_and_panics() {
        let pool = Pool::start(1, 4, 8).unwrap();
        let broken = || HashError::Unavailable("broken".to_owned());
        assert_eq!(pool.run::<(), _>(move |_| Err(broken())).await, Err(broken()));
        assert_eq!(pool.run::<(), _>(|_| panic!("a defect")).await, Err(stopped()));
        assert_eq!(pool.run(|_| Ok(7)).await, Ok(7));
    }

    #[tokio::test]
    async fn closing_answers_those_who_wait_and_joins_the_threads() {
        let (pool, release, blocker) = busy_pool(2).await;
        let waiting = tokio::spawn({
            let pool = Arc::clone(&pool);
            async move { pool.run(|_| Ok(1)).await }
        });
        tokio::task::yield_now().await;
        pool.shared.queue.close();
        assert_eq!(waiting.await.unwrap(), Err(stopped()));
        release.send(()).unwrap();
        blocker.await.unwrap();
        let pool = Arc::into_inner(pool).unwrap();
        let shared = Arc::clone(&pool.shared);
        drop(pool);
        assert_eq!(Arc::strong_count(&shared), 1, "a thread outlived its pool");
    }

    #[test]
    fn the_advice_grows_with_queue_and_pace_and_shrinks_with_threads() {
        let pool = Pool::start(2, 100, 8).unwrap();
        assert_eq!(pool.retry_after(), MIN_RETRY);
        pool.shared.pace.record(Duration::from_millis(40));
        assert_eq!(pool.retry_after(), Duration::from_secs(2));
        for _ in 0..200 {
            pool.shared.pace.record(Duration::from_millis(80));
        }
        let advice = pool.retry_after();
        assert!(advice > Duration::from_millis(3_900) && advice <= Duration::from_secs(4), "{advice:?}");
    }
}
