//! The packet that an event names.

use super::{Body, PacketId};

macro_rules! packet {
    ($body:ident, $option:ident $(, $mutable:ident)?) => {
        match $body {
            Body::Hook(hook) => Some(&$($mutable)? hook.packet),
            Body::HookReturn(back) => Some(&$($mutable)? back.packet),
            Body::Rewrite(rewrite) => Some(&$($mutable)? rewrite.packet),
            Body::NftTrace(trace) => trace.packet.$option(),
            Body::LegacyRule(rule) => Some(&$($mutable)? rule.packet),
            Body::Receive(device) | Body::Transmit(device) => Some(&$($mutable)? device.packet),
            Body::Deliver(deliver) => Some(&$($mutable)? deliver.packet),
            Body::Writer(writer) => Some(&$($mutable)? writer.packet),
            Body::Drop(drop) => Some(&$($mutable)? drop.packet),
            Body::End { packet, .. } | Body::Left { packet } => Some(packet),
            _ => None,
        }
    };
}

impl Body {
    /// The packet that it tells of; none where it tells of none, or of one that is not known exactly.
    #[must_use]
    pub fn packet(&self) -> Option<PacketId> {
        packet!(self, as_ref).copied()
    }

    /// The same, to be changed.
    pub fn packet_mut(&mut self) -> Option<&mut PacketId> {
        packet!(self, as_mut, mut)
    }
}
