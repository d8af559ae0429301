//! The lines of `nft monitor trace`, and further lines in the same grammar for what nft cannot see.
//!
//! ```text
//! trace id 009c01f8 inet nat prerouting packet: iif "enp0" ether saddr .. tcp dport 1222 tcp flags == syn tcp window ..
//! trace id 009c01f8 inet nat prerouting rule ip daddr 10.1.2.3 tcp dport 1222 dnat ip to .. (verdict accept)
//! trace id 009c01f8 ip nat: dnat 10.1.2.3:1222 to 192.168.70.10:22
//! ```
//!
//! nft's own lines are made of the messages the kernel sent, in their order (`message`); all others have a word with
//! a colon where nft's have the table, whose name cannot hold one. docs/nft-format.md has the whole of it.

mod dialect;
mod message;
mod payload;
mod protocol;
mod value;

use std::fmt::Write as _;

use nattrace_core::event::{NetnsId, NfFamily, Verdict};
use nattrace_core::journey::{
    Backend, DeviceStep, Journey, KernelDrop, MatchedRoute, Outcome, RuleStep, Step, StepKind, Traced,
};
use nattrace_core::packet::Family;

use super::chains::beside_chain;
use super::escape::escape;
use super::json::decision_name;
pub(super) use dialect::Dialect;

/// The lines of one journey.
pub(super) fn journey(journey: &Journey, dialect: &Dialect) -> String {
    let mut writer = Writer {
        journey,
        dialect,
        out: String::new(),
        told: 0,
        netns: journey.netns.inum,
        id: journey.trace_ids.first().copied(),
    };
    for step in &journey.steps {
        writer.enter(step.netns);
        writer.step(step);
    }
    // What was said behind the last rule: the end of a chain.
    writer.messages(journey.traced.len());
    if let Outcome::Unfinished { why } = &journey.outcome {
        let line = format!("unfinished: {}", escape(why));
        writer.other(&line);
    }
    writer.out
}

struct Writer<'a> {
    journey: &'a Journey,
    dialect: &'a Dialect,
    out: String,
    /// How many of the journey's messages have been told.
    told: usize,
    netns: NetnsId,
    /// The trace id in force, in the kernel's byte order.
    id: Option<u32>,
}

impl Writer<'_> {
    /// nf_tables gives the packet a new id in every namespace: that of the next message there.
    fn enter(&mut self, netns: NetnsId) {
        if netns != self.netns {
            self.netns = netns;
            let next = self.rest().iter().find(|traced| traced.message.id != 0);
            self.id = next.filter(|next| next.netns == netns).map(|next| next.message.id).or(self.id);
        }
    }

    fn rest(&self) -> &[Traced] {
        self.journey.traced.get(self.told..).unwrap_or_default()
    }

    /// Tells the messages up to the one before `end`.
    fn messages(&mut self, end: usize) {
        for traced in self.journey.traced.get(self.told..end).unwrap_or_default() {
            if traced.message.id != 0 {
                self.id = Some(traced.message.id);
            }
            let begin = self.begin();
            self.out.push_str(&message::lines(&begin, traced, self.dialect));
        }
        self.told = end;
    }

    /// Tells the messages up to the one that made a step; whether there is one.
    fn until(&mut self, made: impl Fn(&Traced) -> bool) -> bool {
        let Some(at) = self.rest().iter().position(made) else { return false };
        self.messages(self.told + at + 1);
        true
    }

    fn step(&mut self, step: &Step) {
        match &step.kind {
            StepKind::Rule(rule) => self.rule(step, rule),
            StepKind::Policy { backend: Backend::Legacy, family, table, chain, verdict, .. } => {
                self.legacy(*family, table, chain, &format!("policy {}", escape_verdict(verdict)));
            }
            StepKind::Policy { family, table, chain, verdict, .. } => {
                let made = |traced: &Traced| {
                    let message = &traced.message;
                    traced.time_ns == step.time_ns
                        && message.rule_handle.is_none()
                        && message.verdict.as_ref() == Some(verdict)
                        && message.family == *family
                        && *table == message.table
                        && *chain == message.chain
                };
                if !self.until(made) {
                    let chain = format!("{} {} {}", family.name(), escape(table), escape(chain));
                    self.line(&format!("{chain} policy {} ", escape_verdict(verdict)));
                }
            }
            StepKind::Hook { hook, iif, oif, verdict, .. } => {
                let mut line = format!("hook: {}", hook.name());
                for (key, device) in [("iif", iif), ("oif", oif)] {
                    if let Some(device) = device {
                        let _ = write!(line, " {key} \"{}\"", escape(device));
                    }
                }
                if let Some(verdict) = verdict {
                    let _ = write!(line, " (verdict {})", verdict.name());
                }
                self.other(&line);
            }
            StepKind::Rewrite { nat, from, to, .. } => {
                self.other(&format!("nat: {} {from} to {to}", nat.name()));
            }
            StepKind::Connection { event, id } => {
                let id = id.map_or_else(String::new, |id| format!(" id {id}"));
                self.other(&format!("connection: {}{id}", event.name()));
            }
            StepKind::Route { decision, oif, gateway, matched } => {
                let mut line = format!("route: {}", decision_name(*decision));
                if let Some(oif) = oif {
                    let _ = write!(line, " oif \"{}\"", escape(oif));
                }
                if let Some(gateway) = gateway {
                    let _ = write!(line, " via {gateway}");
                }
                if let Some(MatchedRoute { table, prefix, .. }) = matched {
                    let _ = write!(line, " route {prefix}");
                    if let Some(table) = table {
                        let _ = write!(line, " table {table}");
                    }
                }
                self.other(&line);
            }
            StepKind::Device { event, name } => {
                let way = match event {
                    DeviceStep::Receive => "receive iif",
                    DeviceStep::Transmit => "transmit oif",
                };
                self.other(&format!("device: {way} \"{}\"", escape(name)));
            }
            StepKind::Deliver { protocol, local, .. } => {
                let local = local.map_or_else(String::new, |local| format!(" {local}"));
                self.other(&format!("deliver: {}{local}", escape(protocol)));
            }
            StepKind::Drop(drop) => {
                let KernelDrop { reason, function, text, .. } = &**drop;
                let mut line = "drop: kernel".to_owned();
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

    /// A rule: nft's lines where a message told of it, else one in its place.
    fn rule(&mut self, step: &Step, matched: &RuleStep) {
        let rule = &matched.rule;
        if rule.backend == Backend::Legacy {
            return self.legacy_rule(matched);
        }
        let made = |traced: &Traced| {
            let message = &traced.message;
            traced.time_ns == step.time_ns
                && message.rule_handle == Some(rule.handle)
                && message.verdict == matched.verdict
                && message.family == rule.family
                && rule.table == message.table
                && rule.chain == message.chain
        };
        if self.until(made) {
            return;
        }
        let chain = format!("{} {} {}", rule.family.name(), escape(&rule.table), escape(&rule.chain));
        let verdict = matched.verdict.as_ref().map_or_else(|| "unknown".to_owned(), escape_verdict);
        self.line(&match rule.in_nft() {
            Some(text) => format!("{chain} rule {} (verdict {verdict})", escape(text)),
            None => format!("{chain} unknown rule handle {} (verdict {verdict})", rule.handle),
        });
    }

    /// A rule of legacy iptables, which nft does not see.
    fn legacy_rule(&mut self, matched: &RuleStep) {
        let rule = &matched.rule;
        let mut line = match &rule.text {
            Some(text) => format!("rule {}", escape(beside_chain(rule, text))),
            None if matched.or_end => format!("unknown rule {} or end of chain", rule.handle),
            None => format!("unknown rule {}", rule.handle),
        };
        if let Some(verdict) = &matched.verdict {
            let _ = write!(line, " (verdict {})", escape_verdict(verdict));
        }
        self.legacy(rule.family, &rule.table, &rule.chain, &line);
    }

    fn legacy(&mut self, family: NfFamily, table: &str, chain: &str, rest: &str) {
        self.line(&format!("{} iptables: {} {} {rest}", family.name(), escape(table), escape(chain)));
    }

    /// What nft cannot see: the packet's family, then what happened.
    fn other(&mut self, rest: &str) {
        let family = match self.journey.packet.family {
            Family::Ipv4 => "ip",
            Family::Ipv6 => "ip6",
            Family::Arp => "arp",
            Family::Other => "netdev",
        };
        self.line(&format!("{family} {rest}"));
    }

    fn line(&mut self, rest: &str) {
        let begin = self.begin();
        let _ = writeln!(self.out, "{begin}{rest}");
    }

    /// Where nf_tables never gave the packet an id, the journey's number stands for it.
    fn begin(&self) -> String {
        // The kernel's bytes, in the order nft prints them.
        let id = self.id.map(u32::swap_bytes);
        #[expect(clippy::cast_possible_truncation, reason = "a counter; the low bits tell packets apart")]
        let id = id.unwrap_or(self.journey.id.0 as u32);
        format!("trace id {id:08x} ")
    }
}

fn escape_verdict(verdict: &Verdict) -> String {
    escape(&verdict.to_string()).into_owned()
}

#[cfg(test)]
mod tests;
