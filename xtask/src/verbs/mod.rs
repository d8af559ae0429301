//! The verbs, one file each.

pub(crate) mod guest;
pub(crate) mod setup;
