//! Who dropped it, and what that means.

use super::{Certainty, Finding};
use crate::conntrack::{Direction, State};
use crate::journey::{DropCause, Journey, KernelDrop, Outcome, StepKind};
use crate::packet::{protocol, tcp_flag};
use crate::ruleset::iptables_target;

/// What can be said of a journey for certain.
#[must_use]
pub fn find(journey: &Journey) -> Vec<Finding> {
    let Outcome::Dropped(cause) = &journey.outcome else { return Vec::new() };
    let mut findings = Vec::new();
    let found = match cause {
        DropCause::Rule { .. } => dropped_by_rule(journey, cause),
        DropCause::Policy { .. } => dropped_by_policy(journey, cause),
        DropCause::Kernel(drop) => dropped_by_kernel(journey, drop),
    };
    // A socket that is gone, or a route that is missing, is as missing for replies as for others.
    if matches!(cause, DropCause::Rule { .. } | DropCause::Policy { .. })
        && let Some(reply) =
            reply_dropped(journey, found.as_ref()).or_else(|| syn_ack_dropped(journey, found.as_ref()))
    {
        findings.push(reply);
    }
    findings.extend(found);
    findings
}

fn dropped_by_rule(journey: &Journey, cause: &DropCause) -> Option<Finding> {
    let DropCause::Rule { rule, hook } = cause else { return None };
    let at = last_step(journey, |kind| matches!(kind, StepKind::Rule(step) if step.rule == *rule))?;
    let (table, chain) = (&rule.table, &rule.chain);
    let place = hook.map(|hook| format!(" in {}", hook.name())).unwrap_or_default();
    let text = match &rule.text {
        Some(text) => format!(
            "The rule \"{text}\" in chain {chain} of table {} {table} ({}) dropped it{place}.",
            rule.backend.owner(rule.family),
            rule.in_chain()
        ),
        None => format!(
            "The rule with {} in chain {chain} of table {} {table} dropped it{place}; its text is not known.",
            rule.in_chain(),
            rule.backend.owner(rule.family)
        ),
    };
    // `tproxy_tg4`, net/netfilter/xt_TPROXY.c, v6.12.
    let proxies =
        rule.text.as_deref().and_then(iptables_target).is_some_and(|to| to.name() == Some("TPROXY"));
    let text = if proxies {
        format!(
            "{text} TPROXY does so where no socket takes it: does the proxy run, on that port, with IP_TRANSPARENT?"
        )
    } else {
        text
    };
    // The rules that led into the chain are part of the proof.
    let mut steps: Vec<usize> = Vec::new();
    let mut wanted = chain.clone();
    for (index, step) in journey.steps.iter().enumerate().take(at).rev() {
        let StepKind::Rule(step) = &step.kind else { continue };
        let leads = matches!(
            &step.verdict,
            Some(crate::event::Verdict::Jump(to) | crate::event::Verdict::Goto(to)) if *to == wanted
        );
        if leads
            && step.rule.table == *table
            && step.rule.family == rule.family
            && step.rule.backend == rule.backend
        {
            steps.push(index);
            wanted.clone_from(&step.rule.chain);
        }
    }
    steps.reverse();
    steps.push(at);
    Some(Finding {
        code: "dropped-by-rule",
        text,
        fix: Vec::new(),
        certainty: Certainty::Certain,
        steps,
        near: None,
    })
}

fn dropped_by_policy(journey: &Journey, cause: &DropCause) -> Option<Finding> {
    let DropCause::Policy { backend, family, table, chain, hook } = cause else { return None };
    let at = last_step(
        journey,
        |kind| matches!(kind, StepKind::Policy { backend: b, family: f, table: t, chain: c, .. } if b == backend && f == family && t == table && c == chain),
    )?;
    let place = hook.map(|hook| format!(" in {}", hook.name())).unwrap_or_default();
    let text = format!(
        "No rule accepted it, so the policy of chain {chain} of table {} {table}, which is drop, dropped it{place}.",
        backend.owner(*family)
    );
    let certainty = Certainty::Certain;
    Some(Finding { code: "dropped-by-policy", text, fix: Vec::new(), certainty, steps: vec![at], near: None })
}

fn dropped_by_kernel(journey: &Journey, drop: &KernelDrop) -> Option<Finding> {
    let KernelDrop { hook, text, check, fix, .. } = drop;
    let at = last_step(journey, |kind| match (kind, hook) {
        (StepKind::Drop(_), _) => true,
        (StepKind::Hook { hook: seen, .. }, Some(hook)) => seen == hook,
        _ => false,
    })?;
    let text = match check {
        Some(check) => format!("{text} {check}"),
        None => text.to_string(),
    };
    let certainty = if drop.likely { Certainty::Likely } else { Certainty::Certain };
    let code = drop.cause.unwrap_or("dropped-by-kernel");
    Some(Finding {
        code,
        text,
        fix: fix.iter().map(ToString::to_string).collect(),
        certainty,
        steps: vec![at],
        near: None,
    })
}

/// A packet can only be a reply when the first packet of its connection got through here: conntrack confirms
/// a connection behind the last hook of its first packet. What only belongs to it (`IP_CT_RELATED`) says nothing of that: the
/// error, or the reset, that this host sends for what it refuses has the refused packet's connection (`nf_ct_attach`).
fn reply_dropped(journey: &Journey, cause: Option<&Finding>) -> Option<Finding> {
    let connection = journey.connection.as_ref()?;
    if connection.direction != Some(Direction::Reply) {
        return None;
    }
    let name = match connection.original {
        Some(original) => {
            let protocol = protocol::name(original.protocol).unwrap_or("other");
            format!("the {protocol} connection from {} to {}", original.source, original.destination)
        }
        None => "its connection".to_owned(),
    };
    let related = connection.state == Some(State::Related);
    let (code, text) = if journey.packet.is_icmp_error() {
        ("error-dropped", format!("It is an ICMP error about {name}: whom that is for does not learn of it."))
    } else if related && journey.packet.tcp_flags.is_some_and(|flags| flags & tcp_flag::RST != 0) {
        (
            "error-dropped",
            format!("It is a reset that refuses {name}: whom that is for does not learn of it."),
        )
    } else if related {
        return None;
    } else {
        (
            "reply-dropped",
            format!("It is a reply: the way there was let through for {name}, the way back is not."),
        )
    };
    Some(Finding {
        code,
        text,
        fix: Vec::new(),
        certainty: Certainty::Certain,
        steps: cause.map(|finding| finding.steps.clone()).unwrap_or_default(),
        near: None,
    })
}

/// Where conntrack does not know a connection, its second packet says by itself what it is.
fn syn_ack_dropped(journey: &Journey, cause: Option<&Finding>) -> Option<Finding> {
    if !journey.packet.is_syn_ack() || journey.connection.as_ref().is_some_and(|c| c.direction.is_some()) {
        return None;
    }
    Some(Finding {
        code: "reply-dropped",
        text: "It is a reply, a SYN-ACK: its sender got the SYN, and the way back is not let through."
            .to_owned(),
        fix: Vec::new(),
        certainty: Certainty::Certain,
        steps: cause.map(|finding| finding.steps.clone()).unwrap_or_default(),
        near: None,
    })
}

fn last_step(journey: &Journey, is_it: impl Fn(&StepKind) -> bool) -> Option<usize> {
    journey.steps.iter().rposition(|step| is_it(&step.kind))
}
