use super::*;
use crate::conntrack::{Connection, State};
use crate::packet::{Endpoint, Packet, datagram, protocol};

fn end(text: &str, port: u16) -> Endpoint {
    Endpoint { addr: text.parse().expect("an address"), port: Some(port) }
}

fn syn() -> Packet {
    Packet {
        protocol: Some(protocol::TCP),
        tcp_flags: Some(2),
        ..datagram(end("10.2.1.2", 40_000), end("192.168.70.10", 22))
    }
}

fn answer(text: &str, packet: &Packet, state: State) -> Answer {
    let rule = if text.starts_with("-A") {
        Expressions::read_iptables(text, false)
    } else {
        Expressions::read(text)
    };
    let connection = Connection { state: Some(state), status: Some(1 << 5), ..Connection::default() };
    let moment = Moment {
        packet,
        iif: Some("enp0"),
        oif: Some("veth21"),
        devices_known: true,
        connection: Some(&connection),
        mark: Some(0x12),
        destination_type: None,
    };
    let has = |lookup: &Lookup| match lookup.set.as_str() {
        "allow_in" => Some(lookup.element == "192.168.70.10 . 80"),
        _ => None,
    };
    rule.judge(&moment, &has)
}

/// `yes`, `no`, or `unknown`.
fn told(text: &str) -> &'static str {
    match answer(text, &syn(), State::New) {
        Answer::Matches(_) => "yes",
        Answer::Fails { .. } => "no",
        Answer::Unknown(_) => "unknown",
    }
}

#[test]
fn rules_as_nft_prints_them() {
    let yes = [
        "accept",
        "tcp dport 22 accept",
        "tcp dport { 22, 80 } counter packets 0 bytes 0 accept",
        "tcp dport 20-30 drop",
        "tcp dport != 23 drop",
        "tcp dport < 23 drop",
        "tcp dport >= 22 drop",
        "ip saddr 10.2.0.0/16 tcp dport 22 accept",
        "ip saddr 10.2.1.1-10.2.1.9 accept",
        "ip saddr != 10.3.0.0/16 accept",
        "ip saddr . tcp dport { 10.2.0.0/16 . 22, 10.3.0.1 . 1-9 } accept",
        "iifname \"enp0\" oifname \"veth*\" accept",
        "iifname { \"lo\", \"enp0\" } accept",
        "iifname != \"lo\" accept",
        "ct state new accept",
        "ct state established,new accept",
        "ct state { established, new } accept",
        "ct state != established accept",
        "ct status dnat accept",
        "tcp flags syn accept",
        "tcp flags & (fin | syn | rst | ack) == syn accept",
        "tcp flags syn / fin,syn,rst,ack accept",
        "tcp flags ! ack accept",
        "tcp flags != ack accept",
        "meta l4proto { tcp, udp } th dport 22 accept",
        "ip protocol tcp accept",
        "meta nfproto ipv4 accept",
        "meta mark 0x00000012 accept",
        "meta mark & 0x000000f0 == 0x00000010 accept",
        "log prefix \"new: \" level info comment \"tcp dport 99\" accept",
        "ct state vmap { established : accept, new : jump fresh } drop",
        "tcp dport vmap { 22 : goto ssh, 80 : drop }",
        "tcp sport 1024-65535 accept",
        "ip daddr . tcp dport != @allow_in accept",
        "meta mark set 0x1 accept",
    ];
    for text in yes {
        assert_eq!(told(text), "yes", "{text}");
    }
    let no = [
        "tcp dport 23 accept",
        "udp dport 22 accept",
        "ip6 saddr fd00::1 accept",
        "icmp type echo-request accept",
        "ip saddr 10.1.1.2 accept",
        "ip daddr . tcp dport @allow_in accept",
        "iifname \"eth0\" accept",
        "iifname \"enp*\" oifname \"eth*\" accept",
        "ct state established,related accept",
        "ct state != new accept",
        "ct status snat accept",
        "tcp flags ack accept",
        "tcp flags & (fin | syn | rst | ack) != syn accept",
        "meta mark 0x1 accept",
        "tcp dport vmap { 80 : drop }",
        "limit rate 5/second tcp dport 23 accept",
        "fib daddr type local tcp dport 23 accept",
    ];
    for text in no {
        assert_eq!(told(text), "no", "{text}");
    }
    let unknown = [
        // nft prints names only when asked to, and whose /etc/services it was is not known.
        "tcp dport ssh accept",
        "limit rate 5/second accept",
        "quota over 25 mbytes drop",
        "ip saddr @blocked drop",
        "fib daddr type local accept",
        "meta skuid 1000 accept",
        "tcp dport 22 xt match \"recent\" accept",
        "ip dscp cs1 accept",
        "ip saddr @allowed . 22 accept",
        "tcp dport { 22, sorcery } accept",
        "@th,16,16 22 accept",
    ];
    for text in unknown {
        assert_eq!(told(text), "unknown", "{text}");
    }
}

#[test]
fn rules_as_iptables_save_prints_them() {
    let yes = [
        "-A FORWARD -j ACCEPT",
        "-A FORWARD -p tcp -m tcp --dport 22 -j ACCEPT",
        "-A FORWARD -p tcp -m tcp ! --dport 23 -j ACCEPT",
        "-A FORWARD -p tcp -m tcp --dport 20:30 -j DROP",
        "-A FORWARD -p tcp -m tcp --sport 1024: -j DROP",
        "-A FORWARD -p tcp -m multiport --dports 22,80,8000:8080 -j ACCEPT",
        "-A FORWARD -s 10.2.0.0/16 -d 192.168.70.10/32 -j ACCEPT",
        "-A FORWARD -s 10.2.0.0/255.255.0.0 -j ACCEPT",
        "-A FORWARD ! -s 10.3.0.0/16 -j ACCEPT",
        "-A FORWARD -i enp0 -o veth+ -j ACCEPT",
        "-A FORWARD ! -i lo -j ACCEPT",
        "-A FORWARD -m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT",
        "-A FORWARD -m conntrack ! --ctstate INVALID -j ACCEPT",
        "-A FORWARD -m state --state NEW -j ACCEPT",
        "-A FORWARD -m conntrack --ctstate DNAT -j allowed",
        "-A FORWARD -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j ACCEPT",
        "-A FORWARD -m mark --mark 0x10/0xf0 -j ACCEPT",
        "-A FORWARD -m iprange --dst-range 192.168.70.1-192.168.70.20 -j ACCEPT",
        r#"-A FORWARD -m comment --comment "a \"-p udp\" comment" -p tcp -j ACCEPT"#,
    ];
    for text in yes {
        assert_eq!(told(text), "yes", "{text}");
    }
    let no = [
        "-A FORWARD -p udp -m udp --dport 22 -j ACCEPT",
        "-A FORWARD -p tcp -m tcp --dport 23 -j ACCEPT",
        "-A FORWARD -p tcp -m multiport --dports 80,443 -j ACCEPT",
        "-A FORWARD -p tcp -m multiport ! --dports 22,443 -j ACCEPT",
        "-A FORWARD -s 10.9.0.0/16 -j ACCEPT",
        "-A FORWARD -i eth+ -j ACCEPT",
        "-A FORWARD -o eth0 -j ACCEPT",
        "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "-A FORWARD -p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -j DROP",
        "-A FORWARD -m mark --mark 0x1 -j ACCEPT",
        "-A FORWARD -p icmp -m icmp --icmp-type 8 -j ACCEPT",
        "-A FORWARD -p tcp -m tcp --dport 23 -m limit --limit 5/sec -j ACCEPT",
    ];
    for text in no {
        assert_eq!(told(text), "no", "{text}");
    }
    let unknown = [
        "-A FORWARD -m limit --limit 5/sec -j ACCEPT",
        "-A FORWARD -m set --match-set blocked src -j DROP",
        "-A FORWARD -m mac --mac-source 02:00:00:00:00:01 -j ACCEPT",
        "-A FORWARD -m recent --name x --rcheck -j ACCEPT",
        "-A FORWARD -s 10.2.0.1/255.0.255.255 -j ACCEPT",
        "-A FORWARD -m addrtype --dst-type LOCAL -j ACCEPT",
        "-A FORWARD -m socket -j ACCEPT",
        "-A FORWARD -p tcp -m tcp ! --sport 53 ! --dport 53 -j ACCEPT",
        "-A FORWARD -m bpf --object-pinned /x -j ACCEPT",
        "-A FORWARD -m u32 --u32 \"0>>22&0x3C@4>>16=0\" -j ACCEPT",
    ];
    for text in unknown {
        assert_eq!(told(text), "unknown", "{text}");
    }
    let verdict = |text| Expressions::read_iptables(text, false).verdict().cloned();
    assert_eq!(verdict("-A F -p tcp -j ACCEPT"), Some(Verdict::Accept));
    assert_eq!(verdict("-A F -p tcp -g other"), Some(Verdict::Goto("other".to_owned())));
    assert_eq!(verdict("-A F -j DNAT --to-destination 10.0.0.1"), None);
    assert_eq!(verdict("-A F -m recent --set -j MARK --set-xmark 0x1/0x1"), Some(Verdict::Continue));
}

#[test]
fn a_failure_names_both_values() {
    let only = |text| match answer(text, &syn(), State::New) {
        Answer::Fails { only, .. } => only,
        other => panic!("{text}: {other:?}"),
    };
    let first = only("iifname \"enp0\" ip daddr . tcp dport @allow_in accept").expect("one failure");
    assert_eq!(first.expression, "ip daddr . tcp dport @allow_in");
    assert_eq!(first.packet, "192.168.70.10 . 22");
    let element = first.lookup.as_ref().map(|lookup| lookup.element.as_str());
    assert_eq!(element, Some("192.168.70.10 . 22"));
    for (text, packet) in [
        ("ct state established,related accept", "new"),
        ("udp dport 53 accept", "is tcp"),
        ("ip6 daddr fd00::1 accept", "is IPv4"),
    ] {
        assert_eq!(only(text).expect("one failure").packet, packet);
    }
    assert_eq!(only("ip saddr 10.9.0.0/16 tcp dport { 80, 443 } accept"), None, "a rule for other packets");
    let first = only("-A F ! -s 10.2.1.2/32 -p tcp -m tcp --dport 22 -j ACCEPT").expect("one failure");
    assert_eq!((first.expression.as_str(), first.packet.as_str()), ("! -s 10.2.1.2/32", "10.2.1.2"));
    let dnat =
        only("dnat ip to tcp dport map { 80 : 192.0.2.1, 443 : 192.0.2.2 } comment \"x\"").expect("a map");
    assert_eq!(
        (dnat.expression.as_str(), dnat.packet.as_str()),
        ("dnat ip to tcp dport map { 80 : 192.0.2.1, 443 : 192.0.2.2 }", "22")
    );
    let dnat = only("dnat ip addr . port to ip daddr . tcp dport map @allow_in").expect("a map");
    assert_eq!(dnat.lookup.expect("a lookup").element, "192.168.70.10 . 22");
}

#[test]
fn where_a_rule_leads() {
    let verdict = |text| Expressions::read(text).verdict().cloned();
    assert_eq!(verdict("tcp dport 22 counter accept comment \"x\""), Some(Verdict::Accept));
    assert_eq!(verdict("ct status dnat jump allowed_dnats"), Some(Verdict::Jump("allowed_dnats".to_owned())));
    assert_eq!(verdict("ip dscp cs1 goto other comment \"drop\""), Some(Verdict::Goto("other".to_owned())));
    assert_eq!(verdict("tcp dport vmap { 22 : accept }"), None);
    let leads = answer("tcp dport vmap { 22 : goto ssh, 80 : drop }", &syn(), State::New);
    assert_eq!(leads, Answer::Matches(Some(Verdict::Goto("ssh".to_owned()))));
}

#[test]
fn what_a_rule_writes_does_not_hide_what_it_asks_for() {
    for (text, expected) in [
        ("tcp dport 22 meta mark set 0x7 accept", "yes"),
        ("tcp dport 23 meta mark set 0x00000007 accept", "no"),
        ("tcp dport 22 ct mark set meta mark & 0x000000ff | 0x00000100 counter accept", "yes"),
        ("meta priority set 0001:0002 tcp dport 23 accept", "no"),
        ("ct helper set \"ftp\" tcp dport 22 accept", "yes"),
        // What it wrote is not what the packet had before.
        ("meta mark set 0x7 meta mark 0x12 accept", "unknown"),
        ("ct mark set 0x7 meta mark 0x12 accept", "yes"),
        // What is looked up, or another's, can be missing.
        ("meta mark set ip saddr map { 10.2.1.2 : 0x1 } accept", "unknown"),
        ("meta mark set meta mark map @marks accept", "unknown"),
        ("meta mark set ct mark accept", "unknown"),
        ("meta mark set jhash ip saddr mod 2 accept", "unknown"),
        ("meta mark set numgen inc mod 2 accept", "unknown"),
        ("ip dscp set cs1 accept", "unknown"),
        ("meta priority set ip saddr map @classes accept", "unknown"),
    ] {
        assert_eq!(told(text), expected, "{text}");
    }
}

#[test]
fn whether_a_rule_accepts() {
    for (text, expected) in [
        ("tcp dport 22 counter accept", Some(true)),
        ("tcp dport 22 drop", Some(false)),
        ("tcp dport 22 counter", Some(false)),
        ("meta mark set 0x7", Some(false)),
        ("tcp flags syn tcp option maxseg size set rt mtu", Some(false)),
        ("limit rate 5/second accept", Some(true)),
        ("tcp dport vmap { 80 : accept, 443 : jump web }", Some(true)),
        ("ct state vmap { invalid : drop, new : jump web }", Some(false)),
        ("tcp dport vmap @ports", None),
        ("reject with icmp port-unreachable", Some(false)),
        ("oifname \"enp0\" masquerade", None),
        ("xt target \"TPROXY\"", None),
        ("-A F -p tcp -j REJECT --reject-with tcp-reset", Some(false)),
        ("-A F -p tcp -j MARK --set-mark 7", Some(false)),
        ("-A F -p tcp -j ACCEPT", Some(true)),
    ] {
        let read = if text.starts_with('-') {
            Expressions::read_iptables(text, false)
        } else {
            Expressions::read(text)
        };
        assert_eq!(read.accepts(), expected, "{text}");
    }
}

#[test]
fn a_rule_cut_anywhere_is_survived() {
    let text = "iifname \"enp0\" ip saddr . tcp dport { 10.0.0.0/8 . 22, * . 9 } ct state vmap { new : jump a } log prefix \"é\" accept";
    for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
        let _ = Expressions::read(&text[..end]);
        let _ = Expressions::read(&text[end..]);
    }
    let text = "-A F ! -s 10.0.0.0/8 -p tcp -m tcp --tcp-flags SYN,ACK SYN -m mark --mark 0x1/0x2 -m odd --odd \"a b\" -j ACCEPT";
    for end in 0..text.len() {
        let _ = Expressions::read_iptables(&text[..end], end % 2 == 0);
        let _ = Expressions::read_iptables(&text[end..], end % 2 == 0);
    }
}

/// What is not understood of a rule.
fn unclear(rule: &Expressions) -> Vec<&str> {
    let parts = rule.0.iter().filter_map(|expression| match expression {
        Expression::Unclear { text } => Some(text.as_str()),
        _ => None,
    });
    parts.collect()
}

/// The rules of a listing by nft: the lines within chains.
fn nft_rules(listing: &str) -> Vec<&str> {
    let mut inside = false;
    let mut rules = Vec::new();
    for line in listing.lines().map(str::trim) {
        match line {
            line if line.starts_with("chain ") => inside = true,
            "}" => inside = false,
            line if inside && !line.is_empty() && !line.starts_with("type ") => rules.push(line),
            _ => {}
        }
    }
    rules
}

#[test]
fn rulesets_of_other_programs_are_read_and_what_is_not_is_said() {
    let nft = [
        ("firewalld", include_str!("../../tests/rulesets/firewalld.nft")),
        ("docker", include_str!("../../tests/rulesets/docker.nft")),
        ("libvirt", include_str!("../../tests/rulesets/libvirt.nft")),
        ("kube-proxy", include_str!("../../tests/rulesets/kube-proxy.nft")),
    ];
    let iptables = [
        ("ufw", include_str!("../../tests/rulesets/ufw.iptables")),
        ("docker", include_str!("../../tests/rulesets/docker.iptables")),
        ("kube-proxy", include_str!("../../tests/rulesets/kube-proxy.iptables")),
    ];
    let mut told = String::new();
    for (name, text) in nft {
        let rules = nft_rules(text);
        told.extend([name, ", nft: ", &rules.len().to_string(), " rules\n"]);
        for rule in rules {
            told += &part_line(&unclear(&Expressions::read(rule)).join("; "));
        }
    }
    for (name, text) in iptables {
        let rules: Vec<&str> = text.lines().filter(|line| line.starts_with("-A ")).collect();
        told.extend([name, ", iptables: ", &rules.len().to_string(), " rules\n"]);
        for rule in rules {
            told += &part_line(&unclear(&Expressions::read_iptables(rule, false)).join("; "));
        }
    }
    expect_test::expect![[r"
        firewalld, nft: 87 rules
          fib saddr . mark . iif oif missing drop
          limit rate 1/minute
        docker, nft: 15 rules
        libvirt, nft: 13 rules
        kube-proxy, nft: 23 rules
          numgen random mod 2 vmap { 0 : goto endpoint-A-kube-system/kube-dns/udp/dns__10.244.0.2/53, 1 : goto endpoint-B-kube-system/kube-dns/udp/dns__10.244.0.3/53 }
        ufw, iptables: 69 rules
          -m limit --limit 3/min --limit-burst 10
          -m limit --limit 3/min --limit-burst 10
          -m limit --limit 3/min --limit-burst 10
          -m limit --limit 3/min --limit-burst 10
          -m limit --limit 3/min --limit-burst 10
          -m limit --limit 3/min --limit-burst 10
          -m recent --set --name DEFAULT --mask 255.255.255.255 --rsource
          -m recent --update --seconds 30 --hitcount 6 --name DEFAULT --mask 255.255.255.255 --rsource
          -m limit --limit 3/min
        docker, iptables: 31 rules
        kube-proxy, iptables: 35 rules
          -m nfacct --nfacct-name localhost_nps_accepted_pkts
          -m statistic --mode random --probability 0.50000000000
          -m recent --rcheck --seconds 10800 --reap --name KUBE-SEP-A --mask 255.255.255.255 --rsource
          -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT
          -m nfacct --nfacct-name ct_state_invalid_dropped_pkts
    "]].assert_eq(&told);
}

fn part_line(part: &str) -> String {
    if part.is_empty() { String::new() } else { format!("  {part}\n") }
}

#[test]
fn a_device_that_is_not_there_has_an_empty_name() {
    let packet = syn();
    let moment = Moment {
        packet: &packet,
        iif: None,
        oif: Some("veth21"),
        devices_known: true,
        connection: None,
        mark: None,
        destination_type: None,
    };
    let judge =
        |rule: Expressions| rule.judge(&moment, &|_| panic!("nobody can know an element without a name"));
    for text in
        ["iifname != \"eth0\" accept", "iifname != { \"a\", \"b\" } accept", "iifname != @devices accept"]
    {
        assert_eq!(judge(Expressions::read(text)), Answer::Matches(None), "{text}");
    }
    assert_eq!(
        judge(Expressions::read_iptables("-A OUTPUT ! -i docker0 -j ACCEPT", false)),
        Answer::Matches(None)
    );
    for text in [
        "iifname \"eth0\" accept",
        "iifname . oifname { \"a\" . \"veth21\" } accept",
        "iifname @devices accept",
    ] {
        let Answer::Fails { only: Some(failure), .. } = judge(Expressions::read(text)) else {
            panic!("{text}")
        };
        assert_eq!(
            (failure.asks, failure.packet.as_str()),
            (Asks::AnotherKind, "came from this host itself")
        );
        assert_eq!(failure.lookup, None);
    }
}
