//! The kernel side: see, filter, copy, submit. No decision that user space could make.
//!
//! One short function per attach point; what they share is in the modules: [`read`] reads kernel memory,
//! [`filter`] compares packets with what was asked for, [`select`] says which are followed, [`emit`] makes records.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![expect(unsafe_code, reason = "kernel memory, helpers and maps are reached through raw pointers")]
#![expect(
    clippy::inline_always,
    reason = "calls between programs' functions cost stack that the verifier counts"
)]
#![expect(clippy::needless_pass_by_value, reason = "the attach macros hand over contexts by value")]
#![expect(clippy::cast_possible_truncation, reason = "sizes of records and verdict words fit 32 bits")]

mod connection;
mod crossing;
mod emit;
mod fast_path;
mod filter;
mod maps;
mod others;
mod read;
mod select;
mod xdp;

use aya_ebpf::{
    EbpfContext as _,
    helpers::generated::bpf_get_socket_cookie,
    macros::{btf_tracepoint, fentry, fexit, kprobe, kretprobe, raw_tracepoint, socket_filter},
    programs::{
        BtfTracePointContext, FEntryContext, FExitContext, ProbeContext, RawTracePointContext,
        RetProbeContext, SkBuffContext,
    },
};
use nattrace_common::{
    fields::ABSENT,
    record::{BODY_KFREE_SKB, Kind},
};

use crate::{
    maps::{CALLS, Call, Entry, Manip, NOTIFIES, Notify, NotifyKey},
    read::{HookState, Logged, Passage as _, Skb, field},
    select::{Selection, State},
};

/// Offsets of kernel fields; patched before loading.
#[unsafe(no_mangle)]
static FIELDS: nattrace_common::fields::Fields = nattrace_common::fields::Fields::NONE;

/// The filter; patched before loading.
#[unsafe(no_mangle)]
static FILTER: nattrace_common::filter::KernelFilter = nattrace_common::filter::KernelFilter::EVERYTHING;

/// Number of arguments of the `kfree_skb` tracepoint, `consume_skb`'s in the next byte; patched before loading.
#[unsafe(no_mangle)]
static TRACEPOINT_ARGS: u32 = 0;

// nf_hook_slow(skb, state, entries, index): by fentry/fexit where the kernel allows, else by kprobe/kretprobe.

#[fentry(function = "nf_hook_slow")]
fn hook_enter(ctx: FEntryContext) -> i32 {
    enter(Skb::<true>(ctx.arg(0)), HookState(ctx.arg(1)));
    0
}

#[fexit(function = "nf_hook_slow")]
fn hook_leave(ctx: FExitContext) -> i32 {
    // The return value follows the four arguments; reading it there works before 5.17 too.
    leave(Skb::<true>(ctx.arg(0)), HookState(ctx.arg(1)), ctx.arg(4));
    0
}

#[kprobe]
fn hook_enter_kprobe(ctx: ProbeContext) -> u32 {
    if let (Some(skb), Some(state)) = (ctx.arg(0), ctx.arg(1)) {
        enter(Skb::<false>(skb), HookState(state));
        let call = Call { skb, state };
        let _ = CALLS.insert(read::stack_pointer(ctx.as_ptr()), call, 0);
    }
    0
}

#[kretprobe]
fn hook_leave_kretprobe(ctx: RetProbeContext) -> u32 {
    if let Some((key, call)) = maps::call_of_return(read::stack_pointer(ctx.as_ptr())) {
        leave(Skb::<false>(call.skb), HookState(call.state), ctx.ret());
        let _ = CALLS.remove(key);
    }
    0
}

#[inline(always)]
fn enter<const TYPED: bool>(given: Skb<TYPED>, state: HookState) {
    let skb = given.untyped();
    let known = select::known(skb);
    if known.is_none() && select::is_unmarked(given) {
        return;
    }
    let Some(netns) = state.watched_netns() else { return };
    match known {
        Some(entry) if entry.state == State::SELECTED => {
            emit::hook_once(skb, state, netns, entry);
        }
        Some(entry) => entry.hook = state.place(),
        None => {
            if let Some(entry) = select::consider(skb, netns, Selection::AtHook(state)) {
                emit::hook_once(skb, state, netns, entry);
            }
        }
    }
}

#[inline(always)]
fn leave<const TYPED: bool>(given: Skb<TYPED>, state: HookState, verdict: i32) {
    let skb = given.untyped();
    // Below 0 the buffer is gone, and its address may be another packet's by now: nothing of it is read. The drop
    // was told by kfree_skb, right before this; only in which hook it was is told here.
    if verdict < 0 {
        if let Some(packet) = select::dropped_last(skb)
            && let Some(netns) = state.watched_netns()
        {
            emit::hook(Kind::HookReturn, skb, state, netns, packet, verdict, false);
        }
        return;
    }
    let known = select::known(skb);
    if known.is_none() && (verdict != 1 || select::is_unmarked(given)) {
        return;
    }
    let Some(netns) = state.watched_netns() else { return };
    let entry = match known {
        Some(entry) if entry.state == State::SELECTED => entry,
        Some(entry) => {
            if verdict == 1 && select::is_selected_now(skb, entry) && select::promote(skb, netns, entry) {
                entry
            } else {
                // A candidate that nf_tables did not mark in its first hook is over the rate. What happens
                // before, on a bridge or where a device gives the packet, is not that hook.
                if verdict != 1 || entry.state == State::CANDIDATE && state.is_ip() {
                    select::forget(skb);
                } else {
                    entry.hook = 0;
                }
                return;
            }
        }
        None => match select::consider(skb, netns, Selection::AtHook(state)) {
            Some(entry) => entry,
            None => return,
        },
    };
    if verdict == 1 {
        emit::hook(Kind::HookReturn, skb, state, netns, entry.id, verdict, true);
        entry.hook = 0;
        select::follow_connection(skb);
    } else if entry.hook == state.place() {
        emit::hook(Kind::HookReturn, skb, state, netns, entry.id, verdict, false);
        entry.hook = 0;
    }
}

// nf_nat_manip_pkt(skb, ct, mtype, dir): the rewrite itself.

#[kprobe]
fn manip_enter(ctx: ProbeContext) -> u32 {
    let (Some(skb), Some(mtype), Some(dir)) = (ctx.arg::<u64>(0), ctx.arg::<u32>(2), ctx.arg::<u32>(3))
    else {
        return 0;
    };
    let skb = Skb(skb);
    let (entry, netns) = match select::known(skb) {
        // What this host sends has no device yet in the output hook.
        Some(entry) if entry.state == State::SELECTED => {
            let netns = skb.watched_netns().unwrap_or(entry.netns);
            (entry, netns)
        }
        Some(_) => return 0,
        None => {
            if select::is_unmarked(skb) {
                return 0;
            }
            let Some(netns) = skb.watched_netns() else { return 0 };
            match select::consider(skb, netns, Selection::Anywhere) {
                Some(entry) => (entry, netns),
                None => return 0,
            }
        }
    };
    emit::save_before(
        skb,
        read::stack_pointer(ctx.as_ptr()),
        Manip { mtype, dir, netns, zero: 0, packet: entry.id },
    );
    0
}

#[kretprobe]
fn manip_leave(ctx: RetProbeContext) -> u32 {
    if let Some((key, before)) = maps::manip_of_return(read::stack_pointer(ctx.as_ptr())) {
        // NF_ACCEPT: the header was changed.
        if ctx.ret::<u32>() == 1 {
            emit::rewrite(before);
        }
        let _ = maps::MANIPS.remove(key);
    }
    0
}

// early_drop(net, hash): conntrack's table is full, and an entry that can be spared is looked for; false: there is none.

#[kretprobe]
fn early_drop(ctx: RetProbeContext) -> u32 {
    // A bool: the low byte.
    if ctx.ret::<u64>() as u8 == 0 {
        // SAFETY: the helper takes no arguments.
        maps::note_full_table(unsafe { aya_ebpf::helpers::bpf_ktime_get_ns() });
    }
    0
}

// nft_trace_notify: where nf_tables builds a trace message, with the skb and the trace id in hand.
// Up to 6.3: (info); from 6.4 on: (pkt, verdict, rule, info).

#[kprobe]
fn nft_trace_notify(ctx: ProbeContext) -> u32 {
    let (pkt, info) = if field!(traceinfo_pkt) == ABSENT {
        (ctx.arg::<u64>(0), ctx.arg::<u64>(3))
    } else {
        let info = ctx.arg::<u64>(0);
        (info.and_then(|info| read::at(info, field!(traceinfo_pkt))), info)
    };
    if let (Some(pkt), Some(info)) = (pkt, info) {
        notify(pkt, info);
    }
    0
}

#[inline(always)]
fn notify(pkt: u64, info: u64) {
    let (Some(skb), Some(state)) = (read::at(pkt, field!(pktinfo_skb)), read::at(pkt, field!(pktinfo_state)))
    else {
        return;
    };
    let (skb, state) = (Skb(skb), HookState(state));
    let key = NotifyKey::new(read::at(info, field!(traceinfo_skbid)).unwrap_or(0));
    let Some((entry, netns)) = traced(skb, state) else {
        // Or the message would be taken for the last one of this id, whose packet may be long gone.
        let _ = NOTIFIES.remove(key);
        return;
    };
    emit::hook_once(skb, state, netns, entry);
    let value = Notify { packet: entry.id, netns, zero: 0, table_handle: read::table_handle(info) };
    let _ = NOTIFIES.insert(key, value, 0);
}

/// The entry of a packet that nf_tables traces, if we follow it.
#[inline(always)]
fn traced(skb: Skb, state: HookState) -> Option<(&'static mut Entry, u32)> {
    let netns = state.watched_netns()?;
    let entry = match select::known(skb) {
        Some(entry) if entry.state == State::SELECTED => entry,
        Some(entry) => {
            if !select::is_selected_now(skb, entry) || !select::promote(skb, netns, entry) {
                return None;
            }
            entry.hook = 0;
            entry
        }
        None => select::consider(skb, netns, Selection::AtHook(state))?,
    };
    Some((entry, netns))
}

// __nft_trace_packet(info, chain, type), up to 6.3: every result of every rule, marked packet or not, once the
// static key is on. Only where no trace table can be had.

#[kprobe]
fn __nft_trace_packet(ctx: ProbeContext) -> u32 {
    let (Some(info), Some(chain), Some(kind)) = (ctx.arg::<u64>(0), ctx.arg::<u64>(1), ctx.arg::<u32>(2))
    else {
        return 0;
    };
    let pkt = read::at::<u64>(info, field!(traceinfo_pkt)).unwrap_or(0);
    let (Some(skb), Some(state)) = (read::at(pkt, field!(pktinfo_skb)), read::at(pkt, field!(pktinfo_state)))
    else {
        return 0;
    };
    let (skb, state) = (Skb(skb), HookState(state));
    if let Some((entry, netns)) = traced(skb, state) {
        emit::hook_once(skb, state, netns, entry);
        emit::rule(info, chain, kind, netns, entry.id);
    }
    0
}

// nf_log_trace(net, pf, hooknum, skb, in, out, loginfo, fmt, table, chain, comment, rulenum): where legacy iptables
// tells of a rule that matched a packet with skb->nf_trace, which nf_tables' `meta nftrace set 1` sets as well. Its
// logger is looked up within, so it is called whether one is bound or not.

#[kprobe]
fn nf_log_trace(ctx: ProbeContext) -> u32 {
    let (Some(net), Some(pf), Some(hook)) = (ctx.arg::<u64>(0), ctx.arg::<u32>(1), ctx.arg::<u32>(2)) else {
        return 0;
    };
    let (Some(skb), Some(iif), Some(oif)) = (ctx.arg(3), ctx.arg(4), ctx.arg(5)) else { return 0 };
    let skb = Skb(skb);
    let Some(entry) = select::known(skb) else { return 0 };
    let Some(netns) = read::watched(net) else { return 0 };
    if entry.state != State::SELECTED {
        if !select::is_selected_now(skb, entry) || !select::promote(skb, netns, entry) {
            return 0;
        }
        entry.hook = 0;
    }
    let passage = Logged { hook, pf: pf & 0xff, iif, oif };
    emit::hook_once(skb, passage, netns, entry);
    emit::legacy_rule(read::stack_pointer(ctx.as_ptr()), passage, netns, entry.id);
    0
}

// xt_replace_table, xt_register_table: the rules of a legacy table change between entry and return.

#[kprobe]
fn xt_replace_table(_ctx: ProbeContext) -> u32 {
    emit::legacy_change(false);
    0
}

#[kretprobe]
fn xt_replace_table_return(_ctx: RetProbeContext) -> u32 {
    emit::legacy_change(true);
    0
}

// Filter of our trace socket: runs inside nft_trace_notify, so it has the processor and the time of the
// message. What it takes is in the ring; the socket itself gets nothing and cannot overflow.

#[socket_filter]
fn nft_message(ctx: SkBuffContext) -> i64 {
    // SAFETY: the context is this program's own.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    emit::nft_message(&ctx, cookie)
}

// Filter of our sockets for events of connections.

#[socket_filter]
fn conntrack_message(ctx: SkBuffContext) -> i64 {
    connection::message(&ctx)
}

// What each trace table asks by an xt_bpf match, where several namespaces are watched. The context is the packet.

#[socket_filter]
fn follows_packet(ctx: SkBuffContext) -> i64 {
    i64::from(select::take_in_hand(ctx.as_ptr()).is_some_and(crossing::follows))
}

// What trace tables ask first, likewise: packets that are not their business.

#[socket_filter]
fn others_packet(ctx: SkBuffContext) -> i64 {
    i64::from(others::is_packet(&ctx))
}

// Devices, drops, ends: tracepoints, whose names and first arguments do not change between versions. Those that nearly
// every packet passes are BTF ones, whose buffer can be read without a helper.

#[btf_tracepoint(function = "netif_receive_skb")]
fn netif_receive_skb(ctx: BtfTracePointContext) -> i32 {
    select::received(Skb::<true>(ctx.arg(0)));
    0
}

#[btf_tracepoint(function = "net_dev_start_xmit")]
fn net_dev_start_xmit(ctx: BtfTracePointContext) -> i32 {
    let (given, device) = (Skb::<true>(ctx.arg(0)), ctx.arg::<u64>(1));
    if select::is_of_no_interest(given) {
        return 0;
    }
    let skb = given.untyped();
    let Some(netns) = read::watched_netns_of_device(device) else { return 0 };
    fast_path::leaves(skb, netns);
    if let Some(entry) = select::selected_or_considered(skb, netns) {
        emit::device(Kind::Transmit, skb, device, netns, entry.id, 0);
        select::follow_connection(skb);
        fast_path::follow_replies(skb, netns);
    }
    0
}

#[raw_tracepoint(tracepoint = "kfree_skb")]
fn kfree_skb(ctx: RawTracePointContext) -> i32 {
    // SAFETY: a read-only static that the loader patched.
    let args = unsafe { core::ptr::read_volatile(&raw const TRACEPOINT_ARGS) };
    let reason = if args & 0xff >= 3 { ctx.arg::<u32>(2) } else { u32::MAX };
    select::dropped(Skb(ctx.arg(0)), ctx.arg(1), reason);
    0
}

// The kernel skips a program that is running already on the processor (`prog->active`, __bpf_trace_run, v6.12): what an
// interrupt drops meanwhile is told by way of this one, which comes second. After the first, nobody knows the packet any
// more. It goes on as the first, which is not verified twice for it; a program that is gone on as is not looked at for
// running.

#[raw_tracepoint(tracepoint = "kfree_skb")]
fn kfree_skb_nested(ctx: RawTracePointContext) -> i32 {
    if select::known(Skb(ctx.arg(0))).is_some() {
        // SAFETY: the program in the slot is of this one's type. It does not come back.
        unsafe {
            maps::BODIES.tail_call(&ctx, BODY_KFREE_SKB);
        }
    }
    0
}

#[raw_tracepoint(tracepoint = "consume_skb")]
fn consume_skb(ctx: RawTracePointContext) -> i32 {
    let skb = Skb(ctx.arg(0));
    // SAFETY: as in `kfree_skb`.
    let args = unsafe { core::ptr::read_volatile(&raw const TRACEPOINT_ARGS) };
    let location = if (args >> 8) & 0xff >= 2 { ctx.arg::<u64>(1) } else { 0 };
    end(skb, location);
    0
}

// The end of a buffer: every way to free one passes skb_release_head_state, but for datagrams that were read from
// a UDP socket and had nothing left to release. By fentry where the kernel allows: these are called for every
// buffer there is, and a kprobe is missed when it hits inside another one.

macro_rules! ends {
    ($($probe:ident, $trampoline:ident, $function:literal;)*) => {
        $(#[fentry(function = $function)]
        fn $trampoline(ctx: FEntryContext) -> i32 {
            end(Skb(ctx.arg(0)), 0);
            0
        }

        #[kprobe]
        fn $probe(ctx: ProbeContext) -> u32 {
            if let Some(skb) = ctx.arg(0) {
                end(Skb(skb), 0);
            }
            0
        })*
    };
}

ends! {
    end_kprobe, end_fentry, "skb_release_head_state";
    end_stateless_kprobe, end_stateless_fentry, "__consume_stateless_skb";
}

#[inline(always)]
fn end(skb: Skb, location: u64) {
    let Some(entry) = select::living(skb) else { return };
    let (id, netns, selected) = (entry.id, entry.netns, entry.state == State::SELECTED);
    select::forget(skb);
    if selected {
        emit::freed(Kind::End, skb, netns, id, location, u32::MAX);
    }
}

// What takes packets for this host; the index is that of DELIVER_FUNCTIONS.

macro_rules! deliver {
    ($($name:ident, $argument:literal, $index:literal;)*) => {
        $(#[kprobe]
        fn $name(ctx: ProbeContext) -> u32 {
            if let Some(skb) = ctx.arg($argument) {
                // (sk, skb, …) but for those of other shapes.
                let socket = if $argument == 1 { ctx.arg(0).unwrap_or(0) } else { 0 };
                delivered(Skb(skb), $index, socket);
            }
            0
        })*
    };
}

deliver! {
    tcp_v4_do_rcv, 1, 0;
    tcp_v6_do_rcv, 1, 1;
    tcp_child_process, 2, 2;
    __udp_enqueue_schedule_skb, 1, 3;
    icmp_rcv, 0, 4;
    icmpv6_rcv, 0, 5;
}

#[raw_tracepoint(tracepoint = "tcp_probe")]
fn tcp_probe(ctx: RawTracePointContext) -> i32 {
    delivered(Skb(ctx.arg(1)), 6, 0);
    0
}

#[raw_tracepoint(tracepoint = "sk_data_ready")]
fn sk_data_ready(ctx: RawTracePointContext) -> i32 {
    if let Some(skb) = select::current_for_udp_socket(ctx.arg(0)) {
        delivered(skb, 7, 0);
    }
    0
}

#[inline(always)]
fn delivered(skb: Skb, function: u32, socket: u64) {
    if let Some(entry) = select::living(skb)
        && entry.state == State::SELECTED
    {
        let netns = skb.watched_netns().unwrap_or(entry.netns);
        emit::function(Kind::Deliver, skb, entry.id, netns, function, socket);
    }
}

// What writes addresses and ports without conntrack's NAT; the index is that of WRITER_FUNCTIONS. All in modules, and
// called for nothing but such packets, so they cost who has none of them nothing.

macro_rules! writers {
    ($($name:ident, $index:literal;)*) => {
        $(#[kprobe]
        fn $name(ctx: ProbeContext) -> u32 {
            if let Some(skb) = ctx.arg(0) {
                writer(Skb(skb), $index);
            }
            0
        })*
    };
}

writers! {
    tcf_nat_act, 2;
    tcf_pedit_act, 3;
    tcp_dnat_handler, 4;
    tcp_snat_handler, 5;
    udp_dnat_handler, 6;
    udp_snat_handler, 7;
    sctp_dnat_handler, 8;
    sctp_snat_handler, 9;
}

#[inline(always)]
fn writer(skb: Skb, function: u32) {
    if let Some(entry) = select::living(skb)
        && let Some(netns) = select::written(skb, entry)
    {
        emit::function(Kind::Writer, skb, entry.id, netns, function, 0);
    }
}

// do_xdp_generic(prog, skb): called for every packet while there is a generic XDP program on any device, and for none
// while there is not.

#[kprobe]
fn do_xdp_generic(ctx: ProbeContext) -> u32 {
    if let (Some(program), Some(argument)) = (ctx.arg::<u64>(0), ctx.arg(1))
        && program != 0
    {
        xdp::enters(read::stack_pointer(ctx.as_ptr()), argument);
    }
    0
}

#[kretprobe]
fn do_xdp_generic_return(ctx: RetProbeContext) -> u32 {
    const XDP_PASS: u32 = 2;
    if let Some((key, call)) = maps::xdp_call_of_return(read::stack_pointer(ctx.as_ptr())) {
        // After any other answer the buffer is gone.
        if ctx.ret::<u32>() == XDP_PASS {
            xdp::passes(call);
        }
        let _ = maps::XDP_CALLS.remove(key);
    }
    0
}

// nf_flow_offload_ip_hook(priv, skb, state): where a flow that the flowtable knows is rewritten and sent, before any
// other hook sees it.

#[kprobe]
fn nf_flow_offload_ip_hook(ctx: ProbeContext) -> u32 {
    if let Some(skb) = ctx.arg(1) {
        flow(Skb(skb), 0);
    }
    0
}

#[kprobe]
fn nf_flow_offload_ipv6_hook(ctx: ProbeContext) -> u32 {
    if let Some(skb) = ctx.arg(1) {
        flow(Skb(skb), 1);
    }
    0
}

#[inline(always)]
fn flow(skb: Skb, function: u32) {
    let Some(netns) = skb.watched_netns() else { return };
    match select::known(skb) {
        Some(entry) if entry.state == State::SELECTED => {
            emit::function(Kind::Writer, skb, entry.id, netns, function, 0);
        }
        Some(entry) if entry.state == State::CANDIDATE => fast_path::enters(skb, entry, function),
        Some(_) => {}
        None => {
            if let Some(entry) = fast_path::candidate_of_connection(skb, netns) {
                fast_path::enters(skb, entry, function);
            }
        }
    }
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";
