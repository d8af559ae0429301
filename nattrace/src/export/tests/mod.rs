//! The pure half, and the queue. What is sent, and what happens when it cannot be: tests/otlp.

mod ids;
mod queue;
mod spans;

use nattrace_core::journey::Journey;
use nattrace_core::packet::{Family, Icmp, Packet, protocol};

use crate::render::samples::{bare, end, tcp};

/// A datagram that has an identification.
fn udp(from: &str, to: &str, ip_id: u16) -> Packet {
    let packet = tcp(from, to, 0);
    let protocol = Some(protocol::UDP);
    Packet { protocol, tcp_flags: None, tcp_seq: None, tcp_ack: None, ip_id: Some(ip_id), ..packet }
}

/// An echo request.
fn echo(from: &str, to: &str, id: u16, sequence: u16) -> Packet {
    let icmp = Icmp { kind: 8, code: 0, id: Some(id), sequence: Some(sequence), about: None };
    let packet = udp("10.0.0.1:1", "10.0.0.2:1", 0);
    let (source, destination) = (Some(end(from)), Some(end(to)));
    Packet { protocol: Some(protocol::ICMP), source, destination, icmp: Some(icmp), ..packet }
}

fn v6(packet: &Packet) -> Packet {
    Packet { family: Family::Ipv6, ip_id: None, ..packet.clone() }
}

fn at(packet: &Packet, first_seen_ns: u64) -> Journey {
    Journey { first_seen_ns, last_seen_ns: first_seen_ns, ..bare(packet.clone()) }
}
