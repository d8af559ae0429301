//! From an ended journey to the value that is shown: rule texts, who decided rewrites, the outcome.

use std::hash::{Hash, Hasher};

use super::assemble::{Assembler, hook_of};
use super::connections::Known;
use super::ending::Why;
use super::explain::{NotRewritten, WAIT_NS};
use super::open::{ChainName, Draft, Moment, Note, Open};
use super::retransmission::{Segment, digest, path};
use super::rewrite::decide;
use super::{Journey, JourneyId, Outcome, RewrittenBy, RuleRef, StepKind};
use crate::conntrack::Direction;
use crate::event::{HookVerdict, Manip, Source};
use crate::findings::{self, Finding};
use crate::ruleset::{BaseChain, KnownRule, RuleName};

/// How long an ended journey waits for those that began before it.
const ORDER_WAIT_NS: u64 = 50_000_000;

/// What rules decided for a connection, by the end they rewrite.
type Decided = Vec<(Manip, RuleRef)>;

/// A journey that has ended, until its rule texts are known.
#[derive(Debug)]
pub(super) struct Closed {
    open: Box<Open>,
    why: Why,
    /// When it was known to have ended.
    at_ns: u64,
}

impl Closed {
    pub(super) fn open(&self) -> &Open {
        &self.open
    }
}

impl Assembler {
    pub(super) fn hold(&mut self, seq: u64, open: Box<Open>, why: Why) {
        let at_ns = match why {
            Why::Due => open.due_ns(self.timing()).min(self.now_ns),
            Why::Stopped | Why::Memory => self.now_ns,
        };
        self.held_since.insert(seq, open.first.time_ns);
        self.held.insert((open.first.time_ns, seq), Closed { open, why, at_ns });
    }

    /// A journey that has ended, to complete it.
    pub(super) fn held_open(&mut self, seq: u64) -> Option<&mut Open> {
        let first_ns = *self.held_since.get(&seq)?;
        self.held.get_mut(&(first_ns, seq)).map(|closed| &mut *closed.open)
    }

    pub(super) fn let_go_oldest(&mut self) {
        if let Some(((_, seq), closed)) = self.held.pop_first() {
            self.complete(seq, closed);
        }
    }

    /// Completes what has ended and need not wait any longer.
    pub(super) fn release(&mut self, all: bool) {
        let keys: Vec<(u64, u64)> = self.held.keys().copied().collect();
        for key in keys {
            let Some(closed) = self.held.get(&key) else { continue };
            if !all && self.must_wait(key.1, closed) {
                continue;
            }
            let Some(closed) = self.held.remove(&key) else { continue };
            let late = closed.at_ns.saturating_add(WAIT_NS) <= self.now_ns;
            if !all && !late && self.asks(&closed.open) {
                self.held.insert(key, closed);
                continue;
            }
            self.complete(key.1, closed);
        }
    }

    fn must_wait(&self, seq: u64, closed: &Closed) -> bool {
        // The first transmission of a segment is to be shown before its retransmissions.
        if let Some(segment) = Segment::of(closed.open.first.netns, &closed.open.packet)
            && self.under_way.range((segment, 0)..(segment, seq)).next().is_some()
        {
            return true;
        }
        // Nested ends (an answer over loopback ends before the packet it answers) are shown in the order of
        // their beginnings, when that takes no longer than a blink.
        let earlier = self.opens.oldest().is_some_and(|first| first < seq)
            || self.held.first_key_value().is_some_and(|((_, first), _)| *first < seq);
        if earlier && self.now_ns < closed.at_ns.saturating_add(ORDER_WAIT_NS) {
            return true;
        }
        if closed.at_ns.saturating_add(self.options.text_wait_ns) <= self.now_ns {
            return false;
        }
        closed.open.drafts.iter().any(|draft| match draft.note {
            Note::Rule { .. } => {
                self.rule_of(draft).is_none()
                    && !self.rulesets.get(&draft.step.netns).is_some_and(crate::ruleset::History::is_current)
            }
            Note::Legacy { .. } => {
                self.legacy.may_be_listed(draft.step.netns, draft.step.time_ns, self.now_ns)
            }
            _ => false,
        })
    }

    /// The rule that a step is about, as it was then.
    fn rule_of(&self, draft: &Draft) -> Option<&KnownRule> {
        let (StepKind::Rule(step), Note::Rule { table_handle, .. }) = (&draft.step.kind, &draft.note) else {
            return None;
        };
        let name = RuleName {
            family: step.rule.family,
            table: &step.rule.table,
            table_handle: *table_handle,
            chain: &step.rule.chain,
            handle: step.rule.handle,
        };
        self.rulesets.get(&draft.step.netns)?.rule(&name, draft.step.time_ns)
    }

    fn complete(&mut self, seq: u64, closed: Closed) {
        let Closed { mut open, why, at_ns } = closed;
        self.held_since.remove(&seq);
        self.memory.shrink(open.accounted);
        self.connections.leaves(seq, open.known);
        if let Some(segment) = Segment::of(open.first.netns, &open.packet) {
            self.under_way.remove(&(segment, seq));
        }
        self.fill_texts(&mut open);
        self.fill_legacy(&mut open);
        self.fill_messages(&mut open);
        self.fill_connection(&mut open);
        open.place_creation(|base, draft| self.base_chain(base, draft).map(|chain| chain.priority));
        let (moves, decided) = self.fill_rewrites(&mut open);
        let known = open.known;
        open.name_drop();
        let explained = self.explain(&open);
        let not_rewritten = self.explain_nat(&open);
        let outcome = open.outcome(self.timing(), why);
        complete_steps(&mut open, &outcome, moves);
        if !self.is_asked_for(&open) || !self.passes_oif(&open) {
            self.remember_decisions(known, decided, None);
            self.counters.packets_selected = self.counters.packets_selected.saturating_sub(1);
            return;
        }
        let until = open.ending.at_ns.unwrap_or(at_ns);
        let incomplete: Vec<Source> = Source::ALL
            .into_iter()
            .filter(|source| {
                self.losses.iter().any(|loss| {
                    loss.source == *source && loss.first_ns <= until && loss.last_ns >= open.first.time_ns
                })
            })
            .collect();
        let mut journey = Journey {
            id: JourneyId(self.next_id),
            packet_id: open.packet_id,
            netns: self.names.netns(open.first.netns),
            first_seen_ns: open.first.time_ns,
            last_seen_ns: open.last_seen_ns,
            packet: open.packet,
            iif: open.iif,
            connection: open.connection,
            connection_netns: open.connection_netns,
            steps: open
                .drafts
                .into_iter()
                .filter(|draft| !matches!(draft.note, Note::ChainEnd))
                .map(|draft| draft.step)
                .collect(),
            outcome,
            findings: Vec::new(),
            relation: None,
            retransmission_of: None,
            same_path: false,
            like: None,
            incomplete,
            trace_ids: open.trace_ids,
            traced: open.traced,
            sights: open.sights.unwrap_or_default(),
        };
        self.next_id += 1;
        journey.relation =
            self.kin.completed(seq, journey.id, matches!(journey.outcome, Outcome::Dropped(_)));
        self.remember_decisions(known, decided, Some(journey.id));
        let path = path(&journey);
        self.segments.judge(&mut journey, path);
        if let Some(known) = known.and_then(|k| self.connections.get_mut(k)) {
            let first = known.first_on(way(&journey, path), journey.id);
            journey.like = Some(first).filter(|first| *first != journey.id);
        }
        journey.findings = findings::find(&journey);
        if let Some(mut explained) = explained {
            let by_rules =
                |finding: &&Finding| matches!(finding.code, "dropped-by-rule" | "dropped-by-policy");
            let proof = journey.findings.iter().position(|finding| by_rules(&finding)).unwrap_or(0);
            if let Some(finding) = journey.findings.get(proof) {
                explained.steps.clone_from(&finding.steps);
            }
            journey.findings.insert(proof, explained);
        }
        if let Some(not_rewritten) = not_rewritten {
            tell_not_rewritten(&mut journey, not_rewritten);
        }
        *self.counters.journeys.entry(journey.outcome.name()).or_default() += 1;
        self.ready.push(journey);
    }

    fn fill_texts(&self, open: &mut Open) {
        for index in 0..open.drafts.len() {
            let Some(draft) = open.drafts.get(index) else { continue };
            let Note::Rule { base, .. } = &draft.note else { continue };
            let rule = self.rule_of(draft);
            let hook = hook_of(self.rulesets.get(&draft.step.netns), base, draft.step.time_ns);
            if let Some(StepKind::Rule(step)) = open.drafts.get_mut(index).map(|d| &mut d.step.kind) {
                step.rule.tell(rule);
                step.hook = step.hook.or(hook);
            }
        }
    }

    /// The texts of rules as nft's own traces show them.
    fn fill_messages(&self, open: &mut Open) {
        for traced in &mut open.traced {
            let message = &traced.message;
            let Some(handle) = message.rule_handle else { continue };
            let name = RuleName {
                family: message.family,
                table: &message.table,
                table_handle: traced.table_handle,
                chain: &message.chain,
                handle,
            };
            let rule = self.rulesets.get(&traced.netns).and_then(|h| h.rule(&name, traced.time_ns));
            traced.text = rule.map(|rule| rule.counted_text().clone());
        }
    }

    /// Adds what ctnetlink, or other packets, told of the connection.
    fn fill_connection(&mut self, open: &mut Open) {
        let netns = open.connection_netns;
        if open.known.is_none()
            && let Some((index, direction)) = self.connections.find_packet(netns, &open.packet)
            && let Some(known) = self.connections.get(index)
        {
            // One that was created after the packet was gone is another packet's.
            let until = open.last_seen_ns.saturating_add(self.options.settle_ns);
            let contradicts = open.connection.as_ref().is_some_and(|mine| {
                matches!((mine.id, known.connection.id), (Some(a), Some(b)) if a != b)
                    || (mine.key != 0 && known.connection.key != 0 && mine.key != known.connection.key)
                    || mine.direction.is_some_and(|mine| mine != direction)
            });
            if known.created_ns.is_none_or(|created| created <= until) && !contradicts {
                open.known = Some(index);
                open.connection.get_or_insert_default().direction.get_or_insert(direction);
            }
        }
        let Some(known) = open.known.and_then(|k| self.connections.get_mut(k)) else { return };
        open.fresh |= known.created_ns.is_some_and(|created| created >= open.first.time_ns)
            && open.connection.as_ref().is_none_or(|c| c.direction != Some(Direction::Reply))
            && !known.began
            && !open.replaced;
        known.began = true;
        if self.options.filter.matches(&open.packet) {
            known.followed = true;
        }
        if let Some(mine) = &mut open.connection {
            let theirs = &known.connection;
            if mine.key == 0 {
                mine.key = theirs.key;
            }
            mine.id = mine.id.or(theirs.id);
            mine.status = mine.status.or(theirs.status);
            mine.zone = mine.zone.or(theirs.zone);
            mine.original = mine.original.or(theirs.original);
            mine.reply = mine.reply.or(theirs.reply);
        }
    }

    /// The base chain that a rule's step came by, as it was then.
    pub(super) fn base_chain(&self, base: &ChainName, draft: &Draft) -> Option<&BaseChain> {
        let Note::Rule { table_handle, .. } = &draft.note else { return None };
        let history = self.rulesets.get(&draft.step.netns)?;
        history.base_chain(base.family, &base.table, *table_handle, &base.chain, draft.step.time_ns)
    }

    /// Settles who decided each rewrite. Gives, for rewrites that were only noticed later, the rule's draft
    /// that they follow, and what rules decided for the connection.
    fn fill_rewrites(&self, open: &mut Open) -> (Vec<(usize, usize)>, Decided) {
        let is_nat =
            |base: &ChainName, draft: &Draft| self.base_chain(base, draft).map(|chain| chain.kind == "nat");
        let mut moves = Vec::new();
        let mut decided = Decided::new();
        let known = open.known;
        for index in 0..open.drafts.len() {
            let Some(Draft { step, note: Note::Rewrite { exact, .. }, .. }) = open.drafts.get(index) else {
                continue;
            };
            let StepKind::Rewrite { nat, .. } = &step.kind else { continue };
            let (nat, exact) = (*nat, *exact);
            let here = step.netns == open.connection_netns;
            let remembered = |end: Manip| {
                if !here {
                    return None;
                }
                let entry = self.connections.get(known?)?;
                match entry.decided.get(&end) {
                    Some(known) => Some(known.clone()),
                    None => self.decided_under_way(known?, end, &is_nat).map(|rule| (rule, None)),
                }
            };
            let decision = decide(&open.drafts, index, open, is_nat, remembered);
            if decision.by == RewrittenBy::Rule
                && here
                && !open.replaced
                && let Some(rule) = &decision.rule
            {
                decided.push((nat, rule.clone()));
            }
            if !exact && let Some(rule) = decision.draft {
                moves.push((index, rule));
            }
            let since_before = here
                && decision.rule.is_none()
                && matches!(decision.by, RewrittenBy::Connection | RewrittenBy::IcmpError)
                && known.and_then(|k| self.connections.get(k)).is_some_and(Known::is_older);
            if let Some(StepKind::Rewrite { rule, by, decided_for, port_unasked, older, function, .. }) =
                open.drafts.get_mut(index).map(|d| &mut d.step.kind)
            {
                // The rule did it, not the function that was thought to.
                if decision.rule.is_some() {
                    *function = None;
                }
                *rule = decision.rule.map(Box::new);
                *by = decision.by;
                *decided_for = decision.decided_for;
                *port_unasked = decision.port_unasked;
                *older = since_before;
            }
        }
        (moves, decided)
    }

    /// Keeps what a rule decided for this journey's connection, for its later packets.
    fn remember_decisions(&mut self, known: Option<u64>, decided: Decided, journey: Option<JourneyId>) {
        if let Some(entry) = known.and_then(|k| self.connections.get_mut(k)) {
            for (nat, rule) in decided {
                entry.decided.entry(nat).or_insert((rule, journey));
            }
        }
    }

    /// The rule that decided, when the packet it decided for is still under way.
    fn decided_under_way(
        &self,
        known: u64,
        end: Manip,
        is_nat: &impl Fn(&ChainName, &Draft) -> Option<bool>,
    ) -> Option<RuleRef> {
        let mut under_way = self.connections.get(known)?.under_way.clone();
        under_way.sort_unstable();
        let opens = under_way.iter().filter_map(|seq| self.opens.get(*seq));
        let mut held: Vec<(u64, u64)> =
            under_way.iter().filter_map(|seq| Some((*self.held_since.get(seq)?, *seq))).collect();
        held.sort_unstable();
        let held = held.iter().filter_map(|key| self.held.get(key)).map(Closed::open);
        let first = opens
            .chain(held)
            .filter(|open| !open.replaced)
            .filter(|open| open.connection.as_ref().is_none_or(|c| c.direction != Some(Direction::Reply)));
        for open in first {
            let mut drafts = open.drafts.clone();
            for draft in &mut drafts {
                self.fill_legacy_draft(draft, false);
                if !matches!(draft.note, Note::Rule { .. }) {
                    continue;
                }
                let rule = self.rule_of(draft);
                if let StepKind::Rule(step) = &mut draft.step.kind {
                    step.rule.tell(rule);
                }
            }
            for (index, draft) in drafts.iter().enumerate() {
                let StepKind::Rewrite { nat, .. } = &draft.step.kind else { continue };
                if *nat == end {
                    let decision = decide(&drafts, index, open, is_nat, |_| None);
                    if decision.by == RewrittenBy::Rule {
                        return decision.rule;
                    }
                }
            }
        }
        None
    }
}

/// A digest of the direction, the way and the end of a journey.
fn way(journey: &Journey, path: u64) -> u64 {
    let mut hasher = digest();
    journey.connection.as_ref().and_then(|c| c.direction).hash(&mut hasher);
    path.hash(&mut hasher);
    hasher.finish()
}

/// Brings the steps into their final form and order.
fn complete_steps(open: &mut Open, outcome: &Outcome, moves: Vec<(usize, usize)>) {
    let dropped = matches!(outcome, Outcome::Dropped(_));
    // A hook within which the packet was dropped did not answer anything else.
    let inside =
        open.ending.verdict.is_some() || open.ending.kernel.as_ref().is_some_and(|d| d.hook.is_some());
    if dropped
        && inside
        && let Some(current) = open.current()
        && open.visits.get(current).is_some_and(|v| v.verdict.is_none())
    {
        open.decide(current, HookVerdict::Drop);
    }
    if *outcome == Outcome::Delivered
        && !open.drafts.iter().any(|d| matches!(d.step.kind, StepKind::Deliver { .. }))
    {
        let function = open.ending.freed_by.clone();
        let at = Moment { time_ns: open.last_seen_ns, cpu: open.cpu, netns: open.netns };
        open.delivered(at, function);
    }
    // A rewrite noticed by comparing headers happened where the rule decided it. Later ones first, so that
    // positions before them hold; only rewrites move, and only towards the front, or behind the rule that follows.
    for (from, rule) in moves.into_iter().rev() {
        if rule == from + 1 {
            open.drafts.swap(from, rule);
            // It was written when the rule ran, which is told after it.
            if let [.., ran, wrote] = open.drafts.get_mut(..=rule).unwrap_or_default() {
                wrote.step.time_ns = wrote.step.time_ns.max(ran.step.time_ns);
            }
        } else if rule + 1 < from && from < open.drafts.len() {
            open.move_step(from, rule + 1);
        }
    }
    open.place_destruction();
    // Two sources told of the end, and the kernel's report was the faster one.
    if dropped
        && let Some(at) = open.drafts.iter().rposition(|d| matches!(d.step.kind, StepKind::Drop(_)))
        && at + 1 < open.drafts.len()
        && open.drafts.iter().skip(at + 1).all(|d| {
            matches!(d.step.kind, StepKind::Rule(_) | StepKind::Policy { .. } | StepKind::Rewrite { .. })
        })
    {
        let drop = open.drafts.remove(at);
        open.drafts.push(drop);
    }
}

/// Puts it first where it is likely what went wrong, else behind what is known of the drop.
fn tell_not_rewritten(journey: &mut Journey, NotRewritten { mut finding, strong, base }: NotRewritten) {
    let ways_end = |kind: &StepKind| match (kind, &base) {
        (StepKind::Policy { family, table, chain, .. }, Some(base)) => {
            (*family, table, chain) == (base.family, &base.table, &base.chain)
        }
        (StepKind::Rule(step), Some(base)) => {
            (step.rule.family, &step.rule.table) == (base.family, &base.table)
        }
        _ => false,
    };
    finding.steps.extend(journey.steps.iter().position(|step| ways_end(&step.kind)));
    finding.steps.extend(journey.findings.last().and_then(|last| last.steps.last()));
    let missing = journey.findings.first().is_some_and(|first| first.code == "set-element-missing");
    let at = if strong { usize::from(missing) } else { journey.findings.len() };
    journey.findings.insert(at, finding);
}
