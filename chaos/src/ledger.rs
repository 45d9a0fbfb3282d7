//! What the driver knows of every step of every person.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// A step that changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    SignUp,
    ConfirmPhone,
    AddEmail,
    ConfirmEmail,
    PatchProfile,
}

impl Step {
    pub(crate) const ALL: [Self; 5] =
        [Self::SignUp, Self::ConfirmPhone, Self::AddEmail, Self::ConfirmEmail, Self::PatchProfile];
}

/// What a try of a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The service says that it is done.
    Acknowledged,
    /// The service says that it is not done, and the number of its reason.
    Refused(u64),
    /// No answer, or the answer that something failed: it may be done.
    InDoubt,
    /// The instance was not there to be asked: it is not done.
    NotReached,
}

/// The tries of one step.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tries(Vec<Outcome>);

impl Tries {
    pub(crate) fn was_acknowledged(&self) -> bool {
        self.0.contains(&Outcome::Acknowledged)
    }

    /// Whether its effect may be seen.
    pub(crate) fn may_be_done(&self) -> bool {
        self.was_acknowledged() || self.0.contains(&Outcome::InDoubt)
    }
}

/// One person's way through the five steps.
#[derive(Debug)]
pub(crate) struct Story {
    pub(crate) number: u32,
    pub(crate) phone: String,
    pub(crate) email: String,
    /// The accounts that confirmations have named; more than one is one too many.
    pub(crate) users: Vec<String>,
    pub(crate) token: Option<String>,
    tries: [Tries; Step::ALL.len()],
}

impl Story {
    pub(crate) fn of(number: u32) -> Self {
        Self {
            number,
            phone: format!("+447400{number:06}"),
            email: format!("person{number}@example.com"),
            users: Vec::new(),
            token: None,
            tries: Default::default(),
        }
    }

    /// A detail that nobody else has.
    pub(crate) fn street(&self) -> String {
        format!("{} High Street", self.number)
    }

    pub(crate) fn step(&self, step: Step) -> &Tries {
        let [sign_up, confirm_phone, add_email, confirm_email, patch_profile] = &self.tries;
        match step {
            Step::SignUp => sign_up,
            Step::ConfirmPhone => confirm_phone,
            Step::AddEmail => add_email,
            Step::ConfirmEmail => confirm_email,
            Step::PatchProfile => patch_profile,
        }
    }

    /// Whether the last step was acknowledged; none can be before those that go before it.
    pub(crate) fn is_complete(&self) -> bool {
        self.step(Step::PatchProfile).was_acknowledged()
    }

    /// The last thing that was tried, and what it came to.
    pub(crate) fn end(&self) -> Option<(Step, Outcome)> {
        Step::ALL.into_iter().rev().find_map(|step| Some((step, *self.step(step).0.last()?)))
    }

    fn step_mut(&mut self, step: Step) -> &mut Tries {
        let [sign_up, confirm_phone, add_email, confirm_email, patch_profile] = &mut self.tries;
        match step {
            Step::SignUp => sign_up,
            Step::ConfirmPhone => confirm_phone,
            Step::AddEmail => add_email,
            Step::ConfirmEmail => confirm_email,
            Step::PatchProfile => patch_profile,
        }
    }
}

/// Writes every try down, for who wants to know how something came about.
pub(crate) struct Ledger {
    begun: Instant,
    file: Mutex<BufWriter<File>>,
    acknowledged: AtomicU64,
}

impl Ledger {
    pub(crate) fn create(path: &Path) -> std::io::Result<Self> {
        let file = Mutex::new(BufWriter::new(File::create(path)?));
        Ok(Self { begun: Instant::now(), file, acknowledged: AtomicU64::new(0) })
    }

    /// Notes a try that `instance` was asked for.
    pub(crate) fn note(&self, story: &mut Story, step: Step, instance: usize, outcome: Outcome) {
        story.step_mut(step).0.push(outcome);
        self.acknowledged.fetch_add(u64::from(outcome == Outcome::Acknowledged), Ordering::Relaxed);
        let at = self.begun.elapsed().as_secs_f64();
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // The file helps to understand; the audit does without.
        let _ = writeln!(file, "{at:9.3} {} {step:?} instance {} {outcome:?}", story.phone, instance + 1);
    }

    /// Steps acknowledged so far.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    pub(crate) fn flush(&self) -> std::io::Result<()> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).flush()
    }
}

/// How often each outcome was seen.
pub(crate) fn summary(stories: &[Story]) -> String {
    let (mut acknowledged, mut in_doubt, mut not_reached) = (0, 0, 0);
    let mut refused = BTreeMap::<u64, u32>::new();
    for outcome in stories.iter().flat_map(|story| story.tries.iter()).flat_map(|tries| &tries.0) {
        match outcome {
            Outcome::Acknowledged => acknowledged += 1,
            Outcome::InDoubt => in_doubt += 1,
            Outcome::NotReached => not_reached += 1,
            Outcome::Refused(id) => *refused.entry(*id).or_default() += 1,
        }
    }
    let mut summary = format!(
        "{acknowledged} acknowledged, {in_doubt} in doubt, {not_reached} not reached, {} refused",
        refused.values().sum::<u32>()
    );
    for (id, count) in refused {
        let _ = write!(summary, "; {id}: {count}");
    }
    summary
}
