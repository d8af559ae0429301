//! Names for names: the same one for the same one, and of its kind.

use std::collections::BTreeMap;

use super::common;

/// What has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A network namespace.
    Netns,
    /// A table.
    Table,
    /// A chain.
    Chain,
    /// A set or map.
    Set,
    /// A counter, limit, quota or helper with a name.
    Object,
    /// A comment, a prefix for the log, a user: whatever somebody wrote.
    Text,
    /// A word that is not understood.
    Word,
}

impl Kind {
    fn stem(self) -> &'static str {
        match self {
            Self::Netns => "ns",
            Self::Table => "table",
            Self::Chain => "chain",
            Self::Set => "set",
            Self::Object => "object",
            Self::Text => "text",
            Self::Word => "word",
        }
    }
}

/// The kinds of devices that are told by their names; the longest that fits counts.
const DEVICE_KINDS: [&str; 37] = [
    "bond", "br", "can", "cni", "docker", "dummy", "eno", "enp", "ens", "enx", "erspan", "eth", "gre",
    "gretap", "ifb", "ip6tnl", "ipip", "ipsec", "ipvlan", "macvlan", "ovs", "ppp", "sit", "tap", "team",
    "tun", "tunl", "usb", "veth", "virbr", "vlan", "vmbr", "vnet", "vrf", "vxlan", "wg", "wlan",
];

/// How chains of tools begin; longer ones before what they begin with.
const TOOLS: [&str; 10] = [
    "DOCKER-",
    "KUBE-SVC-",
    "KUBE-SEP-",
    "KUBE-EXT-",
    "KUBE-FW-",
    "KUBE-XLB-",
    "KUBE-",
    "ufw-",
    "ufw6-",
    "cali-",
];

/// The map of names.
#[derive(Debug, Default)]
pub(super) struct Names {
    known: BTreeMap<(Kind, String), String>,
    counts: BTreeMap<String, u32>,
    devices: BTreeMap<String, String>,
    /// What patterns (`iifname "cust-*"`) begin with, and what they begin with afterwards.
    patterns: BTreeMap<String, String>,
}

impl Names {
    /// The name for a name; those that everybody's machine has stay.
    pub(super) fn name(&mut self, kind: Kind, name: &str) -> String {
        if common::is_name(kind, name) {
            return name.to_owned();
        }
        let key = (kind, name.to_owned());
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        let new = match kind {
            Kind::Chain => self.chain(name),
            kind => self.next(kind.stem()),
        };
        self.known.insert(key, new.clone());
        new
    }

    /// A chain of a tool that findings know stays one of that tool's.
    fn chain(&mut self, name: &str) -> String {
        if let Some(parts) = common::firewalld_parts(name) {
            let part = |(part, stays): (&str, bool)| {
                if stays { part.to_owned() } else { self.name(Kind::Object, part) }
            };
            return parts.into_iter().map(part).collect::<Vec<_>>().join("_");
        }
        let tool = TOOLS.iter().find(|tool| name.starts_with(**tool)).copied().unwrap_or_default();
        format!("{tool}{}", self.next(Kind::Chain.stem()))
    }

    /// The device for a device: its kind stays.
    pub(super) fn device(&mut self, name: &str) -> String {
        if name == "lo" || name.strip_prefix("ifindex ").is_some_and(common::is_number) {
            return name.to_owned();
        }
        if let Some(known) = self.devices.get(name) {
            return known.clone();
        }
        let new = self.next(&self.stem(name));
        self.devices.insert(name.to_owned(), new.clone());
        new
    }

    /// Has the names that begin so begin alike, and no others, whatever is named from now on; `None` where that cannot be:
    /// where some were named before. Shorter ones come first.
    pub(super) fn pattern(&mut self, begin: &str) -> Option<String> {
        if let Some(known) = self.patterns.get(begin) {
            return Some(known.clone());
        }
        let after = |map: &BTreeMap<String, String>| {
            map.range(begin.to_owned()..).next().is_some_and(|(name, _)| name.starts_with(begin))
        };
        let is_within = self.patterns.keys().any(|known| begin.starts_with(known.as_str()));
        let is_kind = DEVICE_KINDS.contains(&begin) && !is_within;
        let named =
            || self.devices.iter().any(|(name, new)| name.starts_with(begin) != new.starts_with(begin));
        let late = if is_kind { named() } else { after(&self.devices) };
        if begin.is_empty() || "lo".starts_with(begin) || after(&self.patterns) || late {
            return None;
        }
        let new = if is_kind {
            begin.to_owned()
        } else {
            // A digit alone would be another device's number: `eth1*` and `eth12`.
            format!("{}-", self.next(&format!("{}x", self.stem(begin))))
        };
        self.patterns.insert(begin.to_owned(), new.clone());
        Some(new)
    }

    /// How many names there are, and words that are not understood.
    pub(super) fn count(&self) -> (usize, usize) {
        let words = self.known.keys().filter(|(kind, _)| *kind == Kind::Word).count();
        (self.devices.len() + self.known.len() - words, words)
    }

    /// What the name for a device begins with.
    fn stem(&self, name: &str) -> String {
        let patterns = self.patterns.iter().filter(|(begin, _)| name.starts_with(begin.as_str()));
        if let Some((_, stem)) = patterns.max_by_key(|(begin, _)| begin.len()) {
            return stem.clone();
        }
        let kinds = DEVICE_KINDS.iter().filter(|kind| name.starts_with(**kind));
        kinds.max_by_key(|kind| kind.len()).map_or_else(|| "dev".to_owned(), |kind| (*kind).to_owned())
    }

    fn next(&mut self, stem: &str) -> String {
        let count = self.counts.entry(stem.to_owned()).or_default();
        *count += 1;
        format!("{stem}{count}")
    }
}
