//! How a journey ends, and when it may be called ended.
//!
//! Precedence, strongest first; nothing is called delivered or transmitted that was dropped:
//! 1. A rule's or a policy's drop verdict. It is final in the kernel, so it ends the journey alone. The
//!    kernel's own report of the same drop (`kfree_skb` with NETFILTER_DROP) only confirms it, before or after.
//! 2. A drop that the kernel reports, wherever the packet had come to: also behind a socket's queue or a
//!    driver.
//! 3. A hook that answered "drop" without either of these being seen.
//! 4. Where the packet was last: taken by a socket or protocol, or accepted by INPUT and not dropped within
//!    the settling time: delivered. Given to a device, or gone to a namespace that is not watched:
//!    transmitted. Queued to user space and not back: queued. Kept by a hook, or freed elsewhere without
//!    being called a drop: consumed.
//! 5. Else it is unfinished, and says where it was last seen.
//!
//! A packet that moves on after 4. has not ended: a loopback or veth device gives it back to the stack.

use ecow::eco_format;

use super::gone::Reported;
use super::open::{Draft, Open, Place, Visit};
use super::{DropCause, KernelDrop, Outcome, StepKind};
use crate::drops;
use crate::event::{HookPoint, HookVerdict};
use crate::name::Name;

/// What is known of the end so far.
#[derive(Debug, Default)]
pub(super) struct Ending {
    /// Index of the draft of the rule or policy that dropped.
    pub(super) verdict: Option<usize>,
    pub(super) kernel: Option<Box<KernelDrop>>,
    /// What that came with.
    pub(super) reported: Option<Box<Reported>>,
    /// A hook answered "drop".
    pub(super) hook: Option<HookPoint>,
    /// The buffer was freed.
    pub(super) freed: bool,
    /// By which function, where known.
    pub(super) freed_by: Option<Name>,
    pub(super) left: bool,
    /// When the last of these was seen.
    pub(super) at_ns: Option<u64>,
}

impl Ending {
    pub(super) fn is_over(&self) -> bool {
        self.at_ns.is_some()
    }

    pub(super) fn is_drop(&self) -> bool {
        self.verdict.is_some() || self.kernel.is_some() || self.hook.is_some()
    }

    /// Notes that a hook answered "drop": what the kernel reported before was within it.
    pub(super) fn dropped_in(&mut self, hook: HookPoint) {
        self.hook.get_or_insert(hook);
        if let Some(drop) = &mut self.kernel {
            drop.hook.get_or_insert(hook);
        }
    }

    /// Notes that it is over since then at the latest.
    pub(super) fn over(&mut self, time_ns: u64) {
        self.at_ns = Some(self.at_ns.map_or(time_ns, |at| at.max(time_ns)));
    }
}

/// What decides when a journey is over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    pub(super) probes: bool,
    pub(super) tracepoints: bool,
    pub(super) settle_ns: u64,
    /// A packet that is sent may come into another watched namespace, if its turn in a busy processor's backlog comes.
    pub(super) crossing: bool,
    pub(super) idle_ns: u64,
}

impl Timing {
    /// Only trace messages tell of packets.
    fn rules_only(self) -> bool {
        !self.probes && !self.tracepoints
    }
}

/// Why a journey is given an outcome now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// Nothing more is expected.
    Due,
    /// The trace ends.
    Stopped,
    /// Others needed its memory.
    Memory,
}

impl Open {
    /// From when on nothing more is expected.
    pub(super) fn due_ns(&self, timing: Timing) -> u64 {
        if let Some(at) = self.ending.at_ns {
            let confirmed = self.ending.kernel.is_some() || self.ending.freed || self.ending.left;
            // A hook that drops does not always tell; one that kept the packet, or ran others, does. And what
            // is freed on its way, without being called a drop, may be a copy.
            let gone = matches!(self.place, Place::Transmitted(_) | Place::Delivered) || self.is_taken_in();
            let kept = self.visits.iter().any(|v| v.exact && !v.over);
            // A hook that dropped tells of itself right after the kernel's report.
            let untold = timing.probes
                && self.ending.kernel.as_ref().is_some_and(|drop| {
                    drop.hook.is_none() && drops::is_in_hook(drop.reason.as_deref(), drop.function.as_deref())
                });
            let wait = untold
                || (!self.ending.is_drop() && (kept || !gone))
                || (!timing.rules_only() && (!confirmed || !timing.probes));
            return if wait { at.saturating_add(timing.settle_ns) } else { at };
        }
        let soon = match &self.place {
            Place::Transmitted(_) | Place::Delivered => true,
            Place::Hook => self.visits.last().is_some_and(|v| match (v.verdict, v.hook) {
                (Some(HookVerdict::Stolen), _) => true,
                (Some(HookVerdict::Accept), HookPoint::Input) => v.family.is_ip(),
                (Some(HookVerdict::Accept), HookPoint::Postrouting) => timing.rules_only(),
                _ => false,
            }),
            Place::Nowhere | Place::Received(_) => false,
        };
        let wait = match &self.place {
            Place::Transmitted(_) if timing.crossing => timing.idle_ns,
            _ if soon => timing.settle_ns,
            _ => timing.idle_ns,
        };
        self.last_seen_ns.saturating_add(wait)
    }

    /// The outcome, by the precedence above. Rule texts must be filled in before.
    pub(super) fn outcome(&self, timing: Timing, why: Why) -> Outcome {
        if let Some(cause) = self.ending.verdict.and_then(|at| self.drafts.get(at)).and_then(cause) {
            return Outcome::Dropped(cause);
        }
        if let Some(drop) = &self.ending.kernel {
            return Outcome::Dropped(DropCause::Kernel(drop.clone()));
        }
        if let Some(hook) = self.ending.hook {
            return Outcome::Dropped(DropCause::Kernel(Box::new(KernelDrop {
                hook: Some(hook),
                text: eco_format!(
                    "A function hooked into {} dropped it; no rule that was traced did.",
                    hook.name()
                ),
                ..KernelDrop::default()
            })));
        }
        let freed = self.ending.freed;
        let freed_by = self.ending.freed_by.as_deref().unwrap_or("");
        let last = self.visits.last();
        match &self.place {
            Place::Delivered => return Outcome::Delivered,
            Place::Transmitted(device) => return Outcome::Transmitted { device: Some(device.clone()) },
            Place::Hook => match last.and_then(|v| v.verdict) {
                Some(HookVerdict::Accept) if self.is_taken_in() && !timing.rules_only() => {
                    return Outcome::Delivered;
                }
                Some(HookVerdict::Queue) => return Outcome::Queued,
                Some(HookVerdict::Stolen) => return Outcome::Consumed,
                _ => {}
            },
            Place::Nowhere | Place::Received(_) => {}
        }
        if self.ending.left || drops::is_handed_to_device(freed_by) {
            return Outcome::Transmitted { device: last.and_then(|v| v.oif.clone()) };
        }
        if freed {
            return if drops::is_delivered_by(freed_by) { Outcome::Delivered } else { Outcome::Consumed };
        }
        Outcome::Unfinished { why: self.unfinished(timing, why) }
    }

    /// Whether INPUT was the last it was seen in, and accepted it.
    pub(super) fn is_taken_in(&self) -> bool {
        let accepted = |v: &Visit| {
            v.hook == HookPoint::Input && v.family.is_ip() && v.verdict == Some(HookVerdict::Accept)
        };
        self.place == Place::Hook && self.visits.last().is_some_and(accepted)
    }

    fn unfinished(&self, timing: Timing, why: Why) -> String {
        let last = self.visits.last();
        let place = match (&self.place, last) {
            (Place::Received(device), _) => format!("after {device} received it"),
            (Place::Hook, Some(v)) if v.verdict == Some(HookVerdict::Accept) => {
                if why != Why::Memory
                    && timing.rules_only()
                    && matches!(v.hook, HookPoint::Input | HookPoint::Postrouting)
                {
                    return format!(
                        "accepted by every rule in {}; what came after was not watched",
                        v.hook.name()
                    );
                }
                match &v.oif {
                    Some(oif) => format!("after {} had accepted it, bound for {oif}", v.hook.name()),
                    None => format!("after {} had accepted it", v.hook.name()),
                }
            }
            (Place::Hook, Some(v)) => format!("in {}", v.hook.name()),
            _ => "where it was first seen".to_owned(),
        };
        match why {
            Why::Due => format!("lost sight of it: last seen {place}"),
            Why::Stopped => format!("the trace ended while it was under way: last seen {place}"),
            Why::Memory => format!("memory: packets that came later needed what it took: last seen {place}"),
        }
    }
}

fn cause(draft: &Draft) -> Option<DropCause> {
    match &draft.step.kind {
        StepKind::Rule(step) => Some(DropCause::Rule { rule: step.rule.clone(), hook: step.hook }),
        StepKind::Policy { backend, family, table, chain, hook, .. } => Some(DropCause::Policy {
            backend: *backend,
            family: *family,
            table: table.clone(),
            chain: chain.clone(),
            hook: *hook,
        }),
        _ => None,
    }
}
