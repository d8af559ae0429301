//! The last that is seen of a packet: a socket took it, or the kernel dropped it.

use std::net::IpAddr;

use super::assemble::Assembler;
use super::open::{Moment, Note, Open, Place};
use super::{KernelDrop, RouteDecision, StepKind};
use crate::drops::{self, Evidence};
use crate::event::{Circumstances, DropEvent, HookPoint, HookVerdict, NetnsId};
use crate::fib::{FibAnswer, FibRoute, RouteQuery};
use crate::name::Name;
use crate::packet::Packet;

impl Open {
    /// A socket or a local protocol took it.
    pub(super) fn delivered(&mut self, at: Moment, function: Option<Name>) {
        self.routed_here(at, None);
        let kind = StepKind::Deliver {
            protocol: self.header.protocol_name().into(),
            local: self.header.destination,
            function,
        };
        self.push(at, kind, None, Note::Nothing);
        self.place = Place::Delivered;
    }

    /// The kernel reports that it dropped the packet. What a rule or policy decided before
    /// is confirmed by it, not decided again.
    pub(super) fn dropped(&mut self, at: Moment, mut drop: KernelDrop, met: Met) {
        let (reason, function) = (drop.reason.as_deref(), drop.function.as_deref());
        let taken = self.place == Place::Delivered || self.is_taken_in();
        let echo_reply = self.header.icmp.is_some_and(|icmp| matches!(icmp.kind, 0 | 129));
        if taken && drops::is_used(reason, function, echo_reply) {
            self.ending.freed = true;
            self.ending.freed_by = drop.function;
            self.ending.over(at.time_ns);
            return;
        }
        if let Some(index) = self.current()
            && let Some(visit) = self.visits.get(index)
        {
            let refused = visit.verdict == Some(HookVerdict::Queue) && drops::is_refusal(function);
            let inside = if refused || visit.exact {
                // What the reader of a queue refuses was in the hook that queued it.
                refused || !visit.over
            } else {
                // Functions hooked in after our last chain (conntrack's confirmation) drop as well: until the
                // packet is seen elsewhere, netfilter's drop is that hook's, whatever the chains had said.
                self.place == Place::Hook
                    && visit.hook != HookPoint::Egress
                    && (reason == Some("NETFILTER_DROP")
                        || !visit.over && drops::is_in_hook(reason, function))
            };
            if inside {
                drop.hook = Some(visit.hook);
                if !visit.exact && !refused {
                    self.decide(index, HookVerdict::Drop);
                }
            }
        }
        self.told_drop(at, drop, met);
    }

    /// Its socket listens, and as many connections as may wait to be accepted: the kernel frees a SYN then, and says
    /// nothing (`tcp_conn_request`, net/ipv4/tcp_input.c, v6.12).
    pub(super) fn overflowed(&mut self, at: Moment, function: Name) {
        let drop = KernelDrop { function: Some(function), ..KernelDrop::default() };
        self.told_drop(at, drop, Met { queue_full: true, ..Met::default() });
    }

    /// A TCP SYN.
    pub(super) fn begins_connection(&self) -> bool {
        const SYN: u8 = 0x02;
        const ACK: u8 = 0x10;
        self.header.tcp_flags.is_some_and(|flags| flags & (SYN | ACK) == SYN)
    }

    fn told_drop(&mut self, at: Moment, mut drop: KernelDrop, mut met: Met) {
        // Devices that need no route have let go of it when they queue.
        let oif = self.visits.last().and_then(|visit| visit.oif.as_ref());
        met.leaving |= oif.is_some() && oif == drop.device.as_ref();
        let header = &self.header;
        met.rerouted = self.visits.last().is_some_and(|visit| visit.hook == HookPoint::Output)
            && (header.mark != self.packet.mark || ends(header) != ends(&self.packet));
        met.waited_ns = self.drafts.last().map(|last| at.time_ns.saturating_sub(last.step.time_ns));
        let gateway = self.drafts.iter().rev().find_map(|draft| match draft.step.kind {
            StepKind::Route { gateway, .. } => Some(gateway),
            _ => None,
        });
        let destination = header.destination.map(|end| end.addr);
        met.next_hop = gateway.and_then(|gateway| gateway.or(destination));
        let reported = Reported { header: self.header.clone(), iif: self.iif.clone(), met };
        drop.cause = reported.cause(&drop);
        if self.ending.kernel.is_some() {
            reported.name(&mut drop);
        }
        if reported.met.route_kind.is_some() {
            self.routed_here(at, reported.met.route_kind);
        }
        if let Some(decision) = drop.cause.and_then(refused_by_route) {
            self.push(
                at,
                StepKind::Route { decision, oif: None, gateway: None, matched: None },
                None,
                Note::Nothing,
            );
        }
        let drop = Box::new(drop);
        self.push(at, StepKind::Drop(drop.clone()), None, Note::Nothing);
        if self.ending.kernel.is_none() {
            self.ending.kernel = Some(drop);
            self.ending.reported = Some(Box::new(reported));
            self.asks = self.asked_back().or(self.asks);
        }
        self.ending.over(at.time_ns);
    }

    /// What the tables are to say of the way back, where that matters.
    fn asked_back(&self) -> Option<RouteQuery> {
        self.ending.kernel.as_ref().filter(|drop| drop.cause == Some("rp-filter"))?;
        RouteQuery::back(&self.ending.reported.as_ref()?.header)
    }

    /// Names the kernel's drop by all that is known at the end: in which hook it was, and whether a rule or a policy had
    /// decided it.
    pub(super) fn name_drop(&mut self) {
        let verdict = self.ending.verdict.and_then(|at| self.drafts.get(at)).map(|draft| &draft.step.kind);
        let decided = match verdict {
            Some(StepKind::Rule(_)) => Some("dropped-by-rule"),
            Some(StepKind::Policy { .. }) => Some("dropped-by-policy"),
            _ => None,
        };
        let (Some(drop), Some(reported)) = (&mut self.ending.kernel, &self.ending.reported) else { return };
        match decided.and_then(drops::cause) {
            Some(cause) => {
                drop.text = cause.means.into();
                (drop.cause, drop.check, drop.likely) = (Some(cause.code), None, false);
            }
            None => reported.name(drop),
        }
        let step = self.drafts.iter_mut().find_map(|draft| match &mut draft.step.kind {
            StepKind::Drop(step) => Some(step),
            _ => None,
        });
        if let Some(step) = step {
            step.clone_from(drop);
        }
    }
}

/// Journeys that wait to be told whether there is a way back; more are not told.
const MAX_ASKED_BACK: usize = 256;

impl Assembler {
    /// A drop was reported: notes whether the tables are asked about it.
    pub(super) fn asks_back(&mut self, seq: u64) {
        if self.opens.get(seq).and_then(Open::asked_back).is_none() {
            return;
        }
        if self.asked_back.len() >= MAX_ASKED_BACK {
            self.asked_back.clear();
        }
        self.asked_back.push(seq);
    }

    /// The tables answered.
    pub(super) fn answered_back(&mut self, netns: NetnsId, answer: &FibAnswer) {
        let mut waiting = std::mem::take(&mut self.asked_back);
        waiting.retain(|seq| {
            let open = match self.opens.get_mut(*seq) {
                Some(open) => Some(open),
                None => self.held_open(*seq),
            };
            let Some(open) = open else { return false };
            let is_it = open.netns == netns && open.asked_back() == Some(answer.query);
            if let Some(reported) = open.ending.reported.as_mut().filter(|_| is_it) {
                reported.met.way_back = Some(answer.routes.iter().any(FibRoute::is_unicast));
            }
            !is_it
        });
        self.asked_back = waiting;
    }
}

/// Source and destination address.
fn ends(packet: &Packet) -> [Option<IpAddr>; 2] {
    [packet.source, packet.destination].map(|end| end.map(|end| end.addr))
}

/// What the kernel's report of a drop came with.
#[derive(Debug)]
pub(super) struct Reported {
    header: Packet,
    iif: Option<Name>,
    met: Met,
}

/// What the kernel reported beside the packet.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each of them true or not")]
pub(super) struct Met {
    /// A route was attached.
    routed: bool,
    route_error: Option<i32>,
    /// `rt_type`.
    route_kind: Option<u8>,
    way_back: Option<bool>,
    leaving: bool,
    queue_full: bool,
    rerouted: bool,
    next_hop: Option<IpAddr>,
    waited_ns: Option<u64>,
    circumstances: Circumstances,
}

impl Met {
    pub(super) fn of(drop: &DropEvent) -> Self {
        let oif = drop.route.as_ref().and_then(|route| route.oif.as_ref());
        Self {
            routed: drop.route.is_some(),
            route_error: drop.route.as_ref().and_then(|route| route.error),
            route_kind: drop.route.as_ref().and_then(|route| route.kind),
            leaving: oif.is_some() && oif == drop.device.as_ref(),
            circumstances: drop.circumstances,
            ..Self::default()
        }
    }
}

impl Reported {
    fn evidence<'a>(&'a self, drop: &'a KernelDrop) -> Evidence<'a> {
        Evidence {
            reason: drop.reason.as_deref(),
            function: drop.function.as_deref(),
            packet: &self.header,
            hook: drop.hook,
            routed: self.met.routed,
            way_back: self.met.way_back,
            route_error: self.met.route_error,
            leaving: self.met.leaving,
            queue_full: self.met.queue_full,
            rerouted: self.met.rerouted,
            next_hop: self.met.next_hop,
            waited_ns: self.met.waited_ns,
            circumstances: self.met.circumstances,
            device: drop.device.as_deref().or(self.iif.as_deref()),
        }
    }

    fn cause(&self, drop: &KernelDrop) -> Option<&'static str> {
        drops::cause_of(&self.evidence(drop)).map(|cause| cause.code)
    }

    /// Says what it means. A journey's first drop is named when all is known ([`Open::name_drop`]).
    fn name(&self, drop: &mut KernelDrop) {
        let evidence = self.evidence(drop);
        let cause = drops::cause_of(&evidence);
        let (code, text) = (cause.map(|cause| cause.code), drops::describe(&evidence));
        let (check, likely) =
            (cause.and_then(|cause| cause.check_of(&evidence)), !drops::is_certain(&evidence));
        let fix = cause.and_then(|cause| cause.fix_of(&evidence));
        (drop.cause, drop.text, drop.likely) = (code, text.into(), likely);
        (drop.check, drop.fix) = (check.map(Name::from), fix.map(Name::from));
    }
}

/// What the routing decision was, where a cause of drops tells.
fn refused_by_route(cause: &str) -> Option<RouteDecision> {
    Some(match cause {
        "no-route" | "route-unreachable" => RouteDecision::Unreachable,
        "route-blackhole" => RouteDecision::Blackhole,
        "route-prohibit" => RouteDecision::Prohibit,
        "rp-filter"
        | "local-source"
        | "martian-source"
        | "martian-destination"
        | "loopback-address"
        | "address-check" => RouteDecision::Martian,
        _ => return None,
    })
}
