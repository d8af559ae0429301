//! Steps to rows: the way of the packet, and its end.

use nattrace_core::event::{HookPoint, HookVerdict, NetnsId, NfFamily, Verdict};
use nattrace_core::journey::{
    Backend, DeviceStep, Journey, JourneyId, KernelDrop, Outcome, RewrittenBy, RuleRef, RuleStep, Step,
    StepKind,
};
use nattrace_core::ruleset::iptables_target;

use super::words;
use crate::render::chains::{Chains, Place, beside_chain};
use crate::render::layout::Row;
use crate::render::namespaces::Namespaces;
use crate::render::style::{Role, Span};

/// The rows of a journey, from its first step to its end.
pub(in crate::render) fn rows(journey: &Journey, namespaces: &Namespaces) -> Vec<Row> {
    by_step(journey, namespaces).into_iter().map(|(_, row)| row).collect()
}

/// The same, each with the number of the step it tells of; behind the last step's are those of the end.
pub(in crate::render) fn by_step(journey: &Journey, namespaces: &Namespaces) -> Vec<(usize, Row)> {
    let mut writer = Writer {
        journey,
        rows: Vec::new(),
        at: 0,
        chains: Chains::default(),
        netns: journey.netns.inum,
        hook: None,
        waiting: None,
        oif: None,
        mark: journey.packet.mark,
        last_rule: None,
    };
    let usual = |step: &Step| match step.kind {
        StepKind::Connection { event, .. } => words::connection(event).is_none(),
        _ => false,
    };
    let (first, told) = told_by_steps(journey);
    let steps: Vec<(usize, &Step)> = (first..).zip(told).filter(|(_, step)| !usual(step)).collect();
    for (i, (at, step)) in steps.iter().enumerate() {
        writer.at = *at;
        writer.step(step, steps.get(i + 1).map(|(_, next)| *next), namespaces);
    }
    writer.at = journey.steps.len();
    writer.end();
    writer.rows
}

/// The steps without those at both ends that the header and the last line tell anyway, and the number of the first.
fn told_by_steps(journey: &Journey) -> (usize, &[Step]) {
    let (mut steps, mut at) = (journey.steps.as_slice(), 0);
    if let Some((first, rest)) = steps.split_first()
        && let StepKind::Device { event: DeviceStep::Receive, name } = &first.kind
        && Some(name) == journey.iif.as_ref()
        && first.netns == journey.netns.inum
    {
        (steps, at) = (rest, 1);
    }
    if let Some((last, rest)) = steps.split_last() {
        let told = match (&last.kind, &journey.outcome) {
            (StepKind::Drop(_), Outcome::Dropped(_)) | (StepKind::Deliver { .. }, Outcome::Delivered) => true,
            (StepKind::Device { event: DeviceStep::Transmit, name }, Outcome::Transmitted { device }) => {
                device.as_ref() == Some(name)
            }
            _ => false,
        };
        if told {
            steps = rest;
        }
    }
    (at, steps)
}

struct Writer<'a> {
    journey: &'a Journey,
    rows: Vec<(usize, Row)>,
    /// The step that is told.
    at: usize,
    chains: Chains<'a>,
    netns: NetnsId,
    /// The hook that the last row belongs to.
    hook: Option<HookPoint>,
    /// A hook that was entered and has no row yet.
    waiting: Option<HookPoint>,
    /// The device out that was told last.
    oif: Option<&'a str>,
    mark: u32,
    last_rule: Option<&'a RuleRef>,
}

impl<'a> Writer<'a> {
    fn step(&mut self, step: &'a Step, next: Option<&'a Step>, namespaces: &Namespaces) {
        if step.netns != self.netns {
            self.netns = step.netns;
            self.leave_hook();
            let name = namespaces.name(step.netns).map_or_else(|| step.netns.to_string(), str::to_owned);
            self.push(Span::new(Role::Label, "netns"), None, vec![Span::new(Role::Title, name)]);
        }
        match &step.kind {
            StepKind::Hook { hook, family, iif, oif, verdict } => {
                self.leave_hook();
                self.waiting = Some(*hook);
                let inside =
                    next.is_some_and(|next| next.netns == step.netns && is_inside(&next.kind, *hook));
                let moved = oif.is_some() && oif.as_deref() != self.oif;
                if moved || !inside {
                    let mut told = Vec::new();
                    if moved {
                        told.push(Span::new(Role::Plain, words::devices(iif.as_deref(), oif.as_deref())));
                        self.oif = oif.as_deref();
                    }
                    if !inside {
                        let comma = if told.is_empty() { "" } else { ", " };
                        told.push(Span::new(
                            Role::Faint,
                            format!("{comma}{}", hook_answer(*family, *verdict)),
                        ));
                    }
                    self.in_hook(None, told);
                }
            }
            StepKind::Rule(rule) => self.rule(rule),
            StepKind::Policy { backend, family, table, chain, verdict, hook } => {
                self.enter(*hook);
                let place = self.place(*backend, *family, table, chain);
                let role = if *verdict == Verdict::Drop { Role::DropRule } else { Role::Faint };
                self.chains.said(verdict);
                self.in_hook(Some(place), vec![Span::new(role, format!("policy {verdict}"))]);
            }
            StepKind::Rewrite { .. } => self.rewrite(&step.kind),
            StepKind::Connection { event, .. } => {
                if let Some(told) = words::connection(*event) {
                    let told = vec![Span::new(Role::Plain, told)];
                    self.push(Span::new(Role::Label, "conntrack"), None, told);
                }
            }
            StepKind::Route { decision, oif, gateway, matched } => {
                self.leave_hook();
                // The first decision for a packet of this host stands before its output hook, a re-route after it.
                let output = |kind: &StepKind| matches!(kind, StepKind::Hook { hook: HookPoint::Output, .. });
                let here =
                    self.hook == Some(HookPoint::Output) || next.is_some_and(|next| output(&next.kind));
                let told = words::route(*decision, oif.as_deref(), *gateway, matched.as_ref(), here);
                self.oif = oif.as_deref().or(self.oif);
                self.push(Span::new(Role::Label, "route"), None, vec![Span::new(Role::Plain, told)]);
            }
            StepKind::Device { event, name } => {
                self.leave_hook();
                let way = match event {
                    DeviceStep::Receive => "in",
                    DeviceStep::Transmit => "out",
                };
                let told = vec![Span::new(Role::Plain, format!("{way} {name}"))];
                self.push(Span::new(Role::Label, "device"), None, told);
            }
            StepKind::Deliver { protocol, local, function } => {
                self.leave_hook();
                let told = words::delivered(protocol, *local, function.as_deref());
                self.push(Span::new(Role::Label, "deliver"), None, vec![Span::new(Role::Plain, told)]);
            }
            StepKind::Drop(drop) => {
                let KernelDrop { reason, function, text, .. } = &**drop;
                self.leave_hook();
                let told = words::kernel_drop(text, reason.as_deref(), function.as_deref());
                self.push(Span::new(Role::Drop, "drop"), None, vec![Span::new(Role::Plain, told)]);
            }
        }
    }

    fn rule(&mut self, step: &'a RuleStep) {
        self.enter(step.hook);
        let RuleRef { backend, family, table, chain, text, .. } = &step.rule;
        let place = self.place(*backend, *family, table, chain);
        let role = if step.verdict == Some(Verdict::Drop) { Role::DropRule } else { Role::Rule };
        let mut told = match text {
            Some(text) => vec![Span::new(role, beside_chain(&step.rule, text))],
            None => vec![Span::new(role, words::unknown_rule(step))],
        };
        // Of legacy iptables, what it decided is what its text says.
        if *backend == Backend::Nft
            && let Some(verdict) = &step.verdict
            && !says(text.as_deref().unwrap_or(""), verdict)
        {
            told.push(Span::new(role, format!(" → {verdict}")));
        }
        if let Some(mark) = step.mark.filter(|mark| *mark != self.mark) {
            self.mark = mark;
            told.push(Span::new(Role::Faint, format!("  mark now {mark:#x}")));
        }
        if let Some(verdict) = &step.verdict {
            self.chains.said(verdict);
        }
        self.last_rule = Some(&step.rule);
        self.in_hook(Some(place), told);
    }

    /// The place column: the chain in full where evaluation begins, indented by calls, nothing where it goes on.
    fn place(&mut self, backend: Backend, family: NfFamily, table: &'a str, chain: &'a str) -> Span {
        let place = match self.chains.enter(backend, family, table, chain) {
            Place::Same => String::new(),
            Place::Base | Place::Back(0) => format!("{} {table} {chain}", backend.owner(family)),
            Place::Called(depth) | Place::Back(depth) => format!("{}↳ {chain}", "  ".repeat(depth - 1)),
        };
        Span::new(Role::Faint, place)
    }

    fn rewrite(&mut self, kind: &'a StepKind) {
        let StepKind::Rewrite { nat, from, to, rule, by, decided_for, inner, port_unasked, older, function } =
            kind
        else {
            return;
        };
        let label = Span::new(Role::Nat, format!("⇒ {}", nat.name().to_uppercase()));
        let mut text = vec![Span::new(Role::Nat, format!("{from} → {to}"))];
        if *inner {
            text.push(Span::new(Role::Plain, " in the packet it quotes"));
        }
        if *port_unasked {
            text.push(Span::new(Role::Plain, format!("  {}", words::unasked(*from))));
        } else if let Some(told) = words::written(function.as_deref(), *by) {
            text.push(Span::new(Role::Faint, format!("  {told}")));
        } else {
            text.extend(self.rewritten_by(rule.as_deref(), *by, *decided_for, *older));
        }
        self.push(label, None, text);
    }

    /// Why the rewrite: nothing where the rule stands right above.
    fn rewritten_by(
        &self,
        rule: Option<&RuleRef>,
        by: RewrittenBy,
        decided_for: Option<JourneyId>,
        older: bool,
    ) -> Option<Span> {
        let above = rule.is_some_and(|rule| self.last_rule == Some(rule));
        let told = match by {
            RewrittenBy::Rule if above => return None,
            RewrittenBy::Other if above => "written by the rule, without NAT".to_owned(),
            _ => words::rewritten_by(rule, by, decided_for, older),
        };
        Some(Span::new(Role::Faint, format!("  {told}")))
    }

    /// A rule or policy knows its hook even where the hook itself was not seen.
    fn enter(&mut self, hook: Option<HookPoint>) {
        if let Some(hook) = hook
            && self.hook != Some(hook)
            && self.waiting != Some(hook)
        {
            self.leave_hook();
            self.waiting = Some(hook);
        }
    }

    fn leave_hook(&mut self) {
        if self.hook != Some(HookPoint::Output) {
            // A route found after the output hook is still that of a packet of this host.
            self.hook = None;
        }
        self.waiting = None;
        self.chains.reset();
    }

    fn in_hook(&mut self, place: Option<Span>, text: Vec<Span>) {
        let label = match self.waiting.take() {
            Some(hook) => {
                self.hook = Some(hook);
                hook.name()
            }
            None => "",
        };
        self.push(Span::new(Role::Label, label), place, text);
    }

    fn push(&mut self, label: Span, place: Option<Span>, text: Vec<Span>) {
        self.rows.push((self.at, Row { label, place, text }));
    }

    fn end(&mut self) {
        let (role, label) = words::ending(&self.journey.outcome);
        let told = words::outcome(self.journey, self.last_rule);
        self.push(Span::new(role, label), None, vec![Span::new(Role::Plain, told)]);
        if !self.journey.incomplete.is_empty() {
            let sources = self.journey.incomplete.iter().map(|s| s.name()).collect::<Vec<_>>().join(", ");
            let told = format!("events of {sources} were lost meanwhile; steps may be missing");
            self.push(Span::new(Role::Warn, "! INCOMPLETE"), None, vec![Span::new(Role::Plain, told)]);
        }
    }
}

/// Whether a step happened inside the hook whose step stands before it.
fn is_inside(kind: &StepKind, entered: HookPoint) -> bool {
    match kind {
        StepKind::Rule(_) | StepKind::Policy { .. } => {
            kind.hook_of_rules().is_none_or(|hook| hook == entered)
        }
        _ => false,
    }
}

fn hook_answer(family: NfFamily, verdict: Option<HookVerdict>) -> String {
    let answer = match verdict {
        Some(HookVerdict::Accept) => "accept",
        Some(HookVerdict::Drop) => "drop",
        Some(HookVerdict::Stolen) => "kept (stolen or queued)",
        Some(HookVerdict::Queue) => "queue",
        None => "answer not seen",
    };
    match family {
        NfFamily::Ip | NfFamily::Ip6 | NfFamily::Inet => answer.to_owned(),
        family => format!("{answer} ({})", family.name()),
    }
}

/// Whether the rule's own text says what it decided, or the decision is only that it goes on.
fn says(text: &str, verdict: &Verdict) -> bool {
    if let Some(target) = iptables_target(text) {
        return target_says(target.name().unwrap_or_default(), verdict);
    }
    let statements = statements(text);
    let has = |wanted: &str| statements.contains(&wanted);
    if has("vmap") {
        // Its elements name every verdict, not the one it came to.
        return false;
    }
    match verdict {
        Verdict::Continue | Verdict::Break => true,
        Verdict::Accept => {
            ["accept", "dnat", "snat", "masquerade", "redirect", "tproxy"].into_iter().any(has)
        }
        Verdict::Drop => has("drop"),
        Verdict::Return => has("return"),
        Verdict::Queue(_) => has("queue"),
        Verdict::Jump(chain) | Verdict::Goto(chain) => {
            statements.windows(2).any(|pair| matches!(pair[0], "jump" | "goto") && pair[1] == chain)
        }
        Verdict::Stolen | Verdict::Unknown(_) => false,
    }
}

/// Whether a target of iptables stands for the verdict.
fn target_says(target: &str, verdict: &Verdict) -> bool {
    match verdict {
        Verdict::Continue | Verdict::Break => true,
        Verdict::Accept => {
            matches!(target, "ACCEPT" | "DNAT" | "SNAT" | "MASQUERADE" | "REDIRECT" | "NETMAP" | "TPROXY")
        }
        Verdict::Drop => target == "DROP",
        Verdict::Return => target == "RETURN",
        Verdict::Queue(_) => matches!(target, "NFQUEUE" | "QUEUE"),
        Verdict::Jump(chain) | Verdict::Goto(chain) => target == chain,
        Verdict::Stolen | Verdict::Unknown(_) => false,
    }
}

/// The words of a rule that are neither in quotes nor in braces.
fn statements(text: &str) -> Vec<&str> {
    let (mut quoted, mut depth) = (false, 0usize);
    let mut words = Vec::new();
    for word in text.split_whitespace() {
        let outside = !quoted && depth == 0;
        for c in word.chars() {
            match c {
                '"' => quoted = !quoted,
                '{' if !quoted => depth += 1,
                '}' if !quoted => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        if outside && !word.starts_with(['"', '{']) {
            words.push(word);
        }
    }
    words
}
