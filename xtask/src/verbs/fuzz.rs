//! `cargo xtask fuzz`

use std::{
    env, fs,
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail};

use crate::{cargo, process};

/// What to try, and for how long.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The target, a folder of fuzz/corpus; by default each, one after the other
    target: Option<String>,
    /// Inputs to try
    #[arg(long, value_name = "N", default_value_t = 10_000_000)]
    runs: u64,
    /// Seconds to try for, where that is over first
    #[arg(long, value_name = "N", default_value_t = 3600)]
    seconds: u64,
    /// Keep what led anywhere new in fuzz/corpus, the least of it that leads everywhere
    #[arg(long)]
    keep: bool,
}

/// What libFuzzer learns from: every edge, and what is compared. These are flags of LLVM's, so that a stable compiler has them.
const COVERAGE: [&str; 7] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "--cfg",
    "fuzzing",
];

/// Bytes of an input at most, and seconds and megabytes that one may take.
const LIMITS: [&str; 4] = ["-max_len=4096", "-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"];

/// Tries inputs until one is a finding, or it has been long enough.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let corpora = cargo::workspace().join("fuzz/corpus");
    let targets = match &args.target {
        Some(target) => vec![target.clone()],
        None => names(&corpora)?,
    };
    if let Some(unknown) = targets.iter().find(|target| !corpora.join(target).is_dir()) {
        bail!("{unknown} is no target; there are {}", names(&corpora)?.join(", "));
    }
    let program = build()?;
    let work = cargo::target_dir()?.join("fuzz");
    for target in targets {
        let (kept, new) = (corpora.join(&target), work.join("corpus").join(&target));
        fs::create_dir_all(&new)?;
        let fuzzer = || {
            let mut fuzzer = Command::new(&program);
            fuzzer.env("NATTRACE_FUZZ_TARGET", &target).args(LIMITS).current_dir(&work);
            fuzzer
        };
        let mut tried = fuzzer();
        tried
            .arg(format!("-artifact_prefix={}/{target}-", work.display()))
            .args([format!("-runs={}", args.runs), format!("-max_total_time={}", args.seconds)])
            .args([&new, &kept]);
        if !process::status(&mut tried)?.success() {
            eprintln!("xtask: {target} has a finding; its input is in {}", work.display());
            return Ok(ExitCode::FAILURE);
        }
        if args.keep {
            let least = work.join("least").join(&target);
            if least.is_dir() {
                fs::remove_dir_all(&least)?;
            }
            fs::create_dir_all(&least)?;
            process::output_for(
                fuzzer().args(["-set_cover_merge=1", "-use_counters=0"]).args([&least, &kept, &new]),
                "minimise a corpus",
            )?;
            for entry in fs::read_dir(&kept)? {
                fs::remove_file(entry?.path())?;
            }
            for entry in fs::read_dir(&least)? {
                let entry = entry?;
                fs::copy(entry.path(), kept.join(entry.file_name()))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn names(corpora: &PathBuf) -> Result<Vec<String>> {
    let entries = fs::read_dir(corpora).with_context(|| corpora.display().to_string())?;
    let mut names: Vec<_> =
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect::<Result<_>>()?;
    names.sort();
    Ok(names)
}

/// libFuzzer with all targets.
fn build() -> Result<PathBuf> {
    // With a target named, the flags are not those of build scripts and macros.
    let target = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    let folder = cargo::target_dir()?.join("fuzz");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(cargo::workspace()).env("AYA_BUILD_SKIP", "1").env("RUSTFLAGS", COVERAGE.join(" "));
    cargo.args(["build", "--quiet", "--profile", "fuzz", "--package", "nattrace-fuzz", "--bin", "fuzz"]);
    cargo.args(["--features", "libfuzzer", "--target", &target, "--target-dir"]).arg(&folder);
    if !process::status(&mut cargo)?.success() {
        bail!("the targets do not build with libFuzzer, which takes a C++ compiler (Debian: g++)");
    }
    Ok(folder.join(target).join("fuzz/fuzz"))
}
