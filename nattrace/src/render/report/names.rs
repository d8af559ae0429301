//! What lanes are called.

use super::picture::{Lane, Layer, Spot};
use crate::render::namespaces::Namespaces;
use nattrace_core::event::NetnsId;

/// Names for what pictures show.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names<'a>(pub(super) &'a Namespaces);

impl Names<'_> {
    /// Namespace, and layer where it is not IP's.
    pub(super) fn lane(self, lane: &Lane) -> String {
        self.of(lane.netns, lane.layer)
    }

    /// A place with its lane: `forward, netns rt`.
    pub(super) fn spot(self, spot: Spot) -> String {
        format!("{}, {}", spot.place.name(), self.of(spot.netns, spot.layer))
    }

    /// A namespace.
    pub(super) fn netns(self, netns: NetnsId) -> String {
        format!("netns {}", self.0.name(netns).map_or_else(|| netns.to_string(), str::to_owned))
    }

    fn of(self, netns: NetnsId, layer: Layer) -> String {
        let layer = layer.name().map(|layer| format!(", {layer}")).unwrap_or_default();
        format!("{}{layer}", self.netns(netns))
    }
}

/// A place for programs: `4026532289/ip/forward`.
pub(super) fn id(spot: Spot) -> String {
    format!("{}/{}/{}", spot.netns, spot.layer.name().unwrap_or("ip"), spot.place.id())
}
