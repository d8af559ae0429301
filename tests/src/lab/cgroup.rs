//! Control groups that make memory or threads scarce for one process.

use std::fs::{create_dir, read_to_string, remove_dir, write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

/// Where the hierarchies are: of all controllers, or of one each.
const ROOT: &str = "/sys/fs/cgroup";

/// What is scarce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scarce {
    /// Bytes of memory.
    Memory(u64),
    /// Threads and processes.
    Tasks(u32),
}

/// A group that exists as long as this value.
#[derive(Debug)]
pub(crate) struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes a group; `None` where this machine does not let us.
    pub(crate) fn create(name: &str, scarce: Scarce) -> Option<Self> {
        let (controller, limits) = match scarce {
            Scarce::Memory(bytes) => {
                ("memory", vec![("memory.max", bytes.to_string()), ("memory.swap.max", "0".into())])
            }
            Scarce::Tasks(most) => ("pids", vec![("pids.max", most.to_string())]),
        };
        let root = Path::new(ROOT);
        let has_all =
            read_to_string(root.join("cgroup.controllers")).is_ok_and(|all| all.contains(controller));
        let (parent, limits) = if has_all {
            write(root.join("cgroup.subtree_control"), format!("+{controller}")).ok()?;
            (root.to_owned(), limits)
        } else {
            // Version 1 calls one of the limits otherwise, and has no swap here.
            let first = limits.into_iter().take(1);
            let renamed = first.map(|(file, value)| {
                (if file == "memory.max" { "memory.limit_in_bytes" } else { file }, value)
            });
            (root.join(controller), renamed.collect())
        };
        let path = parent.join(name);
        create_dir(&path).ok()?;
        let group = Self { path };
        for (index, (file, value)) in limits.iter().enumerate() {
            let written = write(group.path.join(file), value);
            // Without swap there is nothing to limit.
            if index == 0 && written.is_err() {
                return None;
            }
        }
        Some(group)
    }

    /// A shell script that puts itself into the group and becomes its arguments.
    pub(crate) fn enter(&self) -> String {
        format!("echo $$ >{}/cgroup.procs && exec \"$0\" \"$@\"", self.path.display())
    }

    /// How often the limit killed or refused, as far as the kernel counts it.
    pub(crate) fn hits(&self) -> u64 {
        let count = |file: &str, name: &str| {
            let text = read_to_string(self.path.join(file)).ok()?;
            text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok())
        };
        [("memory.events", "oom_kill "), ("memory.oom_control", "oom_kill "), ("pids.events", "max ")]
            .iter()
            .filter_map(|(file, name)| count(file, name))
            .sum()
    }

    /// Removes it. Processes that have just ended may be in it for a moment yet.
    pub(crate) fn remove(self) -> Result<()> {
        for _ in 0..200 {
            if remove_dir(&self.path).is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        remove_dir(&self.path).with_context(|| format!("{} cannot be removed", self.path.display()))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Removed already, nearly always.
        let _ = remove_dir(&self.path);
    }
}
