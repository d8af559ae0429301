//! Rules of legacy iptables: what the kernel tells of them, completed by their listing.
//!
//! The kernel names a number in a chain as a packet comes to it, and never what it decided. What a rule says, and so
//! what it decides, is known once a listing speaks for that moment: when the journey has ended. What happened to the
//! packet afterwards must agree with it, or nothing is said.

use super::assemble::Assembler;
use super::open::{Draft, Moment, Note, Open};
use super::{Backend, ConnectionStep, RuleRef, RuleStep, StepKind};
use crate::event::{HookVerdict, LegacyRule, Manip, TraceType, Verdict};
use crate::ruleset::does_nat;
use crate::ruleset::legacy::{self, Found, Place};

impl Open {
    /// The packet came to a rule, or to the end of a chain.
    pub(super) fn legacy_rule(&mut self, at: Moment, seen: &LegacyRule) {
        self.seen(at);
        let here = |visit: &usize| {
            let visit = self.visits.get(*visit);
            visit.is_some_and(|v| !v.over && v.hook == seen.hook && v.family == seen.family)
        };
        // The kernel side tells of the hook first; that record may have been lost.
        let visit = match self.current().filter(here) {
            Some(visit) => visit,
            None => self.enter(at, seen.hook, seen.family, None, None, true),
        };
        let rule = RuleRef {
            backend: Backend::Legacy,
            family: seen.family,
            table: (&seen.table).into(),
            chain: (&seen.chain).into(),
            handle: u64::from(seen.rulenum),
            text: None,
            nft_text: None,
        };
        let or_end = seen.called != TraceType::Rule;
        let step = RuleStep { rule, verdict: None, or_end, hook: Some(seen.hook), mark: None };
        self.push(at, StepKind::Rule(Box::new(step)), Some(visit), Note::Legacy { called: seen.called });
    }

    /// Whether something happened to the packet that would not have, had the step at `index` dropped it.
    fn lived_on(&self, index: usize) -> bool {
        self.drafts.iter().skip(index + 1).any(|draft| match &draft.step.kind {
            StepKind::Drop(_) | StepKind::Route { .. } => false,
            // That it is made is noticed late, and anybody may remove it.
            StepKind::Connection { event, .. } => {
                !matches!(event, ConnectionStep::Created | ConnectionStep::Destroyed)
            }
            _ => true,
        })
    }

    /// Whether the packet was dropped in the hook of the step at `index`, and that step is the last before.
    fn dropped_at(&self, index: usize) -> bool {
        let Some(visit) = self.drafts.get(index).and_then(|d| d.visit).and_then(|v| self.visits.get(v))
        else {
            return false;
        };
        let kernel = self.ending.kernel.as_ref().and_then(|drop| drop.hook);
        self.ending.verdict.is_none()
            && !self.lived_on(index)
            && (visit.verdict == Some(HookVerdict::Drop)
                || kernel == Some(visit.hook)
                || self.ending.hook == Some(visit.hook))
    }
}

impl Assembler {
    /// Completes the steps of legacy iptables, and says which of them dropped the packet.
    pub(super) fn fill_legacy(&self, open: &mut Open) {
        for index in 0..open.drafts.len() {
            let (lived_on, dropped_at) = (open.lived_on(index), open.dropped_at(index));
            let Some(draft) = open.drafts.get_mut(index) else { continue };
            self.fill_legacy_draft(draft, lived_on);
            if !matches!(draft.note, Note::Legacy { .. }) {
                continue;
            }
            let (verdict, hook) = match &mut draft.step.kind {
                StepKind::Rule(step) => {
                    if dropped_at && !step.rule.text.as_deref().is_some_and(legacy::is_sure) {
                        step.verdict = None;
                    }
                    (step.verdict.clone(), step.hook)
                }
                StepKind::Policy { verdict, hook, .. } => (Some(verdict.clone()), *hook),
                _ => continue,
            };
            let visit = draft.visit;
            match verdict {
                Some(Verdict::Drop) if open.ending.verdict.is_none() => {
                    open.ending.verdict = Some(index);
                    open.ending.hook = open.ending.hook.or(hook);
                }
                // The hook's answer does not tell a queue from what keeps a packet.
                Some(Verdict::Queue(_)) if !lived_on => {
                    let kept = visit.filter(|v| {
                        open.visits.get(*v).is_some_and(|v| v.verdict == Some(HookVerdict::Stolen))
                    });
                    if let Some(visit) = kept {
                        open.decide(visit, HookVerdict::Queue);
                    }
                }
                _ => {}
            }
        }
    }

    /// Gives one step of legacy iptables its text and verdict, as far as its listing is known. What is listed as a drop
    /// was not, if the packet lived on.
    pub(super) fn fill_legacy_draft(&self, draft: &mut Draft, lived_on: bool) {
        let (Note::Legacy { called }, StepKind::Rule(step)) = (&draft.note, &mut draft.step.kind) else {
            return;
        };
        let place = Place {
            family: step.rule.family,
            table: &step.rule.table,
            chain: &step.rule.chain,
            rulenum: step.rule.handle,
            called: *called,
        };
        match self.legacy.find(draft.step.netns, &place, draft.step.time_ns) {
            Some(Found::Rule { verdict: Some(Verdict::Drop), .. } | Found::Policy(Verdict::Drop))
                if lived_on => {}
            Some(Found::Rule { text, verdict }) => {
                step.or_end = false;
                step.rule.text = Some(text.into());
                step.verdict = verdict;
            }
            Some(Found::Policy(verdict)) => {
                draft.step.kind = StepKind::Policy {
                    backend: Backend::Legacy,
                    family: step.rule.family,
                    table: std::mem::take(&mut step.rule.table),
                    chain: std::mem::take(&mut step.rule.chain),
                    verdict,
                    hook: step.hook,
                };
            }
            Some(Found::End) => draft.note = Note::ChainEnd,
            None => {}
        }
    }
}

/// The rule that decided a rewrite of `nat`, if this draft of legacy iptables is it. Where its text is not known, it is
/// when nothing else was evaluated after it (`last`): a table `nat` is left by the rule that maps.
pub(super) fn deciding_rule(draft: &Draft, nat: Manip, last: bool) -> Option<RuleRef> {
    let (StepKind::Rule(step), Note::Legacy { .. }) = (&draft.step.kind, &draft.note) else { return None };
    let decided = step.rule.table == "nat"
        && match &step.rule.text {
            Some(text) => does_nat(text, nat, step.hook),
            None => last && !step.or_end,
        };
    decided.then(|| step.rule.clone())
}
