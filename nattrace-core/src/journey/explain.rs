//! Why no rule let a packet through: the rules that it passed by, judged as they were then, and the one that came closest.

mod nat;
mod nat_words;
mod remedy;

pub(super) use nat::NotRewritten;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::assemble::Assembler;
use super::life::CONNTRACK_PRIORITY;
use super::open::{Draft, Note, Open};
use super::release::Closed;
use super::{Backend, RouteDecision, RuleRef, StepKind};
use crate::evaluate::{Answer, Asks, Expressions, Failure, Lookup, Moment, is_for_others};
use crate::event::{HookPoint, NetnsId, NfFamily, SetAnswer, Verdict};
use crate::findings::{Certainty, Finding, is_plain_element};
use crate::ruleset::{KnownRule, RuleName};

/// Sets that are asked for one packet at most.
const MAX_QUESTIONS: usize = 8;
/// Questions that are under way at once: each is a process.
const MAX_ASKED: usize = 16;
/// Questions that wait for their turn; what comes beyond is not asked.
const MAX_WAITING: usize = 256;
/// An answer holds for packets that come this soon after it, when no transaction lies between.
const ANSWER_NS: u64 = 2_000_000_000;
/// For so long is an answer waited for, and holds for packets that came before it: a busy machine takes its time to start
/// the program that asks.
pub(super) const WAIT_NS: u64 = 10_000_000_000;
/// Rules that are judged in one second of the trace at most: what ends badly then is not explained.
const MAX_JUDGED: usize = 1_000_000;
/// Rules whose expressions are kept.
const MAX_READ: usize = 100_000;
/// Answers that are kept.
const MAX_ANSWERS: usize = 1024;

/// Whether a set has an element: to be asked of the kernel, and answered by a [`SetAnswer`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Question {
    /// Namespace.
    pub netns: NetnsId,
    /// Family of the table.
    pub family: NfFamily,
    /// Table.
    pub table: String,
    /// Set.
    pub set: String,
    /// The element, as nft writes it.
    pub element: String,
}

/// Expressions by the rule's text; never gone through in order.
type Read = HashMap<String, Arc<Expressions>, foldhash::quality::FixedState>;

/// What was asked, and what was answered.
#[derive(Debug, Default)]
pub(super) struct Answers {
    to_ask: Vec<Question>,
    asked: BTreeSet<Question>,
    answered: BTreeMap<Question, (u64, Option<bool>)>,
    /// Rules by the tool that wrote them, and their text.
    read: RefCell<BTreeMap<Dialect, Read>>,
    /// How many rules were judged in which second.
    judged: Cell<(u64, usize)>,
}

impl Answers {
    /// A rule's expressions.
    fn expressions(&self, dialect: Dialect, text: &str) -> Arc<Expressions> {
        let mut read = self.read.borrow_mut();
        let read = read.entry(dialect).or_default();
        if let Some(known) = read.get(text) {
            return Arc::clone(known);
        }
        if read.len() >= MAX_READ {
            read.clear();
        }
        let new = Arc::new(dialect.read(text));
        read.insert(text.to_owned(), Arc::clone(&new));
        new
    }

    /// Whether so many rules more may be judged.
    fn may_judge(&self, time_ns: u64, rules: usize) -> bool {
        let second = time_ns / 1_000_000_000;
        let so_far =
            Some(self.judged.get()).filter(|(last, _)| *last == second).map_or(0, |(_, count)| count);
        let count = so_far.saturating_add(rules);
        if count <= MAX_JUDGED {
            self.judged.set((second, count));
        }
        count <= MAX_JUDGED
    }

    pub(super) fn answer(&mut self, netns: NetnsId, time_ns: u64, answer: SetAnswer) {
        let question = Question {
            netns,
            family: answer.family,
            table: answer.table,
            set: answer.set,
            element: answer.element,
        };
        self.asked.remove(&question);
        if self.answered.len() >= MAX_ANSWERS {
            self.answered.pop_first();
        }
        self.answered.insert(question, (time_ns, answer.has));
    }
}

/// Whose syntax a rule's text has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Dialect {
    Nft,
    Iptables,
    Ip6tables,
}

impl Dialect {
    fn read(self, text: &str) -> Expressions {
        match self {
            Self::Nft => Expressions::read(text),
            Self::Iptables => Expressions::read_iptables(text, false),
            Self::Ip6tables => Expressions::read_iptables(text, true),
        }
    }

    fn of_iptables(family: NfFamily) -> Self {
        if family == NfFamily::Ip6 { Self::Ip6tables } else { Self::Iptables }
    }
}

/// A rule of a chain.
struct Candidate<'a> {
    text: &'a str,
    dialect: Dialect,
    /// Handle; of legacy iptables the number in the chain.
    handle: u64,
}

/// A chain that the packet came through, and how far it came in it.
struct Passed<'a> {
    chain: &'a str,
    /// The rule at which it left, by its handle or its number; `None` at the end.
    left_at: Option<u64>,
    /// Its rules then, where that is known.
    rules: Option<Vec<Candidate<'a>>>,
}

impl Passed<'_> {
    /// The rules that came before it left.
    fn before(&self) -> Option<&[Candidate<'_>]> {
        let rules = self.rules.as_deref()?;
        match self.left_at {
            Some(handle) => rules.get(..rules.iter().position(|rule| rule.handle == handle)?),
            None => Some(rules),
        }
    }

    /// The rule at which it left.
    fn left_by(&self) -> Option<&Candidate<'_>> {
        let handle = self.left_at?;
        self.rules.as_deref()?.iter().find(|rule| rule.handle == handle)
    }

    /// The rules behind that.
    fn behind(&self) -> Option<&[Candidate<'_>]> {
        let handle = self.left_at?;
        let rules = self.rules.as_deref()?;
        rules.get(rules.iter().position(|rule| rule.handle == handle)? + 1..)
    }
}

/// A rule that nearly matched.
struct Miss<'a> {
    rule: &'a Candidate<'a>,
    chain: &'a str,
    failure: Failure,
    held: usize,
}

impl Miss<'_> {
    /// Nearer is more.
    fn rank(&self) -> (usize, bool) {
        (self.held, self.failure.lookup.is_some())
    }
}

/// Rules of which nobody can say whether they match.
struct Unjudged<'a> {
    /// The first of them.
    rule: &'a Candidate<'a>,
    /// Whether it accepts, or may do so.
    accepts: &'static str,
    /// What of it is not known.
    part: String,
    count: usize,
}

/// Where and when a packet was dropped by rules.
struct Place<'a> {
    netns: NetnsId,
    backend: Backend,
    family: NfFamily,
    table: &'a str,
    table_handle: Option<u64>,
    time_ns: u64,
    /// The packet answers another, as far as can be told without conntrack.
    answers: bool,
    /// Conntrack has not seen the packet there.
    early: bool,
}

impl<'a> Place<'a> {
    /// Where a step of rules is; with its chain, and its rule where it is one's.
    fn of(draft: &'a Draft) -> Option<(Self, &'a str, Option<u64>)> {
        let (backend, family, table, chain, rule) = match &draft.step.kind {
            StepKind::Rule(step) => {
                let rule = &step.rule;
                (rule.backend, rule.family, &rule.table, &rule.chain, Some(rule.handle))
            }
            StepKind::Policy { backend, family, table, chain, .. } => (*backend, *family, table, chain, None),
            _ => return None,
        };
        let table_handle = match &draft.note {
            Note::Rule { table_handle, .. } => *table_handle,
            _ => None,
        };
        let (netns, time_ns) = (draft.step.netns, draft.step.time_ns);
        Some((
            Self { netns, backend, family, table, table_handle, time_ns, answers: false, early: false },
            chain,
            rule,
        ))
    }

    /// What its rules are numbered by.
    fn number(&self) -> &'static str {
        match self.backend {
            Backend::Nft => "handle",
            Backend::Legacy => "rule",
        }
    }

    /// A rule, for who looks for it.
    fn refer(&self, rule: &Candidate<'_>, chain: &str) -> RuleRef {
        RuleRef {
            backend: self.backend,
            family: self.family,
            table: self.table.into(),
            chain: chain.into(),
            handle: rule.handle,
            text: Some(rule.text.into()),
            nft_text: None,
        }
    }

    /// A rule's text, and where it is.
    fn name(&self, rule: &Candidate<'_>, chain: &str) -> String {
        let (owner, table, number) = (self.backend.owner(self.family), self.table, self.number());
        format!(
            "The rule \"{}\" in chain {chain} of table {owner} {table} ({number} {})",
            rule.text, rule.handle
        )
    }
}

impl Assembler {
    /// Questions that were not asked yet, as many as may be under way. Each must be answered, if only by "not known".
    pub fn questions(&mut self) -> Vec<Question> {
        let answers = &mut self.answers;
        let room = MAX_ASKED.saturating_sub(answers.asked.len()).min(answers.to_ask.len());
        let new: Vec<Question> = answers.to_ask.drain(..room).collect();
        answers.asked.extend(new.iter().cloned());
        new
    }

    /// What must be asked of packets that are under way still, as the trace is about to end.
    #[must_use]
    pub fn last_questions(&self) -> Vec<Question> {
        let held = self.held.values().map(Closed::open);
        let all = self.opens.values().chain(held).flat_map(|open| self.unanswered(open));
        let new: BTreeSet<Question> = all.filter(|question| !self.answers.asked.contains(question)).collect();
        new.into_iter().take(MAX_QUESTIONS).collect()
    }

    /// Notes what must be asked before this journey can be explained; whether that is to be waited for.
    pub(super) fn asks(&mut self, open: &Open) -> bool {
        if !self.options.asks {
            return false;
        }
        let mut waits = false;
        for question in self.unanswered(open) {
            waits = true;
            let known = self.answers.asked.contains(&question) || self.answers.to_ask.contains(&question);
            if !known && self.answers.to_ask.len() < MAX_WAITING {
                self.answers.to_ask.push(question);
            }
        }
        waits
    }

    fn unanswered(&self, open: &Open) -> Vec<Question> {
        let mut questions = self.judge_drop(open, |rule| rule.text.contains('@')).1;
        questions.extend(self.nat_questions(open));
        questions
    }

    /// What explains a drop by rules, without the steps that prove it.
    pub(super) fn explain(&self, open: &Open) -> Option<Finding> {
        self.judge_drop(open, |_| true).0
    }

    /// What explains a drop by rules as far as these rules tell, and what must be asked to know more.
    fn judge_drop(
        &self,
        open: &Open,
        considered: impl Fn(&Candidate<'_>) -> bool,
    ) -> (Option<Finding>, Vec<Question>) {
        let nothing = (None, Vec::new());
        let Some(at) = open.ending.verdict else { return nothing };
        let Some((mut place, chain, rule)) = open.drafts.get(at).and_then(Place::of) else { return nothing };
        place.early = self.is_before_conntrack(open, at);
        place.answers = open.packet.is_syn_ack() || self.options.filter.is_answered_by(&open.packet);
        let passed = self.ways(open, &place, at, (chain, rule));
        // A rule that asks for something drops what it was made for.
        let meant = rule.is_some_and(|handle| {
            let rules = passed.first().and_then(|last| last.rules.as_deref()).unwrap_or_default();
            rules
                .iter()
                .find(|rule| rule.handle == handle)
                .is_none_or(|rule| self.answers.expressions(rule.dialect, rule.text).has_conditions())
        });
        self.nearest(open, &place, &passed, meant, considered)
    }

    /// Whether a step's chain comes before conntrack, which is asked in the first hooks.
    fn is_before_conntrack(&self, open: &Open, at: usize) -> bool {
        let first = open
            .visits
            .last()
            .is_some_and(|visit| matches!(visit.hook, HookPoint::Prerouting | HookPoint::Output));
        let Some(draft) = open.drafts.get(at).filter(|_| first) else { return false };
        let chain = match (&draft.note, &draft.step.kind) {
            (Note::Rule { base, .. }, _) => self.base_chain(base, draft),
            (_, StepKind::Policy { family, table, chain, .. }) => self
                .rulesets
                .get(&draft.step.netns)
                .and_then(|history| history.base_chain(*family, table, None, chain, draft.step.time_ns)),
            _ => None,
        };
        chain.is_some_and(|chain| chain.priority < CONNTRACK_PRIORITY)
    }

    /// The chains of a table that the packet came through in one visit, up to a step of it: the chain of that step, where it
    /// left by this rule or at the end, those that led there, and those that it came back from.
    fn ways<'a>(
        &'a self,
        open: &'a Open,
        place: &Place<'_>,
        at: usize,
        (chain, left_at): (&'a str, Option<u64>),
    ) -> Vec<Passed<'a>> {
        let visit = open.drafts.get(at).and_then(|draft| draft.visit);
        let come_through = |chain, left_at| Passed { chain, left_at, rules: self.rules_of(place, chain) };
        let mut passed = vec![come_through(chain, left_at)];
        for earlier in open.drafts.iter().take(at).rev() {
            let StepKind::Rule(step) = &earlier.step.kind else { continue };
            let wanted = passed.last().map_or("", |last| last.chain);
            let leads = matches!(&step.verdict, Some(Verdict::Jump(to) | Verdict::Goto(to)) if to == wanted);
            if leads && earlier.visit == visit && step.rule.table == place.table {
                passed.push(come_through(&step.rule.chain, Some(step.rule.handle)));
            }
        }
        // Chains that it came back from have been on its way, too.
        let mut of_table = open.drafts.iter().take(at).filter_map(|earlier| match &earlier.step.kind {
            StepKind::Rule(step) if earlier.visit == visit && step.rule.table == place.table => Some(step),
            _ => None,
        });
        while let Some(step) = of_table.next() {
            let Some(Verdict::Jump(to) | Verdict::Goto(to)) = &step.verdict else { continue };
            if passed.iter().any(|way| way.chain == to) {
                continue;
            }
            let back = of_table
                .clone()
                .find(|later| later.rule.chain == *to && later.verdict == Some(Verdict::Return))
                .map(|later| later.rule.handle);
            passed.push(come_through(to, back));
        }
        passed
    }

    /// The rules of a chain in order, as they were then.
    fn rules_of(&self, place: &Place<'_>, chain: &str) -> Option<Vec<Candidate<'_>>> {
        let dialect = Dialect::of_iptables(place.family);
        if place.backend == Backend::Legacy {
            let texts = self.legacy.chain(place.netns, (place.family, place.table, chain), place.time_ns)?;
            return Some(
                texts.iter().zip(1..).map(|(text, handle)| Candidate { text, dialect, handle }).collect(),
            );
        }
        let name = RuleName {
            family: place.family,
            table: place.table,
            table_handle: place.table_handle,
            chain,
            handle: 0,
        };
        let rules = self.rulesets.get(&place.netns)?.chain(&name, place.time_ns)?;
        let candidate = |rule: &'_ KnownRule| match &rule.iptables {
            Some(_) => dialect,
            None => Dialect::Nft,
        };
        Some(
            rules
                .into_iter()
                .map(|rule| Candidate {
                    text: rule.iptables.as_deref().unwrap_or(&rule.text),
                    dialect: candidate(rule),
                    handle: rule.handle,
                })
                .collect(),
        )
    }

    fn nearest(
        &self,
        open: &Open,
        place: &Place<'_>,
        passed: &[Passed<'_>],
        meant: bool,
        considered: impl Fn(&Candidate<'_>) -> bool,
    ) -> (Option<Finding>, Vec<Question>) {
        let visit = open.visits.last();
        let moment = Moment {
            packet: &open.header,
            iif: visit.and_then(|visit| visit.iif.as_deref()),
            oif: visit.and_then(|visit| visit.oif.as_deref()),
            devices_known: visit.is_some(),
            connection: open.connection.as_ref(),
            mark: Some(open.header.mark),
            destination_type: open.route.as_ref().and_then(|(decision, _)| match decision {
                RouteDecision::Forward => Some(1),
                RouteDecision::Local => Some(2),
                _ => None,
            }),
        };
        let (mut questions, mut misses) = (Vec::new(), Vec::new());
        let (mut judged, mut may_accept, mut unclear) = (0_usize, false, false);
        let mut unjudged: Option<Unjudged<'_>> = None;
        let mut is_unjudged = |rule, accepts, parts: Vec<String>| match &mut unjudged {
            Some(first) => first.count += 1,
            None => {
                unjudged = parts.into_iter().next().map(|part| Unjudged { rule, accepts, part, count: 1 });
            }
        };
        for way in passed {
            let Some(rules) = way.before() else {
                unclear = true;
                continue;
            };
            if !self.answers.may_judge(place.time_ns, rules.len()) {
                unclear = true;
                continue;
            }
            for rule in rules.iter().filter(|rule| considered(rule)) {
                if rule.dialect == Dialect::Nft && is_for_others(rule.text, &open.header) {
                    judged += 1;
                    continue;
                }
                let expressions = self.answers.expressions(rule.dialect, rule.text);
                match expressions.accepts() {
                    Some(true) => judged += 1,
                    Some(false) => continue,
                    None => {
                        match expressions.judge(&moment, &|_| None) {
                            Answer::Fails { .. } => {
                                may_accept = true;
                                continue;
                            }
                            Answer::Unknown(parts) => is_unjudged(rule, "may accept", parts),
                            Answer::Matches(_) => {}
                        }
                        unclear = true;
                        continue;
                    }
                }
                let asked = RefCell::new(Vec::new());
                let answer = expressions.judge(&moment, &|lookup| self.has(place, lookup, &asked));
                let asked = asked.into_inner();
                match answer {
                    Answer::Fails { only, held, unknown } => {
                        let Some(failure) = only else { continue };
                        let near = failure.is_near(held);
                        if !near && failure.asks != Asks::Other {
                            continue;
                        }
                        if unknown.is_empty() {
                            if near {
                                misses.push(Miss { rule, chain: way.chain, failure, held });
                            }
                        // Answers come one by one: that of another set alone does not make it a rule for others.
                        } else if failure.lookup.is_some() && answers_tell(&unknown, &asked, &questions) {
                            questions.extend(asked);
                            unclear = true;
                        }
                    }
                    Answer::Unknown(parts) => {
                        if answers_tell(&parts, &asked, &questions) {
                            questions.extend(asked);
                        } else {
                            is_unjudged(rule, "accepts", parts);
                        }
                        unclear = true;
                    }
                    // Its map led elsewhere.
                    Answer::Matches(Some(
                        Verdict::Drop | Verdict::Jump(_) | Verdict::Goto(_) | Verdict::Return,
                    )) => {}
                    // The kernel passed it by: it was another rule then, or is not understood.
                    Answer::Matches(_) => unclear = true,
                }
            }
        }
        // Of equals the one that was evaluated first in the innermost chain.
        let best =
            misses.into_iter().reduce(|best, next| if next.rank() > best.rank() { next } else { best });
        let finding = match best {
            Some(miss) => Some(missed(place, open, passed, &miss)),
            None if !meant && !unclear => Some(not_allowed(place, open, passed, judged, may_accept)),
            None => unjudged.filter(|_| !meant).map(|unjudged| not_judged(&unjudged)),
        };
        (finding, questions)
    }

    /// Whether a set has the element, as far as that is known; notes what must be asked.
    fn has(&self, place: &Place<'_>, lookup: &Lookup, asked: &RefCell<Vec<Question>>) -> Option<bool> {
        let question = Question {
            netns: place.netns,
            family: place.family,
            table: place.table.to_owned(),
            set: lookup.set.clone(),
            element: lookup.element.clone(),
        };
        // The name of a device can be anything.
        if !is_plain_element(&lookup.element) {
            return None;
        }
        let unchanged = |time_ns: u64| {
            let (first, last) = (time_ns.min(place.time_ns), time_ns.max(place.time_ns));
            let history = self.rulesets.get(&place.netns);
            let most = if time_ns < place.time_ns { ANSWER_NS } else { WAIT_NS };
            last - first <= most && history.is_some_and(|h| h.is_unchanged_between(first, last))
        };
        match self.answers.answered.get(&question) {
            Some((time_ns, has)) if unchanged(*time_ns) => *has,
            _ => {
                asked.borrow_mut().push(question);
                None
            }
        }
    }
}

/// Whether what is unknown of a rule is known when its sets were asked, and there is room for these questions. With
/// anything else unknown of it, the answers would be of no use.
fn answers_tell(unknown: &[String], asked: &[Question], so_far: &[Question]) -> bool {
    unknown.len() == asked.len() && so_far.len() < MAX_QUESTIONS
}

fn missed(place: &Place<'_>, open: &Open, passed: &[Passed<'_>], miss: &Miss<'_>) -> Finding {
    let rule = place.name(miss.rule, miss.chain);
    let failure = &miss.failure;
    match &failure.lookup {
        Some(lookup) => Finding {
            code: "set-element-missing",
            text: format!(
                "{rule} would have accepted it, but {} is not in the set {}.",
                lookup.element, lookup.set
            ),
            fix: remedy::add_element(place, lookup).into_iter().collect(),
            certainty: Certainty::Certain,
            steps: Vec::new(),
            near: Some(place.refer(miss.rule, miss.chain)),
        },
        None => Finding {
            code: "rule-nearly-matched",
            text: format!(
                "{rule} would have accepted it, but for `{}`: the packet has {}.",
                failure.expression, failure.packet
            ),
            fix: remedy::let_through(place, open, passed).into_iter().collect(),
            certainty: Certainty::Likely,
            steps: Vec::new(),
            near: Some(place.refer(miss.rule, miss.chain)),
        },
    }
}

fn not_judged(unjudged: &Unjudged<'_>) -> Finding {
    let Unjudged { rule, accepts, part, count } = unjudged;
    let more = match count {
        1 => String::new(),
        2 => ", and of one more".to_owned(),
        many => format!(", and of {} more", many - 1),
    };
    Finding {
        code: "rules-not-judged",
        text: format!(
            "Of a rule before it that {accepts}, nobody can say afterwards whether it should have matched, \"{}\": `{part}`{more}.",
            rule.text
        ),
        fix: Vec::new(),
        certainty: Certainty::Certain,
        steps: Vec::new(),
        near: None,
    }
}

fn not_allowed(
    place: &Place<'_>,
    open: &Open,
    passed: &[Passed<'_>],
    judged: usize,
    may_accept: bool,
) -> Finding {
    let rules = match judged {
        0 if may_accept => "What before it may accept something is for other packets".to_owned(),
        0 => "No rule before it accepts anything".to_owned(),
        1 => "The one rule before it that accepts something is for other packets".to_owned(),
        many => format!("The {many} rules before it that accept something are for other packets"),
    };
    let fix = remedy::let_through(place, open, passed);
    let wanted = if fix.is_some() { " To let packets like it through:" } else { "" };
    Finding {
        code: "not-allowed",
        text: format!("{rules}: the ruleset does what it says.{wanted}"),
        fix: fix.into_iter().collect(),
        certainty: Certainty::Certain,
        steps: Vec::new(),
        near: None,
    }
}
