//! Network namespaces: made, entered and removed by the runner, named so that leftovers can be told apart.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Where `ip netns` keeps its names.
const NAMES: &str = "/run/netns";

/// How names of this program's namespaces begin, of scenarios and of the demonstration; the process id of
/// their maker follows, so that leftovers of a killed one can be told from those in use.
pub(crate) const PREFIXES: [&str; 2] = ["ntt", "demo"];

/// A namespace that exists as long as this value.
#[derive(Debug)]
pub(crate) struct Namespace {
    /// The name under `/run/netns`.
    pub(crate) name: String,
    /// The inode number of the namespace.
    pub(crate) inum: u64,
}

impl Namespace {
    /// Makes the namespace `name`.
    pub(crate) fn create(name: String) -> Result<Self> {
        ip(["netns", "add", &name], "")?;
        let inum = std::fs::metadata(path_of(&name))
            .with_context(|| format!("the namespace {name} was made and cannot be looked at"))?
            .ino();
        Ok(Self { name, inum })
    }

    /// Runs `work` on a thread of its own inside the namespace: `/proc/sys` and `/proc/thread-self/net` are
    /// the namespace's there.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    enter(&self.name)?;
                    work()
                })
                .join()
                .unwrap_or_else(|_| bail!("the work inside the namespace {} panicked", self.name))
        })
    }

    /// Writes a sysctl of the namespace, named with slashes below `/proc/sys`.
    pub(crate) fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        self.inside(|| {
            std::fs::write(format!("/proc/sys/{key}"), value)
                .with_context(|| format!("the sysctl {key} refuses {value}"))
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = ip(["netns", "del", &self.name], "") {
            eprintln!("scenarios: {error:#}");
        }
    }
}

/// The file that stands for the namespace `name`.
pub(crate) fn path_of(name: &str) -> PathBuf {
    PathBuf::from(NAMES).join(name)
}

/// Moves the calling thread into the namespace `name`.
pub(crate) fn enter(name: &str) -> Result<()> {
    let file = File::open(path_of(name)).with_context(|| format!("no network namespace {name}"))?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
        .with_context(|| format!("the kernel refuses to enter the network namespace {name}"))
}

/// A command that will run `program` inside the namespace, or in the present one. It goes through
/// this very program's `enter`, so that only the child changes its namespace and dies with the runner.
pub(crate) fn command_in(namespace: Option<&str>, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg("enter").arg(namespace.unwrap_or("-")).arg("--").arg(program);
    command
}

/// Runs `ip ARGS` with `input` on its standard input (for `-batch -`).
pub(crate) fn ip<I, S>(args: I, input: &str) -> Result<String>
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let mut command = Command::new("ip");
    command.args(args);
    super::process::output_of(command, input)
}

/// The names of this machine's namespaces.
pub(crate) fn names() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(NAMES) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// Removes namespaces of runners that were killed before they could do it themselves.
pub(crate) fn sweep() {
    for name in names() {
        let rest = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix));
        let owner = rest.and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if owner.is_some_and(|pid| !PathBuf::from(format!("/proc/{pid}")).exists())
            && let Err(error) = ip(["netns", "del", &name], "")
        {
            eprintln!("scenarios: {error:#}");
        }
    }
}
