//! The trace table selects exactly what the filter says, by the filter's own definition.

use std::collections::BTreeSet;
use std::net::{TcpListener, TcpStream};

use nattrace::source::netlink::trace::TraceSocket;
use nattrace::source::netlink::trace_table::{FollowBy, TraceTableSpec, describe};
use nattrace::source::netns;
use nattrace_core::filter::{Filter, Masked};
use nattrace_core::packet::protocol;

use crate::support::{
    Evaluation, collect, evaluations, in_namespace, install, nft, peer_namespace, ports, prefix, run,
    send_udp, spec,
};

/// Traffic of many kinds from the peer, every packet told apart by its ports or its length.
fn traffic() {
    for (index, from) in
        ["10.9.0.2:3001", "10.9.130.2:3002", "[fd00:9::2]:3003", "10.9.0.2:3004"].iter().enumerate()
    {
        let host = if from.starts_with('[') { "[fd00:9::1]" } else { "10.9.0.1" };
        for port in [53, 1221, 1222, 1223, 7999, 8000, 8050, 8100, 8101] {
            send_udp(from, &format!("{host}:{port}"), 10 + index);
        }
    }
    send_udp("10.9.130.2:1222", "10.9.0.1:9", 40);
    // Refused connections: a SYN and a RST.
    for to in ["10.9.0.1:1222", "10.9.0.1:4444", "[fd00:9::1]:1222"] {
        assert!(TcpStream::connect(to).is_err());
    }
    drop(TcpStream::connect("10.9.0.1:8010").expect("a connection"));
    run("ping", &["-c", "1", "-W", "1", "10.9.0.1"]);
}

fn filters() -> Vec<Filter> {
    let any = Filter::default;
    let syn = Masked { value: 0x02, mask: 0x12 };
    vec![
        any(),
        Filter { dport: vec![ports(1222, 1222)], ..any() },
        Filter { dport: vec![ports(1222, 1222), ports(8000, 8100)], ..any() },
        Filter { dport: vec![ports(0, 65535)], sport: vec![ports(3002, 3003)], ..any() },
        Filter { port: vec![ports(1222, 1222)], ..any() },
        Filter { port: vec![ports(1222, 1222), ports(53, 54)], protocols: vec![protocol::UDP], ..any() },
        Filter { protocols: vec![protocol::TCP], ..any() },
        Filter { protocols: vec![protocol::TCP, protocol::ICMP, protocol::TCP], ..any() },
        Filter { protocols: vec![protocol::ICMP], dport: vec![ports(1, 1)], ..any() },
        Filter { protocols: vec![protocol::ICMP, protocol::ICMPV6], ..any() },
        Filter { saddr: vec![prefix("10.9.128.0/17")], ..any() },
        Filter { saddr: vec![prefix("10.9.0.0/18")], ..any() },
        Filter { saddr: vec![prefix("10.9.130.3/31"), prefix("fd00:9::2/128")], ..any() },
        Filter {
            saddr: vec![prefix("10.9.130.2/31"), prefix("e000::/3")],
            daddr: vec![prefix("10.9.0.1/32")],
            ..any()
        },
        Filter { saddr: vec![prefix("0.0.0.0/0")], dport: vec![ports(53, 53)], ..any() },
        Filter { saddr: vec![prefix("::/0")], ..any() },
        Filter { addr: vec![prefix("10.9.128.0/19")], ..any() },
        Filter { addr: vec![prefix("10.9.130.2/32"), prefix("fd00:9::2/127")], ..any() },
        Filter { saddr: vec![prefix("fd00:9::2/128")], daddr: vec![prefix("10.9.0.1/32")], ..any() },
        Filter { tcp_flags: Some(syn), ..any() },
        Filter {
            tcp_flags: Some(Masked { value: 0x14, mask: 0x14 }),
            port: vec![ports(1222, 1222)],
            ..any()
        },
        Filter { marks: vec![Masked { value: 0x17, mask: u32::MAX }], ..any() },
        Filter {
            marks: vec![Masked { value: 0x10, mask: 0xf0 }, Masked { value: 0x5, mask: 0xff }],
            ..any()
        },
        Filter { iif: vec!["here".to_owned()], dport: vec![ports(1222, 1222)], ..any() },
        Filter { iif: vec!["her".to_owned(), "here1".to_owned()], ..any() },
        Filter { oif: vec!["here".to_owned()], dport: vec![ports(1222, 1222)], ..any() },
        Filter { oif: vec!["eth0".to_owned(), "here".to_owned()], ..any() },
        Filter { oif: vec!["eth0".to_owned()], ..any() },
        Filter {
            saddr: vec![prefix("10.9.0.0/17"), prefix("10.9.128.0/17")],
            daddr: vec![prefix("10.9.0.1/32"), prefix("fd00:9::1/128")],
            sport: vec![ports(3001, 3001), ports(3004, 3004)],
            dport: vec![ports(53, 53), ports(1000, 8000)],
            protocols: vec![protocol::UDP, protocol::TCP],
            ..any()
        },
    ]
}

/// Devices are judged apart from headers: see `Filter::matches`. There is one that matters, `here`.
fn devices_match(filter: &Filter, evaluation: &Evaluation) -> bool {
    let here = |names: &[String]| names.iter().any(|name| name == "here");
    match evaluation.first.iif {
        Some(_) => filter.iif.is_empty() || here(&filter.iif),
        None => filter.iif.is_empty() && (filter.oif.is_empty() || here(&filter.oif)),
    }
}

/// Neighbour discovery (ICMPv6 133 to 137) and MLDv2 (143, behind an extension header that trace messages
/// cut off).
fn is_discovery(evaluation: &Evaluation) -> bool {
    let hop_by_hop =
        evaluation.first.nfproto == Some(10) && evaluation.first.network_header.get(6) == Some(&0);
    hop_by_hop || evaluation.packet.icmp.is_some_and(|icmp| (133..=137).contains(&icmp.kind))
}

#[test]
fn exactly_what_the_filter_matches_is_selected() {
    in_namespace(|| {
        let peer = peer_namespace();
        // Some packets carry a mark when the tables see them: the one hook that is before them all.
        nft("add table netdev marks { chain in { type filter hook ingress device here priority 0; }; }");
        nft("add rule netdev marks in udp dport 1222 meta mark set 0x17");
        nft("add rule netdev marks in udp dport 53 meta mark set 0x5");
        let _listener = TcpListener::bind("10.9.0.1:8010").expect("a listener");
        let mut socket = TraceSocket::open().expect("a socket");
        let Some(_everything) = install(&spec("everything", Filter::default())) else { return };
        for filter in filters() {
            let Some(table) = install(&spec("nattrace_test", filter.clone())) else { return };
            netns::run_in(&peer, traffic).expect("the peer");
            let mut all = evaluations(collect(&mut socket));
            drop(table);
            // Neighbours and multicast listeners are looked for when the kernel likes, also between the
            // beginning of the one table and the other.
            all.retain(|e| !is_discovery(e));
            let key = |e: &Evaluation| format!("{:?} {:?} {:?}", e.first.iif, e.first.oif, e.packet);
            let (mut marked, mut outgoing) = (0, 0);
            let mut expected = Vec::new();
            for evaluation in all.iter().filter(|e| e.first.table == "everything") {
                let mut packet = evaluation.packet.clone();
                packet.mark = evaluation.first.mark.unwrap_or(0);
                marked += usize::from(packet.mark != 0);
                outgoing += usize::from(evaluation.first.iif.is_none());
                if filter.matches(&packet) && devices_match(&filter, evaluation) {
                    expected.push(key(evaluation));
                }
            }
            assert!(marked > 0 && outgoing > 0, "marks and answers are part of the test");
            let mut selected: Vec<_> =
                all.iter().filter(|e| e.first.table == "nattrace_test" && e.selected()).map(key).collect();
            expected.sort();
            selected.sort();
            let missed: Vec<_> = expected.iter().filter(|e| !selected.contains(e)).collect();
            let wrong: Vec<_> = selected.iter().filter(|e| !expected.contains(e)).collect();
            let same = selected == expected;
            let table = describe(&spec("x", filter.clone()), &[]);
            assert!(same, "{filter:?}\n{table}\nmissed {missed:#?}\nwrong {wrong:#?}");
        }
    });
}

#[test]
fn the_rate_holds_for_all_ways_in_together() {
    in_namespace(|| {
        let mut socket = TraceSocket::open().expect("a socket");
        let filter = Filter { port: vec![ports(1222, 1222)], ..Filter::default() };
        let spec = TraceTableSpec { rate: Some(10), ..spec("nattrace_test", filter) };
        let Some(_table) = install(&spec) else { return };
        for port in 0..100 {
            send_udp(&format!("127.0.0.1:{}", 20000 + port), "127.0.0.1:1222", 1);
        }
        let all = evaluations(collect(&mut socket));
        // Behind loopback a selected packet is seen again, marked already.
        let outgoing = all.iter().filter(|e| e.first.iif.is_none() && e.first.table == "nattrace_test");
        let selected = outgoing.filter(|e| e.packet.protocol == Some(protocol::UDP)).count();
        assert!((8..=14).contains(&selected), "{selected} of 100 at 10 a second");
    });
}

#[test]
fn a_followed_connection_is_traced_through_translation_and_back() {
    in_namespace(|| {
        nft("add table ip nat { chain out { type nat hook output priority -100; }; }");
        nft("add rule ip nat out tcp dport 1222 dnat to 127.0.0.1:2222");
        for version in [4, 6] {
            if version == 6 {
                nft("flush ruleset");
                nft("add table ip6 nat { chain out { type nat hook output priority -100; }; }");
                nft("add rule ip6 nat out tcp dport 1222 dnat to [::1]:2222");
            }
            let (listen, connect) = if version == 4 {
                ("127.0.0.1:2222", "127.0.0.9:1222")
            } else {
                ("[::1]:2222", "[::1]:1222")
            };
            let mut socket = TraceSocket::open().expect("a socket");
            let filter = Filter { dport: vec![ports(1222, 1222)], ..Filter::default() };
            let spec = TraceTableSpec {
                rate: Some(1),
                follow: FollowBy::Conntrack,
                ..spec("nattrace_test", filter)
            };
            let Some(_table) = install(&spec) else { return };
            let listener = TcpListener::bind(listen).expect("a listener");
            let client = TcpStream::connect(connect).expect("a connection");
            let (server, _) = listener.accept().expect("a client");
            drop((client, server));
            let all = evaluations(collect(&mut socket));
            let replies =
                all.iter().filter(|e| e.ports().0 == Some(2222) && e.first.chain == "follow_output").count();
            assert!(replies >= 2, "SYN+ACK and more were traced: {replies}");
            let originals = all
                .iter()
                .filter(|e| e.ports().1 == Some(1222) && e.first.chain == "followed_output")
                .count();
            assert!(originals >= 2, "packets over the rate were traced: {originals}");
            assert_eq!(all.iter().filter(|e| e.first.chain.starts_with("mark_")).count(), 1, "one selection");
            // What nobody asked for is not traced.
            let _ = TcpStream::connect(listen);
            assert_eq!(collect(&mut socket), []);
        }
    });
}

#[test]
fn echo_is_followed_by_its_identifier() {
    in_namespace(|| {
        nft("add table inet t { chain c { type filter hook input priority 0; ct state new accept; }; }");
        let mut socket = TraceSocket::open().expect("a socket");
        let filter = Filter { protocols: vec![protocol::ICMP, protocol::ICMPV6], ..Filter::default() };
        let spec =
            TraceTableSpec { rate: Some(1), follow: FollowBy::Conntrack, ..spec("nattrace_test", filter) };
        let Some(_table) = install(&spec) else { return };
        for host in ["127.0.0.1", "::1"] {
            run("ping", &["-c", "3", "-i", "0.01", host]);
            let all = evaluations(collect(&mut socket));
            let seen: Vec<_> = all
                .iter()
                .filter(|e| e.first.iif.is_none() && e.first.table == "nattrace_test")
                .filter_map(|e| e.packet.icmp.and_then(|icmp| Some((icmp.kind, icmp.sequence?))))
                .collect();
            let (request, reply) = if host == "::1" { (128, 129) } else { (8, 0) };
            for kind in [request, reply] {
                let sequences: BTreeSet<_> = seen.iter().filter(|s| s.0 == kind).map(|s| s.1).collect();
                assert_eq!(sequences.len(), 3, "{seen:?}");
            }
            // The next host's first packet shall find the limiter open again.
            std::thread::sleep(std::time::Duration::from_millis(1100));
        }
    });
}

#[test]
fn an_icmp_error_is_followed_with_the_connection_it_is_about() {
    in_namespace(|| {
        nft("add table inet t { chain c { type filter hook input priority 0; ct state new accept; }; }");
        let mut socket = TraceSocket::open().expect("a socket");
        let filter = Filter { dport: vec![ports(1222, 1222)], ..Filter::default() };
        let spec = TraceTableSpec { follow: FollowBy::Conntrack, ..spec("nattrace_test", filter) };
        let Some(_table) = install(&spec) else { return };
        for (from, to) in [("127.0.0.1:3001", "127.0.0.1:1222"), ("[::1]:3001", "[::1]:1222")] {
            send_udp(from, to, 1);
            let all = evaluations(collect(&mut socket));
            let errors = all.iter().filter(|e| e.packet.icmp.is_some() && e.first.chain == "follow_output");
            assert_eq!(errors.count(), 1, "port unreachable");
        }
    });
}

#[test]
fn replies_are_traced_by_mirrored_headers() {
    in_namespace(|| {
        let filter = Filter {
            dport: vec![ports(1222, 1222), ports(1300, 1310)],
            daddr: vec![prefix("127.0.0.0/8")],
            ..Filter::default()
        };
        let mut socket = TraceSocket::open().expect("a socket");
        let spec = TraceTableSpec { follow: FollowBy::MirroredHeaders, ..spec("nattrace_test", filter) };
        let Some(_table) = install(&spec) else { return };
        let listener = TcpListener::bind("127.0.0.1:1305").expect("a listener");
        drop(TcpStream::connect("127.0.0.1:1305").expect("a connection"));
        drop(listener);
        let all = evaluations(collect(&mut socket));
        assert!(all.iter().any(|e| e.ports().1 == Some(1305) && e.selected()));
        assert!(all.iter().any(|e| e.ports().0 == Some(1305) && e.selected()));
        assert!(TcpStream::connect("127.0.0.1:1399").is_err());
        assert_eq!(collect(&mut socket), []);
    });
}

#[test]
fn many_alternatives_are_installed_at_once() {
    in_namespace(|| {
        let filter = Filter {
            saddr: (0..200).map(|n| prefix(&format!("10.0.{n}.0/24"))).collect(),
            daddr: (0..200).map(|n| prefix(&format!("10.1.{n}.0/25"))).collect(),
            addr: (0..200).map(|n| prefix(&format!("10.{n}.0.0/16"))).collect(),
            sport: (0..200).map(|n| ports(n, n)).collect(),
            dport: (0..200).map(|n| ports(n * 10, n * 10 + 5)).collect(),
            port: (0..200).map(|n| ports(n, 5000)).collect(),
            ..Filter::default()
        };
        let start = std::time::Instant::now();
        for follow in [FollowBy::Conntrack, FollowBy::Headers, FollowBy::MirroredHeaders] {
            let spec =
                TraceTableSpec { follow, hook_observers: true, ..spec("nattrace_test", filter.clone()) };
            drop(install(&spec));
        }
        assert!(start.elapsed().as_secs() < 30, "{:?}", start.elapsed());
    });
}
