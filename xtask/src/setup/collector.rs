//! rotel, an OpenTelemetry collector in one file, from PyPI.

use std::{env, fs, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context as _, Result};

use super::tools;
use crate::{
    cache::{self, Cache},
    process, progress,
};

/// The last release that needs no libpython and runs with every glibc, and its wheel.
const REQUIREMENT: &str = "rotel==0.0.1a8 \
     --hash=sha256:1f46581987ab0e4571b8deaeb271d656d6ae07398ae01169249a0ce73b65eae7\n";

/// The collector, fetched if need be.
pub(crate) fn get(cache: &Cache) -> Result<PathBuf> {
    let place = cache.join("rotel-0.0.1a8");
    let program = place.join("rotel/rotel-agent");
    if is_ready(&program) {
        return Ok(program);
    }
    let mut pip = Command::new("python3");
    if !process::succeeds_within(pip.args(["-m", "pip", "--version"]), Duration::from_secs(20)) {
        tools::install(cache, &[("pip3", "python3-pip")])?;
    }
    let _lock = cache.lock()?;
    if is_ready(&program) {
        return Ok(program);
    }
    progress::step(format_args!("fetching rotel, an OpenTelemetry collector"));
    let scratch = cache.scratch("rotel")?;
    let (requirement, whole) = (scratch.join("requirement"), scratch.join("whole"));
    fs::write(&requirement, REQUIREMENT)?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-compile"]);
    pip.args(["--only-binary", ":all:", "--require-hashes", "--requirement"]).arg(&requirement);
    pip.arg("--target").arg(&whole).current_dir(env::temp_dir());
    process::output_for(&mut pip, "fetch rotel")
        .context("scenarios with a collector need Python's pip (Debian: python3-pip)")?;
    cache::publish(&whole, &place)?;
    cache::remove(&scratch)?;
    Ok(program)
}

fn is_ready(program: &PathBuf) -> bool {
    program.is_file()
        && process::succeeds_within(Command::new(program).arg("version"), Duration::from_secs(20))
}
