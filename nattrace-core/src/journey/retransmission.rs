//! Which packet is a retransmission of which: TCP only, because only there equal headers mean equal data.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, Hash, Hasher};

use super::{DropCause, Journey, JourneyId, Outcome, RuleRef, StepKind};
use crate::event::NetnsId;
use crate::packet::tcp_flag::{ACK, FIN, PSH, RST, SYN};
use crate::packet::{EndsKey, Packet, protocol};

/// Segments that are remembered.
const MAX_SEGMENTS: usize = 4096;
/// Longer than the last retry of any connection attempt (`tcp_syn_retries` 6: 127 s).
const MAX_AGE_NS: u64 = 180_000_000_000;

/// What two transmissions of one segment have in common, as first seen, before any rewrite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Segment {
    sequence: u32,
    length: u32,
    flags: u8,
    ends: EndsKey,
}

impl Segment {
    /// `None` for what is never retransmitted: other protocols, and segments that occupy no sequence space,
    /// which are equal without being the same (pure acknowledgements, resets).
    pub(super) fn of(netns: NetnsId, packet: &Packet) -> Option<Self> {
        if packet.protocol != Some(protocol::TCP) {
            return None;
        }
        let (flags, length) = (packet.tcp_flags?, packet.told_length());
        // Header sizes are not recorded: data is there for certain when it is pushed, or when the segment is
        // longer than its longest headers (20 or 40, and 60).
        let network = if packet.ip_id.is_some() { 20 } else { 40 };
        let has_data = flags & PSH != 0 || (flags & ACK != 0 && (length == 0 || length > network + 60));
        let occupies = flags & RST == 0 && (flags & (SYN | FIN) != 0 || has_data);
        let (source, destination) = (packet.source?, packet.destination?);
        let sequence = packet.tcp_seq?;
        let ends = EndsKey::new(netns, protocol::TCP, source, destination);
        occupies.then_some(Self { sequence, length, flags, ends })
    }
}

/// First transmissions, to tell later ones.
#[derive(Debug, Default)]
pub(super) struct Segments {
    first: BTreeMap<Segment, (JourneyId, u64, u64)>,
    order: VecDeque<(u64, Segment)>,
}

impl Segments {
    /// Marks the journey when its segment was seen before, and remembers it else.
    /// `path`: its [`path`].
    pub(super) fn judge(&mut self, journey: &mut Journey, path: u64) {
        while let Some((time, segment)) = self.order.front().copied() {
            let too_old = time.saturating_add(MAX_AGE_NS) < journey.first_seen_ns;
            if !too_old && self.order.len() < MAX_SEGMENTS {
                break;
            }
            self.order.pop_front();
            if self.first.get(&segment).is_some_and(|(_, first, _)| *first == time) {
                self.first.remove(&segment);
            }
        }
        let Some(segment) = Segment::of(journey.netns.inum, &journey.packet) else { return };
        if let Some((id, _, first_path)) = self.first.get(&segment) {
            journey.retransmission_of = Some(*id);
            journey.same_path = *first_path == path;
        } else {
            self.first.insert(segment, (journey.id, journey.first_seen_ns, path));
            self.order.push_back((journey.first_seen_ns, segment));
        }
    }
}

/// A digest of the way and the end of a journey, without what differs between two passages along the same way: times, what
/// conntrack calls its entries.
pub(super) fn path(journey: &Journey) -> u64 {
    let mut path = digest();
    for step in &journey.steps {
        match &step.kind {
            StepKind::Rule(step) => {
                hash_rule(&step.rule, &mut path);
                step.verdict.hash(&mut path);
            }
            StepKind::Rewrite { nat, from, to, .. } => (nat, from, to).hash(&mut path),
            // A dropped packet's entry is dropped with it: its retransmission has another one.
            StepKind::Connection { .. } => continue,
            other => other.hash(&mut path),
        }
        step.netns.hash(&mut path);
    }
    match &journey.outcome {
        Outcome::Dropped(DropCause::Rule { rule, .. }) => hash_rule(rule, &mut path),
        other => other.hash(&mut path),
    }
    path.finish()
}

/// Digests are compared within one run alone, where those of two ways must differ; nobody gains by two that do not.
pub(super) fn digest() -> impl Hasher {
    foldhash::quality::FixedState::default().build_hasher()
}

/// Which rule it is, whatever its text.
fn hash_rule(rule: &RuleRef, path: &mut impl Hasher) {
    (rule.backend, rule.family, &rule.table, &rule.chain, rule.handle).hash(path);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{Endpoint, Family};

    const ACK_ONLY: u8 = ACK;

    fn segment(protocol: u8, flags: u8, length: u32) -> Packet {
        let end = |last, port| Some(Endpoint { addr: [10, 0, 0, last].into(), port: Some(port) });
        Packet {
            family: Family::Ipv4,
            protocol: Some(protocol),
            source: end(1, 1000),
            destination: end(2, 80),
            tcp_flags: Some(flags),
            tcp_seq: Some(7),
            tcp_ack: Some(0),
            icmp: None,
            length,
            ttl: Some(64),
            ip_id: Some(1),
            fragment_offset: 0,
            more_fragments: false,
            segments: 0,
            tos: 0,
            mark: 0,
        }
    }

    #[test]
    fn only_what_occupies_sequence_space_is_retransmitted() {
        let cases = [
            ("SYN", protocol::TCP, 0x02, 60, true),
            ("SYN ACK", protocol::TCP, 0x12, 60, true),
            ("FIN ACK", protocol::TCP, 0x11, 52, true),
            ("a few bytes, pushed", protocol::TCP, 0x18, 53, true),
            ("much data", protocol::TCP, ACK_ONLY, 1500, true),
            ("an acknowledgement", protocol::TCP, ACK_ONLY, 52, false),
            ("one with every option", protocol::TCP, ACK_ONLY, 80, false),
            ("a reset", protocol::TCP, 0x14, 40, false),
            ("a datagram", protocol::UDP, 0, 60, false),
        ];
        for (name, protocol, flags, length, expected) in cases {
            let seen = Segment::of(1, &segment(protocol, flags, length)).is_some();
            assert_eq!(seen, expected, "{name}");
        }
    }

    #[test]
    fn the_same_segment_has_other_ip_fields_but_not_another_place() {
        let first = segment(protocol::TCP, 2, 60);
        let again = Packet { ip_id: Some(2), ttl: Some(63), mark: 5, ..first.clone() };
        assert_eq!(Segment::of(1, &first), Segment::of(1, &again));
        assert_ne!(Segment::of(1, &first), Segment::of(2, &first), "another namespace");
        let next = Packet { tcp_seq: Some(8), ..first.clone() };
        assert_ne!(Segment::of(1, &first), Segment::of(1, &next));
    }
}
