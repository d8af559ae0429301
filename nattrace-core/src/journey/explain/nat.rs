//! Why no rule rewrote a packet's destination, where that may be why it ended badly: the rule that nearly did, the one that
//! came too late, and those that such packets do not pass.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::nat_words::{self, Late, Nowhere, Output};
use super::{Candidate, Miss, Passed, Place, answers_tell};
use crate::conntrack::{Connection, Direction, State};
use crate::evaluate::{Answer, Moment};
use crate::event::{HookPoint, Manip, NfFamily, Verdict};
use crate::findings::Finding;
use crate::journey::assemble::Assembler;
use crate::journey::explain::Question;
use crate::journey::open::{ChainName, Draft, Note, Open, Visit};
use crate::journey::{Backend, RouteDecision, StepKind};
use crate::packet::Family;
use crate::ruleset::{History, RuleName, does_nat};

/// Chains that lead from one to the next that are followed at most.
const MAX_DEPTH: usize = 8;

/// Why the destination is what it is.
#[derive(Debug)]
pub(in crate::journey) struct NotRewritten {
    pub(in crate::journey) finding: Finding,
    /// It is likely what went wrong: nothing about the drop itself is nearer.
    pub(in crate::journey) strong: bool,
    /// The base chain that the packet came through, where it did.
    pub(in crate::journey) base: Option<Arc<ChainName>>,
}

impl Assembler {
    /// What explains that a packet that was dropped has the destination that it has.
    pub(in crate::journey) fn explain_nat(&self, open: &Open) -> Option<NotRewritten> {
        let look = self.look(open)?;
        if let Some(found) = look.late.or(look.best.map(|(found, _)| found)) {
            return Some(found);
        }
        if look.unclear || was_rewritten(open) { None } else { self.not_on_its_way(open) }
    }

    /// What must be asked to know that.
    pub(super) fn nat_questions(&self, open: &Open) -> Vec<Question> {
        if self.may_ask_of_nat(open) {
            self.look(open).map(|look| look.questions).unwrap_or_default()
        } else {
            Vec::new()
        }
    }

    /// Whether a rule that would be looked at names a set: most packets come by none, and need not be judged twice.
    fn may_ask_of_nat(&self, open: &Open) -> bool {
        open.ending.is_drop()
            && self.nat_evaluations(open).into_values().any(|at| {
                let Some((place, chain, rule)) = open.drafts.get(at).and_then(Place::of) else {
                    return false;
                };
                let ways = self.ways(open, &place, at, (chain, rule));
                ways.iter().filter_map(|way| way.rules.as_ref()).flatten().any(|rule| rule.text.contains('@'))
            })
    }

    /// Looks at the chains that the packet came through, if it is one that they may have failed.
    fn look(&self, open: &Open) -> Option<Look> {
        let reply = open.connection.as_ref().is_some_and(|c| c.direction == Some(Direction::Reply));
        if !open.ending.is_drop() || reply || open.packet.is_icmp_error() {
            return None;
        }
        let mut look = Look::default();
        for (base, at) in self.nat_evaluations(open) {
            self.look_at(open, &base, at, &mut look);
        }
        Some(look)
    }

    /// The chains of type nat that the packet came through where destinations are rewritten, each with the last step in it.
    fn nat_evaluations(&self, open: &Open) -> BTreeMap<Arc<ChainName>, usize> {
        let mut found = BTreeMap::new();
        for (at, draft) in open.drafts.iter().enumerate() {
            if let Some(base) = self.nat_chain(draft) {
                found.insert(base, at);
            }
        }
        found
    }

    fn nat_chain(&self, draft: &Draft) -> Option<Arc<ChainName>> {
        let rewrites = |hook| matches!(hook, HookPoint::Prerouting | HookPoint::Output);
        match (&draft.note, &draft.step.kind) {
            (Note::Rule { base, .. }, _) => {
                let chain = self.base_chain(base, draft)?;
                (chain.kind == "nat" && rewrites(chain.hook)).then(|| base.clone())
            }
            (_, StepKind::Policy { backend: Backend::Nft, family, table, chain, .. }) => {
                let history = self.rulesets.get(&draft.step.netns)?;
                let base = history.base_chain(*family, table, None, chain, draft.step.time_ns)?;
                let name =
                    || Arc::new(ChainName { family: *family, table: table.clone(), chain: chain.clone() });
                (base.kind == "nat" && rewrites(base.hook)).then(name)
            }
            (Note::Legacy { .. }, StepKind::Rule(step)) => {
                let hook = step.hook.filter(|hook| step.rule.table == "nat" && rewrites(*hook))?;
                Some(of_legacy(step.rule.family, hook))
            }
            (_, StepKind::Policy { backend: Backend::Legacy, family, table, hook: Some(hook), .. })
                if table == "nat" && rewrites(*hook) =>
            {
                Some(of_legacy(*family, *hook))
            }
            _ => None,
        }
    }

    fn look_at(&self, open: &Open, base: &Arc<ChainName>, at: usize, look: &mut Look) {
        let Some((place, chain, rule)) = open.drafts.get(at).and_then(Place::of) else { return };
        let before = open.drafts.get(..at).unwrap_or_default();
        // What it looked like then is known as long as nothing wrote into it.
        if before.iter().any(|draft| matches!(draft.step.kind, StepKind::Rewrite { inner: false, .. })) {
            return;
        }
        let connection = new_connection(open);
        let visit = open.drafts.get(at).and_then(|draft| open.visits.get(draft.visit?));
        let rewritten = was_rewritten(open);
        let moment = moment(open, visit, &connection);
        let ways = self.ways(open, &place, at, (chain, rule));
        let name = || Some(base.clone());
        if !rewritten {
            for way in &ways {
                let Some(rules) = way.before() else {
                    look.unclear = true;
                    continue;
                };
                for rule in self.rewriting(&place, rules, look) {
                    let Some(miss) = self.misses(&place, way, rule, &moment, look) else { continue };
                    let rank = (nat_words::is_meant(&miss), miss.rank());
                    if look.best.as_ref().is_none_or(|(_, best)| rank > *best) {
                        let finding = nat_words::nearly(&place, &miss, &ways, &moment);
                        let strong = rank.0 && is_for_this_host(open);
                        look.best = Some((NotRewritten { finding, strong, base: name() }, rank));
                    }
                }
            }
        }
        // What another rule took first.
        let Some((way, taken_by)) = ways.first().and_then(|way| Some((way, way.left_by()?))) else { return };
        if !takes(taken_by) || look.late.is_some() {
            return;
        }
        let behind = way.behind().unwrap_or_default();
        let conditions =
            |rule: &Candidate<'_>| self.answers.expressions(rule.dialect, rule.text).conditions();
        let (taken_to, taken_for) = (target(taken_by.text), conditions(taken_by));
        for rule in self.rewriting(&place, behind, look) {
            // A special rule before a general one is as it should be.
            if target(rule.text) == taken_to || conditions(rule) < taken_for {
                continue;
            }
            let asked = RefCell::new(Vec::new());
            match self.judge(&place, rule, &moment, &asked) {
                Answer::Matches(_) => {
                    let finding = nat_words::late(&place, &Late { rule, taken_by, way });
                    // What was rewritten and sent on has another cause as likely.
                    let strong = is_for_this_host(open);
                    look.late = Some(NotRewritten { finding, strong, base: name() });
                    return;
                }
                Answer::Unknown(parts) if answers_tell(&parts, &asked.borrow(), &look.questions) => {
                    look.questions.extend(asked.into_inner());
                }
                _ => {}
            }
        }
    }

    /// The rules that rewrite destinations, as far as so many may be judged.
    fn rewriting<'r, 'c>(
        &self,
        place: &Place<'_>,
        rules: &'r [Candidate<'c>],
        look: &mut Look,
    ) -> Vec<&'r Candidate<'c>> {
        let found: Vec<_> = rules.iter().filter(|rule| rewrites(rule)).collect();
        if self.answers.may_judge(place.time_ns, found.len()) {
            return found;
        }
        look.unclear = true;
        Vec::new()
    }

    fn judge(
        &self,
        place: &Place<'_>,
        rule: &Candidate<'_>,
        moment: &Moment<'_>,
        asked: &RefCell<Vec<Question>>,
    ) -> Answer {
        let expressions = self.answers.expressions(rule.dialect, rule.text);
        expressions.judge(moment, &|lookup| self.has(place, lookup, asked))
    }

    /// A rule that the packet passed by, if it nearly matched; notes what must be asked to know.
    fn misses<'r>(
        &self,
        place: &Place<'_>,
        way: &Passed<'r>,
        rule: &'r Candidate<'r>,
        moment: &Moment<'_>,
        look: &mut Look,
    ) -> Option<Miss<'r>> {
        let asked = RefCell::new(Vec::new());
        match self.judge(place, rule, moment, &asked) {
            Answer::Fails { only, held, unknown } => {
                let failure = only?;
                let near = failure.is_near(held);
                if unknown.is_empty() {
                    return near.then_some(Miss { rule, chain: way.chain, failure, held });
                }
                if near && answers_tell(&unknown, &asked.borrow(), &look.questions) {
                    look.questions.extend(asked.into_inner());
                    look.unclear = true;
                }
            }
            Answer::Unknown(parts) => {
                if answers_tell(&parts, &asked.borrow(), &look.questions) {
                    look.questions.extend(asked.into_inner());
                }
                look.unclear = true;
            }
            // The kernel passed it by: it was another rule then, or is not understood.
            Answer::Matches(_) => look.unclear = true,
        }
        None
    }

    /// A rule that would match, in a chain that such packets do not pass.
    fn not_on_its_way(&self, open: &Open) -> Option<NotRewritten> {
        // What belongs to a connection, or is not tracked, asks no rule of type nat.
        let state = open.connection.as_ref().and_then(|connection| connection.state);
        if !matches!(state, None | Some(State::New | State::Related)) {
            return None;
        }
        let first = open.visits.iter().find(|visit| visit.family.is_ip())?;
        let hook = first.hook;
        if !matches!(hook, HookPoint::Prerouting | HookPoint::Output) {
            return None;
        }
        let (netns, time_ns) = (first.netns, open.first.time_ns);
        let history = self.rulesets.get(&netns)?;
        let connection = new_connection(open);
        let moment =
            Moment { devices_known: hook == HookPoint::Prerouting, ..moment(open, Some(first), &connection) };
        let standing = Standing { assembler: self, history, netns, time_ns, moment };
        let of_its_family = |name: &RuleName<'_>| match open.packet.family {
            Family::Ipv4 => matches!(name.family, NfFamily::Ip | NfFamily::Inet),
            Family::Ipv6 => matches!(name.family, NfFamily::Ip6 | NfFamily::Inet),
            _ => false,
        };
        for (name, base) in history.chains(time_ns).filter(|(name, _)| of_its_family(name)) {
            let finding = match base {
                // What is for other hosts has its own way: a proxy in prerouting is not for what this host sends.
                Some(base)
                    if hook == HookPoint::Output
                        && is_for_this_host(open)
                        && base.kind == "nat"
                        && base.hook == HookPoint::Prerouting =>
                {
                    standing.for_others(&name, open)
                }
                None => standing.without_hook(&name, hook),
                Some(_) => None,
            };
            if let Some(finding) = finding {
                return Some(NotRewritten { finding, strong: is_for_this_host(open), base: None });
            }
        }
        None
    }
}

/// Whether a rule was likely meant for the packet, and what else it has in common with it; nearer is more.
type Nearness = (bool, (usize, bool));

/// What was found in the chains so far.
#[derive(Default)]
struct Look {
    best: Option<(NotRewritten, Nearness)>,
    late: Option<NotRewritten>,
    questions: Vec<Question>,
    unclear: bool,
}

/// A ruleset at a moment, and the packet then.
struct Standing<'a> {
    assembler: &'a Assembler,
    history: &'a History,
    netns: u32,
    time_ns: u64,
    moment: Moment<'a>,
}

impl Standing<'_> {
    fn place<'n>(&self, name: &RuleName<'n>) -> Place<'n> {
        Place {
            netns: self.netns,
            backend: Backend::Nft,
            family: name.family,
            table: name.table,
            table_handle: name.table_handle,
            time_ns: self.time_ns,
            answers: false,
            early: false,
        }
    }

    /// The rules of a chain, where so many may be judged.
    fn rules(&self, place: &Place<'_>, chain: &str) -> Option<Vec<Candidate<'_>>> {
        let rules = self.assembler.rules_of(place, chain)?;
        self.assembler.answers.may_judge(self.time_ns, rules.len()).then_some(rules)
    }

    fn answer(&self, place: &Place<'_>, rule: &Candidate<'_>) -> Answer {
        self.assembler.judge(place, rule, &self.moment, &RefCell::default())
    }

    /// A rule for what comes in, where the packet was sent by this host.
    fn for_others(&self, base: &RuleName<'_>, open: &Open) -> Option<Finding> {
        let place = self.place(base);
        let (chain, text) = self.matching(&place, base.chain, MAX_DEPTH)?;
        let rules = self.assembler.rules_of(&place, &chain)?;
        let rule = rules.iter().find(|rule| rule.text == text)?;
        let of_table = |name: &RuleName<'_>| name.family == base.family && name.table == base.table;
        let mut names = self.history.chains(self.time_ns).filter(|(name, _)| of_table(name));
        let output = names.find(|(_, other)| {
            other.is_some_and(|other| other.kind == "nat" && other.hook == HookPoint::Output)
        });
        let taken =
            self.history.chains(self.time_ns).any(|(name, _)| of_table(&name) && name.chain == "output");
        let output = match output {
            Some((name, _)) => Output::Chain(name.chain),
            None if taken => Output::NameTaken,
            None => Output::Missing,
        };
        Some(nat_words::for_others(&place, rule, &chain, output, &open.packet, |text| {
            let rule = Candidate { text, ..*rule };
            matches!(self.answer(&place, &rule), Answer::Matches(_))
        }))
    }

    /// The first rule that rewrites a packet like this, in a chain or where it leads; with the chain that it is in.
    fn matching(&self, place: &Place<'_>, chain: &str, depth: usize) -> Option<(String, String)> {
        let only_of_the_device = |parts: &[String]| {
            parts
                .iter()
                .all(|part| part.contains("iif") || part.starts_with("-i ") || part.starts_with("! -i "))
        };
        for rule in self.rules(place, chain)? {
            let passes = match self.answer(place, &rule) {
                Answer::Matches(_) => true,
                Answer::Unknown(parts) => only_of_the_device(&parts),
                Answer::Fails { .. } => false,
            };
            if !passes {
                continue;
            }
            if rewrites(&rule) {
                return Some((chain.to_owned(), rule.text.to_owned()));
            }
            let expressions = self.assembler.answers.expressions(rule.dialect, rule.text);
            match expressions.verdict() {
                Some(Verdict::Jump(to) | Verdict::Goto(to)) if depth > 0 => {
                    if let Some(found) = self.matching(place, to, depth - 1) {
                        return Some(found);
                    }
                }
                Some(Verdict::Accept | Verdict::Drop | Verdict::Return) => return None,
                _ => {}
            }
        }
        None
    }

    /// A rule in a chain that nothing leads to.
    fn without_hook(&self, name: &RuleName<'_>, hook: HookPoint) -> Option<Finding> {
        let place = self.place(name);
        let mut rules = self.assembler.rules_of(&place, name.chain)?;
        // Most chains have none.
        rules.retain(rewrites);
        if !self.assembler.answers.may_judge(self.time_ns, rules.len()) {
            return None;
        }
        let rule = rules.iter().find(|rule| matches!(self.answer(&place, rule), Answer::Matches(_)))?;
        let of_table = |other: &RuleName<'_>| other.family == name.family && other.table == name.table;
        let mut base = None;
        for (other, hangs) in self.history.chains(self.time_ns).filter(|(other, _)| of_table(other)) {
            if self
                .assembler
                .rules_of(&place, other.chain)?
                .iter()
                .any(|rule| may_lead_to(rule.text, name.chain))
            {
                return None;
            }
            if hangs.is_some_and(|hangs| hangs.kind == "nat" && hangs.hook == hook) {
                base = Some(other.chain);
            }
        }
        Some(nat_words::without_hook(&place, rule, &Nowhere { chain: name.chain, hook, base }))
    }
}

/// Whether a rule's text may have packets go to a chain. Where a named map leads is not known.
fn may_lead_to(text: &str, chain: &str) -> bool {
    let words: Vec<&str> = text.split(|c: char| c.is_whitespace() || matches!(c, ',' | '{' | '}')).collect();
    let leads = |pair: &[&str]| match pair {
        ["jump" | "goto" | "-j" | "-g", to] => *to == chain,
        ["vmap", map] => map.starts_with('@'),
        _ => false,
    };
    words.windows(2).any(leads)
}

/// Whether it ended here for want of a rewrite: what is forwarded was on its way.
fn is_for_this_host(open: &Open) -> bool {
    matches!(open.route, Some((RouteDecision::Local, _)))
}

fn of_legacy(family: NfFamily, hook: HookPoint) -> Arc<ChainName> {
    let chain = if hook == HookPoint::Output { "OUTPUT" } else { "PREROUTING" };
    Arc::new(ChainName { family, table: "nat".into(), chain: chain.into() })
}

fn was_rewritten(open: &Open) -> bool {
    let rewrites = |kind: &StepKind| matches!(kind, StepKind::Rewrite { nat: Manip::Dnat, inner: false, .. });
    open.drafts.iter().any(|draft| rewrites(&draft.step.kind))
}

fn rewrites(rule: &Candidate<'_>) -> bool {
    // Most rules do not, and are many.
    ["dnat", "redirect", "DNAT", "REDIRECT"].iter().any(|word| rule.text.contains(word))
        && does_nat(rule.text, Manip::Dnat, None)
}

/// Whether the chain, and every other chain of type nat in the hook, is over with this rule.
fn takes(rule: &Candidate<'_>) -> bool {
    let accepts =
        || rule.text.ends_with("-j ACCEPT") || rule.text.split_whitespace().any(|word| word == "accept");
    rewrites(rule) || accepts()
}

/// The new destination of a rule, as its text has it.
fn target(text: &str) -> &str {
    let words = ["dnat", "redirect", "-j DNAT", "-j REDIRECT", "accept", "-j ACCEPT"];
    let begins = |(at, first): (usize, u8)| {
        let rest = text.get(at..).filter(|_| matches!(first, b'd' | b'r' | b'-' | b'a'))?;
        words.iter().any(|word| rest.starts_with(word)).then_some(rest)
    };
    (0..).zip(text.bytes()).find_map(begins).unwrap_or(text)
}

/// Only the first packet of a connection passes chains of type nat.
fn new_connection(open: &Open) -> Connection {
    let known = open.connection.clone().unwrap_or_default();
    let state = known.state.filter(|state| *state == State::Related).or(Some(State::New));
    Connection { state, status: None, ..known }
}

fn moment<'a>(open: &'a Open, visit: Option<&'a Visit>, connection: &'a Connection) -> Moment<'a> {
    let rewritten = was_rewritten(open);
    Moment {
        packet: &open.packet,
        iif: visit.and_then(|visit| visit.iif.as_deref()),
        oif: visit.and_then(|visit| visit.oif.as_deref()),
        devices_known: visit.is_some(),
        connection: Some(connection),
        // Rules may have written it before.
        mark: Some(open.packet.mark).filter(|mark| *mark == open.header.mark),
        destination_type: match open.route.as_ref() {
            Some((RouteDecision::Forward, _)) if !rewritten => Some(1),
            Some((RouteDecision::Local, _)) if !rewritten => Some(2),
            _ => None,
        },
    }
}
