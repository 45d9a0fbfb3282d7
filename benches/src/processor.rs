//! Who spends the processors' time. A rate says little while others keep the machine busy; what one request costs stays the same.

use std::collections::HashMap;
use std::fs;
use std::ops::Sub;
use std::time::Duration;

/// A tick of the kernel's accounts.
const TICK: Duration = Duration::from_millis(10);

/// Processor time until now, or of a while.
#[derive(Clone, Copy, Default)]
pub(crate) struct Spent {
    /// By this program, which makes the load.
    pub(crate) load: Duration,
    /// By the service.
    pub(crate) service: Duration,
    /// How often a thread of the service has slept.
    pub(crate) sleeps: u64,
    /// By every other process that this program has started: the database server with all of its own.
    pub(crate) database: Duration,
}

impl Spent {
    /// By all until now; `service` is its process.
    pub(crate) fn until_now(service: u32) -> Self {
        let processes: HashMap<_, _> =
            numbers("/proc").filter_map(|id| Some((id, Process::of(id)?))).collect();
        let own = std::process::id();
        let descends = |mut id| {
            // As deep as a tree of processes may be here, and not for ever, should it change meanwhile.
            for _ in 0..16 {
                match processes.get(&id).map(|process| process.parent) {
                    Some(parent) if parent == own => return true,
                    Some(parent) => id = parent,
                    None => return false,
                }
            }
            false
        };
        let mut spent = Self { sleeps: sleeps(service), ..Self::default() };
        for (&id, process) in &processes {
            if id == own {
                spent.load += process.own;
            } else if id == service {
                spent.service += process.own;
            } else if descends(id) {
                spent.database += process.own + process.ended;
            }
        }
        spent
    }
}

impl Sub for Spent {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            load: self.load.saturating_sub(before.load),
            service: self.service.saturating_sub(before.service),
            sleeps: self.sleeps.saturating_sub(before.sleeps),
            database: self.database.saturating_sub(before.database),
        }
    }
}

struct Process {
    parent: u32,
    own: Duration,
    /// By children that have ended.
    ended: Duration,
}

impl Process {
    fn of(id: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // Behind the name, which is in brackets, the parent is the second field, and user and system time, of itself and of its
        // children that have ended, are the 12th to the 15th.
        let fields: Vec<_> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let ticks = |at: usize| fields.get(at)?.parse::<u32>().ok();
        Some(Self {
            parent: ticks(1)?,
            own: TICK * (ticks(11)? + ticks(12)?),
            ended: TICK * (ticks(13)? + ticks(14)?),
        })
    }
}

fn sleeps(id: u32) -> u64 {
    let of_thread = |thread| {
        let status = fs::read_to_string(format!("/proc/{id}/task/{thread}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        line.trim().parse::<u64>().ok()
    };
    numbers(&format!("/proc/{id}/task")).filter_map(of_thread).sum()
}

/// The entries of a directory that are numbers.
fn numbers(directory: &str) -> impl Iterator<Item = u32> + use<> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}
