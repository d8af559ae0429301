//! What the interface knows and shows: a value that news and keys change. It has no terminal and no clock.

mod command;
mod prompt;

use std::collections::VecDeque;

use jiff::tz::TimeZone;

use super::feed::{KEPT, News, Sums, Taken};
use super::list::{List, Row};
use super::pattern::Pattern;
use crate::render::style::{Role, Span};
use crate::render::text::words;
use crate::render::{Namespaces, SourceState, Start};

/// Messages that are kept.
const MESSAGES: usize = 500;
/// Fixes that are printed at the end: those that were looked at last.
const FIXES: usize = 16;
/// How long the last line shows what was said, unless a key is pressed.
const MESSAGE_NS: u64 = 6_000_000_000;
/// What the rate is the mean of.
const RATE_NS: u64 = 5_000_000_000;

/// What fills the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Screen {
    /// The list, and what is chosen in it.
    Both,
    /// What is chosen.
    Detail,
    /// What drops packets.
    Causes,
    /// Messages.
    Log,
    /// The keys.
    Help,
    /// The fix alone.
    Fix,
}

/// Where keys move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pane {
    /// In the list.
    List,
    /// In what is chosen.
    Detail,
}

/// What is being typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Prompt {
    /// A filter; what was there before.
    Filter(String),
    /// What is searched; from where on.
    Search(Option<Row>),
}

/// What the terminal is to do for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing but a new picture.
    None,
    /// Put this into the clipboard.
    Copy(String),
    /// End.
    Quit,
}

/// What was drawn: how far one can scroll depends on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Drawn {
    /// Lines of the list that there was room for.
    pub(crate) list: usize,
    /// The first one that was shown.
    pub(crate) list_top: usize,
    /// Lines of the text that there was room for.
    pub(crate) text: usize,
    /// Lines that it has.
    pub(crate) text_lines: usize,
    /// Whether the chosen packet's text was on the screen.
    pub(crate) detail: bool,
}

/// All of it.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "modes that know nothing of each other")]
pub(crate) struct Model {
    /// What is traced, or the recording's name.
    pub(crate) title: String,
    /// Whether it is the running kernel.
    pub(crate) live: bool,
    pub(crate) zone: TimeZone,
    pub(crate) namespaces: Namespaces,
    pub(crate) list: List,
    pub(crate) rows: Vec<Row>,
    pub(crate) sums: Sums,
    pub(crate) screen: Screen,
    pub(crate) pane: Pane,
    pub(crate) prompt: Option<Prompt>,
    pub(crate) search: Pattern,
    pub(crate) follow: bool,
    pub(crate) paused: bool,
    /// Packets that came since it was paused.
    pub(crate) waiting: u64,
    pub(crate) ended: bool,
    /// Packets a second, lately.
    pub(crate) rate: Option<u64>,
    /// What the last line says until the next key.
    pub(crate) message: Option<Span>,
    /// When that will have been long enough, once it has begun.
    message_until: Option<u64>,
    pub(crate) log: VecDeque<Span>,
    /// What the run said, to be printed when the interface is left.
    pub(crate) said: VecDeque<String>,
    /// Sources that give nothing, and why.
    pub(crate) off: Vec<Span>,
    /// The fix that is shown alone.
    pub(crate) fix: Option<(String, Vec<String>)>,
    /// The first line that is shown of the text on the right or below, or on the whole screen.
    pub(crate) text_top: usize,
    /// The chosen line of the causes.
    pub(crate) cause: usize,
    /// The index of the chosen row; in no case beyond the rows.
    pub(crate) chosen: usize,
    chosen_row: Option<Row>,
    /// Whether the user chose it: until then it is what one looks for first.
    by_user: bool,
    pub(crate) drawn: Drawn,
    looked_at: Vec<(String, Vec<String>)>,
    counted: VecDeque<(u64, u64)>,
}

impl Model {
    /// Of a trace or a recording, by this name.
    pub(crate) fn new(title: String, live: bool, zone: TimeZone) -> Self {
        Self {
            title,
            live,
            zone,
            namespaces: Namespaces::default(),
            list: List::new(KEPT),
            rows: Vec::new(),
            sums: Sums::default(),
            screen: Screen::Both,
            pane: Pane::List,
            prompt: None,
            search: Pattern::default(),
            follow: live,
            paused: false,
            waiting: 0,
            ended: false,
            rate: None,
            message: None,
            message_until: None,
            log: VecDeque::new(),
            said: VecDeque::new(),
            off: Vec::new(),
            fix: None,
            text_top: 0,
            cause: 0,
            chosen: 0,
            chosen_row: None,
            by_user: false,
            drawn: Drawn::default(),
            looked_at: Vec::new(),
            counted: VecDeque::new(),
        }
    }

    /// Things happened.
    pub(crate) fn take(&mut self, taken: Taken) {
        self.sums = taken.sums;
        self.namespaces = taken.namespaces;
        self.list.left += taken.left;
        if let Some(start) = taken.start {
            self.start(&start);
        }
        for news in taken.news {
            match news {
                News::Journey(journey) => self.list.add(*journey, &self.namespaces, &self.zone),
                News::Conversation(conversation) => self.list.converse(*conversation),
                News::Said(text) => {
                    self.say(Role::Plain, &text);
                    self.said.push_back(text);
                    if self.said.len() > MESSAGES {
                        self.said.pop_front();
                    }
                }
                News::Losing(loss) => self.say(Role::Warn, &words::loss(&loss, &[], &self.zone)),
            }
        }
        self.refresh();
    }

    fn start(&mut self, start: &Start) {
        for (source, state) in &start.sources {
            if let SourceState::Off(why) = state {
                self.off.push(Span::new(Role::Warn, format!("{}: off, {why}", source.name())));
            }
        }
    }

    fn say(&mut self, role: Role, text: &str) {
        self.log.push_back(Span::new(role, text));
        if self.log.len() > MESSAGES {
            self.log.pop_front();
        }
        self.message = Some(Span::new(role, text));
        self.message_until = None;
    }

    /// The run has ended, as it should or for this reason; what it told can still be looked at.
    pub(crate) fn end(&mut self, failed: Option<String>) {
        self.ended = true;
        self.follow = false;
        self.rate = None;
        if let Some(why) = failed {
            self.say(Role::Drop, &why);
        }
    }

    /// A moment of the user's clock; whether the picture changes for it.
    pub(crate) fn tick(&mut self, now_ns: u64) -> bool {
        let until = *self.message_until.get_or_insert(now_ns.saturating_add(MESSAGE_NS));
        let silent = until <= now_ns && self.message.take().is_some();
        self.count(now_ns) || silent
    }

    /// Counts packets a second; whether it comes to another number.
    fn count(&mut self, now_ns: u64) -> bool {
        if !self.live || self.paused || self.ended {
            return false;
        }
        let before = self.rate;
        self.counted.push_back((now_ns, self.sums.tally.total()));
        while self.counted.len() > 2 && self.counted[1].0.saturating_add(RATE_NS) <= now_ns {
            self.counted.pop_front();
        }
        self.rate = match self.counted.front() {
            Some((then_ns, then)) if *then_ns < now_ns => {
                let nanoseconds = u128::from(now_ns - then_ns);
                let packets = u128::from(self.sums.tally.total().saturating_sub(*then));
                u64::try_from((packets * 1_000_000_000).div_ceil(nanoseconds)).ok()
            }
            _ => None,
        };
        self.rate != before
    }

    /// How far the list was scrolled when it was drawn last.
    pub(crate) fn drawn_list(&self) -> Drawn {
        Drawn { list: self.drawn.list, list_top: self.drawn.list_top, ..Drawn::default() }
    }

    /// What was drawn.
    pub(crate) fn was_drawn(&mut self, drawn: Drawn) {
        self.drawn = drawn;
        self.text_top = self.text_top.min(drawn.text_lines.saturating_sub(drawn.text));
        // Following, packets pass by without being looked at.
        if drawn.detail
            && !self.follow
            && let Some((of, fix)) = self.chosen_row.and_then(|row| self.list.fix(row))
        {
            self.look_at(of, fix);
        }
    }

    fn look_at(&mut self, of: String, fix: Vec<String>) {
        self.looked_at.retain(|(_, known)| *known != fix);
        self.looked_at.push((of, fix));
        if self.looked_at.len() > FIXES {
            self.looked_at.remove(0);
        }
    }

    /// The fixes that were looked at last, and of whom.
    pub(crate) fn looked_at(&self) -> &[(String, Vec<String>)] {
        &self.looked_at
    }

    /// The chosen line.
    pub(crate) fn chosen_row(&self) -> Option<Row> {
        self.chosen_row
    }

    /// The user chose a row.
    fn choose(&mut self, index: usize) {
        self.follow = false;
        self.by_user = true;
        self.point_at(index);
    }

    fn point_at(&mut self, index: usize) {
        self.chosen = index;
        let row = self.rows.get(index).copied();
        if row != self.chosen_row {
            self.text_top =
                if self.screen == Screen::Both || self.screen == Screen::Detail { 0 } else { self.text_top };
            self.chosen_row = row;
        }
    }

    fn index_of(&self, row: Row) -> Option<usize> {
        self.rows.iter().position(|shown| *shown == row)
    }

    /// The rows may be others: what was chosen stays so, or what stands for it, or what is in its place.
    fn refresh(&mut self) {
        self.rows = self.list.rows();
        if self.follow {
            self.chosen_row = self.list.newest().map(Row::Packet).or(self.chosen_row);
        } else if !self.by_user {
            self.chosen_row = self.list.first_to_look_at().map(Row::Packet);
        }
        let own = self.chosen_row.and_then(|row| self.index_of(row));
        let stand_in = || {
            let connection = self.list.connection_of(self.chosen_row?)?;
            self.index_of(Row::Connection(connection))
        };
        let index = own.or_else(stand_in).unwrap_or(self.chosen);
        self.point_at(index.min(self.rows.len().saturating_sub(1)));
    }
}
