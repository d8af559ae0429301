//! State between attach points.

use core::arch::asm;

use aya_ebpf::{
    helpers::bpf_get_smp_processor_id,
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, ProgramArray, RingBuf},
};
use nattrace_common::filter::WATCHED_NAMESPACES;
use nattrace_common::record::{LOST_COUNTERS, Lost, Snapshot, TUPLE_BYTES};

use crate::filter::Key;

/// Records on their way to user space.
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(4 << 20, 0);

/// Records that found no room, by `LOST_*`.
#[map]
pub(crate) static LOST: PerCpuArray<Lost> = PerCpuArray::with_max_entries(LOST_COUNTERS, 0);

/// Packets that are followed, or may become so, by the address of their buffer. An entry is removed when the
/// buffer is freed; where no probe tells of that, it is recognised as stale by its fingerprint.
#[map]
static PACKETS: LruHashMap<u64, Entry> = LruHashMap::with_max_entries(32768, 0);

/// How many entries [`PACKETS`] has at most: those that make room for others are still counted. While it is 0, which is
/// most of the time, nothing need be looked up there.
static mut TRACKED: u64 = 0;

/// Adds to [`TRACKED`]. The kernel has an instruction for it (`BPF_ATOMIC | BPF_ADD`), and Rust no word for this target.
#[inline(always)]
fn track(more: i64) {
    // SAFETY: the counter is 8 bytes and aligned, and all processors change it by this instruction.
    unsafe {
        asm!("lock *(u64 *)({counter} + 0) += {more}", counter = in(reg) &raw mut TRACKED, more = in(reg) more);
    }
}

/// The entry of a buffer.
#[inline(always)]
pub(crate) fn packet(skb: u64) -> Option<*mut Entry> {
    // SAFETY: 8 bytes that are aligned are read at once.
    if unsafe { core::ptr::read_volatile(&raw const TRACKED) } == 0 {
        return None;
    }
    PACKETS.get_ptr_mut(skb)
}

/// Makes an entry for a buffer that has none; whether there is room.
#[inline(always)]
pub(crate) fn add_packet(skb: u64, entry: &Entry) -> bool {
    track(1);
    if PACKETS.insert(skb, entry, 0).is_ok() {
        return true;
    }
    track(-1);
    false
}

/// Removes the entry of a buffer, if it has one.
#[inline(always)]
pub(crate) fn remove_packet(skb: u64) {
    if PACKETS.remove(skb).is_ok() {
        track(-1);
    }
}

/// What is kept of a packet.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    /// Identity within the run.
    pub(crate) id: u64,
    /// When a device gave it, to be told once it is selected; 0: told, or none did.
    pub(crate) received_ns: u64,
    /// What NAT and forwarding leave unchanged.
    pub(crate) fingerprint: u64,
    /// The device that gave it.
    pub(crate) device: u32,
    /// `select::State`.
    pub(crate) state: u32,
    /// Hook it is in, as `HookState::place` has it; 0: none.
    pub(crate) hook: u32,
    /// Where it was seen last: a buffer in a socket, or on its way out, has no device to ask.
    pub(crate) netns: u32,
}

/// Connections of selected packets, by the address of their nf_conn. The value is the original tuple: a
/// reused address has another one.
#[map]
pub(crate) static CONNECTIONS: LruHashMap<u64, [u8; TUPLE_BYTES]> = LruHashMap::with_max_entries(16384, 0);

/// What answers a followed packet in a namespace that it has come into: the headers such a packet will have. The
/// value says nothing.
#[map]
pub(crate) static ANSWERS: LruHashMap<Answer, u8> = LruHashMap::with_max_entries(16384, 0);

/// What replies of followed connections look like when they come in: where conntrack is not asked, because the
/// flowtable sends them on, they are known by this. The value says nothing.
#[map]
pub(crate) static REPLIES: LruHashMap<Answer, u8> = LruHashMap::with_max_entries(16384, 0);

/// Original tuples of followed connections, in whatever namespace: ctnetlink's messages have these. The value says
/// nothing.
#[map]
pub(crate) static FOLLOWED: LruHashMap<Answer, u8> = LruHashMap::with_max_entries(16384, 0);

/// See [`ANSWERS`], [`REPLIES`] and [`FOLLOWED`]. Addresses as in `filter::Key`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Answer {
    /// Namespace.
    pub(crate) netns: u32,
    /// Layer 4 protocol.
    pub(crate) protocol: u32,
    /// Source.
    pub(crate) saddr: [u32; 4],
    /// Destination.
    pub(crate) daddr: [u32; 4],
    /// Source port, host byte order; or the identifier of an echo.
    pub(crate) sport: u16,
    /// Destination port, host byte order; or the identifier of an echo.
    pub(crate) dport: u16,
}

impl Answer {
    /// For a packet with these headers.
    #[inline(always)]
    pub(crate) fn of(key: &Key, netns: u32) -> Self {
        let Key { saddr, daddr, protocol, sport, dport, .. } = *key;
        Self { netns, protocol, saddr, daddr, sport, dport }
    }

    /// For a packet that answers one with these headers.
    #[inline(always)]
    pub(crate) fn to(key: &Key, netns: u32) -> Self {
        let Key { saddr, daddr, protocol, sport, dport, .. } = *key;
        Self { netns, protocol, saddr: daddr, daddr: saddr, sport: dport, dport: sport }
    }
}

/// Whether two packets have the same ends.
#[inline(always)]
pub(crate) fn same_ends(a: &Answer, b: &Answer) -> bool {
    let mut differ = u32::from(a.sport ^ b.sport) | u32::from(a.dport ^ b.dport);
    for word in 0..4 {
        differ |= (a.saddr[word] ^ b.saddr[word]) | (a.daddr[word] ^ b.daddr[word]);
    }
    differ == 0
}

/// Watched namespaces, where they are too many for the filter.
#[map]
pub(crate) static WATCHED: HashMap<u32, u8> = HashMap::with_max_entries(WATCHED_NAMESPACES, 0);

/// The packet each processor took from a device last: its buffer.
#[map]
pub(crate) static CURRENT: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Programs that others go on as, by `BODY_*`.
#[map]
pub(crate) static BODIES: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// What each processor dropped last: a hook that returns "dropped" has freed it right before.
#[map]
pub(crate) static DROPPED: PerCpuArray<Dropped> = PerCpuArray::with_max_entries(1, 0);

/// When conntrack last found no room for a new entry, on each processor.
#[map]
static TABLE_FULL: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Conntrack has no room for a new entry.
#[inline(always)]
pub(crate) fn note_full_table(now_ns: u64) {
    if let Some(slot) = TABLE_FULL.get_ptr_mut(0) {
        // SAFETY: the slot is this processor's own.
        unsafe { *slot = now_ns };
    }
}

/// When that was on this processor; 0: not yet.
#[inline(always)]
pub(crate) fn table_full_ns() -> u64 {
    // SAFETY: as above.
    TABLE_FULL.get_ptr(0).map_or(0, |slot| unsafe { *slot })
}

/// See [`DROPPED`].
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Dropped {
    /// The buffer it was in.
    pub(crate) skb: u64,
    /// The packet; 0: not followed, or told already.
    pub(crate) packet: u64,
}

/// Which packet a trace message that is being built belongs to.
#[map]
pub(crate) static NOTIFIES: LruHashMap<NotifyKey, Notify> = LruHashMap::with_max_entries(4096, 0);

/// A trace id holds the buffer's address, so it names one live packet, whatever processor the message is built on
/// and sent from.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct NotifyKey {
    /// Processor, where there is no id.
    pub(crate) cpu: u32,
    /// Trace id; 0 where the kernel computes it later than the probe (before 5.19).
    pub(crate) id: u32,
}

impl NotifyKey {
    /// For a trace id; 0 stands for "not known yet".
    #[inline(always)]
    pub(crate) fn new(id: u32) -> Self {
        // SAFETY: the helper has no preconditions.
        let cpu = if id == 0 { unsafe { bpf_get_smp_processor_id() } } else { u32::MAX };
        Self { cpu, id }
    }
}

/// See [`NOTIFIES`].
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Notify {
    /// The packet.
    pub(crate) packet: u64,
    /// Its namespace.
    pub(crate) netns: u32,
    /// Padding, always 0.
    pub(crate) zero: u32,
    /// `nft_table.handle`, 0 where unknown.
    pub(crate) table_handle: u64,
}

/// Calls of `nf_hook_slow` under way, by their stack slot: unique while the call lasts, under nesting and
/// preemption alike.
#[map]
pub(crate) static CALLS: HashMap<u64, Call> = HashMap::with_max_entries(4096, 0);

/// See [`CALLS`].
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Call {
    /// The buffer.
    pub(crate) skb: u64,
    /// `nf_hook_state`.
    pub(crate) state: u64,
}

/// Arguments of `nf_nat_manip_pkt`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Manip {
    /// `enum nf_nat_manip_type`.
    pub(crate) mtype: u32,
    /// `enum ip_conntrack_dir`.
    pub(crate) dir: u32,
    /// Namespace.
    pub(crate) netns: u32,
    /// Padding, always 0.
    pub(crate) zero: u32,
    /// Packet.
    pub(crate) packet: u64,
}

/// Calls of `nf_nat_manip_pkt` under way, keyed as [`CALLS`].
#[map]
pub(crate) static MANIPS: HashMap<u64, Before> = HashMap::with_max_entries(1024, 0);

/// See [`MANIPS`].
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Before {
    /// The buffer.
    pub(crate) skb: u64,
    /// Arguments.
    pub(crate) manip: Manip,
    /// Headers on entry.
    pub(crate) snapshot: Snapshot,
}

/// Calls of `do_xdp_generic` under way with a packet that is followed or may be, keyed as [`CALLS`].
#[map]
pub(crate) static XDP_CALLS: HashMap<u64, XdpCall> = HashMap::with_max_entries(1024, 0);

/// See [`XDP_CALLS`].
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct XdpCall {
    /// Where the buffer's address is found at the return; 0: the buffer stays.
    pub(crate) variable: u64,
    /// The buffer on entry.
    pub(crate) skb: u64,
    /// Its entry.
    pub(crate) entry: Entry,
    /// Its flow on entry.
    pub(crate) flow: Answer,
    /// Padding, always 0.
    pub(crate) zero: u32,
    /// How it came, and its headers on entry.
    pub(crate) entered: Entered,
}

/// Candidates in the flowtable's hook, by the address of their buffer; not every one is seen again.
#[map]
pub(crate) static ENTERED: LruHashMap<u64, Entered> = LruHashMap::with_max_entries(1024, 0);

/// How a packet came to a function that writes. See [`ENTERED`] and [`XDP_CALLS`].
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Entered {
    /// When a device gave it.
    pub(crate) received_ns: u64,
    /// The device.
    pub(crate) device: u64,
    /// Index in `WRITER_FUNCTIONS`.
    pub(crate) function: u32,
    /// Padding, always 0.
    pub(crate) zero: u32,
    /// Headers on entry.
    pub(crate) snapshot: Snapshot,
}

/// Selections in the current second, where nf_tables does not limit them.
#[map]
pub(crate) static RATE: Array<Window> = Array::with_max_entries(1, 0);

/// See [`RATE`].
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Window {
    /// Start of the second, `bpf_ktime_get_ns`.
    pub(crate) start_ns: u64,
    /// Selected since.
    pub(crate) used: u64,
}

/// Next packet identity of each processor.
#[map]
pub(crate) static NEXT_ID: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// How far the stack pointer seen by a return probe is from that seen by the entry probe: one slot on x86-64,
/// where `ret` has popped the return address; none on aarch64; 5.10's trampoline shows another slot.
const RETURN_OFFSETS: [u64; 3] = [8, 0, 16];

/// The call that returns with this stack pointer.
#[inline(always)]
pub(crate) fn call_of_return(sp: u64) -> Option<(u64, &'static Call)> {
    for offset in RETURN_OFFSETS {
        let key = sp.wrapping_sub(offset);
        // SAFETY: the entry is removed by this return alone.
        if let Some(call) = unsafe { CALLS.get(key) } {
            return Some((key, call));
        }
    }
    None
}

/// As [`call_of_return`], for `do_xdp_generic`.
#[inline(always)]
pub(crate) fn xdp_call_of_return(sp: u64) -> Option<(u64, &'static XdpCall)> {
    for offset in RETURN_OFFSETS {
        let key = sp.wrapping_sub(offset);
        // SAFETY: the entry is removed by this return alone.
        if let Some(call) = unsafe { XDP_CALLS.get(key) } {
            return Some((key, call));
        }
    }
    None
}

/// As [`call_of_return`], for `nf_nat_manip_pkt`.
#[inline(always)]
pub(crate) fn manip_of_return(sp: u64) -> Option<(u64, &'static Before)> {
    for offset in RETURN_OFFSETS {
        let key = sp.wrapping_sub(offset);
        // SAFETY: the entry is removed by this return alone.
        if let Some(before) = unsafe { MANIPS.get(key) } {
            return Some((key, before));
        }
    }
    None
}
