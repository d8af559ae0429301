//! `cargo xtask record`

use std::{
    fs,
    path::Path,
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::guest::{pass_on, standard_job};
use crate::{cache, cache::Cache, cargo, guest, guest::Job, process, progress, setup};

/// Where to play.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The kernel series whose recordings are preferred; scenarios that are not played there are this machine's
    #[arg(long, default_value = "6.12")]
    kernel: String,
}

/// Records every scenario, with what is told of it live, for the unit tests of replays.
pub(crate) fn run(cache: &Cache, args: &Args) -> Result<ExitCode> {
    setup::tools::install_missing(cache)?;
    let kernel = setup::kernel::get(cache, &args.kernel)?;
    let programs = cargo::programs(cache, true)?;
    let made = cargo::target_dir()?.join("recordings");
    cache::remove(&made)?;
    let (in_guest, on_host) = (made.join("guest"), made.join("host"));
    fs::create_dir_all(&in_guest).with_context(|| format!("cannot create {}", in_guest.display()))?;
    let job = Job {
        command: "exec scenarios run --nattrace /usr/bin/nattrace --dir /scenarios --jobs 3 --brief \
                  --recordings /results"
            .to_owned(),
        limit: Duration::from_mins(45),
        results: Some(in_guest.clone()),
        ..standard_job(&programs)
    };
    progress::step(format_args!("starting a guest with kernel {}", kernel.release));
    let status = guest::run(cache, &kernel, &job, &mut pass_on)?;
    let mut host = Command::new(&programs.scenarios);
    host.args(["run", "--recordings"]).arg(&on_host).arg("--nattrace").arg(&programs.nattrace);
    let host = process::status(host.arg("--dir").arg(cargo::workspace().join("tests/scenarios")))?;
    if status != 0 || !host.success() {
        progress::step(format_args!(
            "not every scenario passed: the recordings are left in {}",
            made.display()
        ));
        return Ok(ExitCode::FAILURE);
    }
    let kept = cargo::workspace().join("nattrace/tests/recordings");
    for entry in fs::read_dir(&kept)? {
        let path = entry?.path();
        if is_recorded(&path) {
            fs::remove_file(&path)?;
        }
    }
    for from in [&on_host, &in_guest] {
        for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
            let path = entry?.path();
            if is_recorded(&path) {
                fs::copy(&path, kept.join(path.file_name().unwrap_or_default()))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A recording, or what was told of it.
fn is_recorded(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rec" || extension == "gz")
}
