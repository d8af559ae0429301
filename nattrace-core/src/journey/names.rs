//! Names of devices and namespaces, as the sources told them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Netns;
use super::open::ChainName;
use crate::event::{DeviceRef, NetnsId, NfFamily};
use crate::name::Name;

/// Devices whose names are kept; containers come and go.
const MAX_LINKS: usize = 65_536;

/// Chains whose names are shared by all that came by them.
const MAX_CHAINS: usize = 256;

/// What is known of names.
#[derive(Debug, Default)]
pub(super) struct Names {
    links: BTreeMap<(NetnsId, u32), Name>,
    /// The watched namespaces, with or without a name.
    namespaces: BTreeMap<NetnsId, Option<Name>>,
    chains: Vec<Arc<ChainName>>,
}

impl Names {
    pub(super) fn link(&mut self, netns: NetnsId, index: u32, name: Name) {
        if self.links.len() >= MAX_LINKS && !self.links.contains_key(&(netns, index)) {
            self.links.pop_first();
        }
        self.links.insert((netns, index), name);
    }

    pub(super) fn namespace(&mut self, netns: NetnsId, name: Option<Name>) {
        let known = self.namespaces.entry(netns).or_default();
        *known = name.or(known.take());
    }

    /// Whether more than one namespace is watched, so that what leaves one may come into another.
    pub(super) fn are_several(&self) -> bool {
        self.namespaces.len() > 1
    }

    /// A device's name, which is kept for those who know its index only; its index where it has none, so that two devices never look the same.
    pub(super) fn device(&mut self, netns: NetnsId, device: &DeviceRef) -> Name {
        let known = self.links.get(&(netns, device.index));
        let Some(name) = &device.name else {
            return known.cloned().unwrap_or_else(|| format!("ifindex {}", device.index).into());
        };
        match known {
            Some(known) if known == name => known.clone(),
            // Devices come, and are renamed, after the start.
            _ => {
                let name = Name::from(name);
                self.link(netns, device.index, name.clone());
                name
            }
        }
    }

    /// A chain's name, shared with who asked for it before.
    pub(super) fn chain(&mut self, family: NfFamily, table: &str, chain: &str) -> Arc<ChainName> {
        let known =
            |name: &&Arc<ChainName>| name.chain == chain && name.table == table && name.family == family;
        if let Some(known) = self.chains.iter().find(known) {
            return known.clone();
        }
        if self.chains.len() >= MAX_CHAINS {
            self.chains.clear();
        }
        let new = Arc::new(ChainName { family, table: table.into(), chain: chain.into() });
        self.chains.push(Arc::clone(&new));
        new
    }

    pub(super) fn netns(&self, netns: NetnsId) -> Netns {
        Netns { inum: netns, name: self.namespaces.get(&netns).cloned().flatten() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_last_told_in_that_namespace() {
        let mut names = Names::default();
        names.link(1, 2, "eth0".into());
        let by_index = DeviceRef { index: 2, name: None };
        assert_eq!(names.device(1, &by_index), "eth0");
        assert_eq!(names.device(9, &by_index), "ifindex 2");
        assert_eq!(names.device(1, &DeviceRef { index: 2, name: Some("wan".to_owned()) }), "wan");
        assert_eq!(names.device(1, &by_index), "wan", "it was renamed");
        names.namespace(1, Some("rtr".into()));
        names.namespace(1, None);
        assert_eq!(names.netns(1).name.as_deref(), Some("rtr"));
        assert!(!names.are_several());
        names.namespace(2, None);
        assert!(names.are_several());
    }
}
