//! Switching the kernel's tracing on without touching a ruleset that anyone uses.
//!
//! `meta nftrace set` in any chain of any namespace turns on the static key `nft_trace_enabled` for all of
//! them (net/netfilter/nft_meta.c `nft_meta_set_init`). Then a probe on `__nft_trace_packet` sees every rule
//! that any packet matches, although no packet is marked. The rule stands in a namespace of its own, which
//! nothing but this holder's socket keeps alive.

use super::plan::{Chain, Plan};
use super::rule::Rule;
use super::{INET, Names, TraceTableError, batch, explain};
use crate::source::netlink::socket::NetlinkSocket;
use crate::source::netns;

/// Keeps the static key on until it is dropped, or the process ends in whatever way.
#[derive(Debug)]
pub struct StaticKeyHolder {
    /// A netlink socket holds its namespace, and this one is all that does.
    _socket: NetlinkSocket,
}

impl StaticKeyHolder {
    /// Makes the namespace and the rule. Needs CAP_SYS_ADMIN for the one, CAP_NET_ADMIN for the other.
    pub fn install() -> Result<Self, TraceTableError> {
        netns::run_in_new(|| {
            let name = "nattrace_key";
            let chain = Chain {
                name: "key".to_owned(),
                base: None,
                devices: Vec::new(),
                rules: vec![Rule::new().trace()],
            };
            let plan = Plan { sets: Vec::new(), chains: vec![chain] };
            let mut socket = NetlinkSocket::open()?;
            // Not owned: kernels that know no owners are one reason to be here, and the namespace's end is
            // the table's end.
            batch(Names { family: INET, name }, false, &plan)
                .commit(&mut socket)
                .map_err(|e| explain(e, name))?;
            Ok(Self { _socket: socket })
        })?
    }
}
