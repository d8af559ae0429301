//! The routing decision, as the hooks that follow it prove it; and the route of it, as the tables answer for it.

use std::collections::BTreeMap;

use smallvec::SmallVec;

use super::assemble::Assembler;
use super::open::{Draft, Moment, Note, Open};
use super::{MatchedRoute, RouteDecision, StepKind};
use crate::event::{HookPoint, NetnsId, NfFamily};
use crate::fib::{FibAnswer, FibRoute, Hop, RouteQuery};
use crate::name::Name;

/// Journeys that wait for an answer; in a replay of a recording without answers all of them do.
const MAX_QUESTIONS: usize = 4096;

/// `RTN_*` (include/uapi/linux/rtnetlink.h, v7.3).
const RTN_UNICAST: u8 = 1;
const RTN_LOCAL: u8 = 2;
const RTN_BROADCAST: u8 = 3;
const RTN_MULTICAST: u8 = 5;

fn is_for_here(kind: u8) -> bool {
    matches!(kind, RTN_LOCAL | RTN_BROADCAST | RTN_MULTICAST)
}

/// A route as far as the source of the hook could tell it.
#[derive(Debug, Default)]
pub(super) struct Routed {
    /// `rt_type`.
    pub(super) kind: Option<u8>,
    pub(super) oif: Option<Name>,
    pub(super) gateway: Option<std::net::IpAddr>,
    /// `ifindex` of the hook's device in.
    pub(super) iif_index: Option<u32>,
    /// `ifindex` of the device out.
    pub(super) oif_index: Option<u32>,
    /// The route itself was seen: without a gateway, it has none.
    pub(super) exact: bool,
}

/// How a decision shows in the packet: the table's answer must agree with it.
#[derive(Debug, Clone, Copy)]
pub(super) struct SeenRoute {
    decision: RouteDecision,
    oif: Option<u32>,
    gateway: Option<std::net::IpAddr>,
    /// The route itself was seen: without a gateway, it has none.
    exact: bool,
    /// That it is for this host is known, not whether for it alone: a subnet's broadcast address is known to its table.
    for_many: bool,
}

impl SeenRoute {
    fn is_of(&self, route: &FibRoute) -> bool {
        let leads = |hop: &Hop| Some(hop.oif) == self.oif && (!self.exact || self.gateway == hop.gateway);
        match self.decision {
            RouteDecision::Local => route.kind == RTN_LOCAL,
            RouteDecision::Broadcast => matches!(route.kind, RTN_BROADCAST | RTN_MULTICAST),
            RouteDecision::Forward => route.kind == RTN_UNICAST && route.hops.iter().any(leads),
            _ => false,
        }
    }

    /// The one route that agrees; of two that do, nobody can say which it was.
    fn choose<'a>(&self, routes: &'a [FibRoute]) -> Option<&'a FibRoute> {
        let mut fitting = routes.iter().filter(|route| self.is_of(route));
        let first = fitting.next()?;
        fitting.all(|other| (other.table, other.prefix) == (first.table, first.prefix)).then_some(first)
    }
}

/// Journeys by their numbers: mostly one for each question.
type Waiting = SmallVec<[u64; 2]>;

/// What the routing tables are to be asked, and for which journeys.
#[derive(Debug, Default)]
pub(super) struct Questions {
    new: Vec<(NetnsId, RouteQuery)>,
    /// Journeys that wait for an answer.
    waiting: BTreeMap<(NetnsId, RouteQuery), Waiting>,
    /// How many these are.
    waiting_count: usize,
}

impl Questions {
    fn ask(&mut self, netns: NetnsId, query: RouteQuery, seq: u64) {
        // What got no answer is forgotten here, and asked again: a replay knows of answers alone, and does the same.
        if self.waiting_count >= MAX_QUESTIONS {
            *self = Self::default();
        }
        let waiting = self.waiting.entry((netns, query)).or_default();
        if waiting.is_empty() {
            self.new.push((netns, query));
        }
        waiting.push(seq);
        self.waiting_count += 1;
    }

    fn answered(&mut self, netns: NetnsId, query: RouteQuery) -> Waiting {
        let waited = self.waiting.remove(&(netns, query)).unwrap_or_default();
        self.waiting_count -= waited.len();
        waited
    }
}

impl Assembler {
    /// What the routing tables are to be asked now, in which namespace: for packets that were routed since the last
    /// call. The answer is given as [`crate::event::Body::Fib`].
    pub fn route_queries(&mut self) -> Vec<(NetnsId, RouteQuery)> {
        std::mem::take(&mut self.questions.new)
    }

    pub(super) fn ask_tables(&mut self, seq: u64) {
        if let Some(open) = self.opens.get_mut(seq)
            && let Some(query) = open.asks.take()
        {
            self.questions.ask(open.netns, query, seq);
        }
    }

    pub(super) fn answered(&mut self, netns: NetnsId, answer: &FibAnswer) {
        for seq in self.questions.answered(netns, answer.query) {
            let open = match self.opens.get_mut(seq) {
                Some(open) => Some(open),
                None => self.held_open(seq),
            };
            if let Some(open) = open {
                open.matched(answer);
            }
        }
    }
}

impl Open {
    /// Whether a bridge forwards it here: with br_netfilter it comes to IP's hooks meanwhile, and nobody routes it.
    fn is_bridged(&self, at: Moment) -> bool {
        let last = self.visits.iter().rev().find(|v| v.family == NfFamily::Bridge && v.netns == at.netns);
        last.is_some_and(|visit| matches!(visit.hook, HookPoint::Forward | HookPoint::Postrouting))
    }

    /// The decision for what comes to INPUT, by its address.
    fn for_here(&self) -> RouteDecision {
        match self.header.destination.map(|end| end.addr) {
            Some(std::net::IpAddr::V4(to)) if to.is_multicast() || to.is_broadcast() => {
                RouteDecision::Broadcast
            }
            Some(std::net::IpAddr::V6(to)) if to.is_multicast() => RouteDecision::Broadcast,
            _ => RouteDecision::Local,
        }
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
                self.came_by = routed.iif_index;
                return;
            }
            HookPoint::Input => (local.unwrap_or(self.for_here()), None),
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
        let (oif_index, exact) = (routed.oif_index, routed.exact);
        let for_many = hook == HookPoint::Input && routed.kind.is_none();
        let seen = SeenRoute { decision, oif: oif_index, gateway: routed.gateway, exact, for_many };
        let sent_here = matches!(hook, HookPoint::Output | HookPoint::Postrouting) && self.iif.is_none();
        let query = RouteQuery::of(&self.header, routed.iif_index.filter(|_| !sent_here));
        // Without the device in, the tables would answer for a packet of this host.
        let query = query.filter(|query| query.iif.is_some() || sent_here);
        let note = query.map_or(Note::Nothing, |query| Note::Route(Box::new((query, seen))));
        let kind = StepKind::Route { decision, oif, gateway: routed.gateway, matched: None };
        if self.push(at, kind, None, note).is_some() {
            self.asks = query;
        }
    }

    /// A socket or a local protocol has it: behind PREROUTING, it was routed to this host, where no hook told. Whether to
    /// this host alone is known of `kind` (`rt_type`), or of the address.
    pub(super) fn routed_here(&mut self, at: Moment, kind: Option<u8>) {
        let Some(visit) = self.visits.last().filter(|visit| visit.hook == HookPoint::Prerouting) else {
            return;
        };
        let (family, to) = (visit.family, self.header.destination.map(|end| end.addr));
        let unicast = match to {
            Some(std::net::IpAddr::V4(addr)) => !addr.is_multicast() && addr.octets()[3] != 255,
            Some(std::net::IpAddr::V6(addr)) => !addr.is_multicast(),
            None => false,
        };
        if self.route.is_none() && (kind.is_some_and(is_for_here) || kind.is_none() && unicast) {
            let routed = Routed { kind, iif_index: self.came_by, ..Routed::default() };
            self.routed(at, HookPoint::Input, family, routed);
        }
    }

    /// Takes over what the tables answered, where it is what the packet's own way shows.
    fn matched(&mut self, answer: &FibAnswer) {
        for Draft { step, note, .. } in &mut self.drafts {
            if let (Note::Route(asked), StepKind::Route { matched, decision, .. }) =
                (&mut *note, &mut step.kind)
                && let (query, seen) = &mut **asked
                && *query == answer.query
                && matched.is_none()
            {
                let broadcast = |route: &FibRoute| matches!(route.kind, RTN_BROADCAST | RTN_MULTICAST);
                if seen.for_many && !answer.routes.is_empty() && answer.routes.iter().all(broadcast) {
                    seen.decision = RouteDecision::Broadcast;
                    *decision = seen.decision;
                }
                *matched = seen.choose(&answer.routes).map(|route| MatchedRoute {
                    table: route.table,
                    prefix: route.prefix,
                    source: route.source.filter(|source| query.iif.is_none() && *source == query.source),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fib::RoutePrefix;

    fn route(table: u32, kind: u8, hops: &[(u32, Option<[u8; 4]>)]) -> FibRoute {
        FibRoute {
            table: Some(table),
            kind,
            prefix: RoutePrefix { addr: [10, 0, 0, 0].into(), length: 8 },
            source: None,
            hops: hops
                .iter()
                .map(|(oif, gateway)| Hop { oif: *oif, gateway: gateway.map(Into::into) })
                .collect(),
        }
    }

    #[test]
    fn a_route_is_told_only_when_the_packet_went_that_way() {
        let seen = SeenRoute {
            decision: RouteDecision::Forward,
            oif: Some(3),
            gateway: None,
            exact: true,
            for_many: false,
        };
        let by_gateway = SeenRoute { gateway: Some([10, 0, 0, 1].into()), ..seen };
        let unseen = SeenRoute { exact: false, ..seen };
        let (direct, via) = (route(1, 1, &[(3, None)]), route(2, 1, &[(4, None), (3, Some([10, 0, 0, 1]))]));
        let chosen =
            |seen: &SeenRoute, routes: &[FibRoute]| seen.choose(routes).and_then(|route| route.table);
        let all = [direct.clone(), via.clone()];
        assert_eq!(chosen(&seen, &all), Some(1));
        assert_eq!(chosen(&by_gateway, &all), Some(2), "one of several next hops");
        assert_eq!(chosen(&unseen, &all), None, "it can be either");
        assert_eq!(chosen(&unseen, std::slice::from_ref(&via)), Some(2));
        assert_eq!(chosen(&SeenRoute { oif: Some(9), ..seen }, &all), None, "another way by now");
        assert_eq!(chosen(&seen, &[route(1, RTN_LOCAL, &[(3, None)])]), None);
        let local = SeenRoute { decision: RouteDecision::Local, oif: None, ..seen };
        assert_eq!(chosen(&local, &[via, route(255, RTN_LOCAL, &[(1, None)])]), Some(255));
    }
}
