//! The connections that packets of this run belong to: what joins a reply, whose headers may share nothing
//! with what the user asked for, to the packet that was asked for.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::{JourneyId, RuleRef};
use crate::conntrack::{Connection, Direction, Tuple};
use crate::event::{Manip, NetnsId};
use crate::packet::{Endpoint, EndsKey, Packet, protocol};

/// Connections that are remembered; the one touched longest ago makes room.
const MAX_CONNECTIONS: usize = 8192;

/// What is remembered of a connection.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each of them true or not")]
pub(super) struct Known {
    netns: NetnsId,
    pub(super) connection: Connection,
    /// When ctnetlink told of its creation.
    pub(super) created_ns: Option<u64>,
    /// It was in conntrack's table when it was seen first.
    found: bool,
    /// A packet of it was told.
    pub(super) began: bool,
    /// A packet that the filter selects belongs to it.
    pub(super) followed: bool,
    /// A packet of it passed the filter of a replay.
    pub(super) selected: bool,
    /// A packet of it went out by a device that `--oif` asks for.
    pub(super) oif_passed: bool,
    /// The rule that decided the rewrite of the original direction's source or destination, and the journey of the
    /// packet for which it did, where that is shown.
    pub(super) decided: BTreeMap<Manip, (RuleRef, Option<JourneyId>)>,
    /// The first journeys of each way that packets of it went: a digest of direction, way and end.
    ways: Vec<(u64, JourneyId)>,
    /// Journeys of its packets that are not told yet.
    pub(super) under_way: SmallVec<[u64; 2]>,
    touched: u64,
    /// As of which [`Connections::claims`] it is found by all that it is known by.
    claimed: u64,
}

/// Ways that are remembered for a connection: both directions before and after it is established, and a few changes
/// of the ruleset.
const MAX_WAYS: usize = 12;

impl Known {
    /// The first journey of the connection that went this way; this one, where it is the first.
    pub(super) fn first_on(&mut self, way: u64, journey: JourneyId) -> JourneyId {
        if let Some((_, first)) = self.ways.iter().find(|(known, _)| *known == way) {
            return *first;
        }
        if self.ways.len() < MAX_WAYS {
            self.ways.push((way, journey));
        }
        journey
    }

    /// Whether it was there before anything was seen of it.
    pub(super) fn is_older(&self) -> bool {
        self.found && self.created_ns.is_none()
    }
}

/// Every connection known of.
#[derive(Debug, Default)]
pub(super) struct Connections {
    entries: FxHashMap<u64, Box<Known>>,
    by_key: FxHashMap<u64, u64>,
    by_id: FxHashMap<(NetnsId, u32), u64>,
    /// Ports and addresses are of strangers' choice: its hashes are keyed. It is never gone through.
    by_tuple: HashMap<EndsKey, (u64, Direction), foldhash::quality::RandomState>,
    /// When each was touched, and which; the oldest first. A time that is no more the entry's own is renewed when its turn
    /// comes.
    touches: BinaryHeap<Reverse<(u64, u64)>>,
    next: u64,
    clock: u64,
    /// How often a name of a connection was taken by another.
    claims: u64,
}

/// Of [`Known::claimed`]: as of none.
const UNCLAIMED: u64 = u64::MAX;

fn of((index, _): (u64, Direction)) -> u64 {
    index
}

/// A tuple as it is compared: protocols without ports have none, however the source writes that.
fn comparable(tuple: Tuple) -> Tuple {
    let ports =
        protocol::has_ports(tuple.protocol) || matches!(tuple.protocol, protocol::ICMP | protocol::ICMPV6);
    let strip = |end: Endpoint| Endpoint { port: end.port.filter(|_| ports), ..end };
    Tuple { protocol: tuple.protocol, source: strip(tuple.source), destination: strip(tuple.destination) }
}

fn key(netns: NetnsId, tuple: Tuple) -> EndsKey {
    let Tuple { protocol, source, destination } = comparable(tuple);
    EndsKey::new(netns, protocol, source, destination)
}

/// The tuple conntrack makes of a packet (`nf_ct_get_tuple`); none for fragments and ICMP errors.
pub(crate) fn tuple_of(packet: &Packet) -> Option<Tuple> {
    let (protocol, mut source, mut destination) = (packet.protocol?, packet.source?, packet.destination?);
    if protocol::has_ports(protocol) {
        source.port?;
    } else if matches!(protocol, protocol::ICMP | protocol::ICMPV6) {
        let icmp = packet.icmp?;
        source.port = Some(icmp.id?);
        destination.port = Some(u16::from_be_bytes([icmp.kind, icmp.code]));
    }
    Some(comparable(Tuple { protocol, source, destination }))
}

impl Connections {
    pub(super) fn get(&self, index: u64) -> Option<&Known> {
        self.entries.get(&index).map(|known| &**known)
    }

    pub(super) fn get_mut(&mut self, index: u64) -> Option<&mut Known> {
        self.entries.get_mut(&index).map(|known| &mut **known)
    }

    /// A journey is no more under way, or of another connection.
    pub(super) fn leaves(&mut self, seq: u64, index: Option<u64>) {
        if let Some(known) = index.and_then(|index| self.get_mut(index)) {
            known.under_way.retain(|other| *other != seq);
        }
    }

    /// The connection an observation speaks of. A tuple is reused by the next connection of the same ports,
    /// so whatever else both sides name must not contradict.
    pub(super) fn find(&self, netns: NetnsId, c: &Connection) -> Option<u64> {
        let fits = |index: &u64| {
            self.entries.get(index).is_some_and(|known| {
                let k = &known.connection;
                (known.netns == netns || netns == 0 || known.netns == 0)
                    && !(k.key != 0 && c.key != 0 && k.key != c.key)
                    && !matches!((k.id, c.id), (Some(a), Some(b)) if a != b)
                    && !matches!((k.original, c.original), (Some(a), Some(b)) if comparable(a) != comparable(b))
            })
        };
        c.original
            .and_then(|t| self.by_tuple.get(&key(netns, t)))
            .filter(|(_, direction)| *direction == Direction::Original)
            .map(|(index, _)| *index)
            .filter(fits)
            .or_else(|| c.id.and_then(|id| self.by_id.get(&(netns, id))).copied().filter(fits))
            .or_else(|| self.by_key.get(&c.key).filter(|_| c.key != 0).copied().filter(fits))
    }

    /// The connection whose packets look like this one before any rewrite, and the direction it goes.
    pub(super) fn find_packet(&self, netns: NetnsId, packet: &Packet) -> Option<(u64, Direction)> {
        self.by_tuple.get(&key(netns, tuple_of(packet)?)).copied()
    }

    /// Takes over what an observation says; gives the index of the connection, which is new if need be.
    /// `None` where the observation names nothing to know it by again.
    pub(super) fn learn(&mut self, netns: NetnsId, seen: &Connection) -> Option<u64> {
        if seen.key == 0 && seen.id.is_none() && seen.original.is_none() {
            return None;
        }
        let index = self.find(netns, seen).unwrap_or_else(|| {
            let index = self.next;
            self.next += 1;
            let found = seen.is_confirmed() == Some(true);
            self.entries
                .insert(index, Box::new(Known { netns, found, claimed: UNCLAIMED, ..Known::default() }));
            self.touches.push(Reverse((0, index)));
            index
        });
        self.clock += 1;
        if let Some(known) = self.entries.get_mut(&index) {
            known.touched = self.clock;
            let mine = &mut known.connection;
            let before = mine.clone();
            if seen.key != 0 {
                mine.key = seen.key;
            }
            mine.status = match (mine.status, seen.status) {
                (Some(a), Some(b)) => Some(a | b),
                (a, b) => a.or(b),
            };
            mine.zone = seen.zone.or(mine.zone);
            mine.id = seen.id.or(mine.id);
            mine.original = seen.original.or(mine.original);
            mine.reply = seen.reply.or(mine.reply);
            // Most of what is seen is known, and found by all that it is known by.
            let home = known.netns == netns;
            if !home || known.claimed != self.claims || before != *mine {
                let mut lost = false;
                let mut taken = |from: Option<u64>| lost |= from.is_some_and(|from| from != index);
                if seen.key != 0 {
                    taken(self.by_key.insert(seen.key, index));
                }
                if let Some(id) = mine.id {
                    taken(self.by_id.insert((netns, id), index));
                }
                if let Some(reply) = mine.reply {
                    taken(self.by_tuple.insert(key(netns, reply), (index, Direction::Reply)).map(of));
                }
                if let Some(original) = mine.original {
                    taken(self.by_tuple.insert(key(netns, original), (index, Direction::Original)).map(of));
                }
                self.claims += u64::from(lost);
                // All that it is known by was claimed, but for a key that was not seen.
                known.claimed = if home && mine.key == seen.key { self.claims } else { UNCLAIMED };
            }
        }
        while self.entries.len() > MAX_CONNECTIONS {
            let Some(Reverse((touched, oldest))) = self.touches.pop() else { break };
            match self.entries.get(&oldest) {
                Some(known) if known.touched > touched => self.touches.push(Reverse((known.touched, oldest))),
                _ => self.forget(oldest),
            }
        }
        Some(index)
    }

    /// ctnetlink told that it is gone: its tuples and its key are free for others. What was decided stays,
    /// for packets of it that are still under way.
    pub(super) fn destroyed(&mut self, netns: NetnsId, gone: &Connection) {
        if let Some(index) = self.find(netns, gone) {
            self.unindex(index);
        }
    }

    fn unindex(&mut self, index: u64) {
        let Some(known) = self.entries.get_mut(&index) else { return };
        known.claimed = UNCLAIMED;
        let (c, netns) = (&known.connection, known.netns);
        if self.by_key.get(&c.key) == Some(&index) {
            self.by_key.remove(&c.key);
        }
        if let Some(id) = c.id
            && self.by_id.get(&(netns, id)) == Some(&index)
        {
            self.by_id.remove(&(netns, id));
        }
        for tuple in [c.original, c.reply].into_iter().flatten() {
            let key = key(netns, tuple);
            if self.by_tuple.get(&key).is_some_and(|(at, _)| *at == index) {
                self.by_tuple.remove(&key);
            }
        }
    }

    fn forget(&mut self, index: u64) {
        self.unindex(index);
        self.entries.remove(&index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(addr: [u8; 4], port: u16) -> Endpoint {
        Endpoint { addr: addr.into(), port: Some(port) }
    }

    fn connection(key: u64, id: Option<u32>) -> Connection {
        let (client, service, server) =
            (end([10, 2, 1, 2], 36334), end([10, 1, 2, 3], 1222), end([192, 168, 70, 10], 22));
        Connection {
            key,
            id,
            original: Some(Tuple { protocol: 6, source: client, destination: service }),
            reply: Some(Tuple { protocol: 6, source: server, destination: client }),
            ..Connection::default()
        }
    }

    #[test]
    fn a_connection_is_known_by_any_of_its_names() {
        let mut known = Connections::default();
        let index = known.learn(7, &connection(0xffff, Some(3))).expect("an index");
        let by_key = Connection { key: 0xffff, ..Connection::default() };
        let by_id = Connection { id: Some(3), ..Connection::default() };
        for named in [by_key, by_id, connection(0, None)] {
            assert_eq!(known.learn(7, &named), Some(index), "{named:?}");
        }
        assert_eq!(known.learn(7, &Connection::default()), None);
        assert_ne!(known.learn(8, &connection(0, None)), Some(index), "another namespace");
    }

    #[test]
    fn reused_ports_are_another_connection() {
        let mut known = Connections::default();
        let first = known.learn(7, &connection(1, Some(3)));
        assert_ne!(known.learn(7, &connection(1, Some(4))), first, "the id says so");
        let third = known.learn(7, &connection(2, None));
        known.destroyed(7, &connection(2, None));
        assert_ne!(known.learn(7, &connection(0, None)), third, "it was destroyed");
    }

    #[test]
    fn memory_is_bounded() {
        let mut known = Connections::default();
        for id in 0..20_000 {
            known.learn(7, &Connection { id: Some(id), ..Connection::default() });
        }
        assert_eq!((known.entries.len(), known.by_id.len()), (MAX_CONNECTIONS, MAX_CONNECTIONS));
        assert!(known.touches.len() <= MAX_CONNECTIONS);
    }
}
