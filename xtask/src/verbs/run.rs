//! `cargo xtask run`

use std::{
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
};

use anyhow::{Result, bail};

use crate::{cache::Cache, cargo, process};

/// What to run nattrace with.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// nattrace's own arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<std::ffi::OsString>,
}

/// Becomes nattrace: its signals, streams and exit code are then nobody else's business.
pub(crate) fn run(cache: &Cache, args: &Args) -> Result<ExitCode> {
    let program = cargo::build_nattrace(cache)?;
    let mut command = if process::is_root() {
        Command::new(&program)
    } else {
        let Some(sudo) = process::find("sudo") else {
            bail!("nattrace must run as root, and there is no sudo: run {} as root", program.display());
        };
        let mut command = Command::new(sudo);
        command.arg("--").arg(&program);
        command
    };
    // Returns only when it fails.
    let error = command.args(&args.args).exec();
    bail!("cannot start {}: {error}", program.display())
}
