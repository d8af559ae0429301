//! `scenarios bench`: what tools cost the packets that a router forwards, side by side in one run.
//!
//! Prints JSON Lines, in the order in which things happened:
//! - `machine`: `kernel`, `processors`, `points` (how many of nattrace's programs hang where);
//! - `configuration`: `id`, `title`; the first is `none`;
//! - `missing`: `id`, `reason`: it could not be had, and is left out from here on;
//! - `cost`: `id`, `ready_seconds`, `programs`, `runs_per_packet` (in all three namespaces), `router_runs_per_packet` (of
//!   nattrace only), `idle_percent` (of one processor), `rss_mb`;
//! - `events`: `id`, `unit`, `packets`, `expected`, `shown`, `lost_told` (null where the tool does not say);
//! - `ready`: `id`, `seconds`;
//! - `burst`: `id`, `flow` (`known` or `new`), `sent`, `received`, `seconds`. Bursts of a tool come between bursts of `none`.

mod configuration;
mod flood;
mod floor;
mod processor;
mod tool;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::num::NonZero;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use self::configuration::{Configuration, Told, Tool};
use self::flood::{Burst, Flood, Flow};
use self::tool::{Programs, Running, Unit};
use crate::lab::{Interrupted, Lab, Limits, topology};
use crate::usage::{Counting, beside_the_router, busy_ms, memory_mb, programs, round};

/// What to compare, and how thoroughly.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The program to measure
    #[arg(long, default_value = "nattrace")]
    nattrace: PathBuf,
    /// A folder with pwru and bpftrace in `bin`, and with their libraries and their loader in `lib`
    #[arg(long, value_name = "FOLDER")]
    peers: Option<PathBuf>,
    /// A further tool, as a command for bash in which {port} stands for the port to look for (may repeat)
    #[arg(long, value_name = "COMMAND")]
    with: Vec<String>,
    /// How often each configuration has its turn
    #[arg(long, default_value_t = 8)]
    turns: u32,
    /// Leave out what is only for completeness
    #[arg(long)]
    brief: bool,
    /// This machine's clock counts instructions: leave out tools whose own work would be counted with the packets'
    #[arg(long)]
    instructions: bool,
}

/// What the router has: a stateful chain, as most have.
const RULESET: &str = "\
table inet filter {
	chain forward {
		type filter hook forward priority filter; policy accept;
		ct state established,related accept
		udp dport 5000-6000 accept
	}
}
";

/// How the results call a machine without any tool.
const NONE: &str = "none";

/// A burst's length: short, so that what else the machine does is the same in the next.
const BURST: Duration = Duration::from_millis(400);
/// The first after something was attached or detached is not measured: code is translated, caches are filled.
const WARM_UP: Duration = Duration::from_millis(300);
/// How long a tool that is ready gets for what it does afterwards.
const SETTLES: Duration = Duration::from_millis(1500);
/// Datagrams of a burst at most; fewer will do where instructions are the clock: they are the same every time.
const MOST: u64 = 20_000;
const MOST_INSTRUCTIONS: u64 = 1000;
/// Bursts of each flow in a turn.
const BURSTS: u32 = 3;

/// How long a tool is watched while nothing happens, and how often: the least counts.
const IDLE: (Duration, u32) = (Duration::from_secs(2), 2);
/// Datagrams during which program runs and events are counted.
const COUNTED: u64 = 1000;
/// Those of a tool that tells of all: more than buffers hold.
const ALL_TOLD: u64 = 5000;
/// Those of one that tells of ten a second are each of a connection of its own, and so far apart.
const APART: Duration = Duration::from_millis(2);
/// Datagrams that come so slowly that any tool tells of each: how many, and how long apart.
const SLOWLY: (u64, Duration) = (10, Duration::from_millis(150));
/// How long a tool may go on telling.
const TELLS_WITHIN: Duration = Duration::from_secs(20);

/// Runs it.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let interrupted = crate::lab::heed_signals()?;
    crate::lab::netns::sweep();
    let dir = std::env::temp_dir().join(format!("nattrace-bench-{}", std::process::id()));
    let limits = Limits { deadline: Instant::now() + Duration::from_hours(1), interrupted, patience: 1.0 };
    let done = Lab::new(dir.clone(), limits).and_then(|lab| Bench::new(lab, args)?.run(args));
    // Everything is taken down by now; these were the outputs of the tools.
    let _ = std::fs::remove_dir_all(dir);
    match done {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) if error.is::<Interrupted>() => Ok(ExitCode::from(130)),
        Err(error) => Err(error),
    }
}

/// The laboratory, and what is compared in it.
struct Bench {
    flood: Flood,
    lab: Lab,
    programs: Programs,
    rows: Vec<Configuration>,
    /// Datagrams of a burst at most.
    most: u64,
}

impl Bench {
    fn new(mut lab: Lab, args: &Args) -> Result<Self> {
        topology::build(&mut lab, "article")?;
        lab.output_with_input(Some("router"), "nft", &["-f", "-"], RULESET)?;
        let flood = Flood::open(&lab)?;
        let mut rows = configuration::all();
        rows.extend(args.with.iter().flat_map(|command| Configuration::of_command(command)));
        rows.retain(|row| (row.counted || !args.instructions) && (row.brief || !args.brief));
        let nattrace = crate::runner::nattrace(&args.nattrace)?;
        let programs = Programs { nattrace, peers: args.peers.clone(), points: Vec::new() };
        let most = if args.instructions { MOST_INSTRUCTIONS } else { MOST };
        Ok(Self { flood, lab, programs, rows, most })
    }

    fn run(mut self, args: &Args) -> Result<()> {
        self.find_points()?;
        say(&json!({
            "type": "machine",
            "kernel": rustix::system::uname().release().to_string_lossy(),
            "processors": std::thread::available_parallelism().map_or(1, NonZero::get),
            "points": floor::described(&self.programs.points),
        }))?;
        say(&json!({"type": "configuration", "id": NONE, "title": "no tool"}))?;
        for row in &self.rows {
            say(&json!({"type": "configuration", "id": row.id, "title": row.title}))?;
        }
        if !args.instructions {
            self.each(Self::cost)?;
        }
        for _ in 0..args.turns {
            self.each(Self::turn)?;
            self.bursts(NONE)?;
        }
        Ok(())
    }

    /// Does `work` for all configurations. One whose tool cannot be had is left out from then on.
    fn each(&mut self, work: fn(&Self, &Configuration) -> Result<()>) -> Result<()> {
        let mut left = Vec::new();
        for row in std::mem::take(&mut self.rows) {
            self.lab.limits.check()?;
            eprintln!("scenarios: {}", row.title);
            match work(self, &row) {
                Ok(()) => left.push(row),
                Err(error) if error.is::<Interrupted>() || matches!(row.tool, Tool::Nattrace(_)) => {
                    return Err(error.context(row.title));
                }
                Err(error) => {
                    tool::unmark(&self.lab)?;
                    say(&json!({"type": "missing", "id": row.id, "reason": format!("{error:#}")}))?;
                }
            }
        }
        self.rows = left;
        Ok(())
    }

    /// Has nattrace show where the floor's programs belong.
    fn find_points(&mut self) -> Result<()> {
        let row = self.rows.first().context("nothing is compared")?;
        let before = floor::Before::now()?;
        let running = self.programs.start(&self.lab, row)?;
        let points = before.points_of(running.id())?;
        running.stop(&self.lab, row)?;
        if points.is_empty() {
            bail!("nattrace has no program attached: nothing can be compared");
        }
        self.programs.points = points;
        Ok(())
    }

    /// One turn of a configuration: without the tool, then with it.
    fn turn(&self, row: &Configuration) -> Result<()> {
        self.bursts(NONE)?;
        let running = self.programs.start(&self.lab, row)?;
        say(&json!({"type": "ready", "id": row.id, "seconds": round(running.ready.as_secs_f64())}))?;
        self.lab.limits.sleep(SETTLES)?;
        self.bursts(&row.id)?;
        running.stop(&self.lab, row)?;
        Ok(())
    }

    /// Bursts of both flows.
    fn bursts(&self, id: &str) -> Result<()> {
        self.flood.burst(Flow::Known, self.most, WARM_UP)?;
        for flow in Flow::BOTH {
            for _ in 0..BURSTS {
                self.lab.limits.check()?;
                if flow == Flow::New {
                    self.forget_connections()?;
                }
                let burst = self.flood.burst(flow, self.most, BURST)?;
                say(&json!({
                    "type": "burst",
                    "id": id,
                    "flow": flow.name(),
                    "sent": burst.sent,
                    "received": burst.received,
                    "seconds": burst.took.as_secs_f64(),
                }))?;
            }
        }
        Ok(())
    }

    /// Empties the router's conntrack table.
    fn forget_connections(&self) -> Result<()> {
        self.lab.output(Some("router"), "conntrack", &["-F"])?;
        self.lab.limits.sleep(Duration::from_millis(50))
    }

    /// What a tool costs besides time, and what it tells.
    fn cost(&self, row: &Configuration) -> Result<()> {
        let running = self.programs.start(&self.lab, row)?;
        let idle = running.is_process().then(|| self.idle(running.id())).transpose()?;
        self.flood.burst(Flow::Known, 1, BURST)?;
        let before = running.told(&self.lab, TELLS_WITHIN)?;
        let slow = self.flood.paced(Flow::Known, SLOWLY.0, SLOWLY.1)?;
        let told_slowly = running.told(&self.lab, TELLS_WITHIN)? - before;
        let (burst, runs) = self.counted(&running, row)?;
        let told = running.told(&self.lab, TELLS_WITHIN)? - before - told_slowly;
        let rss = running.is_process().then(|| memory_mb(running.id(), "VmRSS")).transpose()?;
        say(&json!({
            "type": "cost",
            "id": row.id,
            "programs": runs.programs,
            "runs_per_packet": round(runs.per_packet),
            "router_runs_per_packet":
                matches!(row.tool, Tool::Nattrace(_)).then(|| round(runs.of_router_per_packet)),
            "idle_percent": idle.map(round),
            "rss_mb": rss.map(round),
        }))?;
        let unit = match running.unit() {
            Unit::Journeys => "journeys",
            Unit::Lines => "lines",
        };
        let lost = running.stop(&self.lab, row)?;
        #[expect(clippy::cast_precision_loss, reason = "a few thousand of each")]
        let expected = match row.told {
            Told::Nothing => 0.0,
            Told::Some => Told::RATE * burst.took.as_secs_f64() * told_slowly as f64 / slow.sent as f64,
            Told::All => burst.received as f64 * told_slowly as f64 / slow.sent as f64,
        };
        say(&json!({
            "type": "events",
            "id": row.id,
            "unit": unit,
            "packets": burst.received,
            "expected": expected.round(),
            "shown": told,
            "lost_told": lost,
        }))
    }

    /// The least share of a processor's time, in percent, that an idle tool takes.
    fn idle(&self, id: u32) -> Result<f64> {
        let (window, windows) = IDLE;
        self.lab.limits.sleep(SETTLES)?;
        let mut least = f64::INFINITY;
        for _ in 0..windows {
            let before = busy_ms(id)?;
            let begun = Instant::now();
            self.lab.limits.sleep(window)?;
            least = least.min((busy_ms(id)? - before) / begun.elapsed().as_secs_f64() / 10.0);
        }
        Ok(least)
    }

    /// Datagrams at full speed, or those of which ten a second are told, while the kernel counts the tool's programs.
    fn counted(&self, running: &Running, row: &Configuration) -> Result<(Burst, Runs)> {
        let counting = Counting::on()?;
        let before = programs::runs(running.id())?;
        let burst = match row.told {
            Told::Nothing => self.flood.burst(Flow::Known, COUNTED, Duration::MAX)?,
            Told::Some => {
                self.forget_connections()?;
                self.flood.paced(Flow::New, COUNTED, APART)?
            }
            Told::All => self.flood.burst(Flow::Known, ALL_TOLD, Duration::MAX)?,
        };
        let after = programs::runs(running.id())?;
        drop(counting);
        let names = programs::names();
        let mut runs: BTreeMap<&str, u64> = BTreeMap::new();
        for (id, now) in &after {
            let name = names.get(id).map_or("", String::as_str);
            *runs.entry(name).or_default() += now - before.get(id).unwrap_or(&0);
        }
        let all: u64 = runs.values().sum();
        #[expect(clippy::cast_precision_loss, reason = "some hundred thousands of each")]
        let each = |runs: u64| runs as f64 / burst.sent.max(1) as f64;
        let of_router = all - beside_the_router(&runs, burst.sent);
        Ok((
            burst,
            Runs { programs: after.len(), per_packet: each(all), of_router_per_packet: each(of_router) },
        ))
    }
}

/// How often programs ran.
struct Runs {
    /// How many programs there are.
    programs: usize,
    per_packet: f64,
    of_router_per_packet: f64,
}

/// Prints one JSON line at once.
fn say(value: &Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{value}").and_then(|()| out.flush()).context("standard output is gone")
}
