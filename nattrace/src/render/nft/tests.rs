use nattrace_core::event::{HookPoint, HookVerdict, NfFamily, TraceMessage, TraceType};
use nattrace_core::journey::RuleRef;
use nattrace_core::record::NftTool;

use super::super::samples::{bare, broken, fixed, hook, legacy, matched, rule, steps, tcp};
use super::*;
use crate::source::netlink::trace::parse;

/// Messages of Linux 6.18, one a line, each followed by the lines that nft 1.0.6 and 1.1.7 printed for it, both
/// listening at once; lines with rule texts are left out. 1.1.3 printed what 1.1.7 did, without the connections.
/// Where 1.0.6 has none, it aborts: behind an AH or IPComp header. Devices: 1 lo, 2 v0, 3 v1, 4 br0.
const TRACES: &str = include_str!("fixtures/traces.txt");

/// The names of Debian 12's `/etc/protocols` that occur in the messages.
const PROTOCOLS: &[(u8, &str)] = &[
    (0, "ip"),
    (1, "icmp"),
    (2, "igmp"),
    (4, "ipencap"),
    (6, "tcp"),
    (17, "udp"),
    (33, "dccp"),
    (41, "ipv6"),
    (43, "ipv6-route"),
    (44, "ipv6-frag"),
    (47, "gre"),
    (50, "esp"),
    (51, "ah"),
    (58, "ipv6-icmp"),
    (59, "ipv6-nonxt"),
    (60, "ipv6-opts"),
    (89, "ospf"),
    (103, "pim"),
    (108, "ipcomp"),
    (132, "sctp"),
    (136, "udplite"),
];

fn dialect(version: &str) -> Dialect {
    let protocols = PROTOCOLS.iter().map(|(number, name)| (*number, (*name).to_owned())).collect();
    Dialect::of(&NftTool { version: Some(format!("nftables v{version} (a name)")), protocols })
}

fn kept(message: TraceMessage) -> Traced {
    let device = |index: Option<u32>| Some(["?", "lo", "v0", "v1", "br0"][index? as usize].into());
    Traced {
        time_ns: 0,
        netns: 1,
        table_handle: None,
        iif: device(message.iif),
        oif: device(message.oif),
        text: None,
        message,
    }
}

/// The lines of one message but for those of rules.
fn lines_of(message: &TraceMessage, version: &str) -> Vec<String> {
    let begin = format!("trace id {:08x} ", message.id.swap_bytes());
    let lines = message::lines(&begin, &kept(message.clone()), &dialect(version));
    lines.lines().filter(|line| !line.contains("rule handle")).map(str::to_owned).collect()
}

#[test]
fn messages_are_told_in_the_words_of_the_nft_that_is_there() {
    let mut told = 0;
    for block in TRACES.split("message ").skip(1) {
        let (hex, expected) = block.split_once('\n').expect("lines");
        let digits = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
        let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(digits).collect();
        let message = parse(&bytes).expect("readable").expect("a trace message");
        let expected = |version: &str| -> Vec<&str> {
            expected.lines().filter_map(|line| line.strip_prefix(version)?.strip_prefix(' ')).collect()
        };
        let (old, new) = (expected("1.0.6"), expected("1.1.7"));
        if !old.is_empty() {
            assert_eq!(lines_of(&message, "1.0.6"), old);
        }
        assert_eq!(lines_of(&message, "1.1.7"), new);
        let without: Vec<&str> = new.into_iter().filter(|line| !line.contains(" conntrack: ")).collect();
        assert_eq!(lines_of(&message, "1.1.3"), without);
        told += 1;
    }
    assert!(told > 200);
}

fn message(chain: &str, kind: TraceType, handle: Option<u64>, verdict: Verdict) -> TraceMessage {
    let mut message = TraceMessage::new(NfFamily::Inet, kind, "filter".to_owned(), chain.to_owned());
    (message.id, message.rule_handle, message.verdict) = (0xf801_9c00, handle, Some(verdict));
    message
}

#[test]
fn rules_returns_policies_and_marks() {
    let told = |message: TraceMessage, text: Option<&str>| {
        let traced = Traced { text: text.map(Into::into), ..kept(message) };
        message::lines("trace id 009c01f8 ", &traced, &dialect("1.0.6"))
    };
    let jump = Verdict::Jump("x".to_owned());
    assert_eq!(
        told(message("f", TraceType::Rule, Some(7), jump.clone()), Some("counter packets 0 bytes 0 jump x")),
        "trace id 009c01f8 inet filter f rule counter packets 0 bytes 0 jump x (verdict jump x)\n"
    );
    assert_eq!(
        told(message("f", TraceType::Rule, Some(7), jump), None),
        "trace id 009c01f8 inet filter f unknown rule handle 7 (verdict jump x)\n"
    );
    assert_eq!(told(message("f", TraceType::Rule, None, Verdict::Continue), None), "");
    // Before Linux 6.7 nft does not name the rule that returns.
    let mut back = message("x", TraceType::Return, Some(6), Verdict::Return);
    assert_eq!(told(back.clone(), Some("return")), "trace id 009c01f8 inet filter x verdict return \n");
    back.mark = Some(23);
    assert_eq!(told(back, None), "trace id 009c01f8 inet filter x verdict return meta mark 0x00000017 \n");
    assert_eq!(
        told(message("f", TraceType::Policy, None, Verdict::Unknown(-7)), None),
        "trace id 009c01f8 inet filter f policy unknown verdict value 4294967289 \n"
    );
}

#[test]
fn the_article_as_nft_prints_it_and_more() {
    let mut it = broken();
    let mut first = message("forward", TraceType::Rule, Some(9), Verdict::Continue);
    first.network_header = vec![0x45, 0, 0, 60, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    first.nfproto = Some(2);
    // It made no step that is shown; the next did.
    let jump =
        matched(rule("inet filter forward", 7, "jump x"), HookPoint::Forward, Verdict::Jump("x".to_owned()));
    it.steps.truncate(5);
    it.steps.extend(steps(vec![jump]));
    let time_ns = it.steps.last().expect("a step").time_ns;
    let second = message("forward", TraceType::Rule, Some(7), Verdict::Jump("x".to_owned()));
    let end = message("x", TraceType::Return, None, Verdict::Continue);
    it.traced = [first, second, end].map(kept).into();
    it.traced[1].time_ns = time_ns;
    it.traced[1].text = Some("counter packets 3 bytes 180 jump x".into());
    assert_eq!(
        journey(&it, &dialect("1.0.6")),
        "trace id 009c01f8 ip device: receive iif \"enp0\"\n\
         trace id 009c01f8 ip hook: prerouting iif \"enp0\" (verdict accept)\n\
         trace id 009c01f8 inet nat prerouting rule ip daddr 10.1.2.3 tcp dport 1222 dnat ip to 192.168.70.10:22 \
         (verdict accept)\n\
         trace id 009c01f8 ip nat: dnat 10.1.2.3:1222 to 192.168.70.10:22\n\
         trace id 009c01f8 ip route: forward oif \"veth21\"\n\
         trace id 009c01f8 inet filter forward packet: ip saddr 10.0.0.1 ip daddr 10.0.0.2 ip dscp cs0 ip ecn \
         not-ect ip ttl 64 ip id 1 ip protocol udp ip length 60 \n\
         trace id 009c01f8 inet filter forward unknown rule handle 9 (verdict continue)\n\
         trace id 009c01f8 inet filter forward rule counter packets 3 bytes 180 jump x (verdict jump x)\n\
         trace id 009c01f8 inet filter x verdict continue \n"
    );
}

#[test]
fn rules_of_legacy_iptables_are_none_of_nfts() {
    let told = journey(&legacy(true), &dialect("1.0.6"));
    let of_rules = |told: &str| -> Vec<String> {
        told.lines().filter(|line| !line.contains(" ip hook: ")).map(str::to_owned).collect()
    };
    assert_eq!(
        of_rules(&told),
        [
            "trace id 009c01f8 ip iptables: raw PREROUTING policy accept",
            "trace id 009c01f8 ip iptables: nat PREROUTING rule -p tcp -j DNAT --to-destination 192.168.70.10:22 \
             (verdict accept)",
            "trace id 009c01f8 ip nat: dnat 10.1.2.3:1222 to 192.168.70.10:22",
            "trace id 009c01f8 ip iptables: filter FORWARD rule -p tcp -j web (verdict jump web)",
            "trace id 009c01f8 ip iptables: filter web rule -j DROP (verdict drop)",
        ]
    );
    let untold = journey(&legacy(false), &dialect("1.0.6"));
    assert!(untold.contains("ip iptables: filter FORWARD unknown rule 1\n"), "{untold}");
    assert!(untold.contains("ip iptables: filter web unknown rule 2 or end of chain\n"), "{untold}");
}

#[test]
fn rules_of_iptables_nft_have_nfts_words() {
    let mut it = bare(tcp("10.0.0.1:1", "10.0.0.2:2", 0));
    let mut theirs = rule("ip filter INPUT", 7, "-A INPUT -j DROP");
    theirs.nft_text = Some("counter drop".into());
    it.steps = steps(vec![matched(theirs, HookPoint::Input, Verdict::Drop)]);
    assert_eq!(
        journey(&it, &dialect("1.0.6")),
        "trace id 00000001 ip filter INPUT rule counter drop (verdict drop)\n"
    );
}

#[test]
fn policies_end_with_a_space() {
    let told = journey(&fixed(), &dialect("1.0.6"));
    assert!(told.contains("trace id 009c01f8 inet nat postrouting policy accept \n"), "{told}");
    assert!(told.ends_with("trace id 009c01f8 ip device: transmit oif \"veth21\"\n"), "{told}");
}

#[test]
fn unknown_rules_ids_and_text_that_is_not_to_be_trusted() {
    let mut it = bare(tcp("[2001:db8::1]:1", "[2001:db8::2]:2", 0));
    let unknown = RuleRef { text: None, ..rule("inet f in", 12, "") };
    it.steps = steps(vec![
        hook(HookPoint::Input, ("e\x1b0", ""), HookVerdict::Accept),
        matched(unknown, HookPoint::Input, Verdict::Continue),
        matched(rule("inet f in", 13, "accept comment \"a\nb\""), HookPoint::Input, Verdict::Accept),
    ]);
    assert_eq!(
        journey(&it, &dialect("1.0.6")),
        "trace id 00000001 ip6 hook: input iif \"e\\x1b0\" (verdict accept)\n\
         trace id 00000001 inet f in unknown rule handle 12 (verdict continue)\n\
         trace id 00000001 inet f in rule accept comment \"a\\nb\" (verdict accept)\n"
    );
}
