//! What nattrace costs while nothing matches: counted by the kernel, not by us.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;
use serde_json::json;

use super::stage::Stage;
use super::traced::{READY, READY_WITHIN};
use crate::lab::kernel;
use crate::lab::process::Process;
use crate::scenario::Cost;
use crate::usage::{Counting, beside_the_router, busy_ms, memory_mb, programs, round};

/// How often something is measured at most, where a busy machine was in the way.
const WINDOWS: usize = 3;

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
        let elsewhere = beside_the_router(&runs, forwarded);
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
