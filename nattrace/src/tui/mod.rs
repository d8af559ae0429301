//! The terminal interface.
//!
//! ```text
//! trace's thread ── Audience ──▶ feed ──▶ model ──▶ view ──▶ screen
//! keyboard's thread ───────────▶           ▲ keys
//! ```
//!
//! The trace never waits: the feed is bounded, and what is not taken leaves. A stuck terminal stops this thread alone.

mod feed;
mod keys;
mod list;
mod model;
mod pattern;
mod screen;
#[cfg(test)]
mod tests;
mod view;

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use crossterm::event::{Event, KeyEventKind};

pub(crate) use feed::{Feed, News};
pub(crate) use model::Model;

use crate::session::now_ns;
use model::Effect;
use screen::Screen;

/// Between two pictures, unless a key was pressed.
const FRAME: Duration = Duration::from_millis(40);
/// How often the clock is looked at.
const TICK: Duration = Duration::from_secs(1);
/// News that are taken before keys get their turn.
const CHUNK: usize = 256;

/// Shows it until the user leaves, or a signal ends it.
pub(crate) fn show(feed: &Feed, mut model: Model, color: bool) -> Result<Model> {
    let mut screen = Screen::take(feed, color)?;
    let keyboard = feed.clone();
    thread::Builder::new().name("keyboard".to_owned()).spawn(move || listen(&keyboard)).context("tui")?;
    let mut drawn: Option<Instant> = None;
    let (mut changed, mut more) = (true, true);
    loop {
        let patience = match drawn {
            None => Duration::ZERO,
            _ if more => Duration::ZERO,
            Some(at) if changed => FRAME.saturating_sub(at.elapsed()),
            Some(_) => TICK,
        };
        let woken = feed.wait(patience);
        if woken.signalled {
            return Ok(model);
        }
        let mut at_once = drawn.is_none();
        for event in woken.typed {
            at_once = true;
            match event {
                Event::Key(key) if key.kind != KeyEventKind::Release => match model.key(&key) {
                    Effect::None => {}
                    Effect::Copy(text) => screen.copy(&text)?,
                    Effect::Quit => return Ok(model),
                },
                _ => {}
            }
        }
        more = woken.news && !model.paused;
        if more {
            model.take(feed.take(CHUNK));
            changed = true;
        } else if model.paused && woken.waiting != model.waiting {
            model.waiting = woken.waiting;
            changed = true;
        }
        if woken.ended && !woken.news && !model.ended {
            model.end(woken.failed);
            changed = true;
        }
        changed |= model.tick(now_ns());
        if at_once || changed && drawn.is_none_or(|at| at.elapsed() >= FRAME) {
            let seen = screen.draw(&model)?;
            model.was_drawn(seen);
            (changed, drawn) = (false, Some(Instant::now()));
        }
    }
}

/// Hands over what is typed, as long as there is a keyboard.
fn listen(feed: &Feed) {
    loop {
        match crossterm::event::read() {
            Ok(event) => feed.typed(event),
            Err(_) => return feed.signal(),
        }
    }
}

/// Whether it has the terminal.
pub(crate) fn is_shown() -> bool {
    screen::is_taken()
}
