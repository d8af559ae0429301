//! Findings: why packets were dropped, or not answered, each with its picture; and the picture of all packets.

use maud::{Markup, html};
use nattrace_core::conversation::Conversation;
use nattrace_core::findings::Total;
use nattrace_core::journey::Journey;

use super::{Context, connections, packet, tables};
use crate::render::report::picture::Picture;
use crate::render::report::svg::Drawing;
use crate::render::report::words::{Shown, number, packets};
use crate::render::report::{Group, MAX_CAUSES, MAX_GROUPS};

/// Connections that have a finding of their own and are told with a picture; the others stand among the connections.
const MAX_SILENT: usize = 10;
/// Connections that a cause names.
const NAMED: usize = 5;

/// All of them, and the picture of the whole where it says more.
pub(super) fn section(page: Context<'_>) -> Markup {
    let causes = &page.summary.causes;
    let silent: Vec<(usize, &Conversation)> = page
        .report
        .conversations
        .iter()
        .enumerate()
        .filter(|(_, conversation)| !conversation.findings.is_empty())
        .collect();
    let shown = causes.iter().take(MAX_CAUSES);
    let one_is_all = matches!(causes.as_slice(), [one] if one.count == page.summary.journeys.total());
    html! {
        section id="findings" aria-labelledby="findings-title" {
            h2 id="findings-title" { "Findings" }
            @if causes.is_empty() && silent.is_empty() {
                p { (nothing(page)) }
            }
            @for (index, total) in shown.enumerate() {
                (cause(page, index + 1, total, page.report.drops.get(&total.first)))
            }
            @if causes.len() > MAX_CAUSES {
                h3 { "And " (number((causes.len() - MAX_CAUSES) as u64, "more cause")) }
                ul { @for total in causes.iter().skip(MAX_CAUSES).take(100) { li { (total.count) " dropped by " (Shown(&total.text)) } } }
            }
            @for (number, (index, conversation)) in silent.iter().take(MAX_SILENT).enumerate() {
                (unanswered(page, number + 1, *index, conversation))
            }
            @if silent.len() > MAX_SILENT {
                p { "And " (number((silent.len() - MAX_SILENT) as u64, "more connection")) " that nothing came of, below." }
            }
        }
        @if !one_is_all && page.report.whole.packets > 0 {
            section id="all" aria-labelledby="all-title" {
                h2 id="all-title" { "Where the packets went" }
                (figure(page, &page.report.whole, "whole"))
            }
        }
    }
}

fn nothing(page: Context<'_>) -> &'static str {
    if page.summary.journeys.total() == 0 { "No packet matched." } else { "No packet was dropped." }
}

fn cause(page: Context<'_>, number: usize, total: &Total, group: Option<&Group>) -> Markup {
    let id = format!("cause-{number}");
    let listed = page.report.journeys.iter().filter(|kept| kept.cause == Some(total.first));
    let talks = connections::of(page.report, listed.map(|kept| &kept.journey));
    html! {
        article class="cause" id=(id) aria-labelledby={ (id) "-title" } {
            h3 id={ (id) "-title" } {
                span class="drop" { "✗ " (total.count) " dropped" } " by " (Shown(&total.text)) " "
                (packet(page, total.first, Some("soft"), &format!("from #{} on", total.first)))
            }
            @if let Some(group) = group {
                @for (finding, count) in group.findings.iter() {
                    (tables::finding(finding, (count != total.count).then_some(count), true))
                }
                @if group.findings.others() > 0 {
                    p class="soft" { "and other reasons for " (packets(group.findings.others())) }
                }
            } @else {
                p class="soft" { "It came after " (MAX_GROUPS) " other causes: no picture is made of it." }
            }
            @if !talks.is_empty() {
                p class="to-connections" {
                    "Connections: "
                    @for (at, index) in talks.iter().take(NAMED).enumerate() {
                        @if at > 0 { ", " }
                        a href={ "#connection-" (index) } { (Shown(&connections::ends(&page.report.conversations[*index]))) }
                    }
                    // How many there are is not known where some had no room.
                    @if page.report.more_conversations { ", and more" }
                    @else if talks.len() > NAMED { ", and " (talks.len() - NAMED) " more" }
                }
            }
            @if let Some(group) = group { (figure(page, &group.picture, &id)) }
        }
    }
}

fn unanswered(page: Context<'_>, number: usize, index: usize, conversation: &Conversation) -> Markup {
    let id = format!("silent-{number}");
    let journeys: Vec<&Journey> =
        conversation.journeys.iter().filter_map(|id| page.listed.get(id).copied()).collect();
    html! {
        article class="cause" id=(id) aria-labelledby={ (id) "-title" } {
            h3 id={ (id) "-title" } {
                a href={ "#connection-" (index) } { "⇄ " (Shown(&connections::ends(conversation))) } " "
                span class="warn" { (Shown(&conversation.text)) }
            }
            @for finding in &conversation.findings { (tables::finding(finding, None, true)) }
            @let all = conversation.sent.packets + conversation.answered.packets;
            @if (journeys.len() as u64) < all {
                p class="soft" { "The picture is of " (journeys.len()) " of its " (packets(all)) "." }
            }
            (figure(page, &Picture::of(journeys), &id))
        }
    }
}

/// A picture, and what it shows in words.
fn figure(page: Context<'_>, picture: &Picture, id: &str) -> Markup {
    html! {
        div class="shown" {
            figure {
                div class="scroll" { (Drawing::new(picture, page.names).in_page(id)) }
                figcaption {
                    "Numbers at arrows are packets. " span class="dot" aria-hidden="true" {} " nothing was seen there. "
                    span class="nat" { "⇒" } " rewritten. A hook opens its rules."
                    @if picture.beyond > 0 {
                        " " (packets(picture.beyond)) " went through further namespaces that are not drawn."
                    }
                }
            }
            div class="hooks" { (tables::hooks(picture, page.names, id)) }
            (tables::table(picture, page.names))
        }
    }
}
