//! What is known of a drop.

use std::net::IpAddr;

use crate::event::{Attached, Circumstances, FrameTo, HookPoint};
use crate::packet::{Endpoint, Family, Packet, protocol};

/// `errno` values of routes (include/uapi/asm-generic/errno.h).
pub(crate) const EACCES: i32 = 13;
pub(crate) const EINVAL: i32 = 22;
pub(crate) const ENETUNREACH: i32 = 101;
pub(crate) const EHOSTUNREACH: i32 = 113;

/// One drop, as far as it is known.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each of them true or not")]
pub struct Evidence<'a> {
    /// The kernel's reason, without `SKB_DROP_REASON_`; `None` before 5.17.
    pub reason: Option<&'a str>,
    /// The function that freed the packet.
    pub function: Option<&'a str>,
    /// The packet when it was dropped.
    pub packet: &'a Packet,
    /// The hook within which it happened.
    pub hook: Option<HookPoint>,
    /// A route was attached: whatever is refused before routing had passed.
    pub routed: bool,
    /// Whether the tables have a route to its source, by whatever device, where they were asked.
    pub way_back: Option<bool>,
    /// Error of the route that was attached (`dst_entry.error`): an errno, positive.
    pub route_error: Option<i32>,
    /// What else held.
    pub circumstances: Circumstances,
    /// It was at the device that its route leads to.
    pub leaving: bool,
    /// No more connections may wait for the socket that it was for.
    pub queue_full: bool,
    /// This host sends it, and within OUTPUT what it is routed by had changed: its mark or an address.
    pub rerouted: bool,
    /// Whom its route hands it to.
    pub next_hop: Option<IpAddr>,
    /// Since it was seen before: nanoseconds.
    pub waited_ns: Option<u64>,
    /// The device that the packet was at, by name.
    pub device: Option<&'a str>,
}

/// Something that must be so for a sign to fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fact {
    /// The attached route has this error.
    RouteError(i32),
    /// The attached route has the error EHOSTUNREACH, and not because forwarding is off.
    UnreachableRoute,
    /// The protocol is this.
    Protocol(u8),
    /// The source address cannot be one: multicast, broadcast, or of network 0.
    ImpossibleSource,
    /// The source is a loopback address.
    LoopbackSource,
    /// The destination is a loopback address or one of network 0.
    ImpossibleDestination,
    /// TTL or hop limit does not allow another hop.
    LastHop,
    /// It is IPv4 or IPv6.
    Ip,
    /// The kernel gives no reasons.
    NoReasons,
    /// It was at the device that its route leads to.
    Leaving,
    /// That device has no carrier.
    NoCarrier,
    /// Packets of its family are not forwarded.
    ForwardingOff,
    /// It is longer than the MTU of the way out.
    OverMtu,
    /// The frame was for another host.
    FrameForAnother,
    /// The frame was for all or for a group.
    FrameForMany,
    /// A route was attached.
    Routed,
    /// That, and the frame was for all or for a group.
    RoutedFrameForMany,
    /// The checksum of its IPv4 header is wrong.
    WrongHeaderChecksum,
    /// No more connections may wait for the socket that it was for.
    QueueFull,
    /// The destination is a multicast address.
    ToGroup,
    /// It was for this host and no other.
    ForOne,
    /// It was for all or for a group.
    ForMany,
    /// This host sends it, and within OUTPUT its mark or an address had changed.
    Rerouted,
    /// Conntrack had just found its table full.
    TableFull,
    /// In a hook where conntrack takes packets in, and it has not taken this one.
    NotTaken,
    /// In a hook where connections are confirmed, and its own is not; no NAT for it.
    NotConfirmed,
    /// As that, and its connection has NAT.
    NotConfirmedNat,
}

/// `enum ip_conntrack_status` (include/uapi/linux/netfilter/nf_conntrack_common.h).
const IPS_CONFIRMED: u32 = 1 << 3;
const IPS_NAT_MASK: u32 = 1 << 4 | 1 << 5;

impl Fact {
    pub(super) fn holds(self, drop: &Evidence<'_>) -> bool {
        let packet = drop.packet;
        match self {
            Self::RouteError(errno) => drop.route_error == Some(errno),
            Self::UnreachableRoute => {
                drop.route_error == Some(EHOSTUNREACH) && drop.circumstances.forwarding == Some(true)
            }
            Self::Protocol(number) => packet.protocol == Some(number),
            Self::ImpossibleSource => packet.source.is_some_and(|end| match end.addr {
                IpAddr::V4(addr) => addr.is_multicast() || addr.is_broadcast() || addr.octets()[0] == 0,
                IpAddr::V6(addr) => addr.is_multicast(),
            }),
            Self::LoopbackSource => packet.source.is_some_and(|end| end.addr.is_loopback()),
            Self::ImpossibleDestination => packet.destination.is_some_and(|end| match end.addr {
                IpAddr::V4(addr) => addr.is_loopback() || addr.octets()[0] == 0,
                IpAddr::V6(addr) => addr.is_loopback() || addr.is_unspecified(),
            }),
            Self::LastHop => packet.ttl.is_some_and(|ttl| ttl <= 1),
            Self::Ip => matches!(packet.family, Family::Ipv4 | Family::Ipv6),
            Self::NoReasons => drop.reason.is_none(),
            Self::Leaving => drop.leaving,
            Self::NoCarrier => drop.leaving && drop.circumstances.carrier == Some(false),
            Self::ForwardingOff => drop.circumstances.forwarding == Some(false),
            Self::OverMtu => drop.circumstances.mtu.is_some_and(|mtu| packet.length > mtu),
            Self::FrameForAnother => drop.circumstances.frame == Some(FrameTo::Other),
            Self::WrongHeaderChecksum => drop.circumstances.header_checksum == Some(false),
            Self::QueueFull => drop.queue_full,
            Self::ForOne => drop.circumstances.frame == Some(FrameTo::Host) && !is_for_many(packet),
            Self::ForMany => {
                is_for_many(packet)
                    || matches!(drop.circumstances.frame, Some(FrameTo::Broadcast | FrameTo::Multicast))
            }
            Self::Rerouted => drop.rerouted,
            Self::ToGroup => packet.destination.is_some_and(|end| end.addr.is_multicast()),
            Self::TableFull => drop.circumstances.table_full && drop.is_not_taken(),
            Self::NotTaken => drop.is_not_taken(),
            Self::NotConfirmed => drop.is_unconfirmed(false),
            Self::NotConfirmedNat => drop.is_unconfirmed(true),
            Self::FrameForMany => drop.is_for_many(),
            Self::Routed => drop.routed,
            Self::RoutedFrameForMany => drop.routed && drop.is_for_many(),
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
            Self::UnreachableRoute => "route error EHOSTUNREACH, forwarding on".to_owned(),
            Self::Protocol(number) => protocol::name(number).unwrap_or("another protocol").to_owned(),
            Self::ImpossibleSource => "by its source address".to_owned(),
            Self::LoopbackSource => "from a loopback address".to_owned(),
            Self::ImpossibleDestination => "by its destination address".to_owned(),
            Self::LastHop => "TTL 1".to_owned(),
            Self::Ip => "IPv4 or IPv6".to_owned(),
            Self::NoReasons => "where there are no reasons".to_owned(),
            Self::Leaving => "at the device of the way out".to_owned(),
            Self::NoCarrier => "the device of the way out without carrier".to_owned(),
            Self::ForwardingOff => "forwarding off".to_owned(),
            Self::OverMtu => "longer than the MTU".to_owned(),
            Self::FrameForAnother => "in a frame for another host".to_owned(),
            Self::WrongHeaderChecksum => "the IPv4 header's checksum wrong".to_owned(),
            Self::QueueFull => "the listening socket's queue full".to_owned(),
            Self::ToGroup => "to a multicast address".to_owned(),
            Self::ForOne => "for this host alone".to_owned(),
            Self::ForMany => "for all or a group".to_owned(),
            Self::Rerouted => "mark or address changed in output".to_owned(),
            Self::TableFull => "conntrack's table full".to_owned(),
            Self::NotTaken => "without an entry, in prerouting or output".to_owned(),
            Self::NotConfirmed => "entry not confirmed, in input or postrouting".to_owned(),
            Self::NotConfirmedNat => "entry with NAT not confirmed, in input or postrouting".to_owned(),
            Self::FrameForMany => "in a frame for all or a group".to_owned(),
            Self::Routed => "routed already".to_owned(),
            Self::RoutedFrameForMany => "routed already, in a frame for all or a group".to_owned(),
        }
    }
}

#[cfg(test)]
impl<'a> Evidence<'a> {
    /// Of a packet of whose drop nothing else is known.
    pub(super) fn of(packet: &'a Packet) -> Self {
        Self {
            reason: None,
            function: None,
            packet,
            hook: None,
            routed: false,
            way_back: None,
            route_error: None,
            circumstances: Circumstances::default(),
            leaving: false,
            queue_full: false,
            rerouted: false,
            next_hop: None,
            waited_ns: None,
            device: None,
        }
    }
}

/// Whether its address says that it is for a group or for all; a subnet's own broadcast address does not.
fn is_for_many(packet: &Packet) -> bool {
    packet.destination.is_some_and(|end| match end.addr {
        IpAddr::V4(addr) => addr.is_multicast() || addr.is_broadcast(),
        IpAddr::V6(addr) => addr.is_multicast(),
    })
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

    fn is_for_many(&self) -> bool {
        matches!(self.circumstances.frame, Some(FrameTo::Broadcast | FrameTo::Multicast))
    }

    fn is_not_taken(&self) -> bool {
        matches!(self.hook, Some(HookPoint::Prerouting | HookPoint::Output))
            && !self.rerouted
            && self.circumstances.conntrack == Some(Attached::Nothing)
    }

    fn is_unconfirmed(&self, nat: bool) -> bool {
        matches!(self.hook, Some(HookPoint::Input | HookPoint::Postrouting))
            && matches!(self.circumstances.conntrack, Some(Attached::Entry(status))
                if status & IPS_CONFIRMED == 0 && (status & IPS_NAT_MASK != 0) == nat)
    }

    /// Puts what is known in the place of `DESTINATION`, `SOURCE`, `DEVICE`, `PORT`, `NEXTHOP`, `MARK` and `WAITED`; what is not
    /// known of the first four stays.
    pub(super) fn fill(&self, text: &str) -> String {
        let addr = |end: Option<Endpoint>| end.map(|end| end.addr.to_string());
        let port = || self.packet.destination?.port.map(|port| port.to_string());
        let next_hop = || self.next_hop.map_or_else(|| "the next hop".to_owned(), |addr| addr.to_string());
        let waited = || self.waited_ns.map_or_else(|| "some time".to_owned(), waited);
        let names: [(&str, &dyn Fn() -> Option<String>); 7] = [
            ("DESTINATION", &|| addr(self.packet.destination)),
            ("SOURCE", &|| addr(self.packet.source)),
            ("DEVICE", &|| self.device.map(str::to_owned)),
            ("PORT", &port),
            ("NEXTHOP", &|| Some(next_hop())),
            ("MARK", &|| Some(format!("{:#x}", self.packet.mark))),
            ("WAITED", &|| Some(waited())),
        ];
        let mut filled = text.to_owned();
        for (name, value) in names {
            // Most texts have none of them.
            if filled.contains(name)
                && let Some(value) = value()
            {
                filled = filled.replace(name, &value);
            }
        }
        filled
    }
}

/// `3.0 s`, `12 ms`.
fn waited(ns: u64) -> String {
    let ms = ns / 1_000_000;
    if ms < 1000 { format!("{ms} ms") } else { format!("{}.{} s", ms / 1000, ms % 1000 / 100) }
}
