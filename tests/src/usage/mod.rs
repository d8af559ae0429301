//! What a program costs the machine, as the kernel counts it: runs of BPF programs, time on processors, memory.

pub(crate) mod programs;

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

/// The kernel counts runs of BPF programs when this is 1.
const STATS: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// Programs of nattrace that run where a packet begins its way, and where it ends: once for each packet at the client
/// or at the server, which are namespaces of the same machine.
const AT_BOTH_ENDS: [&str; 2] = ["netif_receive_s", "net_dev_start_x"];
/// Programs of nattrace that run where it ends alone: what is forwarded is neither freed nor taken by a socket.
const AT_THE_END: [&str; 6] =
    ["__udp_enqueue_s", "sk_data_ready", "end_fentry", "end_stateless_f", "end_kprobe", "consume_skb"];

/// Programs of nattrace that run once or twice for each hook of a packet.
const HOOKS: [&str; 4] = ["hook_leave", "hook_enter", "hook_leave_kret", "hook_enter_kpro"];
/// PREROUTING, FORWARD, POSTROUTING: more than these are another namespace's. (A security module hooks into the sender's.)
const HOOKS_OF_A_ROUTER: u64 = 3;

/// Switches the counting on for as long as it lives.
pub(crate) struct Counting {
    before: String,
}

impl Counting {
    /// Begins to count.
    pub(crate) fn on() -> Result<Self> {
        let before = std::fs::read_to_string(STATS).context("this kernel does not count runs")?;
        std::fs::write(STATS, "1").context("the kernel refuses to count runs")?;
        Ok(Self { before })
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        // The machine goes on as it was; nobody can do more about a failure here.
        let _ = std::fs::write(STATS, self.before.trim());
    }
}

/// How many of nattrace's runs, by the programs' names, are not the router's where packets came by way of a client, a
/// router and a server on one machine.
pub(crate) fn beside_the_router(runs: &BTreeMap<&str, u64>, forwarded: u64) -> u64 {
    let count = |name: &&str| runs.get(name).copied().unwrap_or(0);
    let hooks =
        HOOKS.iter().map(|name| count(name).saturating_sub(HOOKS_OF_A_ROUTER * forwarded)).sum::<u64>();
    hooks
        + AT_BOTH_ENDS.iter().map(|name| count(name).min(forwarded)).sum::<u64>()
        + AT_THE_END.iter().map(count).sum::<u64>()
}

/// Time that all threads of a process spent on processors so far, in milliseconds. Exact, where clock ticks are
/// samples: a thread that a timer wakes is often the one the next tick finds.
pub(crate) fn busy_ms(id: u32) -> Result<f64> {
    let dir = format!("/proc/{id}/task");
    let tasks = std::fs::read_dir(&dir).with_context(|| format!("{dir} cannot be listed"))?;
    let mut total = 0.0;
    for task in tasks.flatten() {
        // A thread may end meanwhile.
        let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        total += on_processor_ms(&text).unwrap_or_default();
    }
    if total == 0.0 {
        bail!("this kernel does not tell how long threads ran");
    }
    Ok(total)
}

/// The first number of `schedstat`: nanoseconds on a processor.
#[expect(clippy::cast_precision_loss, reason = "seconds of nanoseconds are far from 2^53")]
fn on_processor_ms(schedstat: &str) -> Option<f64> {
    Some(schedstat.split_whitespace().next()?.parse::<u64>().ok()? as f64 / 1e6)
}

/// A size in megabytes from `/proc/PID/status`: `VmRSS` now, `VmHWM` at most so far.
pub(crate) fn memory_mb(id: u32, field: &str) -> Result<f64> {
    let path = format!("/proc/{id}/status");
    let status = std::fs::read_to_string(&path).with_context(|| format!("{path} cannot be read"))?;
    status
        .lines()
        .find_map(|line| {
            let size = line.strip_prefix(field)?.strip_prefix(':')?;
            size.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()
        })
        .map(|kb| kb / 1000.0)
        .with_context(|| format!("/proc/PID/status has no {field}"))
}

/// As many digits as a report needs.
pub(crate) fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_on_the_processor_is_read() {
        let nearly = |ms: Option<f64>, expected: f64| ms.is_some_and(|ms| (ms - expected).abs() < 1e-9);
        assert!(nearly(on_processor_ms("2500000 17 3\n"), 2.5));
        assert!(on_processor_ms("").is_none());
        assert!(busy_ms(std::process::id()).expect("schedstat") > 0.0);
    }

    #[test]
    fn own_memory_is_read() {
        assert!(memory_mb(std::process::id(), "VmHWM").expect("status") > 0.1);
    }

    #[test]
    fn the_ends_runs_are_not_the_routers() {
        let runs = BTreeMap::from([("netif_receive_s", 20), ("hook_leave", 30), ("end_fentry", 10)]);
        assert_eq!(beside_the_router(&runs, 10), 20);
    }
}
