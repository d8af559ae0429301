//! Tables beside that of the IP hooks: for packets that rules of other families see before an IP hook does, or that
//! come to none.
//!
//! They are installed where the ruleset has base chains there, and only then: ingress of the devices it names,
//! bridges, ARP. The connection is not known in these hooks, so replies are recognised by their headers. Each table
//! limits the rate for itself; a packet comes to the IP hooks in the same order, so that mostly the same are selected.

use std::collections::BTreeSet;

use nattrace_core::event::{HookPoint, NfFamily};
use nattrace_core::filter::Filter;
use nattrace_core::ruleset::Listing;

use super::expression::Expression;
use super::plan::Plan;
use super::rule::{Device, IpVersion, Rule};
use super::{AskedPrograms, FollowBy, TraceTableSpec};
use crate::source::netlink::constants as c;

/// `NFPROTO_ARP`, `NFPROTO_NETDEV`, `NFPROTO_BRIDGE`.
const ARP: u8 = 3;
const NETDEV: u8 = 5;
const BRIDGE: u8 = 7;
/// `NF_BR_FORWARD`.
const BRIDGE_FORWARD: u32 = 2;

/// Where a table beside the first is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beside {
    /// The ingress hook of devices, which packets come to before all others.
    Ingress(Vec<String>),
    /// What bridges forward.
    Bridge,
    /// ARP, of which a filter by IP selects nothing.
    Arp,
}

impl Beside {
    /// What a ruleset and a filter ask for.
    #[must_use]
    pub fn wanted(listing: &Listing, filter: &Filter) -> Vec<Self> {
        let mut devices = BTreeSet::new();
        let (mut bridge, mut arp) = (false, false);
        for table in &listing.tables {
            for base in table.chains.iter().filter_map(|chain| chain.base.as_ref()) {
                bridge |= table.family == NfFamily::Bridge;
                arp |= table.family == NfFamily::Arp;
                if base.hook == HookPoint::Ingress {
                    devices.extend(base.devices.iter().cloned());
                }
            }
        }
        let mut wanted = Vec::new();
        if !devices.is_empty() {
            wanted.push(Self::Ingress(devices.into_iter().collect()));
        }
        if bridge {
            wanted.push(Self::Bridge);
        }
        if arp && !filter.is_by_ip() {
            wanted.push(Self::Arp);
        }
        wanted
    }

    /// The family of the table.
    #[must_use]
    pub fn family(&self) -> NfFamily {
        match self {
            Self::Ingress(_) => NfFamily::Netdev,
            Self::Bridge => NfFamily::Bridge,
            Self::Arp => NfFamily::Arp,
        }
    }

    pub(super) fn family_number(&self) -> u8 {
        match self {
            Self::Ingress(_) => NETDEV,
            Self::Bridge => BRIDGE,
            Self::Arp => ARP,
        }
    }

    /// What is installed there.
    pub(super) fn plan(&self, spec: &TraceTableSpec) -> Plan {
        let follow = if spec.follow == FollowBy::No { FollowBy::No } else { FollowBy::MirroredHeaders };
        // Of the programs, those which pass others by know packets of the IP hooks alone.
        let programs = AskedPrograms { follows: spec.programs.follows, ..AskedPrograms::default() };
        let spec = TraceTableSpec { follow, programs, ..spec.clone() };
        // Hook numbers of NF_NETDEV_INGRESS, NF_BR_PRE_ROUTING, NF_ARP_IN and NF_ARP_OUT.
        let hooks: &[(u32, &str, Device)] = match self {
            Self::Ingress(_) => &[(0, "ingress", Device::In)],
            Self::Bridge => &[(0, "prerouting", Device::In)],
            Self::Arp => &[(0, "input", Device::In), (1, "output", Device::Out)],
        };
        let mut plan = Plan::of(&spec, hooks);
        if spec.hook_observers && *self == Self::Bridge {
            // With br_netfilter, IP's hooks come within the bridge's: only its beginning can be told apart.
            plan.base("enter_forward".to_owned(), BRIDGE_FORWARD, i32::MIN, Vec::new());
        }
        for chain in &mut plan.chains {
            if let Self::Ingress(devices) = self
                && chain.base.is_some()
            {
                chain.devices.clone_from(devices);
            }
            chain.rules = std::mem::take(&mut chain.rules).into_iter().map(by_ethertype).collect();
        }
        plan
    }
}

/// In these families every packet has the family's own `meta nfproto`; the IP version is in `meta protocol`.
fn by_ethertype(mut rule: Rule) -> Rule {
    let mut expressions = rule.expressions.iter_mut();
    while let Some(expression) = expressions.next() {
        if let Expression::Meta { key, .. } = expression
            && *key == c::NFT_META_NFPROTO
            && let Some(Expression::Equal { value, .. }) = expressions.next()
        {
            *key = c::NFT_META_PROTOCOL;
            let v4 = *value == [IpVersion::V4.number()];
            *value = if v4 { vec![0x08, 0x00] } else { vec![0x86, 0xdd] };
        }
    }
    for (nfproto, protocol) in [("nfproto ipv4", "protocol ip"), ("nfproto ipv6", "protocol ip6")] {
        rule.text = rule.text.replace(nfproto, protocol);
    }
    rule
}
