//! The scenario suite, on this machine's own kernel and in guests.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::{report::Report, tally::Tally};
use crate::{
    cache::Cache,
    cargo::{self, Programs},
    guest::{self, Job, Stream},
    process, progress, setup,
    verbs::{
        guest::{pass_on, standard_job},
        soak,
    },
};

/// How long the whole suite may take in a guest.
const GUEST_LIMIT: Duration = Duration::from_mins(30);

/// How many scenarios a guest plays at a time: twice as many as it has processors, since they wait a lot.
const GUEST_JOBS: u32 = 4;

/// Two rounds of load, overflow and calm.
const SOAK_MINUTES: f64 = 1.0;

/// Which scenarios a guest plays.
#[derive(Debug, Clone, Copy)]
pub(super) enum Choice<'a> {
    /// Those with this in their name.
    Named(&'a str),
    /// All that differs with probes, and a short soak.
    Brief,
    /// The same after another kernel: without what is the same on each.
    Again,
    /// The few that are played on every kernel.
    Sample,
}

/// Runs the suite on this machine, in namespaces that the runner makes and removes.
pub(super) fn on_host(
    programs: &Programs,
    collector: &Path,
    filter: Option<&str>,
    results: &Path,
) -> Result<Tally> {
    println!("\nscenarios on this machine's kernel");
    let Some(mut command) = host_command(programs, collector) else {
        println!("skipped: not root, and sudo asks for a password");
        return Ok(Tally::SKIPPED);
    };
    fs::create_dir_all(results).with_context(|| format!("cannot create {}", results.display()))?;
    command.args(filter.iter().flat_map(|filter| ["--filter", filter]));
    command.arg("--jsonl").arg(results.join("scenarios.jsonl"));
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child =
        command.spawn().with_context(|| format!("cannot start {}", programs.scenarios.display()))?;
    let mut report = Report::of_scenarios();
    if let Some(output) = child.stdout.take() {
        report.read(output)?;
    }
    let status = child.wait()?;
    Ok(close(&report, status.success()))
}

/// The runner on this machine, as root; nothing where sudo asks for a password.
pub(crate) fn host_command(programs: &Programs, collector: &Path) -> Option<Command> {
    let mut command = if process::is_root() {
        Command::new(&programs.scenarios)
    } else if process::succeeds_within(Command::new("sudo").args(["-n", "true"]), Duration::from_secs(5)) {
        let mut command = Command::new("sudo");
        command.args(["-n", "--"]).arg(&programs.scenarios);
        command
    } else {
        return None;
    };
    command.arg("run").arg("--nattrace").arg(&programs.nattrace);
    command.arg("--dir").arg(cargo::workspace().join("tests/scenarios"));
    command.arg("--collector").arg(collector);
    Some(command)
}

/// The runner in a guest that has it.
pub(crate) fn guest_command() -> String {
    format!("scenarios run --nattrace /usr/bin/nattrace --dir /scenarios --jobs {GUEST_JOBS}")
}

/// Runs the suite in one boot of a kernel.
pub(super) fn in_guest(
    cache: &Cache,
    series: &str,
    programs: &Programs,
    choice: Choice<'_>,
    results: &Path,
) -> Result<Tally> {
    let kernel = setup::kernel::get(cache, series)?;
    println!("\nscenarios in a guest with kernel {}", kernel.release);
    let mut command = guest_command();
    command.push_str(" --jsonl /results/scenarios.jsonl");
    match choice {
        Choice::Named(filter) => {
            command.push_str(" --filter ");
            command.push_str(&process::quoted(filter.as_ref()));
        }
        Choice::Brief => {
            command.push_str(" --brief; status=$?; ");
            command.push_str(&soak::load(SOAK_MINUTES));
            command.push_str(" && exit $status");
        }
        Choice::Again => command.push_str(" --brief --again"),
        Choice::Sample => command.push_str(" --brief --sample"),
    }
    fs::create_dir_all(results).with_context(|| format!("cannot create {}", results.display()))?;
    let job =
        Job { command, limit: GUEST_LIMIT, results: Some(results.to_owned()), ..standard_job(programs) };
    let mut report = Report::of_scenarios();
    let ended = guest::run(cache, &kernel, &job, &mut |stream, bytes| match stream {
        Stream::Output => report.push(bytes),
        Stream::Error => pass_on(stream, bytes),
    });
    report.finish()?;
    let succeeded = match ended {
        Ok(status) => status == 0,
        Err(error) => {
            println!("FAILED guest {series}");
            progress::step(format_args!("{error:#}"));
            false
        }
    };
    Ok(close(&report, succeeded))
}

/// The counts of one run; a run that ended without any, or that did not run through, has failed.
fn close(report: &Report, succeeded: bool) -> Tally {
    if report.tally.is_none() {
        println!("FAILED: the runner ended before its counts");
    }
    report.tally.unwrap_or_default().or_failed(succeeded && report.tally.is_some())
}
