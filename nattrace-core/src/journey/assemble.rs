//! Events to journeys.
//!
//! Each event finds its journey (`identity`), changes it (`evaluation`, `rewrite`, `route`), and may end it
//! (`ending`). What has ended waits until its rule texts are known and is then completed (`release`). There
//! is no clock here: time is what events and [`Assembler::expire`] say.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::connections::{Connections, tuple_of};
use super::counters::Counters;
use super::ending::{Ending, KernelDrop, Timing, Why};
use super::evaluation::{Message, Role, connection, headers, own_chain};
use super::identity::{Identity, Sighting, is_entry};
use super::names::Names;
use super::open::{ChainName, Moment, Note, Open, Place};
use super::release::Closed;
use super::retransmission::{Segment, Segments};
use super::route::Routed;
use super::{ConnectionStep, DeviceStep, Journey, RouteDecision, StepKind};
use crate::conntrack::{Connection, Direction, Tuple};
use crate::event::{
    Body, ConntrackChange, ConntrackEvent, Deliver, DeviceEvent, DropEvent, Event, Hook, HookPoint,
    HookReturn, HookVerdict, Loss, NetnsId, NfFamily, NftTrace, PacketId, Rewrite, RouteRef, Source, Verdict,
    Writer,
};
use crate::filter::Filter;
use crate::findings::reasons;
use crate::packet::Packet;
use crate::ruleset::{History, legacy};

/// Losses that are remembered, to mark the journeys they may have hurt.
const MAX_LOSSES: usize = 256;

/// Which sources deliver events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "four sources, each on or off")]
pub struct SourcesOn {
    /// Kprobes.
    pub probes: bool,
    /// Tracepoints.
    pub tracepoints: bool,
    /// nf_tables trace messages.
    pub nft: bool,
    /// ctnetlink.
    pub conntrack: bool,
}

impl Default for SourcesOn {
    fn default() -> Self {
        Self { probes: true, tracepoints: true, nft: true, conntrack: true }
    }
}

impl SourcesOn {
    /// Whether a source is on.
    #[must_use]
    pub fn has(self, source: Source) -> bool {
        match source {
            Source::Probes => self.probes,
            Source::Tracepoints => self.tracepoints,
            Source::Nft => self.nft,
            Source::Conntrack => self.conntrack,
        }
    }
}

/// How to assemble.
#[derive(Debug, Clone)]
pub struct Options {
    /// What the user asked for.
    pub filter: Filter,
    /// Whether the filter is still to be applied: the stream holds packets that another filter selected.
    pub selects: bool,
    /// Whether the connections of selected packets are followed.
    pub follow: bool,
    /// Which sources deliver events.
    pub sources: SourcesOn,
    /// Journeys under way at once; the oldest is given up for the next.
    pub max_open: usize,
    /// A packet that was taken or sent counts as gone for good after this time.
    pub settle_ns: u64,
    /// A packet that was not seen for this time counts as lost sight of.
    pub idle_ns: u64,
    /// How long an ended journey waits for the text of its rules.
    pub text_wait_ns: u64,
    /// Whether journeys keep the trace messages they are made of ([`Journey::traced`]).
    pub keep_messages: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            filter: Filter::default(),
            selects: false,
            follow: true,
            sources: SourcesOn::default(),
            max_open: 4096,
            settle_ns: 200_000_000,
            idle_ns: 5_000_000_000,
            text_wait_ns: 1_000_000_000,
            keep_messages: false,
        }
    }
}

/// Makes journeys of events. See the module's documentation.
#[derive(Debug)]
pub struct Assembler {
    pub(super) options: Options,
    pub(super) names: Names,
    pub(super) rulesets: BTreeMap<NetnsId, History>,
    pub(super) legacy: legacy::History,
    own_tables: BTreeSet<(NetnsId, NfFamily, String)>,
    pub(super) opens: BTreeMap<u64, Open>,
    /// Flows without a connection that `--oif` lets through.
    pub(super) untracked_out: BTreeSet<(NetnsId, Tuple)>,
    identity: Identity,
    pub(super) connections: Connections,
    pub(super) under_way: BTreeMap<Segment, BTreeSet<u64>>,
    pub(super) held: BTreeMap<(u64, u64), Closed>,
    pub(super) ready: Vec<Journey>,
    pub(super) segments: Segments,
    pub(super) losses: VecDeque<Loss>,
    pub(super) counters: Counters,
    next_seq: u64,
    pub(super) next_id: u64,
    pub(super) now_ns: u64,
}

impl Assembler {
    /// An assembler that has seen nothing yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            options,
            names: Names::default(),
            rulesets: BTreeMap::new(),
            legacy: legacy::History::default(),
            own_tables: BTreeSet::new(),
            opens: BTreeMap::new(),
            untracked_out: BTreeSet::new(),
            identity: Identity::default(),
            connections: Connections::default(),
            under_way: BTreeMap::new(),
            held: BTreeMap::new(),
            ready: Vec::new(),
            segments: Segments::default(),
            losses: VecDeque::new(),
            counters: Counters::default(),
            next_seq: 0,
            next_id: 1,
            now_ns: 0,
        }
    }

    /// Takes one event. Events of one packet must come in the order they happened.
    pub fn push(&mut self, event: Event) {
        self.counters.event(&event.body);
        self.now_ns = self.now_ns.max(event.time_ns);
        let at = Moment { time_ns: event.time_ns, cpu: event.cpu, netns: event.netns };
        match event.body {
            Body::Hook(hook) => self.hook(at, &hook),
            Body::HookReturn(back) => self.hook_return(at, &back),
            Body::Rewrite(rewrite) => self.rewrite(at, &rewrite),
            Body::NftTrace(trace) => self.trace(at, &trace),
            Body::LegacyRule(rule) => self.change(rule.packet, |open| open.legacy_rule(at, &rule)),
            Body::Receive(device) => self.device(at, &device, DeviceStep::Receive),
            Body::Transmit(device) => self.device(at, &device, DeviceStep::Transmit),
            Body::Deliver(deliver) => self.deliver(at, deliver),
            Body::Writer(writer) => self.writer(at, writer),
            Body::Drop(drop) => self.dropped(at, drop),
            Body::End { packet, function } => self.freed(at, packet, function),
            Body::Left { packet } => self.change(packet, |open| {
                open.seen(at);
                open.ending.left = true;
                open.ending.over(at.time_ns);
            }),
            Body::Conntrack(change) => self.conntrack(at, &change),
            Body::Commit(commit) => self.rulesets.entry(at.netns).or_default().commit(at.time_ns, &commit),
            Body::Ruleset(listing) => self.rulesets.entry(at.netns).or_default().list(at.time_ns, &listing),
            Body::LegacyRuleset(listing) => self.legacy.list(at.netns, at.time_ns, listing),
            Body::LegacyChange(change) => self.legacy.change(at.time_ns, change),
            Body::Link(link) => self.names.link(at.netns, link.index, link.name),
            Body::Namespace { name } => self.names.namespace(at.netns, name),
            Body::OwnTable { family, name } => {
                self.own_tables.insert((at.netns, family, name));
            }
            Body::Clock => self.expire(at.time_ns),
            Body::Loss(loss) => {
                self.counters.loss(&loss);
                if loss.source == Source::Probes {
                    self.legacy.may_have_changed(loss.first_ns, loss.last_ns);
                }
                self.losses.push_back(loss);
                if self.losses.len() > MAX_LOSSES {
                    self.losses.pop_front();
                }
            }
        }
    }

    /// Tells the time, so that journeys can end by it; to be called every 50 ms or so.
    pub fn expire(&mut self, now_ns: u64) {
        self.now_ns = self.now_ns.max(now_ns);
        let timing = self.timing();
        let due: Vec<u64> = self
            .opens
            .iter()
            .filter(|(_, open)| open.due_ns(timing) <= self.now_ns)
            .map(|(seq, _)| *seq)
            .collect();
        for seq in due {
            self.close(seq, Why::Due);
        }
        self.release(false);
    }

    /// The journeys that are complete since the last call; in the order they began, as far as that does not
    /// hold back what is known.
    pub fn finished(&mut self) -> Vec<Journey> {
        std::mem::take(&mut self.ready)
    }

    /// Ends everything: the trace is over.
    pub fn finish(&mut self, now_ns: u64) -> Vec<Journey> {
        self.expire(now_ns);
        while let Some(seq) = self.opens.keys().next().copied() {
            self.close(seq, Why::Stopped);
        }
        self.release(true);
        self.finished()
    }

    /// The counts so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How many journeys are under way, or have ended and wait for their rule texts: while there are any,
    /// time must be told.
    #[must_use]
    pub fn open_count(&self) -> usize {
        self.opens.len() + self.held.len()
    }

    pub(super) fn timing(&self) -> Timing {
        Timing {
            probes: self.options.sources.probes,
            tracepoints: self.options.sources.tracepoints,
            settle_ns: self.options.settle_ns,
            idle_ns: self.options.idle_ns,
            crossing: self.names.are_several(),
        }
    }

    fn open(&mut self, at: Moment, packet_id: Option<PacketId>, packet: Packet) -> u64 {
        while self.opens.len() >= self.options.max_open.max(1) {
            let Some(oldest) = self.opens.keys().next().copied() else { break };
            self.close(oldest, Why::Crowded);
        }
        let seq = self.next_seq;
        self.next_seq += 1;
        self.counters.packets_selected += 1;
        let open = Open::new(at, packet_id, packet);
        self.identity.opened(seq, &open);
        if let Some(segment) = Segment::of(at.netns, &open.packet) {
            self.under_way.entry(segment).or_default().insert(seq);
        }
        self.opens.insert(seq, open);
        seq
    }

    fn close(&mut self, seq: u64, why: Why) {
        let Some(open) = self.opens.remove(&seq) else { return };
        self.identity.closed(seq, &open);
        self.hold(seq, open, why);
    }

    /// Changes a journey by its packet's id, if it has one.
    fn change(&mut self, packet: PacketId, change: impl FnOnce(&mut Open)) {
        match self.identity.packet(packet) {
            Some(seq) => self.with(seq, change),
            None => self.counters.stray += 1,
        }
    }

    /// Changes a journey, keeping what it is found by.
    pub(super) fn with(&mut self, seq: u64, change: impl FnOnce(&mut Open)) {
        let Some(open) = self.opens.get_mut(&seq) else { return };
        let before = open.header.clone();
        change(open);
        self.identity.reshaped(seq, &before, &open.header);
    }

    /// The journey of a packet that moves: a new one when it was not seen before, or when its buffer went on
    /// to carry another packet. `entry` is where a packet's way begins. `None` for what comes late.
    fn moving(&mut self, at: Moment, packet: PacketId, header: Option<&Packet>, entry: bool) -> Option<u64> {
        let timing = self.timing();
        if let Some(seq) = self.identity.packet(packet)
            && let Some(open) = self.opens.get_mut(&seq)
        {
            let (over, dropped) = (open.ending.is_over(), open.ending.is_drop());
            let same =
                !dropped && header.is_none_or(|h| h.same_payload(&open.header) && h.ttl == open.header.ttl);
            let another = entry && over && !same;
            if !another && open.due_ns(timing) > at.time_ns {
                if over && !dropped {
                    // What was freed was a copy of it.
                    open.ending = Ending::default();
                }
                return Some(seq);
            }
            self.close(seq, Why::Due);
        }
        let header = header?;
        if !entry && self.identity.is_gone(packet) {
            self.counters.stray += 1;
            return None;
        }
        if let Some(seq) = self.identity.find_unnamed(&self.opens, at, header, timing) {
            self.identity.name_packet(packet, seq);
            if let Some(open) = self.opens.get_mut(&seq) {
                open.packet_id = Some(packet);
            }
            return Some(seq);
        }
        Some(self.open(at, Some(packet), header.clone()))
    }

    fn hook(&mut self, at: Moment, hook: &Hook) {
        let Some(seq) = self.moving(at, hook.packet, Some(&hook.header), is_entry(hook.hook)) else { return };
        let mut name = |device: &Option<_>| device.as_ref().map(|d| self.names.device(at.netns, d));
        let (iif, oif) = (name(&hook.iif), name(&hook.oif));
        let routed = self.route_of(at, hook.route.as_ref(), oif.as_ref());
        self.with(seq, |open| {
            open.seen(at);
            open.see_header(at, &hook.header);
            open.routed(at, hook.hook, hook.family, routed);
            open.enter(at, hook.hook, hook.family, iif, oif, true);
        });
        self.connected(seq, at, hook.connection.as_ref());
    }

    /// A route that a hook was told with; `oif` is the hook's own device.
    fn route_of(&mut self, at: Moment, route: Option<&RouteRef>, oif: Option<&String>) -> Routed {
        let device = route.and_then(|r| r.oif.as_ref());
        Routed {
            kind: route.and_then(|r| r.kind),
            oif: oif.cloned().or_else(|| device.map(|d| self.names.device(at.netns, d))),
            gateway: route.and_then(|r| r.gateway),
        }
    }

    fn hook_return(&mut self, at: Moment, back: &HookReturn) {
        // A reply can be recognised on return at the earliest, where conntrack has attached its connection.
        let known = self
            .identity
            .packet(back.packet)
            .filter(|seq| self.opens.get(seq).is_some_and(|o| o.visits.iter().any(|v| v.exact && !v.over)));
        let begins = is_entry(back.hook) && !self.identity.is_gone(back.packet);
        let known = match back.verdict {
            // Its drop was told before.
            HookVerdict::Drop => known.or_else(|| self.identity.packet(back.packet)),
            _ => known.or_else(|| self.moving(at, back.packet, back.header.as_ref(), begins)),
        };
        let Some(seq) = known else { return };
        let mut name = |device: &Option<_>| device.as_ref().map(|d| self.names.device(at.netns, d));
        let (iif, oif) = (name(&back.iif), name(&back.oif));
        let routed = self.route_of(at, back.route.as_ref(), oif.as_ref());
        self.with(seq, |open| {
            open.seen(at);
            let pending = |exact: bool| {
                move |v: &super::open::Visit| {
                    v.exact == exact && !v.over && v.hook == back.hook && v.family == back.family
                }
            };
            let visit = open.visits.iter().rposition(pending(true)).or_else(|| {
                let last = open.visits.len().checked_sub(1)?;
                open.visits.get(last).filter(|v| pending(false)(v)).map(|_| last)
            });
            let visit =
                visit.unwrap_or_else(|| open.passed_through(at, (back.hook, back.family), routed, iif, oif));
            let answer = match (back.verdict, open.last_verdict(visit)) {
                (HookVerdict::Stolen, Some((_, Verdict::Queue(_)))) => HookVerdict::Queue,
                (answer, _) => answer,
            };
            open.decide(visit, answer);
            if let Some(visit) = open.visits.get_mut(visit) {
                visit.exact = true;
                visit.over = true;
            }
            if answer == HookVerdict::Drop {
                open.ending.dropped_in(back.hook);
                open.ending.over(at.time_ns);
            } else if let Some(header) = &back.header {
                open.see_header(at, header);
            }
        });
        self.connected(seq, at, back.connection.as_ref());
    }

    fn rewrite(&mut self, at: Moment, rewrite: &Rewrite) {
        let Some(seq) = self.moving(at, rewrite.packet, Some(&rewrite.before), false) else { return };
        self.with(seq, |open| {
            open.seen(at);
            open.rewritten(at, rewrite);
        });
        self.connected(seq, at, rewrite.connection.as_ref());
    }

    fn device(&mut self, at: Moment, event: &DeviceEvent, way: DeviceStep) {
        let entry = way == DeviceStep::Receive;
        let begun = self.next_seq;
        let Some(seq) = self.moving(at, event.packet, Some(&event.header), entry) else { return };
        let name = self.names.device(at.netns, &event.device);
        if way == DeviceStep::Transmit && seq >= begun {
            self.split(at, &event.header, &name);
        }
        self.with(seq, |open| {
            open.seen(at);
            open.see_header(at, &event.header);
            open.device(at, way, &name);
        });
        self.connected(seq, at, event.connection.as_ref());
    }

    fn deliver(&mut self, at: Moment, deliver: Deliver) {
        let Some(seq) = self.moving(at, deliver.packet, deliver.header.as_ref(), false) else { return };
        self.with(seq, |open| {
            open.seen(at);
            if let Some(header) = &deliver.header {
                open.see_header(at, header);
            }
            open.delivered(at, Some(deliver.function));
        });
    }

    fn writer(&mut self, at: Moment, writer: Writer) {
        let Some(seq) = self.moving(at, writer.packet, Some(&writer.header), false) else { return };
        self.with(seq, |open| {
            open.seen(at);
            open.see_header(at, &writer.header);
            open.writer = Some(writer.function);
        });
    }

    fn dropped(&mut self, at: Moment, drop: DropEvent) {
        let (reason, function) = (drop.reason.as_deref(), drop.function.as_deref());
        if reasons::is_consumption(reason) {
            return self.freed(at, drop.packet, drop.function);
        }
        if reasons::is_capture(function) {
            return self.change(drop.packet, |open| open.seen(at));
        }
        if self.identity.packet(drop.packet).is_none() && self.identity.is_gone(drop.packet) {
            self.counters.stray += 1;
            return;
        }
        let Some(seq) = self.moving(at, drop.packet, Some(&drop.header), false) else { return };
        self.with(seq, |open| {
            open.seen(at);
            open.see_header(at, &drop.header);
            open.dropped(at, KernelDrop { reason: drop.reason, function: drop.function, hook: None });
        });
    }

    fn freed(&mut self, at: Moment, packet: PacketId, function: Option<String>) {
        let capture = reasons::is_capture(function.as_deref());
        self.change(packet, |open| {
            open.seen(at);
            if !capture {
                open.ending.freed = true;
                open.ending.freed_by = function;
                open.ending.over(at.time_ns);
            }
        });
    }

    fn conntrack(&mut self, at: Moment, event: &ConntrackEvent) {
        if event.change == ConntrackChange::Destroy {
            if let Some(index) = self.connections.find(at.netns, &event.connection) {
                for open in self.opens.values_mut().filter(|open| open.known == Some(index)) {
                    open.connection_step(at, ConnectionStep::Destroyed, event.connection.id);
                }
            }
            self.connections.destroyed(at.netns, &event.connection);
            return;
        }
        let Some(index) = self.connections.learn(at.netns, &event.connection) else { return };
        if event.change == ConntrackChange::New
            && let Some(known) = self.connections.get_mut(index)
        {
            known.created_ns = Some(at.time_ns);
        }
        let asked = self.opens.values().any(|open| {
            open.known.is_none()
                && open.connection_netns == at.netns
                && self.options.filter.matches(&open.packet)
                && event.connection.original.is_some()
                && tuple_of(&open.packet) == event.connection.original
        });
        if asked && let Some(known) = self.connections.get_mut(index) {
            known.followed = true;
        }
    }

    /// Takes over what an event says of the packet's connection.
    fn connected(&mut self, seq: u64, at: Moment, connection: Option<&Connection>) {
        let Some(connection) = connection else { return };
        let Some(open) = self.opens.get_mut(&seq) else { return };
        open.connection_lives(at, connection);
        open.merge_connection(at, connection);
        let netns = if at.netns == 0 { open.netns } else { at.netns };
        if netns != open.connection_netns {
            return;
        }
        // Conntrack itself looks at the packet before any rewrite: so does who sees it come in.
        let unchanged = matches!(open.drafts.first().map(|d| &d.step.kind), Some(StepKind::Device { .. }))
            || open.visits.first().is_some_and(|v| v.exact && is_entry(v.hook));
        if unchanged && let Some(mine) = &mut open.connection {
            match mine.direction {
                Some(Direction::Original) if mine.original.is_none() => {
                    mine.original = tuple_of(&open.packet);
                }
                Some(Direction::Reply) if mine.reply.is_none() => mine.reply = tuple_of(&open.packet),
                _ => {}
            }
        }
        let mine = open.connection.clone().unwrap_or_default();
        open.known = self.connections.learn(netns, &mine).or(open.known);
        if self.options.filter.matches(&open.packet)
            && let Some(known) = open.known.and_then(|k| self.connections.get_mut(k))
        {
            known.followed = true;
        }
    }

    fn trace(&mut self, at: Moment, trace: &NftTrace) {
        let message = &trace.message;
        let own = self.is_own(at.netns, message.family, &message.table);
        // Another instance's chains are no more the user's rules than our own; they tell nothing new.
        if !own && is_trace_table(&message.table) {
            return;
        }
        let (role, hook) = if own {
            own_chain(message)
        } else {
            let hook = self.rulesets.get(&at.netns).and_then(|history| {
                let (table, chain) = (&message.table, &message.chain);
                history.base_chain(message.family, table, trace.table_handle, chain, at.time_ns)
            });
            (Role::Rules, hook.map(|base| base.hook))
        };
        let mut device = |index: Option<u32>| {
            index.map(|index| self.names.device(at.netns, &crate::event::DeviceRef { index, name: None }))
        };
        let chain =
            ChainName { family: message.family, table: message.table.clone(), chain: message.chain.clone() };
        let m = Message {
            at,
            trace,
            header: headers(trace),
            role,
            chain,
            hook,
            iif: device(message.iif),
            oif: device(message.oif),
        };
        let Some(seq) = self.traced(&m) else { return };
        let keeps = self.options.keep_messages && !own;
        self.with(seq, |open| {
            open.seen(at);
            if keeps {
                open.keep(m.kept());
            }
            open.traced(at.netns, message.id);
            open.evaluate(&m);
        });
        self.identity.bind(at.netns, message.id, seq);
        self.connected(seq, at, connection(trace).as_ref());
    }

    /// The journey of a trace message; a new one where the message is the first sign of a selected packet.
    fn traced(&mut self, m: &Message<'_>) -> Option<u64> {
        let (at, id) = (m.at, m.trace.message.id);
        if let Some(packet) = m.trace.packet {
            let entry = m.hook.is_some_and(is_entry) && m.header.is_some() && m.role != Role::Rules;
            let seq = match (self.identity.packet(packet), &m.header) {
                (Some(seq), _) => Some(seq),
                (None, Some(header)) => self.moving(at, packet, Some(header), entry),
                (None, None) => None,
            };
            if seq.is_none() {
                self.counters.stray += 1;
            }
            return seq;
        }
        let timing = self.timing();
        let Some(header) = &m.header else {
            let seq = self.identity.trace(at.netns, id).filter(|seq| self.opens.contains_key(seq));
            if seq.is_none() {
                self.counters.stray += 1;
            }
            return seq;
        };
        let sighting = Sighting {
            at,
            id,
            hint: m.trace.hint,
            header,
            hook: m.hook,
            family: m.hook.map(|_| m.hook_family()),
            chain: &m.chain,
            looped: m.iif.as_deref() == Some("lo"),
        };
        if let Some(seq) = self.identity.find(&self.opens, &sighting, timing) {
            return Some(seq);
        }
        if !self.asked_for(m, header) {
            self.identity.unbind(at.netns, id);
            self.counters.foreign += 1;
            return None;
        }
        Some(self.open(at, None, header.clone()))
    }

    /// Whether a packet that only trace messages tell of is one that the user asked for: others may have
    /// rules that trace, too.
    fn asked_for(&self, m: &Message<'_>, header: &Packet) -> bool {
        let filter = &self.options.filter;
        let iif_fits = filter.iif.is_empty()
            || m.iif.as_ref().is_some_and(|iif| filter.iif.iter().any(|name| name == iif));
        if filter.matches(header) && iif_fits {
            return true;
        }
        // A rule of our own table matched, and only those that select have a verdict in this role: they look
        // at the connection, which here may be unknown. What comes by loopback was selected when it was sent.
        let selects = matches!(m.role, Role::Enter | Role::Select) && m.iif.as_deref() != Some("lo");
        if selects && m.trace.message.rule_handle.is_some() {
            return true;
        }
        if !self.options.follow {
            return false;
        }
        let followed = |index: u64| self.connections.get(index).is_some_and(|known| known.followed);
        self.connections.find_packet(m.at.netns, header).is_some_and(|(index, _)| followed(index))
            || connection(m.trace).and_then(|c| self.connections.find(m.at.netns, &c)).is_some_and(followed)
    }

    fn is_own(&self, netns: NetnsId, family: NfFamily, table: &str) -> bool {
        let named = |netns| self.own_tables.contains(&(netns, family, table.to_owned()));
        named(netns) || named(0)
    }
}

/// Whether a table is a trace table of some run of this program: `nattrace_PID`.
fn is_trace_table(table: &str) -> bool {
    table
        .strip_prefix("nattrace_")
        .is_some_and(|pid| !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit()))
}

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
    fn dropped(&mut self, at: Moment, mut drop: KernelDrop) {
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
            let inside = if visit.exact {
                !visit.over
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
                if !visit.exact {
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

/// The hook of a base chain of the ruleset, for rules whose hook was not known when they were seen.
pub(super) fn hook_of(history: Option<&History>, base: &ChainName, time_ns: u64) -> Option<HookPoint> {
    history?.base_chain(base.family, &base.table, None, &base.chain, time_ns).map(|b| b.hook)
}
