//! What needs no kernel: formatting, lints, and the tests that cargo runs.

use std::{
    env,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};

use super::{report::Report, tally::Tally};
use crate::{cargo, process, setup};

/// Formatting and lints, of both sides.
pub(super) fn lints(tools: &setup::EbpfTools) -> Result<Tally> {
    let mut fmt = cargo::command(tools);
    fmt.args(["fmt", "--all", "--check"]);
    let mut host = cargo::command(tools);
    host.args(["clippy", "--quiet", "--all-targets", "--", "-D", "warnings"]);
    let checks = [("rustfmt", fmt), ("clippy", host), ("clippy of the kernel side", ebpf_clippy(tools)?)];
    checks
        .into_iter()
        .map(|(name, mut command)| {
            let passed = process::status(&mut command)?.success();
            println!("{} {name}", if passed { "ok" } else { "FAILED" });
            Ok(Tally::one(passed))
        })
        .sum()
}

/// The tests of the workspace's default members.
pub(super) fn unit_tests(tools: &setup::EbpfTools, filter: Option<&str>) -> Result<Tally> {
    let mut command = cargo::command(tools);
    command.args(["test", "--quiet", "--no-fail-fast"]).args(filter).stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot start cargo")?;
    let mut report = Report::of_cargo();
    if let Some(output) = child.stdout.take() {
        report.read(output)?;
    }
    let status = child.wait()?;
    Ok(report.tally.unwrap_or_default().or_failed(status.success()))
}

/// clippy for a target without a standard library, which only a nightly or a bootstrapping compiler can check.
fn ebpf_clippy(tools: &setup::EbpfTools) -> Result<Command> {
    let mut command = tools.toolchain.command("cargo");
    tools.apply(&mut command);
    command
        .current_dir(cargo::workspace())
        .args(["clippy", "--quiet", "--package", "nattrace-ebpf", "--target", "bpfel-unknown-none"])
        .args(["-Z", "build-std=core", "--release", "--target-dir"])
        // Its own: the host's crates are checked without RUSTC_BOOTSTRAP, and would be checked again.
        .arg(cargo::target_dir()?.join("clippy-ebpf"))
        .args(["--", "-D", "warnings"])
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", format!("--cfg=bpf_target_arch=\"{}\"", env::consts::ARCH))
        .stdout(std::io::stderr());
    Ok(command)
}
