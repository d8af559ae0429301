//! `cargo xtask setup`

use std::process::ExitCode;

use anyhow::Result;

use crate::{cache::Cache, setup};

/// What to bring.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only what building nattrace takes: no test programs, no kernels
    #[arg(long)]
    build_only: bool,
    /// The kernels to fetch
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values = setup::kernel::all())]
    kernel: Vec<String>,
    /// Print what a shell must export to build the eBPF side by hand
    #[arg(long)]
    env: bool,
}

/// Brings it.
pub(crate) fn run(cache: &Cache, args: &Args) -> Result<ExitCode> {
    let tools = setup::ebpf(cache)?;
    if args.env {
        println!("{}", tools.describe());
    }
    if !args.build_only && !args.env {
        setup::tools::install_missing(cache)?;
        setup::collector::get(cache)?;
        setup::deny::get(cache)?;
        if setup::browser::is_available() {
            setup::browser::install_missing(cache)?;
        }
        for series in &args.kernel {
            setup::kernel::get(cache, series)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
