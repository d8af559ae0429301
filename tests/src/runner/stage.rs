//! The state of one running scenario.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde_json::Value;

use super::traced::Traced;
use super::tui::Shown;
use crate::lab::process::Process;
use crate::lab::{Lab, Limits, topology};
use crate::oracle::leftovers::{self, Before};
use crate::oracle::listing::{self, Snapshot};
use crate::oracle::xtables;
use crate::scenario::{Mode, Scenario};

/// What holds for all scenarios of a run.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// The program that is judged.
    pub(super) nattrace: PathBuf,
    /// An OpenTelemetry collector, where there is one.
    pub(super) collector: Option<PathBuf>,
    /// With kernel probes or without.
    pub(super) mode: Mode,
    /// The kernel has probes, and they are not to be used.
    pub(super) withhold_probes: bool,
    /// Trace tables can be had: else nobody marks a packet, `nft monitor trace` prints nothing, and rule steps are
    /// compared with the listed ruleset, the counters of rules and what the scenario expects.
    pub(super) trace_messages: bool,
    /// Time is short: nft's lines are compared byte for byte only where events are recorded anyway.
    pub(super) brief: bool,
    /// Where each recording is kept, with what was told live.
    pub(super) recordings: Option<PathBuf>,
    /// How often nattrace is ended where that is done again and again, when the scenario is not to say.
    pub(super) kills: Option<u32>,
}

/// One running scenario. The fields are dropped in this order: processes before the namespaces they live in.
#[derive(Debug)]
pub(super) struct Stage {
    /// nattrace, by the name the scenario gave it.
    pub(super) traces: BTreeMap<String, Traced>,
    /// Interfaces in terminals, by name.
    pub(super) tuis: BTreeMap<String, Shown>,
    /// Servers, by name.
    pub(super) servers: BTreeMap<String, Process>,
    /// Generators that go on until the end.
    pub(super) background: Vec<Process>,
    /// Namespaces and files.
    pub(super) lab: Lab,
    /// For all scenarios.
    pub(super) settings: Settings,
    /// Tables that iptables-nft owns (`ip filter`).
    pub(super) iptables: Vec<String>,
    /// Rulesets and when they were in force.
    pub(super) snapshots: Vec<Snapshot>,
    /// What was there before nattrace.
    pub(super) before: Before,
    /// Kernel counters at the beginning, by role.
    pub(super) counters: BTreeMap<String, BTreeMap<String, u64>>,
    /// Where the scenario's files are.
    pub(super) scenario_dir: PathBuf,
    problems: Vec<String>,
    measures: Vec<(String, BTreeMap<String, Value>)>,
    serial: u32,
}

impl Stage {
    /// Builds topology and rulesets.
    pub(super) fn build(
        scenario: &Scenario,
        settings: &Settings,
        dir: &Path,
        limits: Limits,
    ) -> Result<Self> {
        let mut lab = Lab::new(dir.to_owned(), limits)?;
        topology::build(&mut lab, &scenario.script.topology)?;
        for (role, lines) in &scenario.script.sysctls {
            for line in lines {
                let (key, value) = line.split_once('=').with_context(|| format!("no sysctl: {line}"))?;
                lab.namespace(role)?.sysctl(key, value)?;
            }
        }
        let before = Before::look(&lab);
        let mut stage = Self {
            traces: BTreeMap::new(),
            tuis: BTreeMap::new(),
            servers: BTreeMap::new(),
            background: Vec::new(),
            lab,
            settings: settings.clone(),
            iptables: scenario.script.iptables.clone(),
            snapshots: Vec::new(),
            before,
            counters: BTreeMap::new(),
            scenario_dir: scenario.dir.clone(),
            problems: Vec::new(),
            measures: Vec::new(),
            serial: 0,
        };
        for (role, file) in &scenario.script.rulesets {
            stage.load_ruleset(role, file)?;
        }
        let roles: Vec<String> = stage.lab.namespaces.keys().cloned().collect();
        for role in roles {
            let now = stage.read_counters(&role)?;
            stage.counters.insert(role, now);
        }
        Ok(stage)
    }

    /// `nft -f FILE` in the namespace of `role`.
    pub(super) fn load_ruleset(&mut self, role: &str, file: &str) -> Result<()> {
        let path = self.scenario_dir.join(file);
        let path = path.to_str().with_context(|| format!("{} is no text", path.display()))?.to_owned();
        self.change_ruleset(role, |lab| lab.output(Some(role), "nft", &["-f", &path]).map(drop))
    }

    /// Does something that may change the ruleset of `role`, and notes what is in force after it.
    pub(super) fn change_ruleset(
        &mut self,
        role: &str,
        change: impl FnOnce(&Lab) -> Result<()>,
    ) -> Result<()> {
        let begun_ns = now_ns();
        change(&self.lab)?;
        let listing = self.lab.output(Some(role), "nft", &["-a", "-s", "-t", "list", "ruleset"])?;
        let mut rules = listing::rules(&listing);
        for (family, program) in xtables::SAVERS {
            if self.iptables.iter().any(|table| table.split(' ').next() == Some(family)) {
                let saved = self.lab.output(Some(role), program, &[])?;
                xtables::retell_rules(&mut rules, &self.iptables, family, &saved)?;
            }
        }
        self.snapshots.push(Snapshot {
            inum: self.lab.namespace(role)?.inum,
            begun_ns,
            ended_ns: now_ns(),
            rules: rules.into_iter().collect(),
        });
        Ok(())
    }

    /// Counters of a namespace: of its protocols, and of conntrack and queues where those are in use.
    pub(super) fn read_counters(&self, role: &str) -> Result<BTreeMap<String, u64>> {
        self.lab.namespace(role)?.inside(|| {
            let read = |name: &str| {
                std::fs::read_to_string(format!("/proc/thread-self/net/{name}"))
                    .with_context(|| format!("the kernel shows no /proc/net/{name}"))
            };
            let mut found = counters(&[&read("snmp")?, &read("netstat")?], &read("snmp6")?);
            found.extend(conntrack_counters(&read("stat/nf_conntrack").unwrap_or_default()));
            found.extend(queue_counters(&read("netfilter/nfnetlink_queue").unwrap_or_default()));
            Ok(found)
        })
    }

    /// A file name that no other process of this scenario has.
    pub(super) fn unique(&mut self, name: &str) -> String {
        self.serial += 1;
        format!("{:02}-{name}", self.serial)
    }

    /// Something does not hold.
    pub(super) fn problem(&mut self, text: impl Into<String>) {
        self.problems.push(text.into());
    }

    /// Numbers for the report.
    pub(super) fn measure(&mut self, name: &str, values: BTreeMap<String, Value>) {
        self.measures.push((name.to_owned(), values));
    }

    /// What does not hold so far.
    pub(super) fn take_problems(&mut self) -> Vec<String> {
        std::mem::take(&mut self.problems)
    }

    /// The numbers measured so far.
    pub(super) fn take_measures(&mut self) -> Vec<(String, BTreeMap<String, Value>)> {
        std::mem::take(&mut self.measures)
    }

    /// Values of `${…}` in arguments and patterns.
    pub(super) fn lookup(&self, name: &str) -> Option<Value> {
        if let Some(role) = name.strip_prefix("ns.") {
            return self.lab.namespaces.get(role).map(|ns| Value::from(ns.name.clone()));
        }
        if let Some(role) = name.strip_prefix("inum.") {
            return self.lab.namespaces.get(role).map(|ns| Value::from(ns.inum));
        }
        if let Some(server) = name.strip_prefix("pid.") {
            return self.servers.get(server).map(|server| Value::from(server.id().to_string()));
        }
        match name {
            "dir" => Some(Value::from(self.lab.dir.display().to_string())),
            "nattrace" => Some(Value::from(self.settings.nattrace.display().to_string())),
            _ => None,
        }
    }

    /// Ends everything, and says what would not go.
    pub(super) fn tear_down(self) -> Vec<String> {
        let mark = self.lab.mark.clone();
        let names: Vec<String> = self.lab.namespaces.values().map(|ns| ns.name.clone()).collect();
        drop(self);
        // A killed process group needs a moment; whoever is there after that does not want to go.
        let mut left = leftovers::processes(&mark);
        for _ in 0..100 {
            if left.is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
            left = leftovers::processes(&mark);
        }
        let mut found: Vec<String> =
            left.into_iter().map(|process| format!("a process outlived the scenario: {process}")).collect();
        let present = crate::lab::netns::names();
        for name in names.into_iter().filter(|name| present.contains(name)) {
            found.push(format!("a namespace outlived the scenario: {name}"));
        }
        found
    }
}

/// Nanoseconds since the epoch.
fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// `Udp: InDatagrams NoPorts …` over `Udp: 1 2 …`, and `Udp6NoPorts 2`.
fn counters(tables: &[&str], snmp6: &str) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    let lines: Vec<&str> = tables.iter().flat_map(|table| table.lines()).collect();
    for pair in lines.chunks(2) {
        let [names, values] = pair else { continue };
        let (Some((group, names)), Some((_, values))) = (names.split_once(": "), values.split_once(": "))
        else {
            continue;
        };
        for (name, value) in names.split_whitespace().zip(values.split_whitespace()) {
            // A few are negative (Tcp MaxConn); none that a scenario asks for.
            found.insert(format!("{group}{name}"), value.parse().unwrap_or_default());
        }
    }
    for line in snmp6.lines() {
        if let Some((name, value)) = line.split_once(char::is_whitespace) {
            found.insert(name.to_owned(), value.trim().parse().unwrap_or_default());
        }
    }
    found
}

/// Names over a line of hexadecimal numbers for each processor: `conntrack clashres` and so on.
fn conntrack_counters(stat: &str) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    let mut lines = stat.lines();
    let names: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
    for line in lines {
        for (name, value) in names.iter().zip(line.split_whitespace()) {
            let value = u64::from_str_radix(value, 16).unwrap_or_default();
            *found.entry(format!("conntrack {name}")).or_default() += value;
        }
    }
    found
}

/// A line for each queue, its number first (`seq_show`, net/netfilter/nfnetlink_queue.c, v6.12): `queue 7 queue_dropped`
/// for what found no room, `queue 7 user_dropped` for what its reader was not told in time.
fn queue_counters(queues: &str) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for line in queues.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (Some(number), Some(queue), Some(user)) = (fields.first(), fields.get(5), fields.get(6)) else {
            continue;
        };
        for (name, value) in [("queue_dropped", queue), ("user_dropped", user)] {
            found.insert(format!("queue {number} {name}"), value.parse().unwrap_or_default());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_conntrack_and_queues_are_read() {
        let found = conntrack_counters(
            "entries  clashres found new\n00000005  0000000a 00000000 00000001\n00000005  00000001 00000000 00000002\n",
        );
        assert_eq!(found.get("conntrack clashres"), Some(&11));
        let found = queue_counters("    7   1234     1 2  65531     3     4       17  1\n");
        assert_eq!(found.get("queue 7 queue_dropped"), Some(&3));
        assert_eq!(found.get("queue 7 user_dropped"), Some(&4));
    }

    #[test]
    fn kernel_counters_are_read() {
        let found = counters(
            &[
                "Ip: Forwarding ForwDatagrams\nIp: 1 42\nUdp: InDatagrams NoPorts\nUdp: 7 3\n",
                "TcpExt: ListenDrops\nTcpExt: 2\n",
            ],
            "Ip6InReceives                   \t3\nUdp6NoPorts                      \t5\n",
        );
        assert_eq!(found.get("IpForwDatagrams"), Some(&42));
        assert_eq!(found.get("UdpNoPorts"), Some(&3));
        assert_eq!(found.get("Udp6NoPorts"), Some(&5));
        assert_eq!(found.get("TcpExtListenDrops"), Some(&2));
        assert_eq!(found.len(), 7);
    }
}
