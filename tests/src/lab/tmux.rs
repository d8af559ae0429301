//! A program in a terminal of a given size, inside a tmux server of its own: keys in, screen out.
//!
//! Its tests are whoever uses it: scenarios, and the tests of nattrace with recordings.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// Runs its arguments, writes down the exit code, and keeps the terminal: tmux does not hear of every child's end.
const KEEP: &str = r#""$@"; echo $? >"$0"; exec sleep 1000"#;

/// A terminal.
#[derive(Debug)]
pub(crate) struct Terminal {
    socket: PathBuf,
    exit: PathBuf,
    server: i32,
    shell: i32,
}

impl Terminal {
    /// Starts `program` with `args` in a terminal of so many columns and rows; the server's socket is `socket`. `tmux` is
    /// the command that runs tmux: it may be one that gets it into a namespace, and its environment is the program's.
    pub(crate) fn start(
        mut tmux: Command,
        socket: &Path,
        (columns, rows): (u16, u16),
        program: &[String],
    ) -> Result<Self> {
        let exit = socket.with_extension("exit");
        let mut terminal = Self { socket: socket.to_owned(), exit, server: 0, shell: 0 };
        let size = (columns.to_string(), rows.to_string());
        tmux.arg("-S").arg(socket).args(["-f", "/dev/null"]);
        // Nothing of the terminal that the test runs in; what a terminal takes for the clipboard is to be had by the test.
        tmux.env_remove("TMUX").env("TERM", "xterm-256color").env("LC_ALL", "C.UTF-8");
        tmux.args(["set-option", "-g", "default-terminal", "tmux-256color", ";"]);
        tmux.args([
            "set-option",
            "-g",
            "remain-on-exit",
            "on",
            ";",
            "set-option",
            "-g",
            "status",
            "off",
            ";",
        ]);
        tmux.args([
            "set-option",
            "-s",
            "set-clipboard",
            "on",
            ";",
            "set-option",
            "-s",
            "escape-time",
            "0",
            ";",
        ]);
        tmux.args(["new-session", "-d", "-x", &size.0, "-y", &size.1, "--", "sh", "-c", KEEP]);
        tmux.arg(&terminal.exit).args(program);
        said(tmux)?;
        let pids = terminal.tmux(&["display-message", "-p", "#{pid} #{pane_pid}"])?;
        let pids = pids.trim().split_once(' ').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        (terminal.server, terminal.shell) = pids.context("tmux has no process id")?;
        Ok(terminal)
    }

    /// Presses keys, by tmux's names (`Enter`, `C-c`, `q`).
    pub(crate) fn press(&self, keys: &[&str]) -> Result<()> {
        self.tmux(&[&["send-keys"], keys].concat()).map(drop)
    }

    /// Types text as it is.
    pub(crate) fn enter(&self, text: &str) -> Result<()> {
        self.tmux(&["send-keys", "-l", text]).map(drop)
    }

    /// What stands on it, line by line.
    pub(crate) fn screen(&self) -> Result<String> {
        self.capture(&[])
    }

    /// The same with more flags of tmux's: `-e` for the sequences that make it bold or coloured.
    pub(crate) fn capture(&self, more: &[&str]) -> Result<String> {
        self.tmux(&[&["capture-pane", "-p"], more].concat())
    }

    /// Gives it another size.
    pub(crate) fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        let size = [columns.to_string(), rows.to_string()];
        self.tmux(&["resize-window", "-x", &size[0], "-y", &size[1]]).map(drop)
    }

    /// What the program put into the clipboard.
    pub(crate) fn clipboard(&self) -> Result<String> {
        self.tmux(&["show-buffer"])
    }

    /// Whether it takes nothing of what is written to it. Then it tells nothing, either.
    pub(crate) fn set_stuck(&self, stuck: bool) -> Result<()> {
        let server = Pid::from_raw(self.server).context("tmux has no process id")?;
        Ok(kill_process(server, if stuck { Signal::STOP } else { Signal::CONT })?)
    }

    /// The program's process id.
    pub(crate) fn pid(&self) -> Result<i32> {
        let shell = self.shell;
        let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children"))?;
        children.trim().parse().context("the program is not there")
    }

    /// The program's exit code, once it has ended.
    pub(crate) fn exit(&self) -> Result<Option<i32>> {
        match std::fs::read_to_string(&self.exit) {
            Ok(code) if code.ends_with('\n') => Ok(Some(code.trim().parse().context("no exit code")?)),
            _ => Ok(None),
        }
    }

    fn tmux(&self, args: &[&str]) -> Result<String> {
        let mut tmux = Command::new("tmux");
        tmux.arg("-S").arg(&self.socket).args(args);
        said(tmux)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.set_stuck(false);
        let _ = self.tmux(&["kill-server"]);
        let _ = std::fs::remove_file(&self.socket);
        let _ = std::fs::remove_file(&self.exit);
    }
}

fn said(mut command: Command) -> Result<String> {
    let output = command.output().context("tmux cannot be run (cargo xtask setup)")?;
    if !output.status.success() {
        bail!("tmux: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
