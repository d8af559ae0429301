//! `cargo xtask demo`

use std::{process::ExitCode, time::Duration};

use anyhow::Result;

use super::guest::{pass_on, standard_job};
use crate::{cache::Cache, cargo, guest, guest::Job, progress, setup};

/// Where to show it.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The kernel series
    #[arg(long, default_value = "6.12")]
    kernel: String,
    /// Take nattrace and scenarios as they were built last
    #[arg(long)]
    no_build: bool,
}

/// Shows a broken port-forward and its repair in a guest; this machine's network is not touched.
pub(crate) fn run(cache: &Cache, args: &Args) -> Result<ExitCode> {
    setup::tools::install_missing(cache)?;
    let kernel = setup::kernel::get(cache, &args.kernel)?;
    let programs = cargo::programs(cache, !args.no_build)?;
    let job = Job {
        command: "exec scenarios demo".to_owned(),
        limit: Duration::from_mins(5),
        ..standard_job(&programs)
    };
    progress::step(format_args!("starting a guest with kernel {}", kernel.release));
    let status = guest::run(cache, &kernel, &job, &mut pass_on)?;
    Ok(ExitCode::from(u8::try_from(status).unwrap_or(1)))
}
