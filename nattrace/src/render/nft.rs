//! The lines of `nft monitor trace`, and further lines in the same grammar for what nft cannot see.
//!
//! ```text
//! trace id 009c01f8 inet nat prerouting packet: iif "enp0" ip saddr .. tcp dport 1222 tcp flags == syn
//! trace id 009c01f8 inet nat prerouting rule ip daddr 10.1.2.3 tcp dport 1222 dnat ip to .. (verdict accept)
//! trace id 009c01f8 ip nat rewrite dnat 10.1.2.3:1222 to 192.168.70.10:22
//! ```
//!
//! The format is that of nft's src/trace.c (1.1.x; src/netlink.c in 1.0.6): `packet:` and `policy` lines end
//! with a space, `rule` lines do not. `packet:` lines hold the fields that a journey knows: no `ether`,
//! `dscp`, `ecn` or `window`. Where nft never gave the packet an id, the journey's number stands for it.

use std::fmt::Write as _;

use nattrace_core::event::{HookPoint, Manip, NetnsId, NfFamily, Verdict};
use nattrace_core::journey::{Backend, DeviceStep, Journey, Outcome, RuleStep, StepKind};
use nattrace_core::packet::{Endpoint, Family, protocol};

use super::chains::{Chains, Place, beside_chain};
use super::escape::escape;
use super::json::decision_name;

/// The lines of one journey.
pub(super) fn journey(journey: &Journey) -> String {
    let mut writer = Writer {
        journey,
        out: String::new(),
        chains: Chains::default(),
        netns: journey.netns.inum,
        id: 0,
        iif: journey.iif.as_deref(),
        oif: None,
        source: journey.packet.source,
        destination: journey.packet.destination,
        routed: false,
    };
    for step in &journey.steps {
        writer.enter(step.netns);
        writer.step(&step.kind);
    }
    if let Outcome::Unfinished { why } = &journey.outcome {
        let line = format!("unfinished {}", escape(why));
        writer.other(&line);
    }
    writer.out
}

struct Writer<'a> {
    journey: &'a Journey,
    out: String,
    chains: Chains<'a>,
    netns: NetnsId,
    /// Which of the packet's trace ids is in force: nft gives it a new one in every namespace.
    id: usize,
    iif: Option<&'a str>,
    oif: Option<&'a str>,
    source: Option<Endpoint>,
    destination: Option<Endpoint>,
    /// Forwarding takes one from the TTL; what it is then is not known.
    routed: bool,
}

impl<'a> Writer<'a> {
    fn enter(&mut self, netns: NetnsId) {
        if netns != self.netns {
            self.netns = netns;
            self.id += 1;
            (self.iif, self.oif) = (None, None);
            self.chains.reset();
        }
    }

    fn step(&mut self, kind: &'a StepKind) {
        match kind {
            StepKind::Rule(step) => self.rule(step),
            StepKind::Policy { backend: Backend::Legacy, family, table, chain, verdict, .. } => {
                self.chains.reset();
                self.chain_line(*family, table, chain, &format!("policy {verdict} "));
            }
            StepKind::Policy { family, table, chain, verdict, .. } => {
                self.packet(*family, table, chain);
                self.chains.said(verdict);
                self.chain_line(*family, table, chain, &format!("policy {verdict} "));
            }
            StepKind::Hook { hook, iif, oif, .. } => {
                self.chains.reset();
                self.iif = iif.as_deref();
                self.oif = oif.as_deref();
                self.routed |= *hook == HookPoint::Forward;
            }
            StepKind::Rewrite { nat, from, to, .. } => {
                match nat {
                    Manip::Snat => self.source = Some(*to),
                    Manip::Dnat => self.destination = Some(*to),
                }
                self.other(&format!("nat rewrite {} {from} to {to}", nat.name()));
            }
            StepKind::Connection { event, id } => {
                let id = id.map_or_else(String::new, |id| format!(" id {id}"));
                self.other(&format!("conntrack {}{id}", event.name()));
            }
            StepKind::Route { decision, oif, gateway, table } => {
                let mut line = format!("route {}", decision_name(*decision));
                if let Some(oif) = oif {
                    let _ = write!(line, " oif \"{}\"", escape(oif));
                }
                if let Some(gateway) = gateway {
                    let _ = write!(line, " via {gateway}");
                }
                if let Some(table) = table {
                    let _ = write!(line, " table {table}");
                }
                self.other(&line);
            }
            StepKind::Device { event, name } => {
                let way = match event {
                    DeviceStep::Receive => "receive iif",
                    DeviceStep::Transmit => "transmit oif",
                };
                if *event == DeviceStep::Receive {
                    self.iif = Some(name);
                }
                self.other(&format!("device {way} \"{}\"", escape(name)));
            }
            StepKind::Deliver { protocol, local, .. } => {
                let local = local.map_or_else(String::new, |local| format!(" {local}"));
                self.other(&format!("deliver {}{local}", escape(protocol)));
            }
            StepKind::Drop { reason, function, text } => {
                let mut line = "drop kernel".to_owned();
                if let Some(reason) = reason {
                    let _ = write!(line, " reason {}", escape(reason));
                }
                if let Some(function) = function {
                    let _ = write!(line, " function {}", escape(function));
                }
                if reason.is_none() && function.is_none() {
                    let _ = write!(line, " {}", escape(text));
                }
                self.other(&line);
            }
        }
    }

    fn rule(&mut self, step: &'a RuleStep) {
        let rule = &step.rule;
        if rule.backend == Backend::Legacy {
            return self.legacy_rule(step);
        }
        self.packet(rule.family, &rule.table, &rule.chain);
        let verdict = step.verdict.as_ref().map_or_else(|| "unknown".into(), escape_verdict);
        if let Some(verdict) = &step.verdict {
            self.chains.said(verdict);
        }
        let line = match rule.in_nft() {
            Some(text) => format!("rule {} (verdict {verdict})", escape(text)),
            None => format!("unknown rule handle {} (verdict {verdict})", rule.handle),
        };
        self.chain_line(rule.family, &rule.table, &rule.chain, &line);
    }

    /// Rules of legacy iptables, which nft does not see.
    fn legacy_rule(&mut self, step: &'a RuleStep) {
        let rule = &step.rule;
        self.chains.reset();
        let mut line = match &rule.text {
            Some(text) => format!("rule {}", escape(beside_chain(rule, text))),
            None if step.or_end => format!("unknown rule {} or end of chain", rule.handle),
            None => format!("unknown rule {}", rule.handle),
        };
        if let Some(verdict) = &step.verdict {
            let _ = write!(line, " (verdict {})", escape_verdict(verdict));
        }
        self.chain_line(rule.family, &rule.table, &rule.chain, &line);
    }

    /// nft shows the packet once for each base chain.
    fn packet(&mut self, family: NfFamily, table: &'a str, chain: &'a str) {
        if self.chains.enter(Backend::Nft, family, table, chain) != Place::Base {
            return;
        }
        let mut line = "packet: ".to_owned();
        for (key, name) in [("iif", self.iif), ("oif", self.oif)] {
            if let Some(name) = name {
                let _ = write!(line, "{key} \"{}\" ", escape(name));
            }
        }
        self.headers(&mut line);
        self.chain_line(family, table, chain, &line);
    }

    fn headers(&self, line: &mut String) {
        let packet = &self.journey.packet;
        let (ip, ttl, next, length) = match packet.family {
            Family::Ipv4 => ("ip", "ttl", "protocol", packet.length),
            Family::Ipv6 => ("ip6", "hoplimit", "nexthdr", packet.length.saturating_sub(40)),
            Family::Arp | Family::Other => return,
        };
        let l4 = packet.protocol.and_then(protocol::name);
        let mut put = |key: &str, value: Option<String>| {
            if let Some(value) = value {
                let _ = write!(line, "{key} {value} ");
            }
        };
        put(&format!("{ip} saddr"), self.source.map(|end| end.addr.to_string()));
        put(&format!("{ip} daddr"), self.destination.map(|end| end.addr.to_string()));
        put(&format!("{ip} {ttl}"), packet.ttl.filter(|_| !self.routed).map(|ttl| ttl.to_string()));
        put(&format!("{ip} id"), packet.ip_id.map(|id| id.to_string()));
        let number = packet.protocol.map(|number| number.to_string());
        let name = if packet.protocol == Some(protocol::ICMPV6) { Some("ipv6-icmp") } else { l4 };
        put(&format!("{ip} {next}"), name.map(str::to_owned).or(number));
        put(&format!("{ip} length"), (length != 0).then(|| length.to_string()));
        let Some(l4) = l4 else { return };
        put(&format!("{l4} sport"), self.source.and_then(|end| end.port).map(|port| port.to_string()));
        put(&format!("{l4} dport"), self.destination.and_then(|end| end.port).map(|port| port.to_string()));
        if packet.tcp_flags.is_some_and(|flags| flags != 0) {
            put(&format!("{l4} flags =="), Some(packet.tcp_flag_names().join(" | ")));
        }
        if let Some(icmp) = packet.icmp {
            put(&format!("{l4} type"), Some(icmp.kind.to_string()));
            put(&format!("{l4} code"), Some(icmp.code.to_string()));
            put(&format!("{l4} id"), icmp.id.map(|id| id.to_string()));
            put(&format!("{l4} sequence"), icmp.sequence.map(|sequence| sequence.to_string()));
        }
    }

    fn chain_line(&mut self, family: NfFamily, table: &str, chain: &str, rest: &str) {
        let line = format!("{} {} {} {rest}", family.name(), escape(table), escape(chain));
        self.line(&line);
    }

    /// What nft cannot see: the packet's family, then what happened.
    fn other(&mut self, rest: &str) {
        let family = match self.journey.packet.family {
            Family::Ipv4 => "ip",
            Family::Ipv6 => "ip6",
            Family::Arp => "arp",
            Family::Other => "netdev",
        };
        self.chains.reset();
        self.line(&format!("{family} {rest}"));
    }

    fn line(&mut self, rest: &str) {
        let ids = &self.journey.trace_ids;
        // The kernel's bytes, in the order nft prints them.
        let id = ids.get(self.id).or(ids.last()).map(|id| id.swap_bytes());
        #[expect(clippy::cast_possible_truncation, reason = "a counter; the low bits tell packets apart")]
        let id = id.unwrap_or(self.journey.id.0 as u32);
        let _ = writeln!(self.out, "trace id {id:08x} {rest}");
    }
}

fn escape_verdict(verdict: &Verdict) -> String {
    escape(&verdict.to_string()).into_owned()
}

#[cfg(test)]
mod tests {
    use nattrace_core::journey::RuleRef;
    use nattrace_core::packet::Icmp;

    use super::super::samples::{bare, broken, fixed, hook, legacy, matched, rule, steps, tcp};
    use super::*;
    use nattrace_core::event::HookVerdict;

    #[test]
    fn the_article_as_nft_prints_it_and_more() {
        assert_eq!(
            journey(&broken()),
            "trace id 009c01f8 ip device receive iif \"enp0\"\n\
             trace id 009c01f8 inet nat prerouting packet: iif \"enp0\" ip saddr 10.2.1.2 ip daddr 10.1.2.3 ip ttl 64 \
             ip id 48644 ip protocol tcp ip length 60 tcp sport 36334 tcp dport 1222 tcp flags == syn \n\
             trace id 009c01f8 inet nat prerouting rule ip daddr 10.1.2.3 tcp dport 1222 dnat ip to 192.168.70.10:22 \
             (verdict accept)\n\
             trace id 009c01f8 ip nat rewrite dnat 10.1.2.3:1222 to 192.168.70.10:22\n\
             trace id 009c01f8 ip route forward oif \"veth21\"\n\
             trace id 009c01f8 inet filter forward packet: iif \"enp0\" oif \"veth21\" ip saddr 10.2.1.2 ip daddr \
             192.168.70.10 ip id 48644 ip protocol tcp ip length 60 tcp sport 36334 tcp dport 22 tcp flags == syn \n\
             trace id 009c01f8 inet filter forward rule ct status dnat jump allowed_dnats (verdict jump \
             allowed_dnats)\n\
             trace id 009c01f8 inet filter allowed_dnats rule drop (verdict drop)\n\
             trace id 009c01f8 ip drop kernel reason NETFILTER_DROP function nft_do_chain\n"
        );
    }

    #[test]
    fn rules_of_legacy_iptables_in_the_same_grammar() {
        assert_eq!(
            journey(&legacy(true)),
            "trace id 009c01f8 ip raw PREROUTING policy accept \n\
             trace id 009c01f8 ip nat PREROUTING rule -p tcp -j DNAT --to-destination 192.168.70.10:22 (verdict accept)\n\
             trace id 009c01f8 ip nat rewrite dnat 10.1.2.3:1222 to 192.168.70.10:22\n\
             trace id 009c01f8 ip filter FORWARD rule -p tcp -j web (verdict jump web)\n\
             trace id 009c01f8 ip filter web rule -j DROP (verdict drop)\n"
        );
        let untold = journey(&legacy(false));
        assert!(untold.contains("ip filter FORWARD unknown rule 1\n"), "{untold}");
        assert!(untold.contains("ip filter web unknown rule 2 or end of chain\n"), "{untold}");
    }

    #[test]
    fn policies_end_with_a_space() {
        let told = journey(&fixed());
        assert!(told.contains("trace id 009c01f8 inet nat postrouting policy accept \n"), "{told}");
        assert!(told.ends_with("trace id 009c01f8 ip device transmit oif \"veth21\"\n"), "{told}");
    }

    #[test]
    fn unknown_rules_ids_and_text_that_is_not_to_be_trusted() {
        let mut it = bare(tcp("[2001:db8::1]:1", "[2001:db8::2]:2", 0));
        it.packet.protocol = Some(protocol::ICMPV6);
        it.packet.tcp_flags = None;
        it.packet.icmp = Some(Icmp { kind: 128, code: 0, id: Some(7), sequence: Some(1), about: None });
        it.packet.ip_id = None;
        for end in [&mut it.packet.source, &mut it.packet.destination] {
            end.as_mut().unwrap().port = None;
        }
        let unknown = RuleRef { text: None, ..rule("inet f in", 12, "") };
        it.steps = steps(vec![
            hook(HookPoint::Input, ("e\x1b0", ""), HookVerdict::Accept),
            matched(unknown, HookPoint::Input, Verdict::Continue),
            matched(rule("inet f in", 13, "accept comment \"a\nb\""), HookPoint::Input, Verdict::Accept),
        ]);
        assert_eq!(
            journey(&it),
            "trace id 00000001 inet f in packet: iif \"e\\x1b0\" ip6 saddr 2001:db8::1 ip6 daddr 2001:db8::2 ip6 \
             hoplimit 64 ip6 nexthdr ipv6-icmp ip6 length 20 icmpv6 type 128 icmpv6 code 0 icmpv6 id 7 icmpv6 sequence 1 \n\
             trace id 00000001 inet f in unknown rule handle 12 (verdict continue)\n\
             trace id 00000001 inet f in rule accept comment \"a\\nb\" (verdict accept)\n"
        );
    }
}
