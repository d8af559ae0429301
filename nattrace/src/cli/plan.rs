//! Ready-to-run values: nothing after this page looks at flags or at the environment.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use nattrace_core::event::Source;
use nattrace_core::filter::Filter;
pub use nattrace_core::record::Format as RecordFormat;

pub use super::args::Format;
pub use super::otlp::Otlp;

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Trace the running kernel.
    Trace(Box<TracePlan>),
    /// Say what the kernel and the privileges allow.
    Check(CheckPlan),
    /// Tell a recording again.
    Replay(Box<ReplayPlan>),
    /// Show either on the whole screen.
    Tui(Box<TuiPlan>),
    /// Make a recording of other addresses and names.
    Anonymize(AnonymizePlan),
}

/// `nattrace`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracePlan {
    /// Which packets.
    pub filter: Filter,
    /// Where the trace starts.
    pub netns: NetnsChoice,
    /// Whether the connection of a selected packet is followed.
    pub follow: bool,
    /// Stop after so many finished journeys.
    pub count: Option<u64>,
    /// Stop after this time.
    pub duration: Option<Duration>,
    /// What the program may take: bytes.
    pub memory: u64,
    /// New packets a second that are selected at most; `None` for no limit.
    pub rate: Option<u32>,
    /// Which sources to use.
    pub sources: Sources,
    /// Whether a trace table may be installed.
    pub trace_table: bool,
    /// Say what would be done, and do nothing.
    pub dry_run: bool,
    /// Where to keep the events.
    pub record: Option<Recording>,
    /// Where journeys go beside the output.
    pub otlp: Option<Otlp>,
    /// Where the results go, and how.
    pub output: Output,
}

/// Where events are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recording {
    /// The file.
    pub path: PathBuf,
    /// How they are kept.
    pub format: RecordFormat,
    /// Bytes that it has at most.
    pub limit: u64,
    /// Whether addresses and names are replaced.
    pub anonymize: bool,
}

/// `nattrace check`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckPlan {
    /// Where the results go, and how: as text or JSON.
    pub output: Output,
}

/// `nattrace replay`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayPlan {
    /// What to read.
    pub input: Input,
    /// Which packets.
    pub filter: Filter,
    /// Which namespaces' packets, by recorded name or inode number: [`NetnsChoice::All`] when nothing was said.
    pub netns: NetnsChoice,
    /// Whether the connection of a selected packet is followed.
    pub follow: bool,
    /// Stop after so many finished journeys.
    pub count: Option<u64>,
    /// Stop this long after the first event, by the recording's clock.
    pub duration: Option<Duration>,
    /// What the program may take: bytes.
    pub memory: u64,
    /// Events of which sources to use.
    pub sources: Sources,
    /// Where journeys go beside the output.
    pub otlp: Option<Otlp>,
    /// Whether addresses and names are replaced in what is told.
    pub anonymize: bool,
    /// Where the results go, and how.
    pub output: Output,
}

/// `nattrace tui`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TuiPlan {
    /// What is shown; its output is used where it names a file.
    pub watched: Watched,
    /// Whether to use colour.
    pub color: bool,
}

/// What a [`TuiPlan`] shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watched {
    /// The running kernel.
    Trace(TracePlan),
    /// A recording.
    Replay(ReplayPlan),
}

/// `nattrace anonymize`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnonymizePlan {
    /// What to read.
    pub input: Input,
    /// A file instead of standard output.
    pub output: Option<PathBuf>,
}

/// A recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// `-`
    Stdin,
    /// A file.
    File(PathBuf),
}

/// `--netns`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetnsChoice {
    /// The one this process is in.
    Current,
    /// Names, process ids or paths, as typed.
    Named(Vec<String>),
    /// Every one.
    All,
}

/// `--sources`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    /// The sources to use.
    pub set: BTreeSet<Source>,
    /// Whether the user named them. Then one that the kernel refuses is worth more than a note.
    pub named: bool,
}

/// Where the results go, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The form.
    pub format: Format,
    /// A file instead of standard output.
    pub path: Option<PathBuf>,
    /// Whether to use colour.
    pub color: bool,
    /// How wide text may be.
    pub width: Width,
}

/// How wide text may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// As wide as the terminal is at that moment.
    Terminal,
    /// So many columns: `COLUMNS` is exported.
    Columns(usize),
    /// Every step on one line, however long: what goes to a pipe or a file is searched and cut by line.
    Unbroken,
}
