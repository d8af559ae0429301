//! What keys do.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{Effect, Model, Pane, Prompt, Screen};
use crate::render::style::{Role, Span};
use crate::tui::keys::{self, Command};
use crate::tui::list::Row;
use crate::tui::pattern::Pattern;

impl Model {
    /// A key was pressed.
    pub(crate) fn key(&mut self, key: &KeyEvent) -> Effect {
        if key.modifiers.contains(KeyModifiers::ALT) {
            // No key does something with Alt: it was Esc and, quickly or over a slow line, another key.
            let escaped = self.key(&KeyEvent::new(KeyCode::Esc, KeyModifiers::NONE));
            let key = KeyEvent::new(key.code, key.modifiers.difference(KeyModifiers::ALT));
            return if escaped == Effect::None { self.key(&key) } else { escaped };
        }
        let command = keys::command(key);
        if key.modifiers.contains(KeyModifiers::CONTROL) && command == Some(Command::Quit) {
            return Effect::Quit;
        }
        (self.message, self.message_until) = (None, None);
        if let Some(prompt) = self.prompt.take() {
            self.type_into(prompt, key);
            return Effect::None;
        }
        match (command, self.screen) {
            (Some(Command::Quit), Screen::Both) => return Effect::Quit,
            (
                Some(Command::Quit | Command::Back),
                Screen::Fix | Screen::Help | Screen::Log | Screen::Causes | Screen::Detail,
            ) => {
                self.show(Screen::Both);
            }
            // It tells to press any key.
            (_, Screen::Fix) => self.show(Screen::Both),
            (Some(command), _) => return self.command(command),
            (None, _) => {}
        }
        Effect::None
    }

    fn command(&mut self, command: Command) -> Effect {
        match command {
            Command::Up => self.step(-1),
            Command::Down => self.step(1),
            Command::PageUp => self.page(-1),
            Command::PageDown => self.page(1),
            Command::First => self.step(isize::MIN),
            Command::Last => self.step(isize::MAX),
            Command::Fold => self.fold(true),
            Command::Unfold => self.fold(false),
            Command::FoldAll => {
                self.list.fold_all();
                self.refresh();
            }
            Command::OtherPane => {
                self.pane = if self.pane == Pane::List { Pane::Detail } else { Pane::List };
            }
            Command::Whole if self.screen == Screen::Causes => self.go_to_cause(),
            Command::Whole => self.show(Screen::Detail),
            Command::Back if self.pane == Pane::Detail => self.pane = Pane::List,
            Command::Back => self.filter(""),
            Command::Filter => {
                self.show(Screen::Both);
                self.prompt = Some(Prompt::Filter(self.list.filtered_by().typed().to_owned()));
            }
            Command::Search => {
                self.show(Screen::Both);
                self.search = Pattern::default();
                self.prompt = Some(Prompt::Search(self.chosen_row));
            }
            Command::Next => self.find(1),
            Command::Previous => self.find(-1),
            Command::Pause => self.paused = !self.paused,
            Command::Follow => {
                self.follow = !self.follow;
                self.by_user = true;
                self.refresh();
            }
            Command::Causes => {
                self.cause = 0;
                self.show(Screen::Causes);
            }
            Command::Copy => return self.copy(),
            Command::Log => self.show(Screen::Log),
            Command::Help => self.show(Screen::Help),
            Command::Quit => return Effect::Quit,
        }
        Effect::None
    }

    fn show(&mut self, screen: Screen) {
        self.screen = screen;
        self.text_top = 0;
    }

    fn fold(&mut self, folded: bool) {
        let Some(key) = self.chosen_row.and_then(|row| self.list.connection_of(row)) else { return };
        self.list.fold(key, folded);
        self.refresh();
    }

    fn copy(&mut self) -> Effect {
        let Some(row) = self.chosen_row else { return Effect::None };
        let Some((of, fix)) = self.list.fix(row) else {
            self.message = Some(Span::new(Role::Plain, "no command is known that would mend it"));
            return Effect::None;
        };
        self.look_at(of.clone(), fix.clone());
        let commands = fix.join("\n");
        self.fix = Some((of, fix));
        self.show(Screen::Fix);
        Effect::Copy(commands)
    }

    /// The first packet that was dropped so.
    fn go_to_cause(&mut self) {
        let Some(cause) = self.sums.causes.get(self.cause) else { return };
        let first = cause.first;
        let Some((number, packet)) = self.list.packet_of(first) else {
            self.message = Some(Span::new(Role::Plain, format!("#{first} is not kept any more")));
            return;
        };
        let connection = packet.connection;
        self.list.fold(connection, false);
        if !self.list.filtered_by().is_empty() {
            self.list.filter(Pattern::default());
        }
        self.follow = false;
        self.by_user = true;
        self.chosen_row = Some(Row::Packet(number));
        self.refresh();
        self.show(Screen::Both);
    }

    /// Moves in what has the keys.
    pub(super) fn step(&mut self, by: isize) {
        match self.screen {
            Screen::Both if self.pane == Pane::List => {
                let last = self.rows.len().saturating_sub(1);
                self.choose(self.chosen.saturating_add_signed(by).min(last));
            }
            Screen::Causes => {
                let last = self.sums.causes.len().saturating_sub(1);
                self.cause = self.cause.saturating_add_signed(by).min(last);
            }
            Screen::Both | Screen::Detail | Screen::Log | Screen::Help | Screen::Fix => {
                let last = self.drawn.text_lines.saturating_sub(self.drawn.text);
                self.text_top = self.text_top.saturating_add_signed(by).min(last);
            }
        }
    }

    fn page(&mut self, way: isize) {
        let in_list = self.screen == Screen::Both && self.pane == Pane::List;
        let height = if in_list { self.drawn.list } else { self.drawn.text };
        // One line of the old page stays for the eye.
        let by = isize::try_from(height.saturating_sub(1).max(1)).unwrap_or(1);
        self.step(by * way);
    }
}
