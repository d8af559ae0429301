//! `cargo xtask record`

use std::{fs, path::Path, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, bail};

use super::{
    guest::{pass_on, standard_job},
    test::scenarios,
};
use crate::{cache, cache::Cache, cargo, guest, guest::Job, process, progress, setup};

/// Where to play.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The kernel series for scenarios that this machine's own kernel does not allow
    #[arg(long, default_value = "6.12")]
    kernel: String,
}

/// Records every scenario, with what is told of it live, for the unit tests of replays.
pub(crate) fn run(cache: &Cache, args: &Args) -> Result<ExitCode> {
    setup::tools::install_missing(cache)?;
    let kernel = setup::kernel::get(cache, &args.kernel)?;
    let collector = setup::collector::get(cache)?;
    let programs = cargo::programs(cache, true)?;
    let made = cargo::target_dir()?.join("recordings");
    cache::remove(&made)?;
    let (on_host, in_guest) = (made.join("host"), made.join("guest"));
    for place in [&on_host, &in_guest] {
        fs::create_dir_all(place).with_context(|| format!("cannot create {}", place.display()))?;
    }
    let told = made.join("scenarios.jsonl");
    let Some(mut host) = scenarios::host_command(&programs, &collector) else {
        bail!("scenarios need root, and sudo asks for a password");
    };
    let passed = process::status(host.arg("--recordings").arg(&on_host).arg("--jsonl").arg(&told))?.success();
    let skipped = if passed { skipped(&told)? } else { Vec::new() };
    let mut status = i32::from(!passed);
    if !skipped.is_empty() {
        let mut command = scenarios::guest_command() + " --recordings /results";
        for name in skipped {
            command.push_str(" --filter ");
            command.push_str(&process::quoted(name.as_ref()));
        }
        let limit = Duration::from_mins(45);
        let job = Job { command, limit, results: Some(in_guest.clone()), ..standard_job(&programs) };
        progress::step(format_args!("starting a guest with kernel {}", kernel.release));
        status = guest::run(cache, &kernel, &job, &mut pass_on)?;
    }
    if status != 0 {
        progress::step(format_args!("not every scenario passed: the recordings stay in {}", made.display()));
        return Ok(ExitCode::FAILURE);
    }
    let kept = cargo::workspace().join("nattrace/tests/recordings");
    for entry in fs::read_dir(&kept)? {
        let path = entry?.path();
        if is_recorded(&path) {
            fs::remove_file(&path)?;
        }
    }
    for from in [&in_guest, &on_host] {
        for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
            let path = entry?.path();
            if is_recorded(&path) {
                fs::copy(&path, kept.join(path.file_name().unwrap_or_default()))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Names of the scenarios that this machine's kernel did not allow.
fn skipped(told: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(told).with_context(|| told.display().to_string())?;
    let lines = text.lines().map(serde_json::from_str::<serde_json::Value>);
    let lines = lines.collect::<Result<Vec<_>, _>>().with_context(|| told.display().to_string())?;
    let skipped = lines.iter().filter(|line| line["result"] == "skipped");
    Ok(skipped.filter_map(|line| line["scenario"].as_str().map(str::to_owned)).collect())
}

/// A recording, or what was told of it.
fn is_recorded(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rec" || extension == "gz")
}
