//! What a picture shows, in words: the rules of each hook, and the picture as a table.

use maud::{Markup, html};
use nattrace_core::findings::Finding;

use crate::render::report::names::Names;
use crate::render::report::picture::{EndKind, Node, Picture, Place, RuleLine, Spot};
use crate::render::report::words::{Shown, number, packets};
use crate::render::text::{restates_end, words};

/// Each hook's rules, behind its name; `id` as in the drawing.
pub(super) fn hooks(picture: &Picture, names: Names<'_>, id: &str) -> Markup {
    html! {
        @for (index, lane) in picture.lanes.iter().enumerate() {
            @for (place, node) in lane.nodes.iter().filter(|(place, _)| place.is_hook()) {
                details class="hook" id={ (id) "-" (index) "-" (place.id()) } {
                    summary {
                        span class="hook-name" { (place.name()) }
                        @if picture.lanes.len() > 1 { " " span class="soft" { (Shown(&names.lane(lane))) } }
                        @let rules = node.rules.iter().filter(|(rule, _)| rule.in_chain.is_some()).count() as u64;
                        span class="soft" { " " (packets(node.packets)) @if rules > 0 { ", " (number(rules, "rule")) } }
                        (sum(node))
                    }
                    (hook(node))
                }
            }
        }
    }
}

fn sum(node: &Node) -> Markup {
    html! {
        @for (kind, count) in node.ended() {
            @let class = match kind {
                EndKind::Dropped => "drop",
                EndKind::Delivered | EndKind::Sent => "pass",
                _ => "other",
            };
            " " span class=(class) { (kind.sign()) " " (count) " " (kind.name()) }
        }
    }
}

fn hook(node: &Node) -> Markup {
    html! {
        @if node.rules.is_empty() && node.near.is_empty() {
            p class="soft" { "No rule matched here." }
        } @else {
            div class="scroll" {
                table class="rules" {
                    caption { "Rules" }
                    thead {
                        tr { th scope="col" class="number" { "Packets" } th scope="col" { "Chain" } th scope="col" { "Rule" } th scope="col" { "Verdict" } }
                    }
                    tbody {
                        @for (rule, count) in node.rules.iter() { (rule_row(rule, count, false)) }
                        @for (rule, count) in node.near.iter() { (rule_row(rule, count, true)) }
                    }
                }
            }
            (left_out(node.rules.others(), "match of other rules", "matches of other rules"))
        }
        @if !node.rewrites.is_empty() { (rewrites(node)) }
        @for (finding, count) in node.findings.iter().filter(|(finding, _)| !restates_end(finding)) {
            // What to type stands with the cause.
            (self::finding(finding, (count != node.packets).then_some(count), false))
        }
        @let ends: Vec<_> = node.ends.iter().collect();
        @if !ends.is_empty() {
            ul class="ends" {
                @for (end, count) in ends {
                    li { (packets(count)) ": " (Shown(&end.text)) }
                }
            }
            (left_out(node.ends.others(), "other end", "other ends"))
        }
    }
}

/// `near`: it would have done otherwise; the finding says why it did not.
fn rule_row(rule: &RuleLine, count: u64, near: bool) -> Markup {
    let class = match (near, rule.drops) {
        (true, _) => "near",
        (_, true) => "drops",
        _ => "matched",
    };
    html! {
        tr class=(class) {
            td class="number" { (count) }
            td { (Shown(&rule.chain)) @if let Some(handle) = &rule.in_chain { " " span class="soft" { (Shown(handle)) } } }
            td { code { (Shown(&rule.text)) } }
            td {
                @match &rule.verdict {
                    _ if near => span class="warn" { "≈ did not match, or was not come to: see the finding" },
                    Some(verdict) if rule.drops => span class="drop" { "✗ " (Shown(verdict)) },
                    Some(verdict) => (Shown(verdict)),
                    None => span class="soft" { "not known" },
                }
            }
        }
    }
}

fn rewrites(node: &Node) -> Markup {
    html! {
        div class="scroll" {
            table class="rewrites" {
                caption { "Rewrites" }
                thead {
                    tr { th scope="col" class="number" { "Packets" } th scope="col" { "Kind" } th scope="col" { "From" } th scope="col" { "To" } th scope="col" { "Decided" } }
                }
                tbody {
                    @for (rewritten, count) in node.rewrites.iter() {
                        tr {
                            td class="number" { (count) }
                            td class="nat" {
                                (rewritten.nat.name().to_uppercase())
                                @if rewritten.inner { " in the packet it quotes" }
                            }
                            td { (rewritten.from) }
                            td { (rewritten.to) }
                            td {
                                (Shown(&rewritten.by))
                                @if let Some(rule) = &rewritten.rule {
                                    @if let Some(handle) = &rule.in_chain { " " span class="soft" { (Shown(handle)) } }
                                    @if !rule.text.is_empty() { br; code { (Shown(&rule.text)) } }
                                }
                            }
                        }
                    }
                }
            }
        }
        (left_out(node.rewrites.others(), "other rewrite", "other rewrites"))
    }
}

/// A finding, with its fix or without; `count` where it is not that of all packets here.
pub(super) fn finding(finding: &Finding, count: Option<u64>, fix: bool) -> Markup {
    html! {
        dl class="finding" {
            dt { (words::certainty(finding.certainty)) }
            dd {
                (Shown(&finding.text))
                @if let Some(count) = count { " " span class="soft" { "(" (packets(count)) ")" } }
            }
            @if fix && !finding.fix.is_empty() {
                dt { "fix" }
                dd class="fix" {
                    pre { code { @for (line, command) in finding.fix.iter().enumerate() { @if line > 0 { "\n" } (Shown(command)) } } }
                }
            }
        }
    }
}

fn left_out(count: u64, one: &str, many: &str) -> Markup {
    html! {
        @if count > 0 {
            p class="soft" { "and " (count) " " (if count == 1 { one } else { many }) ", which have no room here" }
        }
    }
}

/// All that the picture shows, for those who do not see it.
pub(super) fn table(picture: &Picture, names: Names<'_>) -> Markup {
    html! {
        details class="as-table" {
            summary { "The picture as a table" }
            div class="scroll" {
                table {
                    caption { "Where the packets went" }
                    thead {
                        tr { th scope="col" { "Place" } th scope="col" class="number" { "Packets" } th scope="col" { "Went on to" } th scope="col" { "What happened there" } }
                    }
                    tbody {
                        @for lane in &picture.lanes {
                            @for (place, node) in &lane.nodes {
                                @let spot = Spot { netns: lane.netns, layer: lane.layer, place: *place };
                                tr {
                                    th scope="row" { (Shown(&names.spot(spot))) }
                                    td class="number" { (node.packets) }
                                    td { ul { @for (to, count) in onward(picture, spot) { li { (count) " to " (Shown(&names.spot(to))) } } } }
                                    td { (happened(*place, node)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn onward(picture: &Picture, spot: Spot) -> impl Iterator<Item = (Spot, u64)> {
    picture.edges.iter().filter(move |((from, _), _)| *from == spot).map(|((_, to), count)| (*to, *count))
}

fn happened(place: Place, node: &Node) -> Markup {
    html! {
        ul {
            @for (name, count) in node.devices.iter() {
                li { (count) " " (if place == Place::DeviceIn { "in" } else { "out" }) " " (Shown(name)) }
            }
            @for (told, count) in node.routes.iter() { li { (count) " " (Shown(told)) } }
            @for (rewritten, count) in node.rewrites.iter() {
                li { (count) " " (rewritten.nat.name().to_uppercase()) " " (rewritten.from) " → " (rewritten.to) }
            }
            @if !node.rules.is_empty() { li { (number(node.rules.iter().len() as u64, "rule")) " matched" } }
            @for (taker, count) in node.takers.iter() { li { (count) " delivered " (Shown(taker)) } }
            @for (end, count) in node.ends.iter().filter(|(end, _)| end.kind != EndKind::Delivered) {
                li { (count) " " (Shown(&end.text)) }
            }
        }
    }
}
