//! A packet that is too large for its device leaves it in pieces: IP fragments, or the segments that the
//! kernel makes of a GSO packet. The pieces have buffers, and journeys, of their own; the whole is known by
//! what they keep of it, and has left by the same device.

use super::DeviceStep;
use super::Kinship;
use super::assemble::Assembler;
use super::open::{Moment, Open, Place};
use crate::event::{HookPoint, HookVerdict};
use crate::name::Name;
use crate::packet::{Endpoint, Family, Packet};

impl Assembler {
    /// A packet that was not seen before was given to a device: the packet it is a piece of, if there is one
    /// on its way to that device, was given to it as well.
    pub(super) fn split(&mut self, new: u64, at: Moment, piece: &Packet, device: &Name) {
        let timing = self.timing();
        let whole = self.opens.iter().find(|(_, open)| {
            open.is_bound_for(at, device) && open.due_ns(timing) > at.time_ns && is_piece(piece, &open.header)
        });
        if let Some(seq) = whole.map(|(seq, _)| seq) {
            self.with(seq, |open| {
                open.seen(at);
                open.device(at, DeviceStep::Transmit, device);
            });
            self.kin.note(new, Kinship::PieceOf, vec![seq]);
        } else {
            self.perhaps_of_another(new, at);
        }
    }
}

impl Open {
    /// Whether the last hooks have let it through to the device.
    fn is_bound_for(&self, at: Moment, device: &str) -> bool {
        self.place == Place::Hook
            && !self.ending.is_drop()
            && self.visits.last().is_some_and(|v| {
                matches!(v.hook, HookPoint::Postrouting | HookPoint::Egress)
                    && v.netns == at.netns
                    && matches!(v.verdict, Some(HookVerdict::Accept) | None)
                    && v.oif.as_deref() == Some(device)
            })
    }
}

fn is_piece(piece: &Packet, whole: &Packet) -> bool {
    // A later fragment has no ports.
    let same = |a: Option<Endpoint>, b: Option<Endpoint>| match (a, b) {
        (Some(a), Some(b)) => a.addr == b.addr && (a.port.is_none() || a.port == b.port),
        _ => false,
    };
    let shorter = whole.told_length() == 0 || piece.length < whole.length;
    let telling = match piece.family {
        Family::Ipv4 => piece.ip_id.is_some_and(|id| id != 0) && piece.ip_id == whole.ip_id,
        _ => piece.fragment_offset != 0 || (piece.tcp_seq.is_some() && piece.tcp_seq == whole.tcp_seq),
    };
    piece.family == whole.family
        && piece.protocol == whole.protocol
        && whole.fragment_offset == 0
        && shorter
        && telling
        && same(piece.source, whole.source)
        && same(piece.destination, whole.destination)
}
