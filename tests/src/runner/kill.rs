//! kill -9 at any moment: nothing of nattrace may be left.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use rustix::process::Signal;
use serde_json::json;

use super::stage::Stage;
use super::traced::{READY, READY_WITHIN};
use crate::lab::process::{Process, read_lossy};
use crate::oracle::leftovers;
use crate::scenario::Via;

impl Stage {
    /// Starts nattrace in the namespace of `role` and kills it at a random moment, half of them before it is
    /// ready; looks at what is left; and again, `times` times.
    pub(super) fn kill_again_and_again(&mut self, role: &str, args: &[String], times: u32) -> Result<()> {
        let args = self.filled(args)?;
        let longest = 2.0 * self.time_to_ready(role, &args)?;
        // Random on purpose: moments nobody thought of. They are in the report, should one fail.
        let mut random = Random(SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |d| d.subsec_nanos()));
        let mut moments = Vec::new();
        let mut ready = 0;
        for _ in 0..times {
            let name = self.unique("killed");
            let mut command = self.nattrace(Some(role), Via::Setns)?;
            command.args(&args).args(["--format", "json"]);
            let mut process = Process::spawn(command, &self.lab.dir, &name)?;
            let moment = Duration::from_secs_f64(longest * random.fraction());
            moments.push(u64::try_from(moment.as_millis())?);
            self.lab.limits.sleep(moment)?;
            if let Some(ended) = process.poll()? {
                self.problem(format!("nattrace ended by itself ({ended}): {}", read_lossy(&process.stderr)?));
                continue;
            }
            process.signal(Signal::KILL)?;
            process.wait(Duration::from_secs(10), &self.lab.limits)?;
            ready += u32::from(read_lossy(&process.stderr)?.contains(READY));
            let mut left = self.before.complaints(&self.lab)?;
            let processes = |stage: &Self| {
                let all = leftovers::processes(&stage.lab.mark);
                all.into_iter()
                    .filter(|line| line.contains("nattrace") && !line.contains(" traffic "))
                    .collect()
            };
            // Helpers it started learn of its death by a signal or a closed pipe: they have a moment.
            let mut stay: Vec<String> = processes(self);
            for _ in 0..100 {
                if stay.is_empty() {
                    break;
                }
                self.lab.limits.sleep(Duration::from_millis(10))?;
                stay = processes(self);
            }
            left.extend(stay.into_iter().map(|line| format!("a process was left: {line}")));
            for complaint in left {
                self.problem(format!("killed after {} ms: {complaint}", moment.as_millis()));
            }
        }
        let values = BTreeMap::from([
            ("times".to_owned(), json!(times)),
            ("after_ready".to_owned(), json!(ready)),
            ("moments_ms".to_owned(), json!(moments)),
        ]);
        self.measure("kill", values);
        // All before the ready line, or all after it, would leave half of the moments untried.
        if ready == 0 || ready == times {
            self.problem(format!("{ready} of {times} kills came after the ready line: not random enough"));
        }
        Ok(())
    }

    /// How many seconds nattrace takes to be ready here.
    fn time_to_ready(&mut self, role: &str, args: &[String]) -> Result<f64> {
        let name = self.unique("measured");
        let mut command = self.nattrace(Some(role), Via::Setns)?;
        command.args(args);
        let mut process = Process::spawn(command, &self.lab.dir, &name)?;
        let stderr = process.stderr.clone();
        process.wait_for_line(&stderr, READY, READY_WITHIN, &self.lab.limits)?;
        let seconds = process.started.elapsed().as_secs_f64();
        process.signal(Signal::INT)?;
        process.wait(Duration::from_secs(10), &self.lab.limits)?;
        Ok(seconds)
    }
}

/// xorshift32: enough to choose moments.
struct Random(u32);

impl Random {
    /// From 0 to 1.
    fn fraction(&mut self) -> f64 {
        let mut x = self.0 | 1;
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        self.0 = x;
        f64::from(x) / f64::from(u32::MAX)
    }
}
