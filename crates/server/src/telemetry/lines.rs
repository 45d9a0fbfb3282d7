//! Lines on their way out.
//!
//! A write for each line is a system call for each request, and where a pipe is behind it somebody is woken. So lines wait for others, for a
//! moment at most, and leave together. A warning or an error leaves at once, behind all that has waited. So does everything at the end of the process, and before a panic is told.
//! Only who kills the process outright takes lines along: a moment's, none of them a warning.
//!
//! What waits is bounded: who adds a line to a full buffer writes it out, and waits where nobody reads, as without a buffer.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// How long a line waits at most.
const PATIENCE: Duration = Duration::from_millis(50);

/// How many bytes wait at most, but for the last line.
const FULL: usize = 32 * 1024;

/// Takes lines, in their order.
#[derive(Clone)]
pub(crate) struct Lines(Arc<Shared>);

struct Shared {
    waiting: Mutex<Waiting>,
    has_some: Condvar,
}

struct Waiting {
    bytes: Vec<u8>,
    out: Box<dyn Write + Send>,
}

impl Lines {
    /// Writes lines to `out`, on a thread of its own where nobody else does it.
    ///
    /// # Errors
    /// When there is no such thread.
    pub(crate) fn to(out: impl Write + Send + 'static) -> io::Result<Self> {
        let waiting = Waiting { bytes: Vec::with_capacity(2 * FULL), out: Box::new(out) };
        let shared = Arc::new(Shared { waiting: Mutex::new(waiting), has_some: Condvar::new() });
        let writing = Arc::clone(&shared);
        thread::Builder::new().name("logs".to_owned()).spawn(move || writing.write_in_time())?;
        Ok(Self(shared))
    }

    /// Writes what waits.
    pub(crate) fn write(&self) {
        self.0.lock().write();
    }

    /// What waits is written before a panic is told.
    pub(crate) fn go_before_panics(&self) {
        let (lines, tell) = (self.clone(), std::panic::take_hook());
        std::panic::set_hook(Box::new(move |panic| {
            lines.write();
            tell(panic);
        }));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_in_time(&self) {
        let mut waiting = self.lock();
        loop {
            let some = self.has_some.wait_while(waiting, |waiting| waiting.bytes.is_empty());
            let some = some.unwrap_or_else(PoisonError::into_inner);
            let late = self.has_some.wait_timeout_while(some, PATIENCE, |waiting| !waiting.bytes.is_empty());
            (waiting, _) = late.unwrap_or_else(PoisonError::into_inner);
            waiting.write();
        }
    }
}

impl Waiting {
    fn write(&mut self) {
        // Where logs can't be written there is nobody to tell.
        let _ = self.out.write_all(&self.bytes).and_then(|()| self.out.flush());
        self.bytes.clear();
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { shared: &self.0, is_urgent: true }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Line<'a> {
        Line { shared: &self.0, is_urgent: *metadata.level() <= Level::WARN }
    }
}

/// One line, which is written at once and as a whole.
pub(crate) struct Line<'a> {
    shared: &'a Shared,
    is_urgent: bool,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut waiting = self.shared.lock();
        let is_first = waiting.bytes.is_empty();
        waiting.bytes.extend_from_slice(bytes);
        if self.is_urgent || waiting.bytes.len() >= FULL {
            waiting.write();
        } else if is_first {
            self.shared.has_some.notify_one();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// Tells of each write.
    struct Told(Sender<String>);

    impl Write for Told {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.send(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Lines, what is written of them, and what makes them of this thread's events.
    fn lines() -> (Lines, Receiver<String>, impl Drop) {
        let (tell, told) = channel();
        let lines = Lines::to(Told(tell)).unwrap();
        let layer = tracing_subscriber::fmt::layer().without_time().with_target(false);
        let layer = layer.with_ansi(false).with_writer(lines.clone());
        let logs = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
        (lines, told, logs)
    }

    #[test]
    fn lines_leave_by_themselves_in_their_order() {
        let (_lines, told, _logs) = lines();
        (1..=3).for_each(|number| tracing::info!("{number}"));
        let mut written = String::new();
        while written.lines().count() < 3 {
            written += &told.recv_timeout(Duration::from_secs(10)).unwrap();
        }
        assert_eq!(written, " INFO 1\n INFO 2\n INFO 3\n");
    }

    #[test]
    fn a_warning_leaves_at_once_behind_what_has_waited() {
        let (_lines, told, _logs) = lines();
        tracing::info!("first");
        tracing::warn!("second");
        assert_eq!(told.try_iter().collect::<String>(), " INFO first\n WARN second\n");
    }

    #[test]
    fn what_waits_is_bounded() {
        let (_lines, told, _logs) = lines();
        let long = "x".repeat(FULL);
        tracing::info!("{long}");
        assert_eq!(told.try_iter().map(|written| written.len()).sum::<usize>(), FULL + " INFO \n".len());
    }

    #[test]
    fn at_the_end_all_is_written() {
        let (lines, told, _logs) = lines();
        tracing::info!("last");
        lines.write();
        assert_eq!(told.try_iter().collect::<String>(), " INFO last\n");
    }
}
