#![expect(clippy::needless_raw_string_hashes, reason = "expect-test writes its literals so")]

use expect_test::{Expect, expect};
use jiff::tz::TimeZone;
use nattrace_core::conntrack::{Connection, Direction, State};
use nattrace_core::conversation::{Conversation, Passage};
use nattrace_core::event::{HookPoint, HookVerdict, Loss, Manip, NfFamily, Source, Verdict};
use nattrace_core::fib::RoutePrefix;
use nattrace_core::findings::{Certainty, Finding, Total};
use nattrace_core::journey::{
    Backend, DeviceStep, DropCause, Journey, JourneyId, KernelDrop, MatchedRoute, Outcome, RewrittenBy,
    RouteDecision, RuleRef, RuleStep, StepKind,
};
use nattrace_core::packet::{Icmp, protocol};

use super::Text;
use crate::render::samples;
use crate::render::samples::{
    again, at_home, bare, broken, end, fixed, hook, legacy, matched, rewrite, rule, steps, tcp,
};
use crate::render::{Namespaces, SourceTotals, Summary, Tally};

fn text() -> Text {
    Text::new(TimeZone::UTC)
}

#[track_caller]
fn check(journeys: &[Journey], width: Option<usize>, expected: &Expect) -> String {
    let mut text = text();
    let told: String = journeys.iter().map(|it| text.journey(it, &at_home(), width).paint(false)).collect();
    if let Some(width) = width {
        // Commands are not broken inside quotes, however long.
        for line in told.lines().filter(|line| !line.contains('\'')) {
            assert!(unicode_width::UnicodeWidthStr::width(line) <= width, "{line}");
        }
    }
    expected.assert_eq(&told);
    told
}

#[test]
fn the_article_in_80_columns() {
    let it = broken();
    check(
        &[it.clone(), again(2, &it, 1.0), again(3, &it, 3.1)],
        Some(80),
        &expect![[r##"
            #1 tcp 10.2.1.2:36334 → 10.1.2.3:1222  SYN                 in enp0  22:13:20.000
               prerouting   inet nat prerouting  ip daddr 10.1.2.3 tcp dport 1222
                                                   dnat ip to 192.168.70.10:22
               ⇒ DNAT       10.1.2.3:1222 → 192.168.70.10:22
               route        forward, out veth21
               forward      inet filter forward  ct status dnat jump allowed_dnats
                            ↳ allowed_dnats      drop
               ✗ DROPPED    in forward by rule "drop" (inet filter allowed_dnats handle 8)
               why          The rule before it accepts what is in the set @allow_in, and
                            192.168.70.10 . 22 (the address and port after the rewrite) is
                            not in it.
               fix          nft add element inet filter allow_in { 192.168.70.10 . 22 }
               ↻ again      retransmitted after 1.0 s as #2: same path, same end
               ↻ again      retransmitted after 3.1 s as #3: same path, same end
        "##]],
    );
}

#[test]
fn the_article_in_120_columns() {
    let it = broken();
    check(
        &[it.clone(), again(2, &it, 1.0), again(3, &it, 3.1)],
        Some(120),
        &expect![[r##"
            #1 tcp 10.2.1.2:36334 → 10.1.2.3:1222  SYN                                                         in enp0  22:13:20.000
               prerouting   inet nat prerouting  ip daddr 10.1.2.3 tcp dport 1222 dnat ip to 192.168.70.10:22
               ⇒ DNAT       10.1.2.3:1222 → 192.168.70.10:22
               route        forward, out veth21
               forward      inet filter forward  ct status dnat jump allowed_dnats
                            ↳ allowed_dnats      drop
               ✗ DROPPED    in forward by rule "drop" (inet filter allowed_dnats handle 8)
               why          The rule before it accepts what is in the set @allow_in, and 192.168.70.10 . 22 (the address and port
                            after the rewrite) is not in it.
               fix          nft add element inet filter allow_in { 192.168.70.10 . 22 }
               ↻ again      retransmitted after 1.0 s as #2: same path, same end
               ↻ again      retransmitted after 3.1 s as #3: same path, same end
        "##]],
    );
}

#[test]
fn the_article_in_a_pipe() {
    check(
        &[broken()],
        None,
        &expect![[r##"
            #1 tcp 10.2.1.2:36334 → 10.1.2.3:1222  SYN  in enp0  22:13:20.000
               prerouting   inet nat prerouting  ip daddr 10.1.2.3 tcp dport 1222 dnat ip to 192.168.70.10:22
               ⇒ DNAT       10.1.2.3:1222 → 192.168.70.10:22
               route        forward, out veth21
               forward      inet filter forward  ct status dnat jump allowed_dnats
                            ↳ allowed_dnats      drop
               ✗ DROPPED    in forward by rule "drop" (inet filter allowed_dnats handle 8)
               why          The rule before it accepts what is in the set @allow_in, and 192.168.70.10 . 22 (the address and port after the rewrite) is not in it.
               fix          nft add element inet filter allow_in { 192.168.70.10 . 22 }
        "##]],
    );
}

#[test]
fn the_article_fixed() {
    check(
        &[fixed()],
        Some(80),
        &expect![[r#"
            #1 tcp 10.2.1.2:36334 → 10.1.2.3:1222  SYN                 in enp0  22:13:20.000
               prerouting   inet nat prerouting   ip daddr 10.1.2.3 tcp dport 1222
                                                    dnat ip to 192.168.70.10:22
               ⇒ DNAT       10.1.2.3:1222 → 192.168.70.10:22
               route        forward, out veth21
               forward      inet filter forward   ct status dnat jump allowed_dnats
                            ↳ allowed_dnats       meta nfproto ipv4
                                                    ip daddr . tcp dport @allow_in accept
               postrouting  inet nat postrouting  policy accept
               → SENT       out veth21
        "#]],
    );
}

#[test]
fn rules_of_legacy_iptables() {
    check(
        &[legacy(true), legacy(false)],
        Some(100),
        &expect![[r##"
        #1 tcp 10.2.1.2:36334 → 10.1.2.3:1222  SYN                                     in enp0  22:13:20.000
           prerouting   iptables raw PREROUTING  policy accept
                        iptables nat PREROUTING  -p tcp -j DNAT --to-destination 192.168.70.10:22
           ⇒ DNAT       10.1.2.3:1222 → 192.168.70.10:22
           forward      enp0 → veth21
                        iptables filter FORWARD  -p tcp -j web
                        ↳ web                    -j DROP
           ✗ DROPPED    in forward by rule "-j DROP" (iptables filter web rule 2)

        #1 tcp 10.2.1.2:36334 → 10.1.2.3:1222  SYN                                     in enp0  22:13:20.000
           prerouting   iptables raw PREROUTING  policy accept
                        iptables nat PREROUTING  rule 1, text not known
           ⇒ DNAT       10.1.2.3:1222 → 192.168.70.10:22
           forward      enp0 → veth21
                        iptables filter FORWARD  rule 1, text not known
                        iptables filter web      rule 2 or the end of the chain, text not known
           ✗ DROPPED    in forward by the rule above (iptables filter web rule 2)
    "##]],
    );
}

#[test]
fn long_chains_and_long_addresses() {
    let from = "[2001:db8:1111:2222:3333:4444:5555:6666]:36334";
    let jump = |chain: &str, handle, to: &str| {
        matched(rule(chain, handle, &format!("jump {to}")), HookPoint::Input, Verdict::Jump(to.to_owned()))
    };
    let last = rule(
        "inet firewalld filter_IN_public_allow",
        91,
        "tcp dport { 22, 80, 443, 8080, 8443 } ct state { new, untracked } ip6 saddr != \
         2001:db8:ffff:ffff::/64 counter packets 0 bytes 0 drop comment \"not from there\"",
    );
    let mut it = bare(tcp(from, "[2001:db8:1111:2222:3333:4444:5555:7777]:22", 0x12));
    it.iif = Some("enp0s31f6".into());
    it.steps = steps(vec![
        hook(HookPoint::Input, ("enp0s31f6", ""), HookVerdict::Drop),
        jump("inet firewalld filter_INPUT", 1, "filter_INPUT_ZONES"),
        jump("inet firewalld filter_INPUT_ZONES", 2, "filter_IN_public"),
        jump("inet firewalld filter_IN_public", 3, "filter_IN_public_allow"),
        matched(last.clone(), HookPoint::Input, Verdict::Drop),
    ]);
    it.outcome = Outcome::Dropped(DropCause::Rule { rule: last, hook: Some(HookPoint::Input) });
    check(
        &[it.clone()],
        Some(80),
        &expect![[r##"
            #1 tcp [2001:db8:1111:2222:3333:4444:5555:6666]:36334
               → [2001:db8:1111:2222:3333:4444:5555:7777]:22  SYN ACK
               in enp0s31f6  22:13:20.000
               input        inet firewalld filter_INPUT   jump filter_INPUT_ZONES
                            ↳ filter_INPUT_ZONES          jump filter_IN_public
                              ↳ filter_IN_public          jump filter_IN_public_allow
                                ↳ filter_IN_public_allow
                              tcp dport { 22, 80, 443, 8080, 8443 }
                                ct state { new, untracked }
                                ip6 saddr != 2001:db8:ffff:ffff::/64
                                counter packets 0 bytes 0 drop comment "not from there"
               ✗ DROPPED    in input by the rule above (inet firewalld
                            filter_IN_public_allow handle 91)
        "##]],
    );
    check(
        &[it.clone()],
        Some(120),
        &expect![[r##"
            #1 tcp [2001:db8:1111:2222:3333:4444:5555:6666]:36334 → [2001:db8:1111:2222:3333:4444:5555:7777]:22  SYN ACK
               in enp0s31f6  22:13:20.000
               input        inet firewalld filter_INPUT   jump filter_INPUT_ZONES
                            ↳ filter_INPUT_ZONES          jump filter_IN_public
                              ↳ filter_IN_public          jump filter_IN_public_allow
                                ↳ filter_IN_public_allow  tcp dport { 22, 80, 443, 8080, 8443 } ct state { new, untracked }
                                                            ip6 saddr != 2001:db8:ffff:ffff::/64 counter packets 0 bytes 0 drop
                                                            comment "not from there"
               ✗ DROPPED    in input by the rule above (inet firewalld filter_IN_public_allow handle 91)
        "##]],
    );
    // Nothing is lost however narrow it gets.
    let mut text = text();
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<String>();
    let narrow = words(&text.journey(&it, &at_home(), Some(1)).paint(false));
    for word in ["2001:db8:ffff:ffff::/64", "filter_IN_public_allow", "enp0s31f6", "handle91"] {
        assert!(narrow.contains(word), "{word} in {narrow}");
    }
}

fn matched_route(table: u32, addr: &str, length: u8) -> MatchedRoute {
    let prefix = RoutePrefix { addr: addr.parse().expect("an address"), length };
    MatchedRoute { table: Some(table), prefix, source: None }
}

#[test]
fn from_this_host_through_another_namespace_to_a_socket() {
    let nat = rule("ip nat POSTROUTING", 12, "oifname \"eth0\" counter packets 3 bytes 180 masquerade");
    let vmap = rule("inet filter input", 4, "tcp dport vmap { 22 : jump ssh, 80 : drop, 443 : accept }");
    let mut it = bare(tcp("172.17.0.2:40000", "192.0.2.9:443", 2));
    it.connection = Some(Connection { state: Some(State::New), ..Connection::default() });
    it.packet.mark = 7;
    it.steps = steps(vec![
        hook(HookPoint::Output, ("", "eth0"), HookVerdict::Accept),
        StepKind::Route {
            decision: RouteDecision::Forward,
            oif: Some("eth0".into()),
            gateway: Some([172, 17, 0, 1].into()),
            matched: Some(matched_route(100, "0.0.0.0", 0)),
        },
        hook(HookPoint::Postrouting, ("", "eth0"), HookVerdict::Accept),
        matched(nat.clone(), HookPoint::Postrouting, Verdict::Accept),
        rewrite(Manip::Snat, ("172.17.0.2:40000", "198.51.100.1:40000"), Some(nat), RewrittenBy::Rule),
        StepKind::Device { event: DeviceStep::Transmit, name: "eth0".into() },
        StepKind::Device { event: DeviceStep::Receive, name: "veth7".into() },
        hook(HookPoint::Prerouting, ("veth7", ""), HookVerdict::Accept),
        StepKind::Route {
            decision: RouteDecision::Local,
            oif: Some("lo".into()),
            gateway: None,
            matched: Some(matched_route(255, "192.0.2.9", 32)),
        },
        hook(HookPoint::Input, ("veth7", ""), HookVerdict::Accept),
        StepKind::Rule(Box::new(RuleStep {
            rule: RuleRef { text: None, ..rule("inet filter input", 3, "") },
            verdict: Some(Verdict::Continue),
            or_end: false,
            hook: Some(HookPoint::Input),
            mark: Some(0x17),
        })),
        matched(vmap, HookPoint::Input, Verdict::Accept),
        StepKind::Deliver { protocol: "tcp".into(), local: Some(end("192.0.2.9:443")), function: None },
    ]);
    for step in &mut it.steps[6..] {
        step.netns = 4_026_532_999;
    }
    it.outcome = Outcome::Delivered;
    it.incomplete = vec![Source::Nft];
    it.netns.name = Some("web".into());
    let mut namespaces = Namespaces::default();
    namespaces.set_current(1);
    namespaces.set_name(4_026_532_999, "srv");
    let mut text = text();
    expect![[r##"
        #1 tcp 172.17.0.2:40000 → 192.0.2.9:443  SYN  mark 0x7
           from this host, netns web  22:13:20.000
           output       out eth0, accept
           route        out eth0 via 172.17.0.1, by default in table 100
           postrouting  ip nat POSTROUTING  oifname "eth0" counter packets 3 bytes 180
                                              masquerade
           ⇒ SNAT       172.17.0.2:40000 → 198.51.100.1:40000
           device       out eth0
           netns        srv
           device       in veth7
           prerouting   accept
           route        to this host
           input        inet filter input   rule handle 3, text not known  mark now 0x17
                                            tcp dport vmap { 22 : jump ssh, 80 : drop,
                                              443 : accept } → accept
           ✓ DELIVERED  to tcp 192.0.2.9:443
           ! INCOMPLETE events of nft were lost meanwhile; steps may be missing
    "##]]
    .assert_eq(&text.journey(&it, &namespaces, Some(80)).paint(false));
}

#[test]
fn a_reply_is_mapped_back() {
    let mut it = bare(tcp("192.168.70.10:22", "10.2.1.2:36334", 0x12));
    it.iif = Some("veth21".into());
    it.connection = Some(Connection {
        state: Some(State::Established),
        direction: Some(Direction::Reply),
        ..Connection::default()
    });
    it.steps = steps(vec![
        hook(HookPoint::Prerouting, ("veth21", ""), HookVerdict::Accept),
        hook(HookPoint::Forward, ("veth21", "enp0"), HookVerdict::Accept),
        matched(
            rule("inet filter forward", 4, "ct state established accept"),
            HookPoint::Forward,
            Verdict::Accept,
        ),
        hook(HookPoint::Postrouting, ("veth21", "enp0"), HookVerdict::Accept),
        rewrite(Manip::Snat, ("192.168.70.10:22", "10.1.2.3:1222"), None, RewrittenBy::Connection),
        StepKind::Device { event: DeviceStep::Transmit, name: "enp0".into() },
    ]);
    it.outcome = Outcome::Transmitted { device: Some("enp0".into()) };
    check(
        &[it],
        Some(80),
        &expect![[r#"
            #1 tcp 192.168.70.10:22 → 10.2.1.2:36334  SYN ACK  reply
               in veth21  22:13:20.000
               prerouting   accept
               forward      veth21 → enp0
                            inet filter forward  ct state established accept
               postrouting  accept
               ⇒ SNAT       192.168.70.10:22 → 10.1.2.3:1222  as its connection is mapped
               → SENT       out enp0
        "#]],
    );
}

#[test]
fn ends_that_no_rule_decided() {
    let mut ping = bare(tcp("10.0.0.1:0", "10.0.0.2:0", 0));
    ping.packet.protocol = Some(protocol::ICMP);
    ping.packet.tcp_flags = None;
    for end in [&mut ping.packet.source, &mut ping.packet.destination] {
        end.as_mut().unwrap().port = None;
    }
    ping.packet.icmp = Some(Icmp { kind: 8, code: 0, id: Some(4711), sequence: Some(1), about: None });
    ping.iif = Some("eth0".into());
    let ended = |id, outcome| Journey { id: JourneyId(id), outcome, ..ping.clone() };
    let mut policy = ended(
        1,
        Outcome::Dropped(DropCause::Policy {
            backend: Backend::Nft,
            family: NfFamily::Ip,
            table: "filter".into(),
            chain: "INPUT".into(),
            hook: Some(HookPoint::Input),
        }),
    );
    policy.steps = steps(vec![StepKind::Policy {
        backend: Backend::Nft,
        family: NfFamily::Ip,
        table: "filter".into(),
        chain: "INPUT".into(),
        verdict: Verdict::Drop,
        hook: Some(HookPoint::Input),
    }]);
    let mut kernel = ended(
        2,
        Outcome::Dropped(DropCause::Kernel(Box::new(KernelDrop {
            reason: Some("IP_RPFILTER".into()),
            function: Some("ip_rcv_finish_core".into()),
            text: "The reverse path filter refused it.".into(),
            ..KernelDrop::default()
        }))),
    );
    policy.findings = vec![Finding {
        code: "dropped-by-policy",
        text: "No rule accepted it, so the policy of chain INPUT dropped it.".into(),
        fix: vec![],
        certainty: Certainty::Certain,
        steps: vec![0],
        near: None,
    }];
    kernel.findings = vec![Finding {
        code: "rp-filter",
        text: "Strict reverse path filtering drops packets that come in by another device than answers go out by."
            .into(),
        fix: vec![
            "sysctl -w net.ipv4.conf.eth0.rp_filter=2".into(),
            "echo 'a command that is too long for one line, with a quoted part' | tee /etc/sysctl.d/90-rp-filter.conf"
                .into(),
        ],
        certainty: Certainty::Likely,
        steps: vec![],
        near: None,
    }];
    let mut told_below = Journey { id: JourneyId(8), ..kernel.clone() };
    told_below.findings[0].text = "The reverse path filter refused it. Check the route back.".into();
    told_below.findings[0].fix.clear();
    check(
        &[
            policy,
            kernel,
            told_below,
            ended(3, Outcome::Queued),
            ended(4, Outcome::Consumed),
            ended(
                5,
                Outcome::Unfinished { why: "still in the queue of a program when the trace ended".into() },
            ),
            ended(6, Outcome::Transmitted { device: None }),
            ended(7, Outcome::Delivered),
        ],
        Some(80),
        &expect![[r#"
            #1 icmp 10.0.0.1 → 10.0.0.2  echo request id 4711 seq 1    in eth0  22:13:20.000
               input        ip filter INPUT  policy drop
               ✗ DROPPED    in input by the policy of ip filter INPUT

            #2 icmp 10.0.0.1 → 10.0.0.2  echo request id 4711 seq 1    in eth0  22:13:20.000
               ✗ DROPPED    by the kernel (IP_RPFILTER in ip_rcv_finish_core): The reverse
                            path filter refused it.
               likely why   Strict reverse path filtering drops packets that come in by
                            another device than answers go out by.
               fix          sysctl -w net.ipv4.conf.eth0.rp_filter=2
                            echo \
                                'a command that is too long for one line, with a quoted part' \
                                | tee /etc/sysctl.d/90-rp-filter.conf

            #8 icmp 10.0.0.1 → 10.0.0.2  echo request id 4711 seq 1    in eth0  22:13:20.000
               ✗ DROPPED    by the kernel (IP_RPFILTER in ip_rcv_finish_core)
               likely why   The reverse path filter refused it. Check the route back.

            #3 icmp 10.0.0.1 → 10.0.0.2  echo request id 4711 seq 1    in eth0  22:13:20.000
               » QUEUED     to a program in user space (NFQUEUE)

            #4 icmp 10.0.0.1 → 10.0.0.2  echo request id 4711 seq 1    in eth0  22:13:20.000
               • CONSUMED   the kernel kept or merged it

            #5 icmp 10.0.0.1 → 10.0.0.2  echo request id 4711 seq 1    in eth0  22:13:20.000
               ? UNFINISHED still in the queue of a program when the trace ended

            #6 icmp 10.0.0.1 → 10.0.0.2  echo request id 4711 seq 1    in eth0  22:13:20.000
               → SENT       out, by a device that was not seen

            #7 icmp 10.0.0.1 → 10.0.0.2  echo request id 4711 seq 1    in eth0  22:13:20.000
               ✓ DELIVERED  to this host
        "#]],
    );
}

#[test]
fn retransmissions_that_come_late_or_go_elsewhere() {
    let first = broken();
    let other = Journey { id: JourneyId(2), findings: Vec::new(), ..broken() };
    let elsewhere = Journey { retransmission_of: Some(JourneyId(1)), same_path: false, ..fixed() };
    let elsewhere =
        Journey { id: JourneyId(5), first_seen_ns: first.first_seen_ns + 65_000_000_000, ..elsewhere };
    let unknown = Journey { id: JourneyId(6), retransmission_of: Some(JourneyId(99)), ..elsewhere.clone() };
    check(
        &[first.clone(), other, again(3, &first, 1.0), again(4, &first, 3.1), elsewhere, unknown],
        Some(80),
        &expect![[r##"
            #1 tcp 10.2.1.2:36334 → 10.1.2.3:1222  SYN                 in enp0  22:13:20.000
               prerouting   inet nat prerouting  ip daddr 10.1.2.3 tcp dport 1222
                                                   dnat ip to 192.168.70.10:22
               ⇒ DNAT       10.1.2.3:1222 → 192.168.70.10:22
               route        forward, out veth21
               forward      inet filter forward  ct status dnat jump allowed_dnats
                            ↳ allowed_dnats      drop
               ✗ DROPPED    in forward by rule "drop" (inet filter allowed_dnats handle 8)
               why          The rule before it accepts what is in the set @allow_in, and
                            192.168.70.10 . 22 (the address and port after the rewrite) is
                            not in it.
               fix          nft add element inet filter allow_in { 192.168.70.10 . 22 }

            #2 tcp 10.2.1.2:36334 → 10.1.2.3:1222  SYN                 in enp0  22:13:20.000
               prerouting   inet nat prerouting  ip daddr 10.1.2.3 tcp dport 1222
                                                   dnat ip to 192.168.70.10:22
               ⇒ DNAT       10.1.2.3:1222 → 192.168.70.10:22
               route        forward, out veth21
               forward      inet filter forward  ct status dnat jump allowed_dnats
                            ↳ allowed_dnats      drop
               ✗ DROPPED    in forward by rule "drop" (inet filter allowed_dnats handle 8)

            #3 tcp 10.2.1.2:36334 → 10.1.2.3:1222  SYN  ↻ retransmits #1 after 1.0 s: same
               path, dropped by inet filter allowed_dnats handle 8
            #4 tcp 10.2.1.2:36334 → 10.1.2.3:1222  SYN  ↻ retransmits #1 after 3.1 s: same
               path, dropped by inet filter allowed_dnats handle 8

            #5 tcp 10.2.1.2:36334 → 10.1.2.3:1222  SYN                 in enp0  22:14:25.000
               ↻ again      retransmits #1 after 1 min 5 s, but ends otherwise: #1 was
                            dropped by inet filter allowed_dnats handle 8
               prerouting   inet nat prerouting   ip daddr 10.1.2.3 tcp dport 1222
                                                    dnat ip to 192.168.70.10:22
               ⇒ DNAT       10.1.2.3:1222 → 192.168.70.10:22
               route        forward, out veth21
               forward      inet filter forward   ct status dnat jump allowed_dnats
                            ↳ allowed_dnats       meta nfproto ipv4
                                                    ip daddr . tcp dport @allow_in accept
               postrouting  inet nat postrouting  policy accept
               → SENT       out veth21

            #6 tcp 10.2.1.2:36334 → 10.1.2.3:1222  SYN                 in enp0  22:14:25.000
               ↻ again      retransmits #99; path or end differ
               prerouting   inet nat prerouting   ip daddr 10.1.2.3 tcp dport 1222
                                                    dnat ip to 192.168.70.10:22
               ⇒ DNAT       10.1.2.3:1222 → 192.168.70.10:22
               route        forward, out veth21
               forward      inet filter forward   ct status dnat jump allowed_dnats
                            ↳ allowed_dnats       meta nfproto ipv4
                                                    ip daddr . tcp dport @allow_in accept
               postrouting  inet nat postrouting  policy accept
               → SENT       out veth21
        "##]],
    );
}

#[test]
fn names_and_comments_cannot_drive_the_terminal() {
    let mut it = broken();
    let evil = "\x1b]0;owned\x07\u{9b}2J\u{202e}";
    it.iif = Some(evil.into());
    it.netns.name = Some(evil.into());
    it.findings[0].text = evil.into();
    it.findings[0].fix = vec![evil.into()];
    it.steps.extend(steps(vec![
        matched(
            RuleRef {
                table: evil.into(),
                chain: evil.into(),
                text: Some(evil.into()),
                ..rule("ip a b", 1, "")
            },
            HookPoint::Input,
            Verdict::Jump(evil.into()),
        ),
        StepKind::Device { event: DeviceStep::Transmit, name: evil.into() },
        StepKind::Deliver { protocol: evil.into(), local: None, function: Some(evil.into()) },
        StepKind::Drop(Box::new(KernelDrop {
            reason: Some(evil.into()),
            text: evil.into(),
            ..KernelDrop::default()
        })),
        hook(HookPoint::Input, (evil, evil), HookVerdict::Accept),
    ]));
    it.steps.last_mut().unwrap().netns = 7;
    let mut namespaces = Namespaces::default();
    namespaces.set_name(7, evil);
    let mut text = text();
    for outcome in [
        Outcome::Unfinished { why: evil.into() },
        Outcome::Transmitted { device: Some(evil.into()) },
        Outcome::Dropped(DropCause::Kernel(Box::new(KernelDrop {
            reason: Some(evil.into()),
            function: Some(evil.into()),
            text: evil.into(),
            ..KernelDrop::default()
        }))),
    ] {
        it.outcome = outcome;
        for width in [Some(80), None] {
            let told = text.journey(&it, &namespaces, width).paint(false);
            assert!(!told.contains(|c: char| c != '\n' && super::super::escape::is_unsafe(c)), "{told:?}");
            assert!(told.contains(r"\x1b]0;owned\x07\u{9b}2J\u{202e}") || width.is_some(), "{told}");
        }
    }
}

#[test]
fn colour_only_adds() {
    let mut coloured = Text::new(TimeZone::UTC);
    let told = coloured.journey(&broken(), &at_home(), Some(80)).paint(true);
    assert!(told.contains("\x1b[1m\x1b[31m✗ DROPPED"), "{told:?}");
    let mut plain = String::new();
    let mut rest = told.as_str();
    while let Some((before, after)) = rest.split_once('\x1b') {
        plain.push_str(before);
        rest = after.split_once('m').unwrap().1;
    }
    plain.push_str(rest);
    assert_eq!(plain, text().journey(&broken(), &at_home(), Some(80)).paint(false));
}

#[test]
fn losses_and_the_sum() {
    let mut text = text();
    let first = broken();
    let mut told = text.journey(&fixed(), &at_home(), Some(80)).paint(false);
    let lost = Loss {
        source: Source::Nft,
        count: None,
        first_ns: first.first_seen_ns,
        last_ns: first.first_seen_ns + 2_000_000_000,
    };
    told.clear();
    told += &text.loss(&lost, &[JourneyId(1), JourneyId(3)], Some(80)).paint(false);
    told += &text
        .loss(&Loss { count: Some(1), source: Source::Probes, last_ns: lost.first_ns, ..lost }, &[], Some(80))
        .paint(false);
    let mut journeys = Tally::default();
    for it in [&first, &again(2, &first, 1.0), &fixed()] {
        journeys.add(it);
    }
    let sources = [(Source::Nft, SourceTotals { received: 9, lost: 2 })].into();
    let total = |count, text: &str| Total {
        code: Some("dropped-by-rule"),
        text: text.to_owned(),
        count,
        first: JourneyId(count),
    };
    let causes =
        vec![total(1, "rule \"drop\" (inet filter forward handle 7)"), total(1, "the kernel: no route.")];
    let sum = Summary {
        selected: Some(20),
        rate_limited: Some(17),
        held_back: 3,
        journeys,
        causes,
        sources,
        passed: None,
    };
    told += &text.summary(&sum, Some(80)).paint(false);
    told += &text.summary(&Summary::default(), Some(80)).paint(false);
    expect![[r#"

        ! LOST  some events of nft lost between 22:13:20.000 and 22:13:22.000; steps may
           be missing from #1, #3
        ! LOST  1 event of probes lost at 22:13:20.000

        3 packets: 2 dropped, 1 sent; 1 retransmission among them
        1 dropped  by rule "drop" (inet filter forward handle 7)  from #1 on
        1 dropped  by the kernel: no route.  from #1 on
        17 more matched and were left out by --rate
        3 packets more were not followed: events came faster than they could be read
        Events lost: 2 of nft

        No packet matched.
    "#]]
    .assert_eq(&told);
}

#[test]
fn a_connection_is_one_paragraph() {
    let told = text().conversation(&samples::conversation(), Some(80)).paint(false);
    assert_eq!(
        told,
        "⇄ tcp 10.2.1.2:36334 → 10.1.2.3:1222 ⇒ 192.168.70.10:22  3 SYNs through, no\n   \
         answer from 192.168.70.10  #1–#3\n"
    );
    let alone =
        Conversation { sent: Passage { packets: 1, through: 0, dropped: 1 }, ..samples::conversation() };
    assert_eq!(text().conversation(&alone, Some(80)).paint(false), "", "its packet says it all");
}
