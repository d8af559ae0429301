//! ctnetlink: connections and their events (net/netfilter/nf_conntrack_netlink.c).

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use nattrace_core::conntrack::{Connection, Tuple};
use nattrace_core::event::{ConntrackChange, ConntrackEvent};
use nattrace_core::packet::Endpoint;
use nattrace_core::ruleset::Listing;
use thiserror::Error;

use super::attribute::{AttributeWriter, Attributes};
use super::constants::{
    CTA_ID, CTA_IP_V4_DST, CTA_IP_V4_SRC, CTA_IP_V6_DST, CTA_IP_V6_SRC, CTA_MARK, CTA_PROTO_DST_PORT,
    CTA_PROTO_ICMP_CODE, CTA_PROTO_ICMP_ID, CTA_PROTO_ICMP_TYPE, CTA_PROTO_ICMPV6_CODE, CTA_PROTO_ICMPV6_ID,
    CTA_PROTO_ICMPV6_TYPE, CTA_PROTO_NUM, CTA_PROTO_SRC_PORT, CTA_STATUS, CTA_TUPLE_IP, CTA_TUPLE_ORIG,
    CTA_TUPLE_PROTO, CTA_TUPLE_REPLY, CTA_ZONE, IPCTNL_MSG_CT_DELETE, IPCTNL_MSG_CT_GET,
    IPCTNL_MSG_CT_GET_STATS, IPCTNL_MSG_CT_NEW, NFNL_SUBSYS_CTNETLINK, NFNLGRP_CONNTRACK_DESTROY,
    NFNLGRP_CONNTRACK_NEW, NFNLGRP_CONNTRACK_UPDATE,
};
use super::message::{CREATE, DUMP, MULTI, Message, Messages, netfilter_request};
use super::socket::{NetlinkSocket, OpenError, RECEIVE_BUFFER, Received};

/// The kernel writes each piece of a dump when the one before is taken.
const DUMP_TIMEOUT: Duration = Duration::from_secs(2);

/// Reads one message; `None` when it is no connection.
#[must_use]
pub fn parse(message: &Message<'_>) -> Option<ConntrackEvent> {
    let (NFNL_SUBSYS_CTNETLINK, kind) = message.netfilter()? else { return None };
    let change = match kind {
        IPCTNL_MSG_CT_DELETE => ConntrackChange::Destroy,
        IPCTNL_MSG_CT_NEW if message.flags & MULTI != 0 => ConntrackChange::Listed,
        // ctnetlink_conntrack_event sets NLM_F_CREATE | NLM_F_EXCL for what goes to the group of new ones.
        IPCTNL_MSG_CT_NEW if message.flags & CREATE != 0 => ConntrackChange::New,
        IPCTNL_MSG_CT_NEW => ConntrackChange::Update,
        _ => return None,
    };
    let mut connection = Connection::default();
    for attribute in message.attributes() {
        match attribute.kind {
            CTA_TUPLE_ORIG => connection.original = tuple(&attribute.nested()),
            CTA_TUPLE_REPLY => connection.reply = tuple(&attribute.nested()),
            CTA_STATUS => connection.status = attribute.be32(),
            CTA_MARK => connection.mark = attribute.be32(),
            CTA_ID => connection.id = attribute.be32(),
            CTA_ZONE => connection.zone = attribute.be16(),
            _ => {}
        }
    }
    // Without a tuple there is nothing that a packet could be tied to.
    connection.original.is_some().then_some(ConntrackEvent { change, connection })
}

fn tuple(attributes: &Attributes<'_>) -> Option<Tuple> {
    let (mut source, mut destination) = (None, None);
    for attribute in attributes.find_kind(CTA_TUPLE_IP)?.nested() {
        match attribute.kind {
            CTA_IP_V4_SRC | CTA_IP_V6_SRC => source = addr(attribute.value),
            CTA_IP_V4_DST | CTA_IP_V6_DST => destination = addr(attribute.value),
            _ => {}
        }
    }
    let (mut number, mut source_port, mut destination_port) = (None, None, None);
    let (mut kind, mut code) = (None, None);
    for attribute in attributes.find_kind(CTA_TUPLE_PROTO)?.nested() {
        match attribute.kind {
            CTA_PROTO_NUM => number = attribute.u8(),
            // The echo identifier is where others have the source port: nf_conntrack_tuple's union.
            CTA_PROTO_SRC_PORT | CTA_PROTO_ICMP_ID | CTA_PROTO_ICMPV6_ID => source_port = attribute.be16(),
            CTA_PROTO_DST_PORT => destination_port = attribute.be16(),
            CTA_PROTO_ICMP_TYPE | CTA_PROTO_ICMPV6_TYPE => kind = attribute.u8(),
            CTA_PROTO_ICMP_CODE | CTA_PROTO_ICMPV6_CODE => code = attribute.u8(),
            _ => {}
        }
    }
    // Type and code are where others have the destination port.
    if let (Some(kind), Some(code)) = (kind, code) {
        destination_port = Some(u16::from_be_bytes([kind, code]));
    }
    Some(Tuple {
        protocol: number?,
        source: Endpoint { addr: source?, port: source_port },
        destination: Endpoint { addr: destination?, port: destination_port },
    })
}

fn addr(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::from(v4));
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

/// Receives the connection events of one namespace (groups new, update and destroy). Opening it loads
/// conntrack, but switches it on nowhere: where nothing tracks connections, nothing comes.
#[derive(Debug)]
pub struct ConntrackSocket {
    socket: NetlinkSocket,
    /// Events of a datagram that held more than one.
    pending: VecDeque<ConntrackEvent>,
}

impl ConntrackSocket {
    /// Opens it in the current namespace.
    pub fn open() -> Result<Self, OpenError> {
        load()?;
        let socket = NetlinkSocket::open()?;
        socket.raise_receive_buffer(RECEIVE_BUFFER)?;
        for group in [NFNLGRP_CONNTRACK_NEW, NFNLGRP_CONNTRACK_UPDATE, NFNLGRP_CONNTRACK_DESTROY] {
            socket.join(group)?;
        }
        Ok(Self { socket, pending: VecDeque::new() })
    }

    /// The next event, without waiting.
    pub fn receive(&mut self) -> io::Result<Received<ConntrackEvent>> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Ok(Received::Item(event));
            }
            match self.socket.receive()? {
                Received::Item(datagram) => {
                    self.pending.extend(Messages::new(datagram).filter_map(|message| parse(&message)));
                }
                Received::Empty => return Ok(Received::Empty),
                Received::Lost => return Ok(Received::Lost),
            }
        }
    }
}

impl AsFd for ConntrackSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for ConntrackSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Has ctnetlink loaded, where it is a module, and waits for it.
///
/// Joining its groups loads it, too, but later (net/netfilter/nfnetlink.c `nfnetlink_bind`:
/// `request_module_nowait`), and connections made meanwhile would cause no events. A request loads it at once.
fn load() -> Result<(), OpenError> {
    let mut socket = NetlinkSocket::open()?;
    let nothing = AttributeWriter::new();
    socket.send(&netfilter_request(NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET_STATS, 0, 0, &nothing))?;
    // Numbers or a refusal: that it answered is enough.
    socket.receive_within(DUMP_TIMEOUT)?;
    Ok(())
}

/// Why connections could not be listed.
#[derive(Debug, Error)]
pub enum ListError {
    /// No socket.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The kernel has no ctnetlink.
    #[error("this kernel has no ctnetlink (CONFIG_NF_CT_NETLINK)")]
    NotSupported,
    /// Anything else.
    #[error("cannot list connections: {0}")]
    Io(#[from] io::Error),
}

/// Connections that exist already.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Existing {
    /// The connections, as [`ConntrackChange::Listed`].
    pub events: Vec<ConntrackEvent>,
    /// Whether that is all of them; false when the limit was reached.
    pub complete: bool,
}

/// The connections of the current namespace, at most about `limit` of them. A table can hold millions, so
/// the listing is left where the limit is reached, and never begun where there is nothing to list.
pub fn existing(limit: usize) -> Result<Existing, ListError> {
    let mut found = Existing { events: Vec::new(), complete: true };
    if tracked() == Some(0) {
        return Ok(found);
    }
    let mut socket = NetlinkSocket::open()?;
    let request =
        netfilter_request(NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET, DUMP, 0, &AttributeWriter::new());
    socket.send(&request)?;
    loop {
        match socket.receive_within(DUMP_TIMEOUT)? {
            Received::Item(datagram) => {
                for message in Messages::new(datagram) {
                    match message.answer().map(|answer| answer.errno) {
                        None => found.events.extend(parse(&message)),
                        Some(0) => return Ok(found),
                        Some(libc::EINVAL | libc::EOPNOTSUPP) => return Err(ListError::NotSupported),
                        Some(errno) => return Err(io::Error::from_raw_os_error(errno).into()),
                    }
                }
                if found.events.len() >= limit {
                    found.complete = false;
                    return Ok(found);
                }
            }
            Received::Lost => found.complete = false,
            Received::Empty => return Err(io::Error::from(io::ErrorKind::TimedOut).into()),
        }
    }
}

/// How many connections the current namespace tracks; `None` where conntrack is not even loaded.
///
/// From `net.netfilter.nf_conntrack_count`: asking ctnetlink would load it.
#[must_use]
pub fn tracked() -> Option<u64> {
    std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count").ok()?.trim().parse().ok()
}

/// Words in rules that make the kernel track connections: nft's, and those of iptables' own tools.
const TRACKING: [&str; 15] = [
    "ct",
    "masquerade",
    "snat",
    "dnat",
    "redirect",
    "synproxy",
    "flow",
    "MASQUERADE",
    "SNAT",
    "DNAT",
    "REDIRECT",
    "NETMAP",
    "conntrack",
    "state",
    "connmark",
];

/// Whether conntrack works in a namespace already: its ruleset asks for it, or there are connections.
///
/// `other_rules` are rules in the syntax of other tools (`iptables-save`); `tracked` is [`tracked`] there.
/// Only then may a `ct` expression be added without switching on what was off.
#[must_use]
pub fn in_use(listing: &Listing, other_rules: &str, tracked: Option<u64>) -> bool {
    if tracked.is_some_and(|count| count > 0) {
        return true;
    }
    let rules = listing.tables.iter().flat_map(|t| &t.chains).flat_map(|c| &c.rules);
    rules.into_iter().any(|rule| tracks(&rule.text) || rule.iptables.as_deref().is_some_and(tracks))
        || other_rules.lines().any(tracks)
}

/// Whether a rule has a word that stands for connection tracking, outside of quoted text.
fn tracks(rule: &str) -> bool {
    if rule.starts_with('#') {
        return false;
    }
    let unquoted = rule.split('"').step_by(2).collect::<Vec<_>>().join(" ");
    unquoted
        .split_whitespace()
        .any(|word| TRACKING.contains(&word) || word == "CONNMARK" || word == "CT" || word == "helper")
}

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use nattrace_core::conntrack::{IPS_DST_NAT, status_names};
    use nattrace_core::event::NfFamily;
    use nattrace_core::ruleset::{Chain, Rule, Table};

    use super::*;
    use crate::source::netlink::fixtures::{datagrams, mutilate};

    /// Linux 6.18: echo over IPv4 and IPv6, a TCP connection that is translated, and all of it deleted.
    const EVENTS: &str = include_str!("fixtures/conntrack-6.18.hex");

    fn events() -> Vec<ConntrackEvent> {
        let datagrams = datagrams(EVENTS, "event");
        datagrams.iter().flat_map(|d| Messages::new(d)).filter_map(|message| parse(&message)).collect()
    }

    fn of(id: u32) -> Vec<ConntrackEvent> {
        events().into_iter().filter(|event| event.connection.id == Some(id)).collect()
    }

    #[test]
    fn a_translated_connection_has_two_different_tuples() {
        // conntrack printed: src=127.0.0.1 dst=127.0.0.9 sport=45622 dport=1222
        //                    src=127.0.0.1 dst=127.0.0.1 sport=2222 dport=45622 … id=3331192620
        let events = of(3_331_192_620);
        let changes: Vec<_> = events.iter().map(|event| event.change).collect();
        assert_eq!(changes.first(), Some(&ConntrackChange::New));
        assert_eq!(changes.last(), Some(&ConntrackChange::Destroy));
        let connection = &events[0].connection;
        let shown = |tuple: Option<Tuple>| {
            let tuple = tuple.expect("a tuple");
            format!("{} {} {}", tuple.protocol, tuple.source, tuple.destination)
        };
        assert_eq!(shown(connection.original), "6 127.0.0.1:45622 127.0.0.9:1222");
        assert_eq!(shown(connection.reply), "6 127.0.0.1:2222 127.0.0.1:45622");
        let status = connection.status.expect("a status");
        assert_ne!(status & IPS_DST_NAT, 0, "{:?}", status_names(status).collect::<Vec<_>>());
        assert_eq!((connection.key, connection.direction, connection.state), (0, None, None));
    }

    #[test]
    fn echo_has_ports_as_in_the_kernels_union() {
        for (id, echo, kinds) in [(534_894_564, 2844, (8, 0)), (1_013_637_832, 3076, (128, 129))] {
            let connection = &of(id)[0].connection;
            let (original, reply) =
                (connection.original.expect("a tuple"), connection.reply.expect("a tuple"));
            assert_eq!((original.source.port, original.destination.port), (Some(echo), Some(kinds.0 << 8)));
            assert_eq!((reply.source.port, reply.destination.port), (Some(echo), Some(kinds.1 << 8)));
        }
    }

    #[test]
    fn anything_at_all_is_survived() {
        mutilate(&datagrams(EVENTS, "event"), |bytes| {
            for message in Messages::new(bytes) {
                let _ = parse(&message);
            }
        });
    }

    #[test]
    fn rules_that_track_are_told_from_rules_that_only_sound_so() {
        let listing = |text: &str| Listing {
            generation: None,
            tables: vec![Table {
                family: NfFamily::Inet,
                name: "t".to_owned(),
                handle: 1,
                chains: vec![Chain {
                    name: "c".to_owned(),
                    handle: 1,
                    base: None,
                    rules: vec![Rule::new(2, text.to_owned())],
                }],
            }],
        };
        for text in [
            "ct state established,related accept",
            "meta mark set ct mark",
            "oifname \"eth0\" masquerade",
            "tcp dport 1222 dnat ip to 192.168.70.10:22",
            "tcp dport 22 xt match conntrack counter accept",
            "flow add @f",
        ] {
            assert!(in_use(&listing(text), "", None), "{text}");
        }
        for text in ["tcp dport 22 accept", "accept comment \"ct state masquerade\"", "log prefix \" ct \""] {
            assert!(!in_use(&listing(text), "", Some(0)), "{text}");
        }
        let none = Listing::default();
        assert!(in_use(&none, "", Some(1)));
        assert!(in_use(&none, "*filter\n-A INPUT -m conntrack --ctstate NEW -j ACCEPT\n", None));
        assert!(!in_use(&none, "# DNAT\n*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -j ACCEPT\n", None));
    }
}
