//! What memory a process takes over time.

use anyhow::{Context, Result};

use super::Shared;

/// Resident memory, in MB, a sample each second.
#[derive(Debug, Default)]
pub(super) struct Samples(Vec<f64>);

/// From the second quarter to the last, the median may grow by so much: what allocators do.
const GROWTH: f64 = 1.10;
/// And by so many MB.
const GROWTH_MB: f64 = 3.0;

impl Samples {
    /// Takes one.
    pub(super) fn take(&mut self, pid: u32) -> Result<()> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("nattrace is gone")?;
        let kb = status.lines().find_map(|line| {
            line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()
        });
        self.0.push(kb.context("it has no memory")? / 1000.0);
        Ok(())
    }

    /// Complains where it grew.
    pub(super) fn judge(&self, shared: &Shared) {
        let [_, second, _, last] = self.quarters();
        if last > second * GROWTH + GROWTH_MB {
            shared.problem(format!(
                "memory grew from {second:.1} to {last:.1} MB (medians of the second and last quarter)"
            ));
        }
    }

    /// Medians of the four quarters of the time.
    fn quarters(&self) -> [f64; 4] {
        let quarter = self.0.len().div_ceil(4).max(1);
        let mut medians = [0.0; 4];
        for (median, samples) in medians.iter_mut().zip(self.0.chunks(quarter)) {
            let mut sorted = samples.to_vec();
            sorted.sort_by(f64::total_cmp);
            *median = sorted[sorted.len() / 2];
        }
        medians
    }

    /// For people: the medians, and the most.
    pub(super) fn summary(&self) -> serde_json::Value {
        let most = self.0.iter().copied().fold(0.0, f64::max);
        serde_json::json!({"medians_of_quarters": self.quarters(), "most": most})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_is_told_and_what_warms_up_is_not() {
        let problems = |samples: Vec<f64>| {
            let shared = Shared::default();
            Samples(samples).judge(&shared);
            shared.problems.into_inner().expect("one thread").len()
        };
        assert_eq!(problems((0..100).map(|second| 20.0 + f64::from(second)).collect()), 1);
        assert_eq!(problems((0..100).map(|second| if second < 20 { 10.0 } else { 30.0 }).collect()), 0);
        let mut own = Samples::default();
        own.take(std::process::id()).expect("memory");
        assert!(own.0[0] > 0.1);
    }
}
