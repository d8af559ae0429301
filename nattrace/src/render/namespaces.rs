//! What the namespaces are called.

use std::collections::BTreeMap;

use nattrace_core::event::NetnsId;
use nattrace_core::journey::Netns;

/// The names of the namespaces seen so far, and which one the user is in.
#[derive(Debug, Clone, Default)]
pub struct Namespaces {
    current: Option<NetnsId>,
    names: BTreeMap<NetnsId, String>,
}

impl Namespaces {
    /// The namespace that needs no naming: the one this program runs in.
    pub fn set_current(&mut self, inum: NetnsId) {
        self.current = Some(inum);
    }

    /// A namespace has a name.
    pub fn set_name(&mut self, inum: NetnsId, name: impl Into<String>) {
        self.names.insert(inum, name.into());
    }

    /// Whether it is the one this program runs in; without knowing that, none is.
    pub(super) fn is_current(&self, inum: NetnsId) -> bool {
        self.current == Some(inum)
    }

    /// The name, if one is known.
    pub(super) fn name(&self, inum: NetnsId) -> Option<&str> {
        self.names.get(&inum).map(String::as_str)
    }

    /// A journey's namespace, with the name the journey brings or the one known here.
    pub(super) fn name_of<'a>(&'a self, netns: &'a Netns) -> Option<&'a str> {
        netns.name.as_deref().or_else(|| self.name(netns.inum))
    }
}
