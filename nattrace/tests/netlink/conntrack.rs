//! ctnetlink as this kernel speaks it, beside what `conntrack` prints.

use std::net::{TcpListener, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nattrace::source::netlink::conntrack::{ConntrackSocket, existing, in_use, tracked};
use nattrace::source::netlink::socket::Received;
use nattrace::source::{netns, ruleset};
use nattrace_core::conntrack::{IPS_DST_NAT, IPS_SRC_NAT};
use nattrace_core::event::{ConntrackChange, ConntrackEvent};
use nattrace_core::packet::protocol;

use crate::support::{in_namespace, nft, run, send_udp};

fn collect(socket: &mut ConntrackSocket) -> Vec<ConntrackEvent> {
    let mut events = Vec::new();
    let mut last = Instant::now();
    while last.elapsed() < Duration::from_millis(150) {
        match socket.receive().expect("events") {
            Received::Item(event) => {
                events.push(event);
                last = Instant::now();
            }
            Received::Empty => sleep(Duration::from_millis(5)),
            Received::Lost => panic!("events were lost"),
        }
    }
    events
}

#[test]
fn a_translated_connection_is_told_from_begin_to_end() {
    in_namespace(|| {
        nft("add table ip nat { chain out { type nat hook output priority -100; }; }");
        nft("add rule ip nat out tcp dport 1222 dnat to 127.0.0.1:2222");
        let mut socket = ConntrackSocket::open().expect("a socket");
        let listener = TcpListener::bind("127.0.0.1:2222").expect("a listener");
        let client = TcpStream::connect("127.0.0.9:1222").expect("a connection");
        let events = collect(&mut socket);
        assert_eq!(events[0].change, ConntrackChange::New);
        let connection = &events[0].connection;
        let (original, reply) = (connection.original.expect("a tuple"), connection.reply.expect("a tuple"));
        assert_eq!(original.protocol, protocol::TCP);
        assert_eq!(original.destination.to_string(), "127.0.0.9:1222");
        assert_eq!(reply.source.to_string(), "127.0.0.1:2222");
        assert_eq!(reply.destination, original.source);
        let status = connection.status.expect("a status");
        assert_eq!(status & (IPS_DST_NAT | IPS_SRC_NAT), IPS_DST_NAT);
        assert!(events.iter().any(|e| e.change == ConntrackChange::Update));
        let id = connection.id.expect("an id");
        assert!(run("conntrack", &["-L", "-o", "id"]).contains(&format!("id={id}")));
        let listed = existing(100).expect("a listing");
        assert!(listed.complete);
        assert!(listed.events.iter().all(|e| e.change == ConntrackChange::Listed));
        assert!(listed.events.iter().any(|e| e.connection.id == Some(id)));
        run("conntrack", &["-F"]);
        let events = collect(&mut socket);
        assert!(
            events.iter().any(|e| e.change == ConntrackChange::Destroy && e.connection.id == Some(id)),
            "{events:?}"
        );
        drop((client, listener));
    });
}

#[test]
fn echo_has_its_identifier_type_and_code_for_ports() {
    in_namespace(|| {
        nft("add table inet t { chain c { type filter hook input priority 0; ct state new accept; }; }");
        let mut socket = ConntrackSocket::open().expect("a socket");
        for (host, number, kind) in [("127.0.0.1", protocol::ICMP, 8), ("::1", protocol::ICMPV6, 128)] {
            run("ping", &["-c", "1", host]);
            let events = collect(&mut socket);
            let tuple = events[0].connection.original.expect("a tuple");
            assert_eq!(tuple.protocol, number);
            assert!(tuple.source.port.is_some());
            assert_eq!(tuple.destination.port, Some(kind << 8));
        }
    });
}

#[test]
fn a_listing_ends_at_its_limit() {
    in_namespace(|| {
        nft("add table inet t { chain c { type filter hook output priority 0; ct state new accept; }; }");
        for port in 0..2000 {
            send_udp("127.0.0.1:0", &format!("127.0.0.1:{}", 10_000 + port), 1);
        }
        let listed = existing(100).expect("a listing");
        assert!(!listed.complete);
        assert!((100..1000).contains(&listed.events.len()), "{}", listed.events.len());
        let listed = existing(1 << 20).expect("a listing");
        assert!(listed.complete && listed.events.len() >= 2000, "{}", listed.events.len());
    });
}

#[test]
fn whether_conntrack_is_in_use_is_known_before_it_is_used() {
    in_namespace(|| {
        let used = || {
            let listing = ruleset::list(&netns::current().expect("a namespace")).expect("a listing").listing;
            in_use(&listing, &ruleset::legacy::saved_here(), tracked())
        };
        assert!(!used());
        nft("add table inet t { chain c { type filter hook input priority 0; }; }");
        nft("add rule inet t c tcp dport 22 accept comment \"ct state masquerade\"");
        send_udp("127.0.0.1:0", "127.0.0.1:9", 1);
        assert!(!used(), "listing and looking switch nothing on");
        for rule in ["ct state new accept", "tcp dport 1 ct mark set 5", "udp dport 5 meta mark set ct mark"]
        {
            nft(&format!("add chain inet t d {{ {rule}; }}"));
            assert!(used(), "{rule}");
            nft("delete chain inet t d");
        }
        nft("add chain inet t n { type nat hook postrouting priority 100; masquerade; }");
        assert!(used());
        nft("flush ruleset");
        assert!(!used());
        run("iptables-nft", &["-A", "INPUT", "-m", "conntrack", "--ctstate", "NEW", "-j", "ACCEPT"]);
        assert!(used());
        run("iptables-nft", &["-F"]);
        assert!(!used());
        run("iptables-legacy", &["-t", "nat", "-A", "POSTROUTING", "-o", "lo", "-j", "MASQUERADE"]);
        assert!(used());
    });
}
