//! Rewrites: that an address changed, and who decided it.
//!
//! A probe on the kernel's rewriting function tells directly. Without it, the headers of successive
//! observations are compared: the change lies between them, and so in the hook that the packet was in.
//!
//! Who decided: chains of type nat are evaluated for the first packet of a connection only. So when rules of
//! such a chain matched in the same passage through the hook, the last of them that has a NAT statement for
//! the end that changed decided. Every later packet, and every reply, is rewritten by what the connection
//! remembers; the rule that once decided is remembered with it.

use super::open::{ChainName, Draft, Moment, Note, Open, Place, Visit};
use super::{JourneyId, RewrittenBy, RuleRef, StepKind};
use crate::conntrack::{Connection, Direction, IPS_DST_NAT, IPS_SRC_NAT};
use crate::event::{HookPoint, HookVerdict, Manip, Rewrite, Verdict};
use crate::name::Name;
use crate::packet::{Endpoint, Packet, Quoted};
use crate::ruleset::{does_nat, keeps_port};

/// `IPS_OFFLOAD` and `IPS_HW_OFFLOAD`.
const IPS_OFFLOADED: u32 = 1 << 14 | 1 << 15;

/// Where the kernel takes a verdict from the program that reads a queue, and the packet as that made it
/// (`nfqnl_mangle`, net/netfilter/nfnetlink_queue.c, v6.12).
const QUEUE_READER: &str = "nfqnl_recv_verdict";

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
        self.sees(at, now, || None);
        if self.header.begins_like(now) {
            return;
        }
        if self.packet.length == 0 && self.packet.same_payload(now) {
            self.packet.length = now.length;
        }
        let writer = self.writer.take().or_else(|| self.is_back_from_queue().then(|| QUEUE_READER.into()));
        if self.header.same_payload(now) {
            let reply = self.is_reply();
            let visit = self.current();
            // The kernel translates what an error quotes before the error itself.
            for (nat, from, to) in quoted_changes(self.quoted, quoted(now)).into_iter().flatten() {
                let kind = rewrite_step(nat, from, to, true, None);
                self.push(at, kind, visit, Note::Rewrite { reply, exact: false });
            }
            for (nat, from, to) in changes(&self.header, now).into_iter().flatten() {
                let note = Note::Rewrite { reply, exact: false };
                self.push(at, rewrite_step(nat, from, to, false, writer.clone()), visit, note);
            }
        }
        self.header = now.clone();
        self.quoted = quoted(now).or(self.quoted);
    }

    /// Adds what the kernel's rewriting function did.
    pub(super) fn rewritten(&mut self, at: Moment, rewrite: &Rewrite) {
        // What changed before the function was entered was somebody else's doing.
        self.see_header(at, &rewrite.before);
        // Behind a hook it is within the next one, whose return will tell.
        let visit = self.current().filter(|at| self.visits.get(*at).is_some_and(|v| !v.over));
        let reply = rewrite.direction == Direction::Reply;
        for (nat, from, to) in changes(&rewrite.before, &rewrite.after).into_iter().flatten() {
            let note = Note::Rewrite { reply, exact: true };
            self.push(at, rewrite_step(nat, from, to, false, None), visit, note);
        }
        self.sees(at, &rewrite.after, || None);
        self.header = rewrite.after.clone();
    }

    /// Whether a program in user space had the packet since it was last seen.
    fn is_back_from_queue(&self) -> bool {
        let queued = |visit: &Visit| visit.exact && visit.over && visit.verdict == Some(HookVerdict::Queue);
        self.place == Place::Hook && self.visits.last().is_some_and(queued)
    }

    /// Whether a change of the header that the return of a hook shows was made before the packet entered it: by XDP or tc
    /// since a device gave it, or while it was in a queue.
    pub(super) fn was_written_before_hook(&self) -> bool {
        self.is_back_from_queue() || self.writer.is_some() && matches!(self.place, Place::Received(_))
    }

    fn is_reply(&self) -> bool {
        self.connection.as_ref().is_some_and(|c| c.direction == Some(Direction::Reply))
    }
}

/// The packet that an ICMP error quotes.
pub(super) fn quoted(packet: &Packet) -> Option<Quoted> {
    packet.icmp.and_then(|icmp| icmp.about)
}

/// The ends that differ in what an error quotes.
fn quoted_changes(before: Option<Quoted>, after: Option<Quoted>) -> [Option<(Manip, Endpoint, Endpoint)>; 2] {
    let (Some(before), Some(after)) = (before, after) else { return [None, None] };
    [
        (before.destination != after.destination).then_some((
            Manip::Dnat,
            before.destination,
            after.destination,
        )),
        (before.source != after.source).then_some((Manip::Snat, before.source, after.source)),
    ]
}

fn rewrite_step(nat: Manip, from: Endpoint, to: Endpoint, inner: bool, function: Option<Name>) -> StepKind {
    StepKind::Rewrite {
        nat,
        from,
        to,
        rule: None,
        by: RewrittenBy::Other,
        decided_for: None,
        inner,
        port_unasked: false,
        older: false,
        function,
    }
}

/// Who decided one rewrite.
pub(super) struct Decision {
    pub(super) by: RewrittenBy,
    pub(super) rule: Option<RuleRef>,
    /// The earlier packet for which the rule decided, where its journey is complete.
    pub(super) decided_for: Option<JourneyId>,
    /// Index of the draft of the rule, when it is of this very packet.
    pub(super) draft: Option<usize>,
    /// The port changed although nothing asked for it.
    pub(super) port_unasked: bool,
}

/// Decides for the rewrite at `index`. `is_nat` tells of a chain whether it is of type nat, when known;
/// `remembered` gives the rule that once decided for this end of the connection's original direction.
pub(super) fn decide(
    drafts: &[Draft],
    index: usize,
    open: &Open,
    is_nat: impl Fn(&ChainName, &Draft) -> Option<bool>,
    remembered: impl Fn(Manip) -> Option<(RuleRef, Option<JourneyId>)>,
) -> Decision {
    let other =
        Decision { by: RewrittenBy::Other, rule: None, decided_for: None, draft: None, port_unasked: false };
    let Some(draft) = drafts.get(index) else { return other };
    let (StepKind::Rewrite { nat, from, to, inner, function, .. }, Note::Rewrite { reply, exact }) =
        (&draft.step.kind, &draft.note)
    else {
        return other;
    };
    if let Some(function) = function {
        // A rule that is told next, behind the queue, may have written before it was told.
        let rule = drafts.iter().enumerate().skip(index).find_map(|(at, draft)| match &draft.step.kind {
            StepKind::Rule(step) => Some((at, &step.rule)),
            _ => None,
        });
        return match rule.filter(|(_, rule)| function == QUEUE_READER && writes(rule, *nat)) {
            Some((at, rule)) => Decision { rule: Some(rule.clone()), draft: Some(at), ..other },
            None => Decision { by: written_by(function), ..other },
        };
    }
    // Seen from the reply, the mapping of the other end is undone; and what an error quotes went the other way.
    let end = match (*reply != *inner, nat) {
        (false, nat) => *nat,
        (true, Manip::Snat) => Manip::Dnat,
        (true, Manip::Dnat) => Manip::Snat,
    };
    // Translated by a path of their own (nf_nat_icmp_reply_translation).
    if open.packet.is_icmp_error() {
        let (rule, decided_for) = remembered(end).map_or((None, None), |(rule, at)| (Some(rule), at));
        return Decision { by: RewrittenBy::IcmpError, rule, decided_for, ..other };
    }
    let port_changed = *nat == Manip::Snat && from.port != to.port;
    if !reply && let Some((at, rule)) = deciding_rule(drafts, index, *nat, &is_nat) {
        let port_unasked = port_changed && rule.text.as_deref().is_some_and(keeps_port);
        return Decision { by: RewrittenBy::Rule, rule: Some(rule), draft: Some(at), port_unasked, ..other };
    }
    if !reply && let Some((at, rule)) = writing_rule(drafts, index, *nat, *to, open, *exact) {
        return Decision { rule: Some(rule), draft: Some(at), ..other };
    }
    let offloaded =
        open.connection.as_ref().and_then(|c| c.status).is_some_and(|status| status & IPS_OFFLOADED != 0);
    if offloaded && !exact && open.visits.last().is_some_and(|v| v.hook == HookPoint::Ingress) {
        return Decision { by: RewrittenBy::Flowtable, ..other };
    }
    if !exact && open.connection.as_ref().is_some_and(|c| excludes(c, *nat, *from, *to)) {
        return other;
    }
    if let Some((rule, decided_for)) = remembered(end) {
        return Decision { by: RewrittenBy::Connection, rule: Some(rule), decided_for, ..other };
    }
    // The connection began with this packet: nothing was remembered, and no rule that was seen asked for it. A source
    // that keeps its address gets another port only from conntrack itself (nf_nat_alloc_null_binding).
    if open.fresh && !reply {
        return Decision { port_unasked: port_changed && from.addr == to.addr, ..other };
    }
    Decision { by: RewrittenBy::Connection, ..other }
}

/// Whose function writes into headers by itself.
fn written_by(function: &str) -> RewrittenBy {
    match function {
        "nf_flow_offload_ip_hook" | "nf_flow_offload_ipv6_hook" => RewrittenBy::Flowtable,
        _ if function.ends_with("nat_handler") => RewrittenBy::Ipvs,
        _ => RewrittenBy::Other,
    }
}

/// The rule that wrote the new address into the header itself (`ip daddr set …`), where the change is not NAT's.
fn writing_rule(
    drafts: &[Draft],
    index: usize,
    nat: Manip,
    to: Endpoint,
    open: &Open,
    exact: bool,
) -> Option<(usize, RuleRef)> {
    if exact {
        return None;
    }
    let maps = |c: &Connection| {
        [c.original, c.reply].into_iter().flatten().any(|t| t.source == to || t.destination == to)
    };
    let visit = drafts.get(index)?.visit?;
    // By comparing headers the change is seen at the next message, be it of this rule or of the one after it.
    let at = |(at, draft): (usize, &Draft)| {
        let StepKind::Rule(step) = &draft.step.kind else { return None };
        (draft.visit == Some(visit) && writes(&step.rule, nat)).then(|| (at, step.rule.clone()))
    };
    let found = drafts.iter().enumerate().take(index + 2).rev().find_map(at)?;
    let mapped = open
        .connection
        .as_ref()
        .is_some_and(|c| c.status.is_some_and(|status| status & (IPS_SRC_NAT | IPS_DST_NAT) != 0) && maps(c));
    (!mapped).then_some(found)
}

/// Whether a rule writes this end of headers by itself.
fn writes(rule: &RuleRef, nat: Manip) -> bool {
    let fields = if nat == Manip::Dnat { ["daddr set", "dport set"] } else { ["saddr set", "sport set"] };
    rule.text.as_deref().is_some_and(|text| fields.iter().any(|field| text.contains(field)))
}

fn deciding_rule(
    drafts: &[Draft],
    index: usize,
    nat: Manip,
    is_nat: &impl Fn(&ChainName, &Draft) -> Option<bool>,
) -> Option<(usize, RuleRef)> {
    let visit = drafts.get(index)?.visit?;
    let mut unknown_text = None;
    let mut later = false;
    for (at, draft) in drafts.iter().enumerate().take(index).rev().filter(|(_, d)| d.visit == Some(visit)) {
        if !matches!(draft.step.kind, StepKind::Rule(_) | StepKind::Policy { .. }) {
            continue;
        }
        let last = !std::mem::replace(&mut later, true);
        let (StepKind::Rule(step), Note::Rule { base, .. }) = (&draft.step.kind, &draft.note) else {
            if let Some(rule) = super::legacy::deciding_rule(draft, nat, last) {
                return Some((at, rule));
            }
            continue;
        };
        if is_nat(base, draft) == Some(false) {
            continue;
        }
        match &step.rule.text {
            Some(text) if does_nat(text, nat, step.hook) => return Some((at, step.rule.clone())),
            // A NAT statement accepts; so where no text is known, the rule of a nat chain that did is it.
            None if step.verdict == Some(Verdict::Accept)
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::conntrack::{State, Tuple};
    use crate::event::{HookVerdict, NfFamily};
    use crate::journey::{Backend, RuleStep};
    use crate::packet::{Icmp, datagram, protocol};

    fn end(last: u8, port: u16) -> Endpoint {
        Endpoint { addr: [10, 0, 0, last].into(), port: Some(port) }
    }

    fn packet() -> Packet {
        datagram(end(1, 1000), end(2, 80))
    }

    const AT: Moment = Moment { time_ns: 1, cpu: 0, netns: 1 };

    fn base() -> Arc<ChainName> {
        Arc::new(ChainName { family: NfFamily::Inet, table: "nat".into(), chain: "prerouting".into() })
    }

    /// A packet in PREROUTING that matched these rules of a base chain.
    fn open(rules: &[(u64, Option<&str>, Verdict)]) -> Open {
        let mut open = Open::new(AT, Some(1), packet());
        let visit = open.enter(AT, HookPoint::Prerouting, NfFamily::Ip, None, None, true);
        for (handle, text, verdict) in rules {
            let rule = RuleRef {
                backend: Backend::Nft,
                family: NfFamily::Inet,
                table: "nat".into(),
                chain: "prerouting".into(),
                handle: *handle,
                text: text.map(Name::from),
                nft_text: None,
            };
            let step =
                RuleStep { rule, verdict: Some(verdict.clone()), or_end: false, hook: None, mark: None };
            let note = Note::Rule { table_handle: None, base: base() };
            open.push(AT, StepKind::Rule(Box::new(step)), Some(visit), note);
        }
        open
    }

    fn rewritten(mut open: Open, is_nat: Option<bool>) -> (RewrittenBy, Option<u64>) {
        let to = Packet { destination: Some(end(9, 8080)), ..open.header.clone() };
        open.see_header(AT, &to);
        let index = open.drafts.len() - 1;
        let decision = decide(&open.drafts, index, &open, |_, _| is_nat, |_| None);
        (decision.by, decision.rule.map(|r| r.handle))
    }

    #[test]
    fn the_last_rule_with_a_statement_for_that_end_decided() {
        let accept = Verdict::Accept;
        let dnat = "dnat to 10.0.0.9:8080";
        let cases = [
            (vec![(4, Some(dnat), accept.clone())], Some(true), (RewrittenBy::Rule, Some(4))),
            (
                vec![(3, Some("counter"), Verdict::Continue), (4, Some(dnat), accept.clone())],
                Some(true),
                (RewrittenBy::Rule, Some(4)),
            ),
            (vec![(4, Some("masquerade"), accept.clone())], Some(true), (RewrittenBy::Connection, None)),
            (vec![(4, Some(dnat), accept.clone())], Some(false), (RewrittenBy::Connection, None)),
            (vec![(4, Some(dnat), accept.clone())], None, (RewrittenBy::Rule, Some(4))),
            (vec![(4, None, accept.clone())], Some(true), (RewrittenBy::Rule, Some(4))),
            (vec![(4, None, accept.clone())], None, (RewrittenBy::Connection, None)),
            (vec![(4, None, Verdict::Continue)], Some(true), (RewrittenBy::Connection, None)),
            (vec![], Some(true), (RewrittenBy::Connection, None)),
        ];
        for (rules, is_nat, expected) in cases {
            assert_eq!(rewritten(open(&rules), is_nat), expected, "{rules:?} {is_nat:?}");
        }
    }

    #[test]
    fn replies_are_rewritten_by_their_connection_and_errors_by_themselves() {
        let rules = [(4, Some("dnat to 10.0.0.9:8080"), Verdict::Accept)];
        let mut reply = open(&rules);
        reply.connection = Some(Connection { direction: Some(Direction::Reply), ..Connection::default() });
        assert_eq!(rewritten(reply, Some(true)).0, RewrittenBy::Connection);

        let mut error = open(&[]);
        error.packet.protocol = Some(protocol::ICMP);
        error.packet.icmp = Some(Icmp { kind: 3, code: 1, id: None, sequence: None, about: None });
        assert_eq!(rewritten(error, None).0, RewrittenBy::IcmpError);
    }

    #[test]
    fn a_connection_without_nat_did_not_rewrite() {
        let mut plain = open(&[]);
        let original = Tuple { protocol: 17, source: end(1, 1000), destination: end(2, 80) };
        let reply = Tuple { protocol: 17, source: end(2, 80), destination: end(1, 1000) };
        plain.connection = Some(Connection {
            state: Some(State::New),
            direction: Some(Direction::Original),
            status: Some(0),
            original: Some(original),
            reply: Some(reply),
            ..Connection::default()
        });
        assert_eq!(rewritten(plain, None).0, RewrittenBy::Other);
    }

    #[test]
    fn the_fast_path_rewrites_where_no_other_hook_is_seen() {
        let mut fast = Open::new(AT, Some(1), packet());
        let visit = fast.enter(AT, HookPoint::Ingress, NfFamily::Netdev, None, None, true);
        fast.decide(visit, HookVerdict::Stolen);
        fast.connection = Some(Connection { status: Some(1 << 14 | IPS_DST_NAT), ..Connection::default() });
        assert_eq!(rewritten(fast, None).0, RewrittenBy::Flowtable);
    }

    /// A packet in PREROUTING that these rules queued, back with another destination.
    fn back_from_queue(later: Option<&str>) -> (RewrittenBy, Option<Name>) {
        let mut queued = open(&[(4, Some("queue to 7"), Verdict::Queue(7))]);
        queued.decide(0, HookVerdict::Queue);
        queued.visits[0].over = true;
        let to = Packet { destination: Some(end(9, 8080)), ..queued.header.clone() };
        queued.see_header(AT, &to);
        let index = queued.drafts.len() - 1;
        if later.is_some() {
            let mut rest = open(&[(5, later, Verdict::Continue)]);
            queued.drafts.append(&mut rest.drafts);
        }
        let known = || {
            let drafts = open(&[(6, Some("dnat to 10.0.0.9:8080"), Verdict::Accept)]).drafts;
            drafts.into_iter().find_map(|draft| match draft.step.kind {
                StepKind::Rule(step) => Some((step.rule, None)),
                _ => None,
            })
        };
        let decision = decide(&queued.drafts, index, &queued, |_, _| Some(false), |_| known());
        (decision.by, decision.rule.and_then(|rule| rule.text))
    }

    #[test]
    fn what_changed_in_a_queue_is_its_readers_doing_unless_a_rule_says_so() {
        assert_eq!(back_from_queue(None), (RewrittenBy::Other, None));
        assert_eq!(back_from_queue(Some("counter")), (RewrittenBy::Other, None));
        let set = "ip daddr set 10.0.0.9";
        assert_eq!(back_from_queue(Some(set)), (RewrittenBy::Other, Some(set.into())));
    }

    #[test]
    fn both_ends_make_two_steps_and_another_layer_none() {
        let mut both = open(&[]);
        let to = Packet { source: Some(end(7, 7)), destination: Some(end(8, 8)), ..packet() };
        both.see_header(AT, &to);
        let kinds: Vec<_> = both
            .drafts
            .iter()
            .filter_map(|d| match &d.step.kind {
                StepKind::Rewrite { nat, from, to, .. } => Some((*nat, *from, *to)),
                _ => None,
            })
            .collect();
        assert_eq!(kinds, [(Manip::Dnat, end(2, 80), end(8, 8)), (Manip::Snat, end(1, 1000), end(7, 7))]);

        let mut tunnelled = open(&[]);
        tunnelled.see_header(AT, &Packet { protocol: Some(47), length: 84, ..to });
        assert!(!tunnelled.drafts.iter().any(|d| matches!(d.step.kind, StepKind::Rewrite { .. })));

        let mut fragment = open(&[]);
        let portless = |e: Endpoint| Some(Endpoint { port: None, ..e });
        fragment.header.source = portless(end(1, 1000));
        fragment.header.destination = portless(end(2, 80));
        fragment.see_header(AT, &packet());
        assert!(!fragment.drafts.iter().any(|d| matches!(d.step.kind, StepKind::Rewrite { .. })));
    }
}
