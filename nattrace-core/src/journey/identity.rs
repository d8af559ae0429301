//! Which event belongs to which journey.
//!
//! Events that name a packet are exact. Trace messages that do not are joined by what they do have: a trace
//! id, the processor, the packet that processor had in hand, and headers, which the first message of each
//! base chain's evaluation carries. None of these is an identity alone: the id is a hash of the buffer's
//! address, so the kernel gives it to the next packet in the same buffer, and it changes whenever the packet
//! crosses a device; headers repeat. So a join needs headers that agree in what neither NAT nor forwarding
//! changes, and a journey that can be at that hook now. Messages without headers follow their id.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Bound::Included;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::ending::Timing;
use super::open::{ChainName, Moment, Open, Place};
use super::slots::Slots;
use crate::event::{HookPoint, NetnsId, NfFamily, PacketId};
use crate::packet::{Packet, PayloadKey};

/// Packets whose end is remembered, so that what comes late opens no second journey.
const MAX_GONE: usize = 8192;
/// Packets that a device gave to the stack in one burst are taken up in the same order; no burst is longer.
const BURST_NS: u64 = 1_000_000;

fn same_ends(a: &Packet, b: &Packet) -> bool {
    a.source == b.source && a.destination == b.destination
}

/// Whether headers of different ends are still a packet's own: one end differs, and something else than the
/// length says that it is the same packet.
fn one_end_differs(a: &Packet, b: &Packet) -> bool {
    let telling = a.tcp_seq.is_some() || a.ip_id.is_some_and(|id| id != 0);
    telling && (a.source == b.source) != (a.destination == b.destination)
}

/// A trace message with headers, looking for its journey.
#[derive(Debug)]
pub(super) struct Sighting<'a> {
    pub(super) at: Moment,
    pub(super) id: u32,
    pub(super) hint: Option<PacketId>,
    pub(super) header: &'a Packet,
    pub(super) hook: Option<HookPoint>,
    pub(super) family: Option<NfFamily>,
    pub(super) chain: &'a Arc<ChainName>,
    /// It came in by the loopback device.
    pub(super) looped: bool,
}

/// Journeys under way, by everything that events name.
#[derive(Debug, Default)]
pub(super) struct Identity {
    by_packet: FxHashMap<PacketId, u64>,
    by_trace: FxHashMap<(NetnsId, u32), u64>,
    by_payload: BTreeSet<(PayloadKey, u64)>,
    gone: FxHashSet<PacketId>,
    gone_order: VecDeque<PacketId>,
}

impl Identity {
    pub(super) fn opened(&mut self, seq: u64, open: &Open) {
        if let Some(packet) = open.packet_id {
            self.by_packet.insert(packet, seq);
        }
        self.by_payload.insert((PayloadKey::of(&open.header), seq));
    }

    /// Keeps the index right when headers changed; `before` is what was indexed.
    pub(super) fn reshaped(&mut self, seq: u64, before: PayloadKey, now: &Packet) {
        let now = PayloadKey::of(now);
        if before != now {
            self.by_payload.remove(&(before, seq));
            self.by_payload.insert((now, seq));
        }
    }

    pub(super) fn closed(&mut self, seq: u64, open: &Open) {
        if let Some(packet) = open.packet_id {
            if self.by_packet.get(&packet) == Some(&seq) {
                self.by_packet.remove(&packet);
            }
            if self.gone.insert(packet) {
                self.gone_order.push_back(packet);
            }
            while self.gone.len() > MAX_GONE {
                let Some(oldest) = self.gone_order.pop_front() else { break };
                self.gone.remove(&oldest);
            }
        }
        for id in &open.trace_ids {
            for netns in open.visits.iter().map(|v| v.netns).chain([open.netns]) {
                if self.by_trace.get(&(netns, *id)) == Some(&seq) {
                    self.by_trace.remove(&(netns, *id));
                }
            }
        }
        self.by_payload.remove(&(PayloadKey::of(&open.header), seq));
    }

    pub(super) fn packet(&self, packet: PacketId) -> Option<u64> {
        self.by_packet.get(&packet).copied()
    }

    /// Journeys under way of packets with headers like these.
    pub(super) fn alike(&self, header: &Packet) -> impl Iterator<Item = u64> {
        let key = PayloadKey::of(header);
        self.by_payload.range((Included((key, 0)), Included((key, u64::MAX)))).map(|(_, seq)| *seq)
    }

    /// Whether the packet's journey is over.
    pub(super) fn is_gone(&self, packet: PacketId) -> bool {
        self.gone.contains(&packet)
    }

    pub(super) fn name_packet(&mut self, packet: PacketId, seq: u64) {
        self.by_packet.insert(packet, seq);
    }

    /// The journey that a message without headers belongs to.
    pub(super) fn trace(&self, netns: NetnsId, id: u32) -> Option<u64> {
        self.by_trace.get(&(netns, id)).copied()
    }

    pub(super) fn bind(&mut self, netns: NetnsId, id: u32, seq: u64) {
        self.by_trace.insert((netns, id), seq);
    }

    /// The id now belongs to a packet that nobody asked for.
    pub(super) fn unbind(&mut self, netns: NetnsId, id: u32) {
        self.by_trace.remove(&(netns, id));
    }

    /// The journey that a message with headers belongs to, if it is one under way.
    pub(super) fn find(&self, opens: &Slots<Open>, s: &Sighting<'_>, timing: Timing) -> Option<u64> {
        let key = (s.at.netns, s.id);
        // While a buffer lives, its id is its own.
        if let Some(seq) = self.by_trace.get(&key)
            && let Some(open) = opens.get(*seq)
            && (open.header.same_payload(s.header) || open.header.begins_like(s.header))
            && expects(open, s, timing)
        {
            return Some(*seq);
        }
        let hinted = s.hint.and_then(|p| self.packet(p));
        if s.header.is_partial()
            && let Some(seq) = hinted
            && let Some(open) = opens.get(seq)
            && open.header.begins_like(s.header)
            && expects(open, s, timing)
        {
            return Some(seq);
        }
        let peers: Vec<(u64, &Open)> = self
            .alike(s.header)
            .filter_map(|seq| opens.get(seq).map(|open| (seq, open)))
            .filter(|(_, open)| expects(open, s, timing))
            .filter(|(_, open)| open.trace_now.is_none_or(|now| now == key) || crosses(open, s))
            .collect();
        if let Some((seq, open)) = peers.iter().find(|(seq, _)| Some(*seq) == hinted)
            && same_ends(&open.header, s.header)
        {
            // A burst is received first and evaluated then: the processor has its last packet in hand, and
            // the first one that was not evaluated yet is meant.
            let first = peers.iter().find(|(_, peer)| {
                peer.cpu == open.cpu
                    && matches!(peer.place, Place::Received(_))
                    && matches!(open.place, Place::Received(_))
                    && same_ends(&peer.header, s.header)
                    && peer
                        .received_ns
                        .is_some_and(|at| at.saturating_add(BURST_NS) >= open.received_ns.unwrap_or(u64::MAX))
            });
            return Some(first.map_or(*seq, |(first, _)| *first));
        }
        let here = |open: &Open| open.cpu == s.at.cpu;
        let entry = s.hook.is_none_or(is_entry);
        peers
            .iter()
            .find(|(_, o)| here(o) && same_ends(&o.header, s.header))
            .or_else(|| peers.iter().find(|(_, o)| here(o) && !entry && one_end_differs(&o.header, s.header)))
            .or_else(|| peers.iter().find(|(_, o)| same_ends(&o.header, s.header)))
            .map(|(seq, _)| *seq)
    }

    /// The journey that only trace messages told of so far and that this device, drop or end event, the
    /// first that names the packet, belongs to.
    pub(super) fn find_unnamed(
        &self,
        opens: &Slots<Open>,
        at: Moment,
        header: &Packet,
        timing: Timing,
    ) -> Option<u64> {
        let peers: Vec<(u64, &Open)> = self
            .alike(header)
            .filter_map(|seq| opens.get(seq).map(|open| (seq, open)))
            .filter(|(_, o)| {
                o.packet_id.is_none()
                    && o.place == Place::Hook
                    && o.due_ns(timing) > at.time_ns
                    && o.ending.kernel.is_none()
                    && (at.netns == 0 || o.netns == at.netns)
                    && (same_ends(&o.header, header) || one_end_differs(&o.header, header))
            })
            .collect();
        let best = |same: bool, here: bool| {
            peers
                .iter()
                .find(|(_, o)| same_ends(&o.header, header) == same && (o.cpu == at.cpu) == here)
                .map(|(seq, _)| *seq)
        };
        best(true, true).or_else(|| best(true, false)).or_else(|| best(false, true))
    }
}

/// Hooks at which a packet's way begins.
pub(super) fn is_entry(hook: HookPoint) -> bool {
    matches!(hook, HookPoint::Ingress | HookPoint::Prerouting | HookPoint::Output)
}

fn rank(hook: HookPoint) -> u8 {
    match hook {
        HookPoint::Ingress => 0,
        HookPoint::Prerouting => 1,
        HookPoint::Input | HookPoint::Forward | HookPoint::Output => 2,
        HookPoint::Postrouting => 3,
        HookPoint::Egress => 4,
    }
}

/// Whether the message can be about a packet that left by one device and came in again by another: the
/// loopback device, or one in another namespace. With tracepoints the device's own event tells that.
fn crosses(open: &Open, s: &Sighting<'_>) -> bool {
    let Some(last) = open.visits.last() else { return false };
    let sent = matches!(
        last.hook,
        HookPoint::Output | HookPoint::Forward | HookPoint::Postrouting | HookPoint::Egress
    );
    let comes_in = matches!(s.hook, Some(HookPoint::Ingress | HookPoint::Prerouting | HookPoint::Input));
    let elsewhere = s.at.netns != last.netns && s.at.netns != 0;
    let looped = s.looped || last.oif.as_deref() == Some("lo");
    open.place == Place::Hook && sent && comes_in && (elsewhere || looped)
}

/// Whether the packet of this journey can be where the message was made, now.
fn expects(open: &Open, s: &Sighting<'_>, timing: Timing) -> bool {
    if open.due_ns(timing) <= s.at.time_ns {
        return false;
    }
    let entry = s.hook.is_some_and(is_entry);
    if open.ending.is_over() && (entry || open.ending.verdict.is_some()) {
        return false;
    }
    match &open.place {
        Place::Nowhere => true,
        Place::Received(_) => {
            !matches!(s.hook, Some(HookPoint::Output | HookPoint::Postrouting | HookPoint::Egress))
        }
        Place::Transmitted(_) => s.hook == Some(HookPoint::Egress),
        Place::Delivered => false,
        Place::Hook => {
            let Some(last) = open.visits.last() else { return true };
            let Some(hook) = s.hook else {
                return open.trace_now == Some((s.at.netns, s.id));
            };
            let here = last.netns == s.at.netns || s.at.netns == 0;
            if here && s.family.is_some_and(|family| family != last.family) {
                // A bridge hands the packet to the IP hooks and takes it back.
                return true;
            }
            if here && hook == last.hook {
                return !last.over && !last.evaluated.contains(s.chain);
            }
            let onward = here
                && last.hook != HookPoint::Input
                && hook != HookPoint::Output
                && rank(hook) > rank(last.hook);
            onward || (!timing.tracepoints && crosses(open, s))
        }
    }
}
