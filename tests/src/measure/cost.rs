//! What a process, or a part of one, takes.

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// How often the memory of a process is looked at: it is a high-water mark, which goes with the process.
const LOOK: Duration = Duration::from_millis(10);

/// What was taken.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Cost {
    /// Events that were worked on.
    pub(super) events: u64,
    /// Processor time.
    pub(super) processor: Duration,
    /// Peak resident memory: bytes.
    pub(super) peak_bytes: u64,
}

/// Processor time of this process so far.
pub(super) fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Runs a program to its end. Its output is small.
pub(super) fn outside(command: &mut Command) -> Result<(Output, Cost)> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child =
        child.with_context(|| format!("{} cannot be started", command.get_program().display()))?;
    let mut cost = Cost::default();
    let id = child.id();
    let pid = Pid::from_child(&child);
    loop {
        if let Some(peak) = peak_bytes(id) {
            cost.peak_bytes = peak;
        }
        // It stays to be asked how much it took.
        let ended =
            waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG)?;
        if ended.is_some() {
            break;
        }
        std::thread::sleep(LOOK);
    }
    cost.processor = processor_of(id)?;
    let output = Output {
        status: child.wait()?,
        stdout: read_all(child.stdout.take())?,
        stderr: read_all(child.stderr.take())?,
    };
    Ok((output, cost))
}

fn read_all(pipe: Option<impl std::io::Read>) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        pipe.read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

fn peak_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

/// Of all its threads, also those that have ended (proc(5): `utime` and `stime`).
fn processor_of(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in brackets, may have spaces.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 =
        fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second()))
}
