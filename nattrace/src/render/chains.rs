//! How the chains of a journey call each other, as its rules' verdicts tell.

use nattrace_core::event::{NfFamily, Verdict};
use nattrace_core::journey::{Backend, RuleRef};

/// The call stack of chains within one hook.
#[derive(Debug, Default)]
pub(super) struct Chains<'a> {
    stack: Vec<Chain<'a>>,
    called: Option<&'a str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Chain<'a> {
    backend: Backend,
    family: NfFamily,
    table: &'a str,
    name: &'a str,
}

/// Where a chain stands relative to what came before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Evaluation began here: a base chain, as far as can be seen.
    Base,
    /// Called by a rule shown before; so many calls deep.
    Called(usize),
    /// The same chain goes on.
    Same,
    /// Back in a chain shown before; so many calls deep, 0 for the base chain.
    Back(usize),
}

impl<'a> Chains<'a> {
    /// Something else came between: what follows begins anew.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// A rule or the policy of a chain is next.
    pub(super) fn enter(
        &mut self,
        backend: Backend,
        family: NfFamily,
        table: &'a str,
        name: &'a str,
    ) -> Place {
        let chain = Chain { backend, family, table, name };
        let called = self.called.take();
        let top = self.stack.last().copied();
        let same_table = |top: Chain<'_>| (top.backend, top.family, top.table) == (backend, family, table);
        if called == Some(name) && top.is_some_and(same_table) {
            self.stack.push(chain);
            return Place::Called(self.stack.len() - 1);
        }
        if top == Some(chain) {
            return Place::Same;
        }
        if let Some(depth) = self.stack.iter().position(|caller| *caller == chain) {
            self.stack.truncate(depth + 1);
            return Place::Back(depth);
        }
        self.stack = vec![chain];
        Place::Base
    }

    /// What the rule or the policy said.
    pub(super) fn said(&mut self, verdict: &'a Verdict) {
        match verdict {
            Verdict::Jump(chain) | Verdict::Goto(chain) => self.called = Some(chain),
            Verdict::Accept | Verdict::Drop | Verdict::Stolen | Verdict::Queue(_) => self.reset(),
            Verdict::Continue | Verdict::Break | Verdict::Return | Verdict::Unknown(_) => {}
        }
    }
}

/// A rule's text where its chain is told beside it: without the `-A CHAIN` of legacy iptables.
pub(super) fn beside_chain<'a>(rule: &RuleRef, text: &'a str) -> &'a str {
    let rest = || text.strip_prefix("-A ")?.strip_prefix(rule.chain.as_str());
    match rule.backend {
        Backend::Nft => text,
        Backend::Legacy => rest().map_or(text, str::trim_start),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_and_returns() {
        let mut chains = Chains::default();
        let jump = |chain: &str| Verdict::Jump(chain.to_owned());
        let (a, b) = (jump("a"), jump("b"));
        assert_eq!(chains.enter(Backend::Nft, NfFamily::Inet, "filter", "input"), Place::Base);
        chains.said(&a);
        assert_eq!(chains.enter(Backend::Nft, NfFamily::Inet, "filter", "a"), Place::Called(1));
        chains.said(&Verdict::Continue);
        assert_eq!(chains.enter(Backend::Nft, NfFamily::Inet, "filter", "a"), Place::Same);
        chains.said(&b);
        assert_eq!(chains.enter(Backend::Nft, NfFamily::Inet, "filter", "b"), Place::Called(2));
        chains.said(&Verdict::Return);
        assert_eq!(chains.enter(Backend::Nft, NfFamily::Inet, "filter", "input"), Place::Back(0));
        chains.said(&a);
        // Nothing matched in the called chain.
        assert_eq!(chains.enter(Backend::Nft, NfFamily::Inet, "filter", "input"), Place::Same);
        chains.said(&Verdict::Accept);
        assert_eq!(
            chains.enter(Backend::Nft, NfFamily::Inet, "filter", "input"),
            Place::Base,
            "evaluated again"
        );
        chains.said(&a);
        assert_eq!(chains.enter(Backend::Nft, NfFamily::Ip, "filter", "a"), Place::Base, "another table's");
    }
}
