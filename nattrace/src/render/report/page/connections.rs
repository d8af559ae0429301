//! Connections: who sent what when, and what became of it.

use std::collections::BTreeSet;

use maud::{Markup, html};
use nattrace_core::conntrack::Direction;
use nattrace_core::conversation::Conversation;
use nattrace_core::journey::{Journey, Outcome};

use super::{Context, packet, tables};
use crate::render::report::words::{Shown, packets};
use crate::render::report::{Report, is_troubled};
use crate::render::text::{header, words};

/// Connections whose packets are shown one below the other.
const MAX_LADDERS: usize = 100;
/// Of these the first ones are shown unfolded.
const UNFOLDED: usize = 3;
/// Connections that are printed.
const PRINTED: usize = 50;

/// The connections that these journeys belong to, in order.
pub(super) fn of<'a>(report: &Report, journeys: impl Iterator<Item = &'a Journey>) -> Vec<usize> {
    let found: BTreeSet<usize> =
        journeys.filter_map(|journey| report.known.get(&journey.conversation()?).copied()).collect();
    found.into_iter().collect()
}

/// Both ends of it, and where it really goes.
pub(super) fn ends(conversation: &Conversation) -> String {
    words::connection_ends(conversation.original, conversation.reply)
}

/// All of them, those that went wrong first.
pub(super) fn section(page: Context<'_>) -> Markup {
    let conversations = &page.report.conversations;
    let mut order: Vec<usize> = (0..conversations.len()).collect();
    order.sort_by_key(|index| !is_troubled(&conversations[*index]));
    html! {
        @if !conversations.is_empty() {
            section id="connections" aria-labelledby="connections-title" {
                h2 id="connections-title" { "Connections" }
                @for (at, index) in order.iter().enumerate() {
                    @let conversation = &conversations[*index];
                    details class={ "connection" @if at >= PRINTED { " screen" } } id={ "connection-" (index) } open[at < UNFOLDED] {
                        summary {
                            span class="title" { "⇄ " (Shown(&ends(conversation))) } " "
                            (Shown(&conversation.text)) " "
                            span class="soft" { (words::numbers(&conversation.journeys)) }
                        }
                        @for finding in &conversation.findings { (tables::finding(finding, None, true)) }
                        @if at < MAX_LADDERS { (ladder(conversation, page)) }
                        @else { (links(conversation, page)) }
                    }
                }
                @if page.report.more_conversations {
                    p class="soft" { "There were more connections, which have no room here." }
                }
                @if order.len() > PRINTED { p class="printed soft" { "The first " (PRINTED) " connections are on paper." } }
            }
        }
    }
}

fn links(conversation: &Conversation, page: Context<'_>) -> Markup {
    html! {
        p { @for id in &conversation.journeys { (packet(page, *id, None, &format!("#{id}"))) " " } }
    }
}

/// Packets one below the other, between the two ends: a table that looks like a sequence diagram.
fn ladder(conversation: &Conversation, page: Context<'_>) -> Markup {
    let mut packets: Vec<&Journey> =
        conversation.journeys.iter().filter_map(|id| page.listed.get(id).copied()).collect();
    packets.sort_by_key(|journey| (journey.first_seen_ns, journey.id));
    let first_ns = packets.first().map_or(0, |journey| journey.first_seen_ns);
    let all = conversation.sent.packets + conversation.answered.packets;
    let more = all.saturating_sub(packets.len() as u64);
    let server = conversation.reply.map_or(conversation.original.destination, |reply| reply.source);
    html! {
        div class="scroll" {
            table class="ladder" {
                caption class="hidden" { "Packets of the connection, in time" }
                thead {
                    tr {
                        th scope="col" class="number" { "Time" }
                        th scope="col" { "Packet" }
                        th scope="col" class="between" {
                            div class="ends3" {
                                span { (conversation.original.source.addr) }
                                span class="traced" { (Shown(&page.names.netns(conversation.netns))) }
                                span { (server.addr) }
                            }
                        }
                        th scope="col" { "What became of it" }
                    }
                }
                tbody { @for journey in &packets { (rung(journey, first_ns)) } }
            }
        }
        @if more > 0 { p class="soft" { "and " (self::packets(more)) " more, which have no room here" } }
    }
}

fn rung(journey: &Journey, first_ns: u64) -> Markup {
    let back = journey.connection.as_ref().and_then(|c| c.direction) == Some(Direction::Reply);
    let passed = match journey.outcome {
        Outcome::Transmitted { .. } | Outcome::Delivered => "through",
        Outcome::Dropped(_) => "dropped",
        Outcome::Queued | Outcome::Consumed | Outcome::Unfinished { .. } => "open",
    };
    let kind = header::kind(&journey.packet).unwrap_or_else(|| journey.packet.protocol_name().into_owned());
    let after = journey.first_seen_ns.saturating_sub(first_ns) / 1_000;
    let way = if back { "back" } else { "forth" };
    html! {
        tr class=(passed) {
            td class="number" { "+" (after / 1_000_000) "." (format!("{:06}", after % 1_000_000)) " s" }
            td { a href={ "#packet-" (journey.id.0) } { "#" (journey.id) } }
            td class="between" {
                div class={ "arrow " (way) " " (passed) } {
                    span class="what" {
                        @if back { span class="sign" { "← " } }
                        (Shown(&kind))
                        @if !back { span class="sign" { " →" } }
                    }
                    @if passed == "dropped" { span class="lost" aria-hidden="true" { "✗" } }
                }
            }
            td {
                @if let Some(first) = journey.retransmission_of {
                    span class="other" { "↻ retransmits #" (first) ": " }
                }
                span class=[(passed == "dropped").then_some("drop")] { (Shown(&words::end(journey))) }
            }
        }
    }
}
