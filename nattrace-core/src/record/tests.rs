use super::*;
use crate::conntrack::{Connection, Direction, State, Tuple};
use crate::event::{
    Attached, Body, Circumstances, Commit, ConntrackChange, ConntrackEvent, Deliver, DeviceEvent, DeviceRef,
    DropEvent, FrameTo, Hook, HookPoint, HookReturn, HookVerdict, Link, Listening, Loss, Manip, NfFamily,
    NftTrace, Rewrite, RouteRef, TraceMessage, TraceType, Verdict,
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
    let event =
        DeviceEvent { packet: 1, header: packet(), device: device.clone(), connection: Some(connection()) };
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
        Body::Clock { quiet: false },
        Body::Clock { quiet: true },
        Body::Full,
        Body::HeldBack { packets: 7 },
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
    let sources =
        BTreeMap::from([(Source::Nft, "on".to_owned()), (Source::Probes, "kprobes are refused".to_owned())]);
    Header::new("0.1.0", Some("6.12.0".to_owned()), Filter::default(), sources)
}

fn recording() -> (Vec<Event>, String) {
    let events: Vec<Event> = every_kind()
        .into_iter()
        .map(|body| Event { time_ns: u64::MAX, cpu: u32::MAX, netns: 4_026_532_289, body })
        .collect();
    let mut text = serde_json::to_string(&header()).expect("a line") + "\n";
    for event in &events {
        text += &(serde_json::to_string(event).expect("a line") + "\n");
    }
    (events, text)
}

fn read(bytes: &[u8]) -> Result<(Vec<Event>, Decoded), RecordError> {
    let mut reader = Reader::open(bytes)?;
    assert_eq!(Header { version: VERSION, ..reader.header().clone() }, header());
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

/// A packed recording of so many events, and where each of its parts (the header first) ends.
fn packed(events: &[Event], limit: Option<u64>) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = Vec::new();
    let mut ends = Vec::new();
    let mut writer = Writer::begin(&mut bytes, &header(), Format::Json, limit).expect("a header");
    ends.push(usize::try_from(writer.written()).expect("few"));
    for event in events {
        if writer.event(event).expect("an event") == Written::Yes {
            ends.push(usize::try_from(writer.written()).expect("few"));
        }
    }
    writer.finish().expect("an end");
    (bytes, ends)
}

/// Events as they come from one packet after the other, each with its own numbers.
fn many(count: u64) -> Vec<Event> {
    let bodies = every_kind();
    let times = (0..count).map(|n| n * 1_234_567);
    times
        .zip(bodies.iter().cycle())
        .map(|(time_ns, body)| Event { time_ns, cpu: 1, netns: 2, body: body.clone() })
        .collect()
}

#[test]
fn a_packed_recording_loses_what_is_not_whole_wherever_it_is_cut_off() {
    let events = many(150);
    let (bytes, ends) = packed(&events, None);
    let (all, end) = read(&bytes).expect("a recording");
    assert_eq!((all.as_slice(), end), (events.as_slice(), Decoded::End));
    // A thousand cuts, spread by a generator with a fixed seed.
    let mut state = 20_261_127_u64;
    for _ in 0..1000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let cut = usize::try_from(state >> 33).expect("31 bits") % bytes.len();
        let whole = ends.iter().filter(|end| **end <= cut).count();
        match read(&bytes[..cut]) {
            Ok((read, end)) => {
                assert_eq!(end, Decoded::CutOff, "cut at {cut}");
                assert!(events.starts_with(&read), "cut at {cut}");
                assert!(read.len() + 1 >= whole, "cut at {cut}: {} events of {}", read.len(), whole - 1);
            }
            Err(error) => {
                assert!(matches!(error, RecordError::NotARecording) && whole == 0, "cut at {cut}: {error}");
            }
        }
    }
}

#[test]
fn a_limit_is_kept_and_said() {
    let events = many(2000);
    let (whole, _) = packed(&events, None);
    for limit in [4000, 9000, 20_000] {
        let (bytes, ends) = packed(&events, Some(limit));
        assert!(bytes.len() as u64 <= limit, "{} of {limit}", bytes.len());
        assert!(bytes.len() < whole.len());
        let (mut read, end) = read(&bytes).expect("a recording");
        assert_eq!(end, Decoded::End);
        assert_eq!(read.pop().map(|last| last.body), Some(Body::Full));
        assert_eq!(read.len() + 1, ends.len());
        assert!(events.starts_with(&read));
    }
}

#[test]
fn packing_pays() {
    let events = many(5000);
    let (bytes, _) = packed(&events, None);
    let plain: usize =
        events.iter().map(|event| serde_json::to_string(event).expect("a line").len() + 1).sum();
    assert!(bytes.len() * 5 < plain, "{} bytes of {plain}", bytes.len());
}

#[test]
fn what_is_not_understood_is_said() {
    let (_, text) = recording();
    let other = text.replacen("\"version\":1", "\"version\":3,\"more\":[]", 1);
    assert!(matches!(Reader::open(other.as_bytes()), Err(RecordError::Version { found: 3 })));
    for wrong in ["", "\n", "{}\n", "[1]\n", "{\"schema\":1,\"type\":\"start\"}\n", "\u{0}\u{ff}"] {
        assert!(matches!(Reader::open(wrong.as_bytes()), Err(RecordError::NotARecording)), "{wrong:?}");
    }
    let damaged = text.replacen("\"hook_return\"", "\"hook_retrun\"", 1);
    let error = read(damaged.as_bytes()).expect_err("a damaged line");
    assert!(matches!(error, RecordError::Damaged { line: 3, .. }), "{error}");
}

/// A compact recording of so many events, handed on after each `step`.
fn compact(events: &[Event], limit: Option<u64>, step: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::begin(&mut bytes, &header(), Format::Compact, limit).expect("a header");
    for some in events.chunks(step) {
        for event in some {
            writer.event(event).expect("an event");
        }
        writer.flush().expect("room");
    }
    writer.finish().expect("an end");
    bytes
}

#[test]
fn a_compact_recording_has_the_same_events() {
    let events = many(3000);
    for step in [1, 700, 3000] {
        let (all, end) = read(&compact(&events, None, step)).expect("a recording");
        assert_eq!((all.as_slice(), end), (events.as_slice(), Decoded::End), "{step} at once");
    }
    let (json, _) = packed(&events, None);
    assert!(compact(&events, None, 3000).len() * 2 < json.len());
}

#[test]
fn a_compact_recording_loses_the_block_that_is_not_whole() {
    let events = many(60);
    let bytes = compact(&events, None, 7);
    let first = bytes.iter().position(|byte| *byte == b'\n').expect("a header") + 1;
    let mut most = 0;
    for cut in first..bytes.len() {
        let (read, end) = read(&bytes[..cut]).expect("what is whole");
        assert!(events.starts_with(&read), "cut at {cut}");
        assert_eq!(end == Decoded::End, cut == first || (end == Decoded::End && read.len() % 7 == 0));
        most = most.max(read.len());
    }
    assert_eq!(most, 56, "nothing but the last block is lost at the last byte");
}

#[test]
fn a_compact_recording_keeps_its_limit() {
    let events = many(5000);
    let whole = compact(&events, None, 50);
    for limit in [6000, 20_000] {
        let bytes = compact(&events, Some(limit), 50);
        assert!(bytes.len() as u64 <= limit && bytes.len() < whole.len(), "{} of {limit}", bytes.len());
        let (mut read, end) = read(&bytes).expect("a recording");
        assert_eq!((end, read.pop().map(|last| last.body)), (Decoded::End, Some(Body::Full)));
        assert!(events.starts_with(&read) && !read.is_empty());
    }
    let mut writer = Writer::begin(Vec::new(), &header(), Format::Compact, Some(2000)).expect("a header");
    let said: Vec<Written> = events.iter().map(|event| writer.event(event).expect("an event")).collect();
    assert_eq!(said.iter().filter(|written| **written == Written::Full).count(), 1, "once");
    assert_eq!(said.last(), Some(&Written::No));
}

/// Whatever stands in the place of a block: an error or other events, never a panic, never memory without end.
#[test]
fn a_damaged_block_is_said_to_be() {
    let bytes = compact(&many(200), None, 100);
    let first = bytes.iter().position(|byte| *byte == b'\n').expect("a header") + 1;
    let mut state = 20_261_127_u64;
    let mut refused = 0;
    for _ in 0..3000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut damaged = bytes.clone();
        let at = first + usize::try_from(state >> 33).expect("31 bits") % (bytes.len() - first);
        damaged[at] ^= u8::try_from(state >> 8 & 0xff).expect("8 bits") | 1;
        match read(&damaged) {
            Err(RecordError::DamagedBlock { .. }) => refused += 1,
            Err(error) => panic!("{error}"),
            Ok(_) => {}
        }
    }
    assert!(refused > 1000, "{refused}");
}

#[test]
fn what_cannot_be_written_is_told_as_such_and_once() {
    #[derive(Debug)]
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    for format in [Format::Json, Format::Compact] {
        let header = Header::new("0", None, Filter::default(), BTreeMap::new());
        let error = Writer::begin(Full, &header, format, None).expect_err("nothing can be written");
        assert_eq!(error.to_string(), "cannot write the recording");
        let cause = std::error::Error::source(&error).expect("a cause");
        assert_eq!(cause.to_string(), std::io::Error::from(std::io::ErrorKind::StorageFull).to_string());
    }
}
