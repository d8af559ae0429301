//! Records: reserved in the ring only once a packet is known to be wanted, of their exact size.

use aya_ebpf::{
    EbpfContext as _,
    helpers::{
        bpf_get_current_pid_tgid, bpf_get_smp_processor_id, bpf_ktime_get_ns, generated::bpf_skb_load_bytes,
    },
    maps::ring_buf::RingBufEntry,
    programs::SkBuffContext,
};
use nattrace_common::record::{
    CommitRecord, DeliverRecord, DeviceRecord, FreeRecord, HELD_BACK, Head, HookRecord, Kind, LOST_NFT,
    LOST_PROBES, LOST_TRACEPOINTS, LegacyChangeRecord, LegacyRecord, NFT_LARGE, NFT_MEDIUM, NFT_SMALL,
    NftHead, NftRecord, RewriteRecord, RuleRecord, Snapshot,
};

use crate::{
    maps::{Before, CURRENT, EVENTS, Entered, Entry, LOST, MANIPS, Manip, NOTIFIES, NotifyKey},
    read::{self, Logged, Passage, Skb, field, filter},
    select::{self, State},
};

/// Room for a record that is an event of `source`; it is counted, found or not.
#[inline(always)]
fn reserve<T: 'static>(source: u32) -> Option<RingBufEntry<T>> {
    let entry = EVENTS.reserve::<T>(0);
    count(source, true, entry.is_none());
    entry
}

/// Room for a record that only says when something happened: it is counted when there is none.
#[inline(always)]
fn reserve_aside<T: 'static>(source: u32) -> Option<RingBufEntry<T>> {
    let entry = EVENTS.reserve::<T>(0);
    if entry.is_none() {
        count(source, true, true);
    }
    entry
}

#[inline(always)]
fn count(source: u32, begun: bool, lost: bool) {
    let Some(counter) = LOST.get_ptr_mut(source) else { return };
    // SAFETY: this processor's counter.
    unsafe {
        (*counter).begun += u64::from(begun);
        if lost {
            (*counter).count += 1;
            (*counter).last_ns = bpf_ktime_get_ns();
        }
    }
}

/// Whether there is room to tell of one more packet, beside what is still to be told of those that are followed. One
/// that finds none is counted.
#[inline(always)]
pub(crate) fn has_room() -> bool {
    if !is_crowded() {
        return true;
    }
    count(HELD_BACK, true, true);
    false
}

#[inline(always)]
fn is_crowded() -> bool {
    /// include/uapi/linux/bpf.h
    const BPF_RB_AVAIL_DATA: u64 = 0;
    EVENTS.query(BPF_RB_AVAIL_DATA) > u64::from(filter!(crowded))
}

#[inline(always)]
fn head(kind: Kind, packet: u64, netns: u32, time_ns: u64) -> Head {
    // SAFETY: the helpers have no preconditions.
    let (cpu, now) = unsafe { (bpf_get_smp_processor_id(), bpf_ktime_get_ns()) };
    let time_ns = if time_ns == 0 { now } else { time_ns };
    Head { kind: kind as u32, cpu, time_ns, packet, netns, zero: 0 }
}

/// A hook's entry, unless it was told already for this passage.
#[inline(always)]
pub(crate) fn hook_once(skb: Skb, passage: impl Passage, netns: u32, entry: &mut Entry) {
    let inside = passage.place();
    if entry.hook != inside {
        entry.hook = inside;
        entry.netns = netns;
        hook(Kind::Hook, skb, passage, netns, entry.id, 0, true);
        select::follow_connection(skb);
    }
}

/// Entry or return of a hook.
#[inline(always)]
pub(crate) fn hook(
    kind: Kind,
    skb: Skb,
    passage: impl Passage,
    netns: u32,
    packet: u64,
    verdict: i32,
    alive: bool,
) {
    let Some(mut entry) = reserve::<HookRecord>(LOST_PROBES) else { return };
    let record = entry.as_mut_ptr();
    // SAFETY: every byte of the record is written before it is submitted.
    unsafe {
        (*record).head = head(kind, packet, netns, 0);
        (*record).hook = passage.hook();
        (*record).pf = passage.pf();
        (*record).verdict = verdict;
        (*record).alive = u32::from(alive);
        read::device(passage.iif(), &raw mut (*record).iif);
        read::device(passage.oif(), &raw mut (*record).oif);
        // After a verdict other than accept the buffer may be another's: nothing of it is read.
        let skb = if alive { skb } else { Skb(0) };
        skb.snapshot(skb.network_header(), &raw mut (*record).snapshot);
        skb.conn(&raw mut (*record).conn);
        skb.route(&raw mut (*record).route);
    }
    entry.submit(0);
}

/// That a device gave a packet, as it was when it came to a function that wrote into it.
#[inline(always)]
pub(crate) fn received_as(netns: u32, packet: u64, entered: &Entered) {
    let Some(mut received) = reserve::<DeviceRecord>(LOST_TRACEPOINTS) else { return };
    let record = received.as_mut_ptr();
    // SAFETY: every byte of the record is written before it is submitted.
    unsafe {
        (*record).head = head(Kind::Receive, packet, netns, entered.received_ns);
        read::device(entered.device, &raw mut (*record).device);
        (*record).snapshot = entered.snapshot;
        Skb(0).conn(&raw mut (*record).conn);
    }
    received.submit(0);
}

/// That a function wrote into a packet, and how it looked before.
#[inline(always)]
pub(crate) fn wrote(netns: u32, packet: u64, entered: &Entered) {
    let Some(mut wrote) = reserve::<DeliverRecord>(LOST_PROBES) else { return };
    let record = wrote.as_mut_ptr();
    // SAFETY: every byte of the record is written before it is submitted.
    unsafe {
        (*record).head = head(Kind::Writer, packet, netns, 0);
        (*record).function = entered.function;
        (*record).socket_state = 0;
        (*record).waiting = 0;
        (*record).most = 0;
        (*record).snapshot = entered.snapshot;
    }
    wrote.submit(0);
}

/// Keeps the headers as they are before a rewrite.
#[inline(always)]
pub(crate) fn save_before(skb: Skb, key: u64, manip: Manip) {
    let before = Before { skb: skb.0, manip, snapshot: Snapshot::EMPTY };
    if MANIPS.insert(key, before, 0).is_ok()
        && let Some(before) = MANIPS.get_ptr_mut(key)
    {
        // SAFETY: the entry belongs to the call that is being entered.
        unsafe { skb.snapshot(skb.network_header(), &raw mut (*before).snapshot) };
    }
}

/// A rewrite that was done.
#[inline(always)]
pub(crate) fn rewrite(before: &Before) {
    let Some(mut entry) = reserve::<RewriteRecord>(LOST_PROBES) else { return };
    let (skb, record) = (Skb(before.skb), entry.as_mut_ptr());
    // SAFETY: every byte of the record is written before it is submitted.
    unsafe {
        (*record).head = head(Kind::Rewrite, before.manip.packet, before.manip.netns, 0);
        (*record).manip = before.manip.mtype;
        (*record).direction = before.manip.dir;
        (*record).before = before.snapshot;
        skb.snapshot(skb.network_header(), &raw mut (*record).after);
        skb.conn(&raw mut (*record).conn);
    }
    entry.submit(0);
}

/// A device took or gave a packet; `time_ns` 0 means now.
#[inline(always)]
pub(crate) fn device(kind: Kind, skb: Skb, device: u64, netns: u32, packet: u64, time_ns: u64) {
    device_at(kind, skb, skb.network_header(), device, netns, packet, time_ns);
}

/// As [`device`], with the address of the network header.
#[inline(always)]
pub(crate) fn device_at(
    kind: Kind,
    skb: Skb,
    network: u64,
    device: u64,
    netns: u32,
    packet: u64,
    time_ns: u64,
) {
    device_as(kind, skb, network, device, 0, netns, packet, time_ns);
}

/// A device gave a packet at that time; `index` is its, and the buffer may be another one's by now.
#[inline(always)]
pub(crate) fn received_before(skb: Skb, index: u32, netns: u32, packet: u64, time_ns: u64) {
    device_as(Kind::Receive, skb, skb.network_header(), skb.device(), index, netns, packet, time_ns);
}

#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "the members of the record")]
fn device_as(
    kind: Kind,
    skb: Skb,
    network: u64,
    device: u64,
    index: u32,
    netns: u32,
    packet: u64,
    time_ns: u64,
) {
    let Some(mut entry) = reserve::<DeviceRecord>(LOST_TRACEPOINTS) else { return };
    let record = entry.as_mut_ptr();
    // SAFETY: every byte of the record is written before it is submitted.
    unsafe {
        (*record).head = head(kind, packet, netns, time_ns);
        read::device(device, &raw mut (*record).device);
        if index != 0 && (*record).device.index != index {
            (*record).device.index = index;
            (*record).device.name = [0; 16];
        }
        skb.snapshot(network, &raw mut (*record).snapshot);
        skb.conn(&raw mut (*record).conn);
    }
    entry.submit(0);
}

/// A buffer is freed.
#[inline(always)]
pub(crate) fn freed(kind: Kind, skb: Skb, netns: u32, packet: u64, location: u64, reason: u32) {
    let Some(mut entry) = reserve::<FreeRecord>(LOST_TRACEPOINTS) else { return };
    let record = entry.as_mut_ptr();
    // SAFETY: every byte of the record is written before it is submitted.
    unsafe {
        (*record).head = head(kind, packet, netns, 0);
        (*record).location = location;
        (*record).reason = reason;
        (*record).zero = 0;
        skb.snapshot(skb.network_header(), &raw mut (*record).snapshot);
        // An end that is no drop tells of neither.
        let skb = if kind as u32 == Kind::Drop as u32 { skb } else { Skb(0) };
        read::device(skb.device(), &raw mut (*record).device);
        skb.route(&raw mut (*record).route);
        skb.circumstances(&raw mut (*record).circumstances);
    }
    entry.submit(0);
}

/// A packet went where nobody watches.
#[inline(always)]
pub(crate) fn left(packet: u64) {
    let Some(mut entry) = reserve::<Head>(LOST_TRACEPOINTS) else { return };
    entry.write(head(Kind::Left, packet, 0, 0));
    entry.submit(0);
}

/// A function has a packet in hand: one that takes it for this host, or one that is about to write into it.
#[inline(always)]
pub(crate) fn function(kind: Kind, skb: Skb, packet: u64, netns: u32, function: u32, socket: u64) {
    let Some(mut entry) = reserve::<DeliverRecord>(LOST_PROBES) else { return };
    let record = entry.as_mut_ptr();
    // SAFETY: every byte of the record is written before it is submitted.
    unsafe {
        (*record).head = head(kind, packet, netns, 0);
        (*record).function = function;
        (*record).socket_state = read::at::<u8>(socket, field!(sk_state)).map_or(0, u32::from);
        (*record).waiting = read::at(socket, field!(sk_ack_backlog)).unwrap_or(0);
        (*record).most = read::at(socket, field!(sk_max_ack_backlog)).unwrap_or(0);
        skb.snapshot(skb.network_header(), &raw mut (*record).snapshot);
    }
    entry.submit(0);
}

/// What a rule or chain decided, read from nf_tables' own structures.
#[inline(always)]
pub(crate) fn rule(info: u64, chain: u64, kind: u32, netns: u32, packet: u64) {
    let Some(mut entry) = reserve::<RuleRecord>(LOST_NFT) else { return };
    let record = entry.as_mut_ptr();
    let verdict: u64 = read::at(info, field!(traceinfo_verdict)).unwrap_or(0);
    let basechain: u64 = read::at(info, field!(traceinfo_basechain)).unwrap_or(0);
    let table: u64 = read::at(chain, field!(chain_table)).unwrap_or(0);
    let target: u64 = read::at(verdict, field!(verdict_chain)).unwrap_or(0);
    // SAFETY: every byte of the record is written before it is submitted.
    unsafe {
        (*record).head = head(Kind::Rule, packet, netns, 0);
        (*record).table_handle = read::at(table, field!(table_handle)).unwrap_or(0);
        (*record).rule_handle = read::rule_handle(info);
        (*record).kind = kind;
        (*record).verdict = read::at(verdict, field!(verdict_code)).unwrap_or(0);
        (*record).policy = read::at::<u8>(basechain, field!(basechain_policy)).map_or(0, u32::from);
        (*record).family = read::at::<u8>(table, field!(table_family)).map_or(0, |f| u32::from(f & 0x3f));
        read::name(table, field!(table_name), &raw mut (*record).table);
        read::name(chain, field!(chain_name), &raw mut (*record).chain);
        // NFT_JUMP, NFT_GOTO: only these have a chain.
        let target = if (*record).verdict == -3 || (*record).verdict == -4 { target } else { 0 };
        read::name(target, field!(chain_name), &raw mut (*record).target);
    }
    entry.submit(0);
}

/// What legacy iptables would log of a packet; `sp` is the stack pointer at the entry of `nf_log_trace`.
#[inline(always)]
pub(crate) fn legacy_rule(sp: u64, passage: Logged, netns: u32, packet: u64) {
    let Some(mut entry) = reserve::<LegacyRecord>(LOST_PROBES) else { return };
    let record = entry.as_mut_ptr();
    let text = |index| read::log_trace_argument::<u64>(sp, index).unwrap_or(0);
    // SAFETY: every byte of the record is written before it is submitted.
    unsafe {
        (*record).head = head(Kind::Legacy, packet, netns, 0);
        (*record).hook = passage.hook();
        (*record).pf = passage.pf();
        (*record).rulenum = read::log_trace_argument(sp, 3).unwrap_or(0);
        (*record).zero = 0;
        read::short_name(text(2), &raw mut (*record).comment);
        read::short_name(text(0), &raw mut (*record).table);
        read::short_name(text(1), &raw mut (*record).chain);
    }
    entry.submit(0);
}

/// A table of legacy iptables is being replaced, or has been.
#[inline(always)]
pub(crate) fn legacy_change(ended: bool) {
    let Some(mut entry) = reserve_aside::<LegacyChangeRecord>(LOST_PROBES) else { return };
    entry.write(LegacyChangeRecord {
        head: head(Kind::LegacyChange, 0, 0, 0),
        task: bpf_get_current_pid_tgid(),
        ended: u32::from(ended),
        zero: 0,
    });
    entry.submit(0);
}

/// `NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_TRACE`.
const NFT_TRACE: u16 = 0x0a11;
/// `NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWGEN`.
const NFT_NEWGEN: u16 = 0x0a0f;
/// What a socket filter answers to let a whole message through.
pub(crate) const WHOLE: i64 = 0xffff_ffff;

/// A message for one of our nf_tables sockets. Answers how many bytes of it the socket shall get: none of a trace
/// message, which is in the ring or counted as lost; all of any other.
#[inline(always)]
pub(crate) fn nft_message(ctx: &SkBuffContext, cookie: u64) -> i64 {
    // nlmsghdr: length, type; network order has no say here, netlink is in host order.
    let Some(kind) = load::<u16>(ctx, 4) else { return 0 };
    // NFTA_GEN_ID is the first attribute of NFT_MSG_NEWGEN (nf_tables_fill_gen_info).
    if kind == NFT_NEWGEN
        && let Some(generation) = load::<u32>(ctx, 24)
        && let Some(mut entry) = reserve_aside::<CommitRecord>(LOST_NFT)
    {
        let generation = u32::from_be(generation);
        entry.write(CommitRecord { head: head(Kind::Commit, 0, 0, 0), cookie, generation, zero: 0 });
        entry.submit(0);
    }
    if kind != NFT_TRACE {
        return WHOLE;
    }
    let len = ctx.len();
    let notify = trace_id(ctx, len)
        .and_then(|id| NOTIFIES.get_ptr(NotifyKey::new(id)).or_else(|| NOTIFIES.get_ptr(NotifyKey::new(0))));
    let mut hint = 0;
    if notify.is_none()
        && let Some(current) = CURRENT.get_ptr(0)
    {
        // SAFETY: this processor's slot.
        let skb = Skb(unsafe { *current });
        if let Some(entry) = select::living(skb) {
            if entry.state == State::CANDIDATE && skb.is_marked() {
                let _ = select::promote(skb, skb.watched_netns().unwrap_or(0), entry);
            }
            if entry.state == State::SELECTED {
                hint = entry.id;
            } else if entry.state == State::HELD_BACK {
                return 0;
            }
        }
    }
    // Of a packet that is not followed, for want of room among other reasons.
    if notify.is_none() && hint == 0 && filter!(ends_probed) == 1 && is_crowded() {
        return 0;
    }
    let nft = |len: u32| {
        let (packet, netns, table_handle) = match notify {
            // SAFETY: values of NOTIFIES are written whole before the message is sent, on this processor.
            Some(notify) => unsafe { ((*notify).packet, (*notify).netns, (*notify).table_handle) },
            None => (0, 0, 0),
        };
        NftHead { head: head(Kind::Nft, packet, netns, 0), hint, table_handle, cookie, len, zero: 0 }
    };
    if len as usize <= NFT_SMALL {
        message::<NFT_SMALL>(ctx, nft(len), len);
    } else if len as usize <= NFT_MEDIUM {
        message::<NFT_MEDIUM>(ctx, nft(len), len);
    } else {
        let len = if len as usize > NFT_LARGE { NFT_LARGE as u32 } else { len };
        message::<NFT_LARGE>(ctx, nft(len), len);
    }
    0
}

#[inline(always)]
fn message<const N: usize>(ctx: &SkBuffContext, nft: NftHead, len: u32) {
    let Some(mut entry) = reserve::<NftRecord<N>>(LOST_NFT) else { return };
    let record = entry.as_mut_ptr();
    // The verifier must see a length between 1 and N. A comparison would be folded by the compiler into a form
    // that shows it only one of the bounds; N is a power of two, so this changes no length in range.
    let len = (core::hint::black_box(len.wrapping_sub(1)) & (N as u32 - 1)) + 1;
    // SAFETY: the record has room for N bytes; what the message leaves is not read.
    unsafe {
        (*record).nft = nft;
        let target = (&raw mut (*record).message).cast();
        if bpf_skb_load_bytes(ctx.as_ptr(), 0, target, len) != 0 {
            entry.discard(0);
            count(LOST_NFT, false, true);
            return;
        }
    }
    entry.submit(0);
}

#[inline(always)]
pub(crate) fn load<T: Copy>(ctx: &SkBuffContext, offset: u32) -> Option<T> {
    let mut value = core::mem::MaybeUninit::<T>::uninit();
    // SAFETY: the destination is this frame's, of the size given.
    unsafe {
        if bpf_skb_load_bytes(ctx.as_ptr(), offset, value.as_mut_ptr().cast(), size_of::<T>() as u32) == 0 {
            Some(value.assume_init())
        } else {
            None
        }
    }
}

/// `NFTA_TRACE_ID` of the message: found by walking its attributes, which follow nlmsghdr and nfgenmsg.
#[inline(always)]
fn trace_id(ctx: &SkBuffContext, len: u32) -> Option<u32> {
    const NFTA_TRACE_ID: u16 = 6;
    let mut at = 20_u32;
    for _ in 0..20 {
        if at + 8 > len {
            return None;
        }
        let [attr_len, kind]: [u16; 2] = load(ctx, at)?;
        if kind == NFTA_TRACE_ID {
            return load(ctx, at + 4);
        }
        if attr_len < 4 {
            return None;
        }
        at += (u32::from(attr_len) + 3) & !3;
    }
    None
}
