//! What a journey means, in plain words, and what to type.

mod drops;

pub use drops::find;

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
}
