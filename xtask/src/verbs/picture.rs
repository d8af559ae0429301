//! `cargo xtask picture`

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::{cache::Cache, cargo, process, setup};

/// Takes the picture of a report that the README shows.
pub(crate) fn run(cache: &Cache) -> Result<ExitCode> {
    setup::browser::install_missing(cache)?;
    let nattrace = cargo::build_nattrace(cache)?;
    let picture = cargo::workspace().join("docs/report.png");
    let mut command = Command::new("node");
    command.arg("picture.mjs").arg(&picture).current_dir(setup::browser::folder());
    process::output_for(command.env("NATTRACE", nattrace), "take the picture")?;
    println!("{}", picture.display());
    Ok(ExitCode::SUCCESS)
}
