//! What a packet looked like, each time that somebody saw its headers: for those who show packets as such.

use super::open::{MAX_STEPS, Moment, Open};
use crate::event::NetnsId;
use crate::packet::{Headers, Packet};

/// A packet's headers at one moment of its way.
#[derive(Debug, Clone, PartialEq)]
pub struct Sight {
    /// Nanoseconds since the epoch.
    pub time_ns: u64,
    /// Where.
    pub netns: NetnsId,
    /// What the headers say.
    pub packet: Packet,
    /// Their bytes, where they were seen.
    pub headers: Option<Headers>,
}

impl Open {
    /// Keeps what the packet looks like, where that is asked for.
    pub(super) fn sees(&mut self, at: Moment, packet: &Packet, headers: impl FnOnce() -> Option<Headers>) {
        let netns = if at.netns == 0 { self.netns } else { at.netns };
        let Some(sights) = self.sights.as_mut().filter(|sights| sights.len() < MAX_STEPS) else { return };
        let same = |last: &Sight| (last.time_ns, last.netns, &last.packet) == (at.time_ns, netns, packet);
        if let Some(last) = sights.last_mut().filter(|last| same(last)) {
            last.headers = headers().or(last.headers.take());
        } else {
            sights.push(Sight { time_ns: at.time_ns, netns, packet: packet.clone(), headers: headers() });
        }
    }
}
