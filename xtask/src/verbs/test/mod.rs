//! `cargo xtask test`

mod checks;
mod report;
mod scenarios;
mod tally;

use std::{process::ExitCode, time::Instant};

use anyhow::Result;

use self::tally::Tally;
use crate::{cache::Cache, cargo, setup};

/// What to test.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The kernels to boot, of 5.10, 6.1, 6.12 and 7.3
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values = setup::kernel::DEFAULT)]
    kernel: Vec<String>,
    /// Only the scenarios, and those only on this machine's own kernel
    #[arg(long, conflicts_with = "no_guest")]
    host: bool,
    /// Everything but the guests
    #[arg(long)]
    no_guest: bool,
    /// Only tests and scenarios with this in their name; no lints
    filter: Option<String>,
}

/// Runs everything, a failure or not, and closes with the counts of all.
pub(crate) fn run(cache: &Cache, args: &Args) -> Result<ExitCode> {
    let filter = args.filter.as_deref();
    let tools = setup::ebpf(cache)?;
    setup::tools::install_missing(cache)?;
    let kernels = if args.host || args.no_guest { &[][..] } else { &args.kernel[..] };
    for series in kernels {
        // Before the first test: a kernel that cannot be had is a wrong call, not a failed test.
        setup::kernel::get(cache, series)?;
    }
    let results = cargo::target_dir()?.join("scenarios");
    let mut all = Tally::default();
    let mut add = |what: &str, started: Instant, tally: Tally| {
        println!("{what}: {tally}, {:.0} s", started.elapsed().as_secs_f64());
        all = all + tally;
    };
    if !args.host {
        if filter.is_none() {
            let started = Instant::now();
            add("lints", started, checks::lints(&tools)?);
        }
        println!();
        let started = Instant::now();
        add("unit tests", started, checks::unit_tests(&tools, filter)?);
    }
    let programs = cargo::programs(cache, true)?;
    let started = Instant::now();
    add("host", started, scenarios::on_host(&programs, filter, &results.join("host"))?);
    for series in kernels {
        let started = Instant::now();
        let tally = scenarios::in_guest(cache, series, &programs, filter, &results.join(series))?;
        add(&format!("kernel {series}"), started, tally);
    }
    println!("\n{all}");
    Ok(if all.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
