//! `nattrace tui`: a run on a thread of its own, and the interface that shows it.

use std::io::{IsTerminal as _, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use jiff::tz::TimeZone;
use nattrace_core::filter::Filter;
use rustix::thread::CapabilitySet;
use tokio::sync::watch;

use super::audience::Audience;
use super::stop::{Signals, Stop};
use super::voice::{Diverted, say};
use super::{output, replay, trace};
use crate::cli::ExitStatus;
use crate::cli::plan::{Output, TuiPlan, Watched};
use crate::privileges;
use crate::render::layout::{Layout, Lines};
use crate::render::style::{Role, Span};
use crate::render::text::Text;
use crate::render::{Summary, filter_in_words};
use crate::tui::{self, Feed, Model, News};

/// A run that was told to end takes less, unless its output is stuck.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How often the end of a run is looked for.
const LOOK: Duration = Duration::from_millis(100);

/// Shows a run until the user leaves.
pub(super) fn run(plan: TuiPlan) -> Result<ExitStatus> {
    let feed = Feed::default();
    let (stop, told) = watch::channel(false);
    let (title, live) = describe(&plan.watched);
    let color = plan.color;
    heed_signals(&feed, &stop)?;
    let listener = feed.clone();
    let diverted = Diverted::to(move |text| listener.say(text));
    let running = start(plan.watched, &feed, told)?;
    // To show it needs none.
    let _ = privileges::keep(CapabilitySet::empty());
    let shown = if started(&feed) {
        tui::show(&feed, Model::new(title, live, TimeZone::system()), color).map(Some)
    } else {
        Ok(None)
    };
    // Whoever left the interface before has the shell's prompt after the trace table is gone, not before.
    let _ = stop.send(true);
    let _ = running.join();
    drop(diverted);
    let model = shown?;
    let (result, summary) = feed.ended();
    leave_behind(model.as_ref(), &feed, summary.as_ref(), color)?;
    result.unwrap_or(Ok(ExitStatus::NothingMatched))
}

/// What is shown, in the words of the command line; whether it is the running kernel.
fn describe(watched: &Watched) -> (String, bool) {
    match watched {
        Watched::Trace(plan) => (filter_in_words(&plan.filter), true),
        Watched::Replay(plan) => {
            let mut name = replay::Recorded::of(&plan.input).name();
            if plan.filter != Filter::default() {
                name = format!("{name} {}", filter_in_words(&plan.filter));
            }
            (name, false)
        }
    }
}

/// The run, on a thread of its own. It tells the feed, a file where one is named, and at last how it ended.
fn start(watched: Watched, feed: &Feed, told: watch::Receiver<bool>) -> Result<thread::JoinHandle<()>> {
    let feed = feed.clone();
    let run = move || {
        let audience = |output: &Output| -> Result<Vec<Box<dyn Audience>>> {
            let mut audience: Vec<Box<dyn Audience>> = vec![Box::new(feed.clone())];
            if output.path.is_some() {
                audience.push(Box::new(output::open(output)?));
            }
            Ok(audience)
        };
        let run = || match &watched {
            Watched::Trace(plan) => {
                trace::tell(plan, audience(&plan.output)?, || Ok(Stop::Told(told.clone())))
            }
            Watched::Replay(plan) => replay::tell(plan, audience(&plan.output)?, || *told.borrow()),
        };
        let panicked = |_| Err(anyhow!("the trace could not go on: an error of this program, told above"));
        feed.end(catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(panicked));
    };
    thread::Builder::new().name("trace".to_owned()).spawn(run).context("tui: the trace cannot be started")
}

/// Signals that end programs end the interface and the run, in this order, and the program itself where the
/// interface is stuck in a terminal that takes nothing.
fn heed_signals(feed: &Feed, stop: &watch::Sender<bool>) -> Result<()> {
    let (feed, stop) = (feed.clone(), stop.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Before anything is installed: from here on a signal ends the run in order.
    let mut signals = {
        let _entered = runtime.enter();
        Signals::new()?
    };
    let heed = move || {
        let _ = privileges::keep(CapabilitySet::empty());
        runtime.block_on(async {
            signals.any().await;
            feed.signal();
            let _ = stop.send(true);
            tokio::time::sleep(LAST_WORDS).await;
            if tui::is_shown() {
                let _ = crossterm::terminal::disable_raw_mode();
                let status = feed.ended().0.and_then(Result::ok).unwrap_or(ExitStatus::Failed);
                std::process::exit(status.code().into());
            }
        });
    };
    thread::Builder::new().name("signals".to_owned()).spawn(heed).context("tui: signals cannot be heeded")?;
    Ok(())
}

/// Waits for the run to begin: one that cannot says so on the terminal as it is.
fn started(feed: &Feed) -> bool {
    loop {
        let woken = feed.wait(LOOK);
        if woken.started || woken.ended || woken.signalled {
            return woken.started && !woken.signalled;
        }
    }
}

/// What is to be read where the shell's prompt is: what was said, the sum, and the fixes that were looked at.
fn leave_behind(model: Option<&Model>, feed: &Feed, summary: Option<&Summary>, color: bool) -> Result<()> {
    if std::io::stderr().is_terminal() {
        let said = model.into_iter().flat_map(|model| model.said.iter().cloned());
        let rest = feed.take(usize::MAX).news.into_iter().filter_map(|news| match news {
            News::Said(text) => Some(text),
            _ => None,
        });
        said.chain(rest).for_each(|text| say(&text));
    }
    let Some(model) = model else { return Ok(()) };
    let mut lines = Lines::default();
    let width = crate::render::columns(crate::cli::plan::Width::Terminal);
    if let Some(summary) = summary {
        lines = Text::new(model.zone.clone()).summary(summary, width);
    }
    for (of, fix) in model.looked_at() {
        lines.0.push(vec![Span::new(Role::Plain, format!("fix of {of}:"))]);
        for command in fix {
            Layout::new(width).command_alone(&Span::new(Role::Command, command), &mut lines);
        }
    }
    let mut out = std::io::stdout().lock();
    out.write_all(lines.paint(color).as_bytes())?;
    Ok(out.flush()?)
}
