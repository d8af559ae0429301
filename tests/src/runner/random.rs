//! Random rules against random packets: what the evaluator says of each pair, and what the kernel did.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::stage::Stage;
use crate::oracle::evaluator;
use crate::traffic::random::{self, SETS};

/// The chain that holds the rules.
const CHAIN: &str = "dice";
const IPTABLES_CHAIN: &str = "FORWARD";
/// What the first chain is called in a recording that was anonymized: there is no other.
const OTHERS_CHAIN: &str = "chain1";
/// How often nft may refuse some of the rules: it names ten at a time.
const ATTEMPTS: usize = 40;
/// Complaints that are shown.
const SHOWN: usize = 20;

impl Stage {
    /// Loads rules of a seed. Those that contradict themselves nft refuses; they are left out.
    pub(super) fn random_rules(&mut self, at: &str, seed: u64, count: usize) -> Result<()> {
        let mut rules = random::rules(seed, count);
        let file = self.lab.dir.join("random.nft");
        let name = file.to_str().context("the path is no UTF-8")?.to_owned();
        for _ in 0..ATTEMPTS {
            let begin = beginning();
            let first = begin.lines().count() + 1;
            std::fs::write(&file, format!("{begin}{}\n}}\n}}\n", rules.join("\n")))?;
            let Err(refused) =
                self.change_ruleset(at, |lab| lab.output(Some(at), "nft", &["-f", &name]).map(drop))
            else {
                return Ok(());
            };
            let bad = refused_lines(&format!("{refused:#}"), &name);
            if bad.iter().all(|line| *line < first) {
                return Err(refused);
            }
            let mut line = first;
            rules.retain(|_| {
                line += 1;
                !bad.contains(&(line - 1))
            });
        }
        bail!("nft refuses too many rules");
    }

    /// The same by iptables-nft, at its own chain.
    pub(super) fn random_iptables_rules(&mut self, at: &str, seed: u64, count: usize) -> Result<()> {
        let rules = random::iptables_rules(seed, count, IPTABLES_CHAIN).join("\n");
        let script = format!("*filter\n:{IPTABLES_CHAIN} ACCEPT [0:0]\n{rules}\nCOMMIT\n");
        self.change_ruleset(at, |lab| {
            lab.output_with_input(Some(at), "iptables-nft-restore", &[], &script).map(drop)
        })
    }

    /// Sends packets of a seed.
    pub(super) fn random_packets(&mut self, at: &str, device: &str, seed: u64, count: usize) -> Result<()> {
        for packet in random::packets(seed, count) {
            let args = format!("packet --device {device} {packet}");
            self.traffic(at, &args.split_whitespace().map(str::to_owned).collect::<Vec<_>>())?;
        }
        Ok(())
    }

    /// Compares what an ended trace recorded: at least `least` pairs, of which the evaluator may not know `unknown` (a share).
    pub(super) fn evaluate(&mut self, name: &str, least: usize, unknown: f64) -> Result<()> {
        let trace = self.traces.get(name).with_context(|| format!("no trace is called {name}"))?;
        let recording = trace.recording.as_ref().context("nothing was recorded")?;
        let found = evaluator::compare(recording, &[CHAIN, IPTABLES_CHAIN])?;
        let of_others = evaluator::compare(&self.of_others(name)?, &[OTHERS_CHAIN, IPTABLES_CHAIN])?;
        #[expect(clippy::cast_precision_loss, reason = "some ten thousand")]
        let share = found.unknown as f64 / found.pairs.max(1) as f64;
        if found.pairs < least {
            self.problem(format!(
                "{} pairs of rules and packets, at least {least} are to be compared",
                found.pairs
            ));
        }
        if found.matched * 10 < found.pairs {
            self.problem(format!("only {} of {} pairs matched", found.matched, found.pairs));
        }
        if share > unknown {
            self.problem(format!(
                "of {} of {} pairs the evaluator knows nothing",
                found.unknown, found.pairs
            ));
        }
        // Which elements sets have is known by the names they had.
        let told = |found: &evaluator::Comparison| (found.pairs, found.matched, found.complaints.len());
        if told(&of_others) != told(&found) {
            self.problem(format!(
                "with other addresses and names the evaluator says something else: {:?} became {:?}, as in {:?}",
                told(&found),
                told(&of_others),
                of_others.complaints.first()
            ));
        }
        for complaint in found.complaints.iter().take(SHOWN) {
            self.problem(complaint.clone());
        }
        if found.complaints.len() > SHOWN {
            self.problem(format!("and {} more", found.complaints.len() - SHOWN));
        }
        let values = [
            ("pairs", json!(found.pairs)),
            ("matched", json!(found.matched)),
            ("unknown", json!(found.unknown)),
            ("wrong", json!(found.complaints.len())),
        ];
        self.measure("evaluator", values.map(|(key, value)| (key.to_owned(), value)).into());
        Ok(())
    }
}

/// The table up to its rules.
fn beginning() -> String {
    let set = |(name, kind, elements): (&str, &str, &[&str])| {
        format!("set {name} {{ type {kind}; elements = {{ {} }}; }}\n", elements.join(", "))
    };
    let sets: String = SETS.map(set).concat();
    format!(
        "table inet dice {{\n{sets}chain {CHAIN} {{\ntype filter hook forward priority 0; policy accept;\n"
    )
}

/// `FILE:7:1-12: Error: …`
fn refused_lines(said: &str, file: &str) -> BTreeSet<usize> {
    let number =
        |line: &str| line.trim().strip_prefix(file)?.strip_prefix(':')?.split(':').next()?.parse().ok();
    // The message has the first line of nft's behind its own words.
    said.lines().flat_map(|line| line.split(": ")).filter_map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nft_names_the_lines_that_it_refuses() {
        let said =
            "`nft` failed (exit code 1): /x.nft:12:1-5: Error: conflicting\n  rule\n/x.nft:14:1-9: Error: no";
        assert_eq!(refused_lines(said, "/x.nft"), BTreeSet::from([12, 14]));
        assert!(refused_lines("nothing", "/x.nft").is_empty());
    }
}
