//! How much the verifier had to go through to let nattrace's programs in, against what is recorded for the kernel: it
//! gives up at a million instructions, and every one takes time at the start.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;

use super::stage::Stage;
use crate::lab::kernel;
use crate::usage::programs;

/// A record of one kernel: the name of a trace, and for each of its programs the instructions.
type Record = BTreeMap<String, BTreeMap<String, u64>>;

/// How much more than recorded is too much: 6/5.
const GROWTH: (u64, u64) = (6, 5);

/// How a record is made anew.
const RENEW: &str = "if that is meant, `cargo xtask verifier` records it";

/// Where the running kernel's record is.
pub(super) fn record_of(scenario: &Path) -> PathBuf {
    scenario.join(format!("{}.toml", series()))
}

/// `6.12`
fn series() -> String {
    let (version, patch_level) = kernel::series();
    format!("{version}.{patch_level}")
}

/// Whether what is found is to be recorded instead of compared.
pub(super) fn is_renewed() -> bool {
    std::env::var_os("UPDATE_EXPECTED").is_some()
}

impl Stage {
    /// Compares the programs of a running trace with the record, or records them.
    pub(super) fn verifier(&mut self, name: &str) -> Result<()> {
        let trace = self.traces.get(name).with_context(|| format!("no trace is called {name}"))?;
        let found = verified(trace.process.id())?;
        if found.is_empty() {
            self.problem(format!("{name}: the kernel does not tell what the verifier went through"));
        }
        let file = record_of(&self.scenario_dir);
        let mut record = match std::fs::read_to_string(&file) {
            Ok(text) => {
                toml::from_str::<Record>(&text).with_context(|| format!("{} is no record", file.display()))?
            }
            Err(_) => Record::new(),
        };
        if is_renewed() {
            record.insert(name.to_owned(), found.clone());
            std::fs::write(&file, written(&record))
                .with_context(|| format!("{} cannot be written", file.display()))?;
        } else {
            for problem in complaints(record.get(name).unwrap_or(&BTreeMap::new()), &found) {
                self.problem(format!("{name}: {problem}; {RENEW}"));
            }
        }
        let values = found.into_iter().map(|(program, count)| (program, json!(count))).collect();
        self.measure(&format!("verifier {name}"), values);
        Ok(())
    }
}

/// What the verifier went through for each program of a process. The kernel keeps 15 characters of a name; of
/// several programs with the same, the largest counts.
fn verified(pid: u32) -> Result<BTreeMap<String, u64>> {
    let held = programs::of(pid)?;
    let mut found: BTreeMap<String, u64> = BTreeMap::new();
    for (id, name) in programs::names() {
        if let Some(count) = held.get(&id).and_then(|held| held.verified) {
            let largest = found.entry(name).or_default();
            *largest = count.max(*largest);
        }
    }
    Ok(found)
}

/// What has grown, and what is not recorded. A recorded program that is not there is no complaint: whether some are
/// loaded depends on modules.
fn complaints(recorded: &BTreeMap<String, u64>, found: &BTreeMap<String, u64>) -> Vec<String> {
    let judge = |(program, now): (&String, &u64)| match recorded.get(program) {
        Some(then) if now * GROWTH.1 > then * GROWTH.0 => Some(format!(
            "the verifier went through {now} instructions of {program}, {then} when it was recorded"
        )),
        Some(_) => None,
        None => Some(format!("{program}, {now} instructions for the verifier, is not recorded")),
    };
    found.iter().filter_map(judge).collect()
}

/// As TOML.
fn written(record: &Record) -> String {
    let mut text = format!(
        "# Instructions that the verifier of Debian's {} went through, by the scenario's traces and the programs' names\n\
         # (15 characters are kept). Written by `cargo xtask verifier`.\n",
        series()
    );
    for (trace, programs) in record {
        text.extend(["\n[", trace, "]\n"]);
        text.extend(programs.iter().map(|(program, count)| format!("{program} = {count}\n")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(pairs: &[(&str, u64)]) -> BTreeMap<String, u64> {
        pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[test]
    fn what_grew_by_more_than_a_fifth_is_found_and_what_is_new() {
        let recorded = counts(&[("a", 100), ("b", 100), ("gone", 5)]);
        assert_eq!(complaints(&recorded, &counts(&[("a", 120), ("b", 3)])), Vec::<String>::new());
        let found = complaints(&recorded, &counts(&[("a", 121), ("new", 1)]));
        assert_eq!(found.len(), 2);
        assert!(found[0].contains("121") && found[1].contains("new"));
    }

    #[test]
    fn what_is_written_is_read() {
        let record = Record::from([("port".to_owned(), counts(&[("hook_leave", 7), ("__nft", 8)]))]);
        assert_eq!(toml::from_str::<Record>(&written(&record)).expect("a record"), record);
    }
}
