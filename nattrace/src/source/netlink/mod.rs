//! nfnetlink by hand: trace messages, the trace table, generations, conntrack.
//!
//! ```text
//! kernel ── socket ── message ── attribute ──┬─ trace            NFT_MSG_TRACE           ▶ TraceMessage
//!                                            ├─ ruleset_changes  NEWTABLE DELTABLE NEWGEN ▶ Commit
//!                                            ├─ conntrack        ctnetlink                ▶ ConntrackEvent
//!                                            └─ route            links and addresses
//! fib ── socket ── kernel ── socket ── FibAnswer  which route a packet takes
//! neighbour ── socket ── kernel ── socket ── Neighbour  who has the next hop's address
//! trace_table ── batch ── socket ── kernel        the one thing that is ever written
//! ```
//!
//! Every socket is of the namespace in which the thread that opened it was at that moment
//! ([`crate::source::netns::run_in`]), and stays so wherever it is used later.

pub mod attribute;
pub mod batch;
pub mod conntrack;
pub mod constants;
pub mod fib;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod message;
pub mod neighbour;
pub mod route;
pub mod ruleset_changes;
pub mod socket;
pub mod trace;
pub mod trace_table;
