//! What needs no kernel: formatting, lints, and the tests that cargo runs.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};

use super::{super::dist, report::Report, tally::Tally};
use crate::{cache::Cache, cargo, guest::elf, process, setup};

/// Formatting and lints, of both sides.
pub(super) fn lints(cache: &Cache, tools: &setup::EbpfTools) -> Result<Tally> {
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
        .chain([dependencies(cache)])
        .sum()
}

/// Licences, doubles and origins of what the workspace is made of. Advisories are another machine's to look for: their
/// database is not among the registries.
fn dependencies(cache: &Cache) -> Result<Tally> {
    let target = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    // What only other features need was not fetched by building.
    let mut fetch = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    fetch.args(["fetch", "--quiet", "--locked", "--target", &target]).current_dir(cargo::workspace());
    let deny = setup::deny::get(cache).and_then(|deny| process::output(&mut fetch).map(|_| deny));
    let deny = match deny {
        Ok(deny) => deny,
        Err(error) => {
            println!("skipped cargo-deny: {error:#}");
            return Ok(Tally::SKIPPED);
        }
    };
    let mut check = Command::new(deny);
    check.args(["--offline", "--log-level", "error", "--target", &target]);
    check.args(["check", "bans", "licenses", "sources"]).current_dir(cargo::workspace());
    let passed = process::status(check.stdout(Stdio::null()))?.success();
    println!("{} cargo-deny", if passed { "ok" } else { "FAILED" });
    Ok(Tally::one(passed))
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

/// What `cargo xtask dist` makes: one file that needs no library, and a package that has it and what goes with it.
pub(super) fn packages(cache: &Cache) -> Tally {
    let unpacked = dist::make(cache).and_then(|made| unpack(&made));
    let dist = unpacked.as_deref().map_err(|error| format!("{error:#}")).and_then(|root| {
        wrong_with_program(root).unwrap_or_else(|error| Some(format!("{error:#}"))).map_or(Ok(()), Err)
    });
    let mut all = told("dist", &dist);
    if process::find(ANALYZE).is_none() {
        println!("skipped service: no {ANALYZE} on this machine");
        return all + Tally::SKIPPED;
    }
    if let Ok(root) = unpacked {
        all = all + told("service", &wrong_with_service(&root).map_err(|error| format!("{error:#}")));
    }
    all
}

fn told(name: &str, result: &Result<(), String>) -> Tally {
    match result {
        Ok(()) => println!("ok {name}"),
        Err(problem) => println!("FAILED {name} {problem}"),
    }
    Tally::one(result.is_ok())
}

/// What judges units.
const ANALYZE: &str = "systemd-analyze";

/// How exposed the service may be, of 100; it is 23 with systemd 252, most of it for what tracing is.
const EXPOSURE: u32 = 25;

/// The unit is one that systemd takes, and locks the service up as far as it is to be.
fn wrong_with_service(root: &Path) -> Result<()> {
    let instance = dist::UNIT.replace('@', "@example");
    let mut verify = Command::new(ANALYZE);
    verify.args(["verify", "--man=no", "--recursive-errors=no"]);
    verify.arg(format!("--root={}", root.display())).arg(&instance);
    process::output_for(&mut verify, "verify the unit")?;
    let mut security = Command::new(ANALYZE);
    security.args(["security", "--offline=true", "--no-pager", &format!("--threshold={EXPOSURE}")]);
    security.arg(format!("--root={}", root.display())).arg(&instance);
    process::output_for(&mut security, "find the service locked up")?;
    Ok(())
}

/// Unpacks the package that was made.
fn unpack(made: &[PathBuf]) -> Result<PathBuf> {
    let package = made.iter().find(|path| path.extension().is_some_and(|is| is == "deb"));
    let package = package.context("has made no package")?;
    let to = package.with_extension("unpacked");
    process::output_for(
        Command::new("dpkg-deb").arg("--extract").args([package, &to]),
        "unpack the package",
    )?;
    Ok(to)
}

/// What is wrong with the program in the package, if anything is.
fn wrong_with_program(to: &Path) -> Result<Option<String>> {
    let program = to.join("usr/bin/nattrace");
    let libraries = elf::libraries(std::slice::from_ref(&program))?;
    if !libraries.is_empty() {
        return Ok(Some(format!("the program needs {libraries:?}")));
    }
    let said = process::output_for(Command::new(&program).arg("--version").env_clear(), "run it")?;
    if !said.starts_with("nattrace ") {
        return Ok(Some(format!("the program says {said:?}")));
    }
    let beside = [
        "usr/share/man/man1/nattrace.1",
        "usr/share/bash-completion/completions/nattrace",
        "usr/share/doc/nattrace/docs/nattrace.schema.json",
        "usr/share/doc/nattrace/examples/example.conf",
    ];
    let missing = beside.iter().find(|file| !to.join(file).is_file());
    Ok(missing.map(|file| format!("the package lacks {file}")))
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
