//! Packets that belong together: one that carries another, pieces of one, what pieces were put together to, copies, and
//! what this host sends back for a packet that it does not take.
//!
//! A buffer that a tunnel's device takes goes on with the outer packet's headers, and one that brings such a packet goes
//! on with the inner one's: another packet, another journey. Pieces and copies have buffers of their own, and are known
//! by what IP leaves alone: addresses, protocol and a telling identification.

use std::collections::BTreeMap;

use super::assemble::Assembler;
use super::ending::Why;
use super::open::{Moment, Open, Place};
use super::{JourneyId, Kinship, Relation};
use crate::event::{HookPoint, HookVerdict, NetnsId, PacketId};
use crate::packet::{Endpoint, EndsKey, Family, Packet, tcp_flag};

/// How many journeys are remembered for those that belong to them.
const MAX_REMEMBERED: usize = 8192;
/// Copies are made while the packet is in hand: no later than this after it was last seen.
const COPY_NS: u64 = 10_000_000;
/// So are answers; the first of its kind may have to wait for a module. None but the last packet between two ends is
/// answered, so this can be generous.
const ANSWER_NS: u64 = 100_000_000;

/// What fragments of one datagram have in common (RFC 791, section 2.3): the ends without ports, and the identification.
type Datagram = (u16, EndsKey);

fn datagram(netns: NetnsId, packet: &Packet) -> Option<Datagram> {
    let id = packet.ip_id.filter(|id| *id != 0)?;
    let without_port = |end: Endpoint| Endpoint { port: None, ..end };
    let (source, destination) = (packet.source.map(without_port)?, packet.destination.map(without_port)?);
    Some((id, EndsKey::new(netns, packet.protocol?, source, destination)))
}

/// What a packet has by which its answer knows it: protocol and ends, where it is.
fn ends(netns: NetnsId, packet: &Packet) -> Option<EndsKey> {
    Some(EndsKey::new(netns, packet.protocol?, packet.source?, packet.destination?))
}

/// The ends of the packet that such a packet answers: the one that an ICMP error quotes, the one that a reset turns
/// round (`nf_send_reset`, `tcp_v4_send_reset`; v6.12).
fn answered(netns: NetnsId, answer: &Packet) -> Option<EndsKey> {
    if let Some(quoted) = answer.icmp.and_then(|icmp| icmp.about) {
        return Some(EndsKey::new(netns, quoted.protocol, quoted.source, quoted.destination));
    }
    let reset = answer.tcp_flags.is_some_and(|flags| flags & tcp_flag::RST != 0);
    reset.then_some(EndsKey::new(netns, answer.protocol?, answer.destination?, answer.source?))
}

/// Keeps it among so many.
fn remember<K: Ord, V>(among: &mut BTreeMap<K, V>, key: K, value: V) {
    if among.len() >= MAX_REMEMBERED && !among.contains_key(&key) {
        among.pop_first();
    }
    among.insert(key, value);
}

/// A journey that has ended.
#[derive(Debug, Clone, Copy)]
struct Ended {
    id: JourneyId,
    dropped: bool,
}

/// Which journeys belong together.
#[derive(Debug, Default)]
pub(super) struct Kin {
    /// By the journey's number under way.
    of: BTreeMap<u64, (Kinship, Vec<u64>)>,
    /// Fragments that wait for the rest, by their datagram.
    fragments: BTreeMap<Datagram, Vec<u64>>,
    /// The last whole datagram of each identification.
    wholes: BTreeMap<Datagram, u64>,
    /// The last packet between two ends, as they were on its way.
    between: BTreeMap<EndsKey, u64>,
    /// What journeys that have ended are called.
    ended: BTreeMap<u64, Ended>,
}

impl Kin {
    pub(super) fn note(&mut self, seq: u64, kinship: Kinship, of: Vec<u64>) {
        remember(&mut self.of, seq, (kinship, of));
    }

    /// A journey begins.
    pub(super) fn opened(&mut self, seq: u64, at: Moment, packet: &Packet) {
        self.goes_between(seq, at.netns, packet);
        let Some(key) = datagram(at.netns, packet) else { return };
        if packet.is_fragment() {
            match self.fragments.get_mut(&key) {
                Some(pieces) => pieces.push(seq),
                None => remember(&mut self.fragments, key, vec![seq]),
            }
            return;
        }
        remember(&mut self.wholes, key, seq);
        if let Some(pieces) = self.fragments.remove(&key) {
            for piece in &pieces {
                self.note(*piece, Kinship::PieceOf, vec![seq]);
            }
            self.note(seq, Kinship::MadeOf, pieces);
        }
    }

    /// Its packet goes from one end to another now.
    pub(super) fn goes_between(&mut self, seq: u64, netns: NetnsId, packet: &Packet) {
        let Some(ends) = ends(netns, packet) else { return };
        remember(&mut self.between, ends, seq);
    }

    /// A journey is complete. What it belongs to is told as far as that is; an answer, where the packet was not taken.
    pub(super) fn completed(&mut self, seq: u64, id: JourneyId, dropped: bool) -> Option<Relation> {
        remember(&mut self.ended, seq, Ended { id, dropped });
        let (kind, of) = self.of.remove(&seq)?;
        let told = |seq| {
            self.ended
                .get(seq)
                .filter(|ended| ended.dropped || kind != Kinship::AnswerTo)
                .map(|ended| ended.id)
        };
        let of: Vec<JourneyId> = of.iter().filter_map(told).collect();
        (!of.is_empty()).then_some(Relation { kind, of })
    }
}

impl Assembler {
    /// The journey that an event with these headers belongs to: another one than `seq`, where the buffer holds another
    /// packet by now that carries the former, or that was in it. `received`: a device gave it.
    pub(super) fn repacked(
        &mut self,
        seq: u64,
        at: Moment,
        packet: PacketId,
        header: &Packet,
        received: bool,
    ) -> u64 {
        // Where ends are not probed, the buffer may have been freed and taken again meanwhile.
        let received = received && self.timing().probes;
        let Some(open) = self.opens.get_mut(seq) else { return seq };
        let Some(kinship) = repacking(open, header, received) else { return seq };
        if kinship == Kinship::UnpackedFrom {
            open.place = Place::Delivered;
        }
        self.close(seq, Why::Due);
        let other = self.open(at, Some(packet), header.clone());
        self.kin.note(other, kinship, vec![seq]);
        other
    }

    /// A journey that began where this host sends: whether it is of an answer, and if to a packet in hand, notes which.
    pub(super) fn perhaps_answers(&mut self, seq: u64, at: Moment) -> bool {
        let Some(header) = self.opens.get(seq).map(|open| &open.header) else { return false };
        let Some(ends) = answered(at.netns, header) else {
            return header.is_icmp_error() && self.answers_in_hand(seq, at);
        };
        let in_hand =
            |open: &Open| open.cpu == at.cpu && at.time_ns.saturating_sub(open.last_seen_ns) < ANSWER_NS;
        let cause = self.kin.between.get(&ends).copied();
        if let Some(cause) = cause.filter(|cause| self.opens.get(*cause).is_some_and(in_hand)) {
            self.kin.note(seq, Kinship::AnswerTo, vec![cause]);
        }
        true
    }

    /// An ICMP error of which so little was seen that what it quotes is not known (trace messages end before that): what it
    /// answers is what the processor had in hand last, if the error goes where that came from and quotes as much as it has.
    fn answers_in_hand(&mut self, seq: u64, at: Moment) -> bool {
        let on_processor = |open: &&Open| {
            open.cpu == at.cpu
                && open.netns == at.netns
                && at.time_ns.saturating_sub(open.last_seen_ns) < ANSWER_NS
        };
        let mut last: Option<(u64, u64)> = None;
        for (number, open) in self.opens.iter().filter(|(number, open)| *number != seq && on_processor(open))
        {
            if last.is_none_or(|(seen, _)| open.last_seen_ns >= seen) {
                last = Some((open.last_seen_ns, number));
            }
        }
        let fits =
            |cause: &Open| self.opens.get(seq).is_some_and(|error| quotes(&error.header, &cause.header));
        let cause = last.map(|(_, number)| number).filter(|number| self.opens.get(*number).is_some_and(fits));
        if let Some(cause) = cause {
            self.kin.note(seq, Kinship::AnswerTo, vec![cause]);
        }
        cause.is_some()
    }

    /// A journey that began elsewhere than at a device: as the answer to a packet that is in hand, as a piece of a datagram
    /// that is under way, or as a copy, where its packet is in hand in another buffer.
    pub(super) fn perhaps_of_another(&mut self, seq: u64, at: Moment) {
        if self.perhaps_answers(seq, at) {
            return;
        }
        let Some(copy) = self.opens.get(seq) else { return };
        let Some(key) = datagram(at.netns, &copy.header) else { return };
        if copy.header.is_fragment() {
            let whole = self.kin.wholes.get(&key).copied();
            if let Some(whole) = whole.filter(|whole| self.opens.contains(*whole)) {
                self.kin.note(seq, Kinship::PieceOf, vec![whole]);
            }
            return;
        }
        let in_hand = |open: &Open| {
            open.cpu == at.cpu
                && open.netns == at.netns
                && open.place != Place::Nowhere
                && !open.ending.is_over()
                && at.time_ns.saturating_sub(open.last_seen_ns) < COPY_NS
        };
        let original = self.identity.alike(&copy.header).find(|other| {
            *other != seq
                && self.opens.get(*other).is_some_and(|open| {
                    in_hand(open)
                        && open.header.source == copy.header.source
                        && open.header.destination == copy.header.destination
                })
        });
        if let Some(original) = original {
            self.kin.note(seq, Kinship::CopyOf, vec![original]);
        }
    }
}

/// Whether an ICMP error can be about a packet, by where it goes and how long it is: it quotes all, or as much as there may be
/// of it (`icmp_send`, net/ipv4/icmp.c; `icmp6_send`, net/ipv6/icmp.c; v6.12).
fn quotes(error: &Packet, packet: &Packet) -> bool {
    let (headers, most) = match error.family {
        Family::Ipv4 => (20 + 8, 576),
        Family::Ipv6 => (40 + 8, 1280),
        _ => return false,
    };
    error.family == packet.family
        && error.length == packet.length.saturating_add(headers).min(most)
        && packet.source.map(|end| end.addr) == error.destination.map(|end| end.addr)
        && packet.source.is_some()
        && !packet.is_icmp_error()
}

/// Protocols that carry packets: IP in IP (RFC 2003, 2473), GRE, IPsec, L2TP, and UDP, in which there is anything.
fn may_carry(packet: &Packet) -> bool {
    packet.protocol.is_some_and(|protocol| matches!(protocol, 4 | 17 | 41 | 47 | 50 | 51 | 115))
}

/// Whether a packet's buffer holds another packet now.
fn repacking(open: &Open, header: &Packet, received: bool) -> Option<Kinship> {
    if open.ending.is_over() || header.is_partial() || header.same_payload(&open.header) {
        return None;
    }
    let longer = header.told_length() > open.header.told_length();
    let sent = match &open.place {
        Place::Transmitted(_) => true,
        // IPsec wraps a packet behind its postrouting.
        Place::Hook => open.visits.last().is_some_and(|visit| {
            visit.hook == HookPoint::Postrouting && visit.verdict == Some(HookVerdict::Accept)
        }),
        _ => false,
    };
    let let_in = open.visits.last().is_none_or(|visit| {
        matches!(visit.hook, HookPoint::Prerouting | HookPoint::Input)
            && visit.verdict == Some(HookVerdict::Accept)
    });
    match received {
        false if sent && longer => Some(Kinship::Carries),
        true if let_in && !longer && may_carry(&open.header) => Some(Kinship::UnpackedFrom),
        _ => None,
    }
}
