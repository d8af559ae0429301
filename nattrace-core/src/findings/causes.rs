//! What a run's drops have in common: journeys by who dropped them, and why.

use std::collections::BTreeMap;

use crate::journey::{DropCause, Journey, JourneyId, KernelDrop, Outcome};
use crate::name::Name;

/// Causes that are kept apart; the drops of others are counted together.
const MAX_CAUSES: usize = 1000;

/// Who dropped it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    /// A rule, or the policy of a chain: where it is.
    Rules(String),
    /// The kernel: the cause, or what it gives for one; and the device.
    Kernel(String, Option<Name>),
    /// More causes than are kept apart.
    Others,
}

/// One cause of drops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Total {
    /// Code of the strongest finding of the first packet; `None` where it has none.
    pub code: Option<&'static str>,
    /// Who dropped, in a few words.
    pub text: String,
    /// How many packets.
    pub count: u64,
    /// The first of them.
    pub first: JourneyId,
}

/// Counts drops by cause.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Causes(BTreeMap<Key, Total>);

impl Causes {
    /// Counts a journey, if it ended in a drop. Gives the first journey of the same cause: it stands for the cause.
    pub fn add(&mut self, journey: &Journey) -> Option<JourneyId> {
        let Outcome::Dropped(cause) = &journey.outcome else { return None };
        let (mut key, mut text) = describe(cause);
        if self.0.len() >= MAX_CAUSES && !self.0.contains_key(&key) {
            (key, text) = (Key::Others, "others".to_owned());
        }
        let code = journey.findings.first().map(|finding| finding.code);
        let total = self.0.entry(key).or_insert(Total { code, text, count: 0, first: journey.id });
        total.count += 1;
        Some(total.first)
    }

    /// The causes, the most frequent first; of equals the one that was met first.
    #[must_use]
    pub fn worst_first(&self) -> Vec<Total> {
        let mut totals: Vec<Total> = self.0.values().cloned().collect();
        totals.sort_by_key(|total| (std::cmp::Reverse(total.count), total.first));
        totals
    }
}

fn describe(cause: &DropCause) -> (Key, String) {
    match cause {
        DropCause::Rule { rule, .. } => {
            let place = format!("{} {}", rule.chain_of(), rule.in_chain());
            let text = match &rule.text {
                Some(text) => format!("rule \"{text}\" ({place})"),
                None => format!("a rule ({place})"),
            };
            // After a reload a handle or a number can be another rule's.
            (Key::Rules(text.clone()), text)
        }
        DropCause::Policy { backend, family, table, chain, .. } => {
            let text = format!("the policy of {} {table} {chain}", backend.owner(*family));
            (Key::Rules(text.clone()), text)
        }
        DropCause::Kernel(drop) => {
            let KernelDrop { cause, reason, function, device, text, .. } = &**drop;
            let given =
                || format!("{} {}", reason.as_deref().unwrap_or(""), function.as_deref().unwrap_or(""));
            let key = cause.map_or_else(given, str::to_owned);
            let at = device.as_ref().map(|device| format!(" at {device}")).unwrap_or_default();
            (Key::Kernel(key, device.clone()), format!("the kernel{at}: {}", text.trim_end_matches('.')))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_in_numbers_alone_is_one_cause() {
        let drop = |text: &str, device: &str| {
            let drop = KernelDrop {
                cause: Some("neighbour-failed"),
                device: Some(device.into()),
                text: text.into(),
                ..KernelDrop::default()
            };
            describe(&DropCause::Kernel(Box::new(drop)))
        };
        let (first, second, other) =
            (drop("waited 3.0 s", "a"), drop("waited 3.1 s", "a"), drop("waited", "b"));
        assert_eq!(first.0, second.0);
        assert_ne!(first.0, other.0);
        assert_eq!(first.1, "the kernel at a: waited 3.0 s");
    }
}
