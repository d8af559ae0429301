//! Child processes whose output is kept in files and that never outlive the scenario.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, kill_process_group, setrlimit};

use super::Limits;

/// How long the runner sleeps between two looks at something it waits for.
const POLL: Duration = Duration::from_millis(5);

/// Allows this process and its children to lock as little memory as a login on Debian 11 does, where maps and programs
/// count: root may lift it.
pub(crate) fn lock_little_memory() -> Result<()> {
    const LOGIN: u64 = 64 << 10;
    setrlimit(Resource::Memlock, Rlimit { current: Some(LOGIN), maximum: Some(LOGIN) })
        .context("the limit of locked memory cannot be lowered")
}

/// A running (or ended) child, with its standard output and error in files.
#[derive(Debug)]
pub(crate) struct Process {
    /// What it is called in messages.
    pub(crate) name: String,
    /// Standard output.
    pub(crate) stdout: PathBuf,
    /// Standard error.
    pub(crate) stderr: PathBuf,
    /// When it was started.
    pub(crate) started: Instant,
    child: Child,
    ended: Option<ExitStatus>,
}

/// How a process ended: an exit code, or the signal that killed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// `exit(code)`.
    Code(i32),
    /// Killed.
    Signal(i32),
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "killed by signal {signal}"),
        }
    }
}

impl Process {
    /// Starts `command` with its output in `DIR/NAME.out` and `DIR/NAME.err`, in a process group of its own so
    /// that a Ctrl-C at the terminal reaches the runner alone and the runner decides what ends when.
    pub(crate) fn spawn(mut command: Command, dir: &Path, name: &str) -> Result<Self> {
        let stdout = dir.join(format!("{name}.out"));
        let stderr = dir.join(format!("{name}.err"));
        let create =
            |path: &Path| File::create(path).with_context(|| format!("{} cannot be written", path.display()));
        command.stdin(Stdio::null()).stdout(create(&stdout)?).stderr(create(&stderr)?).process_group(0);
        Self::start(command, name, stdout, stderr)
    }

    /// Starts `command` with standard output into a pipe whose reading end is closed at once.
    pub(crate) fn spawn_into_closed_pipe(command: Command, dir: &Path, name: &str) -> Result<Self> {
        let mut process = Self::spawn_with_pipe(command, dir, name)?;
        drop(process.take_stdout());
        Ok(process)
    }

    /// Starts `command` with standard output into a pipe that is read from [`Self::take_stdout`].
    pub(crate) fn spawn_with_pipe(mut command: Command, dir: &Path, name: &str) -> Result<Self> {
        let stderr = dir.join(format!("{name}.err"));
        let file =
            File::create(&stderr).with_context(|| format!("{} cannot be written", stderr.display()))?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(file).process_group(0);
        Self::start(command, name, dir.join(format!("{name}.out")), stderr)
    }

    /// The reading end of that pipe, once.
    pub(crate) fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Starts `command`, whose output nobody needs however long it goes on.
    pub(crate) fn spawn_silent(mut command: Command, dir: &Path, name: &str) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        Self::start(command, name, dir.join(format!("{name}.out")), dir.join(format!("{name}.err")))
    }

    fn start(mut command: Command, name: &str, stdout: PathBuf, stderr: PathBuf) -> Result<Self> {
        let started = Instant::now();
        let child = command.spawn().with_context(|| format!("{name} cannot be started"))?;
        Ok(Self { name: name.to_owned(), stdout, stderr, started, child, ended: None })
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(crate) fn poll(&mut self) -> Result<Option<Ended>> {
        if self.ended.is_none() {
            self.ended =
                self.child.try_wait().with_context(|| format!("{} cannot be waited for", self.name))?;
        }
        Ok(self.ended.map(ended))
    }

    /// Waits until it ends, at most `within`.
    pub(crate) fn wait(&mut self, within: Duration, limits: &Limits) -> Result<Ended> {
        let name = self.name.clone();
        limits.until(within, || self.poll())?.with_context(|| {
            format!("{name} is still running after {:.1} s", limits.scaled(within).as_secs_f64())
        })
    }

    /// Waits until a line of `file` begins with `prefix`, at most `within`; the process must live until then.
    pub(crate) fn wait_for_line(
        &mut self,
        file: &Path,
        prefix: &str,
        within: Duration,
        limits: &Limits,
    ) -> Result<String> {
        let found = limits.until(within, || {
            // The end is looked at before the file, so that a last line is not missed.
            let ended = self.poll()?;
            let text = read_lossy(file)?;
            if let Some(line) = text.lines().find(|line| line.starts_with(prefix)) {
                return Ok(Some(line.to_owned()));
            }
            match ended {
                Some(ended) => bail!(
                    "{} ended ({ended}) before the line `{prefix}`; standard error: {}",
                    self.name,
                    tail(&read_lossy(&self.stderr)?)
                ),
                None => Ok(None),
            }
        })?;
        found.with_context(|| {
            format!(
                "{} did not print `{prefix}` within {:.1} s; standard error: {}",
                self.name,
                limits.scaled(within).as_secs_f64(),
                tail(&read_lossy(&self.stderr).unwrap_or_default())
            )
        })
    }

    /// Sends `signal` to the process (not to its children).
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        if self.ended.is_some() {
            bail!("{} has ended already", self.name);
        }
        kill_process(self.pid()?, signal).with_context(|| format!("{} cannot be signalled", self.name))
    }

    fn pid(&self) -> Result<Pid> {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("the child has no process id")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(pid) = self.pid() {
            // The group too: what the process started must not outlive it. Both fail harmlessly when gone.
            if self.ended.is_none() {
                let _ = kill_process_group(pid, Signal::KILL);
                let _ = self.child.wait();
            }
        }
    }
}

fn ended(status: ExitStatus) -> Ended {
    match (status.code(), status.signal()) {
        (Some(code), _) => Ended::Code(code),
        (None, signal) => Ended::Signal(signal.unwrap_or_default()),
    }
}

/// What the file holds; a file that does not exist yet is empty. Only files: reading a device may never end.
pub(crate) fn read_lossy(path: &Path) -> Result<String> {
    if std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        bail!("{} is no file", path.display());
    }
    match std::fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
    }
}

/// The last lines of a text, for messages.
pub(crate) fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(5);
    if lines.is_empty() { "(empty)".to_owned() } else { lines[from..].join(" / ") }
}

/// Runs a short command to its end with `input` on standard input and gives its standard output; a failure
/// is an error that shows the command and what it said.
pub(crate) fn output_of(mut command: Command, input: &str) -> Result<String> {
    let shown = shown(&command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("`{shown}` cannot be started"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that does not read its input closes it: what matters is how it ends.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().with_context(|| format!("`{shown}` cannot be waited for"))?;
    if !output.status.success() {
        bail!(
            "`{shown}` failed ({}): {}",
            ended(output.status),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

impl Limits {
    /// Looks again and again until `look` gives something, at most `within` (stretched on slow machines) and
    /// never beyond the scenario's own deadline or a Ctrl-C.
    pub(crate) fn until<T>(
        &self,
        within: Duration,
        mut look: impl FnMut() -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        let give_up = Instant::now() + self.scaled(within);
        loop {
            if let Some(found) = look()? {
                return Ok(Some(found));
            }
            if Instant::now() >= give_up {
                return Ok(None);
            }
            self.check()?;
            std::thread::sleep(POLL);
        }
    }

    /// Sleeps, but not through a Ctrl-C or the deadline. Not stretched: a scenario that sleeps wants that time.
    pub(crate) fn sleep(&self, duration: Duration) -> Result<()> {
        let end = Instant::now() + duration;
        while Instant::now() < end {
            self.check()?;
            std::thread::sleep(POLL.min(end - Instant::now().min(end)));
        }
        Ok(())
    }
}
