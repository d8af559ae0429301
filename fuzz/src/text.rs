//! What other programs print, and what a user types.

use std::ffi::OsString;
use std::hint::black_box;
use std::net::IpAddr;
use std::os::unix::ffi::OsStringExt as _;

use nattrace::cli::{self, Stop, Terminal};
use nattrace::source::ruleset::{iptables, legacy, parse};
use nattrace_core::anonymize::Anonymizer;
use nattrace_core::conntrack::{Connection, Direction, State, Tuple};
use nattrace_core::evaluate::{Expressions, Moment};
use nattrace_core::event::{Body, Event, Manip};
use nattrace_core::packet::{Endpoint, Family, Packet, protocol};
use nattrace_core::ruleset::legacy::{is_sure, verdict};
use nattrace_core::ruleset::{Listing, Rule, does_nat, iptables_target, keeps_port};

/// `nft -a list ruleset`.
pub(crate) fn listing(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let tables = parse::parse(&text);
    for rule in tables.iter().flat_map(|table| &table.chains).flat_map(|chain| &chain.rules) {
        assert!(text.contains(&rule.handle.to_string()), "no such handle");
    }
    black_box(tables);
}

/// `iptables-save` of both kinds; what that of nf_tables says is paired with a listing, which comes first.
pub(crate) fn iptables_save(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    black_box(legacy::parse(&text));
    let (listed, saved) = text.split_once("\n# Generated").unwrap_or(("", &text));
    let saved = iptables::parse(saved);
    for table in &mut parse::parse(listed) {
        let of_table = saved.get(&table.name);
        iptables::pair(table, of_table);
    }
    black_box(saved);
}

/// A rule a line: read, judged, looked through for what it does, and made anonymous.
pub(crate) fn rules(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let packets = packets();
    for rule in text.lines() {
        black_box((iptables_target(rule), is_sure(rule), verdict(rule, &[]), keeps_port(rule)));
        black_box((does_nat(rule, Manip::Dnat, None), does_nat(rule, Manip::Snat, None)));
        let iptables = rule.starts_with("-A ");
        for packet in &packets {
            let expressions = if iptables {
                Expressions::read_iptables(rule, packet.family == Family::Ipv6)
            } else {
                Expressions::read(rule)
            };
            let connection = connection(packet);
            let moment = Moment {
                packet,
                iif: Some("eth0"),
                oif: None,
                devices_known: true,
                connection: connection.as_ref(),
                mark: Some(7),
                destination_type: Some(1),
            };
            black_box(expressions.judge(&moment, &|lookup| (lookup.set.len() > 2).then_some(true)));
            black_box((expressions.verdict(), expressions.conditions()));
        }
    }
    let mut tables = parse::parse("table ip t { # handle 1\n\tchain c { # handle 2\n\t}\n}\n");
    let rules = text.lines().enumerate().map(|(at, rule)| {
        let mut listed = Rule::new(at as u64 + 3, rule.to_owned());
        listed.iptables = rule.starts_with("-A ").then(|| rule.to_owned());
        listed
    });
    tables.iter_mut().flat_map(|table| &mut table.chains).for_each(|chain| chain.rules.extend(rules.clone()));
    let body = Body::Ruleset(Listing { generation: Some(1), tables });
    let event = Event { time_ns: 1, cpu: 0, netns: 1, body };
    let mut anonymizer = Anonymizer::new([7; 16]);
    anonymizer.learn(&event);
    black_box(anonymizer.event(&event));
}

fn packets() -> [Packet; 3] {
    let end = |addr: [u8; 4], port| Endpoint { addr: IpAddr::from(addr), port: Some(port) };
    let tcp = Packet {
        family: Family::Ipv4,
        protocol: Some(protocol::TCP),
        source: Some(end([10, 0, 0, 1], 40_000)),
        destination: Some(end([192, 168, 70, 10], 22)),
        tcp_flags: Some(2),
        tcp_seq: Some(1),
        tcp_ack: Some(0),
        icmp: None,
        length: 60,
        ttl: Some(64),
        ip_id: Some(1),
        fragment_offset: 0,
        more_fragments: false,
        segments: 0,
        tos: 0,
        mark: 7,
    };
    let v6 = Endpoint { addr: IpAddr::from([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]), port: None };
    let other = Packet {
        family: Family::Ipv6,
        protocol: Some(protocol::ICMPV6),
        source: Some(v6),
        destination: Some(v6),
        tcp_flags: None,
        fragment_offset: 1480,
        ..tcp.clone()
    };
    let arp =
        Packet { family: Family::Arp, protocol: None, source: None, destination: None, ..other.clone() };
    [tcp, other, arp]
}

fn connection(packet: &Packet) -> Option<Connection> {
    let tuple =
        Tuple { protocol: packet.protocol?, source: packet.source?, destination: packet.destination? };
    Some(Connection {
        direction: Some(Direction::Original),
        state: Some(State::New),
        status: Some(8),
        mark: Some(1),
        zone: Some(0),
        original: Some(tuple),
        reply: Some(tuple),
        ..Connection::default()
    })
}

/// A command line, an argument a line; what is wrong with it is said in one line.
pub(crate) fn command_line(data: &[u8]) {
    let arguments = data.split(|byte| *byte == b'\n').map(|argument| OsString::from_vec(argument.to_vec()));
    let argv = std::iter::once(OsString::from("nattrace")).chain(arguments);
    match cli::parse(argv, &Terminal::default()) {
        Err(Stop::Mistake(mistake)) => drop(black_box(mistake.to_string())),
        Err(Stop::Print(text)) => drop(black_box(text)),
        Ok(plan) => drop(black_box(plan)),
    }
}
