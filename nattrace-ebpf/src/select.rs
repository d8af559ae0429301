//! Which packets are followed.
//!
//! With a trace table, nf_tables decides (it matches the same filter, limits the rate, and marks the packet:
//! `skb->nf_trace`), so that every selected packet has its rule steps; what a device gives is a candidate
//! until then. Without one, the filter and the rate are applied here.

use core::ffi::c_void;

use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_ktime_get_ns};
use nattrace_common::record::{Kind, TUPLE_BYTES};

use crate::{
    connection, crossing, emit,
    filter::{iif_matches, key_of_tuple, marked_for_connection, matches, mirrored, parse},
    maps::{self, CONNECTIONS, CURRENT, DROPPED, Dropped, Entry, NEXT_ID, RATE},
    read::{self, ETH_P_IP, HookState, Passage as _, Skb, filter},
};

/// Values of [`Entry::state`].
pub(crate) struct State;

impl State {
    /// May be selected: headers match, nf_tables has not marked it yet.
    pub(crate) const CANDIDATE: u32 = 0;
    /// Followed.
    pub(crate) const SELECTED: u32 = 1;
    /// Over the rate, where that is limited here: not to be asked again at its next hook, or the first packets of
    /// each second would be seen from the middle of their way on.
    pub(crate) const REFUSED: u32 = 2;
    /// Not selected because records are read too slowly. It stays so, or packets would be seen from the middle of their
    /// way on.
    pub(crate) const HELD_BACK: u32 = 3;
}

/// Where a packet that is not known yet is looked at.
#[derive(Clone, Copy)]
pub(crate) enum Selection {
    /// In a hook, whose `in` device is the one the packet came in by.
    AtHook(HookState),
    /// Elsewhere: the device it came in by is not known.
    Anywhere,
}

/// The entry of a buffer.
#[inline(always)]
pub(crate) fn known(skb: Skb) -> Option<&'static mut Entry> {
    let entry = maps::packet(skb.0)?;
    // SAFETY: a packet is in one place at a time, so its entry is changed from one place at a time.
    Some(unsafe { &mut *entry })
}

/// The entry of a buffer that still holds the packet the entry was made for. Where no probe tells of ends, a
/// buffer can be freed unseen and hold another packet, or another protocol's message, by now.
#[inline(always)]
pub(crate) fn living(skb: Skb) -> Option<&'static mut Entry> {
    let entry = known(skb)?;
    if is_stale(skb, skb.network_header(), entry) {
        outlived(skb, entry);
        return None;
    }
    Some(entry)
}

/// The buffer went on to hold something else: a reassembled packet, a fragment, or another packet altogether.
/// What it held before is no more.
#[inline(always)]
fn outlived(skb: Skb, entry: &Entry) {
    if entry.state == State::SELECTED {
        emit::freed(Kind::End, Skb(0), entry.netns, entry.id, 0, u32::MAX);
    }
    forget(skb);
}

/// Removes the entry of a buffer.
#[inline(always)]
pub(crate) fn forget(skb: Skb) {
    maps::remove_packet(skb.0);
}

#[inline(always)]
fn next_id() -> u64 {
    // SAFETY: the helper has no preconditions; the counter is this processor's.
    unsafe {
        let cpu = u64::from(bpf_get_smp_processor_id());
        match NEXT_ID.get_ptr_mut(0) {
            Some(next) => {
                *next += 1;
                (cpu << 40) | *next
            }
            None => 0,
        }
    }
}

#[inline(always)]
pub(crate) fn remember(
    skb: Skb,
    network: u64,
    netns: u32,
    state: u32,
    received_ns: u64,
    device: u32,
) -> Option<&'static mut Entry> {
    let entry = Entry {
        id: next_id(),
        received_ns,
        fingerprint: fingerprint(skb, network),
        device,
        state,
        hook: 0,
        netns,
    };
    if maps::add_packet(skb.0, &entry) { known(skb) } else { None }
}

/// What neither NAT nor forwarding changes: IPv4 id and length, or IPv6 flow label and length.
#[inline(always)]
fn fingerprint(skb: Skb, network: u64) -> u64 {
    let word: u64 = if skb.ethertype() == ETH_P_IP {
        // Total length and identification: bytes 2 to 5.
        read::at::<u32>(network, 2).map_or(0, u64::from)
    } else {
        // Flow label and payload length: bytes 1 to 5.
        read::at::<u64>(network, 0).unwrap_or(0) & 0x0000_ffff_ffff_ff00
    };
    (word << 1) | 1
}

/// Whether an entry belongs to a packet that is gone: only to be asked where no probe tells of ends.
#[inline(always)]
fn is_stale(skb: Skb, network: u64, entry: &Entry) -> bool {
    filter!(ends_probed) == 0 && entry.fingerprint != fingerprint(skb, network)
}

/// A device gave a packet to the stack. Nearly none is asked for, so that is found out first.
#[inline(always)]
pub(crate) fn received<const TYPED: bool>(given: Skb<TYPED>) {
    let (skb, network) = (given.untyped(), given.data());
    if let Some(entry) = known(skb) {
        let Some(netns) = skb.watched_netns() else {
            left(skb, entry);
            return;
        };
        if entry.state == State::SELECTED && !is_stale(skb, network, entry) {
            set_current(skb);
            emit::device_at(Kind::Receive, skb, network, skb.device(), netns, entry.id, 0);
            if entry.netns != netns {
                crossing::expect_answer(skb, network, netns);
            }
            entry.hook = 0;
            entry.netns = netns;
            return;
        }
        if entry.state >= State::REFUSED && !is_stale(skb, network, entry) {
            return;
        }
        forget(skb);
    }
    set_current(Skb(0));
    let Some(key) = parse(given.ethertype(), network) else { return };
    let followed = connection::has_selected_headers(&key);
    if !(followed || matches(&key, || skb.mark()) && iif_matches(skb.device()) || mirrored(&key)) {
        return;
    }
    let Some(netns) = skb.watched_netns() else { return };
    if filter!(marked) == 1 {
        let index = read::at(skb.device(), read::field!(dev_ifindex)).unwrap_or(0);
        // SAFETY: the helper has no preconditions.
        let now = unsafe { bpf_ktime_get_ns() };
        if remember(skb, network, netns, State::CANDIDATE, now, index).is_some() {
            set_current(skb);
        }
        return;
    }
    let state = if followed || within_rate() { admitted() } else { State::REFUSED };
    if state == State::SELECTED {
        connection::note_headers(&key);
    }
    if let Some(entry) = remember(skb, network, netns, state, 0, 0)
        && state == State::SELECTED
    {
        set_current(skb);
        emit::device_at(Kind::Receive, skb, network, skb.device(), netns, entry.id, 0);
    }
}

/// What becomes of a packet that is to be selected.
#[inline(always)]
pub(crate) fn admitted() -> u32 {
    if emit::has_room() { State::SELECTED } else { State::HELD_BACK }
}

/// A device gave a packet to the stack of a namespace that is not watched: what was followed has left, and this
/// processor has something else in hand now.
#[inline(always)]
fn left(skb: Skb, entry: &Entry) {
    set_current(Skb(0));
    if entry.state == State::SELECTED {
        emit::left(entry.id);
    }
    forget(skb);
}

#[inline(always)]
fn set_current(skb: Skb) {
    if let Some(current) = CURRENT.get_ptr_mut(0) {
        // SAFETY: this processor's slot.
        unsafe { *current = skb.0 };
    }
}

/// Notes that this processor has a buffer in hand, given as the context of a program; its address as a number, which
/// the verifier lets be reckoned with.
#[inline(always)]
pub(crate) fn take_in_hand(ctx: *mut c_void) -> Option<Skb> {
    let current = CURRENT.get_ptr_mut(0)?;
    // SAFETY: this processor's slot. Volatile, or the compiler would go on with the context itself.
    unsafe {
        core::ptr::write_volatile(current, ctx as u64);
        Some(Skb(core::ptr::read_volatile(current)))
    }
}

/// The packet that this processor has in hand, if it is a UDP datagram for the port of a socket: the tracepoint
/// tells of the socket alone.
#[inline(always)]
pub(crate) fn current_for_udp_socket(sk: u64) -> Option<Skb> {
    let current = CURRENT.get_ptr(0)?;
    // SAFETY: this processor's slot.
    let skb = Skb(unsafe { *current });
    living(skb)?;
    let key = parse(skb.ethertype(), skb.network_header())?;
    let port: u16 = read::at(sk, read::field!(sk_num))?;
    if key.protocol != 17 || key.dport != port {
        return None;
    }
    // It is the socket's now, which frees it without a word: what is queued next is another packet.
    set_current(Skb(0));
    Some(skb)
}

/// Makes a candidate a followed packet, and tells what was kept back of it; unless there is no room for one more.
#[inline(always)]
pub(crate) fn promote(skb: Skb, netns: u32, entry: &mut Entry) -> bool {
    entry.state = admitted();
    if entry.state != State::SELECTED {
        return false;
    }
    if entry.received_ns != 0 {
        emit::received_before(skb, entry.device, netns, entry.id, entry.received_ns);
        entry.received_ns = 0;
    }
    true
}

/// Whether nobody follows this packet, nor can it be followed from here on.
#[inline(always)]
pub(crate) fn is_of_no_interest<const TYPED: bool>(skb: Skb<TYPED>) -> bool {
    is_unmarked(skb) && known(skb.untyped()).is_none()
}

/// Whether nf_tables, which selects, has not selected this packet: the answer for nearly every packet, so it is
/// asked before anything else.
#[inline(always)]
pub(crate) fn is_unmarked<const TYPED: bool>(skb: Skb<TYPED>) -> bool {
    filter!(marked) == 1 && !skb.is_marked()
}

/// Whether a packet that is known but not followed is to be followed from here on.
#[inline(always)]
pub(crate) fn is_selected_now(skb: Skb, entry: &Entry) -> bool {
    match entry.state {
        State::CANDIDATE => skb.is_marked(),
        // The rate is for new connections.
        State::REFUSED => is_followed(skb),
        _ => false,
    }
}

/// Selects a packet that is not known yet, if it is one that was asked for.
#[inline(always)]
pub(crate) fn consider(skb: Skb, netns: u32, place: Selection) -> Option<&'static mut Entry> {
    if is_unmarked(skb) {
        return None;
    }
    let network = skb.network_header();
    let followed = is_followed(skb) || has_selected_headers(skb, network);
    if !followed && !asked_for(skb, network, place) {
        return None;
    }
    let refused = filter!(marked) == 0 && !followed && !within_rate();
    let state = if refused { State::REFUSED } else { admitted() };
    let entry = remember(skb, network, netns, state, 0, 0)?;
    if state != State::SELECTED {
        return None;
    }
    follow_connection(skb);
    if connection::selects_by_headers()
        && let Some(key) = parse(skb.ethertype(), network)
    {
        connection::note_headers(&key);
    }
    Some(entry)
}

/// Whether a packet that conntrack has not seen has headers of what is followed.
#[inline(always)]
fn has_selected_headers(skb: Skb, network: u64) -> bool {
    connection::selects_by_headers()
        && skb.connection().0 == 0
        && parse(skb.ethertype(), network).is_some_and(|key| connection::has_selected_headers(&key))
}

/// The entry of a selected packet, or of one that is selected now.
#[inline(always)]
pub(crate) fn selected_or_considered(skb: Skb, netns: u32) -> Option<&'static mut Entry> {
    if let Some(entry) = known(skb) {
        if is_stale(skb, skb.network_header(), entry) {
            outlived(skb, entry);
        } else {
            let followed = entry.state == State::SELECTED
                || (is_selected_now(skb, entry) || passes_by(skb, entry)) && promote(skb, netns, entry);
            return followed.then_some(entry);
        }
    }
    consider(skb, netns, Selection::Anywhere)
}

/// Whether a candidate leaves without having come to IP, where nf_tables could have marked it: a bridge, or a tc filter
/// that redirects, sends it on.
#[inline(always)]
fn passes_by(skb: Skb, entry: &Entry) -> bool {
    /// include/uapi/linux/if_packet.h
    const PACKET_HOST: u32 = 0;
    // Where no probe tells of hooks, a packet for this host may have been in any, and lost its route since.
    let may_have_been_judged = filter!(ends_probed) == 0 && skb.packet_type() == PACKET_HOST;
    entry.state == State::CANDIDATE
        && entry.hook == 0
        && !may_have_been_judged
        && !skb.is_routed()
        && within_rate()
}

/// The kernel drops a packet.
#[inline(always)]
pub(crate) fn dropped(skb: Skb, location: u64, reason: u32) {
    // Whatever is dropped now is the last: a hook that drops a packet nobody follows, in a buffer that held a
    // followed one, is not to be taken for that one's.
    set_dropped(skb, 0);
    if is_of_no_interest(skb) {
        return;
    }
    let device = skb.device();
    let Some(netns) = skb.netns() else {
        // Dropped where nobody watches: for the watched side it has left.
        if let Some(entry) = known(skb) {
            if entry.state == State::SELECTED {
                emit::left(entry.id);
            }
            forget(skb);
        }
        return;
    };
    let network = skb.network_header();
    if let Some(entry) = known(skb) {
        let stale = is_stale(skb, network, entry);
        let netns = if device == 0 { entry.netns } else { netns };
        let tell = !stale
            && (entry.state == State::SELECTED
                || is_selected_now(skb, entry)
                // Before its first hook nf_tables had no chance to mark it; after that it is over the rate.
                || (entry.state == State::CANDIDATE
                    && entry.hook == 0
                    && !skb.is_routed()
                    && reason != filter!(netfilter_drop)
                    && within_rate()));
        if tell && (entry.state == State::SELECTED || promote(skb, netns, entry)) {
            tell_drop(skb, netns, entry.id, location, reason);
            return;
        }
        forget(skb);
        if !stale {
            return;
        }
    }
    // A packet whose first sight is its end: only one that a hook of a watched namespace has marked, or that
    // belongs to a followed connection.
    if (netns != 0 || skb.is_marked())
        && let Some(entry) = consider(skb, netns, Selection::Anywhere)
    {
        tell_drop(skb, netns, entry.id, location, reason);
    }
}

/// Notes what this processor has dropped last; `packet` 0: none that is followed.
#[inline(always)]
fn set_dropped(skb: Skb, packet: u64) {
    if let Some(last) = DROPPED.get_ptr_mut(0) {
        // SAFETY: this processor's slot.
        unsafe { *last = Dropped { skb: skb.0, packet } };
    }
}

#[inline(always)]
fn tell_drop(skb: Skb, netns: u32, packet: u64, location: u64, reason: u32) {
    forget(skb);
    set_dropped(skb, packet);
    emit::freed(Kind::Drop, skb, netns, packet, location, reason);
}

/// The followed packet that this processor has just dropped, if this was its buffer; told once.
#[inline(always)]
pub(crate) fn dropped_last(skb: Skb) -> Option<u64> {
    let last = DROPPED.get_ptr_mut(0)?;
    // SAFETY: this processor's slot.
    unsafe {
        if (*last).skb != skb.0 || (*last).packet == 0 {
            return None;
        }
        let packet = (*last).packet;
        (*last).packet = 0;
        Some(packet)
    }
}

/// Follows the connection of a selected packet.
#[inline(always)]
pub(crate) fn follow_connection(skb: Skb) {
    if filter!(follow) == 0 {
        return;
    }
    let (ct, _) = skb.connection();
    if ct == 0 || CONNECTIONS.get_ptr(ct).is_some() {
        return;
    }
    let mut tuple = [0; TUPLE_BYTES];
    if read::original_tuple(ct, &raw mut tuple) {
        let _ = CONNECTIONS.insert(ct, tuple, 0);
        connection::pass(&tuple);
    }
}

/// The namespace in which something is about to write into a packet, where that is followed. A candidate is selected:
/// what is written may be just what the filter asks for.
#[inline(always)]
pub(crate) fn written(skb: Skb, entry: &mut Entry) -> Option<u32> {
    let netns = skb.watched_netns()?;
    let followed = entry.state == State::SELECTED
        || entry.state == State::CANDIDATE && within_rate() && promote(skb, netns, entry);
    followed.then_some(netns)
}

/// Whether a packet's connection is followed.
#[inline(always)]
pub(crate) fn is_followed(skb: Skb) -> bool {
    if filter!(follow) == 0 {
        return false;
    }
    let (ct, _) = skb.connection();
    if ct == 0 {
        return false;
    }
    let Some(expected) = CONNECTIONS.get_ptr(ct) else { return false };
    let mut tuple = [0; TUPLE_BYTES];
    if !read::original_tuple(ct, &raw mut tuple) {
        return false;
    }
    // All bytes before there is an answer: the verifier would go through what follows once for each that may differ.
    let mut differ = 0;
    for (at, byte) in tuple.iter().enumerate() {
        // SAFETY: both are TUPLE_BYTES long.
        differ |= unsafe { (*expected)[at] } ^ *byte;
    }
    if differ != 0 {
        let _ = CONNECTIONS.remove(ct);
    }
    differ == 0
}

/// Whether the headers, or what conntrack knows of them before any rewrite, are what was asked for.
#[inline(always)]
fn asked_for(skb: Skb, network: u64, place: Selection) -> bool {
    let device = match place {
        Selection::AtHook(state) => state.iif(),
        Selection::Anywhere => 0,
    };
    let (ct, ctinfo) = skb.connection();
    // Conntrack's original tuple is how the connection's first packet looked before any rewrite. It answers
    // for packets of the original direction, and for replies where connections are followed; criteria of
    // single packets (mark, flags, device) it cannot answer.
    if ct != 0 && filter!(by_packet) == 0 && (ctinfo < 3 || filter!(follow) == 1) {
        let mut tuple = [0; TUPLE_BYTES];
        if read::original_tuple(ct, &raw mut tuple) {
            return matches(&key_of_tuple(&tuple), || 0);
        }
    }
    match parse(skb.ethertype(), network) {
        Some(key) => {
            matches(&key, || skb.mark()) && iif_matches(device)
                || mirrored(&key)
                || marked_for_connection(&key)
        }
        None => false,
    }
}

/// Takes one of this second's selections, if there is one left.
#[inline(always)]
pub(crate) fn within_rate() -> bool {
    let rate = u64::from(filter!(rate));
    if rate == 0 {
        return true;
    }
    let Some(window) = RATE.get_ptr_mut(0) else { return false };
    // SAFETY: processors may race for the last selection; one too many is harmless.
    unsafe {
        let now = bpf_ktime_get_ns();
        if now - (*window).start_ns >= 1_000_000_000 {
            (*window).start_ns = now;
            (*window).used = 0;
        }
        (*window).used += 1;
        (*window).used <= rate
    }
}
