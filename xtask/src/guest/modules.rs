//! Which kernel modules a guest gets: those of packet handling, and what they need.

use std::collections::{BTreeMap, BTreeSet};

/// Folders of the module tree that are taken whole; in all of them, a ruleset may ask for any module.
const FOLDERS: [&str; 9] = [
    "kernel/net/netfilter/",
    "kernel/net/ipv4/",
    "kernel/net/ipv6/",
    "kernel/net/bridge/",
    "kernel/net/sched/",
    "kernel/net/8021q/",
    "kernel/net/802/",
    "kernel/net/llc/",
    "kernel/net/sctp/",
];

/// Single modules: devices a topology is made of, and the channel to the host.
const MODULES: [&str; 17] = [
    "bonding",
    "dummy",
    "geneve",
    "ifb",
    "ipvlan",
    "macvlan",
    "nlmon",
    "tun",
    "veth",
    "virtio_console",
    "virtio_pci",
    "vrf",
    "vxlan",
    "wireguard",
    "vcan",
    "xfrm_user",
    "af_packet",
];

/// The lines of depmod's `modules.dep`: a module's path and the paths of what it needs.
#[derive(Debug)]
pub(crate) struct Dependencies<'a> {
    needs: BTreeMap<&'a str, Vec<&'a str>>,
}

impl<'a> Dependencies<'a> {
    /// Reads `modules.dep`.
    pub(crate) fn parse(text: &'a str) -> Self {
        let needs = text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(module, needs)| (module, needs.split_whitespace().collect()))
            .collect();
        Self { needs }
    }

    /// The paths of all modules a guest gets.
    pub(crate) fn for_guest(&self) -> BTreeSet<&'a str> {
        let wanted = |path: &&&str| {
            FOLDERS.iter().any(|folder| path.starts_with(folder)) || MODULES.contains(&name(path).as_str())
        };
        self.closure(self.needs.keys().filter(wanted).copied())
    }

    fn closure(&self, wanted: impl Iterator<Item = &'a str>) -> BTreeSet<&'a str> {
        let mut found = BTreeSet::new();
        let mut waiting: Vec<_> = wanted.collect();
        while let Some(path) = waiting.pop() {
            if found.insert(path) {
                waiting.extend(self.needs.get(path).into_iter().flatten());
            }
        }
        found
    }
}

/// A module's name: `kernel/net/bridge/br_netfilter.ko.xz` is `br_netfilter`.
fn name(path: &str) -> String {
    let file = path.rsplit_once('/').map_or(path, |(_, file)| file);
    file.split_once(".ko").map_or(file, |(name, _)| name).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEP: &str = "\
kernel/net/netfilter/nft_ct.ko.xz: kernel/net/netfilter/nf_tables.ko.xz kernel/lib/crc.ko.xz
kernel/net/netfilter/nf_tables.ko.xz: kernel/lib/crc.ko.xz
kernel/lib/crc.ko.xz: kernel/lib/base.ko.xz
kernel/lib/base.ko.xz:
kernel/drivers/net/veth.ko.xz:
kernel/drivers/net/ethernet/e1000.ko.xz:
kernel/fs/xfs.ko.xz: kernel/lib/base.ko.xz
";

    #[test]
    fn takes_what_is_needed_and_no_more() {
        let dependencies = Dependencies::parse(DEP);
        let found: Vec<_> = dependencies.for_guest().into_iter().map(name).collect();
        assert_eq!(found, ["veth", "base", "crc", "nf_tables", "nft_ct"]);
    }

    #[test]
    fn survives_a_cycle() {
        let dependencies =
            Dependencies::parse("kernel/net/bridge/a.ko: kernel/b.ko\nkernel/b.ko: kernel/net/bridge/a.ko\n");
        assert_eq!(dependencies.for_guest().len(), 2);
    }
}
