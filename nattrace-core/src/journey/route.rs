//! The routing decision, as the hooks that follow it prove it.

use super::open::{Moment, Note, Open};
use super::{RouteDecision, StepKind};
use crate::event::{HookPoint, NfFamily};

/// `RTN_*` (include/uapi/linux/rtnetlink.h, v7.3).
const RTN_LOCAL: u8 = 2;
const RTN_BROADCAST: u8 = 3;
const RTN_MULTICAST: u8 = 5;

/// A route as far as the source of the hook could tell it.
#[derive(Debug, Default)]
pub(super) struct Routed {
    /// `rt_type`.
    pub(super) kind: Option<u8>,
    pub(super) oif: Option<String>,
    pub(super) gateway: Option<std::net::IpAddr>,
}

impl Open {
    /// Whether a bridge forwards it here: with br_netfilter it comes to IP's hooks meanwhile, and nobody routes it.
    fn is_bridged(&self, at: Moment) -> bool {
        let last = self.visits.iter().rev().find(|v| v.family == NfFamily::Bridge && v.netns == at.netns);
        last.is_some_and(|visit| matches!(visit.hook, HookPoint::Forward | HookPoint::Postrouting))
    }

    /// Adds the decision that must have been taken before the packet could enter `hook`, once for each
    /// decision: a packet that OUTPUT rewrites is routed again, and shown so when that changed the way.
    pub(super) fn routed(&mut self, at: Moment, hook: HookPoint, family: NfFamily, routed: Routed) {
        if !matches!(family, NfFamily::Ip | NfFamily::Ip6) || self.is_bridged(at) {
            return;
        }
        let local = match routed.kind {
            Some(RTN_LOCAL) => Some(RouteDecision::Local),
            Some(RTN_BROADCAST | RTN_MULTICAST) => Some(RouteDecision::Broadcast),
            // Every local address is reached by the loopback device.
            None if hook == HookPoint::Output && routed.oif.as_deref() == Some("lo") => {
                Some(RouteDecision::Local)
            }
            _ => None,
        };
        let (decision, oif) = match hook {
            HookPoint::Prerouting => {
                self.route = None;
                return;
            }
            HookPoint::Input => (local.unwrap_or(RouteDecision::Local), None),
            HookPoint::Forward => (RouteDecision::Forward, routed.oif),
            HookPoint::Output | HookPoint::Postrouting => {
                (local.unwrap_or(RouteDecision::Forward), routed.oif)
            }
            HookPoint::Ingress | HookPoint::Egress => return,
        };
        // A forwarded multicast packet is "broadcast" again in POSTROUTING: the way is what counts there.
        let same_way = matches!(hook, HookPoint::Postrouting)
            && self.route.as_ref().is_some_and(|(_, known)| *known == oif || oif.is_none());
        let now = Some((decision, oif));
        if same_way || self.route == now {
            return;
        }
        self.route.clone_from(&now);
        let oif = now.and_then(|(_, oif)| oif);
        let kind = StepKind::Route { decision, oif, gateway: routed.gateway, table: None };
        self.push(at, kind, None, Note::Nothing);
    }
}
