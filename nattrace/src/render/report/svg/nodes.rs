//! The places, and what stands around them: rewrites and routes above, ends below.

use maud::{Markup, html};
use nattrace_core::event::Manip;
use nattrace_core::packet::Endpoint;

use super::geometry::{At, DOT, HALF_HEIGHT, LINE, Room, Rows, half_width, places};
use crate::render::report::names;
use crate::render::report::picture::{EndKind, Lane, Node, Place, Rewritten, Spot};
use crate::render::report::words::{Shown, cut, number, packets, two_lines};

/// Characters that have room above a place, beside another one's text.
const ABOVE: usize = 21;
/// Characters that have room below or beside it.
const BELOW: usize = 24;
/// Characters of names of devices: one of full length (`IFNAMSIZ`).
const DEVICES: usize = 15;
/// Rewrites, and ends, that are told in the picture; the table has them all.
const TOLD: usize = 2;

/// A line of text, and what it means.
struct Line {
    text: String,
    class: &'static str,
}

fn plain(class: &'static str, text: impl Into<String>) -> Line {
    Line { text: text.into(), class }
}

/// The room that a lane's texts need.
pub(super) fn room(lane: &Lane) -> Room {
    let mut room = Room::default();
    for (place, node) in &lane.nodes {
        let (above, below) = (above(node).len(), below(node).len());
        match place {
            Place::Input | Place::Output | Place::Unknown => room.beside = room.beside.max(above + below),
            Place::Local | Place::RouteOut => {
                room.last = room.last.max(below + if *place == Place::RouteOut { above } else { 0 });
            }
            _ => {
                room.above = room.above.max(above);
                room.below = room.below.max(below);
            }
        }
    }
    room
}

/// A lane's places: those where packets were seen, and those where none was.
pub(super) fn draw(lane: &Lane, rows: &Rows, links: Option<&str>) -> Markup {
    let others = lane.nodes.contains_key(&Place::Unknown).then_some(Place::Unknown);
    html! {
        @for place in places(lane, rows.whole).chain(others) {
            @let at = rows.at(place);
            @match lane.nodes.get(&place) {
                Some(node) => {
                    @let spot = Spot { netns: lane.netns, layer: lane.layer, place };
                    @if let (Some(prefix), true) = (links, place.is_hook()) {
                        a class="hook" href={ "#" (prefix) "-" (place.id()) } aria-label=(tells(place, node)) {
                            (seen(spot, node, at, false))
                        }
                    } @else {
                        (seen(spot, node, at, true))
                    }
                    (around(place, node, at))
                }
                None => (unseen(place, at)),
            }
        }
    }
}

/// What a hook's link is called: what is written in its box, and what came of its packets.
fn tells(place: Place, node: &Node) -> String {
    let (name, under) = label(place, node);
    let under = under.map(|under| format!(" {under}")).unwrap_or_default();
    let ended = node.ended().into_iter().map(|(kind, count)| format!(", {count} {}", kind.name()));
    format!("{name}{under}: {}{}", packets(node.packets), ended.collect::<String>())
}

fn unseen(place: Place, at: At) -> Markup {
    let at = if place == Place::Local { At { x: at.x + 64, ..at } } else { at };
    // Where no line leads past.
    let (x, y, anchor) = match place {
        Place::Input | Place::Output => (at.x + 11, at.y + 4, "start"),
        Place::Local | Place::RouteOut => (at.x, at.y + 20, "middle"),
        _ => (at.x, at.y - 12, "middle"),
    };
    html! {
        circle class="unseen" cx=(at.x) cy=(at.y) r=(DOT) {}
        text class="unseen" x=(x) y=(y) text-anchor=(anchor) { (place.name()) }
    }
}

/// `tells`: with all that is known of it, where nothing else tells that.
fn seen(spot: Spot, node: &Node, at: At, tells: bool) -> Markup {
    let place = spot.place;
    let half = half_width(place);
    let (left, wide) = match place {
        Place::Local => (at.x - half, half * 2 + 128),
        _ => (at.x - half, half * 2),
    };
    let ended = node.ended();
    let class = match place {
        _ if ended.contains_key(&EndKind::Dropped) => "node dropped",
        Place::DeviceIn | Place::DeviceOut | Place::Local => "node end",
        Place::Route | Place::RouteOut => "node route",
        _ => "node",
    };
    let corner = match place {
        Place::DeviceIn | Place::DeviceOut | Place::Route | Place::RouteOut => HALF_HEIGHT,
        _ => 6,
    };
    let (name, under) = label(place, node);
    let middle = left + wide / 2;
    html! {
        g class=(class) data-place=(names::id(spot)) data-packets=(node.packets) {
            @if tells { title { (Shown(&told(place, node))) } }
            rect x=(left) y=(at.y - HALF_HEIGHT) width=(wide) height=(HALF_HEIGHT * 2) rx=(corner) {}
            @match under {
                Some(under) => {
                    text class="name" x=(middle) y=(at.y - 1) text-anchor="middle" { (Shown(&name)) } " "
                    text class="under" x=(middle) y=(at.y + 12) text-anchor="middle" { (Shown(&under)) }
                }
                None => text class="name" x=(middle) y=(at.y + 4) text-anchor="middle" { (Shown(&name)) }
            }
        }
    }
}

/// The texts around a place, where its ways leave room for them.
fn around(place: Place, node: &Node, at: At) -> Markup {
    let (above, below) = (above(node), below(node));
    let half = half_width(place);
    match place {
        Place::Input | Place::Output | Place::Unknown => {
            let lines: Vec<Line> = above.into_iter().chain(below).collect();
            let (x, anchor) = match place {
                Place::Input => (at.x - half - 8, "end"),
                _ => (at.x + half + 8, "start"),
            };
            stack(&lines, At { x, y: at.y - rows_high(lines.len()) / 2 + 11 }, anchor)
        }
        Place::RouteOut => {
            let lines: Vec<Line> = above.into_iter().chain(below).collect();
            stack(&lines, At { x: at.x, y: at.y + HALF_HEIGHT + LINE }, "middle")
        }
        _ => {
            let over = At { x: at.x, y: at.y - HALF_HEIGHT - 7 - rows_high(above.len().saturating_sub(1)) };
            // Ways lead down from these.
            let x = if matches!(place, Place::Route | Place::Postrouting) { at.x + 9 } else { at.x - half };
            let under = At { x, y: at.y + HALF_HEIGHT + LINE + 1 };
            html! {
                (stack(&above, over, "middle"))
                (stack(&below, under, "start"))
            }
        }
    }
}

fn stack(lines: &[Line], first: At, anchor: &str) -> Markup {
    html! {
        @for (row, line) in lines.iter().enumerate() {
            text class=(line.class) x=(first.x) y=(first.y + rows_high(row)) text-anchor=(anchor) { (Shown(&line.text)) }
        }
    }
}

fn rows_high(rows: usize) -> i32 {
    LINE * i32::try_from(rows).unwrap_or(0)
}

/// Its name, and what stands below it.
fn label(place: Place, node: &Node) -> (String, Option<String>) {
    match place {
        Place::DeviceIn | Place::DeviceOut => {
            let names: Vec<&str> = node.devices.iter().map(|(name, _)| name.as_str()).collect();
            let all = names.join(", ");
            match names.as_slice() {
                [] => (place.name().to_owned(), None),
                _ if all.chars().count() <= DEVICES => (all, Some(place.name().to_owned())),
                [one] => (cut(one, DEVICES).into_owned(), Some(place.name().to_owned())),
                [one, more @ ..] => (
                    cut(one, DEVICES).into_owned(),
                    Some(format!("and {}", number(more.len() as u64, "other"))),
                ),
            }
        }
        _ if place.is_hook() => {
            let rules = node.rules.iter().filter(|(rule, _)| rule.in_chain.is_some()).count() as u64;
            let policies = node.rules.iter().len() as u64 - rules;
            let under = match (rules, policies) {
                (0, 0) => None,
                (0, _) => Some("policy".to_owned()),
                _ => Some(number(rules, "rule")),
            };
            (place.name().to_owned(), under)
        }
        _ => (place.name().to_owned(), None),
    }
}

fn above(node: &Node) -> Vec<Line> {
    let mut lines = Vec::new();
    // Who decided is in the table: here, what is written.
    let mut written: Vec<((Manip, Endpoint, Endpoint), u64)> = Vec::new();
    for (Rewritten { nat, from, to, .. }, count) in node.rewrites.iter() {
        let what = (*nat, *from, *to);
        match written.iter_mut().find(|(known, _)| *known == what) {
            Some((_, known)) => *known += count,
            None => written.push((what, count)),
        }
    }
    for ((nat, from, to), count) in written.iter().take(TOLD) {
        lines.push(plain("nat strong", format!("⇒ {count} {}", nat.name().to_uppercase())));
        lines.push(plain("nat", end(*from)));
        lines.push(plain("nat", format!("→ {}", end(*to))));
    }
    if written.len() > TOLD {
        let others = number((written.len() - TOLD) as u64, "other");
        let more = if node.rewrites.others() > 0 { "many others".to_owned() } else { others };
        lines.push(plain("nat", format!("and {more}")));
    }
    for (told, _) in node.routes.iter().take(1) {
        lines.push(plain("routed", cut(told, ABOVE - 3)));
    }
    if node.routes.iter().len() > 1 {
        lines.push(plain("routed", format!("and {}", number(node.routes.iter().len() as u64 - 1, "other"))));
    }
    lines
}

/// Address and port in little room.
fn end(end: Endpoint) -> String {
    cut(&end.to_string(), ABOVE - 2).into_owned()
}

fn below(node: &Node) -> Vec<Line> {
    let mut lines = Vec::new();
    for (kind, count) in node.ended() {
        let class = match kind {
            EndKind::Dropped => "ended drop",
            EndKind::Delivered | EndKind::Sent => "ended pass",
            EndKind::Queued | EndKind::Consumed => "ended other",
            EndKind::Unfinished => "ended warn",
        };
        lines.push(plain(class, format!("{} {count} {}", kind.sign(), kind.name())));
        if kind == EndKind::Dropped {
            lines.extend(drops(node));
        }
        if kind == EndKind::Delivered {
            let takers = node.takers.iter().take(TOLD);
            lines.extend(takers.map(|(taker, _)| plain("detail", cut(taker, BELOW + 10))));
        }
    }
    lines
}

/// Who dropped, in the words of the ends.
fn drops(node: &Node) -> Vec<Line> {
    let dropped = || node.ends.iter().filter(|(end, _)| end.kind == EndKind::Dropped);
    let mut lines = Vec::new();
    for (end, _) in dropped().take(TOLD) {
        if let Some(rule) = &end.rule {
            lines.push(plain("detail rule", cut(rule, BELOW)));
        }
        let by = end.text.strip_prefix("dropped ").unwrap_or(&end.text);
        lines.extend(two_lines(by, BELOW).into_iter().map(|line| plain("detail", line)));
    }
    if dropped().count() > TOLD {
        lines.push(plain(
            "detail",
            format!("and {}", number((dropped().count() - TOLD) as u64, "other cause")),
        ));
    }
    lines
}

/// All that is known of a place, for who points at it.
fn told(place: Place, node: &Node) -> String {
    let mut lines = vec![format!("{}: {}", place.name(), packets(node.packets))];
    let counted = |text: &str, count: u64| format!("{count} × {text}");
    lines.extend(node.devices.iter().map(|(name, count)| counted(name, count)));
    lines.extend(node.routes.iter().map(|(told, count)| counted(told, count)));
    for (rule, count) in node.rules.iter() {
        let handle = rule.in_chain.as_ref().map(|handle| format!(" {handle}")).unwrap_or_default();
        lines.push(counted(&format!("{}{handle}: {}", rule.chain, rule.text), count));
    }
    for (rewritten, count) in node.rewrites.iter() {
        let Rewritten { nat, from, to, by, .. } = rewritten;
        lines.push(counted(&format!("{} {from} → {to} {by}", nat.name().to_uppercase()), count));
    }
    lines.extend(node.takers.iter().map(|(taker, count)| counted(taker, count)));
    lines.extend(node.ends.iter().map(|(end, count)| counted(&end.text, count)));
    lines.join(" · ")
}
