//! The kernel's copy of the filter: patched into the programs' read-only data, so that the verifier removes
//! the criteria nobody asked for.

/// How many alternatives one criterion can have.
pub const ALTERNATIVES: usize = 16;
/// How many namespaces the filter holds; more are in the map `WATCHED`.
pub const NAMESPACES: usize = 8;
/// How many namespaces that map holds; more is "all".
pub const WATCHED_NAMESPACES: u32 = 4096;

/// An address prefix over 16 bytes; IPv4 as `::ffff:a.b.c.d`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct PrefixWords {
    /// Network bits, network byte order.
    pub value: [u32; 4],
    /// Which bits count.
    pub mask: [u32; 4],
}

/// An inclusive port range, host byte order.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Ports {
    /// First.
    pub first: u16,
    /// Last.
    pub last: u16,
}

/// Value and mask.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Bits {
    /// What the masked bits must be.
    pub value: u32,
    /// Which bits count.
    pub mask: u32,
}

/// A list with its length.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct List<T> {
    /// How many are set; 0: the criterion is not asked for.
    pub len: u32,
    /// Padding, always 0.
    pub zero: u32,
    /// The alternatives.
    pub items: [T; ALTERNATIVES],
}

impl<T: Copy> List<T> {
    /// The empty list; `item` fills what is not read.
    #[must_use]
    pub const fn empty(item: T) -> Self {
        Self { len: 0, zero: 0, items: [item; ALTERNATIVES] }
    }
}

/// The criteria, and how packets are selected.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct KernelFilter {
    /// How many namespaces are watched; 0: all. More than [`NAMESPACES`] are in the map `WATCHED`.
    pub netns_len: u32,
    /// 1: a packet is selected only once nf_tables has marked it (`skb->nf_trace`), by our trace table.
    pub marked: u32,
    /// 1: connections of selected packets are followed.
    pub follow: u32,
    /// 1: packets that match with source and destination swapped are selected too.
    pub mirror: u32,
    /// Selections a second when `marked` is 0; 0: no limit.
    pub rate: u32,
    /// 1: there is a probe on the end of buffers, so the tracepoint of ordinary freeing need not report it.
    pub ends_probed: u32,
    /// 1: some criterion looks at single packets (mark, flags, device), so that conntrack's tuples cannot answer.
    pub by_packet: u32,
    /// This kernel's number of `SKB_DROP_REASON_NETFILTER_DROP`.
    pub netfilter_drop: u32,
    /// 1: packets are followed from one watched namespace into another, and what answers them there.
    pub crossing: u32,
    /// Bytes of records that wait to be read, above which no further packet is selected: what is left of the ring is for those
    /// that are followed.
    pub crowded: u32,
    /// Inode numbers, when there are no more than fit.
    pub netns: [u32; NAMESPACES],
    /// Layer 4 protocols.
    pub protocols: List<u32>,
    /// Source.
    pub saddr: List<PrefixWords>,
    /// Destination.
    pub daddr: List<PrefixWords>,
    /// Either.
    pub addr: List<PrefixWords>,
    /// Source port.
    pub sport: List<Ports>,
    /// Destination port.
    pub dport: List<Ports>,
    /// Either port.
    pub port: List<Ports>,
    /// Packet mark.
    pub marks: List<Bits>,
    /// Device the packet came in by: NUL-padded names as two words.
    pub iif: List<[u64; 2]>,
    /// TCP flags; mask 0: not asked for.
    pub tcp_flags: Bits,
}

impl KernelFilter {
    /// Everything, everywhere, unlimited.
    pub const EVERYTHING: Self = {
        let prefix = PrefixWords { value: [0; 4], mask: [0; 4] };
        let ports = Ports { first: 0, last: 0 };
        let bits = Bits { value: 0, mask: 0 };
        Self {
            netns_len: 0,
            marked: 0,
            follow: 0,
            mirror: 0,
            rate: 0,
            ends_probed: 0,
            by_packet: 0,
            netfilter_drop: u32::MAX - 1,
            crossing: 0,
            crowded: u32::MAX,
            netns: [0; NAMESPACES],
            protocols: List::empty(0),
            saddr: List::empty(prefix),
            daddr: List::empty(prefix),
            addr: List::empty(prefix),
            sport: List::empty(ports),
            dport: List::empty(ports),
            port: List::empty(ports),
            marks: List::empty(bits),
            iif: List::empty([0; 2]),
            tcp_flags: bits,
        }
    };
}

#[cfg(feature = "user")]
#[expect(unsafe_code, reason = "aya patches read-only data through this marker")]
mod pod {
    // SAFETY: repr(C), integers only, padding is explicit.
    unsafe impl aya::Pod for super::KernelFilter {}
}
