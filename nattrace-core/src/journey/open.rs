//! A journey under way: what is known of one packet so far.

use std::sync::Arc;

use smallvec::SmallVec;

use super::ending::Ending;
use super::rewrite::quoted;
use super::route::{Routed, SeenRoute};
use super::{ConnectionStep, DeviceStep, RouteDecision, Sight, Step, StepKind, Traced};
use crate::conntrack::Connection;
use crate::event::{HookPoint, HookVerdict, Manip, NetnsId, NfFamily, PacketId, TraceType, Verdict};
use crate::fib::RouteQuery;
use crate::name::Name;
use crate::packet::{Packet, Quoted};

/// More steps than any sane path has; a routing loop is cut off here.
pub(super) const MAX_STEPS: usize = 1000;
/// Steps that room is made for at first, and at least that many more whenever it is used up.
const FIRST_STEPS: usize = 4;
/// At most that many, until there are many.
const MORE_STEPS: usize = 8;
/// In most hooks no more base chains have rules that packets match, the own observer among them.
pub(super) const MOST_CHAINS: usize = 2;

/// The end that conntrack's NAT writes in a hook (`HOOK2MANIP`, include/net/netfilter/nf_nat.h, v6.12).
fn manipulates(hook: HookPoint, nat: Manip) -> bool {
    match nat {
        Manip::Snat => matches!(hook, HookPoint::Postrouting | HookPoint::Input),
        Manip::Dnat => matches!(hook, HookPoint::Prerouting | HookPoint::Output),
    }
}

/// When and where something was observed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) time_ns: u64,
    pub(super) cpu: u32,
    pub(super) netns: NetnsId,
}

/// A table's chain. All that came by it share its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ChainName {
    pub(super) family: NfFamily,
    pub(super) table: Name,
    pub(super) chain: Name,
}

/// The evaluation of one base chain, chains that it jumps to included.
#[derive(Debug, Clone)]
pub(super) struct Evaluation {
    pub(super) base: Arc<ChainName>,
    pub(super) over: bool,
}

/// One passage through a hook.
#[derive(Debug)]
pub(super) struct Visit {
    pub(super) netns: NetnsId,
    pub(super) hook: HookPoint,
    pub(super) family: NfFamily,
    /// Index of the hook's draft; `None` when there was no room for it.
    pub(super) draft: Option<usize>,
    /// Its entry or return was seen by a probe; else it is derived from trace messages.
    pub(super) exact: bool,
    /// It is known to be over: the return, or the observer behind every other chain, was seen.
    pub(super) over: bool,
    pub(super) verdict: Option<HookVerdict>,
    pub(super) evaluation: Option<Evaluation>,
    /// Base chains whose evaluation was seen.
    pub(super) evaluated: SmallVec<[Arc<ChainName>; MOST_CHAINS]>,
    /// Device in.
    pub(super) iif: Option<Name>,
    /// Device out, to tell a loopback.
    pub(super) oif: Option<Name>,
}

/// A step that may still change until the journey is shown.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) step: Step,
    /// Index of the visit it belongs to.
    pub(super) visit: Option<usize>,
    pub(super) note: Note,
}

/// What a step needs to be completed.
#[derive(Debug, Clone)]
pub(super) enum Note {
    Nothing,
    Rule {
        table_handle: Option<u64>,
        base: Arc<ChainName>,
    },
    /// Of legacy iptables, as the kernel calls it.
    Legacy {
        called: TraceType,
    },
    /// The end of a chain of legacy iptables: not shown.
    ChainEnd,
    Rewrite {
        reply: bool,
        exact: bool,
    },
    /// A routing decision, what the tables are asked to know which route it was, and how it shows in the packet.
    Route(Box<(RouteQuery, SeenRoute)>),
}

/// Where the packet was last seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Nowhere,
    Received(Name),
    /// In, or behind, the last of the visits.
    Hook,
    Transmitted(Name),
    Delivered,
}

/// One packet's journey while events may still come.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) packet_id: Option<PacketId>,
    pub(super) first: Moment,
    /// Where it is now.
    pub(super) netns: NetnsId,
    pub(super) cpu: u32,
    pub(super) last_seen_ns: u64,
    /// When its last Receive was seen: to keep bursts in order.
    pub(super) received_ns: Option<u64>,
    pub(super) packet: Packet,
    pub(super) header: Packet,
    /// What the ICMP error quoted when that was last seen.
    pub(super) quoted: Option<Quoted>,
    /// The function that is about to write into the header without conntrack's NAT.
    pub(super) writer: Option<Name>,
    pub(super) iif: Option<Name>,
    pub(super) connection: Option<Connection>,
    /// Where `connection` is tracked: each namespace has its own table.
    pub(super) connection_netns: NetnsId,
    /// Index among the known connections.
    pub(super) known: Option<u64>,
    /// The connection began with this packet.
    pub(super) fresh: bool,
    /// Another packet's entry took the place of its own, for which rules had decided before.
    pub(super) replaced: bool,
    /// Conntrack removed its entry while it was under way.
    pub(super) entry_gone: bool,
    pub(super) drafts: Vec<Draft>,
    pub(super) visits: Vec<Visit>,
    pub(super) place: Place,
    pub(super) ending: Ending,
    pub(super) trace_ids: Vec<u32>,
    /// The trace id that holds since the packet's last crossing (device, namespace).
    pub(super) trace_now: Option<(NetnsId, u32)>,
    pub(super) route: Option<(RouteDecision, Option<Name>)>,
    /// `ifindex` of the device in at its last PREROUTING.
    pub(super) came_by: Option<u32>,
    /// What the routing tables are to be asked for this packet.
    pub(super) asks: Option<RouteQuery>,
    /// The trace messages of rules, where they are kept.
    pub(super) traced: Vec<Traced>,
    /// What it looked like, where that is kept.
    pub(super) sights: Option<Vec<Sight>>,
    /// Bytes that it was last counted with.
    pub(super) accounted: usize,
}

impl Open {
    pub(super) fn new(at: Moment, packet_id: Option<PacketId>, packet: Packet) -> Self {
        Self {
            packet_id,
            first: at,
            netns: at.netns,
            cpu: at.cpu,
            last_seen_ns: at.time_ns,
            received_ns: None,
            header: packet.clone(),
            quoted: quoted(&packet),
            writer: None,
            packet,
            iif: None,
            connection: None,
            connection_netns: at.netns,
            known: None,
            fresh: false,
            replaced: false,
            entry_gone: false,
            drafts: Vec::new(),
            visits: Vec::new(),
            place: Place::Nowhere,
            ending: Ending::default(),
            trace_ids: Vec::new(),
            trace_now: None,
            route: None,
            came_by: None,
            asks: None,
            traced: Vec::new(),
            sights: None,
            accounted: 0,
        }
    }

    /// Notes that the packet was seen.
    pub(super) fn seen(&mut self, at: Moment) {
        self.last_seen_ns = self.last_seen_ns.max(at.time_ns);
        self.cpu = at.cpu;
        if at.netns != 0 {
            if self.first.netns == 0 {
                self.first.netns = at.netns;
                self.connection_netns = at.netns;
            }
            self.netns = at.netns;
        }
    }

    pub(super) fn push(
        &mut self,
        at: Moment,
        kind: StepKind,
        visit: Option<usize>,
        note: Note,
    ) -> Option<usize> {
        if self.drafts.len() >= MAX_STEPS {
            return None;
        }
        let netns = if at.netns == 0 { self.netns } else { at.netns };
        if self.drafts.len() == self.drafts.capacity() {
            // Most journeys have a dozen or two, those that are lost sight of have a few: twice as much would stay empty.
            self.drafts.reserve_exact(FIRST_STEPS.max(self.drafts.len()).min(MORE_STEPS));
        }
        self.drafts.push(Draft { step: Step { time_ns: at.time_ns, netns, kind }, visit, note });
        Some(self.drafts.len() - 1)
    }

    /// Moves a step that was noticed late to where it happened: no later than the step that it then stands before.
    pub(super) fn move_step(&mut self, from: usize, to: usize) {
        let mut draft = self.drafts.remove(from);
        if let Some(next) = self.drafts.get(to) {
            draft.step.time_ns = draft.step.time_ns.min(next.step.time_ns);
        }
        self.drafts.insert(to, draft);
        let moved = |at: usize| match at {
            at if at == from => to,
            at if from < at && at <= to => at - 1,
            at if to <= at && at < from => at + 1,
            at => at,
        };
        self.ending.verdict = self.ending.verdict.map(moved);
        for visit in &mut self.visits {
            visit.draft = visit.draft.map(moved);
        }
    }

    /// Index of the innermost visit that is not over, else of the last one.
    pub(super) fn current(&self) -> Option<usize> {
        self.visits.iter().rposition(|v| v.exact && !v.over).or_else(|| self.visits.len().checked_sub(1))
    }

    /// Whether it is in this hook already. What a queue's reader let go on on one processor can be told to enter its next
    /// hook twice, when the other is still on its way out of the hook that queued it.
    pub(super) fn is_inside(&self, at: Moment, hook: HookPoint, family: NfFamily) -> bool {
        self.place == Place::Hook
            && self.visits.last().is_some_and(|v| {
                v.exact && !v.over && v.hook == hook && v.family == family && v.netns == at.netns
            })
    }

    /// Enters a hook.
    pub(super) fn enter(
        &mut self,
        at: Moment,
        hook: HookPoint,
        family: NfFamily,
        iif: Option<Name>,
        oif: Option<Name>,
        exact: bool,
    ) -> usize {
        self.passed(family);
        if self.iif.is_none() && self.visits.is_empty() && self.place == Place::Nowhere {
            self.iif.clone_from(&iif);
        }
        let visit = self.visits.len();
        let kind = StepKind::Hook { hook, family, iif: iif.clone(), oif: oif.clone(), verdict: None };
        let draft = self.push(at, kind, Some(visit), Note::Nothing);
        self.visits.push(Visit {
            netns: at.netns,
            hook,
            family,
            draft,
            exact,
            over: false,
            verdict: None,
            evaluation: None,
            evaluated: SmallVec::new(),
            iif,
            oif,
        });
        self.place = Place::Hook;
        visit
    }

    /// A passage of which only the end is told. What was rewritten, or dropped, since the hook before this one was
    /// so within it: the kernel rewrites for conntrack nowhere else, and a hook that dropped tells right after.
    pub(super) fn passed_through(
        &mut self,
        at: Moment,
        (hook, family): (HookPoint, NfFamily),
        routed: Routed,
        iif: Option<Name>,
        oif: Option<Name>,
    ) -> usize {
        let within = |draft: &Draft| match (&draft.step.kind, &draft.note) {
            // A packet that comes back from a queue runs the rest of the hook before it.
            (StepKind::Rewrite { nat, .. }, Note::Rewrite { exact: true, .. }) => {
                draft.visit.is_none() && manipulates(hook, *nat)
            }
            // An entry can go at any time, and another's be taken over when the packet is back from a queue.
            (StepKind::Connection { event, .. }, _) => {
                draft.visit.is_none()
                    && !matches!(event, ConnectionStep::Destroyed | ConnectionStep::ClashResolved)
            }
            (StepKind::Rewrite { function, .. }, _) => draft.visit.is_none() && function.is_none(),
            (StepKind::Drop(_), _) => true,
            _ => false,
        };
        let begin = self.drafts.iter().rposition(|draft| !within(draft)).map_or(0, |last| last + 1);
        let inner = self.drafts.split_off(begin);
        let time_ns = inner.first().map_or(at.time_ns, |first| first.step.time_ns.min(at.time_ns));
        let at = Moment { time_ns, ..at };
        self.routed(at, hook, family, routed);
        let visit = self.enter(at, hook, family, iif, oif, true);
        self.drafts.extend(inner.into_iter().map(|draft| Draft { visit: Some(visit), ..draft }));
        visit
    }

    /// The packet is at another hook, so those before it accepted it: the returns that were not seen were
    /// lost. A bridge runs the IP layers' hooks, and later ones of its own, within one of its own.
    fn passed(&mut self, family: NfFamily) {
        for index in 0..self.visits.len() {
            let Some(visit) = self.visits.get_mut(index) else { continue };
            let nests = visit.exact && (visit.family == NfFamily::Bridge || visit.family != family);
            if nests || visit.over {
                continue;
            }
            visit.over = true;
            if visit.verdict.is_none() {
                // Back from a queue before the hook that queued it had returned.
                let queued = matches!(self.last_verdict(index), Some((_, Verdict::Queue(_))));
                self.decide(index, if queued { HookVerdict::Queue } else { HookVerdict::Accept });
            }
        }
    }

    /// Notes a hook's answer.
    pub(super) fn decide(&mut self, visit: usize, answer: HookVerdict) {
        let Some(visit) = self.visits.get_mut(visit) else { return };
        visit.verdict = Some(answer);
        if let Some(draft) = visit.draft.and_then(|d| self.drafts.get_mut(d))
            && let StepKind::Hook { verdict, .. } = &mut draft.step.kind
        {
            *verdict = Some(answer);
        }
    }

    pub(super) fn device(&mut self, at: Moment, event: DeviceStep, name: &Name) {
        self.push(at, StepKind::Device { event, name: name.clone() }, None, Note::Nothing);
        match event {
            DeviceStep::Receive => {
                if self.place == Place::Nowhere {
                    self.iif = Some(name.clone());
                }
                self.received_ns = Some(at.time_ns);
                self.route = None;
                self.trace_now = None;
                self.place = Place::Received(name.clone());
            }
            DeviceStep::Transmit => self.place = Place::Transmitted(name.clone()),
        }
    }

    /// Takes over what an observation says of the connection. Direction and state stay as first known: they
    /// describe this packet, not what the connection became.
    pub(super) fn merge_connection(&mut self, at: Moment, connection: &Connection) {
        let Some(mine) = &mut self.connection else {
            self.connection = Some(connection.clone());
            self.connection_netns = if at.netns == 0 { self.netns } else { at.netns };
            return;
        };
        if at.netns != 0 && self.connection_netns != at.netns {
            return;
        }
        if mine.key == 0 {
            mine.key = connection.key;
        }
        mine.id = mine.id.or(connection.id);
        mine.direction = mine.direction.or(connection.direction);
        mine.state = mine.state.or(connection.state);
        mine.status = match (mine.status, connection.status) {
            (Some(a), Some(b)) => Some(a | b),
            (a, b) => a.or(b),
        };
        mine.mark = connection.mark.or(mine.mark);
        mine.zone = mine.zone.or(connection.zone);
        mine.original = mine.original.or(connection.original);
        // Source NAT changes it as late as postrouting.
        mine.reply = connection.reply.or(mine.reply);
    }

    /// Keeps a trace message as it was sent.
    pub(super) fn keep(&mut self, traced: Traced) {
        if self.traced.len() < MAX_STEPS {
            self.traced.push(traced);
        }
    }

    /// Notes the trace id of a message; bounded, an id that alternates is kept once. Rule results that a
    /// probe gave without a message have none.
    pub(super) fn traced(&mut self, netns: NetnsId, id: u32) {
        if id == 0 {
            return;
        }
        if !self.trace_ids.contains(&id) && self.trace_ids.len() < 64 {
            self.trace_ids.push(id);
        }
        self.trace_now = Some((netns, id));
    }

    /// The last rule or policy verdict in a visit.
    pub(super) fn last_verdict(&self, visit: usize) -> Option<(usize, &Verdict)> {
        self.drafts.iter().enumerate().rev().filter(|(_, d)| d.visit == Some(visit)).find_map(|(at, d)| {
            match &d.step.kind {
                StepKind::Rule(rule) => Some((at, rule.verdict.as_ref()?)),
                StepKind::Policy { verdict, .. } => Some((at, verdict)),
                _ => None,
            }
        })
    }
}
