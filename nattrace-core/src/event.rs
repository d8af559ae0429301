//! The one vocabulary that crosses from the sources to the core, and the only thing that is recorded.

mod named;
mod read;

use bitcode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::conntrack::{Connection, Direction};
use crate::fib::FibAnswer;
use crate::neighbour::NeighbourAnswer;
use crate::packet::Packet;
use crate::ruleset::{Listing, legacy};

/// A followed packet: unique within one run. Made in the kernel when the packet is selected, inherited by
/// the same buffer until it is freed. Never an address: addresses are reused within microseconds.
pub type PacketId = u64;

/// A network namespace: the inode number of its `/proc/PID/ns/net`.
pub type NetnsId = u32;

/// One observation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Encode, Decode)]
pub struct Event {
    /// Nanoseconds since the epoch.
    #[serde(rename = "t")]
    pub time_ns: u64,
    /// The processor it happened on; packets stay on one while they pass the hooks.
    pub cpu: u32,
    /// The namespace it happened in; 0 where the source cannot say.
    pub netns: NetnsId,
    /// What was observed.
    #[serde(flatten)]
    pub body: Body,
}

/// What an [`Event`] says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Body {
    /// `nf_hook_slow` was entered with a followed packet.
    Hook(Hook),
    /// `nf_hook_slow` returned for a followed packet.
    HookReturn(HookReturn),
    /// `nf_nat_manip_pkt` changed a followed packet.
    Rewrite(Rewrite),
    /// nf_tables sent a trace message.
    NftTrace(NftTrace),
    /// Legacy iptables matched a rule, or came to the end of a chain.
    LegacyRule(LegacyRule),
    /// A device handed the packet to the stack (`netif_receive_skb`).
    Receive(DeviceEvent),
    /// The stack handed the packet to a device's driver (`net_dev_start_xmit`).
    Transmit(DeviceEvent),
    /// A socket or a local protocol took the packet.
    Deliver(Deliver),
    /// A function outside of conntrack's NAT is about to write into the packet's headers.
    Writer(Writer),
    /// The packet was freed as dropped (`kfree_skb`).
    Drop(DropEvent),
    /// The packet's buffer was freed without being called a drop.
    End {
        /// The packet.
        packet: PacketId,
        /// The function that freed it (symbol of the tracepoint's location), where the source tells.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        function: Option<String>,
    },
    /// The packet went to a namespace that is not watched; it is no longer followed.
    Left {
        /// The packet.
        packet: PacketId,
    },
    /// ctnetlink told of a connection.
    Conntrack(ConntrackEvent),
    /// A ruleset transaction was committed in this namespace.
    Commit(Commit),
    /// The ruleset as listed.
    Ruleset(Listing),
    /// Whether a set had an element, when that was asked.
    SetAnswer(SetAnswer),
    /// The rules of legacy iptables as listed.
    LegacyRuleset(legacy::Listing),
    /// The rules of legacy iptables change, in whatever namespace.
    LegacyChange(LegacyChange),
    /// A network device.
    Link(Link),
    /// A namespace that is watched.
    Namespace {
        /// Name under `/run/netns`, or how the user named it.
        name: Option<String>,
    },
    /// The table that this program installed to have packets traced; its messages are observations, not rules.
    OwnTable {
        /// Family.
        family: NfFamily,
        /// Name.
        name: String,
    },
    /// What the routing tables answered for a packet that was routed right before.
    Fib(FibAnswer),
    /// Who has an address on a device, when that was asked.
    Neighbour(NeighbourAnswer),
    /// The time, as the program looked whether journeys have ended: a replay looks at the same moments.
    Clock {
        /// It looked whether connections have been quiet, too.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        quiet: bool,
    },
    /// The recording has come to its limit; the trace went on without it.
    Full,
    /// Events came faster than they were read, and packets that were to be selected were not, lest events be lost.
    HeldBack {
        /// How many since that was last told.
        packets: u64,
    },
    /// Something was lost between the kernel and here.
    Loss(Loss),
}

/// The netfilter hooks (`NF_INET_*`, `NF_NETDEV_*`).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Encode, Decode,
)]
#[serde(rename_all = "lowercase")]
pub enum HookPoint {
    /// `NF_NETDEV_INGRESS`.
    Ingress,
    /// `NF_INET_PRE_ROUTING`.
    Prerouting,
    /// `NF_INET_LOCAL_IN`.
    Input,
    /// `NF_INET_FORWARD`.
    Forward,
    /// `NF_INET_LOCAL_OUT`.
    Output,
    /// `NF_INET_POST_ROUTING`.
    Postrouting,
    /// `NF_NETDEV_EGRESS`.
    Egress,
}

impl HookPoint {
    /// The name nft and the JSON output use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Prerouting => "prerouting",
            Self::Input => "input",
            Self::Forward => "forward",
            Self::Output => "output",
            Self::Postrouting => "postrouting",
            Self::Egress => "egress",
        }
    }

    /// From the name nft uses.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [
            Self::Ingress,
            Self::Prerouting,
            Self::Input,
            Self::Forward,
            Self::Output,
            Self::Postrouting,
            Self::Egress,
        ]
        .into_iter()
        .find(|hook| hook.name() == name)
    }
}

/// `NFPROTO_*` of a hook or a table.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Encode, Decode,
)]
#[serde(rename_all = "lowercase")]
pub enum NfFamily {
    /// `NFPROTO_INET`: tables only, never a hook.
    Inet,
    /// `NFPROTO_IPV4`.
    Ip,
    /// `NFPROTO_ARP`.
    Arp,
    /// `NFPROTO_NETDEV`.
    Netdev,
    /// `NFPROTO_BRIDGE`.
    Bridge,
    /// `NFPROTO_IPV6`.
    Ip6,
}

impl NfFamily {
    /// Whether the hooks of this family are those of the IP layers, where INPUT means this host.
    #[must_use]
    pub fn is_ip(self) -> bool {
        matches!(self, Self::Ip | Self::Ip6)
    }

    /// From the kernel's number (include/uapi/linux/netfilter.h).
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Inet,
            2 => Self::Ip,
            3 => Self::Arp,
            5 => Self::Netdev,
            7 => Self::Bridge,
            10 => Self::Ip6,
            _ => return None,
        })
    }

    /// The name nft uses.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Inet => "inet",
            Self::Ip => "ip",
            Self::Arp => "arp",
            Self::Netdev => "netdev",
            Self::Bridge => "bridge",
            Self::Ip6 => "ip6",
        }
    }

    /// From nft's name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "inet" => Self::Inet,
            "ip" => Self::Ip,
            "arp" => Self::Arp,
            "netdev" => Self::Netdev,
            "bridge" => Self::Bridge,
            "ip6" => Self::Ip6,
            _ => return None,
        })
    }
}

/// A device as an event names it. The name is what the kernel said at that moment: untrusted text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Encode, Decode)]
pub struct DeviceRef {
    /// `ifindex`.
    pub index: u32,
    /// Name, where the source gives one; else to be looked up among the [`Link`]s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// The route attached to a packet (`skb_dst`) when it entered a hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct RouteRef {
    /// `rt_type` (`RTN_*`) for IPv4; `None` for IPv6 or where it could not be read.
    pub kind: Option<u8>,
    /// The device of the route (`dst.dev`).
    pub oif: Option<DeviceRef>,
    /// The gateway, when the next hop is not the destination itself.
    pub gateway: Option<std::net::IpAddr>,
    /// `dst_entry.error` as a positive errno: the route refuses what takes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<i32>,
}

/// Entry of `nf_hook_slow`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct Hook {
    /// The packet.
    pub packet: PacketId,
    /// Its headers now.
    pub header: Packet,
    /// Which hook.
    pub hook: HookPoint,
    /// The protocol family of the hook (`state->pf`).
    pub family: NfFamily,
    /// `state->in`.
    pub iif: Option<DeviceRef>,
    /// `state->out`.
    pub oif: Option<DeviceRef>,
    /// The connection attached on entry.
    pub connection: Option<Connection>,
    /// The route attached on entry.
    pub route: Option<RouteRef>,
}

/// What `nf_hook_slow` answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Hash, Encode, Decode)]
#[serde(rename_all = "lowercase")]
pub enum HookVerdict {
    /// 1: every hook function accepted.
    Accept,
    /// Below 0: dropped, the buffer is gone.
    Drop,
    /// 0: a hook function kept the packet (`NF_STOLEN`) or queued it (`NF_QUEUE`); the kernel's answer does not tell which.
    Stolen,
    /// 0, and known to have been queued to user space.
    Queue,
}

impl HookVerdict {
    /// The name the JSON output uses.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Drop => "drop",
            Self::Stolen => "stolen",
            Self::Queue => "queue",
        }
    }
}

/// Return of `nf_hook_slow`. Where its entry was seen, that of exactly that call; else (a reply is recognised on
/// return at the earliest; entries are not watched where nf_tables tells of them) all that is told of the passage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct HookReturn {
    /// The packet.
    pub packet: PacketId,
    /// Which hook.
    pub hook: HookPoint,
    /// The protocol family of the hook.
    pub family: NfFamily,
    /// The answer.
    pub verdict: HookVerdict,
    /// Headers after the hook; `None` when the buffer is gone.
    pub header: Option<Packet>,
    /// The connection attached on return; `None` when untracked or gone.
    pub connection: Option<Connection>,
    /// The route attached on return.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<RouteRef>,
    /// `state->in`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iif: Option<DeviceRef>,
    /// `state->out`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oif: Option<DeviceRef>,
}

/// `enum nf_nat_manip_type`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Hash, Encode, Decode,
)]
#[serde(rename_all = "lowercase")]
pub enum Manip {
    /// The source changes (`NF_NAT_MANIP_SRC`).
    Snat,
    /// The destination changes (`NF_NAT_MANIP_DST`).
    Dnat,
}

impl Manip {
    /// The name the JSON output uses.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Snat => "snat",
            Self::Dnat => "dnat",
        }
    }
}

/// One call of `nf_nat_manip_pkt`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct Rewrite {
    /// The packet.
    pub packet: PacketId,
    /// Which end.
    pub manip: Manip,
    /// The direction of the packet within its connection.
    pub direction: Direction,
    /// Headers before.
    pub before: Packet,
    /// Headers after.
    pub after: Packet,
    /// The connection whose mapping was applied.
    pub connection: Option<Connection>,
}

/// One nf_tables trace message, with what ties it to a packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Encode, Decode)]
pub struct NftTrace {
    /// The packet, exactly, from a probe where nf_tables builds the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packet: Option<PacketId>,
    /// The followed packet that this processor had in hand last; to be believed only when the headers agree.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<PacketId>,
    /// The handle of the table (`nft_table.handle`), which no reload reuses; from the probe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table_handle: Option<u64>,
    /// The message itself.
    #[serde(flatten)]
    pub message: TraceMessage,
}

/// `enum nft_trace_types`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[serde(rename_all = "lowercase")]
pub enum TraceType {
    /// A base chain's policy decided.
    Policy,
    /// The end of a chain was reached (kernels before 6.7).
    Return,
    /// A rule matched; without a handle: the end of a chain was reached (6.7 and later).
    Rule,
}

/// A verdict as nf_tables gives it (`NF_*`, `NFT_*`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Hash, Encode, Decode)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// `NF_ACCEPT`.
    Accept,
    /// `NF_DROP`.
    Drop,
    /// `NF_STOLEN`.
    Stolen,
    /// `NF_QUEUE` with the queue number.
    Queue(u16),
    /// `NFT_CONTINUE`.
    Continue,
    /// `NFT_BREAK`.
    Break,
    /// `NFT_JUMP` to a chain.
    Jump(String),
    /// `NFT_GOTO` a chain.
    Goto(String),
    /// `NFT_RETURN`.
    Return,
    /// A code that this version does not know.
    Unknown(i32),
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Stolen => f.write_str("stolen"),
            Self::Queue(_) => f.write_str("queue"),
            Self::Continue => f.write_str("continue"),
            Self::Break => f.write_str("break"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
            Self::Return => f.write_str("return"),
            Self::Unknown(code) => write!(f, "unknown verdict {code}"),
        }
    }
}

/// The attributes of an `NFT_MSG_TRACE` message (include/uapi/linux/netfilter/nf_tables.h, `NFTA_TRACE_*`, v7.3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct TraceMessage {
    /// `NFTA_TRACE_ID`, in the byte order of the kernel that sent it. `nft` prints its bytes swapped.
    pub id: u32,
    /// Family of the base chain's table (`nfgen_family`).
    pub family: NfFamily,
    /// `NFTA_TRACE_NFPROTO`: family of the packet.
    pub nfproto: Option<u8>,
    /// `NFTA_TRACE_TYPE`.
    pub kind: TraceType,
    /// `NFTA_TRACE_TABLE`.
    pub table: String,
    /// `NFTA_TRACE_CHAIN`: the chain being evaluated.
    pub chain: String,
    /// `NFTA_TRACE_RULE_HANDLE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule_handle: Option<u64>,
    /// `NFTA_TRACE_VERDICT`; for policies from `NFTA_TRACE_POLICY`.
    pub verdict: Option<Verdict>,
    /// `NFTA_TRACE_LL_HEADER`, only in the first message of a base chain's evaluation.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "crate::record::hex")]
    pub link_header: Vec<u8>,
    /// `NFTA_TRACE_NETWORK_HEADER`.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "crate::record::hex")]
    pub network_header: Vec<u8>,
    /// `NFTA_TRACE_TRANSPORT_HEADER`.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "crate::record::hex")]
    pub transport_header: Vec<u8>,
    /// `NFTA_TRACE_IIF`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iif: Option<u32>,
    /// `NFTA_TRACE_IIFTYPE` (`ARPHRD_*`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iif_type: Option<u16>,
    /// `NFTA_TRACE_OIF`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oif: Option<u32>,
    /// `NFTA_TRACE_OIFTYPE` (`ARPHRD_*`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oif_type: Option<u16>,
    /// `NFTA_TRACE_MARK`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<u32>,
    /// `NFTA_TRACE_CT_ID` (6.16+), as `conntrack -o id` prints it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ct_id: Option<u32>,
    /// `NFTA_TRACE_CT_DIRECTION` (6.16+).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ct_direction: Option<Direction>,
    /// `NFTA_TRACE_CT_STATUS` (6.16+).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ct_status: Option<u32>,
    /// `NFTA_TRACE_CT_STATE` (6.16+): `NF_CT_STATE_*` bit mask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ct_state: Option<u32>,
}

impl TraceMessage {
    /// A message with what every one has; the rest is absent.
    #[must_use]
    pub fn new(family: NfFamily, kind: TraceType, table: String, chain: String) -> Self {
        Self {
            id: 0,
            family,
            nfproto: None,
            kind,
            table,
            chain,
            rule_handle: None,
            verdict: None,
            link_header: Vec::new(),
            network_header: Vec::new(),
            transport_header: Vec::new(),
            iif: None,
            iif_type: None,
            oif: None,
            oif_type: None,
            mark: None,
            ct_id: None,
            ct_direction: None,
            ct_status: None,
            ct_state: None,
        }
    }
}

/// What legacy iptables tells of a packet that is traced (net/ipv4/netfilter/ip_tables.c `trace_packet`, v7.3): not what
/// it decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct LegacyRule {
    /// The packet.
    pub packet: PacketId,
    /// `NFPROTO_IPV4` or `NFPROTO_IPV6`.
    pub family: NfFamily,
    /// The hook it is in.
    pub hook: HookPoint,
    /// Table.
    pub table: String,
    /// Chain.
    pub chain: String,
    /// Number in the chain, from 1; the chain's end (a base chain's policy) counts as one more rule.
    pub rulenum: u32,
    /// What the kernel calls it. A rule that accepts, drops or returns without any condition is called as the end of
    /// its chain is: `policy` in a base chain, `return` in others.
    pub called: TraceType,
}

/// The rules of legacy iptables are replaced as a whole, table by table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[serde(tag = "change", rename_all = "lowercase")]
pub enum LegacyChange {
    /// From now on changes are told.
    Watched,
    /// A task replaces a table; the new rules come into force before it has ended.
    Begun {
        /// Which.
        task: u64,
    },
    /// It has.
    Ended {
        /// Which.
        task: u64,
    },
}

/// A device took or gave a packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct DeviceEvent {
    /// The packet.
    pub packet: PacketId,
    /// Its headers now.
    pub header: Packet,
    /// The device.
    pub device: DeviceRef,
    /// The connection attached now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<Connection>,
}

/// A function that writes addresses or ports by itself: of the flowtable, of IPVS, of tc.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct Writer {
    /// The packet.
    pub packet: PacketId,
    /// Its name in the kernel.
    pub function: String,
    /// Headers before.
    pub header: Packet,
}

/// A socket or a local protocol took a packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct Deliver {
    /// The packet.
    pub packet: PacketId,
    /// Kernel function that took it.
    pub function: String,
    /// Headers now, when still readable.
    pub header: Option<Packet>,
    /// The socket that it is for listens, and has this many connections that wait to be accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listening: Option<Listening>,
}

/// The queue of a listening TCP socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct Listening {
    /// Connections that wait (`sk_ack_backlog`).
    pub waiting: u32,
    /// How many may (`sk_max_ack_backlog`); one more can (`sk_acceptq_is_full`, include/net/sock.h, v6.12).
    pub most: u32,
}

/// `kfree_skb`: the kernel threw a packet away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct DropEvent {
    /// The packet.
    pub packet: PacketId,
    /// Its headers at the end.
    pub header: Packet,
    /// The kernel's drop reason by name, without the `SKB_DROP_REASON_` prefix; `None` before 5.17.
    pub reason: Option<String>,
    /// The function that dropped it (symbol of the tracepoint's location), when it could be resolved.
    pub function: Option<String>,
    /// `skb->dev`: the device it was at; in a socket's queue there is something else in that place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceRef>,
    /// The route that was attached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<RouteRef>,
    /// What else held at that moment.
    #[serde(default)]
    pub circumstances: Circumstances,
}

/// What a packet was dropped amid; `None` for what could not be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct Circumstances {
    /// Whether the device it was at had a carrier (`__LINK_STATE_NOCARRIER` of `dev->state`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carrier: Option<bool>,
    /// Whether packets of its family are forwarded: of those that came in by that device (IPv4), in that namespace (IPv6).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forwarding: Option<bool>,
    /// MTU of the device its route leads to: bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Whom the frame was for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame: Option<FrameTo>,
    /// Whether the checksum of its IPv4 header was right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header_checksum: Option<bool>,
    /// What conntrack had attached to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conntrack: Option<Attached>,
    /// Conntrack had just found no room for a new entry, on this processor.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub table_full: bool,
}

/// `skb->_nfct` (include/linux/skbuff.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[serde(rename_all = "lowercase")]
pub enum Attached {
    /// Nothing: conntrack did not see it, or did not take it.
    Nothing,
    /// `IP_CT_UNTRACKED`.
    Untracked,
    /// An entry, with its `IPS_*` bits.
    Entry(u32),
}

/// `skb->pkt_type` (include/uapi/linux/if_packet.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[serde(rename_all = "lowercase")]
pub enum FrameTo {
    /// `PACKET_HOST`: this one.
    Host,
    /// `PACKET_BROADCAST`: all.
    Broadcast,
    /// `PACKET_MULTICAST`: a group.
    Multicast,
    /// `PACKET_OTHERHOST`: another.
    Other,
    /// `PACKET_OUTGOING`: it is on its way out.
    Outgoing,
}

/// `enum nf_conntrack_netlink` group the message came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[serde(rename_all = "lowercase")]
pub enum ConntrackChange {
    /// `NFNLGRP_CONNTRACK_NEW`.
    New,
    /// `NFNLGRP_CONNTRACK_UPDATE`.
    Update,
    /// `NFNLGRP_CONNTRACK_DESTROY`.
    Destroy,
    /// Answer to a query or part of a dump: it existed already.
    Listed,
}

/// A ctnetlink message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct ConntrackEvent {
    /// What happened.
    pub change: ConntrackChange,
    /// The connection, without packet-related fields.
    pub connection: Connection,
}

/// The end of an nf_tables transaction (`NFT_MSG_NEWGEN`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct Commit {
    /// `NFTA_GEN_ID`.
    pub generation: u32,
    /// Tables that were deleted by it, as (family, name, handle).
    #[serde(default)]
    pub deleted_tables: Vec<(NfFamily, String, Option<u64>)>,
    /// Tables that were created by it.
    #[serde(default)]
    pub new_tables: Vec<(NfFamily, String, Option<u64>)>,
    /// Rules, as (family, table, handle), that other rules took the place of, handle and all (`nft replace rule`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaced_rules: Vec<(NfFamily, String, u64)>,
    /// How many messages told of it: the larger, the longer it took.
    #[serde(default)]
    pub changes: u32,
    /// How long before the event's time the change may already have been in force; `None` where that time is
    /// only when the notification was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncertain_ns: Option<u64>,
}

/// The kernel's answer to whether a set or map has an element (`nft get element`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct SetAnswer {
    /// Family of the table.
    pub family: NfFamily,
    /// Table.
    pub table: String,
    /// Set.
    pub set: String,
    /// The element, as nft writes it.
    pub element: String,
    /// Whether it had it; `None` when that could not be asked.
    pub has: Option<bool>,
}

/// A device that exists, for sources that give only its index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct Link {
    /// `ifindex`.
    pub index: u32,
    /// Name.
    pub name: String,
}

/// The sources an event can come from or be lost by; the names of `--sources`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Encode, Decode,
)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Kprobes: hooks, rewrites, delivery, the exact trace join.
    Probes,
    /// Raw tracepoints: devices, drops, ends.
    Tracepoints,
    /// nf_tables trace messages.
    Nft,
    /// ctnetlink.
    Conntrack,
}

impl Source {
    /// Every source, in the order they are shown.
    pub const ALL: [Self; 4] = [Self::Probes, Self::Tracepoints, Self::Nft, Self::Conntrack];

    /// The name on the command line and in the output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Probes => "probes",
            Self::Tracepoints => "tracepoints",
            Self::Nft => "nft",
            Self::Conntrack => "conntrack",
        }
    }
}

/// Events that were made but did not arrive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct Loss {
    /// Which source.
    pub source: Source,
    /// How many; `None` where the kernel only says that some were.
    pub count: Option<u64>,
    /// Not before: nanoseconds since the epoch.
    pub first_ns: u64,
    /// Not after.
    pub last_ns: u64,
}
