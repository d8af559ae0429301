//! The demonstration.
use anyhow::Result;
use std::path::PathBuf;
use std::process::ExitCode;
/// How to show it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The program to show
    #[arg(long, default_value = "nattrace")]
    nattrace: PathBuf,
}
/// x
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let _ = crate::runner::nattrace(&args.nattrace)?;
    Ok(ExitCode::SUCCESS)
}
