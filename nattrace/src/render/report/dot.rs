//! A picture in the language of graphviz (<https://graphviz.org/doc/info/lang.html>), for who wants to lay it out anew.

use std::fmt::Write as _;

use super::names::{self, Names};
use super::picture::{EndKind, Lane, Node, Picture, Place, Rewritten, Spot};
use super::words::packets;
use crate::render::escape::escape;

/// Writes it: a cluster for each lane, a node for each place where packets were seen, and one for each way they ended.
pub(super) fn write(picture: &Picture, names: Names<'_>) -> String {
    let mut out = String::from("digraph nattrace {\n");
    out.push_str("  rankdir=LR;\n  node [shape=box, style=rounded, fontname=\"sans-serif\"];\n");
    out.push_str("  edge [fontname=\"sans-serif\"];\n");
    for (index, lane) in picture.lanes.iter().enumerate() {
        let _ = writeln!(out, "  subgraph cluster_{index} {{\n    label={};", quoted(&[names.lane(lane)]));
        for (place, node) in &lane.nodes {
            let spot = spot(lane, *place);
            let drops = node.ended().contains_key(&EndKind::Dropped);
            let color = if drops { ", color=\"#b3261e\", penwidth=2" } else { "" };
            let _ = writeln!(out, "    {} [label={}{color}];", id(spot), quoted(&label(*place, node)));
        }
        out.push_str("  }\n");
    }
    for ((from, to), count) in &picture.edges {
        let _ = writeln!(out, "  {} -> {} [label=\"{count}\"];", id(*from), id(*to));
    }
    for lane in &picture.lanes {
        for (place, node) in &lane.nodes {
            ends(spot(lane, *place), node, &mut out);
        }
    }
    out.push_str("}\n");
    out
}

fn ends(spot: Spot, node: &Node, out: &mut String) {
    for (index, (end, count)) in node.ends.iter().enumerate() {
        let from = names::id(spot);
        let name = quoted(&[format!("{from}/end/{index}")]);
        let mut lines = vec![format!("{} {}", end.kind.sign(), end.text)];
        lines.extend(end.rule.clone());
        let color = if end.kind == EndKind::Dropped { ", fontcolor=\"#b3261e\"" } else { "" };
        let _ = writeln!(out, "  {name} [shape=plaintext, style=\"\", label={}{color}];", quoted(&lines));
        let _ = writeln!(out, "  {} -> {name} [label=\"{count}\", style=dashed];", id(spot));
    }
}

/// What is in a place's box.
fn label(place: Place, node: &Node) -> Vec<String> {
    let mut lines = vec![format!("{}: {}", place.name(), packets(node.packets))];
    lines.extend(node.devices.iter().map(|(name, count)| format!("{name}: {count}")));
    lines.extend(node.routes.iter().map(|(told, count)| format!("{told}: {count}")));
    for (rule, count) in node.rules.iter() {
        lines.push(format!("{}: {}: {count}", rule.chain, rule.text));
    }
    for (Rewritten { nat, from, to, .. }, count) in node.rewrites.iter() {
        lines.push(format!("⇒ {} {from} → {to}: {count}", nat.name().to_uppercase()));
    }
    lines
}

fn spot(lane: &Lane, place: Place) -> Spot {
    Spot { netns: lane.netns, layer: lane.layer, place }
}

fn id(spot: Spot) -> String {
    quoted(&[names::id(spot)])
}

/// A string of DOT with these lines. A backslash begins an escape in labels, and some of them stand for names of nodes:
/// there is none but those that end lines here.
fn quoted(lines: &[String]) -> String {
    let mut quoted = String::from("\"");
    for (index, line) in lines.iter().enumerate() {
        if index > 0 {
            quoted.push_str("\\n");
        }
        for c in escape(line).chars() {
            if matches!(c, '"' | '\\') {
                quoted.push('\\');
            }
            quoted.push(c);
        }
    }
    quoted.push('"');
    quoted
}
