//! Why the kernel drops packets: one catalogue, by which drops are named and from which docs/drops.md is made.
//!
//! A drop is known by the kernel's reason (5.17 and later; include/net/dropreason-core.h, v7.3), by the function that
//! freed the packet, by what the packet carried when it was freed, or by several of these together.

mod catalogue;
mod document;
mod ends;
mod evidence;
mod fixes;

pub use document::document;
pub(crate) use ends::{
    is_capture, is_consumption, is_delivered_by, is_handed_to_device, is_in_hook, is_made_up, is_refusal,
    is_used,
};
pub use evidence::Evidence;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// One cause of drops.
#[derive(Debug, PartialEq, Eq)]
pub struct Cause {
    /// Stable, for programs; the code of the finding, too.
    pub code: &'static str,
    /// What happened, in a plain sentence or two; `WAITED`, `NEXTHOP` and `DEVICE` stand for how long it waited, and for
    /// whom, and where.
    pub means: &'static str,
    /// What an administrator can look at or change; may be empty. `DESTINATION`, `SOURCE`, `DEVICE` and `PORT` stand for
    /// the packet's own, as it was when it was dropped.
    pub check: &'static str,
    /// What the two ends see of it.
    pub looks: &'static str,
    /// The kernel's own counter that rises with it, as `nstat -az` or another tool names it; may be empty.
    pub counter: &'static str,
    signs: &'static [Sign],
}

/// How a cause is known.
#[derive(Debug, PartialEq, Eq)]
struct Sign {
    reason: Option<&'static str>,
    function: Option<&'static str>,
    fact: Option<evidence::Fact>,
    /// It is so most of the time, but not for certain.
    likely: bool,
}

/// The kernel gives this reason, wherever.
const fn reason(reason: &'static str) -> Sign {
    Sign { reason: Some(reason), function: None, fact: None, likely: false }
}

/// The function drops for this alone, where the kernel gives no reason or one that says nothing.
const fn function(function: &'static str) -> Sign {
    Sign { reason: None, function: Some(function), fact: None, likely: false }
}

/// The function gives this reason for something of its own.
const fn pair(reason: &'static str, function: &'static str) -> Sign {
    Sign { reason: Some(reason), function: Some(function), fact: None, likely: false }
}

impl Sign {
    /// Only where this is so, too.
    const fn and(mut self, fact: evidence::Fact) -> Self {
        self.fact = Some(fact);
        self
    }

    /// Other causes can look the same.
    const fn likely(mut self) -> Self {
        self.likely = true;
        self
    }

    /// How much this sign says of a drop; `None` when it does not fit.
    fn fits(&self, drop: &Evidence<'_>) -> Option<u8> {
        if self.fact.is_some_and(|fact| !fact.holds(drop)) {
            return None;
        }
        let reason = self.reason.map(|reason| drop.reason == Some(reason));
        let function = self.function.map(|function| drop.plain_function() == Some(function));
        let weight = match (reason, function) {
            (Some(true), Some(true)) => 5,
            (Some(true), None) if drop.is_explained() => 4,
            // Says nothing, or less than the function does.
            (None, Some(true)) if !drop.is_explained() => 3,
            (Some(true), None) => 2,
            (None, Some(true)) => 1,
            _ => return None,
        };
        Some(2 * weight + u8::from(self.fact.is_some()))
    }
}

impl Cause {
    /// What to look at, with the packet's own names in it; `None` when there is nothing to be said.
    #[must_use]
    pub fn check_of(&self, drop: &Evidence<'_>) -> Option<String> {
        (!self.check.is_empty()).then(|| drop.fill(self.check))
    }

    /// A command that removes the cause, where there is one.
    pub(crate) fn fix_of(&self, drop: &Evidence<'_>) -> Option<String> {
        fixes::fix(self.code, drop)
    }
}

/// All causes, by the place in the packet's way.
fn all() -> impl Iterator<Item = &'static Cause> {
    catalogue::GROUPS.iter().flat_map(|group| group.causes)
}

/// The cause with this code.
pub(crate) fn cause(code: &str) -> Option<&'static Cause> {
    all().find(|cause| cause.code == code)
}

/// The cause of a drop, if the catalogue has it.
#[must_use]
pub fn cause_of(drop: &Evidence<'_>) -> Option<&'static Cause> {
    best(drop).map(|(cause, _)| cause)
}

/// Whether nothing else than [`cause_of`] says can have dropped it.
#[must_use]
pub fn is_certain(drop: &Evidence<'_>) -> bool {
    best(drop).is_none_or(|(_, sign)| !sign.likely)
}

fn best(drop: &Evidence<'_>) -> Option<(&'static Cause, &'static Sign)> {
    let fitting = Index::get().signs(drop).filter_map(|place| Some((place.sign.fits(drop)?, place)));
    // Of equals the first.
    let best = fitting.max_by_key(|(weight, place)| (*weight, Reverse(place.number)));
    best.map(|(_, place)| (place.cause, place.sign))
}

/// A sign, and where it stands in the catalogue.
#[derive(Debug)]
struct Indexed {
    number: usize,
    cause: &'static Cause,
    sign: &'static Sign,
}

/// The catalogue by what its signs are about: of all of them a drop can have a few only.
#[derive(Debug, Default)]
struct Index {
    by_reason: BTreeMap<&'static str, Vec<Indexed>>,
    /// Those that any reason will do for.
    by_function: BTreeMap<&'static str, Vec<Indexed>>,
}

impl Index {
    fn get() -> &'static Self {
        static INDEX: OnceLock<Index> = OnceLock::new();
        INDEX.get_or_init(|| {
            let mut index = Self::default();
            let signs = all().flat_map(|cause| cause.signs.iter().map(move |sign| (cause, sign)));
            for (number, (cause, sign)) in signs.enumerate() {
                let place = match (sign.reason, sign.function) {
                    (Some(reason), _) => index.by_reason.entry(reason),
                    (None, Some(function)) => index.by_function.entry(function),
                    // Fits nothing.
                    (None, None) => continue,
                };
                place.or_default().push(Indexed { number, cause, sign });
            }
            index
        })
    }

    fn signs(&self, drop: &Evidence<'_>) -> impl Iterator<Item = &Indexed> {
        let reason = drop.reason.and_then(|reason| self.by_reason.get(reason));
        let function = drop.plain_function().and_then(|function| self.by_function.get(function));
        reason.into_iter().chain(function).flatten()
    }
}

/// What happened, in plain words.
#[must_use]
pub fn describe(drop: &Evidence<'_>) -> String {
    if let Some(cause) = cause_of(drop) {
        return drop.fill(cause.means);
    }
    match (drop.reason.filter(|r| *r != "NOT_SPECIFIED"), drop.function) {
        (Some(reason), Some(function)) => {
            format!("The kernel dropped it in {function}, with the reason {reason}.")
        }
        (Some(reason), None) => format!("The kernel dropped it, with the reason {reason}."),
        (None, Some(function)) => format!("The kernel dropped it in {function}, without giving a reason."),
        (None, None) => "The kernel dropped it, without giving a reason.".to_owned(),
    }
}

#[cfg(test)]
mod tests;
