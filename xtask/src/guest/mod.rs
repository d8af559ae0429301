//! Guests: a Debian kernel under emulation that runs one command with our programs, and nothing of the host's.

mod console;
mod control;
mod cpio;
pub(crate) mod elf;
mod image;
mod machine;
mod marker;
mod modules;

use std::{
    env, fmt,
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, bail};

use self::{
    console::Console,
    control::{Control, Message},
    cpio::Tree,
    machine::{Channel, Machine, Received},
    marker::UntilMarker,
};
use crate::{cache::Cache, process, progress, setup::kernel::Kernel};

/// How long a kernel may take to come up; 4 to 8 s are usual on an idle host.
const BOOT_LIMIT: Duration = Duration::from_mins(3);

/// How long output may lag behind the exit status.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// How long a dying kernel gets for its last words.
const DEATH_LIMIT: Duration = Duration::from_secs(5);

/// What a guest's time is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    /// The host's.
    Host,
    /// A nanosecond is an instruction, whatever the host does meanwhile; there is one processor.
    Instructions,
}

/// What to do in a guest.
#[derive(Debug)]
pub(crate) struct Job {
    /// A command for bash.
    pub(crate) command: String,
    /// Programs: where in the guest, which of the host. Their libraries come along.
    pub(crate) programs: Vec<(String, PathBuf)>,
    /// Files or folders: where in the guest, which of the host.
    pub(crate) files: Vec<(String, PathBuf)>,
    /// When to give up.
    pub(crate) limit: Duration,
    /// Where the files go that the command leaves in `/results`.
    pub(crate) results: Option<PathBuf>,
    /// What time is.
    pub(crate) clock: Clock,
}

/// Which of a command's two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

/// The caller could not take the output; the guest is not to blame.
#[derive(Debug, Clone, Copy)]
struct OutputLost;

impl fmt::Display for OutputLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot pass the guest's output on")
    }
}

/// Runs a job in a guest with `kernel`, passes its output on as it appears, and returns its exit status.
///
/// A guest that panics, hangs or falls silent is an error, whatever the command had said by then.
pub(crate) fn run(
    cache: &Cache,
    kernel: &Kernel,
    job: &Job,
    on_output: &mut dyn FnMut(Stream, &[u8]) -> Result<()>,
) -> Result<i32> {
    if env::consts::ARCH != "x86_64" {
        bail!(
            "guests are x86-64 machines that run this machine's programs, and this machine is {}",
            env::consts::ARCH
        );
    }
    let marker = marker();
    let tree = job_tree(job, &marker)?;
    let reserved = Machine::reserve()?;
    let base = image::base(cache, kernel)?;
    // One name will do: one guest runs at a time.
    let combined = cache.join("images/running.cpio");
    image::write_combined(&base, &tree, &combined)?;
    let machine = Machine::start(reserved, kernel, &combined, job.clock)?;
    let mut session = Session {
        console: Console::default(),
        control: Control::new(job.results.as_deref()),
        output: UntilMarker::new(&marker),
        error: UntilMarker::new(&marker),
        ready: false,
        status: None,
    };
    let ended = session.follow(&machine, job.limit, on_output);
    crate::cache::remove(&combined)?;
    let log = cache.join(format!("console-{}.log", kernel.series));
    // Only a help to whoever looks into a failure.
    let _ = std::fs::write(&log, session.console.all());
    if ended.as_ref().is_err_and(anyhow::Error::is::<OutputLost>) {
        return ended;
    }
    if let Some(warning) = session.console.warning() {
        progress::step(format_args!("the guest's kernel complained: {warning} (see {})", log.display()));
    }
    let verdict = match (ended, session.console.trouble()) {
        (Ok(status), None) => return Ok(status),
        (Ok(status), Some(trouble)) => {
            format!("its kernel broke ({trouble}), though the command ended with {status}")
        }
        (Err(error), Some(trouble)) => format!("its kernel broke ({trouble}); {error:#}"),
        (Err(error), None) => format!("{error:#}"),
    };
    bail!(
        "the guest with kernel {} failed: {verdict}\n--- its console (all of it is in {}):\n{}\n{}---",
        kernel.release,
        log.display(),
        session.console.shown(),
        machine.own_words()
    )
}

/// The state of one run.
struct Session {
    console: Console,
    control: Control,
    output: UntilMarker,
    error: UntilMarker,
    ready: bool,
    status: Option<i32>,
}

impl Session {
    fn follow(
        &mut self,
        machine: &Machine,
        limit: Duration,
        on_output: &mut dyn FnMut(Stream, &[u8]) -> Result<()>,
    ) -> Result<i32> {
        let mut deadline = Instant::now() + BOOT_LIMIT;
        let mut dying = false;
        loop {
            if let Some(status) = self.status
                && self.output.ended()
                && self.error.ended()
            {
                return Ok(status);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let (channel, bytes) = match machine.receive(left) {
                Received::Bytes(channel, bytes) => (channel, bytes),
                Received::End => bail!("it ended before the command did"),
                Received::Nothing => match (dying, self.status, self.ready) {
                    (true, ..) => bail!("it went on after that, and was stopped"),
                    // A process left in the background holds the streams open; that is no failure.
                    (_, Some(status), _) => return Ok(status),
                    (_, _, true) => bail!("the command took longer than {} s", limit.as_secs()),
                    (_, _, false) => bail!("it did not come up within {} s", BOOT_LIMIT.as_secs()),
                },
            };
            match channel {
                Channel::Console => {
                    self.console.push(&bytes);
                    if self.console.trouble().is_some() && !dying {
                        dying = true;
                        deadline = Instant::now() + DEATH_LIMIT;
                    }
                }
                Channel::Output => {
                    on_output(Stream::Output, &self.output.push(&bytes)).context(OutputLost)?;
                }
                Channel::Error => on_output(Stream::Error, &self.error.push(&bytes)).context(OutputLost)?,
                Channel::Control => {
                    for message in self.control.push(&bytes)? {
                        match message {
                            Message::Ready => {
                                self.ready = true;
                                deadline = Instant::now() + limit;
                            }
                            Message::Status(status) => {
                                self.status = Some(status);
                                deadline = Instant::now() + DRAIN_LIMIT;
                            }
                        }
                    }
                }
            }
        }
    }
}

/// What one job adds to the base.
fn job_tree(job: &Job, marker: &str) -> Result<Tree> {
    let mut tree = Tree::default();
    tree.file("/xtask/command", 0o644, job.command.clone() + "\n");
    tree.file("/xtask/environment", 0o644, environment());
    tree.file("/xtask/marker", 0o644, marker);
    for (path, program) in &job.programs {
        image::add_program(&mut tree, path, program).with_context(|| format!("cannot take {path} along"))?;
    }
    for (path, file) in &job.files {
        tree.copy_all(path, file)?;
    }
    Ok(tree)
}

/// What the command must know of the terminal its output ends on, and of the caller's wishes, as shell text.
fn environment() -> String {
    let passed = ["TERM", "NO_COLOR", "RUST_BACKTRACE", "RUST_LOG"];
    let mut set: Vec<_> = passed.iter().filter_map(|name| Some((*name, env::var_os(name)?))).collect();
    if io::stdout().is_terminal() {
        set.push(("CLICOLOR_FORCE", "1".into()));
        if let Ok(size) = rustix::termios::tcgetwinsize(io::stdout()) {
            set.push(("COLUMNS", size.ws_col.to_string().into()));
        }
    }
    let lines: Vec<_> =
        set.iter().map(|(name, value)| format!("export {name}={}\n", process::quoted(value))).collect();
    lines.concat()
}

/// A string that no output holds by chance.
fn marker() -> String {
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!("[end of stream {time:x}-{}]", std::process::id())
}

/// The place of an extra file in a guest.
pub(crate) fn extra_place(path: &Path) -> Result<String> {
    let name = path.file_name().with_context(|| format!("{} has no name", path.display()))?;
    Ok(format!("/root/{}", name.to_string_lossy()))
}
