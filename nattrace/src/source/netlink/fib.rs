//! Asking the routing tables which route a packet takes (`inet_rtm_getroute`, net/ipv4/route.c; `inet6_rtm_getroute`,
//! net/ipv6/route.c; v6.12).

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use nattrace_core::fib::{FibAnswer, FibRoute, Hop, RoutePrefix, RouteQuery};
use nattrace_core::packet::protocol;

use super::attribute::{AttributeWriter, Attributes};
use super::constants::{
    RTA_DPORT, RTA_DST, RTA_GATEWAY, RTA_IIF, RTA_IP_PROTO, RTA_MARK, RTA_MULTIPATH, RTA_OIF, RTA_PREFSRC,
    RTA_SPORT, RTA_SRC, RTA_TABLE, RTA_VIA,
};
use super::message::{Message, Messages, REQUEST, write};
use super::socket::{NetlinkSocket, OpenError, Received};

/// Bytes of `struct rtmsg`.
const RTMSG: usize = 12;
/// Bytes of `struct rtnexthop`.
const RTNEXTHOP: usize = 8;
/// `RTM_F_LOOKUP_TABLE | RTM_F_FIB_MATCH`: the route of the table, not what was made of it for the packet.
const MATCH: u32 = 0x1000 | 0x2000;
/// rtnetlink.h.
const RT_TABLE_MAIN: u32 = 254;
const RTN_UNICAST: u8 = 1;
/// The kernel has answered before the request's `send` returns.
const TIMEOUT: Duration = Duration::from_millis(200);

/// A socket to ask the tables of one namespace.
#[derive(Debug)]
pub struct FibSocket {
    socket: NetlinkSocket,
    sequence: u32,
}

impl FibSocket {
    /// Opens one in the current namespace of this thread.
    pub fn open() -> Result<Self, OpenError> {
        Ok(Self { socket: NetlinkSocket::open_route()?, sequence: 0 })
    }

    /// Asks which route a packet takes. Of what this host sends, the source may have been given or come from the route:
    /// it is asked for both ways.
    pub fn ask(&mut self, query: RouteQuery) -> io::Result<FibAnswer> {
        let mut routes: Vec<FibRoute> = self.look_up(&query, true)?.into_iter().collect();
        if query.iif.is_none()
            && let Some(route) = self.look_up(&query, false)?
            && !routes.contains(&route)
        {
            routes.push(route);
        }
        Ok(FibAnswer { query, routes })
    }

    fn look_up(&mut self, query: &RouteQuery, with_source: bool) -> io::Result<Option<FibRoute>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut request = Vec::new();
        let (fixed, attributes) = request_of(query, with_source);
        write(&mut request, libc::RTM_GETROUTE, REQUEST, self.sequence, &fixed, attributes.as_bytes());
        // No route, or one that refuses: nothing to tell.
        ask(&mut self.socket, &request, self.sequence, route)
    }
}

/// Asks for one thing, and reads the answer; `None` where there is no such thing, or no answer.
pub(super) fn ask<T>(
    socket: &mut NetlinkSocket,
    request: &[u8],
    sequence: u32,
    read: impl Fn(&Message<'_>) -> Option<T>,
) -> io::Result<Option<T>> {
    socket.send(request)?;
    // What answers an earlier question that was given up is passed over.
    while let Received::Item(datagram) = socket.receive_within(TIMEOUT)? {
        if let Some(message) = Messages::new(datagram).find(|message| message.sequence == sequence) {
            return Ok(if message.answer().is_some() { None } else { read(&message) });
        }
    }
    Ok(None)
}

pub(super) fn bytes_of(addr: IpAddr) -> Vec<u8> {
    match addr {
        IpAddr::V4(addr) => addr.octets().to_vec(),
        IpAddr::V6(addr) => addr.octets().to_vec(),
    }
}

fn request_of(query: &RouteQuery, with_source: bool) -> ([u8; RTMSG], AttributeWriter) {
    let (family, bits, tos) = match query.destination {
        IpAddr::V4(_) => (libc::AF_INET, 32, query.tos),
        // The kernel takes the traffic class from the flow label, which is not asked by.
        IpAddr::V6(_) => (libc::AF_INET6, 128, 0),
    };
    let mut fixed = [0; RTMSG];
    let source_bits = if with_source { bits } else { 0 };
    fixed[..4].copy_from_slice(&[u8::try_from(family).unwrap_or_default(), bits, source_bits, tos]);
    fixed[8..].copy_from_slice(&MATCH.to_ne_bytes());
    let mut attributes = AttributeWriter::new();
    attributes.bytes(RTA_DST, &bytes_of(query.destination));
    if with_source {
        attributes.bytes(RTA_SRC, &bytes_of(query.source));
    }
    if let Some(iif) = query.iif {
        attributes.bytes(RTA_IIF, &iif.to_ne_bytes());
    }
    if query.mark != 0 {
        attributes.bytes(RTA_MARK, &query.mark.to_ne_bytes());
    }
    // Others are refused (rtm_getroute_parse_ip_proto).
    if let Some(number) = query
        .protocol
        .filter(|number| matches!(*number, protocol::TCP | protocol::UDP | protocol::ICMP | protocol::ICMPV6))
    {
        attributes.bytes(RTA_IP_PROTO, &[number]);
        if protocol::has_ports(number) {
            for (kind, port) in [(RTA_SPORT, query.sport), (RTA_DPORT, query.dport)] {
                if let Some(port) = port {
                    attributes.bytes(kind, &port.to_be_bytes());
                }
            }
        }
    }
    (fixed, attributes)
}

fn addr(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        16 => Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        _ => None,
    }
}

/// Reads the answer to a request; `None` when it is no route.
#[must_use]
pub fn route(message: &Message<'_>) -> Option<FibRoute> {
    if message.kind != libc::RTM_NEWROUTE {
        return None;
    }
    let [family, length, _, _, table, _, _, kind, ..] = *message.payload.get(..RTMSG)? else { return None };
    let attributes = message.attributes_after(RTMSG);
    let of = |kind| attributes.find_kind(kind).and_then(|attribute| addr(attribute.value));
    let any = if i32::from(family) == libc::AF_INET { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
    let mut hops = Vec::new();
    if let Some(oif) = attributes.find_kind(RTA_OIF).and_then(|attribute| attribute.ne32()) {
        hops.push(Hop { oif, gateway: gateway(&attributes) });
    }
    let mut rest = attributes.find_kind(RTA_MULTIPATH).map_or(&[][..], |attribute| attribute.value);
    while let Some(hop) = rest.get(..RTNEXTHOP) {
        let length = usize::from(u16::from_ne_bytes([hop[0], hop[1]]));
        let Some(inside) = rest.get(RTNEXTHOP..length) else { break };
        let oif = u32::from_ne_bytes([hop[4], hop[5], hop[6], hop[7]]);
        hops.push(Hop { oif, gateway: gateway(&Attributes::new(inside)) });
        rest = rest.get(super::attribute::align(length)..).unwrap_or_default();
    }
    let table = attributes
        .find_kind(RTA_TABLE)
        .and_then(|attribute| attribute.ne32())
        .unwrap_or_else(|| u32::from(table));
    let merged = i32::from(family) == libc::AF_INET && table == RT_TABLE_MAIN && kind != RTN_UNICAST;
    Some(FibRoute {
        table: (!merged).then_some(table),
        kind,
        prefix: RoutePrefix { addr: of(RTA_DST).unwrap_or(any), length },
        source: of(RTA_PREFSRC),
        hops,
    })
}

/// `RTA_GATEWAY`, or `RTA_VIA` (family, address) where that is of another family.
fn gateway(attributes: &Attributes<'_>) -> Option<IpAddr> {
    attributes
        .find_kind(RTA_GATEWAY)
        .and_then(|attribute| addr(attribute.value))
        .or_else(|| addr(attributes.find_kind(RTA_VIA)?.value.get(2..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_this_host_and_a_martian_has_no_route() {
        let mut socket = FibSocket::open().expect("a socket");
        let here = IpAddr::from([127, 0, 0, 1]);
        let query = RouteQuery {
            source: here,
            destination: here,
            iif: None,
            mark: 0,
            tos: 0,
            protocol: Some(protocol::UDP),
            sport: Some(1),
            dport: Some(2),
        };
        let answer = socket.ask(query).expect("an answer");
        let [route] = answer.routes.as_slice() else { panic!("one route: {answer:?}") };
        // 255 where somebody made rules.
        assert!(matches!(route.table, None | Some(255)), "{route:?}");
        assert_eq!((route.kind, route.prefix.to_string().as_str()), (2, "127.0.0.1/32"));
        assert_eq!(route.hops, [Hop { oif: 1, gateway: None }]);
        let refused =
            socket.ask(RouteQuery { destination: IpAddr::from([0, 0, 0, 1]), iif: Some(1), ..query });
        assert_eq!(refused.expect("an answer").routes, [], "a martian");
    }
}
