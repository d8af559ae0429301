//! nattrace: parse, plan, run, answer.

use std::io::{self, Write};
use std::process::ExitCode;

use nattrace::cli::{self, ExitStatus, Stop, Terminal};
use nattrace::session;

fn main() -> ExitCode {
    let result = match cli::parse(std::env::args_os(), &Terminal::of_this_process()) {
        Ok(plan) => session::run(plan),
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
