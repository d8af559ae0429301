//! `cargo xtask soak`

use std::{process::ExitCode, time::Duration};

use anyhow::Result;

use super::guest::{pass_on, standard_job};
use crate::{cache::Cache, cargo, guest, guest::Job, progress, setup};

/// How long, and where.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many minutes of load
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,
    /// Instead, end nattrace so often at random moments, in every way, and see what is left
    #[arg(long, value_name = "TIMES", num_args = 0..=1, default_missing_value = "200")]
    kills: Option<u32>,
    /// The kernels to boot, one after another
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values = ["6.12"])]
    kernel: Vec<String>,
    /// Take nattrace and scenarios as they were built last
    #[arg(long)]
    no_build: bool,
}

/// What the machine may do beside its load: start, calm, end.
const AROUND: Duration = Duration::from_mins(8);

/// Longer than one end takes in a guest on a busy machine.
const EACH_KILL: Duration = Duration::from_secs(30);

/// Does it on each kernel; 1 where something did not hold.
pub(crate) fn run(cache: &Cache, args: &Args) -> Result<ExitCode> {
    setup::tools::install_missing(cache)?;
    let programs = cargo::programs(cache, !args.no_build)?;
    let mut failed = false;
    for series in &args.kernel {
        let kernel = setup::kernel::get(cache, series)?;
        let (command, time) = match args.kills {
            Some(times) => (kills(times), EACH_KILL * times),
            None => (load(args.minutes), Duration::from_secs_f64(args.minutes * 60.0)),
        };
        let job = Job { command, limit: time + AROUND, ..standard_job(&programs) };
        progress::step(format_args!("starting a guest with kernel {}", kernel.release));
        failed |= guest::run(cache, &kernel, &job, &mut pass_on)? != 0;
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What a guest is told for so many minutes of load.
pub(crate) fn load(minutes: f64) -> String {
    format!("scenarios soak --minutes {minutes} --nattrace /usr/bin/nattrace")
}

fn kills(times: u32) -> String {
    format!("scenarios run --nattrace /usr/bin/nattrace --dir /scenarios --filter kill --kills {times}")
}
