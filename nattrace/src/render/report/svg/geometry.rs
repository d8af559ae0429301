//! Where things stand. The path is known, so each place has its own, the same in every picture:
//!
//! ```text
//! in ─ ingress ─ prerouting ─ route ─ forward ─ postrouting ─ egress ─ out
//!                               │                   │
//!                             input               output
//!                               │                   │
//!                             local process ───── route
//! ```

use crate::render::report::picture::{Lane, Layer, Place};

/// Between the middles of two columns.
const PITCH: i32 = 128;
/// The middle of the first column.
const FIRST: i32 = 98;
/// Where lanes begin, and how wide they are.
pub(super) const LANE_LEFT: i32 = 30;
pub(super) const LANE_WIDTH: i32 = 7 * PITCH + 2 * (FIRST - LANE_LEFT);
/// Width of a picture: eight columns, and room at both sides for ways between lanes.
pub(super) const WIDTH: i32 = LANE_LEFT + LANE_WIDTH + 44;
/// Half the height of a box.
pub(super) const HALF_HEIGHT: i32 = 19;
/// From one line of text to the next.
pub(super) const LINE: i32 = 14;
/// The least distance of two rows.
const ROW: i32 = 80;
/// Above a lane's first line.
const TITLE: i32 = 30;
/// Half the size of a place where nothing was seen.
pub(super) const DOT: i32 = 5;

/// A point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct At {
    pub(super) x: i32,
    pub(super) y: i32,
}

/// How many lines of text stand where around a lane's places.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Room {
    /// Above the first row.
    pub(super) above: usize,
    /// Below the first row.
    pub(super) below: usize,
    /// Beside the second row.
    pub(super) beside: usize,
    /// Below the third row.
    pub(super) last: usize,
}

/// Where a lane's rows are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows {
    pub(super) top: i32,
    pub(super) bottom: i32,
    pub(super) whole: bool,
    y: [i32; 3],
}

impl Rows {
    /// A lane from `top` on. `whole`: with what only a packet to this host, or from it, comes by.
    pub(super) fn new(top: i32, room: Room, whole: bool) -> Self {
        let lines = |count: usize| LINE * i32::try_from(count).unwrap_or(0);
        let first = top + TITLE + lines(room.above) + HALF_HEIGHT;
        let below = HALF_HEIGHT + lines(room.below);
        let second = first + ROW.max(below + HALF_HEIGHT + 12).max(below + lines(room.beside) / 2 + 14);
        let third = second + (ROW - 14).max(lines(room.beside) / 2 + HALF_HEIGHT + 20);
        let under = |y: i32, count| y + HALF_HEIGHT + lines(count) + 16;
        let bottom = if whole { under(third, room.last) } else { under(first, room.below) };
        Self { top, bottom, whole, y: [first, second, third] }
    }

    /// The middle of a place.
    pub(super) fn at(&self, place: Place) -> At {
        let (column, row) = match place {
            Place::DeviceIn => (0, 0),
            Place::Ingress => (1, 0),
            Place::Prerouting => (2, 0),
            Place::Route => (3, 0),
            Place::Forward => (4, 0),
            Place::Postrouting => (5, 0),
            Place::Egress => (6, 0),
            Place::DeviceOut => (7, 0),
            Place::Unknown => (0, 1),
            Place::Input => (3, 1),
            Place::Output => (5, 1),
            Place::Local => (3, 2),
            Place::RouteOut => (5, 2),
        };
        At { x: FIRST + column * PITCH, y: self.y[row] }
    }

    /// Where the way leaves a place: the local process is as wide as two columns.
    pub(super) fn exit(&self, place: Place) -> At {
        let at = self.at(place);
        if place == Place::Local { At { x: at.x + PITCH, ..at } } else { at }
    }
}

/// Half the width of a place's box.
pub(super) fn half_width(place: Place) -> i32 {
    match place {
        Place::DeviceIn | Place::DeviceOut | Place::Unknown => 54,
        Place::Route | Place::RouteOut => 40,
        _ => 50,
    }
}

/// What is forwarded passes these.
pub(super) const FIRST_ROW: [Place; 8] = [
    Place::DeviceIn,
    Place::Ingress,
    Place::Prerouting,
    Place::Route,
    Place::Forward,
    Place::Postrouting,
    Place::Egress,
    Place::DeviceOut,
];
/// What is for this host, or from it, these.
pub(super) const BELOW: [Place; 4] = [Place::Input, Place::Local, Place::RouteOut, Place::Output];

/// The places that a lane always shows.
pub(super) fn places(lane: &Lane, whole: bool) -> impl Iterator<Item = Place> {
    // Bridges and ARP do not route.
    let routes = lane.layer == Layer::Ip;
    let shown =
        move |place: &Place| routes || !matches!(place, Place::Route | Place::RouteOut | Place::Local);
    let below = whole.then_some(BELOW).into_iter().flatten();
    FIRST_ROW.into_iter().chain(below).filter(shown)
}

/// Where a packet can go from a place, by netfilter's path.
pub(super) fn next(place: Place) -> &'static [Place] {
    match place {
        Place::DeviceIn => &[Place::Ingress],
        Place::Ingress => &[Place::Prerouting],
        Place::Prerouting => &[Place::Route],
        Place::Route => &[Place::Forward, Place::Input],
        Place::Forward | Place::Output => &[Place::Postrouting],
        Place::Postrouting => &[Place::Egress],
        Place::Egress => &[Place::DeviceOut],
        Place::Input => &[Place::Local],
        Place::Local => &[Place::RouteOut],
        Place::RouteOut => &[Place::Output],
        Place::DeviceOut | Place::Unknown => &[],
    }
}

/// The places between two, along netfilter's path, where it leads from the one to the other.
pub(super) fn between(from: Place, to: Place) -> Option<Vec<Place>> {
    let mut ways = std::collections::VecDeque::from([(from, Vec::new())]);
    while let Some((at, way)) = ways.pop_front() {
        for place in next(at) {
            if *place == to {
                return Some(way);
            }
            ways.push_back((*place, [way.as_slice(), &[*place]].concat()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_netfilter_s() {
        assert_eq!(between(Place::Prerouting, Place::Route), Some(vec![]));
        assert_eq!(between(Place::DeviceIn, Place::Prerouting), Some(vec![Place::Ingress]));
        assert_eq!(between(Place::Route, Place::Local), Some(vec![Place::Input]));
        assert_eq!(between(Place::Route, Place::Postrouting), Some(vec![Place::Forward]), "the short way");
        assert_eq!(between(Place::Output, Place::DeviceOut), Some(vec![Place::Postrouting, Place::Egress]));
        assert_eq!(between(Place::Output, Place::RouteOut), None);
        assert_eq!(between(Place::DeviceOut, Place::DeviceIn), None);
    }
}
