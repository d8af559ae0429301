//! Generic XDP, which runs programs on packets that have a buffer already, right after a device gave them to the stack.
//! What such a program did is known when it is done: most let packets pass as they are.

use crate::{
    emit,
    filter::parse_flow,
    maps::{self, Answer, Entered, Entry, XDP_CALLS, XdpCall},
    read::{self, Skb},
    select::{self, State, known},
};
use nattrace_common::record::Snapshot;

/// Index in `WRITER_FUNCTIONS`.
const FUNCTION: u32 = 10;

/// Keeps what a packet looks like before a program runs on it. `argument` is its buffer or, from 6.9 on, the address of
/// a variable that holds it, which no buffer's address is.
#[inline(always)]
pub(crate) fn enters(key: u64, argument: u64) {
    let (skb, variable) = match known(Skb(argument)) {
        Some(_) => (Skb(argument), 0),
        None => (Skb(read::at(argument, 0).unwrap_or(0)), argument),
    };
    let Some(entry) = known(skb) else { return };
    if entry.state == State::REFUSED {
        return;
    }
    let network = skb.data();
    let Some(flow) = parse_flow(skb.ethertype(), network) else { return };
    let entered = Entered {
        received_ns: entry.received_ns,
        device: skb.device(),
        function: FUNCTION,
        zero: 0,
        snapshot: Snapshot::EMPTY,
    };
    let flow = Answer::of(&flow, entry.netns);
    let call = XdpCall { variable, skb: skb.0, entry: *entry, flow, zero: 0, entered };
    if XDP_CALLS.insert(key, call, 0).is_ok()
        && let Some(call) = XDP_CALLS.get_ptr_mut(key)
    {
        // SAFETY: the entry belongs to the call that is being entered.
        unsafe { skb.snapshot(network, &raw mut (*call).entered.snapshot) };
    }
}

/// A program let the packet pass: tells what it wrote.
#[inline(always)]
pub(crate) fn passes(call: &XdpCall) {
    let skb = if call.variable == 0 { Skb(call.skb) } else { Skb(read::at(call.variable, 0).unwrap_or(0)) };
    // The packet was copied into another buffer, for the program to have room.
    if skb.0 != call.skb {
        let entry = Entry { hook: 0, ..call.entry };
        maps::add_packet(skb.0, &entry);
    }
    let Some(entry) = known(skb) else { return };
    let network = skb.data();
    let same = parse_flow(skb.ethertype(), network)
        .is_some_and(|flow| maps::same_ends(&call.flow, &Answer::of(&flow, call.entry.netns)));
    if same {
        return;
    }
    let Some(netns) = skb.watched_netns() else { return };
    if entry.state == State::CANDIDATE {
        if !select::within_rate() || !emit::has_room() {
            return;
        }
        entry.state = State::SELECTED;
        entry.received_ns = 0;
        emit::received_as(netns, entry.id, &call.entered);
    }
    emit::wrote(netns, entry.id, &call.entered);
}
