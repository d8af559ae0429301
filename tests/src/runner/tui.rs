//! `nattrace tui` in a terminal: keys in, screen out.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::stage::Stage;
use crate::lab::process::read_lossy;
use crate::lab::tmux::Terminal;
use crate::scenario::{Screen, Tui};

/// A picture is on its way while it changes.
const SETTLE: Duration = Duration::from_millis(20);

/// One that was started.
#[derive(Debug)]
pub(super) struct Shown {
    terminal: Terminal,
    /// What it said, which also goes to the screen.
    stderr: PathBuf,
}

/// Presses a key, or types the text behind `=`.
fn press(terminal: &Terminal, key: &str) -> Result<()> {
    match key.strip_prefix('=') {
        Some(text) => terminal.enter(text),
        None => terminal.press(&[key]),
    }
}

impl Stage {
    /// Starts it, in the namespace of a role.
    pub(super) fn start_tui(&mut self, tui: &Tui) -> Result<()> {
        let mut args = self.filled(&tui.args)?;
        if self.settings.withhold_probes && !tui.file {
            args.extend(["--sources", "tracepoints,nft,conntrack"].map(str::to_owned));
        }
        let name = self.unique(&tui.name);
        let stderr = self.lab.dir.join(format!("{name}.err"));
        let nattrace = self.settings.nattrace.to_str().context("nattrace's path is no text")?;
        let mut program: Vec<String> = ["sh", "-c", r#"exec "$0" "$@" 2>"$SAID""#].map(str::to_owned).into();
        program.extend([nattrace.to_owned(), "tui".to_owned()]);
        program.extend(args);
        let mut tmux = self.lab.command(tui.at.as_deref(), "tmux")?;
        tmux.env("SAID", &stderr);
        // Sockets have short names only.
        let socket = std::env::temp_dir().join(format!("{}-{name}", self.lab.mark));
        let terminal = Terminal::start(tmux, &socket, dimensions(&tui.size)?, &program)?;
        self.tuis.insert(tui.name.clone(), Shown { terminal, stderr });
        Ok(())
    }

    fn shown(&self, name: &str) -> Result<&Shown> {
        self.tuis.get(name).with_context(|| format!("no interface is called {name}"))
    }

    /// Waits until the screen shows all of it.
    pub(super) fn screen(&mut self, wanted: &Screen) -> Result<()> {
        let (shows, never) = (self.filled(&wanted.shows)?, self.filled(&wanted.never)?);
        let limits = self.lab.limits.clone();
        let terminal = &self.shown(&wanted.tui)?.terminal;
        let mut last = String::new();
        let found = limits.until(Duration::from_secs_f64(wanted.within), || {
            std::thread::sleep(SETTLE);
            let screen = terminal.screen()?;
            let settled = screen == last;
            last = screen;
            let has = |text: &String| last.contains(text.as_str());
            Ok((settled && shows.iter().all(has) && !never.iter().any(has)).then_some(()))
        })?;
        if found.is_none() {
            self.problem(format!("the screen has not shown {shows:?} without {never:?}; it shows:\n{last}"));
        }
        Ok(())
    }

    /// Presses keys, or types text behind `=`.
    pub(super) fn press(&mut self, tui: &str, keys: &[String]) -> Result<()> {
        let keys = self.filled(keys)?;
        let terminal = &self.shown(tui)?.terminal;
        for key in &keys {
            press(terminal, key)?;
        }
        Ok(())
    }

    /// Presses keys, each of which changes the picture, and measures until it does.
    pub(super) fn answers(&mut self, tui: &str, keys: &[String], within_ms: u64) -> Result<()> {
        let limits = self.lab.limits.clone();
        let keys = self.filled(keys)?;
        let terminal = &self.shown(tui)?.terminal;
        let mut took = Vec::new();
        for key in &keys {
            let before = terminal.screen()?;
            let begun = Instant::now();
            press(terminal, key)?;
            let changed = limits.until(Duration::from_secs(5), || {
                Ok((terminal.screen()? != before).then(|| begun.elapsed()))
            })?;
            took.push(changed.with_context(|| format!("{key} changes nothing on\n{before}"))?);
        }
        took.sort();
        let milliseconds: Vec<_> = took.iter().map(Duration::as_millis).collect();
        self.measure("answers", [("milliseconds".to_owned(), json!(milliseconds))].into());
        let allowed = limits.scaled(Duration::from_millis(within_ms));
        // One of them may have met a moment when the processor was taken.
        let slowest = took.len().checked_sub(2).and_then(|index| took.get(index));
        if slowest.is_some_and(|slowest| *slowest > allowed) {
            self.problem(format!("keys were answered after {milliseconds:?} ms"));
        }
        Ok(())
    }

    /// Runs what was copied.
    pub(super) fn paste(&mut self, tui: &str, at: &str) -> Result<()> {
        let commands = self.shown(tui)?.terminal.clipboard()?;
        self.change_ruleset(at, |lab| lab.output(Some(at), "sh", &["-ec", &commands]).map(drop))
    }

    /// The terminal takes nothing any more.
    pub(super) fn stick(&mut self, tui: &str) -> Result<()> {
        self.shown(tui)?.terminal.set_stuck(true)
    }

    /// Gives the terminal another size.
    pub(super) fn resize(&mut self, tui: &str, size: &str) -> Result<()> {
        let (columns, rows) = dimensions(size)?;
        self.shown(tui)?.terminal.resize(columns, rows)
    }

    /// Sends a signal to it.
    pub(super) fn signal_tui(&mut self, tui: &str, signal: Signal) -> Result<()> {
        let process = self.shown(tui)?.terminal.pid()?;
        kill_process(Pid::from_raw(process).context("no process id")?, signal).context("nattrace")
    }

    /// It ends, with this exit code, and leaves this on the terminal.
    pub(super) fn tui_ends(&mut self, tui: &str, exit: i32, left: &[String], within: f64) -> Result<()> {
        let left = self.filled(left)?;
        let limits = self.lab.limits.clone();
        let shown = self.shown(tui)?;
        let code = limits.until(Duration::from_secs_f64(within), || shown.terminal.exit())?;
        shown.terminal.set_stuck(false)?;
        let Some(code) = code else {
            bail!("{tui} is still there; it shows:\n{}", shown.terminal.screen()?);
        };
        let screen = shown.terminal.screen()?;
        let said = read_lossy(&shown.stderr)?;
        if code != exit {
            self.problem(format!("{tui} ended with {code}, not {exit}; it said: {said}"));
        }
        if said.contains("panicked at") {
            self.problem(format!("{tui} panicked: {said}"));
        }
        for text in left.iter().filter(|text| !screen.contains(text.as_str())) {
            self.problem(format!("{tui} has not left {text:?} on the terminal, but:\n{screen}"));
        }
        for complaint in self.before.complaints(&self.lab)? {
            self.problem(complaint);
        }
        self.tuis.remove(tui);
        Ok(())
    }
}

/// `80x24`
fn dimensions(size: &str) -> Result<(u16, u16)> {
    let (columns, rows) = size.split_once('x').context("a size is COLUMNSxROWS")?;
    Ok((columns.parse()?, rows.parse()?))
}
