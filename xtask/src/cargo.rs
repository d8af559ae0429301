//! cargo children: they find the eBPF tools, and they leave standard output alone.

use std::{
    env, io,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{cache::Cache, process, progress, setup};

/// The workspace's folder.
pub(crate) fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// cargo, run in the workspace, with the environment that nattrace's build script needs.
pub(crate) fn command(tools: &setup::EbpfTools) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace()).stdout(io::stderr());
    tools.apply(&mut command);
    command
}

/// The programs that go into guests, built or, with `build` false, as they were built last.
#[derive(Debug)]
pub(crate) struct Programs {
    /// nattrace itself.
    pub(crate) nattrace: PathBuf,
    /// The scenario runner.
    pub(crate) scenarios: PathBuf,
}

/// Names of functions stay, for backtraces.
const STRIPPED: &str = "profile.release.strip=\"debuginfo\"";

/// Builds nattrace alone, in release, and returns its path.
pub(crate) fn build_nattrace(cache: &Cache) -> Result<PathBuf> {
    let tools = setup::ebpf(cache)?;
    build(&tools, &["--package", "nattrace", "--bin", "nattrace"])?;
    existing(target_dir()?.join("release/nattrace"))
}

/// The programs that go into guests, and to other machines: each one file that needs no library.
pub(crate) fn programs(cache: &Cache, rebuild: bool) -> Result<Programs> {
    // With a target named, the flags are not those of build scripts and macros.
    let target = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    if rebuild {
        let tools = setup::ebpf(cache)?;
        let flags = format!("target.{target}.rustflags=[\"-C\", \"target-feature=+crt-static\"]");
        let packages = ["--package", "nattrace", "--package", "nattrace-tests", "--bins"];
        build(
            &tools,
            &[&packages[..], &["--target", &target, "--config", &flags, "--config", STRIPPED]].concat(),
        )?;
    }
    let dir = target_dir()?.join(target).join("release");
    Ok(Programs { nattrace: existing(dir.join("nattrace"))?, scenarios: existing(dir.join("scenarios"))? })
}

fn build(tools: &setup::EbpfTools, args: &[&str]) -> Result<()> {
    /// Shorter builds need no word.
    const PATIENCE: Duration = Duration::from_secs(2);

    let mut command = command(tools);
    command.args(["build", "--release", "--quiet"]).args(args);
    let mut child = command.spawn().context("cannot start cargo")?;
    let started = Instant::now();
    let mut told = false;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if !told && started.elapsed() > PATIENCE {
            told = true;
            progress::step("building nattrace (a minute or two the first time)");
        }
        thread::sleep(Duration::from_millis(20));
    };
    if !status.success() {
        bail!("nattrace does not build ({})", process::status_text(status));
    }
    Ok(())
}

fn existing(path: PathBuf) -> Result<PathBuf> {
    if !path.is_file() {
        bail!("{} does not exist: leave out --no-build", path.display());
    }
    Ok(path)
}

/// The folder that cargo builds into.
pub(crate) fn target_dir() -> Result<PathBuf> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace()).args(["metadata", "--format-version", "1", "--no-deps", "--offline"]);
    let text = process::output_for(&mut cargo, "find the target folder")?;
    let metadata: serde_json::Value = serde_json::from_str(&text).context("cannot read cargo's metadata")?;
    let dir = metadata["target_directory"].as_str().context("cargo's metadata names no target folder")?;
    Ok(PathBuf::from(dir))
}
