//! Whether a rule of nftables or iptables matches a packet, and if not, why: from the rule's text.
//!
//! The text is what `nft list ruleset` prints (nftables 1.0 and later; src/parser_bison.y has the grammar). What this
//! room cannot read, or a datum that was not seen, makes an answer [`Answer::Unknown`], never a guess.

mod datum;
mod iptables;
mod judge;
mod names;
mod quick;
mod read;
mod value;
mod words;

pub use datum::Datum;
pub use judge::{Answer, Asks, Failure, Lookup, Moment};
pub(crate) use quick::is_for_others;
pub use value::{Item, Value};

use crate::event::Verdict;

/// A rule, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expressions(pub(crate) Vec<Expression>);

/// A part of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expression {
    /// Goes on only when the packet is like this.
    Match(Match),
    /// Goes where the map says; goes on when the key is not in it.
    VerdictMap { key: Vec<Datum>, map: Operand, text: String },
    /// Ends the rule.
    Verdict(Verdict),
    /// Ends the rule: an address is translated, or the packet answered, queued or redirected otherwise.
    Terminal {
        text: String,
        /// What of the packet is looked up where to learn the new address: the rule does not match what is not there
        /// (`NFT_BREAK` of `nft_lookup_eval`, net/netfilter/nft_lookup.c, v6.12).
        map: Option<(Vec<Datum>, Operand)>,
    },
    /// Does something and goes on.
    Effect,
    /// May go on or not: a limit, a quota, or what is not understood.
    Unclear { text: String },
}

/// A comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Match {
    pub(crate) key: Vec<Datum>,
    pub(crate) mask: Option<u128>,
    pub(crate) operator: Operator,
    pub(crate) operand: Operand,
    /// As the rule has it.
    pub(crate) text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    /// Equal, or within.
    Is,
    /// The opposite.
    IsNot,
    Less,
    LessOrEqual,
    More,
    MoreOrEqual,
    /// Any of the bits is set.
    AnyOf,
    /// None of the bits is set.
    NoneOf,
}

/// What a packet's datum is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Operand {
    /// One of these: each with an item for each part of the key; of a map, what it leads to.
    Items(Vec<(Vec<Item>, Option<Verdict>)>),
    /// A named set or map.
    Named(String),
}

impl Expressions {
    /// Takes a rule's text apart, as `nft list ruleset` prints it.
    #[must_use]
    pub fn read(text: &str) -> Self {
        read::read(text)
    }

    /// Takes a rule apart that is written as iptables does: `-A INPUT -p tcp …`, of IPv4 or IPv6.
    #[must_use]
    pub fn read_iptables(text: &str, ipv6: bool) -> Self {
        iptables::read(text, ipv6)
    }

    /// Whether it asks for anything, or may do so.
    #[must_use]
    pub fn has_conditions(&self) -> bool {
        self.conditions() > 0
    }

    /// How many things it asks for.
    #[must_use]
    pub fn conditions(&self) -> usize {
        let asks = |e: &&Expression| {
            !matches!(e, Expression::Verdict(_) | Expression::Terminal { .. } | Expression::Effect)
        };
        self.0.iter().filter(asks).count()
    }

    /// Whether the rule accepts what it matches, some of it at least; `None` when that is not known.
    #[must_use]
    pub fn accepts(&self) -> Option<bool> {
        let accepting = |(_, verdict): &(Vec<Item>, Option<Verdict>)| *verdict == Some(Verdict::Accept);
        for expression in &self.0 {
            match expression {
                Expression::VerdictMap { map: Operand::Named(_), .. } => return None,
                Expression::VerdictMap { map: Operand::Items(entries), .. }
                    if entries.iter().any(accepting) =>
                {
                    return Some(true);
                }
                Expression::Verdict(verdict) => return Some(*verdict == Verdict::Accept),
                Expression::Terminal { text, .. } => {
                    let refuses = text.split_whitespace().any(|word| matches!(word, "reject" | "REJECT"));
                    return refuses.then_some(false);
                }
                _ => {}
            }
        }
        let ends = |e: &Expression| matches!(e, Expression::Unclear { text } if may_end(text));
        (!self.0.iter().any(ends)).then_some(false)
    }

    /// Where the rule leads when it matches; `None` when it goes on to the next, or that depends on a map.
    #[must_use]
    pub fn verdict(&self) -> Option<&Verdict> {
        self.0.iter().find_map(|expression| match expression {
            Expression::Verdict(verdict) => Some(verdict),
            _ => None,
        })
    }
}

/// Whether what is not understood may be where a packet's way through the chains ends.
fn may_end(text: &str) -> bool {
    let ends = |word: &str| {
        matches!(
            word,
            "accept"
                | "vmap"
                | "queue"
                | "snat"
                | "dnat"
                | "masquerade"
                | "redirect"
                | "tproxy"
                | "synproxy"
                | "fwd"
                | "target"
                | "-j"
                | "-g"
        )
    };
    text.split_whitespace().any(ends)
}

#[cfg(test)]
mod tests;
