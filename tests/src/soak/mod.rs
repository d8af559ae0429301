//! A long run on a machine that never rests: rulesets change, namespaces and connections come and go, the ring overflows;
//! and nattrace must stay small, say nothing wrong, and account for what it loses.
//!
//! It traces every namespace of the machine, so the machine is to be a guest.

mod load;
mod memory;
mod rules;
mod told;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use rustix::process::Signal;

use crate::lab::process::{Ended, Process, read_lossy, tail};
use crate::lab::{Lab, Limits, topology};
use crate::oracle::leftovers::{Before, Kernel};
use load::Load;
use memory::Samples;
use rules::History;
use told::{Checked, Told};

/// How long to do it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Minutes, of which each is two rounds of load, overflow and calm
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,
    /// The program that is judged
    #[arg(long, default_value = "nattrace")]
    nattrace: PathBuf,
    /// How much longer than on an idle machine everything may take
    #[arg(long, default_value_t = 4.0)]
    patience: f64,
}

/// What is to be traced: everything from the client; at most so much a second that the ring is a small one.
const TRACED: [&str; 6] = ["--saddr", "10.2.1.2", "--rate", "1000", "--netns", "all"];
/// One round: load, a burst that the reader sleeps through, and calm.
const LOADED: Duration = Duration::from_secs(16);
const ASLEEP: Duration = Duration::from_secs(4);
/// What the reader may take to have told everything that came before the calm.
const CATCHES_UP: Duration = Duration::from_secs(20);
/// So many packets in the calm, each of which has its journey.
const CALM_PACKETS: u16 = 40;
/// How long their journeys may take.
const CALM: Duration = Duration::from_secs(5);

/// What all threads see.
#[derive(Debug, Default)]
struct Shared {
    over: AtomicBool,
    calm: AtomicBool,
    burst: AtomicBool,
    /// Datagrams that were sent to the container, and connections that were made.
    datagrams: AtomicU64,
    connections: AtomicU64,
    namespaces: AtomicU64,
    problems: Mutex<Vec<String>>,
}

impl Shared {
    fn problem(&self, text: String) {
        /// More say no more.
        const ENOUGH: usize = 40;
        let mut problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        if problems.len() < ENOUGH {
            eprintln!("soak: {text}");
            problems.push(text);
        }
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

/// Does it. The exit code says whether everything held.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let nattrace = crate::runner::nattrace(&args.nattrace)?;
    let interrupted = crate::lab::heed_signals()?;
    crate::lab::netns::sweep();
    let dir = std::env::temp_dir().join(format!("nattrace-soak-{}", std::process::id()));
    let time = Duration::from_secs_f64(args.minutes * 60.0);
    let deadline = Instant::now() + time + Duration::from_secs_f64(120.0 * args.patience);
    let limits = Limits { deadline, interrupted, patience: args.patience };
    let mut lab = Lab::new(dir.clone(), limits)?;
    topology::build(&mut lab, "article")?;
    let done = soak(&lab, &nattrace, time);
    drop(lab);
    let _ = std::fs::remove_dir_all(dir);
    let problems = done?;
    for problem in &problems {
        println!("FAILED soak {problem}");
    }
    if problems.is_empty() {
        println!("ok soak\n1 passed, 0 failed, 0 skipped");
    } else {
        println!("0 passed, 1 failed, 0 skipped");
    }
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn soak(lab: &Lab, nattrace: &std::path::Path, time: Duration) -> Result<Vec<String>> {
    let shared = Shared::default();
    let history = History::default();
    rules::load(lab, &history, 0)?;
    let servers = load::servers(lab)?;
    let (before, kernel) = (Before::look(lab), Kernel::look(lab)?);
    // Where nobody else is: names of the runner's own.
    let mut command =
        lab.command(Some("router"), nattrace.to_str().context("the program's path is no text")?)?;
    command.args(TRACED).args(["--format", "json"]);
    let mut process = Process::spawn_with_pipe(command, &lab.dir, "nattrace")?;
    let output = process.take_stdout().context("it has no standard output")?;
    let stderr = process.stderr.clone();
    let told = Told::default();
    let begun = Instant::now();
    let (checked, samples) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| told.read(output, &history, &shared));
        let mut steer = || -> Result<Samples> {
            process.wait_for_line(&stderr, "nattrace: tracing", Duration::from_secs(30), &lab.limits)?;
            let threads = [
                scope.spawn(|| rules::reload_for_ever(lab, &history, &shared)),
                scope.spawn(|| Load { lab, shared: &shared }.datagrams()),
                scope.spawn(|| Load { lab, shared: &shared }.connections()),
                scope.spawn(|| Load { lab, shared: &shared }.namespaces()),
            ];
            let samples = rounds(lab, &mut process, &told, &shared, time);
            shared.over.store(true, Ordering::Relaxed);
            for thread in threads {
                thread.join().unwrap_or_else(|_| anyhow::bail!("a part of the soak panicked"))?;
            }
            samples
        };
        let steered = steer();
        // However that ended: else the reader would wait for ever.
        shared.over.store(true, Ordering::Relaxed);
        let ended = end(&mut process, lab);
        let checked = reader.join().unwrap_or_else(|_| anyhow::bail!("the reader panicked"))?;
        match ended? {
            Ended::Code(0 | 1) => {}
            other => shared.problem(format!("nattrace ended with {other}: {}", tail(&read_lossy(&stderr)?))),
        }
        anyhow::Ok((checked, steered?))
    })?;
    drop(servers);
    for line in read_lossy(&stderr)?.lines().filter(|line| line.contains("panicked")) {
        shared.problem(format!("nattrace panicked: {line}"));
    }
    checked.judge(&shared);
    samples.judge(&shared);
    for left in before.complaints(lab)?.into_iter().chain(left_in(lab, &kernel)?) {
        shared.problem(left);
    }
    report(&shared, &checked, &samples, &history, begun.elapsed());
    Ok(shared.problems.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// BPF programs and sysctls of the machine, which the kernel may take a moment to free.
fn left_in(lab: &Lab, kernel: &Kernel) -> Result<Vec<String>> {
    let mut left = kernel.machine_complaints();
    for _ in 0..40 {
        if left.is_empty() {
            break;
        }
        lab.limits.sleep(Duration::from_millis(50))?;
        left = kernel.machine_complaints();
    }
    Ok(left)
}

fn end(process: &mut Process, lab: &Lab) -> Result<Ended> {
    if let Some(ended) = process.poll()? {
        return Ok(ended);
    }
    process.signal(Signal::CONT)?;
    process.signal(Signal::INT)?;
    process.wait(Duration::from_secs(20), &lab.limits)
}

/// Load, overflow, calm, until the time is over; the memory meanwhile.
fn rounds(lab: &Lab, process: &mut Process, told: &Told, shared: &Shared, time: Duration) -> Result<Samples> {
    let until = Instant::now() + time;
    let mut samples = Samples::default();
    let mut round = 0;
    while Instant::now() < until {
        watch(lab, process, &mut samples, LOADED)?;
        shared.burst.store(true, Ordering::Relaxed);
        process.signal(Signal::STOP)?;
        lab.limits.sleep(ASLEEP)?;
        process.signal(Signal::CONT)?;
        shared.burst.store(false, Ordering::Relaxed);
        watch(lab, process, &mut samples, Duration::from_secs(2))?;
        shared.calm.store(true, Ordering::Relaxed);
        if !told.is_quiet_within(lab, CATCHES_UP)? {
            shared.problem(format!("round {round}: nattrace has not caught up after {CATCHES_UP:?}"));
        }
        calm(lab, told, shared, round)?;
        shared.calm.store(false, Ordering::Relaxed);
        round += 1;
    }
    Ok(samples)
}

/// A sample of the memory each second.
fn watch(lab: &Lab, process: &mut Process, samples: &mut Samples, time: Duration) -> Result<()> {
    let until = Instant::now() + time;
    while Instant::now() < until {
        lab.limits.sleep(Duration::from_secs(1))?;
        if let Some(ended) = process.poll()? {
            anyhow::bail!("nattrace ended ({ended}): {}", tail(&read_lossy(&process.stderr)?));
        }
        samples.take(process.id())?;
    }
    Ok(())
}

/// Every packet of a calm moment has its journey, and one alone.
fn calm(lab: &Lab, told: &Told, shared: &Shared, round: u16) -> Result<()> {
    let first = 30_000 + (round % 500) * CALM_PACKETS;
    let lost = told.losses();
    told.expect(first..first + CALM_PACKETS);
    load::calm(lab, first, CALM_PACKETS)?;
    let seen = lab.limits.until(CALM, || Ok(told.has_all_expected().then_some(())))?;
    // One that comes twice comes late.
    lab.limits.sleep(Duration::from_millis(500))?;
    let wrong = told.not_once();
    if told.losses() != lost {
        shared.problem(format!("round {round}: events were lost in the calm"));
    } else if seen.is_none() || !wrong.is_empty() {
        shared.problem(format!("round {round}: source ports and journeys of packets in the calm: {wrong:?}"));
    }
    Ok(())
}

fn report(shared: &Shared, checked: &Checked, samples: &Samples, history: &History, time: Duration) {
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    println!(
        "measure soak {}",
        serde_json::json!({
            "seconds": time.as_secs(),
            "datagrams": count(&shared.datagrams),
            "connections": count(&shared.connections),
            "namespaces": count(&shared.namespaces),
            "rulesets": history.len(),
            "journeys": checked.journeys,
            "rule_texts": checked.texts,
            "rules_without_text": checked.textless,
            "loss_lines": checked.loss_lines,
            "events_lost": checked.lost,
            "held_back": checked.held_back(),
            "rss_mb": samples.summary(),
        })
    );
}

/// Nanoseconds since the epoch.
fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
