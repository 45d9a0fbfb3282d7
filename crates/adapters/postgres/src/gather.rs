//! Work for several callers at once.
//!
//! What one statement or one transaction does for many costs little more than what it does for one. So what callers want while the work
//! before is under way is gathered, and done together as soon as that is over: a caller who is alone waits for nobody, and the more there
//! are, the less each of them costs. Each thread gathers for itself, so that nobody wakes another; where there are more threads than lines,
//! some share one.

use std::cell::Cell;
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Work that takes longer holds up nobody: the next begins beside it.
const HEADWAY: Duration = Duration::from_millis(100);

/// The number of this thread, in the order in which threads have asked.
pub(crate) fn this_thread() -> usize {
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

/// What a caller wants, and where its answer goes. The caller may have gone.
pub(crate) struct Wanted<W, A> {
    pub(crate) what: W,
    pub(crate) reply: oneshot::Sender<A>,
}

type Work<W, A> = Arc<dyn Fn(usize, Vec<Wanted<W, A>>) -> BoxFuture<'static, ()> + Send + Sync>;

/// Callers that are answered together.
pub(crate) struct Gather<W, A> {
    lines: Box<[SharedLine<W, A>]>,
    most: usize,
    work: Work<W, A>,
}

type SharedLine<W, A> = Arc<Mutex<Line<W, A>>>;

impl<W: Send + 'static, A: Send + 'static> Gather<W, A> {
    /// Gathers on up to `lines` threads apart, and does up to `most` at once by `work`, which is told the number of the thread that they asked on:
    /// it may itself run elsewhere.
    pub(crate) fn new<F>(
        lines: usize,
        most: usize,
        work: impl Fn(usize, Vec<Wanted<W, A>>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let lines = (0..lines.max(1)).map(|_| Arc::default()).collect();
        Self { lines, most, work: Arc::new(move |thread, wanted| work(thread, wanted).boxed()) }
    }

    /// The answer; `None` if the thread has ended that would have given it. What was begun is done though the caller goes away.
    pub(crate) async fn ask(&self, what: W) -> Option<A> {
        let (reply, answer) = oneshot::channel();
        let thread = this_thread();
        let line = self.lines.get(thread.checked_rem(self.lines.len())?)?;
        if lock(line).join(Wanted { what, reply }) {
            let serving = Serving { line: Arc::clone(line), is_over: false };
            tokio::spawn(serve(serving, thread, self.most, Arc::clone(&self.work)));
        }
        answer.await.ok()
    }
}

/// Those who wait on a thread, and whether they are served.
struct Line<W, A> {
    waiting: Vec<Wanted<W, A>>,
    is_served: bool,
}

impl<W, A> Line<W, A> {
    /// Whether somebody must begin to serve.
    fn join(&mut self, wanted: Wanted<W, A>) -> bool {
        self.waiting.push(wanted);
        !mem::replace(&mut self.is_served, true)
    }

    /// Who comes next; those who have gone do not. Nobody is served after nobody.
    fn next(&mut self, most: usize) -> Vec<Wanted<W, A>> {
        self.waiting.retain(|wanted| !wanted.reply.is_closed());
        let next: Vec<_> = self.waiting.drain(..most.min(self.waiting.len())).collect();
        self.is_served = !next.is_empty();
        next
    }
}

impl<W, A> Default for Line<W, A> {
    fn default() -> Self {
        Self { waiting: Vec::new(), is_served: false }
    }
}

fn lock<W, A>(line: &Mutex<Line<W, A>>) -> MutexGuard<'_, Line<W, A>> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves a line. If the thread ends before that is over, those who wait are told, and the next caller begins anew.
struct Serving<W, A> {
    line: SharedLine<W, A>,
    is_over: bool,
}

impl<W, A> Serving<W, A> {
    fn next(&mut self, most: usize) -> Vec<Wanted<W, A>> {
        let next = lock(&self.line).next(most);
        self.is_over = next.is_empty();
        next
    }
}

impl<W, A> Drop for Serving<W, A> {
    fn drop(&mut self) {
        if !self.is_over {
            let given_up = mem::take(&mut *lock(&self.line));
            drop(given_up);
        }
    }
}

async fn serve<W, A>(mut serving: Serving<W, A>, thread: usize, most: usize, work: Work<W, A>) {
    loop {
        let next = serving.next(most);
        if next.is_empty() {
            return;
        }
        let mut working = work(thread, next);
        if timeout(HEADWAY, &mut working).await.is_err() {
            tokio::spawn(working);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use futures_util::future::join_all;
    use tokio::runtime::Builder;
    use tokio::sync::Semaphore;

    use super::*;

    type Asked = Wanted<u32, (u32, usize)>;

    /// Answers each with what it wanted and with how many it was answered together.
    fn answer(wanted: Vec<Asked>) {
        let together = wanted.len();
        for Wanted { what, reply } in wanted {
            let _ = reply.send((what, together));
        }
    }

    /// Work that begins when the gate lets it: the first, and then whatever has gathered.
    fn behind(gate: &Arc<Semaphore>, most: usize) -> Gather<u32, (u32, usize)> {
        let gate = Arc::clone(gate);
        Gather::new(1, most, move |_, wanted| {
            let gate = Arc::clone(&gate);
            async move {
                gate.acquire().await.unwrap().forget();
                answer(wanted);
            }
        })
    }

    fn open(permits: usize) -> Arc<Semaphore> {
        Arc::new(Semaphore::new(permits))
    }

    #[tokio::test]
    async fn those_who_come_at_once_are_answered_together_up_to_the_most() {
        let gather = behind(&open(8), 4);
        assert_eq!(gather.ask(9).await, Some((9, 1)));
        let answers = join_all((0..6).map(|what| gather.ask(what))).await;
        assert_eq!(answers, [(0, 4), (1, 4), (2, 4), (3, 4), (4, 2), (5, 2)].map(Some));
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_come_meanwhile_wait_for_the_work_before_and_those_who_have_gone_are_left_out() {
        let gate = open(0);
        let gather = Arc::new(behind(&gate, 64));
        let ask = |what| {
            let gather = Arc::clone(&gather);
            tokio::spawn(async move { gather.ask(what).await })
        };
        let first = ask(0);
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        let (gone, later): (_, Vec<_>) = (ask(1), (2..5).map(ask).collect());
        tokio::task::yield_now().await;
        gone.abort();
        assert!(gone.await.is_err());
        gate.add_permits(2);
        assert_eq!(first.await.unwrap(), Some((0, 1)));
        for (what, answer) in (2..5).zip(later) {
            assert_eq!(answer.await.unwrap(), Some((what, 3)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_takes_long_holds_nobody_up() {
        let slow = Gather::new(1, 64, async |_, wanted: Vec<Asked>| {
            if wanted.iter().any(|wanted| wanted.what == 0) {
                tokio::time::sleep(Duration::from_secs(4)).await;
            }
            answer(wanted);
        });
        let begun = tokio::time::Instant::now();
        let (of_slow, of_next) = tokio::join!(slow.ask(0), async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            (slow.ask(1).await, begun.elapsed())
        });
        assert_eq!((of_slow, of_next.0), (Some((0, 1)), Some((1, 1))));
        assert!(of_next.1 < Duration::from_millis(200), "it took {:?}", of_next.1);
    }

    #[test]
    fn a_thread_that_ends_leaves_a_line_that_works() {
        let gate = open(0);
        let gather = Arc::new(behind(&gate, 64));
        let waiting = thread::spawn({
            let gather = Arc::clone(&gather);
            move || {
                let runtime = Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async { timeout(Duration::from_millis(1), gather.ask(0)).await.is_err() })
            }
        });
        assert!(waiting.join().unwrap());
        gate.add_permits(1);
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        assert_eq!(runtime.block_on(gather.ask(1)), Some((1, 1)));
    }
}
