//! The pure part of nattrace: events in, journeys and findings out.
//!
//! No IO, no clock, and no randomness but in the keys of hash maps that are never gone through. Time comes in with each [`event::Event`] and with
//! [`journey::assemble::Assembler::expire`]; everything else is a function of what was pushed.
//!
//! ```text
//! sources ── Event ──▶ journey (assemble) ──▶ findings ──▶ renderers (in the `nattrace` package)
//! ```

pub mod anonymize;
pub mod conntrack;
pub mod conversation;
pub mod drops;
pub mod evaluate;
pub mod event;
pub mod fib;
pub mod filter;
pub mod findings;
pub mod journey;
pub mod name;
pub mod neighbour;
pub mod packet;
pub mod record;
pub mod ruleset;
