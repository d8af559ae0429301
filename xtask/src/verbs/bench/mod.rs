//! `cargo xtask bench`

mod document;
mod figures;
mod goals;
mod statistics;
mod table;

use std::{
    env,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use self::{document::Run, figures::Figures};
use super::guest::{pass_on, standard_job};
use crate::{
    cache::Cache,
    cargo::{self, Programs},
    guest::{self, Clock, Job, Stream},
    process, progress,
    setup::{self, kernel::Kernel, tools::QEMU},
};

/// Further tools: commands with semicolons between; each program is found on PATH.
const PEERS: &str = "NATTRACE_BENCH_PEERS";

/// Where a guest has Debian's peers.
const PEERS_PLACE: &str = "/peers";

/// How thorough a run is.
struct Extent {
    /// Turns of each configuration, by the host's clock and where instructions are the clock.
    turns: [u32; 2],
    /// Events of the recording for user space.
    events: u32,
    /// Whether what is only for completeness is left out.
    brief: bool,
    /// How long a guest may take.
    limit: Duration,
}

/// The run that docs/performance.md is of.
const FULL: Extent =
    Extent { turns: [6, 3], events: 10_000_000, brief: false, limit: Duration::from_mins(40) };
/// One to try.
const QUICK: Extent =
    Extent { turns: [1, 1], events: 1_000_000, brief: true, limit: Duration::from_mins(15) };

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The kernel series
    #[arg(long, default_value = "6.12")]
    kernel: String,
    /// One turn of the most important tools; docs/performance.md stays as it is
    #[arg(long)]
    quick: bool,
    /// How often each tool has its turn; by default often enough for steady medians
    #[arg(long, value_name = "N")]
    turns: Option<u32>,
    /// A part alone; docs/performance.md stays as it is
    #[arg(long)]
    only: Option<Part>,
    /// Take nattrace and scenarios as they were built last
    #[arg(long)]
    no_build: bool,
}

/// Each has its section in the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Packets through a router, by the host's clock
    Time,
    /// The same, by instructions
    Instructions,
    /// User space alone
    UserSpace,
}

/// Measures, prints, and writes docs/performance.md.
pub(crate) fn run(cache: &Cache, args: &Args) -> Result<ExitCode> {
    setup::tools::install_missing(cache)?;
    let kernel = setup::kernel::get(cache, &args.kernel)?;
    let peers = setup::peers::get(cache);
    if let Err(error) = &peers {
        progress::step(format_args!("pwru and bpftrace are missing: {error:#}"));
    }
    let further = Further::find();
    let programs = cargo::programs(cache, !args.no_build)?;
    let results = cargo::target_dir()?.join("bench");
    fs::create_dir_all(&results).with_context(|| format!("cannot create {}", results.display()))?;

    let extent = if args.quick { QUICK } else { FULL };
    let extent = &Extent { turns: args.turns.map_or(extent.turns, |turns| [turns; 2]), ..extent };
    let bench = Bench {
        cache,
        kernel: &kernel,
        programs: &programs,
        peers: peers.as_deref().ok(),
        further: &further,
    };
    let wanted = |part| match args.only {
        Some(only) if only != part => Err("it was not asked for".to_owned()),
        _ => Ok(()),
    };
    let in_guest = |part, clock, name: &str| {
        wanted(part)?;
        let place = results.join(format!("{}-{name}.jsonl", kernel.series));
        bench.in_guest(clock, extent, &place).map_err(|error| told(&error))
    };
    let timed = in_guest(Part::Time, Clock::Host, "time");
    let counted = in_guest(Part::Instructions, Clock::Instructions, "instructions");
    let user_space = wanted(Part::UserSpace).and_then(|()| {
        let place = results.join("user-space.jsonl");
        user_space(&programs, extent, &place).map_err(|error| told(&error))
    });
    let run = Run {
        command: env::args().skip(1).fold("cargo xtask".to_owned(), |line, word| line + " " + &word),
        date: process::output(Command::new("date").args(["-u", "+%Y-%m-%d"]))?.trim().to_owned(),
        circumstances: circumstances(&kernel, &programs, &peers, &further)?,
        turns: extent.turns[0],
        timed,
        counted,
        user_space,
    };
    let failed = [
        (Part::Time, run.timed.is_err()),
        (Part::Instructions, run.counted.is_err()),
        (Part::UserSpace, run.user_space.is_err()),
    ]
    .into_iter()
    .any(|(part, failed)| failed && wanted(part).is_ok());
    let document = if !args.quick && args.only.is_none() && run.timed.is_ok() {
        cargo::workspace().join("docs/performance.md")
    } else {
        results.join("performance.md")
    };
    fs::write(&document, run.document()).with_context(|| format!("cannot write {}", document.display()))?;
    print!("{}", run.shown());
    progress::step(format_args!("{} and {} have it all", document.display(), results.display()));
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Tells all of an error, and gives what a document has of it.
fn told(error: &anyhow::Error) -> String {
    progress::step(format_args!("{error:#}"));
    first_line_of(error)
}

/// Errors of commands have what the command said on further lines.
fn first_line_of(error: &anyhow::Error) -> String {
    format!("{error:#}").lines().next().unwrap_or_default().trim_end_matches(':').to_owned()
}

/// Tools of the caller's.
#[derive(Debug, Default)]
struct Further {
    /// Commands, and the programs that they begin with.
    commands: Vec<(String, PathBuf)>,
    /// Why others are not there.
    missing: Vec<String>,
}

impl Further {
    /// Those named in the environment.
    fn find() -> Self {
        Self::of(&env::var(PEERS).unwrap_or_default())
    }

    fn of(commands: &str) -> Self {
        let mut found = Self::default();
        for command in commands.split(';').map(str::trim) {
            let (program, args) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
            let path = process::find(program).filter(|_| !program.is_empty());
            match path.as_deref().and_then(|path| Some((path, path.file_name()?.to_str()?))) {
                // In the guest it lies in another folder.
                Some((path, name)) => found.commands.push((format!("{name} {args}"), path.to_owned())),
                None if program.is_empty() => {}
                None => found.missing.push(format!("`{program}`, named in {PEERS}, is not on PATH.")),
            }
        }
        found
    }
}

/// What runs are made of.
struct Bench<'a> {
    cache: &'a Cache,
    kernel: &'a Kernel,
    programs: &'a Programs,
    peers: Option<&'a Path>,
    further: &'a Further,
}

impl Bench<'_> {
    /// Compares all tools in one boot, and keeps the lines in `place`.
    fn in_guest(&self, clock: Clock, extent: &Extent, place: &Path) -> Result<Figures> {
        let turns = match clock {
            Clock::Host => extent.turns[0],
            Clock::Instructions => extent.turns[1],
        };
        let mut job = Job { limit: extent.limit, clock, ..standard_job(self.programs) };
        job.command = format!("exec scenarios bench --nattrace /usr/bin/nattrace --turns {turns}");
        if extent.brief {
            job.command.push_str(" --brief");
        }
        if clock == Clock::Instructions {
            job.command.push_str(" --instructions");
        }
        if let Some(peers) = self.peers {
            job.command.extend([" --peers ", PEERS_PLACE]);
            job.files.push((PEERS_PLACE.to_owned(), peers.to_owned()));
        }
        for (command, program) in &self.further.commands {
            job.command.extend([" --with ", &process::quoted(command.as_ref())]);
            let name = program.file_name().context("a program has a name")?.to_string_lossy();
            job.programs.push((format!("/usr/local/bin/{name}"), program.clone()));
        }
        progress::step(match clock {
            Clock::Host => format!("starting a guest with kernel {}", self.kernel.release),
            Clock::Instructions => "starting another, whose clock counts instructions".to_owned(),
        });
        let unwritten = || format!("cannot write {}", place.display());
        let mut kept = File::create(place).with_context(unwritten)?;
        let status = guest::run(self.cache, self.kernel, &job, &mut |stream, bytes| match stream {
            Stream::Output => kept.write_all(bytes).with_context(unwritten),
            Stream::Error => pass_on(stream, bytes),
        })?;
        if status != 0 {
            bail!("it ended with {status}; what it had found is in {}", place.display());
        }
        Figures::read(&fs::read_to_string(place)?)
    }
}

/// What user space does alone, on this machine: the lines of `scenarios measure`, which are kept in `place`.
fn user_space(programs: &Programs, extent: &Extent, place: &Path) -> Result<Vec<serde_json::Value>> {
    progress::step("measuring user space on this machine");
    let mut command = Command::new(&programs.scenarios);
    command.args(["measure", "--json", "-", "--events", &extent.events.to_string(), "--nattrace"]);
    let lines = process::output(command.arg(&programs.nattrace)).context("`scenarios measure` failed")?;
    fs::write(place, &lines).with_context(|| format!("cannot write {}", place.display()))?;
    lines.lines().map(|line| serde_json::from_str(line).with_context(|| format!("no JSON: {line}"))).collect()
}

/// What the numbers depend on: sentences.
fn circumstances(
    kernel: &Kernel,
    programs: &Programs,
    peers: &Result<PathBuf>,
    further: &Further,
) -> Result<Vec<String>> {
    let first_line = |command: &mut Command| -> Result<String> {
        Ok(process::output(command)?.lines().next().unwrap_or_default().trim().to_owned())
    };
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processor.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let commit = first_line(
        Command::new("git").args(["describe", "--always", "--dirty"]).current_dir(cargo::workspace()),
    );
    let mut sentences = vec![
        format!(
            "The machine: {processors} processors ({}), which other work may share; the guest: two, emulated by {}.",
            model.map_or("of an unknown kind", |(_, model)| model),
            first_line(Command::new(QEMU).arg("--version"))?,
        ),
        format!("Kernel {}.", kernel.release),
        format!(
            "{}, commit {}.",
            first_line(Command::new(&programs.nattrace).arg("--version"))?,
            commit.unwrap_or_else(|_| "unknown".to_owned()),
        ),
        format!("{}.", first_line(Command::new("nft").arg("--version"))?),
    ];
    sentences.push(match peers {
        Ok(peers) => format!("From Debian, with its own libraries: {}.", setup::peers::versions(peers)?),
        Err(error) => format!("pwru and bpftrace could not be had: {}.", first_line_of(error)),
    });
    sentences.extend(further.missing.iter().cloned());
    Ok(sentences)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn further_tools_are_found_or_said_to_be_missing() {
        let further = Further::of("/bin/sh -c 'trace {port}'; no-such-program-here {port};");
        assert_eq!(further.commands, [("sh -c 'trace {port}'".to_owned(), PathBuf::from("/bin/sh"))]);
        assert_eq!(further.missing.len(), 1);
        assert!(further.missing[0].contains("no-such-program-here"));
    }
}
