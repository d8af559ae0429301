//! A picture as SVG: in a page, where its colours are the page's, or alone.

mod edges;
mod geometry;
mod nodes;

use maud::{Markup, PreEscaped, html};

use super::names::Names;
use super::picture::{Lane, Picture, Place};
use super::words::{Shown, packets};
use crate::render::escape::escape;
use edges::Tracks;
use geometry::{LANE_LEFT, LANE_WIDTH, Rows, WIDTH};

/// Colours, and how pictures use them.
pub(super) const THEME: &str = include_str!("../theme.css");
pub(super) const STYLE: &str = include_str!("../picture.css");

/// Lanes with their places on the paper.
pub(super) struct Drawing<'a> {
    picture: &'a Picture,
    names: Names<'a>,
    rows: Vec<Rows>,
    tracks: Tracks,
    height: i32,
}

impl<'a> Drawing<'a> {
    /// Sets everything in its place.
    pub(super) fn new(picture: &'a Picture, names: Names<'a>) -> Self {
        let tracks = Tracks::new(picture);
        let mut rows = Vec::new();
        let mut top = 4;
        for (index, lane) in picture.lanes.iter().enumerate() {
            top += tracks.above(index);
            let lower = [Place::Input, Place::Output, Place::Local, Place::RouteOut, Place::Unknown];
            let whole = picture.lanes.len() == 1 || lower.iter().any(|place| lane.nodes.contains_key(place));
            let lane_rows = Rows::new(top, nodes::room(lane), whole);
            top = lane_rows.bottom + 10;
            rows.push(lane_rows);
        }
        Self { picture, names, rows, tracks, height: top.max(40) }
    }

    /// For a page: `id` begins what its hooks are called there; each links to what is said of it.
    pub(super) fn in_page(&self, id: &str) -> Markup {
        html! {
            svg class="picture" id={ (id) "-picture" } role="group" xmlns="http://www.w3.org/2000/svg"
                viewBox=(self.view()) aria-labelledby={ (id) "-picture-title " (id) "-picture-desc" } {
                title id={ (id) "-picture-title" } { (self.title()) }
                desc id={ (id) "-picture-desc" } { (self.description()) }
                (self.body(id, true))
            }
        }
    }

    /// A file of its own.
    pub(super) fn alone(&self) -> Markup {
        html! {
            (PreEscaped("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"))
            svg class="picture" role="img" xmlns="http://www.w3.org/2000/svg"
                width=(WIDTH) height=(self.height) viewBox={ "0 0 " (WIDTH) " " (self.height) }
                aria-labelledby="title desc" {
                title id="title" { (self.title()) }
                desc id="desc" { (self.description()) }
                style { (PreEscaped(THEME)) (PreEscaped(STYLE)) }
                rect class="paper" width=(WIDTH) height=(self.height) {}
                (self.body("picture", false))
            }
            (PreEscaped("\n"))
        }
    }

    fn body(&self, id: &str, links: bool) -> Markup {
        html! {
            defs {
                marker id={ (id) "-arrow" } viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8"
                    markerUnits="userSpaceOnUse" orient="auto" {
                    path class="head" d="M0 0.5 8 4 0 7.5z" {}
                }
            }
            @if self.picture.lanes.is_empty() {
                text class="name" x="24" y="26" { "No packet." }
            }
            @for (lane, rows) in self.lanes() {
                (self.frame(lane, rows))
            }
            (edges::draw(self, id))
            @for (index, (lane, rows)) in self.lanes().enumerate() {
                @let prefix = links.then(|| format!("{id}-{index}"));
                (nodes::draw(lane, rows, prefix.as_deref()))
            }
        }
    }

    /// Without the room at the sides where no way needs it.
    fn view(&self) -> String {
        let (left, width) = if self.tracks.is_empty() { (LANE_LEFT - 1, LANE_WIDTH + 2) } else { (0, WIDTH) };
        format!("{left} 0 {width} {}", self.height)
    }

    fn lanes(&self) -> impl Iterator<Item = (&'a Lane, &Rows)> {
        self.picture.lanes.iter().zip(&self.rows)
    }

    fn frame(&self, lane: &Lane, rows: &Rows) -> Markup {
        let height = rows.bottom - rows.top;
        html! {
            rect class="lane" x=(LANE_LEFT) y=(rows.top) width=(LANE_WIDTH) height=(height) rx="8" {}
            text class="lane-name" x=(LANE_LEFT + 14) y=(rows.top + 18) { (Shown(&self.names.lane(lane))) }
        }
    }

    fn title(&self) -> String {
        format!("The way of {} through netfilter", packets(self.picture.packets))
    }

    fn description(&self) -> String {
        let mut ends = Vec::new();
        for lane in &self.picture.lanes {
            for (place, node) in &lane.nodes {
                for (kind, count) in node.ended() {
                    ends.push(format!(
                        "{count} {} at {} of {}",
                        kind.name(),
                        place.name(),
                        self.names.lane(lane)
                    ));
                }
            }
        }
        escape(&format!("{}.", ends.join("; "))).into_owned()
    }
}
