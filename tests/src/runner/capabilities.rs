//! What `nattrace check` says against what the kernel is known to have.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;

use super::stage::Stage;
use crate::lab::kernel;
use crate::oracle::schema;
use crate::scenario::Mode;

impl Stage {
    /// Compares the JSON lines that an ended `nattrace check` wrote, as root, with what must be.
    pub(super) fn capabilities(&mut self, name: &str) -> Result<()> {
        let trace = self.traces.get(name).with_context(|| format!("no trace is called {name}"))?;
        let results = trace.results()?;
        let told = states(&results)?;
        let lines = results.lines().filter_map(|line| serde_json::from_str(line).ok());
        for complaint in lines.filter_map(|line| schema::complaint(&line)).collect::<Vec<_>>() {
            self.problem(format!("`nattrace check`: {complaint}"));
        }
        let probes = self.settings.mode == Mode::Full;
        let tables = kernel::has_owner_tables();
        for (capability, is_there) in [
            ("btf", true),
            ("probes", probes),
            ("tracepoints", true),
            ("drop-reasons", kernel::has_drop_reasons()),
            ("symbols", true),
            ("nft", true),
            ("trace-table", tables),
            // Where there is no table, a probe reads the rules in all namespaces.
            ("crossing", tables || probes),
            ("rule-text", true),
            ("legacy-rules", tables && probes),
            ("conntrack", true),
        ] {
            let expected = if is_there { "on" } else { "off" };
            let came = told.get(capability).map_or("nothing", String::as_str);
            if came != expected {
                self.problem(format!(
                    "`nattrace check` says {came} of {capability}, which is {expected} here"
                ));
            }
        }
        if let Some(missing) = told.get("probe") {
            self.problem(format!("a probe is {missing} which all kernels in these tests have: {told:?}"));
        }
        Ok(())
    }
}

/// Capability to state. Each must say what it costs when it is missing, and why it is.
fn states(lines: &str) -> Result<BTreeMap<String, String>> {
    let mut states = BTreeMap::new();
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line).with_context(|| format!("no JSON: {line}"))?;
        let word = |key: &str| line[key].as_str().map(str::to_owned).filter(|word| !word.is_empty());
        let (Some(name), Some(state), Some(_)) = (word("name"), word("state"), word("cost")) else {
            anyhow::bail!("a capability without name, state or cost: {line}");
        };
        if state != "on" && word("reason").is_none() {
            anyhow::bail!("no reason why {name} is missing: {line}");
        }
        states.insert(name, state);
    }
    Ok(states)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_has_a_reason() {
        let line = |state: &str, reason: &str| {
            format!("{{\"name\":\"nft\",\"state\":\"{state}\",\"reason\":{reason},\"cost\":\"no rules\"}}\n")
        };
        assert_eq!(states(&line("off", "\"why\"")).expect("a capability")["nft"], "off");
        assert!(states(&line("off", "null")).is_err());
        assert!(states(&line("on", "null")).is_ok());
        assert!(states("nonsense").is_err());
    }
}
