//! Trace messages as this kernel sends them.

use std::net::UdpSocket;
use std::process::Command;

use nattrace::source::netlink::trace::TraceSocket;
use nattrace::source::netlink::trace_table::{StaticKeyHolder, TraceTableSpec};
use nattrace_core::conntrack::Direction;
use nattrace_core::event::{TraceType, Verdict};
use nattrace_core::filter::Filter;

use crate::support::{collect, evaluations, in_namespace, install, nft, ports, run, send_udp, spec};

#[test]
fn every_verdict_is_read() {
    in_namespace(|| {
        nft("add table inet t { chain other { counter return; }; chain last { meta mark set 7; }; }");
        nft("add chain inet t c { type filter hook input priority 0; policy drop; }");
        nft("add rule inet t c udp dport 1 accept");
        nft("add rule inet t c udp dport 2 drop");
        // Not every kernel has nft_queue.
        let queue = Command::new("nft").arg("add rule inet t c udp dport 3 queue num 12 bypass").output();
        let queues = queue.is_ok_and(|output| output.status.success());
        nft("add rule inet t c udp dport 4 jump other");
        nft("add rule inet t c udp dport 4 goto last");
        nft("add rule inet t c udp dport 5 reject");
        let mut socket = TraceSocket::open().expect("a socket");
        let filter = Filter { dport: vec![ports(1, 5)], ..Filter::default() };
        let Some(_table) = install(&spec("nattrace_test", filter)) else { return };
        let listing = run("nft", &["-a", "list", "table", "inet", "t"]);
        let handle = |text: &str| -> Option<u64> {
            let line = listing.lines().find(|line| line.contains(text))?;
            line.rsplit(' ').next()?.parse().ok()
        };
        let mut verdicts = |port: u16| {
            send_udp("127.0.0.1:30000", &format!("127.0.0.1:{port}"), 1);
            let all = collect(&mut socket);
            let steps = all.into_iter().filter(|m| m.table == "t");
            steps.map(|m| (m.chain, m.kind, m.rule_handle, m.verdict.expect("a verdict"))).collect::<Vec<_>>()
        };
        let c = || "c".to_owned();
        let rule = |text: &str, verdict| (c(), TraceType::Rule, handle(text), verdict);
        assert_eq!(verdicts(1), [rule("dport 1 ", Verdict::Accept)]);
        assert_eq!(verdicts(2), [rule("dport 2 ", Verdict::Drop)]);
        if queues {
            assert_eq!(verdicts(3), [rule("dport 3 ", Verdict::Queue(12))]);
        }
        assert_eq!(verdicts(5), [rule("reject", Verdict::Drop)]);
        let mut steps = verdicts(4);
        // Before 6.7 a rule that returns is of the other type, with its handle all the same.
        steps[1].1 = TraceType::Rule;
        let other = ("other".to_owned(), TraceType::Rule, handle("return"), Verdict::Return);
        let last = ("last".to_owned(), TraceType::Rule, handle("mark set"), Verdict::Continue);
        assert_eq!(
            steps[..4],
            [
                rule("jump other", Verdict::Jump("other".to_owned())),
                other,
                rule("goto last", Verdict::Goto("last".to_owned())),
                last,
            ]
        );
        // The end of the chain, of one type or the other by the kernel's version, and then the policy.
        assert_eq!((steps[4].0.as_str(), steps[4].2, &steps[4].3), ("last", None, &Verdict::Continue));
        assert_eq!(steps[5], (c(), TraceType::Policy, None, Verdict::Drop));
        assert_eq!(steps.len(), 6);
    });
}

#[test]
fn somebody_elses_trace_rule_is_read_on_every_kernel() {
    in_namespace(|| {
        nft("add table ip t { chain other { counter; }; }");
        nft("add chain ip t c { type filter hook output priority 0; }");
        nft("add rule ip t c udp dport 1222 meta nftrace set 1");
        nft("add rule ip t c udp dport 1222 jump other");
        let mut socket = TraceSocket::open().expect("a socket");
        send_udp("127.0.0.1:30001", "127.0.0.1:1222", 3);
        let messages: Vec<_> = collect(&mut socket).into_iter().filter(|m| m.table == "t").collect();
        // By kernel, the end of a chain is a return, or a rule without a handle.
        let steps: Vec<_> = messages
            .iter()
            .map(|m| (m.chain.as_str(), m.rule_handle.is_some(), m.verdict.clone().expect("a verdict")))
            .collect();
        assert_eq!(
            steps,
            [
                ("c", true, Verdict::Continue),
                ("c", true, Verdict::Jump("other".to_owned())),
                ("other", true, Verdict::Continue),
                ("other", false, Verdict::Continue),
                ("c", false, Verdict::Continue),
                ("c", false, Verdict::Accept),
            ]
        );
        assert_eq!(evaluations(messages)[0].ports(), (Some(30_001), Some(1222)));
    });
}

#[test]
fn marks_devices_and_connections_are_told() {
    in_namespace(|| {
        nft(
            "add table inet t { chain c { type filter hook input priority 0; ct state new meta mark set 9 accept; }; }",
        );
        let mut socket = TraceSocket::open().expect("a socket");
        let filter = Filter { dport: vec![ports(1222, 1222)], ..Filter::default() };
        let Some(_table) = install(&spec("nattrace_test", filter)) else { return };
        let receiver = UdpSocket::bind("127.0.0.1:1222").expect("a socket");
        send_udp("127.0.0.1:30001", "127.0.0.1:1222", 3);
        let all = evaluations(collect(&mut socket));
        let input = all.iter().find(|e| e.first.table == "t").expect("the user's chain");
        assert_eq!((input.first.iif, input.first.oif, input.first.iif_type), (Some(1), None, Some(772)));
        assert_eq!(input.first.mark, Some(9));
        assert_eq!(input.first.nfproto, Some(2));
        assert_eq!(input.packet.length, 31);
        assert_eq!(input.first.link_header.len(), 14);
        drop(receiver);
        // Since 6.16.
        if let Some(id) = input.first.ct_id {
            let listed = run("conntrack", &["-L", "-o", "id"]);
            assert!(listed.contains(&format!("id={id}")), "{id} in {listed}");
            assert_eq!(input.first.ct_direction, Some(Direction::Original));
            assert_eq!(input.first.ct_state, Some(8));
        }
    });
}

#[test]
fn observers_tell_every_hook_with_the_headers_of_that_moment() {
    in_namespace(|| {
        nft("add table ip nat { chain out { type nat hook output priority -100; }; }");
        nft("add rule ip nat out udp dport 1222 dnat to 127.0.0.1:2222");
        let mut socket = TraceSocket::open().expect("a socket");
        let filter = Filter { dport: vec![ports(1222, 1222)], ..Filter::default() };
        let spec = TraceTableSpec { hook_observers: true, ..spec("nattrace_test", filter) };
        let Some(_table) = install(&spec) else { return };
        let _receiver = UdpSocket::bind("127.0.0.1:2222").expect("a socket");
        send_udp("127.0.0.1:30001", "127.0.0.1:1222", 3);
        let seen: Vec<_> = evaluations(collect(&mut socket))
            .into_iter()
            .filter(|e| e.first.table == "nattrace_test")
            .map(|e| {
                // An empty chain tells of its end, as a rule without handle (6.7+), and of its policy.
                let last = e.messages.last().expect("a message").kind;
                (e.first.chain.clone(), e.ports().1.expect("a port"), last)
            })
            .collect();
        let (rule, policy) = (TraceType::Rule, TraceType::Policy);
        let expected = [
            ("mark_output", 1222, rule),
            ("leave_output", 2222, policy),
            ("enter_postrouting", 2222, policy),
            ("leave_postrouting", 2222, policy),
            ("enter_prerouting", 2222, rule),
            ("leave_prerouting", 2222, policy),
            ("enter_input", 2222, policy),
            ("leave_input", 2222, policy),
        ];
        let expected: Vec<_> = expected.into_iter().map(|(c, p, k)| (c.to_owned(), p, k)).collect();
        assert_eq!(seen, expected);
    });
}

#[test]
fn the_static_key_can_be_held_beside_everything() {
    in_namespace(|| {
        let holder = StaticKeyHolder::install().expect("a private namespace");
        assert_eq!(nft("list ruleset"), "", "no ruleset that anyone uses is touched");
        drop(holder);
    });
}
