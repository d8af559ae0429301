//! The recording: JSON Lines, a header and then one event a line, exactly as the sources gave them. A recording
//! is a bug report that can be replayed, so it is read by whatever program the reader has: what is not
//! understood is an error with a line number, never a guess.

use std::collections::BTreeMap;
use std::io::BufRead;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::event::{Event, Source};
use crate::filter::Filter;

/// The version of recordings that is written, and the only one that is read.
pub const VERSION: u32 = 1;

/// What the first line says it is.
const MAGIC: &str = "recording";
/// No line is longer: the longest is a ruleset's listing.
const MAX_LINE: u64 = 256 << 20;

/// What a recording is of: its first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// `recording`: tells the file from other JSON Lines.
    nattrace: String,
    /// [`VERSION`].
    pub version: u32,
    /// Version of the program that recorded.
    pub program: String,
    /// `uname -r` of the kernel that was recorded.
    pub kernel: Option<String>,
    /// What was asked for.
    #[serde(default)]
    pub filter: Filter,
    /// `on` for each source, or why it was not.
    #[serde(default)]
    pub sources: BTreeMap<Source, String>,
    /// The nft of that machine, where its words are to be found again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nft: Option<NftTool>,
}

/// What decides in which words nft prints a trace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NftTool {
    /// What `nft --version` says; `None` where there is none.
    pub version: Option<String>,
    /// `/etc/protocols`: the name of each protocol number, where it has one.
    pub protocols: BTreeMap<u8, String>,
}

impl Header {
    /// The header of a recording that begins now.
    #[must_use]
    pub fn new(
        program: impl Into<String>,
        kernel: Option<String>,
        filter: Filter,
        sources: BTreeMap<Source, String>,
    ) -> Self {
        Self {
            nattrace: MAGIC.to_owned(),
            version: VERSION,
            program: program.into(),
            kernel,
            filter,
            sources,
            nft: None,
        }
    }
}

/// Why something is not a recording, or cannot be read or written as one.
#[derive(Debug, Error)]
pub enum RecordError {
    /// The first line is not a recording's.
    #[error("not a recording of nattrace")]
    NotARecording,
    /// Another version wrote it.
    #[error("the recording has version {found}, this program reads version {VERSION}")]
    Version {
        /// The version it has.
        found: u64,
    },
    /// A line that is no event.
    #[error("line {line} of the recording is damaged: {error}")]
    Damaged {
        /// Line number, from 1.
        line: u64,
        /// What is wrong with it.
        error: serde_json::Error,
    },
    /// A line that no recording can have.
    #[error("line {line} of the recording is longer than any event")]
    TooLong {
        /// Line number, from 1.
        line: u64,
    },
    /// Something that JSON cannot express.
    #[error("cannot be recorded: {0}")]
    Unwritable(serde_json::Error),
    /// Reading failed.
    #[error("cannot read the recording: {0}")]
    Read(#[from] std::io::Error),
}

/// A header as a line, without its end.
pub fn encode_header(header: &Header) -> Result<String, RecordError> {
    serde_json::to_string(header).map_err(RecordError::Unwritable)
}

/// An event as a line, without its end.
pub fn encode(event: &Event) -> Result<String, RecordError> {
    serde_json::to_string(event).map_err(RecordError::Unwritable)
}

/// Reads a recording's first line.
pub fn decode_header(line: &[u8]) -> Result<Header, RecordError> {
    #[derive(Deserialize)]
    struct Claim {
        nattrace: String,
        version: u64,
    }
    let claim: Claim = serde_json::from_slice(line).map_err(|_| RecordError::NotARecording)?;
    if claim.nattrace != MAGIC {
        return Err(RecordError::NotARecording);
    }
    if claim.version != u64::from(VERSION) {
        return Err(RecordError::Version { found: claim.version });
    }
    serde_json::from_slice(line).map_err(|error| RecordError::Damaged { line: 1, error })
}

/// Reads an event's line.
pub fn decode(line: &[u8]) -> Result<Event, serde_json::Error> {
    serde_json::from_slice(line)
}

/// What comes next in a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// An event.
    Event(Box<Event>),
    /// The last line is not whole: the recorder was killed, or its disk was full.
    CutOff,
    /// That was all.
    End,
}

/// Reads a recording from whatever gives its bytes.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    header: Header,
    line: u64,
    buffer: Vec<u8>,
    over: bool,
}

impl<R: BufRead> Reader<R> {
    /// Reads the header.
    pub fn open(mut input: R) -> Result<Self, RecordError> {
        let mut buffer = Vec::new();
        // A header is short: what has no line end early on is something else, and is not read through.
        let whole = read_line(&mut input, &mut buffer, 1 << 20)?;
        if !whole {
            return Err(RecordError::NotARecording);
        }
        let header = decode_header(&buffer)?;
        Ok(Self { input, header, line: 1, buffer, over: false })
    }

    /// What the recording is of.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Reads the next line; empty ones are passed over.
    #[expect(clippy::should_implement_trait, reason = "an iterator could not tell a cut-off end from an end")]
    pub fn next(&mut self) -> Result<Decoded, RecordError> {
        while !self.over {
            self.buffer.clear();
            self.line += 1;
            let whole = read_line(&mut self.input, &mut self.buffer, MAX_LINE)?;
            if !whole && self.buffer.len() as u64 >= MAX_LINE {
                self.over = true;
                return Err(RecordError::TooLong { line: self.line });
            }
            self.over = !whole;
            if self.buffer.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            return match decode(&self.buffer) {
                Ok(event) => Ok(Decoded::Event(Box::new(event))),
                Err(_) if !whole => Ok(Decoded::CutOff),
                Err(error) => Err(RecordError::Damaged { line: self.line, error }),
            };
        }
        Ok(Decoded::End)
    }
}

/// Reads up to a line's end or `limit` bytes; whether the line's end was there.
fn read_line(input: &mut impl BufRead, buffer: &mut Vec<u8>, limit: u64) -> Result<bool, std::io::Error> {
    use std::io::Read;
    input.by_ref().take(limit).read_until(b'\n', buffer)?;
    Ok(buffer.last() == Some(&b'\n'))
}

/// Byte strings as lower-case hexadecimal text.
pub mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Serialises bytes as hexadecimal text.
    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        use std::fmt::Write;
        let mut text = String::with_capacity(bytes.len() * 2);
        for byte in bytes {
            write!(text, "{byte:02x}").map_err(serde::ser::Error::custom)?;
        }
        serializer.serialize_str(&text)
    }

    /// Reads hexadecimal text.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.len() % 2 != 0 || !text.is_ascii() {
            return Err(D::Error::custom("odd or non-ASCII hexadecimal text"));
        }
        (0..text.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&text[i..i + 2], 16).map_err(D::Error::custom))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conntrack::{Connection, Direction, State, Tuple};
    use crate::event::{
        Attached, Body, Circumstances, Commit, ConntrackChange, ConntrackEvent, Deliver, DeviceEvent,
        DeviceRef, DropEvent, FrameTo, Hook, HookPoint, HookReturn, HookVerdict, Link, Listening, Loss,
        Manip, NfFamily, NftTrace, Rewrite, RouteRef, TraceMessage, TraceType, Verdict,
    };
    use crate::packet::{Endpoint, Family, Icmp, Packet};
    use crate::ruleset::{BaseChain, Chain, Listing, Rule, Table};

    fn endpoint(text: &str, port: Option<u16>) -> Endpoint {
        Endpoint { addr: text.parse().expect("an address"), port }
    }

    fn packet() -> Packet {
        Packet {
            family: Family::Ipv6,
            protocol: Some(58),
            source: Some(endpoint("2001:db8::1", None)),
            destination: Some(endpoint("::ffff:10.0.0.1", Some(65535))),
            tcp_flags: Some(255),
            tcp_seq: Some(u32::MAX),
            tcp_ack: Some(0),
            icmp: Some(Icmp { kind: 128, code: 0, id: Some(7), sequence: None, about: None }),
            length: u32::MAX,
            ttl: Some(0),
            ip_id: Some(0),
            fragment_offset: 1480,
            more_fragments: true,
            segments: 3,
            tos: 0xb8,
            mark: 0xdead_beef,
        }
    }

    fn connection() -> Connection {
        let (source, destination) = (endpoint("10.0.0.1", Some(1)), endpoint("10.0.0.2", Some(2)));
        let original = Tuple { protocol: 6, source, destination };
        Connection {
            key: u64::MAX,
            id: Some(u32::MAX),
            direction: Some(Direction::Reply),
            state: Some(State::Related),
            status: Some(0x1ff),
            mark: Some(1),
            zone: Some(2),
            original: Some(original),
            reply: None,
        }
    }

    fn message(verdict: Option<Verdict>) -> Body {
        Body::NftTrace(NftTrace {
            packet: Some(u64::MAX),
            hint: Some(1),
            table_handle: Some(2),
            message: TraceMessage {
                id: 0xfeed,
                family: NfFamily::Inet,
                nfproto: Some(2),
                kind: TraceType::Rule,
                table: "t \"quoted\" \u{1b}[31m".to_owned(),
                chain: "c\n".to_owned(),
                rule_handle: Some(1 << 41),
                verdict,
                link_header: vec![0, 255],
                network_header: vec![],
                transport_header: vec![1],
                iif: Some(1),
                iif_type: Some(1),
                oif: None,
                oif_type: None,
                mark: Some(7),
                ct_id: Some(1),
                ct_direction: Some(Direction::Original),
                ct_status: Some(1),
                ct_state: Some(8),
            },
        })
    }

    fn every_kind() -> Vec<Body> {
        let device = DeviceRef { index: 2, name: Some("enp0".to_owned()) };
        let event = DeviceEvent {
            packet: 1,
            header: packet(),
            device: device.clone(),
            connection: Some(connection()),
        };
        let base = BaseChain {
            kind: "nat".to_owned(),
            hook: HookPoint::Prerouting,
            devices: Vec::new(),
            priority: i32::MIN,
            policy: "accept".to_owned(),
        };
        let rule = Rule {
            iptables: Some("-A c -j DROP".to_owned()),
            counted: Some("x".to_owned()),
            ..Rule::new(4, "drop comment \"\u{fffd}\"".to_owned())
        };
        let chain = Chain { name: "c".to_owned(), handle: 1, base: Some(base), rules: vec![rule] };
        let table = Table { family: NfFamily::Ip6, name: "t".to_owned(), handle: 1, chains: vec![chain] };
        let mut bodies = vec![
            Body::Hook(Hook {
                packet: 1,
                header: packet(),
                hook: HookPoint::Ingress,
                family: NfFamily::Netdev,
                iif: Some(device.clone()),
                oif: None,
                connection: Some(connection()),
                route: Some(RouteRef {
                    kind: Some(2),
                    oif: None,
                    gateway: Some([10, 0, 0, 1].into()),
                    error: None,
                }),
            }),
            Body::HookReturn(HookReturn {
                packet: 1,
                hook: HookPoint::Egress,
                family: NfFamily::Bridge,
                verdict: HookVerdict::Stolen,
                header: None,
                connection: None,
                route: Some(RouteRef { kind: None, oif: Some(device.clone()), gateway: None, error: None }),
                iif: Some(device.clone()),
                oif: Some(device.clone()),
            }),
            Body::Rewrite(Rewrite {
                packet: 1,
                manip: Manip::Snat,
                direction: Direction::Reply,
                before: packet(),
                after: packet(),
                connection: None,
            }),
            Body::Receive(event.clone()),
            Body::Transmit(event),
            Body::Deliver(Deliver {
                packet: 1,
                function: "tcp_v4_rcv".to_owned(),
                header: None,
                listening: Some(Listening { waiting: 2, most: 1 }),
            }),
            Body::Drop(DropEvent {
                packet: 1,
                header: packet(),
                reason: None,
                function: Some("f".to_owned()),
                device: Some(device.clone()),
                route: Some(RouteRef { kind: None, oif: None, gateway: None, error: Some(22) }),
                circumstances: Circumstances {
                    carrier: Some(true),
                    forwarding: Some(false),
                    mtu: Some(1500),
                    frame: Some(FrameTo::Broadcast),
                    header_checksum: Some(false),
                    conntrack: Some(Attached::Entry(8)),
                    table_full: true,
                },
            }),
            Body::End { packet: 1, function: None },
            Body::Left { packet: 1 },
            Body::Conntrack(ConntrackEvent { change: ConntrackChange::Listed, connection: connection() }),
            Body::Commit(Commit {
                replaced_rules: vec![(NfFamily::Ip, "t".to_owned(), 3)],
                generation: 1,
                deleted_tables: vec![(NfFamily::Arp, "a".to_owned(), None)],
                new_tables: vec![(NfFamily::Ip, "b".to_owned(), Some(9))],
                changes: 2,
                uncertain_ns: Some(1),
            }),
            Body::Ruleset(Listing { generation: None, tables: vec![table] }),
            Body::Link(Link { index: 1, name: "lo".to_owned() }),
            Body::Namespace { name: None },
            Body::Clock,
            Body::OwnTable { family: NfFamily::Inet, name: "nattrace_1".to_owned() },
            Body::Loss(Loss { source: Source::Nft, count: None, first_ns: 1, last_ns: 2 }),
            message(None),
        ];
        bodies.extend(
            [
                Verdict::Accept,
                Verdict::Drop,
                Verdict::Stolen,
                Verdict::Queue(65535),
                Verdict::Continue,
                Verdict::Break,
                Verdict::Jump("to".to_owned()),
                Verdict::Goto("to".to_owned()),
                Verdict::Return,
                Verdict::Unknown(-9),
            ]
            .map(|verdict| message(Some(verdict))),
        );
        bodies
    }

    fn header() -> Header {
        let sources = BTreeMap::from([
            (Source::Nft, "on".to_owned()),
            (Source::Probes, "kprobes are refused".to_owned()),
        ]);
        Header::new("0.1.0", Some("6.12.0".to_owned()), Filter::default(), sources)
    }

    fn recording() -> (Vec<Event>, String) {
        let events: Vec<Event> = every_kind()
            .into_iter()
            .map(|body| Event { time_ns: u64::MAX, cpu: u32::MAX, netns: 4_026_532_289, body })
            .collect();
        let mut text = encode_header(&header()).expect("a line") + "\n";
        for event in &events {
            text += &(encode(event).expect("a line") + "\n");
        }
        (events, text)
    }

    fn read(bytes: &[u8]) -> Result<(Vec<Event>, Decoded), RecordError> {
        let mut reader = Reader::open(bytes)?;
        assert_eq!(*reader.header(), header());
        let mut events = Vec::new();
        loop {
            match reader.next()? {
                Decoded::Event(event) => events.push(*event),
                end => return Ok((events, end)),
            }
        }
    }

    #[test]
    fn what_is_recorded_is_read() {
        let (events, text) = recording();
        assert_eq!(text.lines().count(), events.len() + 1, "one event a line, whatever it holds");
        let (read, end) = read(text.as_bytes()).expect("a recording");
        assert_eq!((read, end), (events, Decoded::End));
    }

    #[test]
    fn a_recording_may_be_cut_off_anywhere_behind_its_header() {
        let (events, text) = recording();
        let first = text.find('\n').expect("a header") + 1;
        for cut in (first..text.len()).step_by(7) {
            let (read, end) = read(&text.as_bytes()[..cut]).unwrap_or_else(|e| panic!("cut at {cut}: {e}"));
            assert!(events.starts_with(&read));
            let at_line_end = text.as_bytes()[cut - 1] == b'\n' || text.as_bytes()[cut] == b'\n';
            assert_eq!(end == Decoded::End, at_line_end, "cut at {cut}");
        }
        for cut in 0..first {
            assert!(matches!(read(&text.as_bytes()[..cut]), Err(RecordError::NotARecording)), "cut at {cut}");
        }
    }

    #[test]
    fn what_is_not_understood_is_said() {
        let (_, text) = recording();
        let other = text.replacen("\"version\":1", "\"version\":2,\"more\":[]", 1);
        assert!(matches!(Reader::open(other.as_bytes()), Err(RecordError::Version { found: 2 })));
        for wrong in ["", "\n", "{}\n", "[1]\n", "{\"schema\":1,\"type\":\"start\"}\n", "\u{0}\u{ff}"] {
            assert!(matches!(Reader::open(wrong.as_bytes()), Err(RecordError::NotARecording)), "{wrong:?}");
        }
        let damaged = text.replacen("\"hook_return\"", "\"hook_retrun\"", 1);
        let error = read(damaged.as_bytes()).expect_err("a damaged line");
        assert!(matches!(error, RecordError::Damaged { line: 3, .. }), "{error}");
    }
}
