//! What a guest's root file system holds.
//!
//! It comes in two archives that the kernel unpacks one over the other: the base, which depends on the kernel and
//! on this machine's programs and is kept in the cache, and what one run adds.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use anyhow::{Context as _, Result, bail};

use super::{cpio::Tree, elf, modules::Dependencies};
use crate::{cache::Cache, process, progress, setup::kernel::Kernel};

const INIT: &str = include_str!("init.sh");

/// All that decides what goes into a base and how, besides this machine's files.
const MAKERS: [&str; 4] =
    [INIT, include_str!("image.rs"), include_str!("modules.rs"), include_str!("cpio.rs")];

/// Programs of this machine that every guest has.
const PROGRAMS: [&str; 38] = [
    "bash",
    "busybox",
    "bridge",
    "conntrack",
    "ipvsadm",
    "ip",
    "ss",
    "tc",
    "wg",
    "nft",
    "iptables",
    "iptables-save",
    "iptables-restore",
    "ip6tables",
    "ip6tables-save",
    "ip6tables-restore",
    "iptables-nft",
    "iptables-nft-save",
    "iptables-nft-restore",
    "ip6tables-nft",
    "ip6tables-nft-save",
    "ip6tables-nft-restore",
    "iptables-legacy",
    "iptables-legacy-save",
    "iptables-legacy-restore",
    "ip6tables-legacy",
    "ip6tables-legacy-save",
    "ip6tables-legacy-restore",
    "iptables-translate",
    "arptables-nft",
    "arptables-nft-save",
    "ebtables-nft",
    "ebtables-nft-save",
    "xtables-monitor",
    "nsenter",
    "setpriv",
    "tmux",
    "unshare",
];

/// Programs that start other programs. Busybox has them too, but its own run its own `ip` where `ip` is asked for,
/// which knows no namespaces.
const STARTERS: [&str; 10] =
    ["chroot", "env", "find", "ionice", "nice", "nohup", "setsid", "taskset", "timeout", "xargs"];

/// Programs to look into a kernel with, where this machine has them. No scenario may need one.
const TOOLS_IF_THERE: [&str; 5] = ["bpftool", "ebtables", "perf", "strace", "tcpdump"];

/// Data of those programs, where this machine has it.
const DATA_IF_THERE: [&str; 9] = [
    // tmux wants a locale that knows UTF-8.
    "/usr/lib/locale/C.utf8",
    "/etc/protocols",
    "/etc/services",
    "/etc/ethertypes",
    "/etc/iproute2",
    "/lib/terminfo",
    "/usr/share/iproute2",
    "/usr/lib/tc",
    "/usr/share/tc",
];

/// Where iptables looks for its plug-ins.
const XTABLES_DIRS: [&str; 3] =
    ["/usr/lib/x86_64-linux-gnu/xtables", "/usr/lib64/xtables", "/usr/lib/xtables"];

/// The base archive for a kernel, made when the cache has none that fits.
///
/// Another guest's may be removed for it: call it only while no other guest runs.
pub(crate) fn base(cache: &Cache, kernel: &Kernel) -> Result<PathBuf> {
    let sources = Sources::find()?;
    let place =
        cache.join("images").join(format!("{}-{:016x}.cpio", kernel.series, sources.fingerprint(kernel)));
    if place.is_file() {
        return Ok(place);
    }
    let _lock = cache.lock()?;
    if place.is_file() {
        return Ok(place);
    }
    progress::step(format_args!("making the guest image for kernel {}", kernel.release));
    let scratch = cache.scratch("image")?;
    let mut tree = sources.tree()?;
    add_modules(&mut tree, kernel, &scratch)?;
    let finished = scratch.join("base.cpio");
    write(&tree, &finished)?;
    for old in fs::read_dir(cache.join("images")).into_iter().flatten() {
        let old = old?;
        if old.file_name().to_string_lossy().starts_with(&format!("{}-", kernel.series)) {
            crate::cache::remove(&old.path())?;
        }
    }
    crate::cache::publish(&finished, &place)?;
    crate::cache::remove(&scratch)?;
    Ok(place)
}

/// Writes the base and what `tree` adds as one image, to be loaded once.
pub(crate) fn write_combined(base: &Path, tree: &Tree, place: &Path) -> Result<()> {
    fs::copy(base, place)
        .with_context(|| format!("cannot copy {} to {}", base.display(), place.display()))?;
    let file = File::options().append(true).open(place)?;
    let mut out = BufWriter::new(file);
    tree.write(&mut out)?;
    out.flush().with_context(|| format!("cannot write {}", place.display()))
}

/// Adds a program of the host with all the libraries it needs.
pub(crate) fn add_program(tree: &mut Tree, path: &str, program: &Path) -> Result<()> {
    tree.copy(path, program);
    for library in elf::libraries(&[program.to_owned()])? {
        tree.copy(&guest_path(&library), library);
    }
    Ok(())
}

fn write(tree: &Tree, place: &Path) -> Result<()> {
    let mut out =
        BufWriter::new(File::create(place).with_context(|| format!("cannot write {}", place.display()))?);
    tree.write(&mut out)?;
    out.flush().with_context(|| format!("cannot write {}", place.display()))
}

/// The files of this machine that go into a base.
struct Sources {
    /// Names in `/usr/sbin` or `/usr/bin` and the files they stand for, once links are followed.
    programs: Vec<(PathBuf, PathBuf)>,
    libraries: BTreeSet<PathBuf>,
    data: Vec<PathBuf>,
}

impl Sources {
    fn find() -> Result<Self> {
        let mut programs = Vec::new();
        for name in PROGRAMS.iter().chain(&STARTERS) {
            let path =
                process::find(name).with_context(|| format!("{name} is missing (cargo xtask setup)"))?;
            programs.push((path.clone(), path.canonicalize()?));
        }
        for path in TOOLS_IF_THERE.iter().filter_map(|name| process::find(name)) {
            programs.push((path.clone(), path.canonicalize()?));
        }
        let mut data: Vec<_> = DATA_IF_THERE.iter().map(PathBuf::from).filter(|path| path.exists()).collect();
        let mut linked: Vec<_> = programs.iter().map(|(_, file)| file.clone()).collect();
        if let Some(dir) = XTABLES_DIRS.iter().map(Path::new).find(|dir| dir.is_dir()) {
            data.push(dir.to_owned());
            for entry in fs::read_dir(dir)? {
                linked.push(entry?.path());
            }
        }
        linked.sort();
        linked.dedup();
        Ok(Self { programs, libraries: elf::libraries(&linked)?, data })
    }

    /// Changes whenever a base made of these would.
    fn fingerprint(&self, kernel: &Kernel) -> u64 {
        let mut hasher = DefaultHasher::new();
        MAKERS.hash(&mut hasher);
        kernel.release.hash(&mut hasher);
        let files = self.programs.iter().map(|(_, file)| file).chain(&self.libraries).chain(&self.data);
        for file in files {
            (file, stamp(file)).hash(&mut hasher);
        }
        hasher.finish()
    }

    fn tree(&self) -> Result<Tree> {
        let mut tree = Tree::default();
        for folder in ["bin", "sbin", "lib", "lib64"] {
            tree.folder(&format!("/usr/{folder}"));
            tree.link(&format!("/{folder}"), format!("usr/{folder}"));
        }
        for folder in ["/dev", "/proc", "/sys", "/run", "/tmp", "/root", "/etc", "/var/log", "/xtask"] {
            tree.folder(folder);
        }
        tree.link("/var/run", "/run");
        tree.character_device("/dev/console", 5, 1);
        tree.file("/init", 0o755, INIT);
        tree.file(
            "/etc/passwd",
            0o644,
            "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534::/:/bin/false\n",
        );
        tree.file("/etc/group", 0o644, "root:x:0:\nnogroup:x:65534:\n");
        tree.file("/etc/hosts", 0o644, "127.0.0.1 localhost\n::1 localhost\n");
        for (name, file) in &self.programs {
            let (name, place) = (guest_path(name), guest_path(file));
            tree.copy(&place, file);
            if name != place {
                tree.link(&name, place);
            }
        }
        for library in &self.libraries {
            tree.copy(&guest_path(library), library);
        }
        for data in &self.data {
            tree.copy_all(&guest_path(data), data)?;
        }
        add_busybox(&mut tree)?;
        Ok(tree)
    }
}

/// Gives busybox every name that no real program has.
fn add_busybox(tree: &mut Tree) -> Result<()> {
    let busybox = process::find("busybox").context("busybox is missing (cargo xtask setup)")?;
    let place = guest_path(&busybox.canonicalize()?);
    // Scripts are for bash: busybox's own shell would also run its own `ip`.
    tree.link("/usr/bin/sh", "bash");
    for applet in
        process::output_for(Command::new(&busybox).arg("--list"), "list busybox's programs")?.lines()
    {
        let taken = ["/usr/bin", "/usr/sbin"].iter().any(|dir| tree.contains(&format!("{dir}/{applet}")));
        if !taken {
            tree.link(&format!("/usr/bin/{applet}"), place.clone());
        }
    }
    // The kernel asks for modules under this name.
    tree.link("/usr/sbin/modprobe", place);
    Ok(())
}

/// Adds the modules of packet handling, uncompressed, with tables of their own.
fn add_modules(tree: &mut Tree, kernel: &Kernel, scratch: &Path) -> Result<()> {
    let from = kernel.modules();
    let text = fs::read_to_string(from.join("modules.dep")).context("the kernel's modules have no index")?;
    let base = scratch.join("modules");
    let to = base.join("lib/modules").join(&kernel.release);
    let mut compressed = Vec::new();
    for path in Dependencies::parse(&text).for_guest() {
        let place = to.join(path);
        let folder = place.parent().context("a module lies in a folder")?;
        fs::create_dir_all(folder)?;
        fs::copy(from.join(path), &place).with_context(|| format!("cannot copy the module {path}"))?;
        match place.extension().and_then(|extension| extension.to_str()) {
            Some("ko") => {}
            Some("xz") => compressed.push(place),
            _ => bail!("the module {path} is compressed in a way this program does not know"),
        }
    }
    if !compressed.is_empty() {
        process::output_for(Command::new("xz").args(["-d", "-T0"]).args(&compressed), "decompress modules")?;
    }
    for table in ["modules.order", "modules.builtin", "modules.builtin.modinfo"] {
        if from.join(table).exists() {
            fs::copy(from.join(table), to.join(table))?;
        }
    }
    let depmod = process::find("depmod").context("depmod (package kmod) is missing")?;
    process::output_for(
        Command::new(depmod).arg("-b").arg(&base).arg(&kernel.release),
        "index the guest's modules",
    )?;
    tree.copy_all(&format!("/usr/lib/modules/{}", kernel.release), &to)
}

/// Where a file of the host lies in a guest, which has `/bin`, `/sbin`, `/lib` and `/lib64` only as links into `/usr`.
fn guest_path(path: &Path) -> String {
    let text = path.to_string_lossy();
    let first = path.iter().nth(1).unwrap_or_default().to_string_lossy();
    if ["bin", "sbin", "lib", "lib64"].contains(&&*first) { format!("/usr{text}") } else { text.into_owned() }
}

fn stamp(path: &Path) -> Option<(u64, SystemTime)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.len(), metadata.modified().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_has_one_tree_below_usr() {
        assert_eq!(guest_path(Path::new("/lib64/ld-linux-x86-64.so.2")), "/usr/lib64/ld-linux-x86-64.so.2");
        assert_eq!(guest_path(Path::new("/usr/sbin/nft")), "/usr/sbin/nft");
        assert_eq!(guest_path(Path::new("/etc/protocols")), "/etc/protocols");
    }
}
