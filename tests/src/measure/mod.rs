//! How fast events become journeys and journeys become output, and in how much memory: on this machine, on one processor.
//! Nothing here needs a kernel to trace.

mod cost;
mod stage;
mod traffic;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args as Arguments;
use serde::Serialize;

use cost::Cost;
use stage::Stage;

/// Figures of user space.
#[derive(Debug, Arguments)]
pub(crate) struct Args {
    /// Events in the recording
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,
    /// The nattrace to be measured
    #[arg(long)]
    nattrace: PathBuf,
    /// Where recordings are made, and removed again
    #[arg(long, default_value = "/tmp")]
    folder: PathBuf,
    /// Processor to run on
    #[arg(long, default_value_t = 0)]
    cpu: usize,
    /// Where the figures go as JSON Lines; `-`: standard output, instead of the table
    #[arg(long)]
    json: Option<PathBuf>,
    /// Measure these stages only
    #[arg(long, value_delimiter = ',')]
    stages: Vec<String>,
    /// Do the work of one stage here, and say what it cost
    #[arg(long, hide = true)]
    inside: Option<Stage>,
}

/// One line of the result.
#[derive(Debug, Serialize)]
struct Figure {
    /// What was measured.
    stage: String,
    /// Of what.
    events: u64,
    /// Events for each second of processor time.
    events_per_second: u64,
    /// Processor time, of user and kernel together: seconds.
    processor_s: f64,
    /// Bytes of the recording, where one was written or read.
    #[serde(skip_serializing_if = "Option::is_none")]
    file_bytes: Option<u64>,
    /// Peak resident memory of the process: bytes. Of a stage that is measured inside of this program, with it.
    peak_bytes: u64,
}

/// Measures, and tells.
pub(crate) fn run(args: &Args) -> Result<()> {
    if let Some(stage) = args.inside {
        let cost = stage.run(args.events, &args.folder)?;
        println!("{}", serde_json::to_string(&cost)?);
        return Ok(());
    }
    pin(args.cpu)?;
    let folder = args.folder.join(format!("nattrace-measure-{}", std::process::id()));
    std::fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
    let figures = measure(args, &folder);
    std::fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let figures = figures?;
    let lines: Vec<String> = figures.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
    match &args.json {
        Some(path) if path == Path::new("-") => {
            println!("{}", lines.join("\n"));
            return Ok(());
        }
        Some(path) => std::fs::write(path, lines.join("\n") + "\n")?,
        None => {}
    }
    println!(
        "{:24} {:>12} {:>14} {:>10} {:>10} {:>9}",
        "stage", "events", "events/s", "CPU s", "peak MB", "file MB"
    );
    for figure in &figures {
        let file = figure.file_bytes.map_or_else(String::new, |bytes| format!("{:.1}", mb(bytes)));
        println!(
            "{:24} {:>12} {:>14} {:>10.2} {:>10.1} {file:>9}",
            figure.stage,
            figure.events,
            figure.events_per_second,
            figure.processor_s,
            mb(figure.peak_bytes)
        );
    }
    Ok(())
}

fn mb(bytes: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let bytes = bytes as f64;
    bytes / 1e6
}

/// Everything that is started from now on runs on this processor alone.
fn pin(cpu: usize) -> Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu);
    rustix::thread::sched_setaffinity(None, &set).context("cannot be bound to a processor")
}

fn measure(args: &Args, folder: &Path) -> Result<Vec<Figure>> {
    let wanted = |name: &str| args.stages.is_empty() || args.stages.iter().any(|stage| stage == name);
    let mut figures = Vec::new();
    let figure = |stage: &str, cost: &Cost, file: Option<&Path>| -> Result<Figure> {
        let file_bytes = file.map(|file| file.metadata().map(|data| data.len())).transpose()?;
        let processor_s = cost.processor.as_secs_f64();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate is small and positive"
        )]
        #[expect(clippy::cast_precision_loss, reason = "a rate is rounded")]
        let events_per_second = (cost.events as f64 / processor_s.max(1e-9)) as u64;
        Ok(Figure {
            stage: stage.to_owned(),
            events: cost.events,
            events_per_second,
            processor_s,
            file_bytes,
            peak_bytes: cost.peak_bytes,
        })
    };
    let myself = std::env::current_exe()?;
    for stage in Stage::ALL {
        // Recordings are needed by what follows.
        if !wanted(stage.name()) && !stage.makes_recording() {
            continue;
        }
        let mut command = Command::new(&myself);
        command.args(["measure", "--nattrace", "-", "--inside", stage.name()]);
        command.args(["--events", &args.events.to_string()]).arg("--folder").arg(folder);
        let (output, peak) = cost::outside(&mut command)?;
        if !output.status.success() {
            bail!("{}: {}", stage.name(), String::from_utf8_lossy(&output.stderr));
        }
        let cost: Cost = serde_json::from_slice(&output.stdout).context("a stage says nothing")?;
        let cost = Cost { peak_bytes: peak.peak_bytes, ..cost };
        let file = stage.file().map(|name| folder.join(name));
        figures.push(figure(stage.name(), &cost, file.as_deref())?);
    }
    for (recording, formats) in [
        (stage::MIXED, &["json", "text", "nft", "pcapng"][..]),
        (stage::MIXED_JSON, &["json"][..]),
        (stage::IN_FLIGHT, &["json"][..]),
    ] {
        for format in formats {
            let name = format!("replay-{format}-{}", recording.trim_end_matches(".rec"));
            if !wanted(&name) {
                continue;
            }
            let file = folder.join(recording);
            let mut command = Command::new(&args.nattrace);
            command.arg("replay").arg(&file).args(["--format", format, "-o", "/dev/null"]);
            let (output, cost) = cost::outside(&mut command)?;
            if output.status.code().is_none_or(|code| code > 1) {
                bail!("{name}: {}", String::from_utf8_lossy(&output.stderr));
            }
            figures.push(figure(&name, &Cost { events: args.events, ..cost }, Some(&file))?);
        }
    }
    Ok(figures)
}
