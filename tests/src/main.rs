//! `scenarios`: runs nattrace against real kernels, real rulesets and real traffic, and compares what it says
//! with what others saw.

mod bench;
mod bpf;
mod demo;
mod lab;
mod measure;
mod oracle;
mod runner;
mod scenario;
mod soak;
mod traffic;
mod usage;

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

/// The program.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run scenarios, one after another
    Run(runner::Args),
    /// Say which scenarios there are and what they prove
    List {
        /// Where the scenarios are
        #[arg(long)]
        dir: PathBuf,
    },
    /// Break a port-forward in three namespaces, find it with nattrace, mend it
    Demo(demo::Args),
    /// Trace a machine that never rests, for long, and see that nothing grows, goes wrong or is left
    Soak(soak::Args),
    /// Compare what tools cost the packets that a router forwards
    Bench(bench::Args),
    /// Measure how fast events become journeys and output, and in how much memory
    Measure(measure::Args),
    /// Run a command inside a network namespace (`-`: the present one); it dies with its parent
    #[command(hide = true)]
    Enter {
        /// Name under /run/netns
        namespace: String,
        /// What to run
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Generate traffic
    #[command(hide = true)]
    Traffic {
        #[command(subcommand)]
        traffic: traffic::Traffic,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().verb) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("scenarios: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(verb: Verb) -> Result<ExitCode> {
    match verb {
        Verb::Run(args) => runner::run(&args),
        Verb::List { dir } => {
            for scenario in scenario::load::all(&dir)? {
                println!("{:32} {}", scenario.name, scenario.script.about);
            }
            Ok(ExitCode::SUCCESS)
        }
        Verb::Soak(args) => soak::run(&args),
        Verb::Demo(args) => demo::run(&args),
        Verb::Bench(args) => bench::run(&args),
        Verb::Measure(args) => measure::run(&args).map(|()| ExitCode::SUCCESS),
        Verb::Enter { namespace, command } => enter(&namespace, &command),
        Verb::Traffic { traffic } => traffic::run(traffic).map(|()| ExitCode::SUCCESS),
    }
}

/// Becomes `command`. Whatever happens to the runner, the command does not stay behind.
fn enter(namespace: &str, command: &[OsString]) -> Result<ExitCode> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .context("the kernel refuses a parent death signal")?;
    if namespace != "-" {
        lab::netns::enter(namespace)?;
    }
    let (program, args) = command.split_first().context("no command")?;
    let error = Command::new(program).args(args).exec();
    Err(error).with_context(|| format!("{} cannot be started", program.to_string_lossy()))
}
