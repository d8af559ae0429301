//! What is chosen: a packet's path and steps, or what came of a connection.

use ratatui::Frame;
use ratatui::layout::Rect;

use super::pages::page;
use super::paint::Paint;
use crate::render::layout::{Layout, Lines};
use crate::render::path::path;
use crate::render::style::{Role, Span};
use crate::render::text::Text;
use crate::tui::list::Row;
use crate::tui::model::{Drawn, Model, Pane, Screen};

/// Packets of a connection that are told one by one.
const TOLD: usize = 50;

pub(super) fn draw(model: &Model, paint: &Paint<'_>, area: Rect, frame: &mut Frame<'_>) -> Drawn {
    if area.height == 0 {
        return model.drawn_list();
    }
    let has_keys = model.pane == Pane::Detail || model.screen == Screen::Detail;
    let title = Span::new(if has_keys { Role::Title } else { Role::Label }, heading(model));
    let lines = lines(model, usize::from(area.width));
    Drawn { detail: true, ..page(model, &title, lines, paint, area, frame) }
}

fn heading(model: &Model) -> String {
    match model.chosen_row() {
        Some(Row::Packet(number)) => model
            .list
            .packet(number)
            .map_or_else(String::new, |packet| format!("packet #{}", packet.journey.id)),
        Some(Row::Connection(_)) => "connection".to_owned(),
        None => "nothing is chosen".to_owned(),
    }
}

fn lines(model: &Model, room: usize) -> Lines {
    match model.chosen_row() {
        Some(Row::Packet(number)) => packet(model, number, room),
        Some(Row::Connection(key)) => connection(model, key, room),
        None => Lines::default(),
    }
}

fn packet(model: &Model, number: u64, room: usize) -> Lines {
    let Some(packet) = model.list.packet(number) else { return Lines::default() };
    let journey = &packet.journey;
    let mut lines = Lines::default();
    Layout::new(Some(room)).paragraph(&path(journey, &model.namespaces), &mut lines);
    let earlier = journey.retransmission_of.and_then(|first| model.list.packet_of(first));
    let earlier = earlier.map(|(_, packet)| &packet.journey);
    lines.0.extend(Text::whole(journey, earlier, &model.zone, &model.namespaces, Some(room)).0);
    // Why nothing came of a packet that was let through is known of its connection alone.
    let connection = model.list.connection(packet.connection).and_then(|known| known.conversation.as_ref());
    let told = connection.map(|told| Text::new(model.zone.clone()).conversation(told, Some(room)));
    if let Some(told) = told.filter(|told| !told.0.is_empty()) {
        lines.blank();
        lines.0.extend(told.0);
    }
    lines
}

/// What came of it, and its packets as the text output tells them.
fn connection(model: &Model, key: u64, room: usize) -> Lines {
    let mut lines = Lines::default();
    let Some(connection) = model.list.connection(key) else { return lines };
    let mut text = Text::new(model.zone.clone());
    if let Some(conversation) = &connection.conversation {
        lines.0.extend(text.conversation(conversation, Some(room)).0);
    }
    let count = model.list.packets_of(key).count();
    for packet in model.list.packets_of(key).take(TOLD) {
        lines.0.extend(text.journey(&packet.journey, &model.namespaces, Some(room)).0);
    }
    if count > TOLD {
        lines.blank();
        lines.0.push(vec![Span::new(Role::Faint, format!("and {} more", count - TOLD))]);
    }
    lines
}
