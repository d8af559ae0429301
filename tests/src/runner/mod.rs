//! Runs scenarios one after another and reports each in one line.

mod actions;
mod cost;
mod expect;
mod kill;
mod report;
mod stage;
mod traced;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::lab::{Interrupted, Limits, netns};
use crate::scenario::{Mode, Need, Scenario, load};
use report::{Report, Verdict};
use stage::{Settings, Stage};

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
    /// Where the scenarios are
    #[arg(long)]
    dir: PathBuf,
    /// With kernel probes, without, or as this kernel allows
    #[arg(long, default_value = "auto")]
    mode: ModeArg,
    /// Keep the outputs of scenarios that passed, too, in this directory
    #[arg(long)]
    keep: Option<PathBuf>,
    /// How much longer everything may take than on an idle machine
    #[arg(long, default_value_t = 2.0)]
    patience: f64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ModeArg {
    Full,
    Reduced,
    Auto,
}

/// Runs what was asked for.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted)).context("signals cannot be caught")?;
    }
    let scenarios = load::all(&args.dir)?;
    let probes = kernel_has_probes();
    let settings = Settings {
        nattrace: find_program(&args.nattrace)?,
        mode: match args.mode {
            ModeArg::Full => Mode::Full,
            ModeArg::Auto if probes => Mode::Full,
            ModeArg::Reduced | ModeArg::Auto => Mode::Reduced,
        },
        withhold_probes: probes && matches!(args.mode, ModeArg::Reduced),
    };
    let outputs = Outputs::choose(args)?;
    let mut report = Report::open(args.jsonl.as_deref())?;
    netns::sweep();
    for scenario in scenarios {
        if !args.filter.is_empty() && !args.filter.iter().any(|part| scenario.name.contains(part.as_str())) {
            continue;
        }
        if interrupted.load(Ordering::Relaxed) {
            break;
        }
        let begun = Instant::now();
        let limits = Limits {
            deadline: begun + Duration::from_secs_f64(scenario.script.timeout * args.patience),
            interrupted: Arc::clone(&interrupted),
            patience: args.patience,
        };
        let dir = outputs.dir.join(scenario.name.replace('/', "-"));
        let verdict = missing(&scenario, &settings).map_or_else(
            || one(&scenario, &settings, &dir, limits, &mut report),
            |reason| Ok(Verdict::Skipped(reason)),
        );
        let verdict = verdict?;
        if !matches!(verdict, Verdict::Failed(_)) && !outputs.keep_all {
            // Nothing is written by a scenario that was skipped.
            let _ = std::fs::remove_dir_all(&dir);
        }
        report.scenario(&scenario.name, &verdict, begun.elapsed(), &dir)?;
    }
    if !outputs.keep_all {
        // Fails, as it should, when outputs of failed scenarios are in it.
        let _ = std::fs::remove_dir(&outputs.dir);
    }
    let passed = report.close()?;
    if interrupted.load(Ordering::Relaxed) {
        eprintln!("scenarios: interrupted; everything is taken down");
        return Ok(ExitCode::from(130));
    }
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs one scenario; an error is the runner's own.
fn one(
    scenario: &Scenario,
    settings: &Settings,
    dir: &Path,
    limits: Limits,
    report: &mut Report,
) -> Result<Verdict> {
    // What an earlier run left would be mistaken for this one's.
    let _ = std::fs::remove_dir_all(dir);
    let mut stage = match Stage::build(scenario, settings, dir, limits) {
        Ok(stage) => stage,
        Err(error) if error.is::<Interrupted>() => return Ok(Verdict::Failed(vec!["interrupted".into()])),
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
        report.measure(&scenario.name, &name, &values)?;
    }
    problems.extend(stage.tear_down());
    if !problems.is_empty() {
        std::fs::write(dir.join("problems.txt"), problems.join("\n"))
            .with_context(|| format!("{} cannot be written to", dir.display()))?;
        return Ok(Verdict::Failed(problems));
    }
    Ok(Verdict::Passed)
}

/// Why a scenario cannot be run here.
fn missing(scenario: &Scenario, settings: &Settings) -> Option<String> {
    scenario.script.needs.iter().find_map(|need| match (need, settings.mode) {
        (Need::Probes, Mode::Reduced) => Some("needs kernel probes, which are not to be had here".to_owned()),
        (Need::Reduced, Mode::Full) => Some("is about kernels without probes".to_owned()),
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
