//! Which capabilities a running nattrace has, as the kernel says (`/proc/PID/task/TID/status`): each thread has its own.

use std::collections::BTreeSet;
use std::fs::read_to_string;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::stage::Stage;
use crate::scenario::Privileges;

/// Capabilities that scenarios speak of, by number (include/uapi/linux/capability.h), named as setpriv(1) does.
const NAMES: [(&str, u32); 7] = [
    ("net_admin", 12),
    ("net_raw", 13),
    ("sys_ptrace", 19),
    ("sys_admin", 21),
    ("syslog", 34),
    ("perfmon", 38),
    ("bpf", 39),
];

impl Stage {
    /// Compares what each thread of a running trace may do with what it must have, and may.
    pub(super) fn privileges(&mut self, wanted: &Privileges) -> Result<()> {
        let trace =
            self.traces.get(&wanted.trace).with_context(|| format!("no trace is called {}", wanted.trace))?;
        let pid = running(trace.process.id(), &self.settings.nattrace)?;
        let least = bits(&wanted.least)?;
        let all = least | bits(&wanted.most)?;
        // A thread has its name, and has let go, when it first runs.
        let mut found = Vec::new();
        let limits = self.lab.limits.clone();
        limits.until(Duration::from_secs(3), || {
            found = complaints(pid, least, all, wanted)?;
            Ok(found.is_empty().then_some(()))
        })?;
        for problem in found {
            self.problem(problem);
        }
        Ok(())
    }
}

/// What each thread has too much, or too little of.
fn complaints(pid: u32, least: u64, all: u64, wanted: &Privileges) -> Result<Vec<String>> {
    let mut unseen: BTreeSet<&str> = wanted.without.iter().map(String::as_str).collect();
    let mut found = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
        let status = read_to_string(task.path().join("status")).unwrap_or_default();
        let name = field(&status, "Name").unwrap_or_default();
        let is_main = task.file_name().to_str() == Some(pid.to_string().as_str());
        let bare = unseen.remove(name) || wanted.without.iter().any(|without| without == name);
        let (least, most) = match (is_main, bare) {
            (_, true) => (0, 0),
            (true, _) => (least, all),
            (false, false) => (0, all),
        };
        let mut sets = vec![("CapPrm", most), ("CapEff", most), ("CapInh", most), ("CapAmb", most)];
        // Whoever cannot take anything out of it any more cannot have anything of it, either (`no_new_privs`).
        sets.extend(wanted.bounding.then_some(("CapBnd", all)));
        for (set, most) in sets {
            let Some(held) = field(&status, set).and_then(|text| u64::from_str_radix(text, 16).ok()) else {
                // It ended meanwhile.
                continue;
            };
            if held & !most != 0 {
                found.push(format!("the thread {name} has too much: {set} {held:#x}, at most {most:#x}"));
            }
            if matches!(set, "CapPrm" | "CapEff") && least & !held != 0 {
                found.push(format!("the thread {name} has too little: {set} {held:#x}, at least {least:#x}"));
            }
        }
        if field(&status, "NoNewPrivs").is_some_and(|value| value != "1") {
            found.push(format!("the thread {name} may gain privileges"));
        }
    }
    found.extend(unseen.into_iter().map(|name| format!("there is no thread {name}")));
    Ok(found)
}

/// nattrace itself, where a program like unshare waits for it.
fn running(pid: u32, program: &Path) -> Result<u32> {
    let mut pid = pid;
    while std::fs::read_link(format!("/proc/{pid}/exe"))? != program {
        let children = read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        let child = children.split_whitespace().next().and_then(|child| child.parse().ok());
        pid = child.with_context(|| format!("no process below {pid} is nattrace"))?;
    }
    Ok(pid)
}

fn bits(names: &[String]) -> Result<u64> {
    names.iter().try_fold(0, |bits, name| match NAMES.iter().find(|(known, _)| known == name) {
        Some((_, number)) => Ok(bits | 1 << number),
        None => bail!("no capability is called {name} here"),
    })
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_by_name() {
        assert_eq!(bits(&["net_admin".to_owned(), "bpf".to_owned()]).expect("names"), 0x80_0000_1000);
        assert!(bits(&["root".to_owned()]).is_err());
        assert_eq!(field("Name:\tx\nCapEff:\t0000000000001000\n", "CapEff"), Some("0000000000001000"));
    }
}
