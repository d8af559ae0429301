//! A tool at work: started, known to be ready, read, stopped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use serde_json::Value;

use super::configuration::{Configuration, Told, Tool};
use super::flood::PORT;
use super::floor::{Floor, Point};
use super::processor;
use crate::lab::Lab;
use crate::lab::process::{Process, read_lossy, tail};
use crate::runner::READY;
use crate::usage::programs;

/// The router's namespace has what traces.
const ROUTER: Option<&str> = Some("router");

/// How long a tool may take to be ready: some attach to a thousand functions, one after another.
const READY_WITHIN: Duration = Duration::from_mins(2);
/// How long it may take to end.
const END_WITHIN: Duration = Duration::from_mins(1);
/// A tool without a word for it is ready when it has opened nothing for so long.
const QUIET: Duration = Duration::from_millis(1500);

/// The table whose rule marks packets for `nft monitor trace`.
const TABLE: &str = "bench_trace";

/// What is needed to start any of them.
#[derive(Debug)]
pub(super) struct Programs {
    pub(super) nattrace: PathBuf,
    /// Debian's peers: programs in `bin`, libraries and their loader in `lib`.
    pub(super) peers: Option<PathBuf>,
    /// Where nattrace has its programs.
    pub(super) points: Vec<Point>,
}

/// A tool that is ready.
#[derive(Debug)]
pub(super) struct Running {
    /// Time from its start to when it was ready.
    pub(super) ready: Duration,
    work: Work,
}

#[derive(Debug)]
enum Work {
    Floor { _programs: Floor },
    Process { process: Process, unit: Unit },
}

/// What a tool tells of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// nattrace's JSON.
    Journeys,
    /// Anything else.
    Lines,
}

impl Programs {
    /// The command of a configuration, where it is a process.
    fn command(&self, lab: &Lab, row: &Configuration) -> Result<Command> {
        let port = row.port().to_string();
        let filled = |text: &str| text.replace("{port}", &port);
        Ok(match &row.tool {
            Tool::Floor => bail!("the floor is no process"),
            Tool::Nattrace(options) => {
                let mut command = lab.command(ROUTER, self.nattrace.to_str().context("no text")?)?;
                command.args(["--format", "json", "--dport", &port]).args(*options);
                command
            }
            Tool::NftMonitor => {
                let mut command = lab.command(ROUTER, "nft")?;
                command.args(["monitor", "trace"]);
                command
            }
            Tool::Peer(program, args) => {
                let dir = self.peers.as_ref().context("the peers were not brought")?;
                let file = |name: &str| dir.join(name).to_str().map(str::to_owned).context("no text");
                let mut command = lab.command(ROUTER, &file("lib/ld-linux-x86-64.so.2")?)?;
                command.args(["--library-path", &file("lib")?, &file(&format!("bin/{program}"))?]);
                command.args(args.iter().map(|arg| filled(arg)));
                command
            }
            Tool::Command(text) => {
                let mut command = lab.command(ROUTER, "bash")?;
                command.args(["-c", &format!("exec {}", filled(text))]);
                command
            }
        })
    }

    /// Starts a configuration's tool and waits until it is ready.
    pub(super) fn start(&self, lab: &Lab, row: &Configuration) -> Result<Running> {
        let begun = Instant::now();
        if row.tool == Tool::Floor {
            let programs = Floor::attach(&self.points)?;
            return Ok(Running { ready: begun.elapsed(), work: Work::Floor { _programs: programs } });
        }
        if row.tool == Tool::NftMonitor {
            let limit = if row.told == Told::Some { "limit rate 10/second " } else { "" };
            let table = format!(
                "table inet {TABLE} {{ chain pre {{ type filter hook prerouting priority raw - 1; \
                 udp dport {PORT} {limit}meta nftrace set 1; }}; }}"
            );
            lab.output_with_input(ROUTER, "nft", &["-f", "-"], &table)?;
        }
        let mut process = Process::spawn(self.command(lab, row)?, &lab.dir, &row.id)?;
        let ready = wait_until_ready(lab, row, &mut process)?;
        processor::keep_off(process.id())?;
        let unit = if matches!(row.tool, Tool::Nattrace(_)) { Unit::Journeys } else { Unit::Lines };
        Ok(Running { ready, work: Work::Process { process, unit } })
    }
}

/// Removes the rule that marks packets, where there is one.
pub(super) fn unmark(lab: &Lab) -> Result<()> {
    let script = format!("add table inet {TABLE}\ndelete table inet {TABLE}\n");
    lab.output_with_input(ROUTER, "nft", &["-f", "-"], &script)?;
    Ok(())
}

/// Waits, and says how long it took.
fn wait_until_ready(lab: &Lab, row: &Configuration, process: &mut Process) -> Result<Duration> {
    let stderr = process.stderr.clone();
    let lives = |process: &mut Process| match process.poll()? {
        Some(ended) => bail!("it ended ({ended}): {}", tail(&read_lossy(&process.stderr)?)),
        None => Ok(()),
    };
    let found = match row.tool {
        Tool::Nattrace(_) => {
            process.wait_for_line(&stderr, READY, READY_WITHIN, &lab.limits)?;
            Some(process.started.elapsed())
        }
        Tool::NftMonitor => {
            let id = process.id();
            lab.limits.until(READY_WITHIN, || {
                lives(process)?;
                Ok(listens_to_nftables(id)?.then(|| process.started.elapsed()))
            })?
        }
        Tool::Peer("pwru", _) => lab.limits.until(READY_WITHIN, || {
            lives(process)?;
            let ready = read_lossy(&stderr)?.contains("Listening for events");
            Ok(ready.then(|| process.started.elapsed()))
        })?,
        _ => {
            let mut last = (0, Instant::now());
            lab.limits.until(READY_WITHIN, || {
                lives(process)?;
                let open = fs::read_dir(format!("/proc/{}/fd", process.id())).map_or(0, Iterator::count);
                if open != last.0 {
                    last = (open, Instant::now());
                }
                let ready = last.1.elapsed() > QUIET && !programs::of(process.id())?.is_empty();
                Ok(ready.then(|| last.1 - process.started))
            })?
        }
    };
    found.with_context(|| {
        format!("it was not ready in time: {}", tail(&read_lossy(&stderr).unwrap_or_default()))
    })
}

/// Whether a process has joined a group of nf_tables' messages.
fn listens_to_nftables(id: u32) -> Result<bool> {
    const NETFILTER: &str = "12";
    let path = format!("/proc/{id}/net/netlink");
    let text = fs::read_to_string(&path).with_context(|| format!("{path} cannot be read"))?;
    // Socket, protocol, port, groups.
    Ok(text.lines().any(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        matches!(words[..], [_, NETFILTER, port, groups, ..]
            if port == id.to_string() && groups.chars().any(|digit| digit != '0'))
    }))
}

impl Running {
    /// The process that holds its BPF programs.
    pub(super) fn id(&self) -> u32 {
        match &self.work {
            Work::Floor { .. } => std::process::id(),
            Work::Process { process, .. } => process.id(),
        }
    }

    /// Whether it is a process of its own, whose time and memory are the tool's.
    pub(super) fn is_process(&self) -> bool {
        matches!(self.work, Work::Process { .. })
    }

    /// What it tells of a packet.
    pub(super) fn unit(&self) -> Unit {
        match self.work {
            Work::Floor { .. } => Unit::Lines,
            Work::Process { unit, .. } => unit,
        }
    }

    /// How many of them it has told so far, once it tells no more for a second, or `within`.
    pub(super) fn told(&self, lab: &Lab, within: Duration) -> Result<u64> {
        let Work::Process { process, unit } = &self.work else { return Ok(0) };
        let size = || fs::metadata(&process.stdout).map_or(0, |file| file.len());
        let mut last = (size(), Instant::now());
        lab.limits.until(within, || {
            if size() != last.0 {
                last = (size(), Instant::now());
            }
            Ok((last.1.elapsed() > Duration::from_secs(1)).then_some(()))
        })?;
        count(&process.stdout, *unit)
    }

    /// Stops it. What it says itself that it has lost, where it says anything.
    pub(super) fn stop(self, lab: &Lab, row: &Configuration) -> Result<Option<u64>> {
        let Work::Process { mut process, .. } = self.work else { return Ok(None) };
        process.signal(Signal::INT)?;
        process.wait(END_WITHIN, &lab.limits)?;
        if row.tool == Tool::NftMonitor {
            unmark(lab)?;
        }
        let lost = match row.tool {
            Tool::Nattrace(_) => Some(lost_events(&read_lossy(&process.stdout)?)?),
            Tool::Peer("bpftrace", _) => {
                let said = read_lossy(&process.stdout)? + &read_lossy(&process.stderr)?;
                Some(said.lines().filter_map(lost_by_bpftrace).sum())
            }
            _ => None,
        };
        for file in [&process.stdout, &process.stderr] {
            fs::remove_file(file).with_context(|| format!("{} stays", file.display()))?;
        }
        Ok(lost)
    }
}

/// Journeys or lines in a file.
fn count(file: &Path, unit: Unit) -> Result<u64> {
    let text = read_lossy(file)?;
    let counts = |line: &&str| match unit {
        Unit::Journeys => line.contains(r#""type":"journey""#),
        Unit::Lines => !line.trim().is_empty(),
    };
    Ok(text.lines().filter(counts).count() as u64)
}

/// The events that nattrace's summary says are lost, of all sources.
fn lost_events(results: &str) -> Result<u64> {
    let last = results.lines().last().context("nattrace ended without a summary")?;
    let summary: Value = serde_json::from_str(last).context("nattrace's last line is no JSON")?;
    let sources = summary["sources"].as_object().context("nattrace's last line is no summary")?;
    Ok(sources.values().filter_map(|source| source["lost"].as_u64()).sum())
}

/// `Lost 17 events`
fn lost_by_bpftrace(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once("Lost ")?;
    let (count, _) = rest.split_once(" events")?;
    count.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_is_what_the_tools_say() {
        let summary = r#"{"schema":1,"type":"journey"}
{"schema":1,"type":"summary","sources":{"probes":{"received":9,"lost":3},"nft":{"received":1,"lost":4}}}
"#;
        assert_eq!(lost_events(summary).expect("a summary"), 7);
        assert!(lost_events("").is_err());
        assert_eq!(lost_by_bpftrace("stdin:1:1-2: WARNING: Lost 17 events"), Some(17));
        assert_eq!(lost_by_bpftrace("hook 1 of 0xffff"), None);
    }

    #[test]
    fn a_process_that_listens_to_nothing_is_not_ready() {
        assert!(!listens_to_nftables(std::process::id()).expect("the kernel's list"));
    }
}
