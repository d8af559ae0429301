//! Recorded traffic, multiplied: every copy of a recorded conversation is another connection of other packets.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use nattrace_core::conntrack::{Connection, Tuple};
use nattrace_core::event::{Body, Event, NetnsId, TraceMessage};
use nattrace_core::filter::Filter;
use nattrace_core::packet::{Endpoint, Packet};
use nattrace_core::record::{Decoded, Header, Reader};

/// A TCP connection of ten packets, forwarded and rewritten, with its replies.
const FORWARDED: &[u8] = include_bytes!("../../../nattrace/tests/recordings/article-tcp4-kprobes.fixed.rec");
/// Two packets of another that a rule drops, for want of an element in a set.
const DROPPED: &[u8] = include_bytes!("../../../nattrace/tests/recordings/article-tcp4-kprobes.broken.rec");
/// The client in both.
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 2, 1, 2);
/// Copies under way at once.
const AT_ONCE: usize = 64;
/// Processors that they are spread over.
const CPUS: u32 = 4;
/// Between two events: a million a second.
const PACE_NS: u64 = 1_000;
/// Between two looks whether journeys have ended, as the live run has it.
const TICK_NS: u64 = 50_000_000;
/// Ports that clients take one after another.
const PORTS: u64 = 60_000;

/// What is multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Shape {
    /// Connections that are forwarded and rewritten, and for each another one whose two packets are dropped.
    Mixed,
    /// The latter alone: each drop is explained.
    Dropped,
    /// Packets that come in and are not seen again.
    InFlight,
}

/// One recorded conversation.
struct Seed {
    header: Header,
    /// What is told before packets are: names, rulesets.
    introduction: Vec<Event>,
    /// What is told of packets and connections.
    traffic: Vec<Event>,
    client_port: u16,
}

impl Seed {
    /// Reads a recording; its namespace becomes another one, so that each has its own ruleset.
    fn read(recording: &'static [u8], namespaces_on: NetnsId) -> Result<Self> {
        let mut reader = Reader::open(recording).context("a recording of the suite cannot be read")?;
        let header = reader.header().clone();
        let (mut introduction, mut traffic) = (Vec::new(), Vec::new());
        while let Decoded::Event(mut event) = reader.next()? {
            if event.netns != 0 {
                event.netns += namespaces_on;
            }
            match &event.body {
                Body::Clock { .. } => {}
                // The end of that run.
                Body::Commit(commit) if !commit.deleted_tables.is_empty() => {}
                Body::Namespace { .. }
                | Body::OwnTable { .. }
                | Body::Link(_)
                | Body::Ruleset(_)
                | Body::Commit(_) => introduction.push(*event),
                _ => traffic.push(*event),
            }
        }
        let client_port = traffic.iter().find_map(|event| match &event.body {
            Body::Receive(device) => device.header.source?.port,
            _ => None,
        });
        let client_port = client_port.context("nobody sends anything in it")?;
        if introduction.is_empty() {
            bail!("it has no rules");
        }
        Ok(Self { header, introduction, traffic, client_port })
    }

    /// Keeps of each packet its first events, so that nobody knows what became of it.
    fn without_ends(mut self) -> Self {
        let first = self.traffic.iter().find_map(|event| event.body.packet());
        self.traffic.retain(|event| event.body.packet() == first);
        self.traffic.truncate(3);
        self
    }
}

/// An endless stream of events, the same every time.
pub(super) struct Traffic {
    seeds: Vec<Seed>,
    /// Copies under way: which seed's, its number, and how many of its events have been told.
    under_way: Vec<(usize, u64, usize)>,
    turn: usize,
    copies: u64,
    time_ns: u64,
    last_tick_ns: u64,
    introduced: usize,
    introduction: Vec<Event>,
    pace_ns: u64,
}

impl Traffic {
    /// Traffic of a shape, from its beginning.
    pub(super) fn new(shape: Shape) -> Result<Self> {
        let mut seeds = match shape {
            Shape::Mixed => vec![Seed::read(FORWARDED, 0)?, Seed::read(DROPPED, 1)?],
            Shape::Dropped => vec![Seed::read(DROPPED, 0)?],
            Shape::InFlight => vec![Seed::read(FORWARDED, 0)?.without_ends()],
        };
        let introduction: Vec<Event> =
            seeds.iter_mut().flat_map(|seed| std::mem::take(&mut seed.introduction)).collect();
        let time_ns = introduction.iter().map(|event| event.time_ns).max().context("no introduction")?;
        let time_ns = time_ns + TICK_NS;
        // A million packets are to be in flight before the first is given up.
        let pace_ns = if shape == Shape::InFlight { PACE_NS / 4 } else { PACE_NS };
        let (under_way, last_tick_ns) = (Vec::new(), time_ns);
        Ok(Self {
            seeds,
            under_way,
            turn: 0,
            copies: 0,
            time_ns,
            last_tick_ns,
            introduced: 0,
            introduction,
            pace_ns,
        })
    }

    /// The header of a recording of it.
    pub(super) fn header(&self) -> Result<Header> {
        Ok(self.seeds.first().context("there is a seed")?.header.clone())
    }

    /// What was asked for.
    pub(super) fn filter(&self) -> Result<Filter> {
        Ok(self.header()?.filter)
    }

    /// The next event.
    pub(super) fn next(&mut self) -> Event {
        if let Some(event) = self.introduction.get(self.introduced) {
            self.introduced += 1;
            return event.clone();
        }
        self.time_ns += self.pace_ns;
        if self.time_ns - self.last_tick_ns >= TICK_NS {
            self.last_tick_ns = self.time_ns;
            let body = Body::Clock { quiet: true };
            return Event { time_ns: self.time_ns, cpu: u32::MAX, netns: 0, body };
        }
        while self.under_way.len() < AT_ONCE {
            let seed = usize::try_from(self.copies).unwrap_or(0) % self.seeds.len();
            self.under_way.push((seed, self.copies, 0));
            self.copies += 1;
        }
        self.turn = (self.turn + 1) % self.under_way.len();
        let (seed, copy, told) = &mut self.under_way[self.turn];
        let Seed { traffic, client_port, .. } = &self.seeds[*seed];
        let mut event = traffic[*told].clone();
        event.time_ns = self.time_ns;
        Copy { number: *copy, client_port: *client_port }.shift(&mut event);
        *told += 1;
        if *told == traffic.len() {
            self.under_way.swap_remove(self.turn);
        }
        event
    }
}

/// What makes a copy another one.
#[derive(Clone, Copy)]
struct Copy {
    number: u64,
    client_port: u16,
}

impl Copy {
    fn shift(self, event: &mut Event) {
        if event.cpu != u32::MAX {
            event.cpu = u32::try_from(self.number % u64::from(CPUS)).unwrap_or(0);
        }
        let Some(packet) = event.body.packet_mut() else {
            return match &mut event.body {
                Body::Conntrack(change) => self.connection(Some(&mut change.connection)),
                Body::Fib(answer) => {
                    let query = &mut answer.query;
                    self.end(&mut query.source, &mut query.sport);
                    self.end(&mut query.destination, &mut query.dport);
                }
                _ => {}
            };
        };
        *packet += self.number << 8;
        match &mut event.body {
            Body::Hook(hook) => {
                self.packet(&mut hook.header);
                self.connection(hook.connection.as_mut());
            }
            Body::HookReturn(back) => {
                back.header.iter_mut().for_each(|header| self.packet(header));
                self.connection(back.connection.as_mut());
            }
            Body::Rewrite(rewrite) => {
                self.packet(&mut rewrite.before);
                self.packet(&mut rewrite.after);
                self.connection(rewrite.connection.as_mut());
            }
            Body::NftTrace(trace) => self.message(&mut trace.message),
            Body::Receive(device) | Body::Transmit(device) => {
                self.packet(&mut device.header);
                self.connection(device.connection.as_mut());
            }
            Body::Drop(drop) => self.packet(&mut drop.header),
            _ => {}
        }
    }

    fn addr(self) -> Ipv4Addr {
        let [_, _, third, fourth] = u32::try_from(self.number / PORTS).unwrap_or(0).to_be_bytes();
        let [a, b, c, d] = CLIENT.octets();
        Ipv4Addr::new(a, b, c.wrapping_add(third), d.wrapping_add(fourth))
    }

    fn port(self) -> u16 {
        u16::try_from(1024 + self.number % PORTS).unwrap_or(u16::MAX)
    }

    fn number32(self) -> u32 {
        u32::try_from(self.number & 0xffff_ffff).unwrap_or(0)
    }

    fn number16(self) -> u16 {
        u16::try_from(self.number & 0xffff).unwrap_or(0)
    }

    fn end(self, addr: &mut IpAddr, port: &mut Option<u16>) {
        if *addr == IpAddr::V4(CLIENT) && *port == Some(self.client_port) {
            (*addr, *port) = (self.addr().into(), Some(self.port()));
        }
    }

    fn endpoint(self, end: &mut Endpoint) {
        self.end(&mut end.addr, &mut end.port);
    }

    fn packet(self, packet: &mut Packet) {
        packet.source.iter_mut().for_each(|end| self.endpoint(end));
        packet.destination.iter_mut().for_each(|end| self.endpoint(end));
        let sequence = self.number32().wrapping_mul(65_537);
        packet.tcp_seq = packet.tcp_seq.map(|seq| seq.wrapping_add(sequence));
        packet.tcp_ack = packet.tcp_ack.map(|ack| ack.wrapping_add(sequence));
        packet.ip_id = packet.ip_id.map(|id| id.wrapping_add(self.number16()));
    }

    fn tuple(self, tuple: Option<&mut Tuple>) {
        if let Some(tuple) = tuple {
            self.endpoint(&mut tuple.source);
            self.endpoint(&mut tuple.destination);
        }
    }

    fn connection(self, connection: Option<&mut Connection>) {
        let Some(connection) = connection else { return };
        if connection.key != 0 {
            connection.key = connection.key.wrapping_add(self.number << 8);
        }
        connection.id = connection.id.map(|id| id.wrapping_add(self.number32()));
        self.tuple(connection.original.as_mut());
        self.tuple(connection.reply.as_mut());
    }

    /// The headers as bytes: what [`Copy::packet`] does, where it stands in IPv4 and TCP. Checksums are left as they are;
    /// nobody looks at them.
    fn message(self, message: &mut TraceMessage) {
        message.id = message.id.wrapping_add(self.number32().wrapping_mul(65_537));
        let (network, transport) = (&mut message.network_header, &mut message.transport_header);
        if network.len() < 20 || transport.len() < 12 {
            return;
        }
        add16(network, 4, self.number16());
        for (addr_at, port_at) in [(12, 0), (16, 2)] {
            let client = network[addr_at..addr_at + 4] == CLIENT.octets()
                && transport[port_at..port_at + 2] == self.client_port.to_be_bytes();
            if client {
                network[addr_at..addr_at + 4].copy_from_slice(&self.addr().octets());
                transport[port_at..port_at + 2].copy_from_slice(&self.port().to_be_bytes());
            }
        }
        for at in [4, 8] {
            let bytes: &mut [u8] = &mut transport[at..at + 4];
            let before = bytes.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
            let after = before.wrapping_add(self.number32().wrapping_mul(65_537));
            bytes.copy_from_slice(&after.to_be_bytes());
        }
    }
}

fn add16(bytes: &mut [u8], at: usize, more: u16) {
    let before = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    bytes[at..at + 2].copy_from_slice(&before.wrapping_add(more).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use nattrace_core::journey::Outcome;
    use nattrace_core::journey::assemble::{Assembler, Options};

    use super::*;

    /// Multiplied traffic is told as what it was made of is: every ten packets go through, every two are dropped for the
    /// same cause.
    #[test]
    fn copies_have_the_journeys_of_what_they_are_copies_of() {
        let mut traffic = Traffic::new(Shape::Mixed).expect("traffic");
        let options =
            Options { filter: traffic.filter().expect("a filter"), asks: true, ..Options::default() };
        let mut assembler = Assembler::new(options);
        let mut codes: BTreeMap<&str, u64> = BTreeMap::new();
        for _ in 0..60_000 {
            assembler.push(traffic.next());
            for journey in assembler.finished() {
                let code = journey.findings.first().map_or(journey.outcome.name(), |finding| finding.code);
                *codes.entry(code).or_default() += 1;
            }
        }
        let (through, dropped) = (codes["transmitted"], codes["set-element-missing"]);
        assert!(through > 2500, "{codes:?}");
        assert!((through / 5).abs_diff(dropped) < 100, "{codes:?}");
        assert_eq!(assembler.counters().stray, 0);
        assert!(codes.len() == 2, "{codes:?}");
    }

    /// A hundred thousand packets, each seen three times, of which nobody knows what became of them.
    #[test]
    fn packets_in_flight_are_bounded_by_memory() {
        const PACKETS: usize = 100_000;
        const MEMORY: usize = 8 << 20;
        let mut traffic = Traffic::new(Shape::InFlight).expect("traffic");
        let options =
            Options { filter: traffic.filter().expect("a filter"), memory: MEMORY, ..Options::default() };
        let mut assembler = Assembler::new(options);
        let (mut told, mut given_up) = (0, 0);
        let mut count = |journeys: Vec<nattrace_core::journey::Journey>| {
            for journey in journeys {
                told += 1;
                let why = match journey.outcome {
                    Outcome::Unfinished { why } => why,
                    other => panic!("{other:?}"),
                };
                given_up += usize::from(why.starts_with("memory: "));
            }
        };
        for _ in 0..3 * PACKETS {
            assembler.push(traffic.next());
            assert!(assembler.memory() <= MEMORY + 4096);
            count(assembler.finished());
        }
        let left = assembler.open_count();
        let said = assembler.given_up();
        count(assembler.finish(u64::MAX / 2));
        assert!(told > PACKETS - 100, "{told}");
        assert!(left < told / 10 && given_up >= told - left, "{given_up} of {told}, {left} left");
        assert_eq!(said, given_up as u64);
    }
}
