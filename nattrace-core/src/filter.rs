//! Which packets the user asked for. The same value drives the kernel's filter, the trace table and replay.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::packet::{Packet, protocol};

/// An address prefix. Host bits beyond the length are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prefix {
    /// The address.
    pub addr: IpAddr,
    /// How many leading bits count: at most 32 or 128.
    pub len: u8,
}

impl Prefix {
    /// Whether `addr` lies in the prefix. Families never match each other.
    #[must_use]
    pub fn contains(&self, addr: IpAddr) -> bool {
        match (self.addr, addr) {
            (IpAddr::V4(net), IpAddr::V4(addr)) => {
                let shift = 32 - u32::from(self.len.min(32));
                (u64::from(u32::from(net)) >> shift) == (u64::from(u32::from(addr)) >> shift)
            }
            (IpAddr::V6(net), IpAddr::V6(addr)) => {
                let (net, addr) = (u128::from(net), u128::from(addr));
                match 128 - u32::from(self.len.min(128)) {
                    128 => true,
                    shift => net >> shift == addr >> shift,
                }
            }
            _ => false,
        }
    }
}

/// An inclusive range of ports, host byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRange {
    /// First port.
    pub first: u16,
    /// Last port.
    pub last: u16,
}

impl PortRange {
    /// Whether `port` lies in the range.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

/// A value with a mask: `--mark V/MASK`, `--tcp-flags`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Masked {
    /// What the masked bits must be.
    pub value: u32,
    /// Which bits count.
    pub mask: u32,
}

impl Masked {
    /// Whether the masked bits of `actual` are as asked.
    #[must_use]
    pub fn matches(&self, actual: u32) -> bool {
        actual & self.mask == self.value & self.mask
    }
}

/// The filter as the user gave it. Empty lists select everything; lists of one kind are alternatives, kinds
/// must all hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Filter {
    /// `--proto`: layer 4 protocol numbers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub protocols: Vec<u8>,
    /// `--saddr`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub saddr: Vec<Prefix>,
    /// `--daddr`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub daddr: Vec<Prefix>,
    /// `--addr`: either end.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addr: Vec<Prefix>,
    /// `--sport`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sport: Vec<PortRange>,
    /// `--dport`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dport: Vec<PortRange>,
    /// `--port`: either end.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub port: Vec<PortRange>,
    /// `--iif`: names of the device the packet came in by.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub iif: Vec<String>,
    /// `--oif`: names of the device the packet goes out by; known only after routing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub oif: Vec<String>,
    /// `--mark`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<Masked>,
    /// `--tcp-flags`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_flags: Option<Masked>,
}

impl Filter {
    /// Whether any port is asked for: then only protocols with ports can match.
    #[must_use]
    pub fn wants_ports(&self) -> bool {
        !(self.sport.is_empty() && self.dport.is_empty() && self.port.is_empty())
    }

    /// Whether it asks for what the packets of a connection share.
    #[must_use]
    pub fn is_by_ends(&self) -> bool {
        let lists = [&self.saddr, &self.daddr, &self.addr];
        !self.protocols.is_empty() || lists.iter().any(|list| !list.is_empty()) || self.wants_ports()
    }

    /// Whether a packet is not what it asks for, but the answer to such a packet, where no address is translated.
    #[must_use]
    pub fn is_answered_by(&self, packet: &Packet) -> bool {
        let asked = Packet { source: packet.destination, destination: packet.source, ..packet.clone() };
        self.is_by_ends() && !self.matches(packet) && self.matches(&asked)
    }

    /// Whether it asks for what only packets of IP have.
    #[must_use]
    pub fn is_by_ip(&self) -> bool {
        self.is_by_ends() || self.tcp_flags.is_some()
    }

    /// Whether it asks for what packets of one connection do not share: mark, flags, device.
    #[must_use]
    pub fn is_by_packet(&self) -> bool {
        !self.marks.is_empty() || self.tcp_flags.is_some() || !self.iif.is_empty()
    }

    /// The protocols that can match at all: empty for "any".
    #[must_use]
    pub fn possible_protocols(&self) -> Vec<u8> {
        let with_ports = [protocol::TCP, protocol::UDP, protocol::SCTP];
        let mut possible = self.protocols.clone();
        if self.wants_ports() {
            if possible.is_empty() {
                possible.extend(with_ports);
            } else {
                possible.retain(|p| with_ports.contains(p));
            }
        }
        if self.tcp_flags.is_some() {
            if possible.is_empty() {
                possible.push(protocol::TCP);
            } else {
                possible.retain(|p| *p == protocol::TCP);
            }
        }
        possible
    }

    /// Whether the headers match; devices are judged apart, where they are known ([`Self::iif`], [`Self::oif`]).
    #[must_use]
    pub fn matches(&self, packet: &Packet) -> bool {
        let any = |list: &[Prefix], addr: Option<IpAddr>| {
            list.is_empty() || addr.is_some_and(|a| list.iter().any(|p| p.contains(a)))
        };
        let any_port = |list: &[PortRange], port: Option<u16>| {
            list.is_empty() || port.is_some_and(|p| list.iter().any(|r| r.contains(p)))
        };
        let (saddr, daddr) = (packet.source.map(|e| e.addr), packet.destination.map(|e| e.addr));
        let ports_exist = packet.protocol.is_some_and(protocol::has_ports);
        let sport = packet.source.and_then(|e| e.port).filter(|_| ports_exist);
        let dport = packet.destination.and_then(|e| e.port).filter(|_| ports_exist);
        (self.protocols.is_empty() || packet.protocol.is_some_and(|p| self.protocols.contains(&p)))
            && any(&self.saddr, saddr)
            && any(&self.daddr, daddr)
            && (any(&self.addr, saddr) || any(&self.addr, daddr))
            && any_port(&self.sport, sport)
            && any_port(&self.dport, dport)
            && (any_port(&self.port, sport) || any_port(&self.port, dport))
            && (self.marks.is_empty() || self.marks.iter().any(|m| m.matches(packet.mark)))
            && self
                .tcp_flags
                .is_none_or(|f| packet.tcp_flags.is_some_and(|flags| f.matches(u32::from(flags))))
    }
}
