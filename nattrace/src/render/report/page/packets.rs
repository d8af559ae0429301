//! Each packet, with its steps in the words of the text form.

use maud::{Markup, html};
use nattrace_core::journey::Journey;

use super::Context;
use super::data::Steps;
use crate::render::layout::Row;
use crate::render::report::picture::EndKind;
use crate::render::report::words::{Shown, packets};
use crate::render::report::{Kept, MAX_CAUSES};
use crate::render::text::{self, Earlier, header, words};

/// Packets whose steps stand in the page's own text; the script has the others'.
const WRITTEN: usize = 100;
/// Packets that are set together: those out of sight cost nothing.
const CHUNK: usize = 50;
/// So many times these are printed.
const PRINTED: usize = 2;

/// The list. The steps that the page itself does not have go to `steps`.
pub(super) fn section(page: Context<'_>, steps: &mut Steps) -> Markup {
    let listed = &page.report.journeys;
    let left_out = page.report.whole.packets - listed.len() as u64;
    let mut list = List { page, steps, earlier: Earlier::default(), written: 0 };
    html! {
        section id="packets" aria-labelledby="packets-title" {
            h2 id="packets-title" { "Packets" }
            @if left_out > 0 {
                p class="note" { "The first " (listed.len()) " are listed; " (packets(left_out)) " more are in the sums and pictures." }
            }
            form class="filter" id="filter" hidden {
                label for="filter-text" { "Filter" }
                input type="search" id="filter-text" autocomplete="off" spellcheck="false"
                    placeholder="address, port, rule, #number …";
                label for="filter-end" { "Ended" }
                select id="filter-end" {
                    option value="" { "any way" }
                    @for (value, name) in ends(page) { option value=(value) { (Shown(&name)) } }
                }
                output for="filter-text filter-end" id="filter-count" {}
            }
            @if listed.len() > PRINTED * CHUNK {
                p class="printed soft" { "The first " (PRINTED * CHUNK) " packets are on paper." }
            }
            @for (at, chunk) in listed.chunks(CHUNK).enumerate() {
                // Only what is far away, and of known height.
                @let far = at > 0 && chunk.len() == CHUNK;
                div class={ "chunk" @if far { " far" } @if at >= PRINTED { " screen" } } { @for kept in chunk { (list.packet(kept)) } }
            }
        }
    }
}

/// What can be chosen: how packets ended, and for which cause.
fn ends(page: Context<'_>) -> Vec<(String, String)> {
    let tally = page.summary.journeys;
    let kinds = [
        (EndKind::Dropped, tally.dropped),
        (EndKind::Delivered, tally.delivered),
        (EndKind::Sent, tally.transmitted),
        (EndKind::Queued, tally.queued),
        (EndKind::Consumed, tally.consumed),
        (EndKind::Unfinished, tally.unfinished),
    ];
    let kinds = kinds.into_iter().filter(|(_, count)| *count > 0);
    let mut ends: Vec<_> = kinds.map(|(kind, _)| (kind.name().to_owned(), kind.name().to_owned())).collect();
    if page.summary.causes.len() > 1 {
        let shown = page.summary.causes.iter().take(MAX_CAUSES);
        ends.extend(
            shown.map(|total| (format!("cause-{}", total.first), format!("dropped by {}", total.text))),
        );
    }
    ends
}

struct List<'a> {
    page: Context<'a>,
    steps: &'a mut Steps,
    earlier: Earlier,
    written: usize,
}

impl List<'_> {
    fn packet(&mut self, kept: &Kept) -> Markup {
        let journey = &kept.journey;
        let repeats = self.repeats(journey);
        let rows = self.rows(journey);
        let write = repeats.is_none() && self.written < WRITTEN;
        let steps = (!write).then(|| self.steps.add(&rows));
        self.written += usize::from(write);
        self.earlier.remember(journey);
        let end = EndKind::of(journey);
        let class = match end {
            EndKind::Dropped => "drop",
            EndKind::Delivered | EndKind::Sent => "pass",
            EndKind::Queued | EndKind::Consumed => "other",
            EndKind::Unfinished => "warn",
        };
        html! {
            details class="packet" id={ "packet-" (journey.id.0) } data-end=(end.name())
                data-cause=[kept.cause] data-steps=[steps] {
                summary {
                    span class="which" { @for span in header::left(journey) { (span) } }
                    span class="where soft" {
                        @for span in header::right(journey, self.page.namespaces, &self.page.report.zone) { (span.text()) }
                    }
                    span class={ "end " (class) } {
                        (end.sign()) " " @match &repeats { Some(told) => (Shown(told)), None => (Shown(&words::end(journey))) }
                    }
                }
                @if write { (table(&rows)) }
            }
        }
    }

    /// What a packet that did what an earlier one did is told as.
    fn repeats(&self, journey: &Journey) -> Option<String> {
        match (journey.retransmission_of, journey.like) {
            (Some(first), _) if journey.same_path => Some(self.earlier.repetition(journey, first)),
            (None, Some(first)) if journey.incomplete.is_empty() => {
                Some(format!("like #{first}: {}", words::end(journey)))
            }
            _ => None,
        }
    }

    fn rows(&self, journey: &Journey) -> Vec<Row> {
        let mut rows = Vec::new();
        if let Some(first) = journey.retransmission_of.filter(|_| !journey.same_path) {
            rows.push(text::again(self.earlier.difference(journey, first)));
        }
        rows.extend(text::rows(journey, self.page.namespaces));
        for finding in journey.findings.iter().filter(|finding| !text::restates_end(finding)) {
            let (why, fix) = text::finding_rows(finding);
            rows.push(why);
            rows.extend(fix);
        }
        rows
    }
}

/// A packet's rows; the script makes the same of those that it has.
fn table(rows: &[Row]) -> Markup {
    html! {
        div class="scroll" {
            table class="steps" {
                tbody {
                    @for row in rows {
                        tr {
                            @if row.label.text().is_empty() { td {} } @else { th scope="row" { (row.label) } }
                            @if let Some(place) = &row.place {
                                td class="place" { (place.text()) }
                                td { @for span in &row.text { (span) } }
                            } @else {
                                td colspan="2" { @for span in &row.text { (span) } }
                            }
                        }
                    }
                }
            }
        }
    }
}
