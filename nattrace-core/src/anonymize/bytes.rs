//! Headers as they were sent.

use std::net::IpAddr;

use super::{Anonymizer, mac};
use crate::event::TraceMessage;
use crate::packet::{Headers, IPV6, Packet, decode, decode_arp};

/// An Ethernet header, and one with a VLAN tag (IEEE 802.1Q).
const ETHERNET: [usize; 2] = [14, 18];
/// `ARPHRD_ETHER` and `ARPHRD_LOOPBACK` (include/uapi/linux/if_arp.h, v6.12).
const WITH_MAC: [u16; 2] = [1, 772];
/// Behind it, options may hold addresses (RFC 791: routes and their records).
const IPV4: usize = 20;
/// An option that says nothing (RFC 791 §3.1).
const NO_OPERATION: u8 = 1;

impl Anonymizer {
    /// Addresses, with the checksums that follow; what is no header is removed, and so is what is not understood.
    pub(super) fn bytes(&mut self, message: &mut TraceMessage) {
        self.link(message);
        if decode_arp(&message.network_header).is_some() {
            message.network_header.truncate(28);
            self.arp(&mut message.network_header);
            message.transport_header.clear();
            return;
        }
        let Some(mut new) = self.network(message) else {
            if !self.before_extensions(&mut message.network_header) {
                message.network_header.clear();
            }
            message.transport_header.clear();
            return;
        };
        message.transport_header = new.split_off(message.network_header.len().min(new.len()));
        message.network_header = new;
    }

    /// The headers with other addresses, without a gap.
    fn network(&mut self, message: &mut TraceMessage) -> Option<Vec<u8>> {
        if message.network_header.first()? >> 4 == 4 {
            without_options(&mut message.network_header)?;
        }
        let headers = Headers::of(message)?;
        let mut packet: Packet = decode(&headers.network, 0).ok()?;
        self.packet(&mut packet);
        headers.at_moment_of(&packet)
    }

    /// IPv6's header where what follows it was left out, so that nobody knows what the transport header is of. Whether it
    /// was one.
    fn before_extensions(&mut self, header: &mut Vec<u8>) -> bool {
        if header.len() < IPV6 || header.first().is_none_or(|first| first >> 4 != 6) {
            return false;
        }
        header.truncate(IPV6);
        for at in [8, 24] {
            let Some(octets) = header.get(at..).and_then(|rest| rest.first_chunk::<16>()) else {
                return false;
            };
            let mut addr = IpAddr::from(*octets);
            self.addr(&mut addr);
            let (IpAddr::V6(addr), Some(place)) = (addr, header.get_mut(at..at + 16)) else { return false };
            place.copy_from_slice(&addr.octets());
        }
        true
    }

    fn link(&mut self, message: &mut TraceMessage) {
        let types = [message.iif_type, message.oif_type];
        let is_ethernet = types.into_iter().flatten().all(|kind| WITH_MAC.contains(&kind));
        if !is_ethernet || !ETHERNET.contains(&message.link_header.len()) {
            message.link_header.clear();
            return;
        }
        self.macs(&mut message.link_header, &[0, 6]);
    }

    /// RFC 826, of IPv4 over Ethernet.
    fn arp(&mut self, bytes: &mut [u8]) {
        self.macs(bytes, &[8, 18]);
        for at in [14, 24] {
            let Some(place) = bytes.get_mut(at..at + 4) else { continue };
            let mut addr = IpAddr::from([place[0], place[1], place[2], place[3]]);
            self.addr(&mut addr);
            if let IpAddr::V4(addr) = addr {
                place.copy_from_slice(&addr.octets());
            }
        }
    }

    fn macs(&self, bytes: &mut [u8], places: &[usize]) {
        for at in places {
            let Some(place) = bytes.get_mut(*at..*at + 6) else { continue };
            if let Ok(mac) = mac::Mac::try_from(&*place) {
                place.copy_from_slice(&self.mac(mac));
            }
        }
    }
}

/// Takes the meaning from options, and sums the header up anew.
fn without_options(header: &mut [u8]) -> Option<()> {
    if header.len() > IPV4 {
        let before = header.to_vec();
        header.get_mut(IPV4..)?.fill(NO_OPERATION);
        crate::packet::follow_checksum(header, &before)?;
    }
    Some(())
}
