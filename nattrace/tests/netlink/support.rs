//! Namespaces, traffic, and the reading of trace messages.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nattrace::source::netlink::socket::Received;
use nattrace::source::netlink::trace::TraceSocket;
use nattrace::source::netlink::trace_table::{
    AskedPrograms, FollowBy, TraceTable, TraceTableError, TraceTableSpec,
};
use nattrace::source::netns::{self, Netns};
use nattrace_core::event::{TraceMessage, TraceType};
use nattrace_core::filter::{Filter, PortRange, Prefix};
use nattrace_core::packet::{Packet, decode};

/// Set for a process that a test starts, with what it shall do.
pub(crate) const CHILD: &str = "NATTRACE_TEST_CHILD";

/// Runs a test in a new namespace whose loopback device is up.
pub(crate) fn in_namespace(test: impl FnOnce() + Send) {
    let result = netns::run_in_new(|| {
        run("ip", &["link", "set", "lo", "up"]);
        test();
    });
    match result {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            eprintln!("SKIPPED: a network namespace of our own needs root");
        }
        other => other.expect("a new namespace"),
    }
}

/// A second namespace, joined to the one of this thread by `here` (10.9.0.1, fd00:9::1) and `there`.
pub(crate) fn peer_namespace() -> Netns {
    let here = std::fs::read_link("/proc/thread-self").expect("a link");
    let here = format!("/proc/{}/ns/net", here.display());
    let peer = netns::run_in_new(|| {
        run("ip", &["link", "set", "lo", "up"]);
        run("ip", &["link", "add", "there", "type", "veth", "peer", "name", "here", "netns", &here]);
        for address in ["10.9.0.2/16", "10.9.130.2/16"] {
            run("ip", &["addr", "add", address, "dev", "there"]);
        }
        // No duplicate address detection: it would take a second.
        run("ip", &["addr", "add", "fd00:9::2/64", "dev", "there", "nodad"]);
        run("ip", &["link", "set", "there", "up"]);
        netns::current().expect("a namespace")
    });
    run("ip", &["addr", "add", "10.9.0.1/16", "dev", "here"]);
    run("ip", &["addr", "add", "fd00:9::1/64", "dev", "here", "nodad"]);
    run("ip", &["link", "set", "here", "up"]);
    let peer = peer.expect("a second namespace");
    // Neighbours are found before anything is counted.
    netns::run_in(&peer, || {
        for host in ["10.9.0.1", "fd00:9::1"] {
            run("ping", &["-c", "1", "-W", "5", host]);
        }
    })
    .expect("the second namespace");
    peer
}

/// Runs a program, which must succeed, and gives its output.
pub(crate) fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs nft with one command.
pub(crate) fn nft(command: &str) -> String {
    run("nft", &[command])
}

pub(crate) fn prefix(text: &str) -> Prefix {
    let (addr, len) = text.split_once('/').expect("a prefix");
    Prefix { addr: addr.parse().expect("an address"), len: len.parse().expect("a length") }
}

pub(crate) fn ports(first: u16, last: u16) -> PortRange {
    PortRange { first, last }
}

pub(crate) fn spec(name: &str, filter: Filter) -> TraceTableSpec {
    TraceTableSpec {
        name: name.to_owned(),
        filter,
        rate: None,
        follow: FollowBy::No,
        hook_observers: false,
        programs: AskedPrograms::default(),
    }
}

/// Installs a trace table; `None`, said, on kernels that cannot tie one to its owner (before 5.12).
pub(crate) fn install(spec: &TraceTableSpec) -> Option<TraceTable> {
    match TraceTable::install(spec) {
        Err(TraceTableError::NoOwnerSupport) => {
            eprintln!("SKIPPED: {}", TraceTableError::NoOwnerSupport);
            None
        }
        other => Some(other.unwrap_or_else(|error| panic!("{spec:?}: {error}"))),
    }
}

/// Sends one datagram; what becomes of it does not matter.
pub(crate) fn send_udp(from: &str, to: &str, bytes: usize) {
    let to: SocketAddr = to.parse().expect("an address");
    // While another test starts a program, its child holds our sockets for a moment after we closed them.
    let bind = |_| {
        sleep(Duration::from_millis(10));
        UdpSocket::bind(from).ok()
    };
    let socket = UdpSocket::bind(from).ok().or_else(|| (0..100).find_map(bind)).expect("a socket");
    // Refused when an earlier one was answered by an ICMP error.
    let _ = socket.send_to(&vec![0; bytes], to);
}

/// Everything that arrives until it has been quiet for a while.
pub(crate) fn collect(socket: &mut TraceSocket) -> Vec<TraceMessage> {
    let mut messages = Vec::new();
    let mut last = Instant::now();
    while last.elapsed() < Duration::from_millis(150) {
        match socket.receive().expect("a readable message") {
            Received::Item(message) => {
                messages.push(message);
                last = Instant::now();
            }
            Received::Empty => sleep(Duration::from_millis(5)),
            Received::Lost => panic!("messages were lost"),
        }
    }
    messages
}

/// One evaluation of a base chain: the packet that it saw, and what happened in it.
#[derive(Debug, Clone)]
pub(crate) struct Evaluation {
    pub(crate) packet: Packet,
    pub(crate) first: TraceMessage,
    pub(crate) messages: Vec<TraceMessage>,
}

impl Evaluation {
    /// Whether this evaluation of our table is where the packet was selected.
    pub(crate) fn selected(&self) -> bool {
        self.messages
            .iter()
            .any(|m| m.chain.starts_with("mark_") && m.kind == TraceType::Rule && m.rule_handle.is_some())
    }

    pub(crate) fn ports(&self) -> (Option<u16>, Option<u16>) {
        let port = |end: Option<nattrace_core::packet::Endpoint>| end.and_then(|end| end.port);
        (port(self.packet.source), port(self.packet.destination))
    }
}

/// The first message of an evaluation has the headers, the others do not.
pub(crate) fn evaluations(messages: Vec<TraceMessage>) -> Vec<Evaluation> {
    let mut found: Vec<Evaluation> = Vec::new();
    for message in messages {
        if message.network_header.is_empty() {
            // Messages of packets on other processors come between.
            let current = found.iter_mut().rfind(|e| e.first.id == message.id);
            current.expect("a first message with headers").messages.push(message);
        } else {
            let mut bytes = message.network_header.clone();
            bytes.extend(&message.transport_header);
            let packet = decode(&bytes, 0).expect("a packet");
            found.push(Evaluation { packet, first: message.clone(), messages: vec![message] });
        }
    }
    found
}
