//! What is printed, and which promises were not kept.

use std::fmt;
use std::io::{Stdout, Write as _, stdout};
use std::process::ExitCode;

/// The report of a run.
pub(crate) struct Report {
    out: Stdout,
    broken: Vec<String>,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self { out: stdout(), broken: Vec::new() }
    }

    /// A line for who watches.
    pub(crate) fn say(&mut self, line: fmt::Arguments<'_>) -> anyhow::Result<()> {
        writeln!(self.out, "{line}")?;
        Ok(self.out.flush()?)
    }

    /// Notes a promise that was not kept, in a sentence that says what was instead.
    pub(crate) fn promise(&mut self, is_kept: bool, otherwise: impl Into<String>) {
        if !is_kept {
            self.broken.push(otherwise.into());
        }
    }

    /// The last lines, and the status that they mean.
    pub(crate) fn end(mut self) -> anyhow::Result<ExitCode> {
        if self.broken.is_empty() {
            self.say(format_args!("\nevery promise was kept"))?;
            return Ok(ExitCode::SUCCESS);
        }
        for sentence in std::mem::take(&mut self.broken) {
            self.say(format_args!("\nnot kept: {sentence}"))?;
        }
        Ok(ExitCode::FAILURE)
    }

    #[cfg(test)]
    pub(crate) fn broken(&self) -> &[String] {
        &self.broken
    }
}
