//! Rewrites: that an address changed, and who decided it.
//!
//! A probe on the kernel's rewriting function tells directly. Without it, the headers of successive
//! observations are compared: the change lies between them, and so in the hook that the packet was in.
//!
//! Who decided: chains of type nat are evaluated for the first packet of a connection only. So when rules of
//! such a chain matched in the same passage through the hook, the last of them that has a NAT statement for
//! the end that changed decided. Every later packet, and every reply, is rewritten by what the connection
//! remembers; the rule that once decided is remembered with it.

use super::open::{ChainName, Draft, Moment, Note, Open};
use super::{RewrittenBy, RuleRef, StepKind};
use crate::conntrack::{Connection, Direction, IPS_DST_NAT, IPS_SRC_NAT};
use crate::event::{HookPoint, Manip, Rewrite, Verdict};
use crate::packet::{Endpoint, Packet, protocol};
use crate::ruleset::nat_statement;

/// `IPS_OFFLOAD` and `IPS_HW_OFFLOAD`.
const IPS_OFFLOADED: u32 = 1 << 14 | 1 << 15;

/// The ends that differ. A later fragment has no ports: then only addresses are compared.
fn changes(before: &Packet, after: &Packet) -> [Option<(Manip, Endpoint, Endpoint)>; 2] {
    let differ = |a: Option<Endpoint>, b: Option<Endpoint>| {
        let (a, b) = (a?, b?);
        let ports_differ = matches!((a.port, b.port), (Some(x), Some(y)) if x != y);
        (a.addr != b.addr || ports_differ).then_some((a, b))
    };
    [
        differ(before.destination, after.destination).map(|(a, b)| (Manip::Dnat, a, b)),
        differ(before.source, after.source).map(|(a, b)| (Manip::Snat, a, b)),
    ]
}

impl Open {
    /// Takes over headers, and adds a rewrite for each end that changed since they were last seen. Headers
    /// of another payload are another layer (a tunnel's), not a rewrite.
    pub(super) fn see_header(&mut self, at: Moment, now: &Packet) {
        if self.header.same_payload(now) {
            let reply = self.is_reply();
            let visit = self.current();
            for (nat, from, to) in changes(&self.header, now).into_iter().flatten() {
                let note = Note::Rewrite { reply, exact: false };
                self.push(at, rewrite_step(nat, from, to), visit, note);
            }
        }
        self.header = now.clone();
    }

    /// Adds what the kernel's rewriting function did.
    pub(super) fn rewritten(&mut self, at: Moment, rewrite: &Rewrite) {
        // What changed before the function was entered was somebody else's doing.
        self.see_header(at, &rewrite.before);
        let visit = self.current();
        let reply = rewrite.direction == Direction::Reply;
        for (nat, from, to) in changes(&rewrite.before, &rewrite.after).into_iter().flatten() {
            let note = Note::Rewrite { reply, exact: true };
            self.push(at, rewrite_step(nat, from, to), visit, note);
        }
        self.header = rewrite.after.clone();
    }

    fn is_reply(&self) -> bool {
        self.connection.as_ref().is_some_and(|c| c.direction == Some(Direction::Reply))
    }
}

fn rewrite_step(nat: Manip, from: Endpoint, to: Endpoint) -> StepKind {
    StepKind::Rewrite { nat, from, to, rule: None, by: RewrittenBy::Other }
}

/// Who decided one rewrite.
pub(super) struct Decision {
    pub(super) by: RewrittenBy,
    pub(super) rule: Option<RuleRef>,
    /// Index of the draft of the rule, when it is of this very packet.
    pub(super) draft: Option<usize>,
}

/// Decides for the rewrite at `index`. `is_nat` tells of a chain whether it is of type nat, when known;
/// `remembered` gives the rule that once decided for this end of the connection's original direction.
pub(super) fn decide(
    drafts: &[Draft],
    index: usize,
    open: &Open,
    is_nat: impl Fn(&ChainName, &Draft) -> Option<bool>,
    remembered: impl Fn(Manip) -> Option<RuleRef>,
) -> Decision {
    let other = Decision { by: RewrittenBy::Other, rule: None, draft: None };
    let Some(draft) = drafts.get(index) else { return other };
    let (StepKind::Rewrite { nat, from, to, .. }, Note::Rewrite { reply, exact }) =
        (&draft.step.kind, &draft.note)
    else {
        return other;
    };
    if is_icmp_error(&open.packet) {
        return Decision { by: RewrittenBy::IcmpError, ..other };
    }
    if !reply && let Some((at, rule)) = deciding_rule(drafts, index, *nat, is_nat) {
        return Decision { by: RewrittenBy::Rule, rule: Some(rule), draft: Some(at) };
    }
    let offloaded =
        open.connection.as_ref().and_then(|c| c.status).is_some_and(|status| status & IPS_OFFLOADED != 0);
    if offloaded && !exact && open.visits.last().is_some_and(|v| v.hook == HookPoint::Ingress) {
        return Decision { by: RewrittenBy::Flowtable, ..other };
    }
    if !exact && open.connection.as_ref().is_some_and(|c| excludes(c, *nat, *from, *to)) {
        return other;
    }
    // Seen from the reply, the mapping of the other end is undone.
    let end = match (reply, nat) {
        (false, nat) => *nat,
        (true, Manip::Snat) => Manip::Dnat,
        (true, Manip::Dnat) => Manip::Snat,
    };
    Decision { by: RewrittenBy::Connection, rule: remembered(end), draft: None }
}

fn deciding_rule(
    drafts: &[Draft],
    index: usize,
    nat: Manip,
    is_nat: impl Fn(&ChainName, &Draft) -> Option<bool>,
) -> Option<(usize, RuleRef)> {
    let visit = drafts.get(index)?.visit?;
    let mut unknown_text = None;
    for (at, draft) in drafts.iter().enumerate().take(index).rev().filter(|(_, d)| d.visit == Some(visit)) {
        let (StepKind::Rule(step), Note::Rule { base, .. }) = (&draft.step.kind, &draft.note) else {
            continue;
        };
        if is_nat(base, draft) == Some(false) {
            continue;
        }
        match &step.rule.text {
            Some(text) if nat_statement(text) == Some(nat) => return Some((at, step.rule.clone())),
            // A NAT statement accepts; so where no text is known, the rule of a nat chain that did is it.
            None if step.verdict == Verdict::Accept
                && is_nat(base, draft) == Some(true)
                && unknown_text.is_none() =>
            {
                unknown_text = Some((at, step.rule.clone()));
            }
            _ => {}
        }
    }
    unknown_text
}

/// Whether the connection's own mapping rules out that it did this.
fn excludes(connection: &Connection, nat: Manip, from: Endpoint, to: Endpoint) -> bool {
    if connection.status.is_some_and(|status| status & (IPS_SRC_NAT | IPS_DST_NAT) != 0) {
        return false;
    }
    let (Some(original), Some(reply)) = (connection.original, connection.reply) else { return false };
    let unmapped = original.source == reply.destination && original.destination == reply.source;
    let ends = match nat {
        Manip::Dnat => [original.destination, reply.destination],
        Manip::Snat => [original.source, reply.source],
    };
    unmapped && ends.contains(&from) && !ends.contains(&to)
}

/// ICMP errors are translated by a path of their own (`nf_nat_icmp_reply_translation`).
fn is_icmp_error(packet: &Packet) -> bool {
    packet.icmp.is_some_and(|icmp| match packet.protocol {
        Some(protocol::ICMP) => matches!(icmp.kind, 3 | 4 | 5 | 11 | 12),
        Some(protocol::ICMPV6) => icmp.kind < 128 || icmp.kind == 137,
        _ => false,
    })
}
