//! Which journeys are told: by `--oif`, and of a recording those that its replay is asked for.
//!
//! The rules are those of the live trace: a packet is selected by what it looks like before any rewrite, and
//! then its connection is followed. Conntrack's original tuple is how the first packet of a connection looked,
//! so it answers for replies; criteria of single packets (mark, flags, device) it cannot answer, there the
//! packet that was selected must have been seen. Where nothing tracks, replies are the mirrored packets.

use super::assemble::Assembler;
use super::connections::tuple_of;
use super::open::Open;
use super::{DeviceStep, StepKind};
use crate::conntrack::Tuple;
use crate::name::Name;
use crate::packet::Packet;

/// Flows without a connection whose packets went out by a device that `--oif` asks for.
const MAX_FLOWS: usize = 8192;

impl Assembler {
    pub(super) fn is_asked_for(&mut self, open: &Open) -> bool {
        let Some(filter) = &self.options.narrowed else { return true };
        let follow = self.options.follow;
        let device = |iif: Option<&Name>| {
            filter.iif.is_empty() || iif.is_some_and(|iif| filter.iif.iter().any(|name| name == iif))
        };
        let itself = filter.matches(&open.packet) && device(open.iif.as_ref());
        if let Some(entry) = open.known.and_then(|known| self.connections.get_mut(known)) {
            entry.selected |= itself;
            if follow && entry.selected {
                return true;
            }
        }
        if itself || !follow {
            return itself;
        }
        if filter.is_by_packet() {
            return false;
        }
        let original = open.connection.as_ref().and_then(|connection| connection.original);
        let first = match original {
            Some(tuple) => Packet {
                protocol: Some(tuple.protocol),
                source: Some(tuple.source),
                destination: Some(tuple.destination),
                ..open.packet.clone()
            },
            None if open.connection.is_none() => Packet {
                source: open.packet.destination,
                destination: open.packet.source,
                ..open.packet.clone()
            },
            None => return false,
        };
        filter.matches(&first)
    }

    /// `--oif`: whether the packet, or a packet of its connection, went out by a device that was asked for.
    /// Known only when the packet is on its way out, so the kernel side cannot ask it.
    pub(super) fn passes_oif(&mut self, open: &Open) -> bool {
        let narrowed = self.options.narrowed.as_ref().filter(|narrowed| !narrowed.oif.is_empty());
        let filter = narrowed.unwrap_or(&self.options.filter);
        if filter.oif.is_empty() {
            return true;
        }
        let asked_for = |name: &Name| filter.oif.iter().any(|asked| asked == name);
        let passes = open.drafts.iter().any(|draft| match &draft.step.kind {
            StepKind::Hook { oif: Some(oif), .. } | StepKind::Route { oif: Some(oif), .. } => asked_for(oif),
            StepKind::Device { event: DeviceStep::Transmit, name } => asked_for(name),
            _ => false,
        });
        if let Some(entry) = open.known.and_then(|k| self.connections.get_mut(k)) {
            entry.oif_passed |= passes;
            return passes || (self.options.follow && entry.oif_passed);
        }
        // Where nothing tracks, what the kernel side let through can be a reply: the device is asked of the
        // packets that were asked for, and their replies follow them.
        let Some(tuple) = tuple_of(&open.packet) else { return passes };
        if filter.matches(&open.packet) {
            if passes {
                if self.untracked_out.len() >= MAX_FLOWS {
                    self.untracked_out.clear();
                }
                self.untracked_out.insert((open.first.netns, tuple));
            }
            return passes;
        }
        let asked = Tuple { source: tuple.destination, destination: tuple.source, ..tuple };
        self.options.follow && self.untracked_out.contains(&(open.first.netns, asked))
    }
}
