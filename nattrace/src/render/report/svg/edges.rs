//! The ways between places: along netfilter's path where they follow it, else around.

use std::fmt::Write as _;

use maud::{Markup, html};

use super::Drawing;
use super::geometry::{
    At, BELOW, DOT, FIRST_ROW, HALF_HEIGHT, LANE_LEFT, LANE_WIDTH, Rows, between, half_width, next, places,
};
use crate::render::report::names;
use crate::render::report::picture::{Lane, Picture, Place, Spot};

/// Between two ways that run side by side.
const TRACK: i32 = 15;
/// How many ways have room beside the lanes.
const BESIDE: i32 = 4;
/// The radius of corners.
const CORNER: i32 = 9;

/// The ways from a device to another one's lane: each runs above that lane, on a track of its own.
pub(super) struct Tracks {
    lanes: Vec<Vec<(Spot, Spot)>>,
}

impl Tracks {
    pub(super) fn new(picture: &Picture) -> Self {
        let mut lanes = vec![Vec::new(); picture.lanes.len()];
        for (from, to) in picture.edges.keys().filter(|(from, to)| is_crossing(*from, *to)) {
            if let Some(at) = lane_of(picture, *to) {
                lanes[at].push((*from, *to));
            }
        }
        Self { lanes }
    }

    /// The room above a lane.
    pub(super) fn above(&self, lane: usize) -> i32 {
        let count = i32::try_from(self.lanes[lane].len()).unwrap_or(0);
        if count == 0 { 0 } else { count * TRACK + 8 }
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.lanes.iter().all(Vec::is_empty)
    }

    /// How far above its lane a way runs, and its number among all.
    fn of(&self, way: (Spot, Spot)) -> (i32, i32) {
        let mut number = 0;
        for ways in &self.lanes {
            for (place, known) in ways.iter().enumerate() {
                if *known == way {
                    let above = i32::try_from(ways.len() - place).unwrap_or(1);
                    return (above * TRACK, number % BESIDE);
                }
                number += 1;
            }
        }
        (TRACK, 0)
    }
}

/// A device that gives to a device: of another namespace, another layer, or itself.
fn is_crossing(from: Spot, to: Spot) -> bool {
    from.place == Place::DeviceOut && to.place == Place::DeviceIn
}

fn lane_of(picture: &Picture, spot: Spot) -> Option<usize> {
    picture.lanes.iter().position(|lane| (lane.netns, lane.layer) == (spot.netns, spot.layer))
}

/// How a way is drawn, and where its number stands.
struct Line {
    d: String,
    label: At,
    anchor: &'static str,
}

/// All ways: those that nobody took first, then those that packets took.
pub(super) fn draw(drawing: &Drawing<'_>, id: &str) -> Markup {
    let most = drawing.picture.edges.values().copied().max().unwrap_or(1);
    let ways: Vec<_> = drawing
        .picture
        .edges
        .iter()
        .filter_map(|((from, to), count)| Some((*from, *to, *count, line(drawing, *from, *to)?)))
        .collect();
    html! {
        @for (lane, rows) in drawing.lanes() {
            path class="unused" d=(unused(lane, rows)) {}
        }
        @for (from, to, count, line) in &ways {
            path class="way" d=(line.d) stroke-width=(width(*count, most)) marker-end={ "url(#" (id) "-arrow)" }
                data-from=(names::id(*from)) data-to=(names::id(*to)) data-packets=(count) {}
        }
        @for (_, _, count, line) in &ways {
            text class="count" x=(line.label.x) y=(line.label.y) text-anchor=(line.anchor) { (count) }
        }
    }
}

/// More packets, a broader line.
fn width(count: u64, most: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a width of a line")]
    let share = (count as f64 / most as f64).sqrt();
    format!("{:.1}", 1.4 + 2.2 * share)
}

/// The whole path, faintly.
fn unused(lane: &Lane, rows: &Rows) -> String {
    let mut d = String::new();
    let shown: Vec<Place> = places(lane, rows.whole).collect();
    if shown.contains(&Place::Local) {
        let (a, b) = (rows.at(Place::Local), rows.exit(Place::Local));
        let _ = write!(d, "M{} {}L{} {}", a.x, a.y, b.x, b.y);
    }
    let in_first_row = |place: Place| rows.at(place).y == rows.at(Place::Route).y;
    // Bridges and ARP do not route, and have no way from input to output.
    let is_there = |place: Place| !matches!(place, Place::Local | Place::RouteOut) || shown.contains(&place);
    for from in FIRST_ROW.into_iter().chain(BELOW) {
        for to in next(from) {
            let drawn =
                in_first_row(from) && in_first_row(*to) || rows.whole && is_there(from) && is_there(*to);
            if drawn {
                let (a, b) = (rows.exit(from), rows.at(*to));
                let _ = write!(d, "M{} {}L{} {}", a.x, a.y, b.x, b.y);
            }
        }
    }
    d
}

fn line(drawing: &Drawing<'_>, from: Spot, to: Spot) -> Option<Line> {
    let (a, b) = (lane_of(drawing.picture, from)?, lane_of(drawing.picture, to)?);
    if is_crossing(from, to) {
        return Some(crossing(drawing, (from, to), &drawing.rows[a], &drawing.rows[b]));
    }
    if a == b {
        let nodes = &drawing.picture.lanes[a].nodes;
        // Past a place where other packets were seen it must be seen that this one was not.
        let unseen = |place: &Place| !nodes.contains_key(place) && *place != Place::Local;
        let along = between(from.place, to.place).filter(|way| way.iter().all(unseen));
        if let Some(way) = along {
            return Some(path(&drawing.rows[a], from.place, &way, to.place));
        }
    }
    Some(around(&drawing.rows[a], from.place, &drawing.rows[b], to.place))
}

/// Along the path, through places where nothing was seen.
fn path(rows: &Rows, from: Place, way: &[Place], to: Place) -> Line {
    let mut points = vec![rows.exit(from)];
    points.extend(way.iter().map(|place| rows.at(*place)));
    points.push(rows.at(to));
    let last = points.len() - 1;
    points[0] = border(points[0], points[1], from, 0);
    points[last] = border(points[last], points[last - 1], to, 3);
    let (a, mut b) = (points[0], points[1]);
    if !way.is_empty() {
        if a.y == b.y {
            b.x -= (b.x - a.x).signum() * DOT;
        } else {
            b.y -= (b.y - a.y).signum() * DOT;
        }
    }
    let middle = At { x: i32::midpoint(a.x, b.x), y: i32::midpoint(a.y, b.y) };
    let (label, anchor) = if a.y == b.y {
        (At { x: middle.x, y: middle.y - 7 }, "middle")
    } else {
        (At { x: middle.x - 8, y: middle.y + 4 }, "end")
    };
    Line { d: rounded(&points), label, anchor }
}

/// Where a line to a neighbour meets the border of a place, `gap` before it.
fn border(at: At, neighbour: At, place: Place, gap: i32) -> At {
    if at.y == neighbour.y {
        At { x: at.x + (neighbour.x - at.x).signum() * (half_width(place) + gap), ..at }
    } else {
        At { y: at.y + (neighbour.y - at.y).signum() * (HALF_HEIGHT + gap), ..at }
    }
}

/// A way that is not of the path: around what lies between, or from lane to lane.
fn around(a: &Rows, from: Place, b: &Rows, to: Place) -> Line {
    let (start, end) = (a.exit(from), b.at(to));
    let same_lane = a.top == b.top;
    if same_lane && start.x == end.x {
        return beside(start, half_width(from), end, half_width(to));
    }
    let (start_side, end_side) = match () {
        () if same_lane => (1, 1),
        () if start.y < end.y => (1, -1),
        () => (-1, 1),
    };
    // Beside the texts, and the name of a lane, which stands above its first device.
    let right = to == Place::DeviceIn;
    let start = At { x: start.x + half_width(from) - 10, y: start.y + start_side * HALF_HEIGHT };
    let end = At {
        x: end.x + (half_width(to) - 16) * if right { 1 } else { -1 },
        y: end.y + end_side * (HALF_HEIGHT + 3),
    };
    let bow = if same_lane { 46 } else { (start.y - end.y).abs() / 2 + 10 };
    let controls = (At { y: start.y + start_side * bow, ..start }, At { y: end.y + end_side * bow, ..end });
    let label = middle(start, controls, end);
    Line { d: curve(start, controls, end), label: At { y: label.y + 4, ..label }, anchor: "middle" }
}

/// Between two places of one column, on their left: on the right there may be words.
fn beside(start: At, start_half: i32, end: At, end_half: i32) -> Line {
    let bow = 16 + (start.y - end.y).abs() / 4;
    let start = At { x: start.x - start_half, y: start.y - (start.y - end.y).signum() * 8 };
    let end = At { x: end.x - end_half - 3, y: end.y + (start.y - end.y).signum() * 6 };
    let left = start.x.min(end.x) - bow;
    let controls = (At { x: left, ..start }, At { x: left, ..end });
    let label = middle(start, controls, end);
    Line { d: curve(start, controls, end), label: At { x: label.x - 5, y: label.y + 4 }, anchor: "end" }
}

fn curve(start: At, (first, second): (At, At), end: At) -> String {
    format!("M{} {}C{} {} {} {} {} {}", start.x, start.y, first.x, first.y, second.x, second.y, end.x, end.y)
}

/// The middle of a cubic curve.
fn middle(start: At, (first, second): (At, At), end: At) -> At {
    let of = |a: i32, b: i32, c: i32, d: i32| (a + 3 * b + 3 * c + d) / 8;
    At { x: of(start.x, first.x, second.x, end.x), y: of(start.y, first.y, second.y, end.y) }
}

/// From a device on the right to a device on the left: around, above the lane that it leads to.
fn crossing(drawing: &Drawing<'_>, way: (Spot, Spot), a: &Rows, b: &Rows) -> Line {
    let (above, number) = drawing.tracks.of(way);
    let (start, end) = (a.at(Place::DeviceOut), b.at(Place::DeviceIn));
    let y = b.top - above + 6;
    let right = LANE_LEFT + LANE_WIDTH + 8 + number * 9;
    let left = LANE_LEFT - 8 - number * 6;
    let points = [
        At { x: start.x + half_width(Place::DeviceOut), ..start },
        At { x: right, y: start.y },
        At { x: right, y },
        At { x: left, y },
        At { x: left, y: end.y },
        At { x: end.x - half_width(Place::DeviceIn) - 3, ..end },
    ];
    Line { d: rounded(&points), label: At { x: LANE_LEFT + LANE_WIDTH / 2, y: y + 4 }, anchor: "middle" }
}

/// Lines from point to point, with round corners.
fn rounded(points: &[At]) -> String {
    let mut d = format!("M{} {}", points[0].x, points[0].y);
    for three in points.windows(3) {
        let (a, corner, b) = (three[0], three[1], three[2]);
        if (a.x == corner.x) == (corner.x == b.x) {
            // It goes on in the same direction.
            continue;
        }
        let (into, out) = (towards(corner, a), towards(corner, b));
        let _ = write!(d, "L{} {}Q{} {} {} {}", into.x, into.y, corner.x, corner.y, out.x, out.y);
    }
    let last = points[points.len() - 1];
    let _ = write!(d, "L{} {}", last.x, last.y);
    d
}

/// A corner's radius away, where there is room.
fn towards(corner: At, other: At) -> At {
    let step = |from: i32, to: i32| (to - from).clamp(-CORNER, CORNER);
    At { x: corner.x + step(corner.x, other.x), y: corner.y + step(corner.y, other.y) }
}
