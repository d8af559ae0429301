//! An end at any moment, of any kind: nothing of nattrace may be left.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use fastrand::Rng;
use rustix::process::Signal;
use serde_json::json;

use super::stage::Stage;
use super::traced::{READY, READY_WITHIN};
use crate::lab::Limits;
use crate::lab::cgroup::{Cgroup, Scarce};
use crate::lab::process::{Ended, Process, read_lossy};
use crate::oracle::leftovers::{self, Kernel};
use crate::scenario::Via;
use crate::usage::programs;

/// Longer than a run takes that ends in order.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

/// How the kernel may take its time to free what nobody holds any more.
const FREED_WITHIN: Duration = Duration::from_secs(2);

/// How a run is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// By a signal.
    Signal(Signal),
    /// There is not enough memory: the kernel kills it.
    Memory,
    /// There can be no more threads: whatever fails to start one panics, or says so.
    Threads,
}

impl Way {
    const ALL: [Self; 7] = [
        Self::Signal(Signal::KILL),
        Self::Signal(Signal::HUP),
        Self::Signal(Signal::TERM),
        Self::Signal(Signal::INT),
        Self::Signal(Signal::ABORT),
        Self::Memory,
        Self::Threads,
    ];

    fn name(self) -> String {
        match self {
            Self::Signal(signal) => format!("{signal:?}").replace("Signal::", "SIG").replace('"', ""),
            Self::Memory => "OOM".to_owned(),
            Self::Threads => "no threads".to_owned(),
        }
    }
}

/// When.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// So long after its start.
    Started(Duration),
    /// So long after it was told to end, which it was when it was ready.
    Stopped(Duration),
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started(time) => write!(f, "{} ms after its start", time.as_millis()),
            Self::Stopped(time) => write!(f, "{} ms after it was told to end", time.as_millis()),
        }
    }
}

/// What the ends so far were like.
#[derive(Debug, Default)]
struct Tally {
    ways: BTreeMap<String, u32>,
    moments: Vec<String>,
    ready: u32,
    stopping: u32,
    in_order: u32,
    scarce: u64,
    refused: u32,
}

impl Stage {
    /// Starts nattrace in the namespace of `role` and ends it in some way at a random moment of its start, its run or its
    /// end; looks at what is left; and again, `times` times.
    pub(super) fn kill_again_and_again(&mut self, role: &str, args: &[String], times: u32) -> Result<()> {
        let times = self.settings.kills.unwrap_or(times);
        let args = self.filled(args)?;
        let (start, end) = self.time_to_start_and_end(role, &args)?;
        // Random on purpose: moments nobody thought of. They are in the report, should one fail.
        let mut random = Rng::new();
        let mut tally = Tally::default();
        let before = Kernel::look(&self.lab)?;
        for number in 0..times {
            let way = Way::ALL[usize::try_from(number)? % Way::ALL.len()];
            let moment = if way != Way::Threads && random.u8(0..3) == 0 {
                Moment::Stopped(end.mul_f64(1.5 * random.f64()))
            } else {
                Moment::Started(start.mul_f64(2.0 * random.f64()))
            };
            self.end_once(role, &args, way, moment, &mut random, &mut tally)?;
            self.look_for_what_is_left(&before, &format!("{} {moment}", way.name()))?;
        }
        // Other runs come and go at the same time, unless this is the only scenario.
        if self.settings.kills.is_some() {
            let mut left = before.machine_complaints();
            let until = Instant::now() + self.lab.limits.scaled(FREED_WITHIN);
            while !left.is_empty() && Instant::now() < until {
                self.lab.limits.sleep(Duration::from_millis(50))?;
                left = before.machine_complaints();
            }
            for complaint in left {
                self.problem(format!("after {times} ends: {complaint}"));
            }
        }
        let Tally { ways, moments, ready, stopping, in_order, scarce, refused } = tally;
        let values = BTreeMap::from([
            ("times".to_owned(), json!(times)),
            ("ways".to_owned(), json!(ways)),
            ("after_ready".to_owned(), json!(ready)),
            ("while_stopping".to_owned(), json!(stopping)),
            ("ended_in_order".to_owned(), json!(in_order)),
            ("ended_by_limits".to_owned(), json!(scarce)),
            ("limits_not_to_be_had".to_owned(), json!(refused)),
            ("moments".to_owned(), json!(moments)),
        ]);
        self.measure("kill", values);
        // All before the ready line, or all after it, would leave half of the moments untried.
        if ready == 0 || ready == times {
            self.problem(format!("{ready} of {times} ends came after the ready line: not random enough"));
        }
        Ok(())
    }

    fn end_once(
        &mut self,
        role: &str,
        args: &[String],
        way: Way,
        moment: Moment,
        random: &mut Rng,
        tally: &mut Tally,
    ) -> Result<()> {
        let name = self.unique("killed");
        // What a run takes is from 10 MB on, of memory of the kernel's, too; and one thread is its own.
        let scarce = match way {
            Way::Memory => Some(Scarce::Memory(random.u64(1 << 20..48 << 20))),
            Way::Threads => Some(Scarce::Tasks(random.u32(1..6))),
            Way::Signal(_) => None,
        };
        let group = scarce.and_then(|scarce| Cgroup::create(&format!("{}-{name}", self.lab.mark), scarce));
        tally.refused += u32::from(scarce.is_some() && group.is_none());
        let mut command = match &group {
            None => self.nattrace(Some(role), Via::Setns)?,
            Some(group) => {
                let mut command = self.lab.command(Some(role), "sh")?;
                command.args(["-c", &group.enter()]).arg(&self.settings.nattrace);
                command
            }
        };
        command.args(args).args(["--format", "json"]);
        let mut process = Process::spawn(command, &self.lab.dir, &name)?;
        let limits = self.lab.limits.clone();
        let mut held = BTreeSet::new();
        let stopping = reach(&mut process, moment, group.is_some(), &limits)?;
        held.extend(programs::of(process.id()).unwrap_or_default().into_keys());
        let signal = if let Way::Signal(signal) = way { signal } else { Signal::KILL };
        let early = process.poll()?;
        if early.is_none() {
            process.signal(signal)?;
        }
        let ended = process.wait(ENDS_WITHIN, &limits)?;
        let said = read_lossy(&process.stderr)?;
        let in_order = matches!(ended, Ended::Code(0 | 1 | 3));
        // What it was not told to is its own mistake, but where something that it needs was withheld.
        let expected =
            in_order && (early.is_none() || stopping) || matches!(ended, Ended::Signal(_)) || group.is_some();
        if !expected {
            self.problem(format!("{} {moment}: nattrace ended with {ended}: {said}", way.name()));
        }
        if group.is_none() && said.contains("panicked at") {
            self.problem(format!("{} {moment}: nattrace panicked: {said}", way.name()));
        }
        if let Some(group) = group {
            tally.scarce += u64::from(group.hits() > 0);
            group.remove()?;
        }
        tally.ready += u32::from(said.contains(READY));
        tally.stopping += u32::from(stopping);
        tally.in_order += u32::from(in_order);
        *tally.ways.entry(way.name()).or_default() += 1;
        tally.moments.push(format!("{} {moment}", way.name()));
        let gone = limits.until(FREED_WITHIN, || {
            let loaded: BTreeSet<u32> = programs::names().into_keys().collect();
            Ok(held.is_disjoint(&loaded).then_some(()))
        })?;
        if gone.is_none() {
            self.problem(format!("{} {moment}: a BPF program of nattrace's is still there", way.name()));
        }
        Ok(())
    }

    fn look_for_what_is_left(&mut self, before: &Kernel, when: &str) -> Result<()> {
        let mut left = self.before.complaints(&self.lab)?;
        left.extend(before.complaints(&self.lab)?);
        let processes = |stage: &Self| {
            let all = leftovers::processes(&stage.lab.mark);
            all.into_iter().filter(|line| line.contains("nattrace") && !line.contains(" traffic ")).collect()
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
            self.problem(format!("{when}: {complaint}"));
        }
        Ok(())
    }

    /// How long nattrace takes to be ready here, and then to end.
    fn time_to_start_and_end(&mut self, role: &str, args: &[String]) -> Result<(Duration, Duration)> {
        let name = self.unique("measured");
        let mut command = self.nattrace(Some(role), Via::Setns)?;
        command.args(args);
        let mut process = Process::spawn(command, &self.lab.dir, &name)?;
        let stderr = process.stderr.clone();
        process.wait_for_line(&stderr, READY, READY_WITHIN, &self.lab.limits)?;
        let start = process.started.elapsed();
        process.signal(Signal::INT)?;
        process.wait(ENDS_WITHIN, &self.lab.limits)?;
        Ok((start, process.started.elapsed().saturating_sub(start)))
    }
}

/// Waits for the moment; whether it was told to end by then.
fn reach(process: &mut Process, moment: Moment, may_fail: bool, limits: &Limits) -> Result<bool> {
    match moment {
        Moment::Started(time) => limits.sleep(time).map(|()| false),
        Moment::Stopped(time) => {
            let stderr: PathBuf = process.stderr.clone();
            match process.wait_for_line(&stderr, READY, READY_WITHIN, limits) {
                Err(_) if may_fail => return Ok(false),
                ready => ready?,
            };
            if process.poll()?.is_none() {
                process.signal(Signal::INT)?;
            }
            limits.sleep(time)?;
            Ok(true)
        }
    }
}
