//! Rule text and chains, as listed, and which listing holds for which moment.

mod history;
mod iptables;
pub mod legacy;
mod statement;

pub use history::{History, RuleName};
pub use iptables::{Target, iptables_quote_is_open, iptables_target};
pub(crate) use iptables::{target_goes_on, words as iptables_words};
pub use statement::{does_nat, keeps_port};

use bitcode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::event::{HookPoint, NfFamily};
use crate::name::Name;

/// The ruleset of one namespace as listed between two equal generation numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct Listing {
    /// `NFTA_GEN_ID` before and after the listing; `None` where it moved meanwhile or could not be read.
    pub generation: Option<u32>,
    /// Every table.
    pub tables: Vec<Table>,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct Table {
    /// Family.
    pub family: NfFamily,
    /// Name.
    pub name: String,
    /// `nft_table.handle`: never reused within a namespace.
    pub handle: u64,
    /// Chains in the order listed.
    pub chains: Vec<Chain>,
}

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct Chain {
    /// Name.
    pub name: String,
    /// Handle.
    pub handle: u64,
    /// Where it hangs, for a base chain.
    pub base: Option<BaseChain>,
    /// Rules in order.
    pub rules: Vec<Rule>,
}

/// What makes a chain a base chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct BaseChain {
    /// `filter`, `nat` or `route`.
    pub kind: String,
    /// Hook.
    pub hook: HookPoint,
    /// Devices it hangs at: of netdev tables, and of chains at ingress.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<String>,
    /// Priority as a number; names and offsets are resolved.
    pub priority: i32,
    /// `accept` or `drop`.
    pub policy: String,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct Rule {
    /// Handle: unique within the table while it lives. A rule that is replaced leaves it to the one that takes its place.
    pub handle: u64,
    /// The text `nft -a -s list ruleset` prints, without the handle comment.
    pub text: String,
    /// The text its owner prints, where that is iptables-nft (or its siblings for IPv6, ARP and bridges): a line
    /// of `iptables-nft-save`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iptables: Option<String>,
    /// The text without `-s`, as nft's traces have it: with the values of counters and quotas; only where it was asked
    /// for and differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted: Option<String>,
}

impl Rule {
    /// A rule that nft alone tells of, with nothing that counts.
    #[must_use]
    pub fn new(handle: u64, text: String) -> Self {
        Self { handle, text, iptables: None, counted: None }
    }
}

/// A rule as a [`History`] keeps it: its texts are shared with the steps of all packets that came by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownRule {
    /// As [`Rule::handle`].
    pub handle: u64,
    /// As [`Rule::text`].
    pub text: Name,
    /// As [`Rule::iptables`].
    pub iptables: Option<Name>,
    /// As [`Rule::counted`].
    pub counted: Option<Name>,
}

impl From<&Rule> for KnownRule {
    fn from(rule: &Rule) -> Self {
        let Rule { handle, text, iptables, counted } = rule;
        let name = |text: &Option<String>| text.as_ref().map(Name::from);
        Self { handle: *handle, text: text.into(), iptables: name(iptables), counted: name(counted) }
    }
}

impl KnownRule {
    /// The text with what the rule has counted.
    #[must_use]
    pub fn counted_text(&self) -> &Name {
        self.counted.as_ref().unwrap_or(&self.text)
    }
}

/// Whether a table is a trace table of some run of this program: `nattrace_PID`.
pub(crate) fn is_trace_table(table: &str) -> bool {
    table
        .strip_prefix("nattrace_")
        .is_some_and(|pid| !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit()))
}
