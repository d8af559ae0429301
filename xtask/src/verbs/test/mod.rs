//! `cargo xtask test`

mod browser;
mod checks;
mod report;
pub(crate) mod scenarios;
mod tally;

use std::{process::ExitCode, time::Instant};

use anyhow::Result;

use self::{scenarios::Choice, tally::Tally};
use crate::{cache::Cache, cargo, setup};

/// What to test.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The kernels to boot, of 5.10, 6.1, 6.12 and 7.3; by default all, the first and the last for a few scenarios
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    kernel: Option<Vec<String>>,
    /// Only the scenarios, and those only on this machine's own kernel
    #[arg(long, conflicts_with = "no_guest")]
    host: bool,
    /// Everything but the guests
    #[arg(long)]
    no_guest: bool,
    /// Only tests and scenarios with this in their name; no lints
    filter: Option<String>,
}

/// The kernels to boot, and which scenarios to play on each.
fn guests(args: &Args) -> Vec<(&str, Choice<'_>)> {
    let named = args.filter.as_deref().map(Choice::Named);
    if let Some(kernels) = &args.kernel {
        return kernels.iter().map(|series| (series.as_str(), named.unwrap_or(Choice::Brief))).collect();
    }
    let last = setup::kernel::all().filter(|series| !setup::kernel::is_sampled(series)).last();
    let choice = |series| {
        if setup::kernel::is_sampled(series) {
            Choice::Sample
        } else if Some(series) == last {
            Choice::Brief
        } else {
            Choice::Again
        }
    };
    setup::kernel::all().map(|series| (series, named.unwrap_or(choice(series)))).collect()
}

/// Runs everything, a failure or not, and closes with the counts of all.
pub(crate) fn run(cache: &Cache, args: &Args) -> Result<ExitCode> {
    let filter = args.filter.as_deref();
    let tools = setup::ebpf(cache)?;
    setup::tools::install_missing(cache)?;
    let collector = setup::collector::get(cache)?;
    let opens_reports = !args.host && filter.is_none_or(|filter| browser::NAME.contains(filter));
    let has_browser = opens_reports && setup::browser::is_available();
    if has_browser {
        setup::browser::install_missing(cache)?;
    }
    let mut guests = if args.host || args.no_guest { Vec::new() } else { guests(args) };
    let mut unavailable = Vec::new();
    // Before the first test: a kernel that was asked for and cannot be had is a wrong call, not a failed test.
    for (series, _) in &guests {
        if let Err(error) = setup::kernel::get(cache, series) {
            if args.kernel.is_some() {
                return Err(error);
            }
            unavailable.push((series.to_string(), error));
        }
    }
    guests.retain(|(series, _)| unavailable.iter().all(|(missing, _)| missing != series));
    let results = cargo::target_dir()?.join("scenarios");
    let mut all = Tally::default();
    let mut add = |what: &str, started: Instant, tally: Tally| {
        println!("{what}: {tally}, {:.0} s", started.elapsed().as_secs_f64());
        all = all + tally;
    };
    if !args.host {
        if filter.is_none() {
            let started = Instant::now();
            add("lints", started, checks::lints(cache, &tools)?);
        }
        println!();
        let started = Instant::now();
        add("unit tests", started, checks::unit_tests(&tools, filter)?);
    }
    let programs = cargo::programs(cache, true)?;
    if !args.host && filter.is_none() {
        let started = Instant::now();
        add("packages", started, checks::packages(cache));
    }
    if opens_reports {
        let started = Instant::now();
        add(browser::NAME, started, browser::run(&programs, has_browser)?);
    }
    let started = Instant::now();
    add("host", started, scenarios::on_host(&programs, &collector, filter, &results.join("host"))?);
    for (series, choice) in guests {
        let started = Instant::now();
        let tally = scenarios::in_guest(cache, series, &programs, choice, &results.join(series))?;
        add(&format!("kernel {series}"), started, tally);
    }
    for (series, error) in unavailable {
        println!("\nskipped kernel {series}: {error:#}");
        all = all + Tally::SKIPPED;
    }
    println!("\n{all}");
    Ok(if all.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
