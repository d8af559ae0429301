//! A runner's output, passed on line by line, with its counts taken out.

use std::io::{self, Read, Write as _};

use anyhow::{Context as _, Result};

use super::tally::Tally;

/// What a line of a runner's output is.
pub(super) enum Line {
    /// Counts and nothing else. It is not passed on: the only such line is to be the last one of all.
    Count(Tally),
    /// Of no use to anybody.
    Noise,
    /// Anything else.
    Text,
}

/// Passes lines on and adds up the counts in them.
pub(super) struct Report {
    read_line: fn(&str) -> Line,
    partial: Vec<u8>,
    after_blank: bool,
    /// The sum so far; `None` before the first count.
    pub(super) tally: Option<Tally>,
}

impl Report {
    /// The output of the scenario runner.
    pub(super) fn of_scenarios() -> Self {
        Self::new(|line| Tally::of_scenarios(line).map_or(Line::Text, Line::Count))
    }

    /// The output of `cargo test --quiet`.
    pub(super) fn of_cargo() -> Self {
        Self::new(|line| match Tally::of_cargo(line) {
            Some(tally) => Line::Count(tally),
            None if line.starts_with("running ") || is_dots(line) => Line::Noise,
            None => Line::Text,
        })
    }

    /// The output of `node --test --test-reporter=spec`.
    pub(super) fn of_node() -> Self {
        Self::new(|line| match Tally::of_node(line) {
            Some(tally) => Line::Count(tally),
            None if line.starts_with("ℹ ") => Line::Noise,
            None => Line::Text,
        })
    }

    fn new(read_line: fn(&str) -> Line) -> Self {
        Self { read_line, partial: Vec::new(), after_blank: true, tally: None }
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
        match (self.read_line)(&String::from_utf8_lossy(line)) {
            Line::Count(tally) => {
                self.tally = Some(self.tally.unwrap_or_default() + tally);
                return Ok(());
            }
            Line::Noise => return Ok(()),
            Line::Text => {}
        }
        // Taking lines out would leave gaps of several blank ones.
        let blank = line.trim_ascii().is_empty();
        if blank && std::mem::replace(&mut self.after_blank, blank) {
            return Ok(());
        }
        self.after_blank = blank;
        let mut out = io::stdout().lock();
        out.write_all(line).and_then(|()| out.flush()).context("cannot write to standard output")
    }
}

/// Whether a line is libtest's progress: a dot a test, a letter where one was left out, `88/120` at the end.
fn is_dots(line: &str) -> bool {
    let marks = line.trim_end().trim_end_matches(|c: char| c.is_ascii_digit() || "/ ".contains(c));
    !marks.is_empty() && marks.chars().all(|mark| ".i".contains(mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_progress_from_words() {
        assert!(is_dots("....i...\n") && is_dots("........ 88/120\n"));
        assert!(!is_dots("\n") && !is_dots("F.\n") && !is_dots("...and more\n"));
    }

    #[test]
    fn adds_up_what_is_counted() {
        let mut report = Report::of_scenarios();
        report.push(b"1 passed, 0 failed, 2 skipped\n3 pas").expect("nothing to write");
        assert_eq!(report.tally, Some(Tally { passed: 1, failed: 0, skipped: 2 }));
        report.push(b"sed, 1 failed, 0 skipped").expect("nothing to write");
        report.finish().expect("nothing to write");
        assert_eq!(report.tally, Some(Tally { passed: 4, failed: 1, skipped: 2 }));
    }
}
