//! The causes, grouped by the place in the packet's way, in its order.

mod device;
mod forwarding;
mod header;
mod ipsec;
mod neighbour;
mod netfilter;
mod routing;
mod socket;
mod tcp;

use super::Cause;

/// Causes of one part of the way.
#[derive(Debug)]
pub(super) struct Group {
    /// Heading in docs/drops.md.
    pub(super) title: &'static str,
    pub(super) causes: &'static [Cause],
}

pub(super) const GROUPS: [Group; 9] = [
    Group { title: "Netfilter", causes: netfilter::CAUSES },
    Group { title: "Devices, tc and XDP", causes: device::CAUSES },
    Group { title: "Headers", causes: header::CAUSES },
    // Before routes: forwarding that is off gives them the error of an unreachable one.
    Group { title: "Forwarding", causes: forwarding::CAUSES },
    Group { title: "Routing and address checks", causes: routing::CAUSES },
    Group { title: "Neighbours", causes: neighbour::CAUSES },
    Group { title: "Sockets", causes: socket::CAUSES },
    Group { title: "TCP", causes: tcp::CAUSES },
    Group { title: "IPsec and security modules", causes: ipsec::CAUSES },
];
