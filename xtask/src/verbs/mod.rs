//! The verbs, one file each.

pub(crate) mod bench;
pub(crate) mod demo;
pub(crate) mod dist;
pub(crate) mod fuzz;
pub(crate) mod guest;
pub(crate) mod picture;
pub(crate) mod record;
pub(crate) mod run;
pub(crate) mod setup;
pub(crate) mod soak;
pub(crate) mod test;
pub(crate) mod verifier;
