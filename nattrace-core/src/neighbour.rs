//! Who has an address on a device: what the kernel's neighbour table says of the next hop of a packet that nobody answered.

use std::net::IpAddr;

use bitcode::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// An address on a device, to be looked up; answered by a [`NeighbourAnswer`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Encode, Decode)]
pub struct NeighbourQuery {
    /// Name of the device.
    pub device: String,
    /// The next hop.
    pub address: IpAddr,
}

/// Bytes of an Ethernet address.
const MAC: usize = 6;

/// An entry of the neighbour table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct Neighbour {
    /// `NUD_*` (include/uapi/linux/neighbour.h, v6.12).
    pub state: u16,
    /// Link-layer address; empty where the entry has none.
    pub lladdr: Vec<u8>,
}

/// What the table said (`RTM_GETNEIGH`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct NeighbourAnswer {
    /// What was asked.
    pub query: NeighbourQuery,
    /// The entry; `None` where there is none.
    pub neighbour: Option<Neighbour>,
}

impl Neighbour {
    /// The state as `ip neigh` prints it; of several bits the first.
    #[must_use]
    pub fn state_name(&self) -> Option<&'static str> {
        const NAMES: [(u16, &str); 8] = [
            (0x01, "INCOMPLETE"),
            (0x02, "REACHABLE"),
            (0x04, "STALE"),
            (0x08, "DELAY"),
            (0x10, "PROBE"),
            (0x20, "FAILED"),
            (0x40, "NOARP"),
            (0x80, "PERMANENT"),
        ];
        NAMES.iter().find(|(bit, _)| self.state & bit != 0).map(|(_, name)| *name)
    }

    /// In words, of the address that was asked for.
    pub(crate) fn words(&self, address: IpAddr) -> Option<String> {
        let state = self.state_name()?;
        let mac: Vec<String> = self.lladdr.iter().map(|byte| format!("{byte:02x}")).collect();
        Some(match state {
            "INCOMPLETE" | "FAILED" => format!("{address} does not resolve to a MAC address ({state})."),
            // A device without neighbours has its own address there (`arp_constructor`, net/ipv4/arp.c, v6.12).
            "NOARP" => return None,
            _ if mac.len() != MAC => return None,
            _ => format!("{address} resolves to {} ({state}).", mac.join(":")),
        })
    }

    /// Whether nothing says that nobody is there.
    pub(crate) fn is_there(&self) -> bool {
        !matches!(self.state_name(), Some("INCOMPLETE" | "FAILED"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_told_as_far_as_it_tells() {
        let words =
            |state, lladdr: &[u8]| Neighbour { state, lladdr: lladdr.into() }.words([10, 0, 0, 1].into());
        let mac = [0x52, 0xb3, 0, 1, 2, 0xff];
        assert_eq!(words(0x04, &mac).as_deref(), Some("10.0.0.1 resolves to 52:b3:00:01:02:ff (STALE)."));
        assert_eq!(words(0x20, &[]).as_deref(), Some("10.0.0.1 does not resolve to a MAC address (FAILED)."));
        assert_eq!(words(0x40, &mac), None, "it is the device's own");
        assert_eq!(words(0x80, &[10, 0, 0, 1]), None, "a tunnel's");
        assert_eq!(words(0, &mac), None);
    }
}
