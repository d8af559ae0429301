//! What opens reports in tests: a browser without a screen, and the npm packages that drive it.

use std::{fs, path::PathBuf, process::Command};

use anyhow::Result;

use super::{apt, tools};
use crate::{cache::Cache, cargo, process, progress};

/// Programs, and the Debian packages that have them.
const PROGRAMS: [(&str, &str); 3] = [(SHELL, SHELL), ("node", "nodejs"), ("npm", "npm")];
/// Chromium without windows: a third less to fetch than the whole.
const SHELL: &str = "chromium-headless-shell";

/// The folder of the tests.
pub(crate) fn folder() -> PathBuf {
    cargo::workspace().join("tests/browser")
}

/// Whether there is a browser, or one can be had: Ubuntu, for one, has none that apt installs.
pub(crate) fn is_available() -> bool {
    has_browser() || apt::is_available() && apt::candidate(SHELL).is_some()
}

fn has_browser() -> bool {
    [SHELL, "chromium"].iter().any(|program| process::find(program).is_some())
}

/// Installs what is missing.
pub(crate) fn install_missing(cache: &Cache) -> Result<()> {
    let wanted: Vec<_> =
        PROGRAMS.into_iter().filter(|(program, _)| *program != SHELL || !has_browser()).collect();
    tools::install(cache, &wanted)?;
    if !has_packages() {
        let _lock = cache.lock()?;
        progress::step("installing the npm packages of tests/browser");
        process::output_for(
            Command::new("npm").args(["ci", "--quiet"]).current_dir(folder()),
            "install the npm packages of tests/browser",
        )?;
    }
    Ok(())
}

/// Whether what npm installed last is what the lock file names now.
fn has_packages() -> bool {
    let changed = |file: &str| fs::metadata(folder().join(file)).and_then(|file| file.modified()).ok();
    let (wanted, installed) = (changed("package-lock.json"), changed("node_modules/.package-lock.json"));
    installed.is_some() && installed >= wanted
}
