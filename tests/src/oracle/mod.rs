//! Witnesses that are not nattrace: other tools, the kernel's lists, and the promises of the contract.
//! Every oracle is a pure function from what it saw and what nattrace said to a list of complaints.

pub(crate) mod agreement;
pub(crate) mod anonymized;
pub(crate) mod classify;
pub(crate) mod conntrack;
pub(crate) mod contract;
pub(crate) mod counters;
pub(crate) mod evaluator;
pub(crate) mod journey;
pub(crate) mod leftovers;
pub(crate) mod legacy;
pub(crate) mod listing;
pub(crate) mod monitor;
pub(crate) mod nft_format;
pub(crate) mod pcapng;
pub(crate) mod replay;
pub(crate) mod schema;
pub(crate) mod seen;
pub(crate) mod stored;
pub(crate) mod xtables;
