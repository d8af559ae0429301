//! Events to journeys.
//!
//! Each event finds its journey (`identity`), changes it (`evaluation`, `rewrite`, `route`), and may end it
//! (`ending`). What has ended waits until its rule texts are known and is then completed (`release`). There
//! is no clock here: time is what events and [`Assembler::expire`] say.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rustc_hash::FxHashMap;

use super::connections::Connections;
use super::counters::Counters;
use super::ending::{Ending, Timing, Why};
use super::explain::Answers;
use super::gone::Met;
use super::identity::{Identity, is_entry};
use super::kin::Kin;
use super::memory::Memory;
use super::names::Names;
use super::open::{ChainName, Moment, Open};
use super::release::Closed;
use super::retransmission::{Segment, Segments};
use super::route::{Questions, Routed};
use super::slots::Slots;
use super::{DeviceStep, Journey, KernelDrop};
use crate::conntrack::Tuple;
use crate::drops;
use crate::event::{
    Body, Deliver, DeviceEvent, DeviceRef, DropEvent, Event, Hook, HookPoint, HookReturn, HookVerdict, Loss,
    NetnsId, NfFamily, PacketId, Rewrite, RouteRef, Source, Verdict, Writer,
};
use crate::filter::Filter;
use crate::name::Name;
use crate::packet::{Packet, PayloadKey};
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
    /// Those that are on.
    pub fn where_on(is_on: impl Fn(Source) -> bool) -> Self {
        Self {
            probes: is_on(Source::Probes),
            tracepoints: is_on(Source::Tracepoints),
            nft: is_on(Source::Nft),
            conntrack: is_on(Source::Conntrack),
        }
    }

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

/// Whether a packet's way can begin where an event tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begins {
    No,
    InHook,
    AtDevice,
}

impl Begins {
    pub(super) fn in_hook(hook: HookPoint) -> Self {
        if is_entry(hook) { Self::InHook } else { Self::No }
    }
}

/// How to assemble.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "what can be chosen, each on or off")]
pub struct Options {
    /// What the trace was asked for: its sources select by it.
    pub filter: Filter,
    /// Which of these packets are told, where that is not all of them: what a replay is asked for.
    pub narrowed: Option<Filter>,
    /// Whether the connections of selected packets are followed.
    pub follow: bool,
    /// Which sources deliver events.
    pub sources: SourcesOn,
    /// What packets under way, and those that wait to be told, may take: bytes. The oldest is given up for the next.
    pub memory: usize,
    /// A packet that was taken or sent counts as gone for good after this time.
    pub settle_ns: u64,
    /// A packet that was not seen for this time counts as lost sight of.
    pub idle_ns: u64,
    /// How long an ended journey waits for the text of its rules.
    pub text_wait_ns: u64,
    /// Whether [`Assembler::questions`] are asked: journeys wait two seconds for the answers.
    pub asks: bool,
    /// Whether journeys keep the trace messages they are made of ([`Journey::traced`]).
    pub keep_messages: bool,
    /// Whether journeys keep what their packets looked like ([`Journey::sights`]).
    pub keep_sights: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            filter: Filter::default(),
            narrowed: None,
            follow: true,
            sources: SourcesOn::default(),
            memory: 96 << 20,
            settle_ns: 200_000_000,
            idle_ns: 5_000_000_000,
            text_wait_ns: 1_000_000_000,
            asks: false,
            keep_messages: false,
            keep_sights: false,
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
    pub(super) own_tables: BTreeMap<(NetnsId, NfFamily), BTreeSet<String>>,
    pub(super) opens: Slots<Open>,
    /// Flows without a connection that `--oif` lets through.
    pub(super) untracked_out: BTreeSet<(NetnsId, Tuple)>,
    pub(super) identity: Identity,
    pub(super) connections: Connections,
    pub(super) under_way: BTreeSet<(Segment, u64)>,
    pub(super) held: BTreeMap<(u64, u64), Closed>,
    /// When those that are held began.
    pub(super) held_since: FxHashMap<u64, u64>,
    pub(super) ready: Vec<Journey>,
    pub(super) segments: Segments,
    pub(super) kin: Kin,
    pub(super) answers: Answers,
    pub(super) losses: VecDeque<Loss>,
    pub(super) counters: Counters,
    pub(super) memory: Memory,
    pub(super) questions: Questions,
    /// Journeys that wait to be told whether there is a way back to their packet's source.
    pub(super) asked_back: Vec<u64>,
    pub(super) next_seq: u64,
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
            own_tables: BTreeMap::new(),
            opens: Slots::default(),
            untracked_out: BTreeSet::new(),
            identity: Identity::default(),
            connections: Connections::default(),
            under_way: BTreeSet::new(),
            held: BTreeMap::new(),
            held_since: FxHashMap::default(),
            ready: Vec::new(),
            segments: Segments::default(),
            kin: Kin::default(),
            answers: Answers::default(),
            losses: VecDeque::new(),
            counters: Counters::default(),
            memory: Memory::default(),
            questions: Questions::default(),
            asked_back: Vec::new(),
            next_seq: 0,
            next_id: 1,
            now_ns: 0,
        }
    }

    /// Takes one event. Events of one packet must come in the order they happened; those of different sources may be
    /// apart by any time, so that only [`Body::Clock`] and [`Assembler::expire`] tell how late it is.
    pub fn push(&mut self, event: impl Borrow<Event>) {
        self.observe(event.borrow());
    }

    fn observe(&mut self, event: &Event) {
        self.counters.event(&event.body);
        let at = Moment { time_ns: event.time_ns, cpu: event.cpu, netns: event.netns };
        match &event.body {
            Body::Hook(hook) => self.hook(at, hook),
            Body::HookReturn(back) => self.hook_return(at, back),
            Body::Rewrite(rewrite) => self.rewrite(at, rewrite),
            Body::NftTrace(trace) => self.trace(at, trace),
            Body::LegacyRule(rule) => self.change(rule.packet, |open| open.legacy_rule(at, rule)),
            Body::Receive(device) => self.device(at, device, DeviceStep::Receive),
            Body::Transmit(device) => self.device(at, device, DeviceStep::Transmit),
            Body::Deliver(deliver) => self.deliver(at, deliver),
            Body::Writer(writer) => self.writer(at, writer),
            Body::Drop(drop) => self.dropped(at, drop),
            Body::End { packet, function } => self.freed(at, *packet, function.as_deref()),
            Body::Left { packet } => self.change(*packet, |open| {
                open.seen(at);
                open.ending.left = true;
                open.ending.over(at.time_ns);
            }),
            Body::Conntrack(change) => self.conntrack(at, change),
            Body::Commit(commit) => self.rulesets.entry(at.netns).or_default().commit(at.time_ns, commit),
            Body::Ruleset(listing) => self.rulesets.entry(at.netns).or_default().list(at.time_ns, listing),
            Body::SetAnswer(answer) => self.answers.answer(at.netns, at.time_ns, answer.clone()),
            Body::LegacyRuleset(listing) => self.legacy.list(at.netns, at.time_ns, listing.clone()),
            Body::LegacyChange(change) => self.legacy.change(at.time_ns, *change),
            Body::Link(link) => self.names.link(at.netns, link.index, (&link.name).into()),
            Body::Namespace { name } => self.names.namespace(at.netns, name.as_ref().map(Name::from)),
            Body::OwnTable { family, name } => {
                self.own_tables.entry((at.netns, *family)).or_default().insert(name.clone());
            }
            Body::Fib(answer) => {
                self.answered(at.netns, answer);
                self.answered_back(at.netns, answer);
            }
            // Of a conversation, or of the recording: not of a journey.
            Body::Neighbour(_) | Body::Full => {}
            Body::HeldBack { packets } => self.counters.held_back += *packets,
            Body::Clock { .. } => self.expire(at.time_ns),
            Body::Loss(loss) => {
                self.counters.loss(loss);
                if loss.source == Source::Probes {
                    self.legacy.may_have_changed(loss.first_ns, loss.last_ns);
                }
                self.losses.push_back(loss.clone());
                if self.losses.len() > MAX_LOSSES {
                    self.losses.pop_front();
                }
            }
        }
        self.make_room();
    }

    /// Tells the time, so that journeys can end by it; to be called every 50 ms or so.
    pub fn expire(&mut self, now_ns: u64) {
        self.now_ns = self.now_ns.max(now_ns);
        let timing = self.timing();
        let due: Vec<u64> = self
            .opens
            .iter()
            .filter(|(_, open)| open.due_ns(timing) <= self.now_ns)
            .map(|(seq, _)| seq)
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
        while let Some(seq) = self.opens.oldest() {
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

    /// Packets that were first seen before this have all been told: those under way are later, and so is what is not known
    /// yet. For those who put packets in the order of time. Nanoseconds since the epoch.
    #[must_use]
    pub fn settled_ns(&self) -> u64 {
        let open = self.opens.values().map(|open| open.first.time_ns).min();
        let held = self.held.first_key_value().map(|((first_ns, _), _)| *first_ns);
        [open, held].into_iter().flatten().fold(self.now_ns, u64::min)
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

    pub(super) fn open(&mut self, at: Moment, packet_id: Option<PacketId>, packet: Packet) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.counters.packets_selected += 1;
        let mut open = Open::new(at, packet_id, packet);
        open.sights = self.options.keep_sights.then(Vec::new);
        open.account();
        self.identity.opened(seq, &open);
        self.kin.opened(seq, at, &open.packet);
        if let Some(segment) = Segment::of(at.netns, &open.packet) {
            self.under_way.insert((segment, seq));
        }
        self.memory.grow(open.accounted);
        self.opens.push(seq, open);
        seq
    }

    pub(super) fn close(&mut self, seq: u64, why: Why) {
        let Some(open) = self.opens.remove(seq) else { return };
        self.identity.closed(seq, &open);
        self.hold(seq, open, why);
    }

    /// Changes a journey by its packet's id, if it has one.
    pub(super) fn change(&mut self, packet: PacketId, change: impl FnOnce(&mut Open)) {
        match self.identity.packet(packet) {
            Some(seq) => self.with(seq, change),
            None => self.counters.stray += 1,
        }
    }

    /// Changes a journey, keeping what it is found by.
    pub(super) fn with(&mut self, seq: u64, change: impl FnOnce(&mut Open)) {
        let Some(open) = self.opens.get_mut(seq) else { return };
        let before = PayloadKey::of(&open.header);
        let ends = (open.header.source, open.header.destination);
        change(open);
        self.memory.replace(open.accounted, open.account());
        self.identity.reshaped(seq, before, &open.header);
        if ends != (open.header.source, open.header.destination) {
            self.kin.goes_between(seq, open.netns, &open.header);
        }
        self.ask_tables(seq);
    }

    /// The journey of a packet that moves: a new one when it was not seen before, or when its buffer went on
    /// to carry another packet. `None` for what comes late.
    pub(super) fn moving(
        &mut self,
        at: Moment,
        packet: PacketId,
        header: Option<&Packet>,
        entry: Begins,
    ) -> Option<u64> {
        let timing = self.timing();
        if let (Some(seq), Some(header)) = (self.identity.packet(packet), header) {
            let other = self.repacked(seq, at, packet, header, entry == Begins::AtDevice);
            if other != seq {
                return Some(other);
            }
        }
        let entry = entry != Begins::No;
        if let Some(seq) = self.identity.packet(packet)
            && let Some(open) = self.opens.get_mut(seq)
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
            if let Some(open) = self.opens.get_mut(seq) {
                open.packet_id = Some(packet);
            }
            return Some(seq);
        }
        // A packet that nothing ties to a namespace may be any one's: it begins no journey.
        if at.netns == 0 {
            self.counters.stray += 1;
            return None;
        }
        Some(self.open(at, Some(packet), header.clone()))
    }

    fn hook(&mut self, at: Moment, hook: &Hook) {
        let begun = self.next_seq;
        let Some(seq) = self.moving(at, hook.packet, Some(&hook.header), Begins::in_hook(hook.hook)) else {
            return;
        };
        if seq >= begun {
            self.perhaps_of_another(seq, at);
        }
        let mut name = |device: &Option<_>| device.as_ref().map(|d| self.names.device(at.netns, d));
        let (iif, oif) = (name(&hook.iif), name(&hook.oif));
        let routed = self.route_of(at, hook.route.as_ref(), (&hook.iif, &hook.oif), oif.as_ref());
        self.with(seq, |open| {
            open.seen(at);
            open.see_header(at, &hook.header);
            if open.is_inside(at, hook.hook, hook.family) {
                return;
            }
            open.routed(at, hook.hook, hook.family, routed);
            open.enter(at, hook.hook, hook.family, iif, oif, true);
        });
        self.connected(seq, at, hook.connection.as_ref());
    }

    /// A route that a hook was told with; `oif` is the hook's own device.
    fn route_of(
        &mut self,
        at: Moment,
        route: Option<&RouteRef>,
        (hook_in, hook_out): (&Option<DeviceRef>, &Option<DeviceRef>),
        oif: Option<&Name>,
    ) -> Routed {
        let device = route.and_then(|r| r.oif.as_ref());
        Routed {
            kind: route.and_then(|r| r.kind),
            oif: oif.cloned().or_else(|| device.map(|d| self.names.device(at.netns, d))),
            gateway: route.and_then(|r| r.gateway),
            iif_index: hook_in.as_ref().map(|device| device.index),
            oif_index: hook_out.as_ref().or(device).map(|device| device.index),
            exact: route.is_some(),
        }
    }

    fn hook_return(&mut self, at: Moment, back: &HookReturn) {
        // A reply can be recognised on return at the earliest, where conntrack has attached its connection.
        let known = self
            .identity
            .packet(back.packet)
            .filter(|seq| self.opens.get(*seq).is_some_and(|o| o.visits.iter().any(|v| v.exact && !v.over)));
        let begins = if self.identity.is_gone(back.packet) { Begins::No } else { Begins::in_hook(back.hook) };
        let begun = self.next_seq;
        let known = match back.verdict {
            // Its drop was told before.
            HookVerdict::Drop => known.or_else(|| self.identity.packet(back.packet)),
            _ => known.or_else(|| self.moving(at, back.packet, back.header.as_ref(), begins)),
        };
        let Some(seq) = known else { return };
        if seq >= begun {
            self.perhaps_of_another(seq, at);
        }
        let mut name = |device: &Option<_>| device.as_ref().map(|d| self.names.device(at.netns, d));
        let (iif, oif) = (name(&back.iif), name(&back.oif));
        let routed = self.route_of(at, back.route.as_ref(), (&back.iif, &back.oif), oif.as_ref());
        self.with(seq, |open| {
            open.seen(at);
            if open.was_written_before_hook()
                && let Some(header) = &back.header
            {
                open.see_header(at, header);
            }
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
        let Some(seq) = self.moving(at, rewrite.packet, Some(&rewrite.before), Begins::No) else { return };
        self.with(seq, |open| {
            open.seen(at);
            open.rewritten(at, rewrite);
        });
        self.connected(seq, at, rewrite.connection.as_ref());
    }

    fn device(&mut self, at: Moment, event: &DeviceEvent, way: DeviceStep) {
        let entry = if way == DeviceStep::Receive { Begins::AtDevice } else { Begins::No };
        let begun = self.next_seq;
        let Some(seq) = self.moving(at, event.packet, Some(&event.header), entry) else { return };
        let name = self.names.device(at.netns, &event.device);
        if way == DeviceStep::Transmit && seq >= begun {
            self.split(seq, at, &event.header, &name);
        }
        self.with(seq, |open| {
            open.seen(at);
            open.see_header(at, &event.header);
        });
        // What became of the connection until it is sent was before that.
        if way == DeviceStep::Transmit {
            self.connected(seq, at, event.connection.as_ref());
        }
        self.with(seq, |open| open.device(at, way, &name));
        if way == DeviceStep::Receive {
            self.connected(seq, at, event.connection.as_ref());
        }
    }

    fn deliver(&mut self, at: Moment, deliver: &Deliver) {
        let Some(seq) = self.moving(at, deliver.packet, deliver.header.as_ref(), Begins::No) else { return };
        self.with(seq, |open| {
            open.seen(at);
            if let Some(header) = &deliver.header {
                open.see_header(at, header);
            }
            // It is freed then as if it had been used.
            if let Some(queue) = deliver.listening
                && queue.waiting > queue.most
                && open.begins_connection()
            {
                return open.overflowed(at, (&deliver.function).into());
            }
            open.delivered(at, Some((&deliver.function).into()));
        });
    }

    fn writer(&mut self, at: Moment, writer: &Writer) {
        let Some(seq) = self.moving(at, writer.packet, Some(&writer.header), Begins::No) else { return };
        self.with(seq, |open| {
            open.seen(at);
            open.see_header(at, &writer.header);
            open.writer = Some((&writer.function).into());
        });
    }

    fn dropped(&mut self, at: Moment, drop: &DropEvent) {
        let (reason, function) = (drop.reason.as_deref(), drop.function.as_deref());
        if drops::is_consumption(reason) {
            return self.freed(at, drop.packet, function);
        }
        if drops::is_capture(function) {
            return self.change(drop.packet, |open| open.seen(at));
        }
        if drops::is_made_up(function) {
            return;
        }
        if self.identity.packet(drop.packet).is_none() && self.identity.is_gone(drop.packet) {
            self.counters.stray += 1;
            return;
        }
        let Some(seq) = self.moving(at, drop.packet, Some(&drop.header), Begins::No) else { return };
        let device = drop.device.as_ref().map(|device| self.names.device(at.netns, device));
        self.with(seq, |open| {
            open.seen(at);
            open.see_header(at, &drop.header);
            let met = Met::of(drop);
            let (reason, function) = (reason.map(Name::from), function.map(Name::from));
            let reported = KernelDrop { reason, function, device, ..KernelDrop::default() };
            open.dropped(at, reported, met);
        });
        self.asks_back(seq);
    }

    fn freed(&mut self, at: Moment, packet: PacketId, function: Option<&str>) {
        let capture = drops::is_capture(function);
        self.change(packet, |open| {
            open.seen(at);
            if !capture {
                open.ending.freed = true;
                open.ending.freed_by = function.map(Name::from);
                open.ending.over(at.time_ns);
            }
        });
    }
}

/// The hook of a base chain of the ruleset, for rules whose hook was not known when they were seen.
pub(super) fn hook_of(history: Option<&History>, base: &ChainName, time_ns: u64) -> Option<HookPoint> {
    history?.base_chain(base.family, &base.table, None, &base.chain, time_ns).map(|b| b.hook)
}
