//! A nattrace and its witnesses: started together, ended together, compared at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{File, Permissions};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use serde_json::Value;

use super::accounts::Accounts;
use super::keep;
use super::stage::Stage;
use crate::lab::Limits;
use crate::lab::netns::Namespace;
use crate::lab::process::{Ended, Process, read_lossy, tail};
use crate::oracle::contract::{self, Output};
use crate::oracle::counters::{self, Counts};
use crate::oracle::schema;
use crate::oracle::{
    agreement, anonymized, conntrack, legacy, listing, monitor, nft_format, pcapng, replay, xtables,
};
use crate::scenario::{Agreement, Counting, Format, Hooks, Mode, Stdout, Trace, Via};
use crate::usage::programs;

/// The line that says that everything is attached.
pub(crate) const READY: &str = "nattrace: tracing";

/// The longest time until then; the cost scenario asks for less.
pub(super) const READY_WITHIN: Duration = Duration::from_secs(15);

/// How long a witness must be silent, with nothing left for it to read, before it has seen everything.
const SETTLE: Duration = Duration::from_millis(100);

/// So many complaints of one oracle are enough.
const ENOUGH: usize = 10;

/// All that a trace of one namespace needs, as setpriv has it.
const LEAST: &str = "-all,+net_admin,+bpf,+perfmon,+syslog";

/// Runs its other arguments where the first is a file that cannot be run, for this process and its children only.
const HIDE: &str = r#"mount --bind /dev/null "$(command -v "$0")" && exec "$@""#;

/// Runs its arguments where the namespaces' names are hidden, for this process and its children only.
const HIDE_NAMES: &str = r#"mount -t tmpfs none /run/netns && exec "$0" "$@""#;

/// Runs its arguments where only the namespaces in `NAMES` have names.
const HIDE_OTHERS: &str = r#"mkdir -p "$DIR/names"
for name in $NAMES; do touch "$DIR/names/$name"; mount --bind "/run/netns/$name" "$DIR/names/$name"; done
mount --rbind "$DIR/names" /run/netns
exec "$0" "$@""#;

/// The bit of `NFNLGRP_NFTRACE` and those of the conntrack groups in /proc/net/netlink.
const NFTRACE_GROUP: u32 = 1 << 8;
const CONNTRACK_GROUPS: u32 = 0b111;

/// One run of nattrace.
#[derive(Debug)]
pub(super) struct Traced {
    /// nattrace itself.
    pub(super) process: Process,
    /// From its start to its ready line.
    pub(super) ready_after: Option<Duration>,
    /// How it ended.
    pub(super) ended: Option<Ended>,
    /// What it said, once it has ended.
    pub(super) output: Output,
    /// How it was started.
    pub(super) plan: Trace,
    /// Where its results are.
    results: PathBuf,
    pub(super) recording: Option<PathBuf>,
    /// The programs' own count of what there was to tell.
    accounts: Option<Accounts>,
    watched: Vec<Watched>,
}

/// A namespace in which other tools watch as well.
#[derive(Debug)]
struct Watched {
    role: String,
    monitor: Option<Process>,
    /// `nft monitor trace` as a user types it.
    plain_monitor: Option<Process>,
    /// `xtables-monitor --trace`, where iptables-nft owns tables that it can read.
    xtables: Option<Process>,
    conntrack: Option<Process>,
    /// The counters of its ruleset before the first packet.
    counts: Counts,
    /// The kernel's log from here on, and the rules of legacy iptables before the first packet.
    legacy: Option<(File, legacy::Saved)>,
}

impl Traced {
    /// What nattrace has written so far.
    pub(super) fn results(&self) -> Result<String> {
        read_lossy(&self.results)
    }

    /// What it has written so far beyond the first `offset` bytes.
    pub(super) fn results_from(&self, offset: u64) -> Result<String> {
        let Ok(mut file) = File::open(&self.results) else { return Ok(String::new()) };
        let mut new = Vec::new();
        file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_to_end(&mut new)).context("no results")?;
        // A character that is not yet written to its end is in the last line, which nobody looks at yet.
        Ok(String::from_utf8_lossy(&new).into_owned())
    }

    /// How it ended; an error while it runs.
    pub(super) fn exit(&self) -> Result<Ended> {
        self.ended.with_context(|| format!("{} has not been ended", self.plan.name))
    }
}

impl Stage {
    /// Starts the witnesses, then nattrace, and waits until it is ready.
    pub(super) fn start_trace(&mut self, plan: &Trace) -> Result<()> {
        if self.traces.get(&plan.name).is_some_and(|trace| trace.ended.is_none()) {
            bail!("{} is running already", plan.name);
        }
        let mut plan = plan.clone();
        if !self.settings.trace_messages {
            plan.monitor = Agreement::Off;
        }
        let plan = &plan;
        let args = self.filled(&plan.args)?;
        let mut watched = Vec::new();
        for role in plan.watch.as_ref().or(plan.at.as_ref()).into_iter().flat_map(|roles| roles.split(',')) {
            watched.push(self.watch(role, plan)?);
        }
        let name = self.unique(&plan.name);
        // What nft printed is compared with a replay in nft's words, too: one run has one format.
        let compared = watched.iter().any(|watched| watched.plain_monitor.is_some());
        let replayable =
            plan.format == Format::Json && plan.ready && !args.iter().any(|arg| arg == "--record");
        let wanted = !self.settings.brief || self.settings.recordings.is_some();
        let recorded = plan.replay || (replayable && (compared || wanted));
        let recording = recorded.then(|| self.lab.dir.join(format!("{name}.events")));
        let mut command = self.nattrace(plan.at.as_deref(), plan.via)?;
        command.args(&args);
        if !plan.programs.is_empty() {
            command.env("PATH", self.programs(&name, &plan.programs)?);
        }
        match plan.format {
            Format::Json => _ = command.args(["--format", "json"]),
            Format::Nft => _ = command.args(["--format", "nft"]),
            Format::Pcapng => _ = command.args(["--format", "pcapng"]),
            Format::Text => {}
        }
        command.envs(&plan.env);
        if plan.hooks == Hooks::Kprobe {
            command.env("NATTRACE_HOOKS", "kprobe");
        }
        if let Some(recording) = &recording {
            command.arg("--record").arg(recording);
            command.args(plan.anonymize.then_some("--anonymize"));
        }
        if self.settings.withhold_probes && !plan.own_sources {
            command.args(["--sources", "tracepoints,nft,conntrack"]);
        }
        let mut process = match plan.stdout {
            Stdout::File => Process::spawn(command, &self.lab.dir, &name)?,
            Stdout::ClosedPipe => Process::spawn_into_closed_pipe(command, &self.lab.dir, &name)?,
        };
        let (mut ready_after, mut accounts) = (None, None);
        if plan.ready {
            let stderr = process.stderr.clone();
            process.wait_for_line(&stderr, READY, READY_WITHIN, &self.lab.limits)?;
            ready_after = Some(process.started.elapsed());
            // What comes after the last journey that was asked for is nobody's.
            if !args.iter().any(|arg| arg == "--count") {
                accounts = Accounts::of(process.id())?;
            }
        }
        if plan.hooks == Hooks::Kprobe {
            let held = programs::of(process.id())?;
            if held.is_empty() || held.values().any(|program| program.trampoline) {
                self.problem(format!("{}: it was to use kprobes alone, and holds {held:?}", plan.name));
            }
        }
        let results = match &plan.output {
            Some(path) => PathBuf::from(self.filled(std::slice::from_ref(path))?.remove(0)),
            None => process.stdout.clone(),
        };
        let traced = Traced {
            process,
            ready_after,
            ended: None,
            output: Output::default(),
            plan: plan.clone(),
            results,
            recording,
            accounts,
            watched,
        };
        self.traces.insert(plan.name.clone(), traced);
        Ok(())
    }

    /// A search path with these shell scripts before everything else.
    fn programs(&self, name: &str, scripts: &BTreeMap<String, String>) -> Result<OsString> {
        let dir = self.lab.dir.join(format!("{name}-programs"));
        std::fs::create_dir_all(&dir)?;
        for (program, script) in scripts {
            let path = dir.join(program);
            std::fs::write(&path, format!("#!/bin/sh\n{script}\n"))?;
            std::fs::set_permissions(&path, Permissions::from_mode(0o755))?;
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        Ok(std::env::join_paths([dir].into_iter().chain(std::env::split_paths(&path)))?)
    }

    /// nattrace, to be run in the namespace of `role`.
    pub(super) fn nattrace(&self, role: Option<&str>, via: Via) -> Result<std::process::Command> {
        let program = self.settings.nattrace.to_str().context("nattrace's path is no text")?;
        match (via, role) {
            (Via::Ip, Some(role)) => {
                let mut command = self.lab.command(None, "ip")?;
                command.args(["netns", "exec", &self.lab.namespace(role)?.name, program]);
                Ok(command)
            }
            (Via::NetAdmin, _) => {
                let mut command = self.lab.command(role, "setpriv")?;
                command.args(["--bounding-set", "-all,+net_admin", "--inh-caps", "-all,+net_admin", program]);
                Ok(command)
            }
            (Via::Least, _) => {
                let mut command = self.lab.command(role, "setpriv")?;
                command.args(["--bounding-set", LEAST, "--inh-caps", LEAST, program]);
                Ok(command)
            }
            (Via::Nobody, _) => {
                // It writes its recording beside what the runner writes.
                std::fs::set_permissions(&self.lab.dir, Permissions::from_mode(0o777))?;
                let mut command = self.lab.command(role, "setpriv")?;
                command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
                command.args(["--inh-caps", LEAST, "--ambient-caps", LEAST, program]);
                Ok(command)
            }
            (Via::Nameless, _) => {
                let mut command = self.lab.command(role, "unshare")?;
                command.args(["-m", "sh", "-c", HIDE_NAMES, program]);
                Ok(command)
            }
            (Via::Apart, _) => {
                let names: Vec<&str> = self.lab.namespaces.values().map(|ns| ns.name.as_str()).collect();
                let mut command = self.lab.command(role, "unshare")?;
                command.args(["-m", "-p", "-f", "--kill-child", "--mount-proc", "sh", "-ec", HIDE_OTHERS]);
                command.arg(program).env("NAMES", names.join(" ")).env("DIR", &self.lab.dir);
                Ok(command)
            }
            (Via::WithoutNft | Via::WithoutIptables | Via::WithoutLegacySave, _) => {
                let hidden = match via {
                    Via::WithoutNft => "nft",
                    Via::WithoutLegacySave => "iptables-legacy-save",
                    // All of iptables-nft is one file.
                    _ => "iptables-nft-save",
                };
                let mut command = self.lab.command(role, "unshare")?;
                command.args(["-m", "sh", "-c", HIDE, hidden, program]);
                Ok(command)
            }
            _ => self.lab.command(role, program),
        }
    }

    /// Starts the tools that watch in the namespace of `role`.
    fn watch(&mut self, role: &str, plan: &Trace) -> Result<Watched> {
        let mut watched = Watched {
            role: role.to_owned(),
            monitor: None,
            plain_monitor: None,
            xtables: None,
            conntrack: None,
            counts: Counts::new(),
            legacy: None,
        };
        if plan.legacy {
            watched.legacy = Some((kernel_log()?, self.legacy_rules(role)?));
        }
        if !plan.ready || !plan.witnesses {
            return Ok(watched);
        }
        if plan.monitor != Agreement::Off {
            let monitor =
                self.start_witness(role, "nft", &["-a", "-s", "monitor", "trace"], NFTRACE_GROUP)?;
            watched.monitor = Some(monitor);
            if !self.settings.brief || plan.replay || plan.format == Format::Nft {
                watched.plain_monitor =
                    Some(self.start_witness(role, "nft", &["monitor", "trace"], NFTRACE_GROUP)?);
            }
            if xtables::is_monitored(&self.iptables) {
                let args = ["--trace", "--ipv4"];
                watched.xtables = Some(self.start_witness(role, "xtables-monitor", &args, NFTRACE_GROUP)?);
            }
        }
        watched.counts =
            counters::counts(&self.lab.output(Some(role), "nft", &["-a", "-t", "list", "ruleset"])?);
        watched.conntrack =
            Some(self.start_witness(role, "conntrack", &["-E", "-o", "id"], CONNTRACK_GROUPS)?);
        Ok(watched)
    }

    /// Starts a tool that listens to netlink, and waits until the kernel shows its socket in the groups.
    fn start_witness(&mut self, role: &str, program: &str, args: &[&str], groups: u32) -> Result<Process> {
        let name = self.unique(program);
        let mut command = self.lab.command(Some(role), program)?;
        command.args(args);
        let mut process = Process::spawn(command, &self.lab.dir, &name)?;
        let namespace = self.lab.namespace(role)?;
        let listening = self.lab.limits.until(Duration::from_secs(10), || {
            if let Some(ended) = process.poll()? {
                bail!("{program} ended ({ended}): {}", tail(&read_lossy(&process.stderr)?));
            }
            let sockets = netlink_sockets(namespace)?;
            Ok(listens(&sockets, &sockets_of(process.id()), groups).then_some(()))
        })?;
        listening.with_context(|| format!("{program} did not begin to listen"))?;
        Ok(process)
    }

    /// Sends a signal that does not end it.
    pub(super) fn signal(&mut self, name: &str, signal: Signal) -> Result<()> {
        let trace = self.traces.get_mut(name).with_context(|| format!("no trace is called {name}"))?;
        trace.process.signal(signal)
    }

    /// nattrace `name` has ended or is to be ended by `signal`: waits for it, ends the witnesses, compares.
    pub(super) fn end_trace(&mut self, name: &str, signal: Option<Signal>, within: Duration) -> Result<()> {
        let limits = self.lab.limits.clone();
        let trace = self.traces.get_mut(name).with_context(|| format!("no trace is called {name}"))?;
        if trace.ended.is_some() {
            bail!("{name} has been ended already");
        }
        if let Some(signal) = signal {
            trace.process.signal(signal)?;
        }
        let ended = trace.process.wait(within, &limits)?;
        trace.ended = Some(ended);
        // At once, without patience: what is gone with the process is gone now. While another nattrace runs,
        // its table stands there rightly; the last one to end answers for all.
        if self.traces.values().all(|trace| trace.ended.is_some()) {
            for left in self.before.complaints(&self.lab)? {
                self.problem(left);
            }
        }
        let found = self.compare(name, ended)?;
        for problem in found {
            self.problem(format!("{name}: {problem}"));
        }
        Ok(())
    }

    /// Asks every oracle.
    fn compare(&mut self, name: &str, ended: Ended) -> Result<Vec<String>> {
        let limits = self.lab.limits.clone();
        let trace = self.traces.get_mut(name).with_context(|| format!("no trace is called {name}"))?;
        let mut found = Vec::new();
        let stderr = read_lossy(&trace.process.stderr)?;
        for word in ["panicked at", "RUST_BACKTRACE", "stack backtrace"] {
            if stderr.contains(word) {
                found.push(format!("nattrace panicked: {}", tail(&stderr)));
                break;
            }
        }
        // What each of them printed, and the connections that any of them knows: only one of the namespaces a
        // journey passes is that of its connection.
        let (mut printed, mut plain, mut flows) = (Vec::new(), Vec::new(), None);
        let mut listed = String::new();
        for watched in &mut trace.watched {
            let namespace = self.lab.namespace(&watched.role)?;
            let lines = end_witness(watched.monitor.take(), namespace, &limits)?;
            if let Some(lines) = end_witness(watched.plain_monitor.take(), namespace, &limits)? {
                let role = Some(watched.role.as_str());
                listed.push_str(&self.lab.output(role, "nft", &["-s", "-t", "list", "ruleset"])?);
                plain.push(lines);
            }
            printed.push((lines, end_witness(watched.xtables.take(), namespace, &limits)?));
            if let Some(told) = end_witness(watched.conntrack.take(), namespace, &limits)? {
                flows.get_or_insert_with(String::new).push_str(&told);
            }
        }
        let trace = self.traces.get_mut(name).with_context(|| format!("no trace is called {name}"))?;
        let done = matches!(ended, Ended::Code(0 | 1 | 3)) && trace.plan.stdout == Stdout::File;
        if trace.plan.format != Format::Json {
            if trace.plan.format == Format::Nft && !plain.is_empty() {
                found.extend(nft_format::complaints(&plain, &trace.results()?, &listed, trace.plan.monitor));
            }
            if trace.plan.format == Format::Pcapng {
                found.extend(self.in_wireshark_live(name)?);
            }
            return Ok(found);
        }
        trace.output = contract::read(&read_lossy(&trace.results)?, !done);
        if !done || !trace.plan.ready {
            return Ok(found);
        }
        let Ended::Code(code) = ended else { return Ok(found) };
        let trace = &self.traces[name];
        let journeys = &trace.output.journeys;
        let mut ask = |oracle: &str, mut complaints: Vec<String>| {
            let more = complaints.len().saturating_sub(ENOUGH);
            complaints.truncate(ENOUGH);
            found.extend(complaints.into_iter().map(|complaint| format!("{oracle}: {complaint}")));
            if more > 0 {
                found.push(format!("{oracle}: and {more} more"));
            }
        };
        ask("contract", contract::complaints(&trace.output, Some(code)));
        ask("schema", trace.output.lines().filter_map(schema::complaint).collect());
        ask("sources", self.sources(trace));
        if let (Some(accounts), Some(summary)) = (&trace.accounts, &trace.output.summary) {
            ask("accounts", accounts.complaints(summary)?);
        }
        if trace.plan.monitor != Agreement::NoTexts {
            ask("ruleset", listing::complaints(&self.snapshots, journeys));
        }
        for (watched, (printed, in_iptables)) in trace.watched.iter().zip(printed) {
            let role = Some(watched.role.as_str());
            let inum = self.lab.namespace(&watched.role)?.inum;
            match printed.as_deref().map(monitor::parse) {
                Some(Ok(mut lines)) => {
                    let mut texts = xtables::parse(&in_iptables.unwrap_or_default());
                    xtables::add_saved(&mut texts, &self.snapshots, inum, &self.iptables);
                    xtables::retell_lines(&mut lines, &self.iptables, &texts);
                    ask(
                        "nft monitor trace",
                        agreement::complaints(&lines, journeys, inum, trace.plan.monitor, trace.plan.ids),
                    );
                    if trace.plan.monitor == Agreement::Handles {
                        ask("stale texts", nft_format::stale(&lines, &self.snapshots, inum));
                    }
                }
                Some(Err(line)) => {
                    ask("nft monitor trace", vec![format!("the runner does not understand: {line}")]);
                }
                None => {}
            }
            if trace.plan.counters != Counting::Off {
                let after =
                    counters::counts(&self.lab.output(role, "nft", &["-a", "-t", "list", "ruleset"])?);
                let all = trace.plan.counters == Counting::Equal;
                ask("counters", counters::complaints(&watched.counts, &after, journeys, inum, all));
            }
            if let Some((log, before)) = &watched.legacy {
                let after = self.legacy_rules(&watched.role)?;
                let all = trace.plan.counters == Counting::Equal;
                match legacy::logged(&read_log(log)?) {
                    Ok(lines) => {
                        ask("legacy", legacy::complaints(&lines, (before, &after), journeys, inum, all));
                    }
                    Err(line) => ask("legacy", vec![format!("the runner does not understand: {line}")]),
                }
            }
            if let Some(flows) = &mut flows {
                flows.push_str(&self.lab.output(role, "conntrack", &["-L"])?);
                flows.push_str(&self.lab.output(role, "conntrack", &["-L", "-f", "ipv6"])?);
            }
        }
        if let Some(flows) = flows {
            ask("conntrack", conntrack::complaints(&conntrack::flows(&flows), journeys));
        }
        if trace.plan.anonymize {
            ask("--record --anonymize", self.recorded_of_others(name)?);
        } else if trace.recording.is_some() {
            ask("replay", self.replay(name, code)?);
            ask("--anonymize", self.anonymized(name)?);
        }
        if trace.plan.pcapng {
            ask("pcapng", self.in_wireshark(name)?);
        }
        if !plain.is_empty() && !trace.plan.anonymize {
            let told = self.in_nfts_words(name)?;
            ask("--format nft", nft_format::complaints(&plain, &told, &listed, trace.plan.monitor));
        }
        Ok(found)
    }

    /// What the tools of legacy iptables save in a namespace.
    fn legacy_rules(&self, role: &str) -> Result<legacy::Saved> {
        let saved = |tool| self.lab.output(Some(role), tool, &["-c"]);
        Ok(legacy::Saved::read(&saved("iptables-legacy-save")?, &saved("ip6tables-legacy-save")?))
    }

    /// In full mode, probes are on; in reduced mode, there is a reason why not.
    fn sources(&self, trace: &Traced) -> Vec<String> {
        if trace.plan.own_sources {
            return Vec::new();
        }
        let Some(start) = &trace.output.start else { return Vec::new() };
        let probes = &start["sources"]["probes"];
        match (self.settings.mode, probes == "on") {
            (Mode::Full, false) => vec![format!("the kernel has probes, and nattrace says: {probes}")],
            (Mode::Reduced, true) => vec!["nattrace says that probes are on, and there are none".to_owned()],
            _ => Vec::new(),
        }
    }

    /// `nattrace replay` of the recorded events must tell the same journeys.
    fn replay(&self, name: &str, code: i32) -> Result<Vec<String>> {
        let trace = &self.traces[name];
        let command = self.replay_command(name, "json")?;
        let mut process = Process::spawn(command, &self.lab.dir, &format!("{name}-replay"))?;
        let ended = process.wait(Duration::from_secs(30), &self.lab.limits)?;
        let printed = read_lossy(&process.stdout)?;
        let replayed = contract::read(&printed, false);
        let mut found = replayed.complaints.clone();
        if ended != Ended::Code(code) {
            found
                .push(format!("{ended}, the run itself had {code}: {}", tail(&read_lossy(&process.stderr)?)));
        }
        found.extend(replay::complaints(&trace.output.journeys, &replayed.journeys));
        let (live, again) = (lines_after_start(&trace.results()?), lines_after_start(&printed));
        if found.is_empty() && live != again {
            let first = live.lines().zip(again.lines()).find(|(live, again)| live != again);
            found.push(format!("the replay's lines are not the run's, byte for byte: {first:?}"));
        }
        let all_told = !trace.plan.args.iter().any(|arg| arg == "--count");
        if let Some(kept) = self.settings.recordings.as_ref().filter(|_| all_told) {
            // Outputs lie in a directory with the scenario's name.
            let scenario = self.lab.dir.file_name().unwrap_or_default().to_string_lossy();
            keep::keep(kept, &format!("{scenario}.{name}"), self.recording(name)?, &live)?;
        }
        Ok(found)
    }

    /// The recording that `nattrace anonymize` makes of a recording.
    pub(super) fn of_others(&self, name: &str) -> Result<PathBuf> {
        let recording = self.recording(name)?;
        let made = recording.with_extension("anonymized");
        let mut command = self.nattrace(None, Via::Setns)?;
        command.arg("anonymize").arg(recording).arg("-o").arg(&made);
        let mut process = Process::spawn(command, &self.lab.dir, &format!("{name}-anonymize"))?;
        let ended = process.wait(Duration::from_mins(1), &self.lab.limits)?;
        if ended != Ended::Code(0) {
            bail!("nattrace anonymize: {ended}: {}", tail(&read_lossy(&process.stderr)?));
        }
        Ok(made)
    }

    /// A recording that was anonymized as it was made: the same journeys of others, and nothing else of whose they were.
    fn recorded_of_others(&self, name: &str) -> Result<Vec<String>> {
        let live = &self.traces[name].output.journeys;
        let mut found = anonymized::complaints(live, &self.told_again(name, &[])?);
        found.extend(anonymized::leaks(live, self.recording(name)?)?);
        Ok(found)
    }

    /// The recorded events with other addresses and names: the same journeys of others.
    fn anonymized(&self, name: &str) -> Result<Vec<String>> {
        let told = self.told_again(name, &["--anonymize"])?;
        Ok(anonymized::complaints(&self.traces[name].output.journeys, &told))
    }

    /// The recorded events as pcapng, as Wireshark reads it, against the journeys.
    fn in_wireshark(&self, name: &str) -> Result<Vec<String>> {
        let packets = self.replayed(name, "pcapng", &[])?;
        Ok(pcapng::complaints(&self.traces[name].output.journeys, &pcapng::read(&packets)?))
    }

    /// What was written while packets passed, as Wireshark reads it, against the journeys of the recorded events.
    fn in_wireshark_live(&self, name: &str) -> Result<Vec<String>> {
        Ok(pcapng::complaints(&self.told_again(name, &[])?, &pcapng::read(&self.traces[name].results)?))
    }

    fn recording(&self, name: &str) -> Result<&Path> {
        self.traces[name].recording.as_deref().with_context(|| format!("{name} was not recorded"))
    }

    /// Which packets there are is in a recording; when enough were told is not.
    fn replay_command(&self, name: &str, format: &str) -> Result<std::process::Command> {
        let mut command = self.nattrace(None, Via::Setns)?;
        command.arg("replay").arg(self.recording(name)?).args(["--format", format]);
        Ok(command)
    }

    /// The journeys of a replay.
    fn told_again(&self, name: &str, args: &[&str]) -> Result<Vec<Value>> {
        Ok(contract::read(&read_lossy(&self.replayed(name, "json", args)?)?, false).journeys)
    }

    /// What a replay in a format has written.
    fn replayed(&self, name: &str, format: &str, args: &[&str]) -> Result<PathBuf> {
        let mut command = self.replay_command(name, format)?;
        command.args(args);
        let mut process = Process::spawn(command, &self.lab.dir, &format!("{name}-{format}"))?;
        let ended = process.wait(Duration::from_secs(30), &self.lab.limits)?;
        if !matches!(ended, Ended::Code(0 | 1 | 3)) {
            bail!("replay --format {format}: {ended}: {}", tail(&read_lossy(&process.stderr)?));
        }
        Ok(process.stdout.clone())
    }

    /// What `nattrace replay --format nft` says of the packets in the watched namespaces.
    fn in_nfts_words(&self, name: &str) -> Result<String> {
        let mut inums = Vec::new();
        for watched in &self.traces[name].watched {
            inums.push(self.lab.namespace(&watched.role)?.inum.to_string());
        }
        read_lossy(&self.replayed(name, "nft", &["--netns", &inums.join(",")])?)
    }

    /// Strings with `${…}` filled in.
    pub(super) fn filled(&self, texts: &[String]) -> Result<Vec<String>> {
        let list = Value::from(texts.to_vec());
        let filled = self.filled_value(&list)?;
        let texts = filled.as_array().into_iter().flatten();
        Ok(texts
            .map(|value| match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            })
            .collect())
    }

    /// A pattern with `${…}` filled in.
    pub(super) fn filled_value(&self, value: &Value) -> Result<Value> {
        crate::scenario::substitute(value, &|name| self.lookup(name))
    }
}

/// Ends a witness politely, once it has read and printed everything, and gives what it printed.
fn end_witness(process: Option<Process>, namespace: &Namespace, limits: &Limits) -> Result<Option<String>> {
    let Some(mut process) = process else { return Ok(None) };
    let mut quiet_since = Instant::now();
    let mut size = 0;
    // A burst keeps nft busy for seconds after the kernel has told everything.
    let drained = limits.until(Duration::from_secs(30), || {
        if let Some(ended) = process.poll()? {
            bail!("{} ended too early ({ended}): {}", process.name, tail(&read_lossy(&process.stderr)?));
        }
        let now = std::fs::metadata(&process.stdout).map_or(0, |metadata| metadata.len());
        if now != size || unread(&netlink_sockets(namespace)?, &sockets_of(process.id())) {
            (size, quiet_since) = (now, Instant::now());
        }
        Ok((quiet_since.elapsed() > SETTLE).then_some(()))
    })?;
    drained.with_context(|| format!("{} does not come to an end", process.name))?;
    process.signal(Signal::INT)?;
    process.wait(Duration::from_secs(10), limits)?;
    let stderr = read_lossy(&process.stderr)?;
    // nft and conntrack say so when the kernel was faster than they: then they are no witnesses.
    let printed = read_lossy(&process.stdout)?;
    if stderr.contains("lost") || printed.contains("# ERROR") {
        bail!("{} lost events: {}", process.name, tail(&stderr));
    }
    Ok(Some(printed))
}

/// What was told, without what the run was asked for, and what it did beside telling (the summary's last member): a replay
/// is asked for nothing.
fn lines_after_start(output: &str) -> String {
    let lines = output.lines().skip(1);
    let told = lines.map(|line| match line.split_once(r#","otlp":{"sent":"#) {
        Some((before, _)) => format!("{before}}}\n"),
        None => format!("{line}\n"),
    });
    told.collect()
}

/// The kernel's log, to be read from now on.
fn kernel_log() -> Result<File> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let mut log = File::options().read(true).custom_flags(flags).open("/dev/kmsg").context("/dev/kmsg")?;
    log.seek(SeekFrom::End(0)).context("/dev/kmsg")?;
    Ok(log)
}

/// What the kernel has logged since then: a read gives one record.
fn read_log(mut log: &File) -> Result<String> {
    let mut text = String::new();
    let mut record = [0; 8192];
    loop {
        match log.read(&mut record) {
            Ok(length) => text.push_str(&String::from_utf8_lossy(&record[..length])),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(text),
            Err(error) => return Err(error).context("the kernel's log was overwritten before it was read"),
        }
    }
}

/// /proc/net/netlink of a namespace.
fn netlink_sockets(namespace: &Namespace) -> Result<String> {
    namespace
        .inside(|| std::fs::read_to_string("/proc/thread-self/net/netlink").context("no /proc/net/netlink"))
}

/// Whether one of the sockets has messages that nobody has read.
fn unread(table: &str, own: &BTreeSet<String>) -> bool {
    table.lines().any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        matches!(words.as_slice(), [_, _, _, _, memory, .., inode] if own.contains(*inode) && *memory != "0")
    })
}

/// The inodes of the sockets that process `id` holds.
fn sockets_of(id: u32) -> BTreeSet<String> {
    let files = std::fs::read_dir(format!("/proc/{id}/fd")).into_iter().flatten().flatten();
    files
        .filter_map(|file| {
            let target = std::fs::read_link(file.path()).ok()?;
            Some(target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
        })
        .collect()
}

/// Whether one of the sockets `own` (by inode: a second socket of a process has a port of its own) is a
/// netfilter netlink socket in one of `groups`, by /proc/net/netlink.
fn listens(table: &str, own: &BTreeSet<String>, groups: u32) -> bool {
    table.lines().any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, protocol, _, mask, .., inode] = words.as_slice() else { return false };
        *protocol == "12"
            && own.contains(*inode)
            && u32::from_str_radix(mask, 16).is_ok_and(|mask| mask & groups != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_in_the_group_is_recognised() {
        let table = "\
sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode
00000000c627ea40 10  10026      00000100 0        0        0     2        0        21296
000000001641381b 12  10026      00000100 0        0        0     2        0        21829
";
        let own = |inode: &str| BTreeSet::from([inode.to_owned()]);
        assert!(listens(table, &own("21829"), NFTRACE_GROUP));
        assert!(!listens(table, &own("21829"), CONNTRACK_GROUPS));
        assert!(!listens(table, &own("21296"), NFTRACE_GROUP), "another netlink family");
        assert!(!listens(table, &own("1"), NFTRACE_GROUP));
        assert!(!unread(table, &own("21829")));
        assert!(unread(&table.replace("00000100 0 ", "00000100 1280 "), &own("21829")));
    }

    #[test]
    fn the_service_has_what_the_least_have() {
        let unit = include_str!("../../../packaging/nattrace@.service");
        for line in ["CapabilityBoundingSet=", "AmbientCapabilities="] {
            let held = unit.lines().find_map(|text| text.strip_prefix(line)).expect("a set of capabilities");
            let named = held.to_lowercase().replace("cap_", "+");
            let least: BTreeSet<&str> = LEAST.split(',').skip(1).collect();
            assert_eq!(named.split(' ').collect::<BTreeSet<_>>(), least);
        }
    }
}
