//! Everything a person types to work on nattrace: `cargo xtask VERB`.

mod cache;
mod cargo;
mod guest;
mod process;
mod progress;
mod setup;
mod verbs;

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
    Setup(verbs::setup::Args),
    /// Run a shell command in a guest with a Debian kernel; nattrace and the scenarios are there
    Guest(verbs::guest::Args),
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
        Verb::Setup(args) => verbs::setup::run(&cache, &args),
        Verb::Guest(args) => verbs::guest::run(&cache, &args),
    }
}
