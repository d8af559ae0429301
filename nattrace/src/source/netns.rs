//! Network namespaces: names, numbers, entering them (`setns(2)`, `network_namespaces(7)`, fs/nsfs.c).
//!
//! A namespace belongs to a thread, not to a process. So whatever must happen in another one happens in a
//! thread made for it and thrown away; no thread that does anything else ever changes its namespace.

#![expect(
    unsafe_code,
    reason = "std has neither setns, unshare nor the ioctl that tells kinds of namespaces"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use nattrace_core::event::NetnsId;
use thiserror::Error;

use super::holder::Holder;

/// The namespace of whichever thread opens it.
const OWN: &str = "/proc/thread-self/ns/net";
/// Where `ip netns` keeps the named ones (iproute2 `NETNS_RUN_DIR`).
const NAMED: &str = "/run/netns";

/// Why a text names no network namespace.
#[derive(Debug, Error)]
pub enum NetnsError {
    /// No such name under `/run/netns`.
    #[error("no network namespace is named \"{name}\"{}", if known.is_empty() { String::new() } else { format!("; there are {}", known.join(", ")) })]
    NoSuchName {
        /// What was asked for.
        name: String,
        /// Names that there are.
        known: Vec<String>,
    },
    /// No such process.
    #[error("no process has the number {0}")]
    NoSuchProcess(u32),
    /// A process that has ended and waits for its parent: it is in no namespace any more.
    #[error("the process {0} has ended already")]
    Ended(u32),
    /// The file is there, and is no network namespace.
    #[error("{0} is not a network namespace")]
    NotANamespace(PathBuf),
    /// Not allowed to look.
    #[error("not allowed to open the network namespace {0}: root can")]
    Permission(PathBuf),
    /// Anything else.
    #[error("cannot open the network namespace {path}: {source}")]
    Io {
        /// What was opened.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// A network namespace. It lives at least as long as this.
#[derive(Debug, Clone)]
pub struct Netns {
    /// Its number: the inode of `/proc/PID/ns/net`.
    pub inum: NetnsId,
    /// What people know it by: its name under `/run/netns`; else the container or pod it is of, the path the user
    /// gave, or its oldest process. `None` for the current one when it is not named.
    pub name: Option<String>,
    file: Arc<File>,
}

impl PartialEq for Netns {
    fn eq(&self, other: &Self) -> bool {
        self.inum == other.inum
    }
}

impl Eq for Netns {}

impl Netns {
    fn open(path: &Path, name: Option<String>) -> Result<Self, NetnsError> {
        let explain = |source: io::Error| match source.kind() {
            io::ErrorKind::PermissionDenied => NetnsError::Permission(path.to_owned()),
            _ => NetnsError::Io { path: path.to_owned(), source },
        };
        // Nonblocking, so that what turns out to be a pipe does not hold us up.
        let file =
            OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(explain)?;
        // SAFETY: this ioctl takes no argument; a file that is no namespace refuses it.
        let kind = unsafe { libc::ioctl(file.as_raw_fd(), libc::NS_GET_NSTYPE) };
        if kind != libc::CLONE_NEWNET {
            return Err(NetnsError::NotANamespace(path.to_owned()));
        }
        let inode = file.metadata().map_err(explain)?.ino();
        let inum = NetnsId::try_from(inode).map_err(|_| NetnsError::NotANamespace(path.to_owned()))?;
        Ok(Self { inum, name, file: Arc::new(file) })
    }

    /// Opens one that may be a mount. A file of a mount keeps it from being unmounted; the namespace can be held
    /// without. Where that is not allowed, it could not be entered either.
    fn open_mounted(path: &Path, name: Option<String>) -> Result<Self, NetnsError> {
        let mounted = Self::open(path, name)?;
        let held = in_thread(|| enter(&mounted.file), || File::open(OWN));
        Ok(match held.and_then(|held| held) {
            Ok(held) => Self { file: Arc::new(held), ..mounted },
            Err(_) => mounted,
        })
    }
}

/// The namespace of this thread.
pub fn current() -> Result<Netns, NetnsError> {
    let mut netns = Netns::open(Path::new(OWN), None)?;
    netns.name = name_of(netns.inum);
    Ok(netns)
}

/// The namespace that a user means by a name under `/run/netns`, the number of a process, or a path.
pub fn resolve(text: &str) -> Result<Netns, NetnsError> {
    if text.contains('/') {
        let mut netns = Netns::open_mounted(Path::new(text), None)?;
        netns.name = name_of(netns.inum)
            .or_else(|| holder_of(netns.inum)?.container)
            .or_else(|| Some(text.to_owned()));
        return Ok(netns);
    }
    match Netns::open_mounted(&Path::new(NAMED).join(text), Some(text.to_owned())) {
        Err(NetnsError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
        found => {
            // "" and the dots are directories, not names.
            if !matches!(text, "" | "." | "..") {
                return found;
            }
        }
    }
    let Ok(process) = text.parse::<u32>() else {
        return Err(NetnsError::NoSuchName { name: text.to_owned(), known: names() });
    };
    match Netns::open(&PathBuf::from(format!("/proc/{process}/ns/net")), None) {
        Err(NetnsError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            let there = Path::new("/proc").join(text).exists();
            Err(if there { NetnsError::Ended(process) } else { NetnsError::NoSuchProcess(process) })
        }
        Err(other) => Err(other),
        Ok(mut netns) => {
            netns.name = name_of(netns.inum).or_else(|| holder_of(netns.inum).map(Holder::name));
            Ok(netns)
        }
    }
}

/// Every namespace that has a name or a process, each once, in the order of their numbers.
///
/// What vanishes meanwhile, or may not be opened, is left out.
#[must_use]
pub fn all() -> Vec<Netns> {
    others(&BTreeSet::new()).0
}

/// Every namespace as [`all`] has it, without the known ones; and the numbers of all that are there. That a process
/// of our own has one open does not count.
#[must_use]
pub fn others(known: &BTreeSet<NetnsId>) -> (Vec<Netns>, BTreeSet<NetnsId>) {
    let mut found: BTreeMap<NetnsId, Netns> = BTreeMap::new();
    let mut present = BTreeSet::new();
    for name in names() {
        let path = Path::new(NAMED).join(&name);
        let Some(inum) = number_of(&path) else { continue };
        present.insert(inum);
        if !known.contains(&inum)
            && let Ok(netns) = Netns::open_mounted(&path, Some(name))
        {
            found.entry(netns.inum).or_insert(netns);
        }
    }
    for (inum, processes) in processes() {
        present.insert(inum);
        if known.contains(&inum) || found.contains_key(&inum) {
            continue;
        }
        let name = Holder::among(&processes).map(Holder::name);
        let mut paths = processes.iter().map(|process| PathBuf::from(format!("/proc/{process}/ns/net")));
        if let Some(netns) = paths.find_map(|path| Netns::open(&path, name.clone()).ok()) {
            found.entry(netns.inum).or_insert(netns);
        }
    }
    (found.into_values().collect(), present)
}

/// The processes, by the namespaces they are in.
fn processes() -> BTreeMap<NetnsId, Vec<u32>> {
    let mut found: BTreeMap<NetnsId, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // Looking costs less than opening, and nearly all processes share a few namespaces.
        if let Some(inum) = number_of(&entry.path().join("ns/net")) {
            found.entry(inum).or_default().push(process);
        }
    }
    found
}

fn holder_of(inum: NetnsId) -> Option<Holder> {
    Holder::among(processes().get(&inum)?)
}

fn names() -> Vec<String> {
    let entries = fs::read_dir(NAMED).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable();
    names
}

fn name_of(inum: NetnsId) -> Option<String> {
    names().into_iter().find(|name| number_of(&Path::new(NAMED).join(name)) == Some(inum))
}

/// The number of the namespace that a file stands for, without opening it. Namespaces are all of one file system, so
/// that no other file with the same number is mistaken for one.
fn number_of(path: &Path) -> Option<NetnsId> {
    let metadata = fs::metadata(path).ok()?;
    let own = fs::metadata(OWN).ok()?;
    (own.dev() == metadata.dev()).then(|| NetnsId::try_from(metadata.ino()).ok()).flatten()
}

/// Runs `work` in a thread of its own in `netns`. Sockets opened there stay of that namespace.
pub fn run_in<T: Send>(netns: &Netns, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    in_thread(
        || {
            // Entering needs CAP_SYS_ADMIN; staying does not.
            if number_of(Path::new(OWN)) == Some(netns.inum) { Ok(()) } else { enter(&netns.file) }
        },
        work,
    )
}

/// Runs `work` in a thread of its own in a new namespace, which lasts as long as something opened there.
pub fn run_in_new<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    in_thread(
        || {
            // SAFETY: takes no pointers, and concerns this thread alone.
            check(unsafe { libc::unshare(libc::CLONE_NEWNET) })
        },
        work,
    )
}

fn enter(file: &File) -> io::Result<()> {
    let fd: BorrowedFd<'_> = std::os::fd::AsFd::as_fd(file);
    // SAFETY: the descriptor is open through the call; it concerns this thread alone.
    check(unsafe { libc::setns(fd.as_raw_fd(), libc::CLONE_NEWNET) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn in_thread<T: Send>(
    enter: impl FnOnce() -> io::Result<()> + Send,
    work: impl FnOnce() -> T + Send,
) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, || {
            enter()?;
            Ok(work())
        })?;
        // The work's own panic goes on where it would have without the thread.
        thread.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_namespace_is_found_in_every_way() {
        let own = current().expect("a namespace");
        let by_path = resolve("/proc/self/ns/net").expect("a path");
        let by_process = resolve(&std::process::id().to_string()).expect("a process");
        assert_eq!((own.inum, own.inum), (by_path.inum, by_process.inum));
        assert!(all().contains(&own));
        let (others, present) = others(&BTreeSet::from([own.inum]));
        assert!(!others.contains(&own) && present.contains(&own.inum));
        assert_eq!(run_in(&own, || current().expect("a namespace").inum).expect("run"), own.inum);
    }

    #[test]
    fn what_is_no_namespace_is_told_apart() {
        assert!(matches!(resolve("nattrace-no-such"), Err(NetnsError::NoSuchName { .. })));
        assert!(matches!(resolve(""), Err(NetnsError::NoSuchName { .. })));
        assert!(matches!(resolve(".."), Err(NetnsError::NoSuchName { .. })));
        assert!(matches!(resolve("4294967295"), Err(NetnsError::NoSuchProcess(_))));
        assert!(matches!(resolve("99999999999"), Err(NetnsError::NoSuchName { .. })));
        assert!(matches!(resolve("/proc/self/status"), Err(NetnsError::NotANamespace(_))));
        assert!(matches!(resolve("/proc/self/ns/mnt"), Err(NetnsError::NotANamespace(_))));
        assert!(matches!(resolve("/no/such/file"), Err(NetnsError::Io { .. })));
    }

    #[test]
    fn a_process_that_only_waits_for_its_parent_is_in_no_namespace() {
        let mut child = std::process::Command::new("true").spawn().expect("a process");
        let stat = format!("/proc/{}/stat", child.id());
        while !fs::read_to_string(&stat).expect("it is there until it is waited for").contains(") Z") {
            thread::yield_now();
        }
        assert!(matches!(resolve(&child.id().to_string()), Err(NetnsError::Ended(_))));
        child.wait().expect("it has ended");
    }
}
