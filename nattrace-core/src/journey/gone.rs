//! The last that is seen of a packet: a socket took it, or the kernel dropped it.

use super::open::{Moment, Note, Open, Place};
use super::{KernelDrop, RouteDecision, StepKind};
use crate::drops::{self, Evidence};
use crate::event::{HookPoint, HookVerdict};

impl Open {
    /// A socket or a local protocol took it.
    pub(super) fn delivered(&mut self, at: Moment, function: Option<String>) {
        let kind = StepKind::Deliver {
            protocol: self.header.protocol_name(),
            local: self.header.destination,
            function,
        };
        self.push(at, kind, None, Note::Nothing);
        self.place = Place::Delivered;
    }

    /// The kernel reports that it dropped the packet, whose route had this error. What a rule or policy decided before
    /// is confirmed by it, not decided again.
    pub(super) fn dropped(&mut self, at: Moment, mut drop: KernelDrop, route_error: Option<i32>) {
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
        let evidence = Evidence {
            reason,
            function,
            packet: &self.header,
            hook: drop.hook,
            route_error,
            device: drop.device.as_deref().or(self.iif.as_deref()),
        };
        let cause = drops::cause_of(&evidence);
        let text = drops::describe(&evidence);
        let check = cause.and_then(|cause| cause.check_of(&evidence));
        drop = KernelDrop { cause: cause.map(|cause| cause.code), text, check, ..drop };
        if let Some(decision) = drop.cause.and_then(refused_by_route) {
            self.push(
                at,
                StepKind::Route { decision, oif: None, gateway: None, table: None },
                None,
                Note::Nothing,
            );
        }
        self.push(at, StepKind::Drop(drop.clone()), None, Note::Nothing);
        self.ending.kernel.get_or_insert(drop);
        self.ending.over(at.time_ns);
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
