//! Nothing of nattrace may outlive it, and nothing of a scenario may outlive the scenario.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;

use super::agreement::OWN_TABLE;
use crate::lab::{Lab, MARK};

/// What existed before, to tell what is left after.
#[derive(Debug, Clone)]
pub(crate) struct Before {
    pinned: BTreeSet<String>,
    tables: BTreeSet<String>,
    names: BTreeSet<String>,
}

impl Before {
    /// Looks at the machine.
    pub(crate) fn look(lab: &Lab) -> Self {
        Self {
            pinned: pinned(),
            tables: lab
                .output(None, "nft", &["list", "tables"])
                .map(|text| own_tables(&text))
                .unwrap_or_default(),
            names: crate::lab::netns::names().into_iter().collect(),
        }
    }

    /// Complaints about what an ended nattrace left: tables, pinned objects, named namespaces.
    pub(crate) fn complaints(&self, lab: &Lab) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for role in lab.namespaces.keys() {
            for table in own_tables(&lab.output(Some(role), "nft", &["list", "tables"])?) {
                found.push(format!("nattrace has ended and left in {role}: {table}"));
            }
        }
        let here = own_tables(&lab.output(None, "nft", &["list", "tables"])?);
        for table in here.difference(&self.tables) {
            found.push(format!("nattrace has ended and left where the runner is: {table}"));
        }
        for path in pinned().difference(&self.pinned) {
            found.push(format!("nattrace has ended and left a pinned object: {path}"));
        }
        let names: BTreeSet<String> = crate::lab::netns::names().into_iter().collect();
        for name in names.difference(&self.names).filter(|name| name.contains("nattrace")) {
            found.push(format!("nattrace has ended and left a namespace: {name}"));
        }
        Ok(found)
    }
}

/// What nattrace must not have changed in the kernel, and a look tells exactly.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// Role to its whole ruleset, with handles.
    rulesets: BTreeMap<String, String>,
    /// Role to its network's sysctls.
    sysctls: BTreeMap<String, BTreeMap<String, String>>,
    /// Sysctls of the machine.
    machine: BTreeMap<String, String>,
    /// All BPF programs there are.
    programs: BTreeSet<u32>,
}

/// Sysctls that the kernel changes by itself.
const RESTLESS: [&str; 5] = ["random/", "nf_conntrack_count", "ns_last_pid", "pty/nr", "sched_domain/"];

impl Kernel {
    /// Looks at it.
    pub(crate) fn look(lab: &Lab) -> Result<Self> {
        let mut rulesets = BTreeMap::new();
        let mut of_networks = BTreeMap::new();
        for (role, namespace) in &lab.namespaces {
            rulesets.insert(role.clone(), ruleset(lab, role)?);
            of_networks.insert(role.clone(), namespace.inside(|| Ok(sysctls("/proc/sys/net")))?);
        }
        Ok(Self {
            rulesets,
            sysctls: of_networks,
            machine: sysctls("/proc/sys/kernel"),
            programs: aya::programs::loaded_programs().flatten().map(|program| program.id()).collect(),
        })
    }

    /// Complaints about what is otherwise than it was.
    pub(crate) fn complaints(&self, lab: &Lab) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for (role, namespace) in &lab.namespaces {
            if self.rulesets.get(role) != Some(&ruleset(lab, role)?) {
                found.push(format!("the ruleset of {role} is not what it was"));
            }
            let now = namespace.inside(|| Ok(sysctls("/proc/sys/net")))?;
            let before = self.sysctls.get(role).into_iter().flatten();
            // What a module brings is not changed.
            for (key, value) in before.filter(|(key, value)| now.get(*key).is_some_and(|now| now != *value)) {
                found.push(format!("the sysctl {key} of {role} was {value:?}"));
            }
        }
        Ok(found)
    }

    /// Complaints about the machine, on which nothing else may have happened meanwhile.
    pub(crate) fn machine_complaints(&self) -> Vec<String> {
        let now = sysctls("/proc/sys/kernel");
        let changed = self.machine.iter().filter(|(key, value)| now.get(*key) != Some(value));
        let mut found: Vec<String> =
            changed.map(|(key, value)| format!("the sysctl {key} was {value:?}")).collect();
        for program in aya::programs::loaded_programs().flatten() {
            if !self.programs.contains(&program.id()) {
                found.push(format!("a BPF program is left: {}", String::from_utf8_lossy(program.name())));
            }
        }
        found
    }
}

fn ruleset(lab: &Lab, role: &str) -> Result<String> {
    lab.output(Some(role), "nft", &["-a", "-s", "list", "ruleset"])
}

/// All that can be read below a folder of `/proc/sys`, but for what changes by itself.
fn sysctls(root: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![Path::new(root).to_owned()];
    while let Some(dir) = open.pop() {
        for path in std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()) {
            let key = path.display().to_string();
            if path.is_dir() {
                open.push(path);
            } else if !RESTLESS.iter().any(|part| key.contains(part))
                && let Ok(value) = std::fs::read_to_string(&path)
            {
                found.insert(key, value.trim().to_owned());
            }
        }
    }
    found
}

/// The lines of `nft list tables` that name a table of nattrace's.
fn own_tables(listing: &str) -> BTreeSet<String> {
    listing
        .lines()
        .filter(|line| line.split_whitespace().nth(2).is_some_and(|name| name.starts_with(OWN_TABLE)))
        .map(str::to_owned)
        .collect()
}

/// Pinned BPF objects.
fn pinned() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![Path::new("/sys/fs/bpf").to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push(entry.path());
            }
            found.insert(entry.path().display().to_string());
        }
    }
    found
}

/// The processes (other than zombies) that carry this laboratory's mark.
pub(crate) fn processes(mark: &str) -> Vec<String> {
    let wanted = format!("{MARK}={mark}");
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(environment) = std::fs::read(path.join("environ")) else { continue };
        if environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes()) {
            let command = std::fs::read(path.join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            found.push(format!("{} {}", entry.file_name().to_string_lossy(), command.trim()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_tables_are_told_from_others() {
        let listing = "table inet filter\ntable inet nattrace_4711\ntable ip my_nattrace_\n";
        assert_eq!(own_tables(listing), BTreeSet::from(["table inet nattrace_4711".to_owned()]));
    }

    #[test]
    fn a_marked_process_is_found() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .env(MARK, "unit-test-of-leftovers")
            .spawn()
            .expect("sleep");
        // The environment is the child's own from exec on.
        let found = (0..200).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(5));
            processes("unit-test-of-leftovers").iter().any(|line| line.contains("sleep 60"))
        });
        child.kill().expect("kill");
        child.wait().expect("wait");
        assert!(found);
        assert_eq!(processes("unit-test-of-leftovers"), Vec::<String>::new());
    }
}
