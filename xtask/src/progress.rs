//! What a person sees of long work: one line a step, on standard error.

use std::fmt::Display;

/// Says which long step begins.
pub(crate) fn step(what: impl Display) {
    eprintln!("xtask: {what}");
}
