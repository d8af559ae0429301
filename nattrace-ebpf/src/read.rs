//! Every read of kernel memory. Offsets come from BTF ([`crate::FIELDS`]); an absent field is a constant to
//! the verifier, which removes what depends on it.

use core::{ffi::c_void, mem::MaybeUninit};

use aya_ebpf::{
    bindings::pt_regs,
    helpers::generated::{bpf_probe_read_kernel, bpf_probe_read_kernel_str},
};
use nattrace_common::{
    fields::ABSENT,
    record::{
        Circumstances, Conn, Device, HEADER_BYTES, NAME_BYTES, Route, Snapshot, TUPLE_BYTES, XT_NAME_BYTES,
    },
};

use crate::{
    FILTER,
    maps::{self, WATCHED},
};

/// A word of patched read-only data. Volatile, or the compiler would take the value before the patch.
#[inline(always)]
pub(crate) fn patched(word: *const u32) -> u32 {
    // SAFETY: only the two macros below call this, with members of read-only statics.
    unsafe { core::ptr::read_volatile(word) }
}

/// The patched offset of a field, read as one word: a whole-struct load would copy the table at each use.
macro_rules! field {
    ($name:ident) => {
        $crate::read::patched(&raw const $crate::FIELDS.$name)
    };
}
pub(crate) use field;

/// One word of the patched filter.
macro_rules! filter {
    ($($path:tt)+) => {
        $crate::read::patched(&raw const $crate::FILTER.$($path)+)
    };
}
pub(crate) use filter;

/// Ethertypes as `skb->protocol` holds them.
pub(crate) const ETH_P_IP: u16 = 0x0800_u16.to_be();
/// IPv6.
pub(crate) const ETH_P_IPV6: u16 = 0x86dd_u16.to_be();

/// Reads a value from kernel memory; `None` for a null base, an absent field or a fault.
#[inline(always)]
pub(crate) fn at<T: Copy>(base: u64, offset: u32) -> Option<T> {
    if base == 0 || offset == ABSENT {
        return None;
    }
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper checks the source; the destination is this frame's, of the size given.
    unsafe {
        let status = bpf_probe_read_kernel(
            value.as_mut_ptr().cast(),
            size_of::<T>() as u32,
            base.wrapping_add(u64::from(offset)) as *const c_void,
        );
        if status == 0 { Some(value.assume_init()) } else { None }
    }
}

/// Reads a member of a structure that the verifier knows by its type: an instruction, no helper.
#[inline(always)]
fn member<T: Copy>(base: u64, offset: u32) -> Option<T> {
    if offset == ABSENT {
        return None;
    }
    // SAFETY: the verifier refuses what is no member of the structure, and a fault reads as 0 (BPF_PROBE_MEM).
    Some(unsafe { core::ptr::read_volatile(base.wrapping_add(u64::from(offset)) as *const T) })
}

/// Reads bytes from kernel memory into a record; zeroes stay where it fails.
#[inline(always)]
pub(crate) fn into<T>(target: *mut T, base: u64, offset: u32) -> bool {
    if base == 0 || offset == ABSENT {
        return false;
    }
    // SAFETY: `target` points into a record of this size; the helper checks the source.
    unsafe {
        bpf_probe_read_kernel(
            target.cast(),
            size_of::<T>() as u32,
            base.wrapping_add(u64::from(offset)) as *const c_void,
        ) == 0
    }
}

/// The stack pointer at a probe.
#[inline(always)]
pub(crate) fn stack_pointer(ctx: *mut c_void) -> u64 {
    let regs: *const pt_regs = ctx.cast_const().cast();
    // SAFETY: probes are called with the registers of the probed function.
    #[cfg(bpf_target_arch = "x86_64")]
    unsafe {
        (*regs).rsp
    }
    #[cfg(bpf_target_arch = "aarch64")]
    unsafe {
        (*regs).sp
    }
    #[cfg(not(any(bpf_target_arch = "x86_64", bpf_target_arch = "aarch64")))]
    compile_error!(
        "nattrace pairs calls and returns by the stack pointer, which is not known for this architecture"
    )
}

/// `struct net`'s inode number, when the namespace is watched.
#[inline(always)]
pub(crate) fn watched(net: u64) -> Option<u32> {
    let inum: u32 = at(net, field!(net_inum))?;
    let len = filter!(netns_len);
    if len == 0 {
        return Some(inum);
    }
    if len as usize > nattrace_common::filter::NAMESPACES {
        return WATCHED.get_ptr(inum).map(|_| inum);
    }
    for index in 0..nattrace_common::filter::NAMESPACES {
        if index as u32 >= len {
            break;
        }
        // SAFETY: in bounds of a read-only static.
        if unsafe { core::ptr::read_volatile((&raw const FILTER.netns).cast::<u32>().add(index)) } == inum {
            return Some(inum);
        }
    }
    None
}

/// The namespace of a `struct net_device`, when it is watched.
#[inline(always)]
pub(crate) fn watched_netns_of_device(device: u64) -> Option<u32> {
    watched(at(device, field!(dev_net))?)
}

/// `info->basechain->chain.table->handle`, or 0.
#[inline(always)]
pub(crate) fn table_handle(info: u64) -> u64 {
    let Some(basechain) = at::<u64>(info, field!(traceinfo_basechain)) else { return 0 };
    let (chain, table) = (field!(basechain_chain), field!(chain_table));
    if basechain == 0 || chain == ABSENT || table == ABSENT {
        return 0;
    }
    let Some(table) = at::<u64>(basechain, chain + table) else { return 0 };
    at(table, field!(table_handle)).unwrap_or(0)
}

/// Handle of `info->rule`, or 0 at the end of a chain.
#[inline(always)]
pub(crate) fn rule_handle(info: u64) -> u64 {
    const HANDLE: u64 = (1 << 42) - 1;
    let Some(rule) = at::<u64>(info, field!(traceinfo_rule)).filter(|rule| *rule != 0) else { return 0 };
    if field!(rule_dp_size) == ABSENT {
        // struct nft_rule { struct list_head list; u64 handle:42, ... }
        at::<u64>(rule, 16).map_or(0, |word| word & HANDLE)
    } else {
        // struct nft_rule_dp { u64 is_last:1, dlen:12, handle:42; }
        at::<u64>(rule, 0).map_or(0, |word| if word & 1 == 1 { 0 } else { (word >> 13) & HANDLE })
    }
}

/// Copies a NUL-terminated name that a structure points to.
#[inline(always)]
pub(crate) fn name(base: u64, offset: u32, target: *mut [u8; NAME_BYTES]) {
    let name: u64 = at(base, offset).unwrap_or(0);
    // SAFETY: `target` points to a record of this program; the helper checks the source.
    unsafe {
        (*target)[0] = 0;
        if name != 0 {
            bpf_probe_read_kernel_str(target.cast(), NAME_BYTES as u32, name as *const c_void);
        }
    }
}

/// Copies a NUL-terminated string of legacy iptables.
#[inline(always)]
pub(crate) fn short_name<const N: usize>(source: u64, target: *mut [u8; N]) {
    const { assert!(N <= XT_NAME_BYTES) };
    // SAFETY: `target` points to a record of this program; the helper checks the source.
    unsafe {
        *target = [0; N];
        if source != 0 {
            bpf_probe_read_kernel_str(target.cast(), N as u32, source as *const c_void);
        }
    }
}

/// The arguments of the variadic `nf_log_trace(net, pf, hooknum, skb, in, out, loginfo, fmt, ...)` behind its format:
/// on the stack, after the return address and what found no register before them.
#[inline(always)]
pub(crate) fn log_trace_argument<T: Copy>(sp: u64, index: u32) -> Option<T> {
    #[cfg(bpf_target_arch = "x86_64")]
    const FIRST: u32 = 24;
    #[cfg(bpf_target_arch = "aarch64")]
    const FIRST: u32 = 0;
    at(sp, FIRST + 8 * index)
}

/// Where in the kernel a packet passes hooks. Each part is read where it is written down: carried along, what one read
/// gave or did not would be a path of its own for the verifier, to the end of the program.
pub(crate) trait Passage: Copy {
    /// `NF_INET_*`, or what the family has instead.
    fn hook(self) -> u32;
    /// `NFPROTO_*`.
    fn pf(self) -> u32;
    /// Device in, as an address.
    fn iif(self) -> u64;
    /// Device out, as an address.
    fn oif(self) -> u64;

    /// Hook and family in one number that is never 0. The family belongs to it: a bridge's hooks and those of IP
    /// are entered within each other (br_netfilter).
    #[inline(always)]
    fn place(self) -> u32 {
        ((self.pf() & 0xff) << 8 | (self.hook() & 0xff)) + 1
    }
}

/// As the arguments of `nf_log_trace` have it.
#[derive(Clone, Copy)]
pub(crate) struct Logged {
    pub(crate) hook: u32,
    pub(crate) pf: u32,
    pub(crate) iif: u64,
    pub(crate) oif: u64,
}

impl Passage for Logged {
    #[inline(always)]
    fn hook(self) -> u32 {
        self.hook
    }

    #[inline(always)]
    fn pf(self) -> u32 {
        self.pf
    }

    #[inline(always)]
    fn iif(self) -> u64 {
        self.iif
    }

    #[inline(always)]
    fn oif(self) -> u64 {
        self.oif
    }
}

/// A `struct nf_hook_state`.
#[derive(Clone, Copy)]
pub(crate) struct HookState(pub(crate) u64);

impl Passage for HookState {
    /// `state->hook`.
    #[inline(always)]
    fn hook(self) -> u32 {
        if field!(state_hook_size) == 1 {
            at::<u8>(self.0, field!(state_hook)).map_or(u32::MAX, u32::from)
        } else {
            at::<u32>(self.0, field!(state_hook)).unwrap_or(u32::MAX)
        }
    }

    /// `state->pf`.
    #[inline(always)]
    fn pf(self) -> u32 {
        at::<u8>(self.0, field!(state_pf)).map_or(0, u32::from)
    }

    /// `state->in`.
    #[inline(always)]
    fn iif(self) -> u64 {
        at(self.0, field!(state_in)).unwrap_or(0)
    }

    /// `state->out`.
    #[inline(always)]
    fn oif(self) -> u64 {
        at(self.0, field!(state_out)).unwrap_or(0)
    }
}

impl HookState {
    /// A hook of IPv4 or IPv6, in which a trace table can have marked the packet.
    #[inline(always)]
    pub(crate) fn is_ip(self) -> bool {
        let pf = self.pf();
        pf == 2 || pf == 10
    }

    /// The hook's namespace, when it is watched.
    #[inline(always)]
    pub(crate) fn watched_netns(self) -> Option<u32> {
        watched(at(self.0, field!(state_net))?)
    }
}

/// A `struct sk_buff`. `TYPED`: an argument of fentry, fexit or a BTF tracepoint, which the verifier knows as one.
#[derive(Clone, Copy)]
pub(crate) struct Skb<const TYPED: bool = false>(pub(crate) u64);

/// What is asked of packets that nobody follows.
impl<const TYPED: bool> Skb<TYPED> {
    /// As one of which nothing is known but its address.
    #[inline(always)]
    pub(crate) fn untyped(self) -> Skb {
        Skb(self.0)
    }

    #[inline(always)]
    fn member<T: Copy>(self, offset: u32) -> Option<T> {
        if TYPED { member(self.0, offset) } else { at(self.0, offset) }
    }

    /// `skb->protocol`, network byte order.
    #[inline(always)]
    pub(crate) fn ethertype(self) -> u16 {
        self.member(field!(skb_protocol)).unwrap_or(0)
    }

    /// `skb->data`: where the network header will be when a device has just given the packet.
    #[inline(always)]
    pub(crate) fn data(self) -> u64 {
        self.member(field!(skb_data)).unwrap_or(0)
    }

    /// `skb->nf_trace`: nf_tables was told to trace this packet.
    #[inline(always)]
    pub(crate) fn is_marked(self) -> bool {
        let (byte, bit) = (field!(skb_nf_trace_byte), field!(skb_nf_trace_bit));
        match self.member::<u8>(byte) {
            Some(value) => (value >> (bit & 7)) & 1 == 1,
            None => false,
        }
    }
}

impl Skb {
    /// `skb->dev`, as an address.
    #[inline(always)]
    pub(crate) fn device(self) -> u64 {
        at(self.0, field!(skb_dev)).unwrap_or(0)
    }

    /// The namespace of `skb->dev`, when it is watched. Without a device (a packet that was routed out but
    /// not handed to a device, or was taken by a socket) there is none to ask.
    #[inline(always)]
    pub(crate) fn watched_netns(self) -> Option<u32> {
        watched_netns_of_device(self.device())
    }

    /// `skb->mark`.
    #[inline(always)]
    pub(crate) fn mark(self) -> u32 {
        at(self.0, field!(skb_mark)).unwrap_or(0)
    }

    /// A route is attached, or conntrack has seen it: the packet is past its first hook.
    #[inline(always)]
    pub(crate) fn is_routed(self) -> bool {
        at::<u64>(self.0, field!(skb_refdst)).unwrap_or(0) & !1 != 0 || self.connection().0 != 0
    }

    /// The namespace it is in, when that is watched: its device's, without one its socket's, else that of the device
    /// its route leads to; 0 where nothing tells. In a UDP socket's queue something else is in the device's place,
    /// which is then one of no watched namespace.
    #[inline(always)]
    pub(crate) fn netns(self) -> Option<u32> {
        let device = self.device();
        if device != 0 {
            return watched_netns_of_device(device);
        }
        // Every kind of socket begins with sock_common.
        let socket: u64 = at(self.0, field!(skb_sk)).unwrap_or(0);
        let net: u64 = if socket == 0 {
            let dst: u64 = at::<u64>(self.0, field!(skb_refdst)).unwrap_or(0) & !1;
            at(at(dst, field!(dst_dev)).unwrap_or(0), field!(dev_net)).unwrap_or(0)
        } else {
            at(socket, field!(sk_net)).unwrap_or(0)
        };
        if net == 0 { Some(0) } else { watched(net) }
    }

    /// `skb->pkt_type`: `PACKET_*`; all ones where it is not known.
    #[inline(always)]
    pub(crate) fn packet_type(self) -> u32 {
        let byte: Option<u8> = at(self.0, field!(skb_pkt_type_byte));
        byte.map_or(u32::MAX, |byte| u32::from(byte >> (field!(skb_pkt_type_bit) & 7)) & 7)
    }

    /// Address of the network header, as the stack knows it.
    #[inline(always)]
    pub(crate) fn network_header(self) -> u64 {
        let head: u64 = at(self.0, field!(skb_head)).unwrap_or(0);
        match at::<u16>(self.0, field!(skb_network_header)) {
            // Not set yet: all ones (`skb_network_header_was_set`).
            Some(offset) if head != 0 && offset != u16::MAX => head + u64::from(offset),
            _ => 0,
        }
    }

    /// `nf_conn` and `ctinfo` of `skb->_nfct`.
    #[inline(always)]
    pub(crate) fn connection(self) -> (u64, u32) {
        let nfct: u64 = at(self.0, field!(skb_nfct)).unwrap_or(0);
        (nfct & !7, (nfct & 7) as u32)
    }

    /// Copies what is known of the packet's headers.
    #[inline(always)]
    pub(crate) fn snapshot(self, network: u64, target: *mut Snapshot) {
        let head: u64 = at(self.0, field!(skb_head)).unwrap_or(0);
        let tail = head + u64::from(at::<u32>(self.0, field!(skb_tail)).unwrap_or(0));
        let available = tail.wrapping_sub(network);
        // SAFETY: `target` points to a record of this program.
        let snapshot = unsafe { &mut *target };
        snapshot.ethertype = self.ethertype();
        snapshot.skb_len = at(self.0, field!(skb_len)).unwrap_or(0);
        snapshot.mark = self.mark();
        let shared = at::<u32>(self.0, field!(skb_end)).map_or(0, |end| head.wrapping_add(u64::from(end)));
        snapshot.segments = at::<u16>(shared, field!(shinfo_gso_segs)).map_or(0, u32::from);
        snapshot.headers_len = if network == 0 || available > 0xffff {
            0
        } else if available > HEADER_BYTES as u64 {
            HEADER_BYTES as u16
        } else {
            available as u16
        };
        if !into(&raw mut snapshot.headers, network, 0) {
            snapshot.headers = [0; HEADER_BYTES];
            snapshot.headers_len = 0;
        }
    }

    /// Copies what conntrack knows of the packet.
    #[inline(always)]
    pub(crate) fn conn(self, target: *mut Conn) {
        // SAFETY: `target` points to a record of this program.
        let conn = unsafe { &mut *target };
        let (ct, ctinfo) = self.connection();
        conn.key = ct;
        conn.ctinfo = ctinfo;
        conn.status = at::<u64>(ct, field!(ct_status)).unwrap_or(0) as u32;
        conn.mark = at(ct, field!(ct_mark)).unwrap_or(0);
        conn.zone = at::<u16>(ct, field!(ct_zone)).map_or(0, u32::from);
        if !original_tuple(ct, &raw mut conn.original) {
            conn.original = [0; TUPLE_BYTES];
        }
        let (hash, size, tuple) = (field!(ct_tuplehash), field!(ct_tuplehash_size), field!(ct_tuple));
        if hash == ABSENT || !into(&raw mut conn.reply, ct, hash.wrapping_add(size).wrapping_add(tuple)) {
            conn.reply = [0; TUPLE_BYTES];
        }
    }

    /// Copies the route that is attached.
    #[inline(always)]
    pub(crate) fn route(self, target: *mut Route) {
        // SAFETY: `target` points to a record of this program.
        let route = unsafe { &mut *target };
        let dst: u64 = at::<u64>(self.0, field!(skb_refdst)).unwrap_or(0) & !1;
        route.present = u32::from(dst != 0);
        route.kind = 0;
        route.gateway_family = 0;
        route.error = at::<i16>(dst, field!(dst_error)).map_or(0, i32::from);
        route.gateway = [0; 16];
        device(at(dst, field!(dst_dev)).unwrap_or(0), &raw mut route.device);
        // `dst` is the first member of both rtable and rt6_info.
        if self.ethertype() == ETH_P_IP {
            route.kind = at::<u16>(dst, field!(rt_type)).map_or(0, u32::from);
            route.gateway_family = at::<u8>(dst, field!(rt_gw_family)).map_or(0, u32::from);
            if route.gateway_family != 0 {
                let _ = into(&raw mut route.gateway, dst, field!(rt_gw));
            }
        } else if self.ethertype() == ETH_P_IPV6 {
            // RTF_GATEWAY
            if at::<u32>(dst, field!(rt6_flags)).unwrap_or(0) & 0x2 != 0 {
                route.gateway_family = 10;
                let _ = into(&raw mut route.gateway, dst, field!(rt6_gateway));
            }
        }
    }
}

impl Skb {
    /// Copies what it is dropped amid.
    #[inline(always)]
    pub(crate) fn circumstances(self, target: *mut Circumstances) {
        // SAFETY: `target` points to a record of this program.
        let target = unsafe { &mut *target };
        let device = self.device();
        target.link_state = at(device, field!(dev_state)).unwrap_or(u32::MAX);
        let forwarding: Option<i32> = match self.ethertype() {
            ETH_P_IP => at(at(device, field!(dev_in)).unwrap_or(0), field!(in_forwarding)),
            ETH_P_IPV6 => {
                let net: u64 = at(device, field!(dev_net)).unwrap_or(0);
                at(at(net, field!(net_devconf6)).unwrap_or(0), field!(devconf6_forwarding))
            }
            _ => None,
        };
        target.forwarding = forwarding.map_or(u32::MAX, |on| u32::from(on != 0));
        let dst: u64 = at::<u64>(self.0, field!(skb_refdst)).unwrap_or(0) & !1;
        target.mtu = at(at(dst, field!(dst_dev)).unwrap_or(0), field!(dev_mtu)).unwrap_or(u32::MAX);
        target.packet_type = self.packet_type();
        let (ct, ctinfo) = self.connection();
        target.tracked = if field!(skb_nfct) == ABSENT { u32::MAX } else { u32::from(ct != 0) };
        target.ctinfo = ctinfo;
        target.status = at::<u64>(ct, field!(ct_status)).unwrap_or(0) as u32;
        target.zero = 0;
        target.table_full_ns = maps::table_full_ns();
    }
}

/// Copies the original tuple of an `nf_conn`.
#[inline(always)]
pub(crate) fn original_tuple(ct: u64, target: *mut [u8; TUPLE_BYTES]) -> bool {
    let (hash, tuple) = (field!(ct_tuplehash), field!(ct_tuple));
    hash != ABSENT && tuple != ABSENT && into(target, ct, hash + tuple)
}

/// Copies the reply tuple of an `nf_conn`: that of the second `nf_conntrack_tuple_hash`.
#[inline(always)]
pub(crate) fn reply_tuple(ct: u64, target: *mut [u8; TUPLE_BYTES]) -> bool {
    let (hash, tuple, stride) = (field!(ct_tuplehash), field!(ct_tuple), field!(ct_tuplehash_size));
    hash != ABSENT && tuple != ABSENT && stride != ABSENT && into(target, ct, hash + tuple + stride)
}

/// Copies a device's index and name.
#[inline(always)]
pub(crate) fn device(device: u64, target: *mut Device) {
    // SAFETY: `target` points to a record of this program.
    let target = unsafe { &mut *target };
    target.zero = 0;
    target.index = at(device, field!(dev_ifindex)).unwrap_or(0);
    if !into(&raw mut target.name, device, field!(dev_name)) {
        target.name = [0; 16];
    }
}
