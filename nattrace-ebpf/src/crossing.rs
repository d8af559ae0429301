//! Followed packets in further namespaces. A veth clears the mark that has nf_tables trace a packet
//! (`skb_scrub_packet`), and after a rewrite the filter does not know it again. So, where several namespaces are
//! watched, each trace table asks here, by an `xt_bpf` match, whether the packet in its hands is one that is
//! followed already, or the answer to one.

use crate::{
    filter::parse_flow,
    maps::{ANSWERS, Answer},
    read::{Skb, filter},
    select::{self, State},
};

/// A followed packet has come into another namespace: what answers it there is followed, too. Only of
/// flows that can be told apart: addresses alone would take in what nobody asked for.
#[inline(always)]
pub(crate) fn expect_answer(skb: Skb, network: u64, netns: u32) {
    if filter!(crossing) == 0 || filter!(follow) == 0 {
        return;
    }
    if let Some(key) = parse_flow(skb.ethertype(), network) {
        let _ = ANSWERS.insert(Answer::to(&key, netns), 1, 0);
    }
}

/// Whether a packet that nf_tables asks about is followed, or becomes so now.
#[inline(always)]
pub(crate) fn follows(skb: Skb) -> bool {
    let known = select::living(skb);
    if let Some(entry) = &known
        && entry.state == State::SELECTED
    {
        return true;
    }
    if filter!(follow) == 0 {
        return false;
    }
    let followed = select::is_followed(skb);
    // What answers is made here, and has no device yet: the least reads for what comes in, which is most of it.
    if !followed && skb.device() != 0 {
        return false;
    }
    let Some(netns) = skb.netns().filter(|netns| *netns != 0) else { return false };
    let network = skb.network_header();
    if !followed && !is_answer(skb, network, netns) {
        return false;
    }
    if let Some(entry) = known {
        return select::promote(skb, netns, entry);
    }
    let state = select::admitted();
    select::remember(skb, network, netns, state, 0, 0).is_some() && state == State::SELECTED
}

#[inline(always)]
fn is_answer(skb: Skb, network: u64, netns: u32) -> bool {
    parse_flow(skb.ethertype(), network).is_some_and(|key| ANSWERS.get_ptr(Answer::of(&key, netns)).is_some())
}
