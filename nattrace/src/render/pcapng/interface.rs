//! Where a packet was seen, as an interface.

use nattrace_core::event::{HookPoint, NetnsId, NfFamily};
use nattrace_core::name::Name;
use pcap_file::DataLink;
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption, InterfaceTsResolution,
};

use crate::render::escape::escape;
use crate::render::namespaces::Namespaces;

/// An interface of the section.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Interface {
    /// The namespace's name, or its number; `None` for the one this program runs in.
    netns: Option<String>,
    place: Place,
    /// What packets begin with.
    pub(super) link: Link,
}

/// A place of the netfilter path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// A hook of IPv4 and IPv6, which are one to whoever looks at packets.
    Hook(HookPoint),
    /// A hook of another family; ingress and egress have a device each.
    OtherHook(NfFamily, HookPoint, Option<Name>),
    /// A device.
    Device(Name),
    /// The kernel, where neither was seen.
    Elsewhere,
}

impl Place {
    /// The place of a hook step.
    pub(super) fn hook(family: NfFamily, hook: HookPoint, iif: Option<&str>, oif: Option<&str>) -> Self {
        let device = match hook {
            HookPoint::Ingress => iif,
            HookPoint::Egress => oif,
            _ => None,
        };
        match family {
            NfFamily::Ip | NfFamily::Ip6 | NfFamily::Inet if device.is_none() => Self::Hook(hook),
            family => Self::OtherHook(family, hook, device.map(Name::from)),
        }
    }
}

/// What the bytes of a packet begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Link {
    /// With the IP header (`LINKTYPE_RAW`): that is what hooks see.
    Ip,
    /// With an Ethernet header: ARP.
    Ethernet,
}

impl Interface {
    pub(super) fn new(netns: NetnsId, place: Place, link: Link, namespaces: &Namespaces) -> Self {
        let name = || namespaces.name(netns).map_or_else(|| netns.to_string(), str::to_owned);
        Self { netns: (!namespaces.is_current(netns)).then(name), place, link }
    }

    /// Its description, for the section.
    pub(super) fn block(&self, system: Option<&str>) -> InterfaceDescriptionBlock<'static> {
        let mut options = vec![
            InterfaceDescriptionOption::IfName(self.name().into()),
            InterfaceDescriptionOption::IfDescription(self.description().into()),
            InterfaceDescriptionOption::IfTsResol(InterfaceTsResolution::NANO),
        ];
        options.extend(system.map(|system| InterfaceDescriptionOption::IfOs(system.to_owned().into())));
        let linktype = match self.link {
            Link::Ip => DataLink::RAW,
            Link::Ethernet => DataLink::ETHERNET,
        };
        // 0: no limit is known; each packet has what was seen of it.
        InterfaceDescriptionBlock { linktype, snaplen: 0, options }
    }

    /// `forward`, `rt/forward`, `rt/enp0`.
    fn name(&self) -> String {
        let place = match &self.place {
            Place::Hook(hook) => hook.name().to_owned(),
            Place::OtherHook(family, hook, None) => format!("{} {}", family.name(), hook.name()),
            Place::OtherHook(_, hook, Some(device)) => format!("{} {}", hook.name(), escape(device)),
            Place::Device(device) => escape(device).into_owned(),
            Place::Elsewhere => "kernel".to_owned(),
        };
        match &self.netns {
            Some(netns) => format!("{}/{place}", escape(netns)),
            None => place,
        }
    }

    fn description(&self) -> String {
        let place = match &self.place {
            Place::Hook(hook) => format!("netfilter hook {} of IP", hook.name()),
            Place::OtherHook(family, hook, None) => {
                format!("netfilter hook {} of {}", hook.name(), family.name())
            }
            Place::OtherHook(_, hook, Some(device)) => {
                format!("netfilter hook {} of device {}", hook.name(), escape(device))
            }
            Place::Device(device) => format!("device {}", escape(device)),
            Place::Elsewhere => "neither at a hook nor at a device".to_owned(),
        };
        match &self.netns {
            Some(netns) => format!("{place}, network namespace {}", escape(netns)),
            None => place,
        }
    }
}
