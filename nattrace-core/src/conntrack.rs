//! Conntrack's view of a connection, as read from `skb->_nfct`, from a trace message, or from ctnetlink.

use bitcode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::packet::Endpoint;

/// `enum ip_conntrack_dir`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Encode, Decode,
)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// As the first packet went.
    Original,
    /// The other way.
    Reply,
}

/// `enum ip_conntrack_info` without the direction, as rules see it (`ct state`).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Encode, Decode,
)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// `IP_CT_NEW`.
    New,
    /// `IP_CT_ESTABLISHED` in either direction.
    Established,
    /// `IP_CT_RELATED` in either direction.
    Related,
    /// `IP_CT_UNTRACKED`.
    Untracked,
    /// Conntrack saw the packet and attached nothing to it.
    Invalid,
}

/// One direction of a connection: `struct nf_conntrack_tuple`. For ICMP, the ports are as in the kernel's
/// union: source port = echo identifier, destination port = type and code.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Encode, Decode,
)]
pub struct Tuple {
    /// `IPPROTO_*`.
    pub protocol: u8,
    /// Source.
    pub source: Endpoint,
    /// Destination.
    pub destination: Endpoint,
}

/// `IPS_*` status bits (include/uapi/linux/netfilter/nf_conntrack_common.h, v7.3) with the names nft prints.
pub const STATUS_NAMES: [(u32, &str); 16] = [
    (1 << 0, "expected"),
    (1 << 1, "seen-reply"),
    (1 << 2, "assured"),
    (1 << 3, "confirmed"),
    (1 << 4, "snat"),
    (1 << 5, "dnat"),
    (1 << 6, "seq-adjust"),
    (1 << 7, "snat-done"),
    (1 << 8, "dnat-done"),
    (1 << 9, "dying"),
    (1 << 10, "fixed-timeout"),
    (1 << 11, "template"),
    (1 << 12, "nat-clash"),
    (1 << 13, "helper"),
    (1 << 14, "offload"),
    (1 << 15, "hw-offload"),
];

/// `IPS_CONFIRMED`: in the table, where others find it.
pub const IPS_CONFIRMED: u32 = 1 << 3;
/// `IPS_DYING`: removed from the table; what holds it goes by it still.
pub const IPS_DYING: u32 = 1 << 9;
/// `IPS_NAT_CLASH`: lost a clash, and is in the table for what answers to this packet alone.
pub const IPS_NAT_CLASH: u32 = 1 << 12;
/// `IPS_SRC_NAT`.
pub const IPS_SRC_NAT: u32 = 1 << 4;
/// `IPS_DST_NAT`.
pub const IPS_DST_NAT: u32 = 1 << 5;

/// The names of the bits set in `status`.
pub fn status_names(status: u32) -> impl Iterator<Item = &'static str> {
    STATUS_NAMES.iter().filter(move |(bit, _)| status & bit != 0).map(|(_, name)| *name)
}

/// What is known of the connection a packet belongs to. Fields a source does not give are `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct Connection {
    /// Identity of the `nf_conn` while it lives: its address, or 0 where only netlink told of it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub key: u64,
    /// `ct id`, as `conntrack -o id` prints it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    /// The direction of the packet that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    /// `ct state` of the packet that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// `IPS_*` bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u32>,
    /// `ct mark`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<u32>,
    /// Conntrack zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<u16>,
    /// The tuple of the original direction: how the first packet looked before any rewrite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<Tuple>,
    /// The tuple that replies have when they arrive: the original one inverted, with NAT applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<Tuple>,
}

impl Connection {
    /// Whether it is in conntrack's table, where the status is known.
    #[must_use]
    pub fn is_confirmed(&self) -> Option<bool> {
        self.status.map(|status| status & IPS_CONFIRMED != 0)
    }

    /// Whether it was in conntrack's table, and was removed from it.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        const REMOVED: u32 = IPS_CONFIRMED | IPS_DYING;
        self.status.is_some_and(|status| status & REMOVED == REMOVED)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}
