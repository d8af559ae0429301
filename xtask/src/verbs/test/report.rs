//! A runner's output, passed on line by line, with its closing counts taken out.

use std::io::{self, Read, Write as _};

use anyhow::{Context as _, Result};

use super::tally::Tally;

/// Passes lines on and adds up what `count` reads in them.
///
/// Lines that are counts and nothing else are not passed on: the only such line is to be the last one of all.
pub(super) struct Report {
    count: fn(&str) -> Option<Tally>,
    partial: Vec<u8>,
    /// The sum so far; `None` before the first count.
    pub(super) tally: Option<Tally>,
}

impl Report {
    /// Reads counts with `count`.
    pub(super) fn new(count: fn(&str) -> Option<Tally>) -> Self {
        Self { count, partial: Vec::new(), tally: None }
    }

    /// Takes the next bytes of the output.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.partial.extend_from_slice(bytes);
        while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
            let line: Vec<_> = self.partial.drain(..=end).collect();
            self.line(&line)?;
        }
        Ok(())
    }

    /// Takes all that `output` has.
    pub(super) fn read(&mut self, mut output: impl Read) -> Result<()> {
        let mut buffer = [0; 4096];
        loop {
            match output.read(&mut buffer).context("cannot read a runner's output")? {
                0 => return self.finish(),
                length => self.push(&buffer[..length])?,
            }
        }
    }

    /// Passes on what has no end of line.
    pub(super) fn finish(&mut self) -> Result<()> {
        if self.partial.is_empty() {
            return Ok(());
        }
        let mut line = std::mem::take(&mut self.partial);
        line.push(b'\n');
        self.line(&line)
    }

    fn line(&mut self, line: &[u8]) -> Result<()> {
        if let Some(tally) = (self.count)(&String::from_utf8_lossy(line)) {
            self.tally = Some(self.tally.unwrap_or_default() + tally);
            return Ok(());
        }
        let mut out = io::stdout().lock();
        out.write_all(line).and_then(|()| out.flush()).context("cannot write to standard output")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_up_what_is_counted() {
        let mut report = Report::new(Tally::of_scenarios);
        report.push(b"1 passed, 0 failed, 2 skipped\n3 pas").expect("nothing to write");
        assert_eq!(report.tally, Some(Tally { passed: 1, failed: 0, skipped: 2 }));
        report.push(b"sed, 1 failed, 0 skipped").expect("nothing to write");
        report.finish().expect("nothing to write");
        assert_eq!(report.tally, Some(Tally { passed: 4, failed: 1, skipped: 2 }));
    }
}
