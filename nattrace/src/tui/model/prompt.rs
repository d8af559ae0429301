//! Filter and search: text that is typed, and what is found.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{Model, Prompt};
use crate::render::style::{Role, Span};
use crate::tui::pattern::Pattern;

impl Model {
    /// Text is typed: what is sought is looked for with every letter.
    pub(super) fn type_into(&mut self, mut prompt: Prompt, key: &KeyEvent) {
        let searching = matches!(prompt, Prompt::Search(_));
        let mut typed =
            if searching { self.search.typed() } else { self.list.filtered_by().typed() }.to_owned();
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Enter => {
                if searching
                    && !self.search.is_empty()
                    && !self.rows.iter().any(|row| self.list.fits(*row, &self.search))
                {
                    self.message = Some(not_found(&self.search));
                }
                return;
            }
            KeyCode::Esc => {
                match &mut prompt {
                    Prompt::Filter(before) => {
                        let before = std::mem::take(before);
                        self.filter(&before);
                    }
                    Prompt::Search(from) => {
                        self.search = Pattern::default();
                        if let Some(index) = from.and_then(|from| self.index_of(from)) {
                            self.choose(index);
                        }
                    }
                }
                return;
            }
            KeyCode::Up => self.step(-1),
            KeyCode::Down => self.step(1),
            KeyCode::Backspace => drop(typed.pop()),
            KeyCode::Char('u') if control => typed.clear(),
            KeyCode::Char('w') if control => {
                let end = typed.trim_end().rfind(' ').map_or(0, |space| space + 1);
                typed.truncate(end);
            }
            KeyCode::Char(c) if !control => typed.push(c),
            _ => {}
        }
        match &prompt {
            Prompt::Filter(_) if typed != self.list.filtered_by().typed() => self.filter(&typed),
            Prompt::Search(from) if typed != self.search.typed() => {
                self.search = Pattern::new(&typed);
                let from = from.and_then(|from| self.index_of(from)).unwrap_or(0);
                if !self.search.is_empty()
                    && let Some(found) = self.found_from(from, 1)
                {
                    self.choose(found);
                }
            }
            _ => {}
        }
        self.prompt = Some(prompt);
    }

    pub(super) fn filter(&mut self, typed: &str) {
        self.list.filter(Pattern::new(typed));
        self.refresh();
    }

    /// The next row that fits what is searched, from this one on, all around.
    fn found_from(&self, from: usize, way: isize) -> Option<usize> {
        let count = self.rows.len();
        (0..count).find_map(|step| {
            let at = if way > 0 { (from + step) % count } else { (from + count - step) % count };
            self.list.fits(self.rows[at], &self.search).then_some(at)
        })
    }

    pub(super) fn find(&mut self, way: isize) {
        if self.search.is_empty() {
            self.message = Some(Span::new(Role::Plain, "nothing is searched: / searches"));
            return;
        }
        let count = self.rows.len();
        if count == 0 {
            return;
        }
        let from = if way > 0 { (self.chosen + 1) % count } else { (self.chosen + count - 1) % count };
        match self.found_from(from, way) {
            Some(found) => self.choose(found),
            None => self.message = Some(not_found(&self.search)),
        }
    }
}

fn not_found(search: &Pattern) -> Span {
    Span::new(Role::Warn, format!("not found: {}", search.typed()))
}
