//! The fate of packets with nattrace and without: what arrived, what was dropped and what the kernel counted is the same.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use serde_json::json;

use super::stage::Stage;
use super::traced::{READY, READY_WITHIN};
use crate::lab::process::{Ended, Process, read_lossy, tail};
use crate::oracle::{contract, counters};
use crate::scenario::{Fate, Via};

/// What it takes until the last packet of a play has come to its end.
const SETTLE: Duration = Duration::from_millis(500);

/// Longer than a run takes to end.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

/// Counters, each with whose it is, and by how much they rose.
type Rises = BTreeMap<String, u64>;

/// Counters that depend on when something happens, even where the same happens: how each begins, and why.
const BY_TIME: [(&str, &str); 4] = [
    ("conntrack entries", "how many there are now, not how many there were"),
    ("conntrack search_restart", "searches that met a change of the table's chains by another processor"),
    ("TcpExtDelayedACK", "whether an answer or a timer carries the acknowledgement"),
    ("TcpExtTW", "connections whose waiting time was over, of earlier plays, too"),
];

impl Stage {
    /// Plays without and with nattrace, in turn, each time with rulesets and connections anew, and compares.
    pub(super) fn fate(&mut self, fate: &Fate) -> Result<()> {
        let (mut without, mut with) = (Vec::new(), Vec::new());
        for _ in 0..fate.plays {
            without.push(self.play(fate, false)?);
            with.push(self.play(fate, true)?);
        }
        let found = complaints(&without, &with);
        let moved = without.iter().flatten().filter(|(_, rise)| **rise > 0).map(|(name, _)| name);
        let moved: BTreeSet<&String> = moved.collect();
        if moved.is_empty() {
            self.problem("no counter rose: nothing was compared");
        }
        let values = BTreeMap::from([
            ("plays".to_owned(), json!(fate.plays)),
            ("counters".to_owned(), json!(without.first().map_or(0, BTreeMap::len))),
            ("counters_that_rose".to_owned(), json!(moved.len())),
        ]);
        self.measure("fate", values);
        for problem in found {
            self.problem(problem);
        }
        Ok(())
    }

    /// Once; how much each counter rose.
    fn play(&mut self, fate: &Fate, traced: bool) -> Result<Rises> {
        for (role, file) in &fate.rulesets {
            self.lab.output(Some(role), "nft", &["flush", "ruleset"])?;
            // Where conntrack is not in use there is nothing to flush.
            let _ = self.lab.output(Some(role), "conntrack", &["-F"]);
            self.load_ruleset(role, file)?;
        }
        let running = if traced { Some(self.start_beside(fate)?) } else { None };
        let before = self.count_all()?;
        for action in &fate.play {
            self.perform(action)?;
        }
        self.lab.limits.sleep(SETTLE)?;
        let after = self.count_all()?;
        if let Some(mut process) = running {
            process.signal(Signal::INT)?;
            let ended = process.wait(ENDS_WITHIN, &self.lab.limits)?;
            let told = contract::read(&read_lossy(&process.stdout)?, false).journeys.len();
            if !matches!(ended, Ended::Code(0 | 1)) || told < fate.journeys {
                let said = tail(&read_lossy(&process.stderr)?);
                bail!("nattrace ended ({ended}) with {told} journeys of {}: {said}", fate.journeys);
            }
        }
        let rise = |(name, now): (String, u64)| {
            let risen = now.saturating_sub(before.get(&name).copied().unwrap_or_default());
            (name, risen)
        };
        Ok(after.into_iter().map(rise).collect())
    }

    fn start_beside(&mut self, fate: &Fate) -> Result<Process> {
        let name = self.unique("beside");
        let args = self.filled(&fate.args)?;
        let mut command = self.nattrace(Some(&fate.at), Via::Setns)?;
        command.args(args).args(["--format", "json"]);
        let mut process = Process::spawn(command, &self.lab.dir, &name)?;
        let stderr = process.stderr.clone();
        process.wait_for_line(&stderr, READY, READY_WITHIN, &self.lab.limits)?;
        Ok(process)
    }

    /// Of all namespaces: protocols, conntrack, queues, devices, rules. Of all servers: what they saw.
    fn count_all(&self) -> Result<Rises> {
        let mut all = Rises::new();
        for (role, namespace) in &self.lab.namespaces {
            let mut add = |name: String, value: u64| {
                all.insert(format!("{role}: {name}"), value);
            };
            for (name, value) in self.read_counters(role)? {
                add(name, value);
            }
            let devices = namespace
                .inside(|| std::fs::read_to_string("/proc/thread-self/net/dev").context("no devices"))?;
            for (name, value) in device_counters(&devices) {
                add(name, value);
            }
            let listing = self.lab.output(Some(role), "nft", &["-a", "list", "ruleset"])?;
            for ((place, handle), packets) in counters::counts(&listing) {
                add(format!("rule {place} handle {handle}"), packets);
            }
        }
        for server in self.servers.keys() {
            let events = u64::try_from(self.server_events(server)?.len())?;
            all.insert(format!("events of {server}"), events);
        }
        Ok(all)
    }
}

/// What rose otherwise with nattrace than without; and what rose otherwise without it, which then proves nothing.
fn complaints(without: &[Rises], with: &[Rises]) -> Vec<String> {
    let names: BTreeSet<&String> = without.iter().chain(with).flat_map(BTreeMap::keys).collect();
    let rises = |plays: &[Rises], name: &String| -> BTreeSet<u64> {
        plays.iter().map(|rises| rises.get(name).copied().unwrap_or_default()).collect()
    };
    let mut found = Vec::new();
    for name in names {
        let counter = name.split_once(": ").map_or(name.as_str(), |(_, counter)| counter);
        if BY_TIME.iter().any(|(by_time, _)| counter.starts_with(by_time)) {
            continue;
        }
        let (alone, beside) = (rises(without, name), rises(with, name));
        if alone.len() > 1 {
            found.push(format!("{name} rises by {alone:?} without nattrace, each time the same was played"));
        } else if alone != beside {
            found.push(format!("{name} rises by {alone:?} without nattrace, by {beside:?} with it"));
        }
    }
    found
}

/// The lines of `/proc/net/dev`: `eth0: bytes packets errs drop …`, received and then sent.
fn device_counters(text: &str) -> Vec<(String, u64)> {
    const COLUMNS: [(usize, &str); 8] = [
        (0, "bytes in"),
        (1, "packets in"),
        (2, "errors in"),
        (3, "drops in"),
        (8, "bytes out"),
        (9, "packets out"),
        (10, "errors out"),
        (11, "drops out"),
    ];
    let mut found = Vec::new();
    for line in text.lines() {
        let Some((device, values)) = line.split_once(':') else { continue };
        let values: Vec<u64> = values.split_whitespace().filter_map(|value| value.parse().ok()).collect();
        for (column, what) in COLUMNS {
            if let Some(value) = values.get(column) {
                found.push((format!("{} {what}", device.trim()), *value));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_told() {
        let rises = |counters: &[(&str, u64)]| -> Rises {
            counters.iter().map(|(name, rise)| ((*name).to_owned(), *rise)).collect()
        };
        let same = rises(&[("router: UdpNoPorts", 3)]);
        assert_eq!(
            complaints(&[same.clone(), same.clone()], std::slice::from_ref(&same)),
            Vec::<String>::new()
        );
        assert_eq!(complaints(std::slice::from_ref(&same), &[rises(&[("router: UdpNoPorts", 4)])]).len(), 1);
        assert_eq!(complaints(std::slice::from_ref(&same), &[rises(&[])]).len(), 1);
        assert_eq!(complaints(&[same.clone(), rises(&[])], &[same]).len(), 1, "it proves nothing");
        let entries = |rise| rises(&[("router: conntrack entries", rise)]);
        assert_eq!(complaints(&[entries(1)], &[entries(2)]), Vec::<String>::new());
    }

    #[test]
    fn devices_are_read() {
        let text = "Inter-|   Receive\n face |bytes\n  eth0: 10 1 0 0 0 0 0 0 20 2 0 3 0 0 0 0\n";
        let found = device_counters(text);
        assert!(found.contains(&("eth0 bytes in".to_owned(), 10)));
        assert!(found.contains(&("eth0 drops out".to_owned(), 3)));
    }
}
