//! The bytes of a packet at one moment.

use std::ops::Range;

use nattrace_core::event::NetnsId;
use nattrace_core::journey::{Journey, Sight};
use nattrace_core::packet::{Endpoint, Family, Packet, encode};

/// EtherType of ARP (RFC 826).
const ARP: [u8; 2] = [0x08, 0x06];
/// Of an Ethernet header.
const ETHERNET: usize = 14;

/// Where and when, and the addresses that the packet had.
pub(super) struct Moment {
    pub(super) netns: NetnsId,
    /// From this entry to the next one.
    pub(super) time_ns: Range<u64>,
    pub(super) source: Option<Endpoint>,
    pub(super) destination: Option<Endpoint>,
}

/// What is known of a packet's bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// Headers; of ARP, behind an Ethernet header.
    pub(super) bytes: Vec<u8>,
    /// On the wire, from the same byte on.
    pub(super) length: u32,
    /// How the bytes came about.
    pub(super) origin: Origin,
    /// The link-layer header that was seen with it.
    pub(super) link: Option<Vec<u8>>,
}

/// How bytes came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// They were seen.
    Seen,
    /// They were seen at another moment of the packet's way, and what is known to have changed was changed.
    Changed,
    /// They were made of the header's fields.
    Made,
    /// Nothing is known of them.
    Unknown,
}

/// The headers of a journey's packet at a moment.
pub(super) fn frame(journey: &Journey, moment: &Moment) -> Frame {
    let sight = nearest(&journey.sights, moment);
    let seen = sight.map_or(&journey.packet, |sight| &sight.packet);
    let packet = Packet { source: moment.source, destination: moment.destination, ..seen.clone() };
    let mut known: Vec<&Sight> = journey.sights.iter().filter(|sight| sight.headers.is_some()).collect();
    known.sort_by_key(|sight| distance(sight, moment));
    let found = known.iter().find_map(|sight| {
        let headers = sight.headers.as_ref()?;
        let bytes = headers.at_moment_of(&packet)?;
        let origin = if bytes == headers.network { Origin::Seen } else { Origin::Changed };
        let here = moment.time_ns.contains(&sight.time_ns) && sight.netns == moment.netns;
        Some((bytes, origin, Some(&headers.link).filter(|link| here && link.len() == ETHERNET)))
    });
    let (mut bytes, origin, link) = found.unwrap_or_else(|| {
        let bytes = encode(&packet);
        let origin = if bytes.is_empty() { Origin::Unknown } else { Origin::Made };
        (bytes, origin, None)
    });
    let mut length = if packet.length == 0 { journey.packet.length } else { packet.length };
    if packet.family == Family::Arp {
        let made = || [&[0; 12][..], &ARP].concat();
        bytes.splice(0..0, link.cloned().unwrap_or_else(made));
        length += u32::try_from(ETHERNET).unwrap_or_default();
    }
    let length = length.max(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    Frame { bytes, length, origin, link: link.cloned() }
}

/// What the packet looked like then: of those with its addresses, the first one there, else the nearest.
fn nearest<'a>(sights: &'a [Sight], moment: &Moment) -> Option<&'a Sight> {
    let same = |sight: &&Sight| {
        (sight.packet.source, sight.packet.destination) == (moment.source, moment.destination)
    };
    let closest = |sights: &mut dyn Iterator<Item = &'a Sight>| sights.min_by_key(|s| distance(s, moment));
    closest(&mut sights.iter().filter(same)).or_else(|| closest(&mut sights.iter()))
}

/// How far from a moment something was seen: in another namespace, before or after it, and how long.
fn distance(sight: &Sight, moment: &Moment) -> (bool, bool, u64) {
    let outside = !moment.time_ns.contains(&sight.time_ns);
    (sight.netns != moment.netns, outside, sight.time_ns.abs_diff(moment.time_ns.start))
}
