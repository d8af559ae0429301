//! The laboratory of one scenario: its namespaces, its processes, its files. Dropping it removes all of them.

pub(crate) mod cgroup;
pub(crate) mod kernel;
pub(crate) mod netns;
pub(crate) mod process;
pub(crate) mod tmux;
pub(crate) mod topology;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use netns::Namespace;

/// The variable that marks every process of a laboratory, so that none can hide after the scenario.
pub(crate) const MARK: &str = "NATTRACE_SCENARIO";

/// Counts the laboratories of this process: their namespaces need different names.
static SERIAL: AtomicU32 = AtomicU32::new(0);

/// When waiting must stop.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// The scenario's own deadline.
    pub(crate) deadline: Instant,
    /// Set by Ctrl-C and SIGTERM.
    pub(crate) interrupted: Arc<AtomicBool>,
    /// How much longer everything may take here than on an idle machine: emulated guests are slow.
    pub(crate) patience: f64,
}

/// What Ctrl-C, SIGTERM and SIGHUP set from here on, instead of ending the program.
pub(crate) fn heed_signals() -> Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted)).context("signals cannot be caught")?;
    }
    Ok(interrupted)
}

/// Returned (as the root cause) when the runner was asked to stop.
#[derive(Debug)]
pub(crate) struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

impl Limits {
    /// An error once the scenario must stop.
    pub(crate) fn check(&self) -> Result<()> {
        if self.interrupted.load(Ordering::Relaxed) {
            return Err(Interrupted.into());
        }
        if Instant::now() > self.deadline {
            bail!("the scenario's time is over");
        }
        Ok(())
    }

    /// A duration stretched by the patience asked for.
    pub(crate) fn scaled(&self, duration: Duration) -> Duration {
        duration.mul_f64(self.patience)
    }
}

/// Namespaces by role, and where files go.
#[derive(Debug)]
pub(crate) struct Lab {
    /// `client`, `router`, … to namespaces.
    pub(crate) namespaces: BTreeMap<String, Namespace>,
    /// The directory of all outputs of the scenario.
    pub(crate) dir: PathBuf,
    /// When waiting must stop.
    pub(crate) limits: Limits,
    /// The value of [`MARK`] in this laboratory's processes.
    pub(crate) mark: String,
    mounts: Vec<PathBuf>,
    /// How the names of the namespaces begin.
    prefix: String,
}

impl Lab {
    /// An empty laboratory with its files in `dir`, for a scenario.
    pub(crate) fn new(dir: PathBuf, limits: Limits) -> Result<Self> {
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        Self::called(&format!("{}{}-{serial}", netns::PREFIXES[0], std::process::id()), dir, limits)
    }

    /// The one whose names people will read.
    pub(crate) fn for_demo(dir: PathBuf, limits: Limits) -> Result<Self> {
        Self::called(&format!("{}{}", netns::PREFIXES[1], std::process::id()), dir, limits)
    }

    fn called(mark: &str, dir: PathBuf, limits: Limits) -> Result<Self> {
        std::fs::create_dir_all(&dir).with_context(|| format!("{} cannot be made", dir.display()))?;
        let prefix = format!("{mark}-");
        Ok(Self {
            namespaces: BTreeMap::new(),
            dir,
            limits,
            mark: mark.to_owned(),
            mounts: Vec::new(),
            prefix,
        })
    }

    /// Makes the namespace of `role`.
    pub(crate) fn add(&mut self, role: &str) -> Result<()> {
        let namespace = Namespace::create(format!("{}{role}", self.prefix))?;
        self.namespaces.insert(role.to_owned(), namespace);
        Ok(())
    }

    /// The namespace of `role`.
    pub(crate) fn namespace(&self, role: &str) -> Result<&Namespace> {
        self.namespaces.get(role).with_context(|| {
            let known: Vec<&str> = self.namespaces.keys().map(String::as_str).collect();
            format!("this topology has no `{role}` (it has {})", known.join(", "))
        })
    }

    /// A command to run in the namespace of `role`, or where the runner is.
    pub(crate) fn command(&self, role: Option<&str>, program: &str) -> Result<Command> {
        let name = role.map(|role| self.namespace(role).map(|ns| ns.name.as_str())).transpose()?;
        let mut command = netns::command_in(name, program);
        command.env(MARK, &self.mark);
        Ok(command)
    }

    /// One of this program's own traffic generators, in the namespace of `role`.
    pub(crate) fn traffic(&self, role: &str, args: &[String]) -> Result<Command> {
        let mut command = self.command(Some(role), "/proc/self/exe")?;
        command.arg("traffic").args(args);
        Ok(command)
    }

    /// Runs a short command in the namespace of `role` and gives its standard output.
    pub(crate) fn output(&self, role: Option<&str>, program: &str, args: &[&str]) -> Result<String> {
        self.output_with_input(role, program, args, "")
    }

    /// As [`Self::output`], with something on standard input.
    pub(crate) fn output_with_input(
        &self,
        role: Option<&str>,
        program: &str,
        args: &[&str],
        input: &str,
    ) -> Result<String> {
        let mut command = self.command(role, program)?;
        command.args(args);
        process::output_of(command, input)
    }

    /// Mounts a file system of `kib` KiB at `path`, unmounted with the laboratory.
    pub(crate) fn small_disk(&mut self, path: &Path, kib: u32) -> Result<()> {
        std::fs::create_dir_all(path).with_context(|| format!("{} cannot be made", path.display()))?;
        let size = std::ffi::CString::new(format!("size={kib}k"))?;
        rustix::mount::mount(
            "tmpfs",
            path,
            "tmpfs",
            rustix::mount::MountFlags::empty(),
            Some(size.as_c_str()),
        )
        .with_context(|| format!("no file system can be mounted at {}", path.display()))?;
        self.mounts.push(path.to_owned());
        Ok(())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for path in &self.mounts {
            if let Err(error) = rustix::mount::unmount(path, rustix::mount::UnmountFlags::DETACH) {
                eprintln!("scenarios: {} cannot be unmounted: {error}", path.display());
            }
        }
    }
}
