//! The packets of one connection, taken together: what came through, who answered, and what is missing.
//!
//! Journeys go in as they end; a conversation comes out when it has been quiet for a while, and at the end. It says
//! nothing that its journeys do not show.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use crate::conntrack::{Connection, Direction, Tuple};
use crate::event::{Manip, NetnsId};
use crate::findings::{Finding, Way};
use crate::journey::{Journey, JourneyId, Outcome, StepKind, tuple_of};
use crate::neighbour::{NeighbourAnswer, NeighbourQuery};
use crate::packet::tcp_flag::{ACK, FIN, RST, SYN};
use crate::packet::{Endpoint, protocol};

/// Conversations under way at once; the one that was quiet longest makes room.
const MAX_CONVERSATIONS: usize = 4096;
/// Journeys that are named; the others are counted.
const MAX_JOURNEYS: usize = 64;
/// Longer than the first two retries of a connection attempt (1 s and 2 s).
const QUIET_NS: u64 = 3_500_000_000;
/// After so long without an answer the next hop is looked up: it is known when the silence is told.
const SILENCE_NS: u64 = 1_200_000_000;
/// Next hops that are looked up at once.
const MAX_ASKED: usize = 16;

/// How the packets of one direction fared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passage {
    /// All of them.
    pub packets: u64,
    /// Sent on or delivered.
    pub through: u64,
    /// Dropped.
    pub dropped: u64,
}

/// Whose conntrack has a connection, and its original tuple.
type Key = (NetnsId, Tuple);

/// Further packets of a connection go the way that the first ones went.
const MAX_LOOKED_AT: u64 = 4;

/// What a packet looked like in the namespaces it came through.
fn forms(journey: &Journey) -> Vec<Key> {
    let Some(mut now) = tuple_of(&journey.packet) else { return Vec::new() };
    let mut forms: Vec<Key> = Vec::new();
    for step in &journey.steps {
        if let StepKind::Rewrite { nat, to, inner: false, .. } = &step.kind {
            match nat {
                Manip::Snat => now.source = *to,
                Manip::Dnat => now.destination = *to,
            }
        }
        if step.netns != journey.connection_netns && forms.last() != Some(&(step.netns, now)) {
            forms.push((step.netns, now));
        }
    }
    forms
}

/// One connection's packets, as far as they were traced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// Where it is tracked.
    pub netns: NetnsId,
    /// As `conntrack -o id` prints it, where known.
    pub id: Option<u32>,
    /// The original direction, before any rewrite.
    pub original: Tuple,
    /// What replies look like when they arrive, where known.
    pub reply: Option<Tuple>,
    /// The original direction's packets.
    pub sent: Passage,
    /// The reply direction's.
    pub answered: Passage,
    /// The first journeys, in the order they ended.
    pub journeys: Vec<JourneyId>,
    /// What came of it, in plain words.
    pub text: String,
    /// Why nothing came of it, and where to look; their steps are empty.
    pub findings: Vec<Finding>,
}

impl Conversation {
    /// Whether it says more than its only packet's journey does.
    #[must_use]
    pub fn says_more(&self) -> bool {
        self.sent.packets + self.answered.packets != 1 || self.sent.through != 0
    }
}

/// Gathers journeys into conversations.
#[derive(Debug)]
pub struct Conversations {
    /// Whether replies are looked at: else nothing is said about them.
    follows: bool,
    open: BTreeMap<Key, Talk>,
    /// What packets of the original direction looked like on their way, where that is not their own key: another namespace
    /// has another connection for them, and replies begin there.
    further: BTreeMap<Key, Key>,
    /// When each was seen last, the longest ago first; what is no more so is renewed when its turn comes.
    seen: BinaryHeap<Reverse<(u64, Key)>>,
}

#[derive(Debug)]
struct Talk {
    id: Option<u32>,
    reply: Option<Tuple>,
    sent: Passage,
    answered: Passage,
    journeys: Vec<JourneyId>,
    last_ns: u64,
    /// Packets had by when it was last told.
    told: u64,
    tcp: Handshake,
    /// Errors about packets of the original direction, and the last one's sender.
    errors: Passage,
    error_from: Option<Endpoint>,
    incomplete: bool,
    /// How the last packet of the original direction left.
    way: Option<Way>,
    /// Packets had by when its next hop was last looked up.
    looked_up: u64,
    /// What was found then.
    neighbour: Option<NeighbourAnswer>,
    /// Its entries in [`Conversations::further`].
    forms: Vec<Key>,
}

/// How far a TCP connection came.
#[derive(Debug, Clone, Copy, Default)]
struct Handshake {
    syns: Passage,
    syn_acks: Passage,
    /// A packet of the original direction that acknowledges came through.
    acknowledged: bool,
    /// Who closed or reset it.
    reset: Option<Direction>,
    closed: Option<Direction>,
}

impl Passage {
    fn add(&mut self, outcome: &Outcome) {
        self.packets += 1;
        match outcome {
            Outcome::Transmitted { .. } | Outcome::Delivered => self.through += 1,
            Outcome::Dropped(_) => self.dropped += 1,
            Outcome::Queued | Outcome::Consumed | Outcome::Unfinished { .. } => {}
        }
    }
}

impl Conversations {
    /// None yet. `follows`: whether packets that only belong to a selected one's connection are traced, too.
    #[must_use]
    pub fn new(follows: bool) -> Self {
        Self { follows, open: BTreeMap::new(), further: BTreeMap::new(), seen: BinaryHeap::new() }
    }

    /// Adds an ended journey. Gives the conversation that had to make room, if there was one.
    pub fn add(&mut self, journey: &Journey) -> Option<Conversation> {
        let connection = journey.connection.as_ref()?;
        let own = journey.conversation()?;
        // Of a whole that was joined later, what is told of the first packet's connection stays.
        let elsewhere = if self.open.contains_key(&own) { None } else { self.further.get(&own).copied() };
        let key = elsewhere.unwrap_or(own);
        let seen = &mut self.seen;
        let talk = self.open.entry(key).or_insert_with(|| {
            seen.push(Reverse((0, key)));
            Talk::new(connection)
        });
        if elsewhere.is_some() {
            // The identity and the tuples are another's.
            talk.add(journey, &Connection { id: None, reply: None, ..connection.clone() });
        } else {
            talk.add(journey, connection);
        }
        if connection.direction != Some(Direction::Reply) && talk.packets() <= MAX_LOOKED_AT {
            for form in forms(journey).into_iter().filter(|form| *form != key) {
                if self.further.insert(form, key) != Some(key) {
                    talk.forms.push(form);
                }
            }
        }
        if self.open.len() <= MAX_CONVERSATIONS {
            return None;
        }
        let (oldest, talk) = self.take_oldest()?;
        for form in &talk.forms {
            if self.further.get(form) == Some(&oldest) {
                self.further.remove(form);
            }
        }
        let manner = Manner { follows: self.follows, settled: false };
        (talk.told < talk.packets()).then(|| talk.tell(oldest, manner))
    }

    fn take_oldest(&mut self) -> Option<(Key, Talk)> {
        loop {
            let Reverse((last_ns, key)) = self.seen.pop()?;
            match self.open.get(&key) {
                Some(talk) if talk.last_ns > last_ns => self.seen.push(Reverse((talk.last_ns, key))),
                _ => return self.open.remove(&key).map(|talk| (key, talk)),
            }
        }
    }

    /// Those that have been quiet for a while, and were not told since their last packet.
    pub fn quiet(&mut self, now_ns: u64) -> Vec<Conversation> {
        self.told(|talk| talk.is_quiet(now_ns), now_ns)
    }

    /// All that were not told since their last packet: the trace ends at this time. What is missing then may have been
    /// on its way, unless it has been missing for long.
    pub fn rest(&mut self, now_ns: u64) -> Vec<Conversation> {
        self.told(|_| true, now_ns)
    }

    /// Next hops that have been silent for a while: to be looked up, and answered by [`Conversations::neighbour`].
    pub fn questions(&mut self, now_ns: u64) -> Vec<(NetnsId, NeighbourQuery)> {
        let silent = self.open.iter_mut().filter(|(_, talk)| talk.told < talk.packets());
        let mut found = Vec::new();
        for ((_, original), talk) in silent {
            let due = talk.last_ns.saturating_add(SILENCE_NS) <= now_ns && talk.looked_up < talk.packets();
            if !due || found.len() >= MAX_ASKED {
                continue;
            }
            if let Some(way) = talk.silent_way(*original) {
                found.push(way.neighbour());
                talk.looked_up = talk.packets();
            }
        }
        found
    }

    /// Takes what was looked up.
    pub fn neighbour(&mut self, netns: NetnsId, answer: &NeighbourAnswer) {
        for ((_, original), talk) in &mut self.open {
            let asked = talk.silent_way(*original).map(Way::neighbour);
            if asked.is_some_and(|(at, query)| at == netns && query == answer.query) {
                talk.neighbour = Some(answer.clone());
            }
        }
    }

    fn told(&mut self, which: impl Fn(&Talk) -> bool, now_ns: u64) -> Vec<Conversation> {
        let follows = self.follows;
        let mut ready: Vec<_> =
            self.open.iter_mut().filter(|(_, talk)| talk.told < talk.packets() && which(talk)).collect();
        ready.sort_by_key(|(_, talk)| talk.last_ns);
        ready
            .into_iter()
            .map(|(key, talk)| {
                talk.told = talk.packets();
                talk.tell(*key, Manner { follows, settled: talk.is_quiet(now_ns) })
            })
            .collect()
    }
}

/// What bounds the statements that can be made.
#[derive(Debug, Clone, Copy)]
struct Manner {
    /// Replies would have been seen.
    follows: bool,
    /// It has been quiet for so long that what is missing is missing.
    settled: bool,
}

impl Manner {
    /// Qualifies a statement that something is missing.
    fn so_far(self) -> &'static str {
        if self.settled { "" } else { " so far" }
    }
}

impl Talk {
    fn new(connection: &Connection) -> Self {
        Self {
            id: connection.id,
            reply: connection.reply,
            sent: Passage::default(),
            answered: Passage::default(),
            journeys: Vec::new(),
            last_ns: 0,
            told: 0,
            tcp: Handshake::default(),
            errors: Passage::default(),
            error_from: None,
            incomplete: false,
            way: None,
            looked_up: 0,
            neighbour: None,
            forms: Vec::new(),
        }
    }

    fn is_quiet(&self, now_ns: u64) -> bool {
        self.last_ns.saturating_add(QUIET_NS) <= now_ns
    }

    fn packets(&self) -> u64 {
        self.sent.packets + self.answered.packets + self.errors.packets
    }

    fn add(&mut self, journey: &Journey, connection: &Connection) {
        self.last_ns = self.last_ns.max(journey.last_seen_ns);
        self.id = connection.id.or(self.id);
        // A source that is rewritten is so in the last hook: who was dropped before does not know.
        self.reply = connection.reply.or(self.reply);
        self.incomplete |= !journey.incomplete.is_empty();
        if self.journeys.len() < MAX_JOURNEYS {
            self.journeys.push(journey.id);
        }
        let packet = &journey.packet;
        if packet.is_icmp_error() {
            self.errors.add(&journey.outcome);
            self.error_from = packet.source.or(self.error_from);
            return;
        }
        let direction = connection.direction.unwrap_or(Direction::Original);
        let passage = if direction == Direction::Reply { &mut self.answered } else { &mut self.sent };
        passage.add(&journey.outcome);
        if direction == Direction::Original {
            self.way = Way::of(journey).or(self.way.take());
        }
        let Some(flags) = packet.tcp_flags else { return };
        let through = matches!(journey.outcome, Outcome::Transmitted { .. } | Outcome::Delivered);
        match (direction, flags & SYN != 0) {
            (Direction::Original, true) => self.tcp.syns.add(&journey.outcome),
            (Direction::Reply, true) => self.tcp.syn_acks.add(&journey.outcome),
            (Direction::Original, false) if flags & ACK != 0 && flags & RST == 0 && through => {
                self.tcp.acknowledged = true;
            }
            _ => {}
        }
        if flags & RST != 0 {
            self.tcp.reset.get_or_insert(direction);
        } else if flags & FIN != 0 {
            self.tcp.closed.get_or_insert(direction);
        }
    }

    fn tell(&self, (netns, original): (NetnsId, Tuple), manner: Manner) -> Conversation {
        Conversation {
            netns,
            id: self.id,
            original,
            reply: self.reply,
            sent: self.sent,
            answered: self.answered,
            journeys: self.journeys.clone(),
            text: self.words(original, manner),
            findings: self.unanswered(original, manner).unwrap_or_default(),
        }
    }

    /// A connection attempt that was let through, and what is to be said of it when nothing came back. Of other packets
    /// than TCP's nobody knows whether they are to be answered.
    fn unanswered(&self, original: Tuple, manner: Manner) -> Option<Vec<Finding>> {
        let known = manner.follows && manner.settled && !self.incomplete;
        let way = self.silent_way(original).filter(|_| known)?;
        let count = self.tcp.syns.through;
        let attempts = format!("{count} {}", if count == 1 { "SYN" } else { "SYNs" });
        // The last packet may have gone another way than the one that was looked up.
        let answer = self.neighbour.as_ref().filter(|answer| answer.query == way.neighbour().1);
        let neighbour = answer.and_then(|answer| answer.neighbour.as_ref());
        let seen = way.without_answer(&attempts, neighbour);
        Some([seen].into_iter().chain(way.without_way_back(neighbour)).collect())
    }

    /// How the packets of a connection attempt left that nobody has answered.
    fn silent_way(&self, original: Tuple) -> Option<&Way> {
        let attempted = original.protocol == protocol::TCP && self.tcp.syns.through > 0;
        let silence = self.answered.packets == 0 && self.errors.packets == 0;
        self.way.as_ref().filter(|_| attempted && silence)
    }

    /// Who is to answer: the server behind the rewrites.
    fn server(&self, original: Tuple) -> std::net::IpAddr {
        self.reply.map_or(original.destination.addr, |reply| reply.source.addr)
    }

    fn words(&self, original: Tuple, manner: Manner) -> String {
        let server = self.server(original);
        let told = if original.protocol == protocol::TCP && self.tcp.syns.packets > 0 {
            self.attempt(original, server, manner)
        } else {
            let mut told = vec![fared(self.sent, "packet")];
            match self.answered {
                Passage { packets: 0, .. } if !manner.follows => {
                    told.push("; answers are not traced".to_owned());
                }
                Passage { packets: 0, .. } if self.errors.packets > 0 => {}
                Passage { packets: 0, .. } if self.sent.through == 0 => {}
                Passage { packets: 0, .. } => {
                    told.push(format!(", no answer from {server}{}", manner.so_far()));
                }
                answered => told.push(format!("; from {server} {}", fared(answered, "answer"))),
            }
            told.concat()
        };
        let mut told = vec![told];
        if self.errors.packets > 0 {
            let from = self.error_from.map_or_else(String::new, |from| format!(" from {}", from.addr));
            told.push(format!("; {}{from}", fared(self.errors, "ICMP error")));
        }
        if self.incomplete {
            told.push(" (events were lost meanwhile)".to_owned());
        }
        told.concat()
    }

    /// A connection attempt that was seen from its first packet.
    fn attempt(&self, original: Tuple, server: std::net::IpAddr, manner: Manner) -> String {
        let Handshake { syns, syn_acks, acknowledged, reset, closed } = self.tcp;
        let mut told = vec![fared(syns, "SYN")];
        if syn_acks.packets == 0 {
            match reset {
                Some(Direction::Reply) => told.push(format!(", refused by {server} (RST)")),
                _ if syns.through == 0 => {}
                _ if !manner.follows => told.push("; answers are not traced".to_owned()),
                _ => told.push(format!(", no answer from {server}{}", manner.so_far())),
            }
            return told.concat();
        }
        if syn_acks.through == 0 {
            told.push(format!("; {server} answered, {}", fared(syn_acks, "SYN-ACK")));
            return told.concat();
        }
        if !acknowledged {
            told.push(format!("; {server} answered, the SYN-ACK came through"));
            told.push(if manner.follows {
                format!(", not acknowledged by {}{}", original.source.addr, manner.so_far())
            } else {
                "; other packets are not traced".to_owned()
            });
            return told.concat();
        }
        let (more_sent, more_answered) = (
            self.sent.packets.saturating_sub(syns.packets),
            self.answered.packets.saturating_sub(syn_acks.packets),
        );
        let mut told = vec![format!(
            "handshake complete with {server}; {more_sent} more packets there, {more_answered} back"
        )];
        let lost = (self.sent.dropped - syns.dropped) + (self.answered.dropped - syn_acks.dropped);
        if lost > 0 {
            told.push(format!(", {lost} of them dropped"));
        }
        let who = |direction| if direction == Direction::Original { original.source.addr } else { server };
        match (reset, closed) {
            (Some(direction), _) => told.push(format!("; reset by {}", who(direction))),
            (None, Some(direction)) => told.push(format!("; closed first by {}", who(direction))),
            (None, None) => {}
        }
        told.concat()
    }
}

/// `3 SYNs through`, `2 of 5 packets dropped`.
fn fared(passage: Passage, what: &str) -> String {
    let Passage { packets, through, dropped } = passage;
    let name = if packets == 1 { what.to_owned() } else { format!("{what}s") };
    match () {
        () if through == packets => format!("{packets} {name} through"),
        () if dropped == packets && packets == 1 => format!("1 {name} dropped"),
        () if dropped == packets => format!("{packets} {name}, all dropped"),
        () if dropped == 0 => format!("{through} of {packets} {name} through"),
        () if through == 0 => format!("{dropped} of {packets} {name} dropped, none through"),
        () => format!("{through} of {packets} {name} through, {dropped} dropped"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conntrack::State;
    use crate::journey::{DropCause, Netns, RewrittenBy, Step};
    use crate::packet::{Icmp, Packet, datagram};

    const BACK: Direction = Direction::Reply;
    const THERE: Direction = Direction::Original;

    fn end(last: u8, port: u16) -> Endpoint {
        Endpoint { addr: [10, 0, 0, last].into(), port: Some(port) }
    }

    fn connection(direction: Direction, protocol: u8) -> Connection {
        Connection {
            id: Some(7),
            state: Some(State::New),
            direction: Some(direction),
            original: Some(Tuple { protocol, source: end(1, 1000), destination: end(2, 1222) }),
            reply: Some(Tuple { protocol, source: end(9, 22), destination: end(1, 1000) }),
            ..Connection::default()
        }
    }

    fn sent() -> Outcome {
        Outcome::Transmitted { device: None }
    }

    fn dropped() -> Outcome {
        Outcome::Dropped(DropCause::Kernel(Box::default()))
    }

    fn journey(id: u64, direction: Direction, tcp_flags: Option<u8>, outcome: Outcome) -> Journey {
        let protocol = if tcp_flags.is_some() { 6 } else { 17 };
        Journey {
            id: JourneyId(id),
            packet_id: Some(id),
            netns: Netns { inum: 1, name: None },
            first_seen_ns: id,
            last_seen_ns: id,
            packet: Packet { protocol: Some(protocol), tcp_flags, ..datagram(end(1, 1000), end(2, 1222)) },
            iif: None,
            connection: Some(connection(direction, protocol)),
            connection_netns: 1,
            steps: Vec::new(),
            outcome,
            findings: Vec::new(),
            relation: None,
            retransmission_of: None,
            same_path: false,
            like: None,
            incomplete: Vec::new(),
            trace_ids: Vec::new(),
            traced: Vec::new(),
            sights: Vec::new(),
        }
    }

    fn told(follows: bool, packets: &[(Direction, Option<u8>, Outcome)]) -> String {
        let mut all = Conversations::new(follows);
        for (id, (direction, flags, outcome)) in (1..).zip(packets) {
            assert_eq!(all.add(&journey(id, *direction, *flags, outcome.clone())), None);
        }
        let mut rest = all.rest(u64::MAX);
        assert_eq!(rest.len(), 1);
        assert!(all.rest(u64::MAX).is_empty(), "nothing is told twice");
        rest.remove(0).text
    }

    #[test]
    fn packets_that_begin_in_different_namespaces_are_of_one_connection() {
        let mut all = Conversations::new(true);
        for (id, direction, begins_in) in [(1, THERE, 7), (2, BACK, 9)] {
            let mut journey = journey(id, direction, None, sent());
            journey.netns.inum = begins_in;
            assert_eq!(all.add(&journey), None);
        }
        let rest = all.rest(u64::MAX);
        let told: Vec<_> =
            rest.iter().map(|one| (one.netns, one.sent.packets, one.answered.packets)).collect();
        assert_eq!(told, [(1, 1, 1)]);
    }

    /// A step in another namespace, behind a rewrite of the destination.
    fn through(mut journey: Journey, netns: NetnsId, to: Endpoint) -> Journey {
        let from = journey.packet.destination.expect("an end");
        let by = RewrittenBy::Connection;
        let kind = StepKind::Rewrite {
            nat: Manip::Dnat,
            from,
            to,
            rule: None,
            by,
            decided_for: None,
            inner: false,
            function: None,
            older: false,
            port_unasked: false,
        };
        journey.steps.push(Step { time_ns: 1, netns: journey.connection_netns, kind });
        let kind = StepKind::Deliver { protocol: "tcp".into(), local: Some(to), function: None };
        journey.steps.push(Step { time_ns: 2, netns, kind });
        journey
    }

    #[test]
    fn what_another_namespace_tracks_is_joined_by_what_the_packet_looked_like_there() {
        let server = end(7, 2222);
        let mut all = Conversations::new(true);
        all.add(&through(journey(1, THERE, Some(SYN), sent()), 9, server));
        let mut answer = journey(2, BACK, Some(SYN | ACK), sent());
        answer.connection_netns = 9;
        let original = answer.connection.as_mut().and_then(|c| c.original.as_mut()).expect("a tuple");
        original.destination = server;
        all.add(&answer);
        // Of the same ends, in a namespace that none of its packets came to.
        let mut other = answer.clone();
        (other.id, other.connection_netns) = (JourneyId(3), 10);
        all.add(&other);
        let told: Vec<_> = all
            .rest(u64::MAX)
            .iter()
            .map(|one| (one.netns, one.sent.packets, one.answered.packets, one.journeys.clone()))
            .collect();
        assert_eq!(told, [(1, 1, 1, vec![JourneyId(1), JourneyId(2)]), (10, 0, 1, vec![JourneyId(3)])]);
    }

    #[test]
    fn an_attempt_says_how_far_it_came() {
        let (syn, syn_ack, ack, rst) = (Some(SYN), Some(SYN | ACK), Some(ACK), Some(RST | ACK));
        let cases = [
            (vec![(THERE, syn, sent()); 3], "3 SYNs through, no answer from 10.0.0.9"),
            (vec![(THERE, syn, dropped()); 6], "6 SYNs, all dropped"),
            (vec![(THERE, syn, sent()), (BACK, rst, sent())], "1 SYN through, refused by 10.0.0.9 (RST)"),
            (
                vec![(THERE, syn, sent()), (BACK, syn_ack, dropped()), (BACK, syn_ack, dropped())],
                "1 SYN through; 10.0.0.9 answered, 2 SYN-ACKs, all dropped",
            ),
            (
                vec![(THERE, syn, sent()), (BACK, syn_ack, sent())],
                "1 SYN through; 10.0.0.9 answered, the SYN-ACK came through, not acknowledged by 10.0.0.1",
            ),
            (
                vec![
                    (THERE, syn, sent()),
                    (BACK, syn_ack, sent()),
                    (THERE, ack, sent()),
                    (BACK, ack, sent()),
                    (THERE, Some(FIN | ACK), sent()),
                ],
                "handshake complete with 10.0.0.9; 2 more packets there, 1 back; closed first by 10.0.0.1",
            ),
        ];
        for (packets, text) in cases {
            assert_eq!(told(true, &packets), text);
        }
        assert_eq!(told(false, &[(THERE, syn, sent())]), "1 SYN through; answers are not traced");
        assert_eq!(
            told(false, &[(THERE, syn, sent()), (BACK, syn_ack, sent())]),
            "1 SYN through; 10.0.0.9 answered, the SYN-ACK came through; other packets are not traced"
        );
    }

    #[test]
    fn datagrams_say_who_answered() {
        let cases = [
            (
                vec![(THERE, None, sent()), (THERE, None, sent())],
                "2 packets through, no answer from 10.0.0.9",
            ),
            (
                vec![(THERE, None, sent()), (BACK, None, sent())],
                "1 packet through; from 10.0.0.9 1 answer through",
            ),
            (
                vec![(THERE, None, sent()), (THERE, None, dropped())],
                "1 of 2 packets through, 1 dropped, no answer from 10.0.0.9",
            ),
        ];
        for (packets, text) in cases {
            assert_eq!(told(true, &packets), text);
        }
        let mut all = Conversations::new(true);
        all.add(&journey(1, THERE, None, sent()));
        let mut error = journey(2, BACK, None, sent());
        error.packet.protocol = Some(protocol::ICMP);
        error.packet.source = Some(Endpoint { port: None, ..end(9, 0) });
        error.packet.icmp = Some(Icmp { kind: 3, code: 3, id: None, sequence: None, about: None });
        all.add(&error);
        assert_eq!(all.rest(u64::MAX)[0].text, "1 packet through; 1 ICMP error through from 10.0.0.9");
    }

    #[test]
    fn it_is_told_when_it_has_been_quiet_and_again_when_it_went_on() {
        let mut all = Conversations::new(true);
        all.add(&journey(1, THERE, None, sent()));
        assert!(all.quiet(QUIET_NS).is_empty());
        assert_eq!(all.quiet(QUIET_NS + 1).len(), 1);
        assert!(all.quiet(QUIET_NS * 2).is_empty());
        all.add(&journey(2, THERE, None, sent()));
        let rest = all.rest(3);
        assert_eq!(rest[0].journeys, [JourneyId(1), JourneyId(2)]);
        assert_eq!(rest[0].text, "2 packets through, no answer from 10.0.0.9 so far");
    }

    #[test]
    fn memory_is_bounded() {
        let mut all = Conversations::new(true);
        let made_room = (0..5000_u16).filter(|port| {
            let mut it = journey((*port).into(), THERE, None, sent());
            if let Some(original) = it.connection.as_mut().and_then(|c| c.original.as_mut()) {
                original.source.port = Some(*port);
            }
            all.add(&it).is_some()
        });
        assert_eq!(made_room.count(), 5000 - MAX_CONVERSATIONS);
    }
}
