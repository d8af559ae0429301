//! Everything a person types to work on nattrace: `cargo xtask VERB`.

mod cache;
mod cargo;
mod guest;
mod process;
mod progress;
mod setup;
mod verbs;

use std::{
    io::{self, ErrorKind},
    process::ExitCode,
};

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
    /// Build nattrace and run it as root: `cargo xtask run -- --dport 1222`
    Run(verbs::run::Args),
    /// Lint, test, and run the scenarios on this machine and in guests
    Test(verbs::test::Args),
    /// Show a broken port-forward and its repair in a guest; nothing on this machine is touched
    Demo(verbs::demo::Args),
    /// Run a shell command in a guest with a Debian kernel; nattrace and the scenarios are there
    Guest(verbs::guest::Args),
    /// Make one static file and a Debian package, for machines without a toolchain
    Dist,
    /// Take the picture of a report that the README shows
    Picture,
    /// Load a guest for long while nattrace runs in it, or end nattrace at many moments, and see what becomes of it
    Soak(verbs::soak::Args),
    /// Record every scenario, for the unit tests of replays
    Record(verbs::record::Args),
    /// Give what reads foreign bytes anything at all, with libFuzzer
    Fuzz(verbs::fuzz::Args),
    /// Compare what nattrace and its peers cost a router, in a guest, and write docs/performance.md
    Bench(verbs::bench::Args),
    /// Record how much each kernel's verifier goes through for each program
    Verifier(verbs::verifier::Args),
}

fn main() -> ExitCode {
    match dispatch(Cli::parse().verb) {
        Ok(code) => code,
        // Whoever reads our output has seen enough, as `head` has.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.root_cause().downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

fn dispatch(verb: Verb) -> Result<ExitCode> {
    let cache = Cache::open()?;
    match verb {
        Verb::Setup(args) => verbs::setup::run(&cache, &args),
        Verb::Run(args) => verbs::run::run(&cache, &args),
        Verb::Test(args) => verbs::test::run(&cache, &args),
        Verb::Demo(args) => verbs::demo::run(&cache, &args),
        Verb::Guest(args) => verbs::guest::run(&cache, &args),
        Verb::Dist => verbs::dist::run(&cache),
        Verb::Picture => verbs::picture::run(&cache),
        Verb::Soak(args) => verbs::soak::run(&cache, &args),
        Verb::Record(args) => verbs::record::run(&cache, &args),
        Verb::Fuzz(args) => verbs::fuzz::run(&args),
        Verb::Bench(args) => verbs::bench::run(&cache, &args),
        Verb::Verifier(args) => verbs::verifier::run(&cache, &args),
    }
}
