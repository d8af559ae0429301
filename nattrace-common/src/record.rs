//! Records of the ring buffer. Each starts with a [`Head`].

/// What a record is; the discriminant is [`Head::kind`].
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`HookRecord`]: `nf_hook_slow` entered.
    Hook = 1,
    /// [`HookRecord`]: `nf_hook_slow` returned.
    HookReturn = 2,
    /// [`RewriteRecord`]: `nf_nat_manip_pkt` returned.
    Rewrite = 3,
    /// [`DeviceRecord`]: `netif_receive_skb`.
    Receive = 4,
    /// [`DeviceRecord`]: `net_dev_start_xmit`.
    Transmit = 5,
    /// [`FreeRecord`]: `kfree_skb`.
    Drop = 6,
    /// [`FreeRecord`]: freed otherwise.
    End = 7,
    /// [`Head`] alone: went to a namespace that is not watched.
    Left = 8,
    /// [`DeliverRecord`]: a socket or local protocol took it.
    Deliver = 9,
    /// [`NftRecord`] of any size: a netlink trace message.
    Nft = 10,
    /// [`RuleRecord`]: nf_tables evaluated a rule, where no trace message tells of it.
    Rule = 11,
    /// [`CommitRecord`]: nf_tables tells of a transaction that it committed.
    Commit = 12,
    /// [`LegacyRecord`]: legacy iptables matched a rule or came to a chain's end.
    Legacy = 13,
    /// [`DeliverRecord`]: a function outside of conntrack's NAT is about to write into the headers.
    Writer = 14,
    /// [`LegacyChangeRecord`]: a table of legacy iptables is being replaced, or has been.
    LegacyChange = 15,
}

impl Kind {
    /// From [`Head::kind`].
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::Hook,
            2 => Self::HookReturn,
            3 => Self::Rewrite,
            4 => Self::Receive,
            5 => Self::Transmit,
            6 => Self::Drop,
            7 => Self::End,
            8 => Self::Left,
            9 => Self::Deliver,
            10 => Self::Nft,
            11 => Self::Rule,
            12 => Self::Commit,
            13 => Self::Legacy,
            14 => Self::Writer,
            15 => Self::LegacyChange,
            _ => return None,
        })
    }
}

/// The start of every record.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "user", derive(zerocopy::FromBytes))]
pub struct Head {
    /// [`Kind`].
    pub kind: u32,
    /// Processor.
    pub cpu: u32,
    /// `bpf_ktime_get_ns`: CLOCK_MONOTONIC.
    pub time_ns: u64,
    /// Packet identity; 0 in an [`NftRecord`] that is not tied to one.
    pub packet: u64,
    /// Namespace inode number; 0 where it is not known.
    pub netns: u32,
    /// Padding, always 0.
    pub zero: u32,
}

/// Bytes of headers that are copied, from the network header on.
pub const HEADER_BYTES: usize = 96;

/// A packet's headers at one moment.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "user", derive(zerocopy::FromBytes))]
pub struct Snapshot {
    /// From the network header on.
    pub headers: [u8; HEADER_BYTES],
    /// How many of `headers` belong to the packet.
    pub headers_len: u16,
    /// `skb->protocol`, network byte order.
    pub ethertype: u16,
    /// `skb->len`.
    pub skb_len: u32,
    /// `skb->mark`.
    pub mark: u32,
    /// `skb_shinfo(skb)->gso_segs`: segments that the buffer holds, 0 for one.
    pub segments: u32,
}

impl Snapshot {
    /// Nothing.
    pub const EMPTY: Self =
        Self { headers: [0; HEADER_BYTES], headers_len: 0, ethertype: 0, skb_len: 0, mark: 0, segments: 0 };
}

/// A device, or index 0 for none.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "user", derive(zerocopy::FromBytes))]
pub struct Device {
    /// `ifindex`.
    pub index: u32,
    /// `net_device.name`, NUL-padded.
    pub name: [u8; 16],
    /// Padding, always 0.
    pub zero: u32,
}

/// Bytes of `struct nf_conntrack_tuple` that matter: up to and with `dst.dir`.
pub const TUPLE_BYTES: usize = 40;

/// `skb->_nfct`, followed.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "user", derive(zerocopy::FromBytes))]
pub struct Conn {
    /// Address of the `nf_conn`; 0 when none is attached.
    pub key: u64,
    /// `enum ip_conntrack_info`; 7 with `key` 0 means untracked.
    pub ctinfo: u32,
    /// `IPS_*`.
    pub status: u32,
    /// Mark.
    pub mark: u32,
    /// Zone id.
    pub zone: u32,
    /// `struct nf_conntrack_tuple` of the original direction.
    pub original: [u8; TUPLE_BYTES],
    /// `struct nf_conntrack_tuple` of the reply direction.
    pub reply: [u8; TUPLE_BYTES],
}

/// `skb_dst`, followed.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "user", derive(zerocopy::FromBytes))]
pub struct Route {
    /// 1 when a route is attached.
    pub present: u32,
    /// `rt_type` (`RTN_*`) for IPv4, 0 for IPv6.
    pub kind: u32,
    /// `AF_INET`, `AF_INET6`, or 0 for "no gateway".
    pub gateway_family: u32,
    /// `dst_entry.error`: 0, or an errno: above 0 of IPv4 (`ip_route_input_slow`), below of IPv6 (`ip6_rt_init_dst`).
    pub error: i32,
    /// Gateway, network byte order; IPv4 in the first four bytes.
    pub gateway: [u8; 16],
    /// `dst.dev`.
    pub device: Device,
}

/// What a packet was dropped amid; `u32::MAX` for what is not known.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "user", derive(zerocopy::FromBytes))]
pub struct Circumstances {
    /// `skb->dev->state`, the lower half: `__LINK_STATE_*` (include/linux/netdevice.h).
    pub link_state: u32,
    /// Whether packets of its family are forwarded: by `skb->dev` (IPv4), in its namespace (IPv6).
    pub forwarding: u32,
    /// `mtu` of the device its route leads to: bytes.
    pub mtu: u32,
    /// `skb->pkt_type`: `PACKET_*` (include/uapi/linux/if_packet.h).
    pub packet_type: u32,
    /// 1 when a conntrack entry is attached, else 0.
    pub tracked: u32,
    /// `enum ip_conntrack_info`; 7 without an entry means untracked.
    pub ctinfo: u32,
    /// `IPS_*` of the entry.
    pub status: u32,
    /// Padding, always 0.
    pub zero: u32,
    /// When conntrack last found no room for a new entry on this processor (`bpf_ktime_get_ns`); 0: not yet.
    pub table_full_ns: u64,
}

/// Entry or return of `nf_hook_slow`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "user", derive(zerocopy::FromBytes))]
pub struct HookRecord {
    /// Head.
    pub head: Head,
    /// `state->hook`.
    pub hook: u32,
    /// `state->pf`.
    pub pf: u32,
    /// Return value; 0 on entry.
    pub verdict: i32,
    /// 1 when `snapshot` and `conn` were read from a live buffer.
    pub alive: u32,
    /// `state->in`.
    pub iif: Device,
    /// `state->out`.
    pub oif: Device,
    /// Headers.
    pub snapshot: Snapshot,
    /// Connection.
    pub conn: Conn,
    /// Route.
    pub route: Route,
}

/// A rewrite.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "user", derive(zerocopy::FromBytes))]
pub struct RewriteRecord {
    /// Head.
    pub head: Head,
    /// `enum nf_nat_manip_type`: 0 source, 1 destination.
    pub manip: u32,
    /// `enum ip_conntrack_dir`.
    pub direction: u32,
    /// Headers before.
    pub before: Snapshot,
    /// Headers after.
    pub after: Snapshot,
    /// Connection.
    pub conn: Conn,
}

/// A device took or gave the packet.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "user", derive(zerocopy::FromBytes))]
pub struct DeviceRecord {
    /// Head.
    pub head: Head,
    /// The device.
    pub device: Device,
    /// Headers.
    pub snapshot: Snapshot,
    /// Connection.
    pub conn: Conn,
}

/// The end of a buffer.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "user", derive(zerocopy::FromBytes))]
pub struct FreeRecord {
    /// Head.
    pub head: Head,
    /// Code address that freed it; 0 where unknown.
    pub location: u64,
    /// `enum skb_drop_reason`; `u32::MAX` where the kernel gives none.
    pub reason: u32,
    /// Padding, always 0.
    pub zero: u32,
    /// Headers.
    pub snapshot: Snapshot,
    /// `skb->dev`.
    pub device: Device,
    /// Route.
    pub route: Route,
    /// Of a drop.
    pub circumstances: Circumstances,
}

/// Which function took a packet for this host; [`DeliverRecord::function`].
pub const DELIVER_FUNCTIONS: [&str; 8] = [
    "tcp_v4_do_rcv",
    "tcp_v6_do_rcv",
    "tcp_child_process",
    "__udp_enqueue_schedule_skb",
    "icmp_rcv",
    "icmpv6_rcv",
    "tcp_rcv_established",
    "sock_def_readable",
];

/// Which function is about to write addresses or ports, without conntrack's NAT; [`DeliverRecord::function`].
pub const WRITER_FUNCTIONS: [&str; 11] = [
    "nf_flow_offload_ip_hook",
    "nf_flow_offload_ipv6_hook",
    "tcf_nat_act",
    "tcf_pedit_act",
    "tcp_dnat_handler",
    "tcp_snat_handler",
    "udp_dnat_handler",
    "udp_snat_handler",
    "sctp_dnat_handler",
    "sctp_snat_handler",
    "do_xdp_generic",
];

/// A socket or a local protocol took the packet, or a function is about to write into it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "user", derive(zerocopy::FromBytes))]
pub struct DeliverRecord {
    /// Head.
    pub head: Head,
    /// Index in [`DELIVER_FUNCTIONS`] or [`WRITER_FUNCTIONS`].
    pub function: u32,
    /// `sk_state` (`TCP_*`, include/net/tcp_states.h) of the TCP socket it is for; 0: not known, or none.
    pub socket_state: u32,
    /// `sk_ack_backlog` of that socket: connections that wait to be accepted, when it listens.
    pub waiting: u32,
    /// `sk_max_ack_backlog`: how many may.
    pub most: u32,
    /// Headers.
    pub snapshot: Snapshot,
}

/// What precedes the message in an [`NftRecord`].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "user", derive(zerocopy::FromBytes))]
pub struct NftHead {
    /// Head; `packet` is exact or 0.
    pub head: Head,
    /// The followed packet that this processor had in hand last, or 0.
    pub hint: u64,
    /// `nft_table.handle`, or 0.
    pub table_handle: u64,
    /// `SO_COOKIE` of the socket the message was for: tells its namespace.
    pub cookie: u64,
    /// Bytes of message that follow.
    pub len: u32,
    /// Padding, always 0.
    pub zero: u32,
}

/// A netlink message, in the smallest of three sizes that holds it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NftRecord<const N: usize> {
    /// What precedes it.
    pub nft: NftHead,
    /// The message, `nft.len` bytes of it.
    pub message: [u8; N],
}

/// The sizes of [`NftRecord`], powers of two. This one holds what has no headers.
pub const NFT_SMALL: usize = 256;
/// With headers.
pub const NFT_MEDIUM: usize = 512;
/// With names at their length limits.
pub const NFT_LARGE: usize = 2048;

/// The end of a transaction's notifications, for the socket that listens to them.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "user", derive(zerocopy::FromBytes))]
pub struct CommitRecord {
    /// Head; its time is what the record is for.
    pub head: Head,
    /// `SO_COOKIE` of the socket: tells the namespace.
    pub cookie: u64,
    /// `NFTA_GEN_ID`, host byte order.
    pub generation: u32,
    /// Padding, always 0.
    pub zero: u32,
}

/// `NFT_NAME_MAXLEN`.
pub const NAME_BYTES: usize = 256;

/// The result of a rule or chain, read where nf_tables would build a trace message.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "user", derive(zerocopy::FromBytes))]
pub struct RuleRecord {
    /// Head.
    pub head: Head,
    /// `nft_table.handle`.
    pub table_handle: u64,
    /// The rule's handle; 0 for none.
    pub rule_handle: u64,
    /// `enum nft_trace_types`.
    pub kind: u32,
    /// `nft_verdict.code`.
    pub verdict: i32,
    /// `nft_base_chain.policy`: 0 drop, 1 accept.
    pub policy: u32,
    /// `NFPROTO_*` of the table.
    pub family: u32,
    /// Table, NUL-terminated.
    pub table: [u8; NAME_BYTES],
    /// Chain, NUL-terminated.
    pub chain: [u8; NAME_BYTES],
    /// Chain of a jump or goto, NUL-terminated.
    pub target: [u8; NAME_BYTES],
}

/// `XT_TABLE_MAXNAMELEN`; chains' names are shorter (`XT_FUNCTION_MAXNAMELEN`).
pub const XT_NAME_BYTES: usize = 32;

/// What legacy iptables would log of a traced packet: the arguments of `nf_log_trace` (net/ipv4/netfilter/ip_tables.c
/// `trace_packet`).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "user", derive(zerocopy::FromBytes))]
pub struct LegacyRecord {
    /// Head.
    pub head: Head,
    /// `NF_INET_*`.
    pub hook: u32,
    /// `NFPROTO_IPV4` or `NFPROTO_IPV6`.
    pub pf: u32,
    /// Number in the chain, from 1; that of a policy is one more than the chain has rules.
    pub rulenum: u32,
    /// Padding, always 0.
    pub zero: u32,
    /// `rule`, `return` or `policy`, NUL-terminated.
    pub comment: [u8; 8],
    /// Table, NUL-terminated.
    pub table: [u8; XT_NAME_BYTES],
    /// Chain, NUL-terminated.
    pub chain: [u8; XT_NAME_BYTES],
}

/// `xt_replace_table` or `xt_register_table` was entered, or returned.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "user", derive(zerocopy::FromBytes))]
pub struct LegacyChangeRecord {
    /// Head; the namespace is not told.
    pub head: Head,
    /// `bpf_get_current_pid_tgid`: ties a return to its entry.
    pub task: u64,
    /// 1 when it returned.
    pub ended: u32,
    /// Padding, always 0.
    pub zero: u32,
}

/// Why a record was not made; indices of the `LOST` map.
pub const LOST_PROBES: u32 = 0;
/// As [`LOST_PROBES`], from a tracepoint.
pub const LOST_TRACEPOINTS: u32 = 1;
/// As [`LOST_PROBES`], a trace message.
pub const LOST_NFT: u32 = 2;
/// Not a source: packets that were not followed because records were read too slowly.
pub const HELD_BACK: u32 = 3;
/// Number of loss counters.
pub const LOST_COUNTERS: u32 = 4;

/// Where programs that others go on as are in `BODIES`: `kfree_skb`.
pub const BODY_KFREE_SKB: u32 = 0;

/// One loss counter, summed over processors.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Lost {
    /// Records that were to be told as events: those that found room, and those that are counted as lost.
    pub begun: u64,
    /// Records that found no room.
    pub count: u64,
    /// Time of the last.
    pub last_ns: u64,
}

#[cfg(feature = "user")]
#[expect(unsafe_code, reason = "aya reads maps through this marker")]
mod pod {
    // SAFETY: two u64, any bit pattern is a value, no padding.
    unsafe impl aya::Pod for super::Lost {}
}
