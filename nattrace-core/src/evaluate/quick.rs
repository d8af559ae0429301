//! Whether a rule is for other packets, at a glance: of thousands of rules most are, and reading each takes its time.

use std::net::IpAddr;

use crate::packet::{Packet, protocol};

/// Whether an accepting rule of nft's syntax fails by at least two plain comparisons (`ip saddr 10.0.0.1`, `tcp dport 22`), so
/// that [`super::Expressions::judge`] would say that it is for other packets. `false` says nothing.
pub(crate) fn is_for_others(text: &str, packet: &Packet) -> bool {
    // What is quoted can hold anything, a comment's words above all.
    let (plain, quoted) = text.split_once('"').map_or((text, false), |(before, _)| (before, true));
    let words = plain.split_ascii_whitespace().filter(|word| !(quoted && *word == "comment"));
    let (mut failed, mut last) = (0, ["", "", ""]);
    for word in words {
        let [of, family, name] = last;
        // `ct original ip saddr` is the connection's.
        if !matches!(of, "original" | "reply") && differs(family, name, word, packet) == Some(true) {
            failed += 1;
        }
        last = [family, name, word];
    }
    failed >= 2 && last[2] == "accept"
}

/// Whether the packet has another value than this comparison asks for; `None` for what is no plain comparison.
fn differs(before: &str, name: &str, value: &str, packet: &Packet) -> Option<bool> {
    let address = |end: Option<crate::packet::Endpoint>| {
        let wanted = value.parse::<IpAddr>().ok().filter(|addr| addr.is_ipv4() == (before == "ip"))?;
        Some(end?.addr != wanted)
    };
    let port = |end: Option<crate::packet::Endpoint>| {
        let wanted = value.parse::<u16>().ok()?;
        Some(end?.port? != wanted)
    };
    match (before, name) {
        ("ip" | "ip6", "saddr") => address(packet.source),
        ("ip" | "ip6", "daddr") => address(packet.destination),
        ("tcp" | "udp" | "sctp" | "th", "sport" | "dport") => {
            // Of another protocol it fails, too, but as one that is about another kind of packets.
            let is = protocol::name(packet.protocol?).is_some_and(|name| name == before || before == "th");
            let end = if name == "sport" { packet.source } else { packet.destination };
            is.then(|| port(end)).flatten()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::{Answer, Expressions, Moment};
    use crate::packet::{Endpoint, datagram};

    fn packet() -> Packet {
        let end = |addr: &str, port| Endpoint { addr: addr.parse().expect("an address"), port: Some(port) };
        datagram(end("10.2.1.2", 40_000), end("192.168.70.10", 22))
    }

    #[test]
    fn what_differs_twice_is_for_others() {
        let packet = packet();
        for text in [
            "ip saddr 10.0.0.1 udp dport 23 accept",
            "ip saddr 10.0.0.1 ip daddr 10.0.0.2 counter accept comment \"x accept\"",
            "iifname a ip daddr 10.0.0.1 udp sport 1 udp dport 2 accept",
        ] {
            assert!(is_for_others(text, &packet), "{text}");
        }
        for text in [
            "ip saddr 10.2.1.2 udp dport 23 accept",
            "ip saddr 10.0.0.1 udp dport 22 accept",
            "udp dport 23 accept comment \"ip saddr 10.0.0.1\"",
            "ip saddr != 10.0.0.1 udp dport != 23 accept",
            "ct original ip saddr 10.2.1.2 accept",
            "ip saddr 10.0.0.1 udp dport 23 drop",
            "ip saddr 10.0.0.1 udp dport 23 jump accept-all",
            "ip saddr . udp dport { 10.0.0.1 . 23 } accept",
            "ip saddr { 10.0.0.1 } udp dport { 23, 24 } accept",
            "tcp dport 23 ip saddr 10.2.1.2 accept",
        ] {
            assert!(!is_for_others(text, &packet), "{text}");
        }
    }

    /// Whatever is told at a glance is what reading the rule tells.
    #[test]
    fn a_glance_never_says_what_reading_denies() {
        let packet = packet();
        let moment = Moment {
            packet: &packet,
            iif: Some("enp0"),
            oif: None,
            devices_known: true,
            connection: None,
            mark: Some(0),
            destination_type: None,
        };
        let parts = [
            "ip saddr 10.2.1.2",
            "ip saddr 10.0.0.1",
            "ip saddr != 10.0.0.1",
            "ip daddr 192.168.70.10",
            "ip daddr 10.0.0.0/8",
            "ip6 saddr fd00::1",
            "udp dport 22",
            "udp dport 23",
            "udp dport 20-30",
            "udp sport 1",
            "tcp dport 23",
            "th dport 7",
            "iifname \"enp0\"",
            "ct original ip saddr 10.0.0.1",
            "counter",
            "ip saddr . udp dport { 10.0.0.1 . 23 }",
            "meta mark 0x5",
            "udp dport { 23, 24 }",
        ];
        assert_eq!(parts.len(), 18);
        let mut told = 0;
        let triples = (0..parts.len().pow(3)).map(|n| [n % 18, n / 18 % 18, n / 324].map(|at| parts[at]));
        for [a, b, c] in triples {
            let text = format!("{a} {b} {c} accept comment \"udp dport 9 ip saddr 10.9.9.9\"");
            if is_for_others(&text, &packet) {
                told += 1;
                let answer = Expressions::read(&text).judge(&moment, &|_| None);
                assert!(matches!(answer, Answer::Fails { only: None, .. }), "{text}: {answer:?}");
            }
        }
        assert!(told > 500, "{told} rules were told at a glance");
    }
}
