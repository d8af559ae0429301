//! Reports, opened in a browser.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use super::{report::Report, tally::Tally};
use crate::{cargo::Programs, setup};

/// What this step is called.
pub(super) const NAME: &str = "report in a browser";

/// Runs the tests of tests/browser, where there is a browser to run them in.
pub(super) fn run(programs: &Programs, has_browser: bool) -> Result<Tally> {
    println!("\n{NAME}");
    if !has_browser {
        println!("skipped: there is no Chromium, and apt has none; install one as /usr/bin/chromium");
        return Ok(Tally::SKIPPED);
    }
    let mut command = Command::new("node");
    command.args(["--test", "--test-reporter=spec", "report.test.mjs"]).current_dir(setup::browser::folder());
    command.env("NATTRACE", &programs.nattrace).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot start node")?;
    let mut report = Report::of_node();
    if let Some(output) = child.stdout.take() {
        report.read(output)?;
    }
    let status = child.wait()?;
    Ok(report.tally.unwrap_or_default().or_failed(status.success() && report.tally.is_some()))
}
