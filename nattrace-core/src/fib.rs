//! Which route a packet took, as the kernel's routing tables answer when they are asked for a packet like it.
//!
//! The route that a buffer carries does not tell the table or the prefix it comes from. So the assembler says what it
//! wants to know ([`RouteQuery`]), whoever has a kernel at hand asks, and the answer is an event like any other.

use std::net::IpAddr;

use bitcode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::packet::Packet;

/// What a routing decision depends on (`struct flowi4`, `struct flowi6`; include/net/flow.h, v6.12).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Encode, Decode)]
pub struct RouteQuery {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// `ifindex` of the device it came in by; `None` for what this host sends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iif: Option<u32>,
    /// `skb->mark`.
    #[serde(default)]
    pub mark: u32,
    /// Type of service or traffic class, without ECN.
    #[serde(default)]
    pub tos: u8,
    /// `IPPROTO_*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<u8>,
    /// Source port, host byte order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sport: Option<u16>,
    /// Destination port, host byte order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dport: Option<u16>,
}

/// A route that a table gave (`RTM_NEWROUTE` with `RTM_F_FIB_MATCH`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct FibRoute {
    /// `RTA_TABLE`; `None` of an IPv4 route to this host where it may be of `local` or of `main`: while nobody has made
    /// rules, the kernel looks both up as one and calls it `main` (`fib_unmerge`, net/ipv4/fib_frontend.c, v6.12).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// `rtm_type`: `RTN_*`.
    pub kind: u8,
    /// The prefix that matched.
    pub prefix: RoutePrefix,
    /// `RTA_PREFSRC`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// Where it leads; several of a multipath route.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hops: Vec<Hop>,
}

/// A destination prefix of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Hash, Encode, Decode)]
pub struct RoutePrefix {
    /// Address.
    pub addr: IpAddr,
    /// Bits of it that count.
    pub length: u8,
}

impl std::fmt::Display for RoutePrefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.length == 0 { f.write_str("default") } else { write!(f, "{}/{}", self.addr, self.length) }
    }
}

/// A next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct Hop {
    /// `ifindex`.
    pub oif: u32,
    /// Gateway, when it is not the destination itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
}

/// What the tables answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct FibAnswer {
    /// What was asked.
    pub query: RouteQuery,
    /// The routes: of what this host sends up to two, as the source address may have been chosen before or after.
    #[serde(default)]
    pub routes: Vec<FibRoute>,
}

impl FibRoute {
    /// Whether it leads to another host (`RTN_UNICAST`).
    #[must_use]
    pub fn is_unicast(&self) -> bool {
        self.kind == 1
    }
}

impl RouteQuery {
    /// For the way to the source of a packet that came in: as the reverse path filter looks for it, where marks are not
    /// valid the other way (`src_valid_mark`), by whatever device.
    #[must_use]
    pub fn back(packet: &Packet) -> Option<Self> {
        let (source, destination) = (packet.source?, packet.destination?);
        Some(Self {
            source: destination.addr,
            destination: source.addr,
            iif: None,
            mark: 0,
            tos: packet.tos & !3,
            protocol: None,
            sport: None,
            dport: None,
        })
    }

    /// For a packet that is routed now; `None` for what has no addresses.
    #[must_use]
    pub fn of(packet: &Packet, iif: Option<u32>) -> Option<Self> {
        let (source, destination) = (packet.source?, packet.destination?);
        Some(Self {
            source: source.addr,
            destination: destination.addr,
            iif,
            mark: packet.mark,
            tos: packet.tos & !3,
            protocol: packet.protocol,
            sport: source.port,
            dport: destination.port,
        })
    }
}
