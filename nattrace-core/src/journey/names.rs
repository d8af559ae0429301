//! Names of devices and namespaces, as the sources told them.

use std::collections::BTreeMap;

use super::Netns;
use crate::event::{DeviceRef, NetnsId};

/// What is known of names.
#[derive(Debug, Default)]
pub(super) struct Names {
    links: BTreeMap<(NetnsId, u32), String>,
    namespaces: BTreeMap<NetnsId, String>,
}

impl Names {
    pub(super) fn link(&mut self, netns: NetnsId, index: u32, name: String) {
        self.links.insert((netns, index), name);
    }

    pub(super) fn namespace(&mut self, netns: NetnsId, name: Option<String>) {
        if let Some(name) = name {
            self.namespaces.insert(netns, name);
        }
    }

    /// A device's name; its index where it has none, so that two devices never look the same.
    pub(super) fn device(&self, netns: NetnsId, device: &DeviceRef) -> String {
        device
            .name
            .clone()
            .or_else(|| self.links.get(&(netns, device.index)).cloned())
            .unwrap_or_else(|| format!("ifindex {}", device.index))
    }

    pub(super) fn netns(&self, netns: NetnsId) -> Netns {
        Netns { inum: netns, name: self.namespaces.get(&netns).cloned() }
    }
}
