//! The flowtable's fast path, which sends packets on before nf_tables can mark them: what it sends is selected when it is
//! sent.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use nattrace_common::record::{Snapshot, TUPLE_BYTES};

use crate::{
    emit,
    filter::{key_of_tuple, parse},
    maps::{Answer, ENTERED, Entered, Entry, REPLIES},
    read::{self, Skb, filter},
    select::{State, known, remember, within_rate},
};

/// [`Entry::hook`] of a candidate in the flowtable's hook: no [`HookState::place`] is this.
const IN_FAST_PATH: u32 = u32::MAX;

/// Notes what replies to a packet will look like. When it is sent, every rewrite of its connection is decided.
#[inline(always)]
pub(crate) fn follow_replies(skb: Skb, netns: u32) {
    let (ct, _) = skb.connection();
    if filter!(follow) == 0 || ct == 0 {
        return;
    }
    let mut tuple = [0; TUPLE_BYTES];
    if read::reply_tuple(ct, &raw mut tuple) {
        let _ = REPLIES.insert(Answer::of(&key_of_tuple(&tuple), netns), 1, 0);
    }
}

/// A packet that the flowtable's hook sees and nobody knows: a candidate, if it is a reply of a followed connection.
#[inline(always)]
pub(crate) fn candidate_of_connection(skb: Skb, netns: u32) -> Option<&'static mut Entry> {
    let network = skb.network_header();
    let key = parse(skb.ethertype(), network)?;
    REPLIES.get_ptr(Answer::of(&key, netns))?;
    let index = read::at(skb.device(), read::field!(dev_ifindex)).unwrap_or(0);
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    remember(skb, network, netns, State::CANDIDATE, now, index)
}

/// Keeps how a candidate came into the flowtable's hook: nf_tables has no chance to mark it if the flow is known there.
#[inline(always)]
pub(crate) fn enters(skb: Skb, entry: &mut Entry, function: u32) {
    entry.hook = IN_FAST_PATH;
    let (received_ns, device) = (entry.received_ns, skb.device());
    let entered = Entered { received_ns, device, function, zero: 0, snapshot: Snapshot::EMPTY };
    if ENTERED.insert(skb.0, entered, 0).is_ok()
        && let Some(entered) = ENTERED.get_ptr_mut(skb.0)
    {
        // SAFETY: the entry belongs to this packet, which is in one place at a time.
        unsafe { skb.snapshot(skb.network_header(), &raw mut (*entered).snapshot) };
    }
}

/// A candidate that is sent, and went into the flowtable's hook but into no other, was sent by it: it is selected here,
/// within the rate.
#[inline(always)]
pub(crate) fn leaves(skb: Skb, netns: u32) {
    let Some(entry) = known(skb) else { return };
    if entry.state != State::CANDIDATE || entry.hook != IN_FAST_PATH {
        return;
    }
    if let Some(entered) = ENTERED.get_ptr(skb.0) {
        if within_rate() && emit::has_room() {
            entry.state = State::SELECTED;
            entry.received_ns = 0;
            entry.hook = 0;
            // SAFETY: the entry belongs to this packet.
            let entered = unsafe { &*entered };
            emit::received_as(netns, entry.id, entered);
            emit::wrote(netns, entry.id, entered);
        }
        let _ = ENTERED.remove(skb.0);
    }
}
