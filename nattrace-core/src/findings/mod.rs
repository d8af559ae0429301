//! What a journey means, in plain words, and what to type.

mod causes;
mod drops;
mod no_answer;

pub use causes::{Causes, Total};
pub use drops::find;
pub(crate) use no_answer::Way;

use crate::journey::RuleRef;

/// How sure a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Certainty {
    /// The steps exclude every other cause.
    Certain,
    /// The steps fit, and another cause would fit too.
    Likely,
}

/// One finding, proved by steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Stable, for programs: `kebab-case`.
    pub code: &'static str,
    /// One or two plain sentences.
    pub text: String,
    /// Commands that can be pasted, in order; empty when there is nothing sure to type.
    pub fix: Vec<String>,
    /// How sure.
    pub certainty: Certainty,
    /// Indices of the steps that prove it.
    pub steps: Vec<usize>,
    /// The rule that would have done otherwise, where it is about one: it nearly matched, or was not come to.
    pub near: Option<RuleRef>,
}

/// Whether a shell and nft take an element as it is: addresses, numbers and plain names.
pub(crate) fn is_plain_element(element: &str) -> bool {
    element.split(" . ").all(|part| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == ':')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '/' | '-' | '_'))
    })
}

/// Whether a shell and nft take a name as it is, so that a command with it can be pasted.
pub(crate) fn is_plain(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
}
