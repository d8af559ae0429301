//! Runs scenarios and reports each in one line.

mod accounts;
mod actions;
mod capabilities;
mod collector;
mod cost;
mod expect;
mod fate;
mod keep;
mod kill;
mod privileges;
mod random;
mod report;
mod stage;
mod traced;
mod tui;
mod verifier;

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::lab::{self, Interrupted, Limits, kernel, netns};
use crate::scenario::{Mode, Need, Scenario, load};
use report::{Report, Verdict};
use stage::{Settings, Stage};
pub(crate) use traced::READY;

/// How to run.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only scenarios with this in their name; may repeat
    #[arg(long)]
    filter: Vec<String>,
    /// Also write one JSON object a scenario; outputs of failed ones go beside it
    #[arg(long)]
    jsonl: Option<PathBuf>,
    /// The program that is judged
    #[arg(long, default_value = "nattrace")]
    nattrace: PathBuf,
    /// The OpenTelemetry collector (rotel) that some scenarios need
    #[arg(long)]
    collector: Option<PathBuf>,
    /// Where the scenarios are
    #[arg(long)]
    dir: PathBuf,
    /// With kernel probes, without, or as this kernel allows
    #[arg(long, default_value = "auto")]
    mode: ModeArg,
    /// Keep the outputs of scenarios that passed, too, in this directory
    #[arg(long)]
    keep: Option<PathBuf>,
    /// Record every trace, and keep the recordings in this directory, each beside what was told live
    #[arg(long)]
    recordings: Option<PathBuf>,
    /// How many scenarios at a time; as many as there are processors when not given
    #[arg(long)]
    jobs: Option<usize>,
    /// Without those that another scenario has all together
    #[arg(long)]
    brief: bool,
    /// Without those of which nothing is the kernel's: another kernel has them
    #[arg(long)]
    again: bool,
    /// Only the few that are played on every kernel
    #[arg(long)]
    sample: bool,
    /// So often each scenario that ends nattrace at random moments does it, and then nothing else may run on the machine
    #[arg(long)]
    kills: Option<u32>,
    /// How much longer everything may take than on an idle machine
    #[arg(long, default_value_t = 3.0)]
    patience: f64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ModeArg {
    Full,
    Reduced,
    Auto,
}

/// Seconds, longer than one end of many takes, with all that is looked at after it.
const EACH_KILL: f64 = 10.0;

/// Runs what was asked for.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let interrupted = lab::heed_signals()?;
    lab::process::lock_little_memory()?;
    let scenarios = load::all(&args.dir)?;
    let probes = kernel_has_probes();
    let settings = Settings {
        nattrace: find_program(&args.nattrace)?,
        collector: args.collector.as_deref().map(find_program).transpose()?,
        mode: match args.mode {
            ModeArg::Full => Mode::Full,
            ModeArg::Auto if probes => Mode::Full,
            ModeArg::Reduced | ModeArg::Auto => Mode::Reduced,
        },
        withhold_probes: probes && matches!(args.mode, ModeArg::Reduced),
        trace_messages: kernel::has_owner_tables(),
        brief: args.brief,
        recordings: args.recordings.clone(),
        kills: args.kills,
    };

    let wanted = |scenario: &Scenario| {
        let named = args.filter.iter().any(|part| scenario.name.contains(part.as_str()));
        (args.filter.is_empty() || named)
            && !(args.brief && scenario.script.thorough)
            && !(args.again && scenario.script.once)
            && (!args.sample || scenario.script.sample)
    };
    let (alone, together): (Vec<Scenario>, Vec<Scenario>) =
        scenarios.into_iter().filter(wanted).partition(|scenario| scenario.script.alone);
    netns::sweep();
    let run = Run {
        settings,
        outputs: Outputs::choose(args)?,
        report: Mutex::new(Report::open(args.jsonl.as_deref())?),
        interrupted,
        patience: args.patience,
    };
    if !run.settings.trace_messages {
        report::note(
            "nothing is compared with `nft monitor trace`: before 5.12 there is no trace table, and no packet is marked",
        )?;
    }
    run.all(&together, args.jobs.unwrap_or_else(processors))?;
    run.all(&alone, 1)?;
    if !run.outputs.keep_all {
        // Fails, as it should, when outputs of failed scenarios are in it.
        let _ = std::fs::remove_dir(&run.outputs.dir);
    }
    let passed = run.report().close()?;
    if run.interrupted.load(Ordering::Relaxed) {
        eprintln!("scenarios: interrupted; everything is taken down");
        return Ok(ExitCode::from(130));
    }
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What the scenarios of one run share.
struct Run {
    settings: Settings,
    outputs: Outputs,
    report: Mutex<Report>,
    interrupted: Arc<AtomicBool>,
    patience: f64,
}

impl Run {
    /// Runs all of them, `jobs` at a time: they spend their time waiting, and know nothing of each other.
    fn all(&self, scenarios: &[Scenario], jobs: usize) -> Result<()> {
        let queue = Mutex::new(scenarios.iter());
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        // A worker lives as long as its scenarios: the processes it starts die with it.
        let work = || -> Result<()> {
            while let Some(scenario) = next()
                && !self.interrupted.load(Ordering::Relaxed)
            {
                self.one(scenario)?;
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..jobs.max(1)).map(|_| scope.spawn(work)).collect();
            for worker in workers {
                worker.join().unwrap_or_else(|_| bail!("the runner itself panicked"))?;
            }
            Ok(())
        })
    }

    fn report(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one scenario and reports it; an error is the runner's own.
    fn one(&self, scenario: &Scenario) -> Result<()> {
        let begun = Instant::now();
        let kills = f64::from(self.settings.kills.unwrap_or_default()) * EACH_KILL;
        let limits = Limits {
            deadline: begun + Duration::from_secs_f64((scenario.script.timeout + kills) * self.patience),
            interrupted: Arc::clone(&self.interrupted),
            patience: self.patience,
        };
        let dir = self.outputs.dir.join(scenario.name.replace('/', "-"));
        let verdict = match missing(scenario, &self.settings) {
            Some(reason) => Verdict::Skipped(reason),
            None => self.perform(scenario, &dir, limits)?,
        };
        if !matches!(verdict, Verdict::Failed(_)) && !self.outputs.keep_all {
            // Nothing is written by a scenario that was skipped.
            let _ = std::fs::remove_dir_all(&dir);
        }
        self.report().scenario(&scenario.name, &verdict, begun.elapsed(), &dir)
    }

    /// From the topology to its removal.
    fn perform(&self, scenario: &Scenario, dir: &Path, limits: Limits) -> Result<Verdict> {
        // What an earlier run left would be mistaken for this one's.
        let _ = std::fs::remove_dir_all(dir);
        let mut stage = match Stage::build(scenario, &self.settings, dir, limits) {
            Ok(stage) => stage,
            Err(error) if error.is::<Interrupted>() => {
                return Ok(Verdict::Failed(vec!["interrupted".into()]));
            }
            Err(error) => return Ok(Verdict::Failed(vec![format!("cannot be set up: {error:#}")])),
        };
        let mut problems = Vec::new();
        for (index, action) in scenario.script.actions.iter().enumerate() {
            if let Err(error) = stage.perform(action) {
                problems.push(format!("action {} ({}): {error:#}", index + 1, actions::name(action)));
                break;
            }
        }
        problems.splice(0..0, stage.take_problems());
        for (name, values) in stage.take_measures() {
            self.report().measure(&scenario.name, &name, &values)?;
        }
        problems.extend(stage.tear_down());
        if problems.is_empty() {
            return Ok(Verdict::Passed);
        }
        std::fs::write(dir.join("problems.txt"), problems.join("\n"))
            .with_context(|| format!("{} cannot be written to", dir.display()))?;
        Ok(Verdict::Failed(problems))
    }
}

/// How many scenarios run at a time when nobody says.
fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// Why a scenario cannot be run here.
fn missing(scenario: &Scenario, settings: &Settings) -> Option<String> {
    if !kernel::is_within(scenario.script.since.as_deref(), scenario.script.until.as_deref()) {
        return Some("is about other kernels".to_owned());
    }
    scenario.script.needs.iter().find_map(|need| match (need, settings.mode) {
        (Need::Probes, Mode::Reduced) => Some("needs kernel probes, which are not to be had here".to_owned()),
        (Need::Reduced, Mode::Full) => Some("is about kernels without probes".to_owned()),
        (Need::Sctp, _) if !crate::traffic::has_sctp() => {
            Some("needs SCTP, which this kernel does not have".to_owned())
        }
        (Need::Collector, _) if settings.collector.is_none() => {
            Some("needs an OpenTelemetry collector, which is not here (--collector names one)".to_owned())
        }
        (Need::TraceTable, _) if !kernel::has_owner_tables() => Some(
            "needs a trace table, which this kernel cannot have: its tables know no owner (5.12 and later do)".to_owned(),
        ),
        (Need::Tshark, _) if find_program(Path::new("tshark")).is_err() => {
            Some("needs tshark, which is not on this machine".to_owned())
        }
        (Need::VerifierRecord, _) if !kernel::tells_verified_instructions() => Some(
            "this kernel does not tell how many instructions the verifier went through (5.16 and later do)".to_owned(),
        ),
        (Need::VerifierRecord, _) if !verifier::is_renewed() && !verifier::record_of(&scenario.dir).exists() => {
            let (version, patch_level) = kernel::series();
            Some(format!("nothing is recorded for kernel {version}.{patch_level}"))
        }
        _ => None,
    })
}

/// Whether the kernel has kprobes and lets root attach programs to them: nattrace must not be asked.
fn kernel_has_probes() -> bool {
    let lockdown = std::fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    Path::new("/sys/bus/event_source/devices/kprobe").exists()
        && (lockdown.is_empty() || lockdown.contains("[none]"))
}

/// The program with its full path: children run in other directories' eyes the same.
fn find_program(program: &Path) -> Result<PathBuf> {
    let found = if program.components().count() > 1 {
        program.canonicalize().ok()
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).map(|dir| dir.join(program)).find(|candidate| candidate.is_file())
    };
    found.with_context(|| format!("no program {}", program.display()))
}

/// Looks for nattrace as `run` and `demo` are told to.
pub(crate) fn nattrace(program: &Path) -> Result<PathBuf> {
    find_program(program)
}

/// Where outputs go.
#[derive(Debug)]
struct Outputs {
    dir: PathBuf,
    keep_all: bool,
}

impl Outputs {
    fn choose(args: &Args) -> Result<Self> {
        let (dir, keep_all) = match (&args.keep, args.jsonl.as_deref().and_then(Path::parent)) {
            (Some(keep), _) => (keep.clone(), true),
            (None, Some(beside)) => (beside.join("outputs"), false),
            (None, None) => (std::env::temp_dir().join(format!("scenarios-{}", std::process::id())), false),
        };
        std::fs::create_dir_all(&dir).with_context(|| format!("{} cannot be made", dir.display()))?;
        let dir = dir.canonicalize().with_context(|| format!("{} cannot be found", dir.display()))?;
        Ok(Self { dir, keep_all })
    }
}
