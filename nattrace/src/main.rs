//! nattrace: parse, plan, run, answer.

use std::io::{self, Write};
use std::process::ExitCode;

use nattrace::cli::{self, ExitStatus, Plan, Stop, Terminal};

fn main() -> ExitCode {
    let result = match cli::parse(std::env::args_os(), &Terminal::of_this_process()) {
        Ok(plan) => run(plan),
        Err(Stop::Print(text)) => print(&text).map(|()| ExitStatus::Clean),
        Err(Stop::Mistake(mistake)) => Err(mistake.into()),
    };
    cli::answer(result).into()
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

/// Stands in for the session until there is one.
fn run(_plan: Plan) -> anyhow::Result<ExitStatus> {
    anyhow::bail!("this build has no sources yet; it can only check its command line")
}
