//! Everything a person types to work on nattrace: `cargo xtask VERB`.

mod cache;
mod process;
mod progress;
mod setup;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::cache::Cache;

/// Work on nattrace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Fetch or build what the other verbs need (they do it themselves when it is missing)
    Setup {
        /// Print what a shell must export to build the eBPF side by hand
        #[arg(long)]
        env: bool,
    },
}

fn main() -> ExitCode {
    match dispatch(Cli::parse().verb) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn dispatch(verb: Verb) -> Result<ExitCode> {
    let cache = Cache::open()?;
    match verb {
        Verb::Setup { env } => {
            let tools = setup::ebpf(&cache)?;
            setup::tools::install_missing(&cache)?;
            for series in ["6.1", "6.12"] {
                println!("{:?}", setup::kernel::get(&cache, series)?);
            }
            if env {
                println!("{}", tools.describe(&cache));
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}
