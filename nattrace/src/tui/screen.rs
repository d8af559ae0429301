//! The terminal: taken, drawn on, and given back however this ends.

use std::io::{self, BufWriter, Stdout, Write};
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};
use crossterm::Command as _;
use crossterm::clipboard::CopyToClipboard;
use crossterm::cursor::Show;
use crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use crossterm::{execute, queue};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;

use super::feed::Feed;
use super::model::{Drawn, Model};
use super::view;

/// Whether the terminal is ours. There is one for the process.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// One frame is one write.
const FRAME_BYTES: usize = 64 << 10;

/// The terminal while it is ours.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
    color: bool,
}

impl Screen {
    /// Takes the terminal. Another thread that panics meanwhile is heard of through the feed.
    pub(super) fn take(feed: &Feed, color: bool) -> Result<Self> {
        enable_raw_mode().context("tui: the terminal cannot be read key by key")?;
        TAKEN.store(true, Ordering::SeqCst);
        give_back_in_panic(feed.clone());
        let out = BufWriter::with_capacity(FRAME_BYTES, io::stdout());
        let opened = Terminal::new(CrosstermBackend::new(out)).and_then(|mut terminal| {
            execute!(terminal.backend_mut(), EnterAlternateScreen)?;
            terminal.clear()?;
            Ok(terminal)
        });
        if opened.is_err() {
            give_back();
        }
        let terminal = opened.context("tui: the terminal cannot be drawn on")?;
        Ok(Self { terminal, color })
    }

    /// Draws it.
    pub(super) fn draw(&mut self, model: &Model) -> Result<Drawn> {
        let mut drawn = Drawn::default();
        let color = self.color;
        self.terminal.draw(|frame| drawn = view::draw(model, color, frame))?;
        Ok(drawn)
    }

    /// Asks the terminal to put text into its clipboard. It does not say whether it did.
    pub(super) fn copy(&mut self, text: &str) -> Result<()> {
        let command = CopyToClipboard::to_clipboard_from(text);
        let out = self.terminal.backend_mut();
        queue!(out, &command)?;
        if std::env::var_os("TMUX").is_some() {
            // tmux hands on what is wrapped so where `allow-passthrough` is on, with each escape doubled.
            let mut sequence = String::new();
            if command.write_ansi(&mut sequence).is_ok() {
                write!(out, "\x1bPtmux;{}\x1b\\", sequence.replace('\x1b', "\x1b\x1b"))?;
            }
        }
        Ok(out.flush()?)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// Whether the terminal is ours.
pub(super) fn is_taken() -> bool {
    TAKEN.load(Ordering::SeqCst)
}

/// As it was found, once. What fails, fails because there is no terminal any more.
fn give_back() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
    }
}

/// This thread's panic is told on the terminal as it was found; others' are told in the interface, and then later.
fn give_back_in_panic(feed: Feed) {
    let own = std::thread::current().id();
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if std::thread::current().id() != own && is_taken() {
            feed.say(&info.to_string());
            return;
        }
        give_back();
        before(info);
    }));
}
