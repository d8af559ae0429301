//! What a rule's text says it does to addresses.

use super::iptables_target;
use crate::event::{HookPoint, Manip};

/// Whether a rule, in the syntax of nft or of iptables, has packets rewritten at the end `nat`. `hook` is that of its base
/// chain, when known.
#[must_use]
pub fn does_nat(text: &str, nat: Manip, hook: Option<HookPoint>) -> bool {
    let Some(target) = iptables_target(text) else { return nat_statement(text) == Some(nat) };
    match target.name() {
        Some("DNAT" | "REDIRECT") => nat == Manip::Dnat,
        Some("SNAT" | "MASQUERADE") => nat == Manip::Snat,
        // The end is that of the hook.
        Some("NETMAP") => hook.is_none_or(|hook| end_of(hook) == nat),
        _ => false,
    }
}

/// The end that is rewritten in a hook (`HOOK2MANIP`, include/net/netfilter/nf_nat.h, v6.12).
fn end_of(hook: HookPoint) -> Manip {
    match hook {
        HookPoint::Prerouting | HookPoint::Output => Manip::Dnat,
        _ => Manip::Snat,
    }
}

/// The NAT statement of a rule in nft's syntax, as the end it rewrites: `dnat` and `redirect` the
/// destination, `snat` and `masquerade` the source. Matches on `ct status dnat`, chains and sets of that
/// name, and comments are not statements.
fn nat_statement(text: &str) -> Option<Manip> {
    // `xt target "DNAT"` is how nft shows a rule of iptables-nft that it cannot translate.
    let mut words = text
        .split('"')
        .enumerate()
        .flat_map(|(i, part)| part.split_whitespace().map(move |word| (i % 2 == 1, word)))
        .peekable();
    let (mut found, mut last) = (None, "");
    while let Some((quoted, word)) = words.next() {
        let before = std::mem::replace(&mut last, word);
        let after = words.peek().map_or("", |(_, word)| *word);
        if quoted {
            if before == "target" {
                found = match word {
                    "DNAT" | "REDIRECT" => Some(Manip::Dnat),
                    "SNAT" | "MASQUERADE" => Some(Manip::Snat),
                    _ => found,
                };
            }
            continue;
        }
        if matches!(
            before,
            "status" | "type" | "jump" | "goto" | "!=" | "==" | "&" | "|" | "{" | "map" | "vmap"
        ) {
            continue;
        }
        let takes_target = matches!(after, "to" | "ip" | "ip6" | "prefix" | "interval");
        found = match word {
            "dnat" if takes_target => Some(Manip::Dnat),
            "snat" if takes_target => Some(Manip::Snat),
            "redirect" => Some(Manip::Dnat),
            "masquerade" => Some(Manip::Snat),
            _ => found,
        };
    }
    found
}

/// Whether a rule's source NAT statement asks for an address and nothing else: then the kernel keeps the port as long
/// as it is free (`get_unique_tuple`, net/netfilter/nf_nat_core.c, v6.12). In doubt it does not.
#[must_use]
pub fn keeps_port(text: &str) -> bool {
    let words: Vec<&str> = text.split_whitespace().collect();
    let statement =
        words.iter().rposition(|word| matches!(*word, "masquerade" | "snat" | "MASQUERADE" | "SNAT"));
    let Some((word, rest)) = statement.and_then(|at| words.get(at..)?.split_first()) else { return false };
    let rest = match rest.iter().position(|word| *word == "comment") {
        Some(comment) => rest.get(..comment).unwrap_or_default(),
        None => rest,
    };
    let rest: Vec<&str> = rest.iter().copied().filter(|word| *word != "persistent").collect();
    let bare = |target: &str| target.split('-').all(|addr| addr.parse::<std::net::IpAddr>().is_ok());
    match (*word, rest.as_slice()) {
        ("masquerade" | "MASQUERADE", []) => true,
        ("snat", ["to", target] | ["ip" | "ip6", "to", target]) | ("SNAT", ["--to-source", target]) => {
            bare(target)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_kept_where_only_an_address_is_asked_for() {
        for keeps in [
            "oifname \"enp0\" masquerade",
            "ip saddr 10.0.0.0/8 masquerade persistent comment \"to :80\"",
            "snat to 10.2.1.1",
            "oifname \"enp0\" snat ip to 10.2.1.1-10.2.1.9",
            "snat to fd00::1",
            "-A POSTROUTING -o enp0 -j MASQUERADE",
            "-A POSTROUTING -j SNAT --to-source 10.2.1.1",
        ] {
            assert!(keeps_port(keeps), "{keeps}");
        }
        for changes in [
            "masquerade to :1024-2048",
            "masquerade random",
            "masquerade fully-random",
            "snat to 10.2.1.1:7000-7009",
            "snat to [fd00::1]:80",
            "snat ip to ip saddr map @m",
            "snat to 10.2.1.1 random",
            "-A POSTROUTING -j MASQUERADE --random",
            "-A POSTROUTING -j SNAT --to-source 10.2.1.1:7000",
            "xt target \"MASQUERADE\"",
            "accept",
            "",
        ] {
            assert!(!keeps_port(changes), "{changes}");
        }
    }

    #[test]
    fn statements_are_told_from_matches() {
        let cases = [
            ("ip daddr 10.1.2.3 tcp dport 1222 dnat ip to 192.168.70.10:22", Some(Manip::Dnat)),
            ("dnat to tcp dport map @dnat", Some(Manip::Dnat)),
            ("tcp dport 80 redirect to :8080", Some(Manip::Dnat)),
            ("oifname \"eth0\" masquerade", Some(Manip::Snat)),
            ("snat ip prefix to ip saddr map @m", Some(Manip::Snat)),
            ("counter masquerade random comment \"not dnat to anything\"", Some(Manip::Snat)),
            ("meta l4proto tcp counter xt target \"DNAT\"", Some(Manip::Dnat)),
            ("ct status dnat ip saddr 10.0.0.0/8 accept", None),
            ("ct status & dnat == dnat accept", None),
            ("jump dnat", None),
            ("goto masquerade", None),
            ("accept comment \"redirect\"", None),
            ("ip protocol icmp icmp type redirect drop", None),
            ("icmp type { redirect, echo-request } drop", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(nat_statement(text), expected, "{text}");
        }
    }

    #[test]
    fn targets_of_iptables_are_told_from_matches() {
        let (first, last) = (Some(HookPoint::Prerouting), Some(HookPoint::Postrouting));
        let cases = [
            (
                "-A PREROUTING -p tcp --dport 1222 -j DNAT --to-destination 192.168.70.10:22",
                first,
                (true, false),
            ),
            ("-A PREROUTING -j REDIRECT --to-ports 8080", first, (true, false)),
            ("-A POSTROUTING -o eth0 -j MASQUERADE", last, (false, true)),
            ("-A POSTROUTING -j SNAT --to-source 10.0.0.1", None, (false, true)),
            ("-A PREROUTING -d 10.1.0.0/16 -j NETMAP --to 10.2.0.0/16", None, (true, true)),
            ("-A PREROUTING -d 10.1.0.0/16 -j NETMAP --to 10.2.0.0/16", first, (true, false)),
            ("-A POSTROUTING -j NETMAP --to 10.0.0.0/24", last, (false, true)),
            ("-A FORWARD -m conntrack --ctstatus DNAT -j ACCEPT", None, (false, false)),
            ("-A PREROUTING -m comment --comment \"-j DNAT\" -j ACCEPT", first, (false, false)),
            ("-A u -m comment --comment \"dnat to 1.2.3.4\"", None, (false, false)),
        ];
        for (text, hook, expected) in cases {
            let found = (does_nat(text, Manip::Dnat, hook), does_nat(text, Manip::Snat, hook));
            assert_eq!(found, expected, "{text}");
        }
    }
}
