//! What is known of a drop.

use std::net::IpAddr;

use crate::event::HookPoint;
use crate::packet::{Endpoint, Packet, protocol};

/// `errno` values of routes (include/uapi/asm-generic/errno.h).
pub(crate) const EACCES: i32 = 13;
pub(crate) const EINVAL: i32 = 22;
pub(crate) const ENETUNREACH: i32 = 101;
pub(crate) const EHOSTUNREACH: i32 = 113;

/// One drop, as far as it is known.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// The kernel's reason, without `SKB_DROP_REASON_`; `None` before 5.17.
    pub reason: Option<&'a str>,
    /// The function that freed the packet.
    pub function: Option<&'a str>,
    /// The packet when it was dropped.
    pub packet: &'a Packet,
    /// The hook within which it happened.
    pub hook: Option<HookPoint>,
    /// Error of the route that was attached (`dst_entry.error`): an errno, positive.
    pub route_error: Option<i32>,
    /// The device that the packet was at, by name.
    pub device: Option<&'a str>,
}

/// Something that must be so for a sign to fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fact {
    /// The attached route has this error.
    RouteError(i32),
    /// The protocol is this.
    Protocol(u8),
    /// The source address cannot be one: multicast, broadcast, of network 0, or a loopback address.
    ImpossibleSource,
    /// The destination is a loopback address or one of network 0.
    ImpossibleDestination,
    /// TTL or hop limit does not allow another hop.
    LastHop,
}

impl Fact {
    pub(super) fn holds(self, drop: &Evidence<'_>) -> bool {
        let packet = drop.packet;
        match self {
            Self::RouteError(errno) => drop.route_error == Some(errno),
            Self::Protocol(number) => packet.protocol == Some(number),
            Self::ImpossibleSource => packet.source.is_some_and(|end| match end.addr {
                IpAddr::V4(addr) => {
                    addr.is_multicast() || addr.is_broadcast() || addr.is_loopback() || addr.octets()[0] == 0
                }
                IpAddr::V6(addr) => addr.is_multicast() || addr.is_loopback(),
            }),
            Self::ImpossibleDestination => packet.destination.is_some_and(|end| match end.addr {
                IpAddr::V4(addr) => addr.is_loopback() || addr.octets()[0] == 0,
                IpAddr::V6(addr) => addr.is_loopback() || addr.is_unspecified(),
            }),
            Self::LastHop => packet.ttl.is_some_and(|ttl| ttl <= 1),
        }
    }

    /// For docs/drops.md.
    pub(super) fn words(self) -> String {
        match self {
            Self::RouteError(EACCES) => "route error EACCES".to_owned(),
            Self::RouteError(EINVAL) => "route error EINVAL".to_owned(),
            Self::RouteError(ENETUNREACH) => "route error ENETUNREACH".to_owned(),
            Self::RouteError(EHOSTUNREACH) => "route error EHOSTUNREACH".to_owned(),
            Self::RouteError(errno) => format!("route error {errno}"),
            Self::Protocol(number) => protocol::name(number).unwrap_or("another protocol").to_owned(),
            Self::ImpossibleSource => "by its source address".to_owned(),
            Self::ImpossibleDestination => "by its destination address".to_owned(),
            Self::LastHop => "TTL 1".to_owned(),
        }
    }
}

impl Evidence<'_> {
    /// The function's name without what compilers append (`.isra.0`, `.constprop.0`) and without `+0x12`.
    pub(super) fn plain_function(&self) -> Option<&str> {
        self.function.map(super::ends::plain)
    }

    /// Whether the kernel's reason says more than where it happened.
    pub(super) fn is_explained(&self) -> bool {
        !matches!(self.reason, None | Some("NOT_SPECIFIED" | "NETFILTER_DROP"))
    }

    /// Puts the packet's own names in the place of `DESTINATION`, `SOURCE`, `DEVICE` and `PORT`; what is not known stays.
    pub(super) fn fill(&self, text: &str) -> String {
        let addr = |end: Option<Endpoint>| end.map(|end| end.addr.to_string());
        let port = self.packet.destination.and_then(|end| end.port).map(|port| port.to_string());
        let names = [
            ("DESTINATION", addr(self.packet.destination)),
            ("SOURCE", addr(self.packet.source)),
            ("DEVICE", self.device.map(str::to_owned)),
            ("PORT", port),
        ];
        let mut filled = text.to_owned();
        for (name, value) in names {
            if let Some(value) = value {
                filled = filled.replace(name, &value);
            }
        }
        filled
    }
}
