//! What nattrace costs while nothing matches: counted by the kernel, not by us.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use serde_json::json;

use super::programs;
use super::stage::Stage;
use super::traced::{READY, READY_WITHIN};
use crate::lab::kernel;
use crate::lab::process::Process;
use crate::scenario::Cost;

/// The kernel counts runs of BPF programs when this is 1.
const STATS: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// Programs that run where a packet begins its way, and where it ends: once for each packet at the client or at the server,
/// which are namespaces of the same machine.
const AT_BOTH_ENDS: [&str; 2] = ["netif_receive_s", "net_dev_start_x"];
/// Programs that run where it ends alone: what is forwarded is neither freed nor taken by a socket.
const AT_THE_END: [&str; 6] =
    ["__udp_enqueue_s", "sk_data_ready", "end_fentry", "end_stateless_f", "end_kprobe", "consume_skb"];

/// How often something is measured at most, where a busy machine was in the way.
const WINDOWS: usize = 3;

/// Switches the counting on for as long as it lives.
struct Counting {
    before: String,
}

impl Counting {
    fn on() -> Result<Self> {
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

impl Stage {
    /// How much memory a running trace took at most so far, and how long it took to be ready.
    pub(super) fn memory(&mut self, name: &str, most: f64, start: f64) -> Result<()> {
        let trace = self.traces.get(name).with_context(|| format!("no trace is called {name}"))?;
        let peak = memory_mb(trace.process.id(), "VmHWM")?;
        let ready = trace.ready_after.context("it has not become ready")?.as_secs_f64();
        for (what, came, allowed) in
            [("MB of memory", peak, most), ("s to the ready line", ready, self.lab.limits.patience * start)]
        {
            if came > allowed {
                self.problem(format!("{name}: {came:.1} {what}, at most {allowed:.1} are allowed"));
            }
        }
        let values = [("peak_mb", peak), ("start_seconds", ready)];
        self.measure("memory", values.map(|(key, value)| (key.to_owned(), json!(round(value)))).into());
        Ok(())
    }

    /// Measures, reports, and complains about what is above its bound.
    pub(super) fn cost(&mut self, cost: &Cost) -> Result<()> {
        let trace =
            self.traces.get(&cost.trace).with_context(|| format!("no trace is called {}", cost.trace))?;
        let (id, ready) = (trace.process.id(), trace.ready_after.unwrap_or_default().as_secs_f64());
        // Before any traffic, and when what starts in the background has come to its end.
        self.lab.limits.sleep(Duration::from_secs(2))?;
        let busy = self.idle(id, cost)?;
        let args: Vec<String> = [
            "udp-burst",
            &cost.to.to_string(),
            "--from",
            &cost.from.to_string(),
            "--senders",
            "1",
            "--port",
            "30000",
            "--count",
            &cost.packets.to_string(),
        ]
        .map(str::to_owned)
        .into();
        if cost.known {
            self.traffic(&cost.at, &args)?;
            self.lab.limits.sleep(Duration::from_secs(1))?;
        }
        let counting = Counting::on()?;
        let forwarded_before = self.forwarded()?;
        let runs_before = programs::runs(id)?;
        self.traffic(&cost.at, &args)?;
        self.lab.limits.sleep(Duration::from_millis(300))?;
        let runs_after = programs::runs(id)?;
        let forwarded = self.forwarded()? - forwarded_before;
        drop(counting);
        let rss = memory_mb(id, "VmRSS")?;
        let start = if kernel::is_within(None, Some("6.1")) { cost.start_old } else { cost.start };
        let ready = self.quickest_start(&cost.trace, ready, start)?;

        let names = programs::names();
        let mut runs: BTreeMap<&str, u64> = BTreeMap::new();
        for (id, now) in &runs_after {
            let name = names.get(id).map_or("", String::as_str);
            *runs.entry(name).or_default() += now - runs_before.get(id).unwrap_or(&0);
        }
        let total: u64 = runs.values().sum();
        let count = |name: &&str| runs.get(name).copied().unwrap_or(0);
        let elsewhere: u64 = AT_BOTH_ENDS.iter().map(|name| count(name).min(forwarded)).sum::<u64>()
            + AT_THE_END.iter().map(count).sum::<u64>();
        #[expect(clippy::cast_precision_loss, reason = "a few thousand of each")]
        let each = |runs: u64| runs as f64 / forwarded.max(1) as f64;
        let (per_packet, in_all) = (each(total - elsewhere), each(total));
        if forwarded < u64::from(cost.packets) {
            self.problem(format!("{forwarded} of {} packets were forwarded", cost.packets));
        }
        if runs_after.is_empty() {
            self.problem("nattrace holds no BPF program: nothing was measured");
        }
        for (what, value, bound) in [
            ("program runs per forwarded packet", per_packet, cost.runs),
            ("MB resident", rss, cost.rss),
            ("s to the ready line", ready, start),
            ("ms of processor time while idle", busy, cost.busy),
        ] {
            if value > bound {
                self.problem(format!("{value:.2} {what}, at most {bound}"));
            }
        }
        self.measure(
            "cost",
            BTreeMap::from([
                ("packets".to_owned(), json!(forwarded)),
                ("programs".to_owned(), json!(runs_after.len())),
                ("runs".to_owned(), json!(total)),
                ("runs_by_program".to_owned(), json!(runs)),
                ("runs_per_packet".to_owned(), json!(round(per_packet))),
                ("runs_in_three_namespaces".to_owned(), json!(round(in_all))),
                ("idle_seconds".to_owned(), json!(cost.idle)),
                ("idle_busy_ms".to_owned(), json!(round(busy))),
                ("rss_mb".to_owned(), json!(round(rss))),
                ("start_seconds".to_owned(), json!(round(ready))),
            ]),
        );
        Ok(())
    }

    /// How long it took to be ready, and if that was too long, then also up to two times more: what else the machine did
    /// is not in every one.
    fn quickest_start(&mut self, name: &str, first: f64, bound: f64) -> Result<f64> {
        let plan = self.traces.get(name).with_context(|| format!("no trace is called {name}"))?.plan.clone();
        let mut least = first;
        for _ in 1..WINDOWS {
            if least <= bound {
                break;
            }
            let mut command = self.nattrace(plan.at.as_deref(), plan.via)?;
            command.args(self.filled(&plan.args)?);
            let called = self.unique("again");
            let mut process = Process::spawn(command, &self.lab.dir, &called)?;
            let stderr = process.stderr.clone();
            process.wait_for_line(&stderr, READY, READY_WITHIN, &self.lab.limits)?;
            least = least.min(process.started.elapsed().as_secs_f64());
            process.signal(Signal::INT)?;
            process.wait(Duration::from_secs(30), &self.lab.limits)?;
        }
        Ok(least)
    }

    /// Processor time of an idle process in its quietest window, in milliseconds. A guest's clock goes on while its
    /// host runs something else: what is not the process' own doing is not in every window.
    fn idle(&self, id: u32, cost: &Cost) -> Result<f64> {
        let mut least = f64::INFINITY;
        for _ in 0..WINDOWS {
            let before = busy_ms(id)?;
            self.lab.limits.sleep(Duration::from_secs_f64(cost.idle))?;
            least = least.min(busy_ms(id)? - before);
            if least <= cost.busy {
                break;
            }
        }
        Ok(least)
    }

    /// Datagrams that the router has forwarded.
    fn forwarded(&self) -> Result<u64> {
        let counters = self.read_counters("router")?;
        counters.get("IpForwDatagrams").copied().context("the kernel does not count forwarded datagrams")
    }
}

/// Time that all threads of a process spent on processors so far, in milliseconds. Exact, where clock ticks are
/// samples: a thread that a timer wakes is often the one the next tick finds.
fn busy_ms(id: u32) -> Result<f64> {
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

/// As many digits as a report needs.
fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// A size in megabytes from `/proc/PID/status`: `VmRSS` now, `VmHWM` at most so far.
fn memory_mb(id: u32, field: &str) -> Result<f64> {
    let path = format!("/proc/{id}/status");
    let status = std::fs::read_to_string(Path::new(&path)).context("nattrace is gone")?;
    status
        .lines()
        .find_map(|line| {
            let size = line.strip_prefix(field)?.strip_prefix(':')?;
            size.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()
        })
        .map(|kb| kb / 1000.0)
        .with_context(|| format!("/proc/PID/status has no {field}"))
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
}
