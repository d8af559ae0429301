//! The page: findings first, then where the packets went, what came of connections, and each packet.
//!
//! It is read without a script, too: what the script adds is a filter, steps of packets that have no room in the page's
//! own text, and hooks that open what is said of them.

mod causes;
mod connections;
mod data;
mod packets;
mod tables;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeMap;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use nattrace_core::journey::{Journey, JourneyId};
use sha2::{Digest as _, Sha256};

use super::Report;
use super::names::Names;
use super::svg::{STYLE, THEME};
use super::words::Shown;
use crate::render::filter::filter_flags;
use crate::render::namespaces::Namespaces;
use crate::render::run::{SourceState, Summary};
use crate::render::style::{Role, Span};
use crate::render::text::words;

const PAGE: &str = include_str!("../page.css");
const SCRIPT: &str = include_str!("../page.js");

/// What parts of the page are made from.
#[derive(Clone, Copy)]
struct Context<'a> {
    report: &'a Report,
    summary: &'a Summary,
    namespaces: &'a Namespaces,
    names: Names<'a>,
    /// The packets that are listed.
    listed: &'a BTreeMap<JourneyId, &'a Journey>,
}

/// The whole page.
pub(super) fn write(report: &Report, summary: &Summary, namespaces: &Namespaces) -> String {
    let names = Names(namespaces);
    let listed = report.journeys.iter().map(|kept| (kept.journey.id, &kept.journey)).collect();
    let page = Context { report, summary, namespaces, names, listed: &listed };
    let style = [THEME, STYLE, PAGE].concat();
    // Nothing is loaded from anywhere, and no other script or style than these is obeyed.
    let policy = format!(
        "default-src 'none'; style-src {}; script-src {}; base-uri 'none'; form-action 'none'",
        hash(&style),
        hash(SCRIPT)
    );
    let lines = words::summary(summary);
    let sum: String = lines.first().into_iter().flatten().map(Span::text).collect();
    let mut steps = data::Steps::default();
    let packets = packets::section(page, &mut steps);
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="referrer" content="no-referrer";
                meta name="generator" content={ "nattrace " (env!("CARGO_PKG_VERSION")) };
                title { "nattrace: " (sum) }
                style { (PreEscaped(&style)) }
            }
            body {
                a class="skip" href="#findings" { "Skip to the findings" }
                (header(page))
                main {
                    (causes::section(page))
                    (connections::section(page))
                    (packets)
                }
                footer {
                    p {
                        "Made by nattrace " (env!("CARGO_PKG_VERSION")) ". This page is one file: it loads nothing, and sends nothing."
                    }
                }
                (steps.script())
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    markup.into_string()
}

/// A packet by its number, with a link where it is listed.
fn packet(page: Context<'_>, id: JourneyId, class: Option<&str>, text: &str) -> Markup {
    html! {
        @if page.listed.contains_key(&id) { a class=[class] href={ "#packet-" (id.0) } { (text) } }
        @else { span class=[class] { (text) } }
    }
}

/// As a content security policy names a text (<https://www.w3.org/TR/CSP3/#grammardef-hash-source>).
fn hash(text: &str) -> String {
    format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text.as_bytes())))
}

/// The sum, and what was looked at.
fn header(page: Context<'_>) -> Markup {
    let mut lines = words::summary(page.summary).into_iter();
    let sum = lines.next().unwrap_or_default();
    html! {
        header class="top" {
            p class="kind" { "nattrace report" }
            h1 { @for span in &sum { (span) } }
            dl class="run" {
                @if let Some((first, last)) = times(page.report) {
                    div { dt { "Seen" } dd { (first) " to " (last) } }
                }
                @if let Some(start) = &page.report.start {
                    @let flags = filter_flags(&start.filter);
                    @if !flags.is_empty() {
                        div {
                            dt { "Filter" }
                            dd {
                                @for (flag, values) in &flags {
                                    code { "--" (flag) " " (Shown(&values.join(","))) } " "
                                }
                            }
                        }
                    }
                    @if let Some(kernel) = &start.kernel {
                        div { dt { "Kernel" } dd { (Shown(kernel)) } }
                    }
                    @for (source, state) in &start.sources {
                        @if let SourceState::Off(why) = state {
                            div { dt { "Without " (source.name()) } dd { (Shown(why)) } }
                        }
                    }
                }
            }
            @for line in lines.filter(|line| !is_cause(line)) {
                p class="note" { @for span in &line { (span) } }
            }
            @for (loss, journeys) in &page.report.losses {
                p class="note" {
                    span class="warn" { "! LOST" } " "
                    (Shown(&words::loss(loss, journeys, &page.report.zone)))
                }
            }
        }
    }
}

/// The page tells the causes itself.
fn is_cause(line: &[Span]) -> bool {
    line.first().is_some_and(|span| span.role == Role::Drop)
}

/// When the first packet was seen, and the last, as far as they are listed.
fn times(report: &Report) -> Option<(String, String)> {
    let first = report.journeys.iter().map(|kept| kept.journey.first_seen_ns).min()?;
    let last = report.journeys.iter().map(|kept| kept.journey.last_seen_ns).max()?;
    let (begin, end) = (words::date(first, &report.zone), words::date(last, &report.zone));
    let time = |ns| words::time_of_day(ns, &report.zone);
    let end = if begin == end { time(last) } else { format!("{end} {}", time(last)) };
    Some((format!("{begin} {}", time(first)), end))
}
