//! The last that is seen of a packet: a socket took it, or the kernel dropped it.

use super::ending::KernelDrop;
use super::open::{Moment, Note, Open, Place};
use super::{RouteDecision, StepKind};
use crate::event::{HookPoint, HookVerdict};
use crate::findings::reasons;

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

    /// The kernel reports that it dropped the packet. What a rule or policy decided before is confirmed by
    /// it, not decided again.
    pub(super) fn dropped(&mut self, at: Moment, mut drop: KernelDrop) {
        let (reason, function) = (drop.reason.as_deref(), drop.function.as_deref());
        let taken = self.place == Place::Delivered || self.is_taken_in();
        let echo_reply = self.header.icmp.is_some_and(|icmp| matches!(icmp.kind, 0 | 129));
        if taken && reasons::is_used(reason, function, echo_reply) {
            self.ending.freed = true;
            self.ending.freed_by = drop.function;
            self.ending.over(at.time_ns);
            return;
        }
        if let Some(index) = self.current()
            && let Some(visit) = self.visits.get(index)
        {
            let refused = visit.verdict == Some(HookVerdict::Queue) && reasons::is_refusal(function);
            let inside = if refused || visit.exact {
                // What the reader of a queue refuses was in the hook that queued it.
                refused || !visit.over
            } else {
                // Functions hooked in after our last chain (conntrack's confirmation) drop as well: until the
                // packet is seen elsewhere, netfilter's drop is that hook's, whatever the chains had said.
                self.place == Place::Hook
                    && visit.hook != HookPoint::Egress
                    && (reason == Some("NETFILTER_DROP")
                        || !visit.over && reasons::is_in_hook(reason, function))
            };
            if inside {
                drop.hook = Some(visit.hook);
                if !visit.exact && !refused {
                    self.decide(index, HookVerdict::Drop);
                }
            }
        }
        if matches!(reason, Some("IP_INNOROUTES" | "IP_OUTNOROUTES")) {
            let decision = RouteDecision::Unreachable;
            self.push(
                at,
                StepKind::Route { decision, oif: None, gateway: None, table: None },
                None,
                Note::Nothing,
            );
        }
        let kind = StepKind::Drop {
            reason: drop.reason.clone(),
            function: drop.function.clone(),
            text: reasons::describe(reason, function),
        };
        self.push(at, kind, None, Note::Nothing);
        self.ending.kernel.get_or_insert(drop);
        self.ending.over(at.time_ns);
    }
}
