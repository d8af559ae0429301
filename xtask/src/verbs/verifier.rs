//! `cargo xtask verifier`

use std::{fs, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};

use super::guest::{pass_on, standard_job};
use crate::{cache::Cache, cargo, guest, guest::Job, progress, setup};

/// For which kernels.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The kernels to boot; 5.10 does not tell
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values = ["6.1", "6.12", "7.3"])]
    kernel: Vec<String>,
}

/// The scenario that has the records.
const SCENARIO: &str = "verifier";

/// Records how many instructions the verifier goes through for each program, for the scenario that compares.
pub(crate) fn run(cache: &Cache, args: &Args) -> Result<ExitCode> {
    setup::tools::install_missing(cache)?;
    let programs = cargo::programs(cache, true)?;
    for series in &args.kernel {
        let kernel = setup::kernel::get(cache, series)?;
        let results = cargo::target_dir()?.join(SCENARIO).join(series);
        fs::create_dir_all(&results).with_context(|| format!("cannot create {}", results.display()))?;
        let job = Job {
            command: format!(
                "set -e; rm -f /scenarios/{SCENARIO}/{series}.toml; export UPDATE_EXPECTED=1; \
                 scenarios run --nattrace /usr/bin/nattrace --dir /scenarios --filter {SCENARIO}; \
                 cp /scenarios/{SCENARIO}/{series}.toml /results/"
            ),
            limit: Duration::from_mins(5),
            results: Some(results.clone()),
            ..standard_job(&programs)
        };
        progress::step(format_args!("starting a guest with kernel {}", kernel.release));
        let status = guest::run(cache, &kernel, &job, &mut pass_on)?;
        if status != 0 {
            return Ok(ExitCode::from(u8::try_from(status).unwrap_or(1)));
        }
        let name = format!("{series}.toml");
        let kept = cargo::workspace().join("tests/scenarios").join(SCENARIO).join(&name);
        fs::copy(results.join(&name), &kept).with_context(|| format!("cannot write {}", kept.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}
