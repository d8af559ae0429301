//! The programs that scenarios and guests are made of.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::apt;
use crate::{cache::Cache, process, progress};

/// What must be there, a program or a file, and the Debian package that has it.
const TOOLS: [(&str, &str); 20] = [
    ("nft", "nftables"),
    ("iptables", "iptables"),
    ("iptables-legacy", "iptables"),
    ("conntrack", "conntrack"),
    ("ipvsadm", "ipvsadm"),
    ("ip", "iproute2"),
    ("ping", "iputils-ping"),
    ("tc", "iproute2"),
    ("bash", "bash"),
    ("busybox", "busybox-static"),
    ("depmod", "kmod"),
    ("xz", "xz-utils"),
    ("setpriv", "util-linux"),
    ("wg", "wireguard-tools"),
    ("tshark", "tshark"),
    ("capinfos", "wireshark-common"),
    (QEMU, "qemu-system-x86"),
    ("tmux", "tmux"),
    // What tmux says it is to programs in it.
    ("/lib/terminfo/t/tmux-256color", "ncurses-base"),
    // nft prints protocols by name only where this file tells the names.
    ("/etc/protocols", "netbase"),
];

/// The emulator.
pub(crate) const QEMU: &str = "qemu-system-x86_64";

/// The first QEMU whose multi-threaded TCG survives a kernel that patches its own code.
///
/// 7.2 kills guests with `int3` oopses when probes are attached; what lies between is untested.
pub(crate) const QEMU_SAFE: u32 = 10;

/// Installs the programs that are missing, or says which to install by hand.
pub(crate) fn install_missing(cache: &Cache) -> Result<()> {
    install(cache, &TOOLS)
}

/// The same for these programs.
pub(super) fn install(cache: &Cache, tools: &[(&str, &'static str)]) -> Result<()> {
    if missing(tools).is_empty() {
        return Ok(());
    }
    let _lock = cache.lock()?;
    let packages = missing(tools);
    if packages.is_empty() {
        return Ok(());
    }
    let names = packages.join(" ");
    if !apt::is_available() {
        bail!("missing programs; install what your distribution calls: {names}");
    }
    if !process::is_root() {
        bail!(
            "missing programs; run `sudo apt-get install --no-install-recommends {names}`, then this again"
        );
    }
    progress::step(format_args!("installing {names}"));
    let (qemu, plain): (Vec<_>, Vec<_>) = packages.iter().partition(|package| **package == "qemu-system-x86");
    let backports = if qemu.is_empty() { None } else { qemu_backports() };
    [(plain, None), (qemu, backports)]
        .iter()
        .filter(|(packages, _)| !packages.is_empty())
        .try_for_each(|(packages, suite)| apt::install(cache, packages, suite.as_deref()))
        .with_context(|| format!("install them by hand: apt-get install --no-install-recommends {names}"))?;
    let packages = missing(tools);
    if !packages.is_empty() {
        bail!("apt installed {names}, yet something of {} is still missing", packages.join(" "));
    }
    Ok(())
}

/// The packages of all that is missing, each once.
fn missing(tools: &[(&str, &'static str)]) -> Vec<&'static str> {
    let absent = |tool: &str| {
        if tool.starts_with('/') { !Path::new(tool).exists() } else { process::find(tool).is_none() }
    };
    let mut packages: Vec<_> =
        tools.iter().filter(|(tool, _)| absent(tool)).map(|(_, package)| *package).collect();
    packages.dedup();
    packages
}

/// The backports suite of this Debian, where its own QEMU is too old.
fn qemu_backports() -> Option<String> {
    let own = apt::candidate("qemu-system-x86");
    if own.is_some_and(|version| major(&version).is_some_and(|major| major >= QEMU_SAFE)) {
        return None;
    }
    let release = std::fs::read_to_string("/etc/os-release").ok()?;
    let field = |name: &str| {
        release.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix('=')?.trim_matches('"')))
    };
    (field("ID") == Some("debian"))
        .then(|| format!("{}-backports", field("VERSION_CODENAME").unwrap_or("stable")))
}

/// The first number of a Debian version after its epoch.
fn major(version: &str) -> Option<u32> {
    let upstream = version.split_once(':').map_or(version, |(_epoch, rest)| rest);
    upstream.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_debian_versions() {
        assert_eq!(major("1:7.2+dfsg-7+deb12u18+b3"), Some(7));
        assert_eq!(major("1:10.0.2+ds-2~bpo12+1"), Some(10));
        assert_eq!(major("9.2.1"), Some(9));
    }
}
