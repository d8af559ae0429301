//! `cargo xtask guest`

use std::{
    ffi::OsStr,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::Result;

use crate::{
    cache::Cache,
    cargo,
    guest::{self, Clock, Job, Stream},
    process, setup,
};

/// Which guest, and what it is to do.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The kernel series
    #[arg(long, default_value = "6.12")]
    kernel: String,
    /// A further program, file or folder, to lie in the guest's /root (may repeat)
    #[arg(long, value_name = "PATH")]
    bin: Vec<PathBuf>,
    /// Take nattrace and scenarios as they were built last
    #[arg(long)]
    no_build: bool,
    /// Stop the guest when the command takes longer
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u64,
    /// Put what the command leaves in the guest's /results here
    #[arg(long, value_name = "FOLDER")]
    results: Option<PathBuf>,
    /// A shell command in one word, or a program and its arguments
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// Runs it; the exit code is the command's.
pub(crate) fn run(cache: &Cache, args: &Args) -> Result<ExitCode> {
    setup::tools::install_missing(cache)?;
    let kernel = setup::kernel::get(cache, &args.kernel)?;
    let programs = cargo::programs(cache, !args.no_build)?;
    let mut job = Job {
        command: shell_text(&args.command),
        limit: Duration::from_secs(args.timeout),
        results: args.results.clone(),
        ..standard_job(&programs)
    };
    for path in &args.bin {
        let place = guest::extra_place(path)?;
        if path.is_dir() {
            job.files.push((place, path.clone()));
        } else {
            job.programs.push((place, path.clone()));
        }
    }
    let status = guest::run(cache, &kernel, &job, &mut pass_on)?;
    Ok(ExitCode::from(u8::try_from(status).unwrap_or(1)))
}

/// A job that has nattrace, the scenario runner and the scenarios; its command is yet empty.
pub(crate) fn standard_job(programs: &cargo::Programs) -> Job {
    let scenarios = cargo::workspace().join("tests/scenarios");
    Job {
        command: String::new(),
        programs: vec![
            ("/usr/bin/nattrace".to_owned(), programs.nattrace.clone()),
            ("/usr/bin/scenarios".to_owned(), programs.scenarios.clone()),
        ],
        files: scenarios.is_dir().then(|| ("/scenarios".to_owned(), scenarios)).into_iter().collect(),
        limit: Duration::from_mins(10),
        results: None,
        clock: Clock::Host,
    }
}

/// Writes a guest's output to our own, at once.
pub(crate) fn pass_on(stream: Stream, bytes: &[u8]) -> Result<()> {
    match stream {
        Stream::Output => {
            let mut out = io::stdout().lock();
            out.write_all(bytes)?;
            out.flush()?;
        }
        Stream::Error => io::stderr().lock().write_all(bytes)?,
    }
    Ok(())
}

fn shell_text(command: &[String]) -> String {
    match command {
        [text] => text.clone(),
        words => words.iter().map(|word| process::quoted(OsStr::new(word))).collect::<Vec<_>>().join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_word_is_shell_text_and_several_are_a_program() {
        assert_eq!(shell_text(&["a | b".into()]), "a | b");
        assert_eq!(shell_text(&["echo".into(), "a | b".into()]), "echo 'a | b'");
    }
}
