//! Rules and packets of a seed: few values, so that packets meet what rules ask for about as often as not.

use fastrand::Rng;

/// The sets that rules ask for, with their elements.
pub(crate) const SETS: [(&str, &str, &[&str]); 4] = [
    ("sources", "ipv4_addr", &["10.2.1.2", "10.2.1.4"]),
    ("sources6", "ipv6_addr", &["fd00:2::2", "fd00:2::4"]),
    ("ports", "inet_service", &["22", "53", "8080"]),
    ("services", "ipv4_addr . inet_service", &["192.168.70.10 . 22", "192.168.70.10 . 80"]),
];

const SOURCES: [&str; 4] = ["10.2.1.2", "10.2.1.3", "10.2.1.4", "10.2.1.130"];
const SOURCES6: [&str; 3] = ["fd00:2::2", "fd00:2::3", "fd00:2::4"];
const PORTS: [u16; 6] = [22, 53, 80, 443, 8080, 9000];
const SOURCE_PORTS: [u16; 4] = [53, 1000, 5000, 40_000];
const TTLS: [u8; 4] = [3, 40, 64, 255];
const FLAGS: [&str; 6] = ["syn", "syn,ack", "ack", "rst", "fin,ack", "psh,ack"];

/// What one rule is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Any,
    V4,
    V6,
}

/// Rules that count and go on, as `nft` takes them.
pub(crate) fn rules(seed: u64, count: usize) -> Vec<String> {
    let mut rng = Rng::with_seed(seed);
    (0..count).map(|_| rule(&mut rng)).collect()
}

/// Rules of IPv4 that go on, as `iptables-restore` takes them, for this chain.
pub(crate) fn iptables_rules(seed: u64, count: usize, chain: &str) -> Vec<String> {
    let mut rng = Rng::with_seed(seed);
    (0..count).map(|_| format!("-A {chain} {}", iptables_rule(&mut rng))).collect()
}

fn iptables_rule(rng: &mut Rng) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut add = |rng: &mut Rng, chance: u8, forms: &[&str]| {
        if rng.u8(..10) < chance {
            parts.push(one(rng, forms).to_owned());
        }
    };
    let sources = [
        "-s 10.2.1.2",
        "! -s 10.2.1.3",
        "-s 10.2.1.0/25",
        "-s 10.2.1.128/255.255.255.128",
        "! -s 10.2.1.0/24",
    ];
    add(rng, 3, &sources);
    add(rng, 2, &["-d 192.168.70.10", "-d 192.168.70.0/24", "! -d 192.168.70.0/28", "-d 192.168.70.11"]);
    add(rng, 2, &["-i enp0", "-i enp+", "! -i enp0", "-i eth+", "! -i lo"]);
    add(rng, 1, &["-o veth21", "-o veth+", "! -o veth+", "-o eth0"]);
    match one(rng, &["", "tcp", "udp", "icmp", "multiport"]) {
        "" => add(rng, 3, &["-p tcp", "-p udp", "! -p udp", "-p 1"]),
        "multiport" => {
            add(rng, 10, &["-p tcp -m multiport", "-p udp -m multiport"]);
            let asked =
                ["--dports 22,80,8000:9000", "! --dports 53,443", "--sports 53,40000", "--sports 1000:6000"];
            add(rng, 10, &asked);
        }
        "icmp" => {
            add(
                rng,
                10,
                &[
                    "-p icmp -m icmp --icmp-type 8",
                    "-p icmp -m icmp ! --icmp-type 8",
                    "-p icmp -m icmp --icmp-type any",
                ],
            );
        }
        "tcp" => {
            add(rng, 10, &["-p tcp -m tcp"]);
            add(rng, 5, &["--dport 22", "! --dport 22", "--dport 50:100", "--dport 443:", "--dport :80"]);
            add(rng, 3, &["--sport 5000", "--sport 1000:5000", "! --sport 53"]);
            add(
                rng,
                4,
                &[
                    "--syn",
                    "! --syn",
                    "--tcp-flags ALL SYN,ACK",
                    "--tcp-flags SYN,RST NONE",
                    "--tcp-flags FIN,ACK FIN,ACK",
                ],
            );
        }
        _ => {
            add(rng, 10, &["-p udp -m udp"]);
            add(rng, 7, &["--dport 53", "! --dport 53", "--dport 50:100", "--dport 443:"]);
            add(rng, 3, &["--sport 5000", "--sport 1000:5000", "! --sport 53"]);
        }
    }
    let states = ["NEW", "ESTABLISHED,RELATED", "NEW,INVALID", "INVALID", "UNTRACKED"];
    let state = one(rng, &states);
    add(
        rng,
        2,
        &[
            format!("-m conntrack --ctstate {state}").as_str(),
            format!("-m conntrack ! --ctstate {state}").as_str(),
        ],
    );
    add(rng, 1, &["-m mark --mark 0", "-m mark --mark 0x1/0xff", "-m mark ! --mark 0x7"]);
    add(
        rng,
        1,
        &["-m iprange --src-range 10.2.1.3-10.2.1.9", "-m iprange ! --dst-range 192.168.70.1-192.168.70.9"],
    );
    add(
        rng,
        1,
        &["-m addrtype --dst-type UNICAST", "-m addrtype --dst-type LOCAL", "-m addrtype ! --dst-type LOCAL"],
    );
    add(rng, 1, &["-m comment --comment \"-p udp is not asked for\""]);
    parts.join(" ")
}

/// Arguments of `traffic packet`, for packets that are forwarded.
pub(crate) fn packets(seed: u64, count: usize) -> Vec<String> {
    let mut rng = Rng::with_seed(!seed);
    (0..count).map(|_| packet(&mut rng)).collect()
}

fn one<T: Copy>(rng: &mut Rng, of: &[T]) -> T {
    of[rng.usize(..of.len())]
}

fn packet(rng: &mut Rng) -> String {
    let proto = one(rng, &["tcp", "udp", "tcp", "udp", "icmp"]);
    let (sport, dport) = (one(rng, &SOURCE_PORTS), one(rng, &PORTS));
    let ends = if proto != "icmp" && rng.u8(..3) == 0 {
        format!("--from [{}]:{sport} --to [fd00:70::10]:{dport}", one(rng, &SOURCES6))
    } else {
        format!("--from {}:{sport} --to 192.168.70.10:{dport}", one(rng, &SOURCES))
    };
    let flags = if proto == "tcp" { format!(" --flags {}", one(rng, &FLAGS)) } else { String::new() };
    let (ttl, payload) = (one(rng, &TTLS), one(rng, &[0, 10, 200]));
    format!("{ends} --proto {proto} --ttl {ttl} --payload {payload}{flags}")
}

fn rule(rng: &mut Rng) -> String {
    let family = one(rng, &[Family::Any, Family::V4, Family::V4, Family::V6]);
    let protocol = one(rng, &["", "tcp", "udp", "th"]);
    let mut parts: Vec<String> = Vec::new();
    if protocol == "th" {
        parts.push("meta l4proto { tcp, udp }".to_owned());
    }
    for _ in 0..rng.usize(1..4) {
        let part = match rng.u8(..10) {
            0 | 1 => address(rng, family),
            2..=4 if !protocol.is_empty() => port(rng, protocol),
            5 => device(rng),
            6 => header(rng, family),
            7 if protocol == "tcp" => flags(rng),
            8 => state(rng),
            _ => kind(rng),
        };
        // Of two such comparisons nft 1.1 prints one range, even when they are of different data: the text would be wrong.
        let orders = |part: &String| [" < ", " > ", " >= "].iter().any(|order| part.contains(order));
        if !(orders(&part) && parts.iter().any(orders)) {
            parts.push(part);
        }
    }
    parts.join(" ") + " counter"
}

fn address(rng: &mut Rng, family: Family) -> String {
    let forms: &[&str] = match family {
        Family::Any => return kind(rng),
        Family::V4 => &[
            "ip saddr 10.2.1.2",
            "ip saddr != 10.2.1.3",
            "ip saddr 10.2.1.0/25",
            "ip saddr 10.2.1.128/25",
            "ip saddr 10.2.1.3-10.2.1.9",
            "ip saddr { 10.2.1.2, 10.2.1.128/25 }",
            "ip saddr != { 10.2.1.2, 10.2.1.3 }",
            "ip saddr @sources",
            "ip saddr != @sources",
            "ip daddr 192.168.70.10",
            "ip daddr != 192.168.70.0/24",
            "ip daddr 192.168.70.11",
            "ip saddr . ip daddr { 10.2.1.2 . 192.168.70.10, 10.2.1.3 . 192.168.70.11 }",
        ],
        Family::V6 => &[
            "ip6 saddr fd00:2::2",
            "ip6 saddr != fd00:2::3",
            "ip6 saddr fd00:2::/126",
            "ip6 saddr fd00:2::3-fd00:2::9",
            "ip6 saddr { fd00:2::2, fd00:2::4 }",
            "ip6 saddr @sources6",
            "ip6 daddr fd00:70::10",
            "ip6 daddr != fd00:70::/64",
        ],
    };
    one(rng, forms).to_owned()
}

fn port(rng: &mut Rng, protocol: &str) -> String {
    let forms = [
        "dport 22",
        "dport != 22",
        "dport 50-100",
        "dport { 22, 80, 8000-9000 }",
        "dport != { 53, 443 }",
        "dport < 443",
        "dport >= 443",
        "dport @ports",
        "dport != @ports",
        "sport 5000",
        "sport 1000-5000",
        "sport > 1023",
        "sport { 53, 40000 }",
        "sport . VERB dport { 5000 . 22, 53 . 1-100 }",
    ];
    format!("{protocol} {}", one(rng, &forms).replace("VERB", protocol))
}

fn device(rng: &mut Rng) -> String {
    let forms = [
        "iifname \"enp0\"",
        "iifname \"enp*\"",
        "iifname != \"enp0\"",
        "iifname { \"lo\", \"enp0\" }",
        "iifname \"eth0\"",
        "oifname \"veth21\"",
        "oifname \"veth*\"",
        "oifname != \"veth21\"",
        "oifname \"eth*\"",
        "iifname . oifname { \"enp0\" . \"veth21\", \"lo\" . \"lo\" }",
    ];
    one(rng, &forms).to_owned()
}

fn header(rng: &mut Rng, family: Family) -> String {
    let forms: &[&str] = match family {
        Family::Any => &["meta length < 60", "meta length 40-100", "meta length >= 200"],
        Family::V4 => &[
            "ip ttl < 40",
            "ip ttl { 39, 63 }",
            "ip ttl != 254",
            "ip length > 100",
            "ip length 38-60",
            "ip id 1",
        ],
        Family::V6 => &["ip6 hoplimit < 40", "ip6 hoplimit 63", "ip6 length > 50", "ip6 nexthdr tcp"],
    };
    one(rng, forms).to_owned()
}

fn flags(rng: &mut Rng) -> String {
    let forms = [
        "tcp flags syn",
        "tcp flags == syn",
        "tcp flags != syn",
        "tcp flags & (fin | syn | rst | ack) == syn",
        "tcp flags & (syn | ack) == syn | ack",
        "tcp flags & rst != 0",
        "tcp flags { syn, syn | ack }",
        "tcp flags ! ack",
    ];
    one(rng, &forms).to_owned()
}

fn state(rng: &mut Rng) -> String {
    let forms = [
        "ct state new",
        "ct state established,related",
        "ct state { new, invalid }",
        "ct state != new",
        "ct state invalid",
        "ct direction original",
    ];
    one(rng, &forms).to_owned()
}

fn kind(rng: &mut Rng) -> String {
    let forms = [
        "meta l4proto tcp",
        "meta l4proto { udp, icmp }",
        "meta l4proto != udp",
        "meta nfproto ipv4",
        "meta nfproto ipv6",
        "meta mark 0",
        "meta mark & 0xff == 0x1",
        "meta mark != 0x7",
        "meta protocol ip",
        "ip protocol icmp",
        "icmp type echo-request",
        "ip saddr . tcp dport { 10.2.1.2 . 22, 10.2.1.3 . 1-100 }",
        "ip daddr . udp dport @services",
        "fib daddr type local",
    ];
    one(rng, &forms).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_says_all() {
        assert_eq!(rules(7, 20), rules(7, 20));
        assert_eq!(packets(7, 20), packets(7, 20));
        assert_ne!(rules(7, 20), rules(8, 20));
        assert!(rules(7, 200).iter().all(|rule| rule.ends_with(" counter")));
    }
}
