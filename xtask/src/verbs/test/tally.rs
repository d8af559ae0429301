//! Counting what passed, from what the runners print.

use std::{fmt, iter::Sum, ops::Add};

/// How many tests ended in which way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Did what they must.
    pub(super) passed: u32,
    /// Did not.
    pub(super) failed: u32,
    /// Could not be run here.
    pub(super) skipped: u32,
}

impl Tally {
    /// One test that passed or failed.
    pub(super) fn one(passed: bool) -> Self {
        Self { passed: passed.into(), failed: (!passed).into(), skipped: 0 }
    }

    /// One test that could not be run.
    pub(super) const SKIPPED: Self = Self { passed: 0, failed: 0, skipped: 1 };

    /// Reads the line that closes a scenario run: `N passed, N failed, N skipped`.
    pub(super) fn of_scenarios(line: &str) -> Option<Self> {
        let mut parts = line.trim().split(", ");
        let mut count = |word: &str| parts.next()?.strip_suffix(word)?.trim_end().parse().ok();
        let tally = Self { passed: count("passed")?, failed: count("failed")?, skipped: count("skipped")? };
        parts.next().is_none().then_some(tally)
    }

    /// Reads the line that closes a test binary of cargo:
    /// `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s`.
    pub(super) fn of_cargo(line: &str) -> Option<Self> {
        let (_verdict, counts) = line.trim().strip_prefix("test result: ")?.split_once(". ")?;
        let count = |word: &str| {
            counts.split(';').find_map(|part| part.trim().strip_suffix(word)?.trim_end().parse().ok())
        };
        Some(Self { passed: count("passed")?, failed: count("failed")?, skipped: count("ignored")? })
    }

    /// Reads one of the lines that close a run of node's tests: `ℹ pass 3`.
    pub(super) fn of_node(line: &str) -> Option<Self> {
        let (what, count) = line.trim().strip_prefix("ℹ ")?.split_once(' ')?;
        let count = count.parse().ok()?;
        match what {
            "pass" => Some(Self { passed: count, ..Self::default() }),
            "fail" | "cancelled" => Some(Self { failed: count, ..Self::default() }),
            "skipped" | "todo" => Some(Self { skipped: count, ..Self::default() }),
            _ => None,
        }
    }

    /// The same, but with a failure where the runner says it failed and counts none.
    pub(super) fn or_failed(self, succeeded: bool) -> Self {
        if succeeded || self.failed > 0 { self } else { self + Self::one(false) }
    }
}

impl Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            skipped: self.skipped + other.skipped,
        }
    }
}

impl Sum for Tally {
    fn sum<I: Iterator<Item = Self>>(tallies: I) -> Self {
        tallies.fold(Self::default(), Add::add)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_its_own_form() {
        let tally = Tally { passed: 12, failed: 1, skipped: 3 };
        assert_eq!(Tally::of_scenarios(&tally.to_string()), Some(tally));
        assert_eq!(Tally::of_scenarios("12 passed, 1 failed"), None);
        assert_eq!(Tally::of_scenarios("ok a scenario 1.2s"), None);
    }

    #[test]
    fn reads_cargo() {
        let line = "test result: FAILED. 3 passed; 2 failed; 1 ignored; 0 measured; 9 filtered out; finished in 0.01s";
        assert_eq!(Tally::of_cargo(line), Some(Tally { passed: 3, failed: 2, skipped: 1 }));
        assert_eq!(Tally::of_cargo("running 3 tests"), None);
    }

    #[test]
    fn reads_node() {
        let lines =
            ["ℹ tests 6", "ℹ pass 3", "ℹ fail 1", "ℹ cancelled 1", "ℹ skipped 1", "ℹ duration_ms 12.5"];
        let tally: Tally = lines.into_iter().filter_map(Tally::of_node).sum();
        assert_eq!(tally, Tally { passed: 3, failed: 2, skipped: 1 });
    }

    #[test]
    fn a_runner_that_dies_has_failed() {
        assert_eq!(Tally::default().or_failed(false), Tally::one(false));
        assert_eq!(Tally::one(false).or_failed(false), Tally::one(false));
        assert_eq!(Tally::one(true).or_failed(true), Tally::one(true));
    }
}
