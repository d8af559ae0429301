//! Doing what a scenario says.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum as _;
use rustix::process::Signal;
use serde_json::Value;

use super::stage::Stage;
use crate::lab::process::{Process, read_lossy, tail};
use crate::oracle::contract;
use crate::oracle::journey::headline;
use crate::scenario::count::Count;
use crate::scenario::{Action, Met, Proto, SignalName, matcher};

/// Longer than any generator takes.
const TRAFFIC: Duration = Duration::from_secs(30);

impl Stage {
    /// Does it. An error ends the scenario; what merely does not hold is noted and the scenario goes on.
    pub(super) fn perform(&mut self, action: &Action) -> Result<()> {
        self.lab.limits.check()?;
        match action {
            Action::Ruleset { at, file } => self.load_ruleset(at, file),
            Action::Nft { at, run } => {
                self.change_ruleset(at, |lab| lab.output(Some(at), "nft", &[run]).map(drop))
            }
            Action::Iptables { at, run } => {
                let run = self.filled(std::slice::from_ref(run))?.remove(0);
                self.change_ruleset(at, |lab| lab.output(Some(at), "sh", &["-ec", &run]).map(drop))
            }
            Action::Shell { at, run } => {
                let run = self.filled(std::slice::from_ref(run))?.remove(0);
                self.lab.output(at.as_deref(), "sh", &["-ec", &run]).map(drop)
            }
            Action::Sleep { seconds } => self.lab.limits.sleep(Duration::from_secs_f64(*seconds)),
            Action::Serve { name, at, proto, listen, sink } => {
                let verb = if *proto == Proto::Udp { "udp-server" } else { "tcp-server" };
                let mut args = vec![verb.to_owned(), listen.to_string()];
                args.extend((*proto == Proto::Sctp).then(|| "--sctp".to_owned()));
                args.extend(sink.then(|| "--sink".to_owned()));
                self.serve(name, at, &args)
            }
            Action::Queue { name, at, number, refuse, hold, most, source } => {
                let mut args = vec!["nf-queue".to_owned(), number.to_string()];
                args.extend(refuse.then(|| "--refuse".to_owned()));
                args.extend(hold.then(|| "--hold".to_owned()));
                args.extend(most.iter().flat_map(|most| ["--most".to_owned(), most.to_string()]));
                args.extend(source.iter().flat_map(|source| ["--source".to_owned(), source.to_string()]));
                self.serve(name, at, &args)
            }
            Action::Xdp { at, device, program, mode } => {
                let value = |value: Option<clap::builder::PossibleValue>| {
                    value.map_or_else(String::new, |value| value.get_name().to_owned())
                };
                let (program, mode) = (value(program.to_possible_value()), value(mode.to_possible_value()));
                self.serve(&format!("xdp-{device}"), at, &["xdp".to_owned(), device.clone(), program, mode])
            }
            Action::Release { queue } => self.release(queue),
            Action::Collector { name, at } => self.start_collector(name, at),
            Action::Stored(stored) => self.stored(stored),
            Action::Served { server, saw, from, not_from } => {
                self.served(server, *saw, from.as_deref(), not_from.as_deref())
            }
            Action::Connect { at, proto, to, from, timeout, count, more, met } => {
                let mut args = match proto {
                    Proto::Tcp => vec!["tcp-connect".to_owned()],
                    Proto::Sctp => vec!["tcp-connect".to_owned(), "--sctp".to_owned()],
                    Proto::Udp => vec!["udp-send".to_owned(), "--count".to_owned(), count.to_string()],
                };
                args.extend([to.to_string(), "--timeout".to_owned(), timeout.to_string()]);
                args.extend(from.iter().flat_map(|from| ["--from".to_owned(), from.to_string()]));
                if *more > 0 {
                    args.extend(["--more".to_owned(), more.to_string()]);
                }
                let said = self.traffic(at, &args)?;
                let came = match proto {
                    Proto::Tcp | Proto::Sctp => tcp_met(&said),
                    Proto::Udp => datagrams_met(&said),
                };
                self.judge_client(&format!("{proto:?} {to} from {at}"), *met, came, &said);
                Ok(())
            }
            Action::Ping { at, to, count, timeout, met } => {
                let (count, timeout) = (count.to_string(), timeout.to_string());
                let args = ["ping", &to.to_string(), "--count", &count, "--timeout", &timeout];
                let said = self.traffic(at, &args.map(str::to_owned))?;
                self.judge_client(&format!("ping {to} from {at}"), *met, datagrams_met(&said), &said);
                Ok(())
            }
            Action::Stream { at, to, from, interval_ms } => self.stream(at, *to, *from, *interval_ms),
            Action::Burst { at, from, to, count, senders, vary_length, port, pause_us } => {
                let mut args = vec!["udp-burst".to_owned(), to.to_string()];
                for (flag, value) in [
                    ("--from", from.to_string()),
                    ("--count", count.to_string()),
                    ("--senders", senders.to_string()),
                    ("--port", port.to_string()),
                    ("--pause", pause_us.to_string()),
                ] {
                    args.extend([flag.to_owned(), value]);
                }
                args.extend(vary_length.then(|| "--vary-length".to_owned()));
                let said = self.traffic(at, &args)?;
                if said["sent"] != u64::from(*count) {
                    bail!("the burst was not sent: {said}");
                }
                Ok(())
            }
            Action::Packet { at, args } => {
                let args = self.filled(std::slice::from_ref(args))?.remove(0);
                let args = ["packet"].into_iter().chain(args.split_whitespace());
                self.traffic(at, &args.map(str::to_owned).collect::<Vec<_>>()).map(drop)
            }
            Action::Deaf { name, at, sockets } => {
                let sockets = self.filled(sockets)?;
                self.serve(name, at, &["deaf".to_owned()].into_iter().chain(sockets).collect::<Vec<_>>())
            }
            Action::Mix { at, args } => {
                let mut running = Vec::new();
                for args in self.filled(args)? {
                    let args = ["packet"].into_iter().chain(args.split_whitespace());
                    running.push(self.start_traffic(at, &args.map(str::to_owned).collect::<Vec<_>>())?);
                }
                running.into_iter().try_for_each(|started| self.end_traffic(started).map(drop))
            }
            Action::Trace(plan) => self.start_trace(plan),
            Action::Await { trace, select, journeys, within } => {
                self.await_journeys(trace, select, *journeys, *within)
            }
            Action::Fix { at, trace, all } => self.fix(at, trace, *all),
            Action::Freeze { trace } => self.signal(trace, Signal::STOP),
            Action::Thaw { trace } => self.signal(trace, Signal::CONT),
            Action::Stop { trace, signal, within } => {
                self.end_trace(trace, Some(signal_of(*signal)), Duration::from_secs_f64(*within))
            }
            Action::Wait { trace, within, not_before } => {
                self.end_trace(trace, None, Duration::from_secs_f64(*within))?;
                let lived = self.traces[trace].process.started.elapsed().as_secs_f64();
                if lived < *not_before {
                    self.problem(format!("{trace} ended after {lived:.1} s, not after {not_before} s"));
                }
                Ok(())
            }
            Action::Expect(expect) => self.expect(expect),
            Action::Counter { at, name, rose } => self.counter(at, name, *rose),
            Action::SmallDisk { path, kib } => {
                let path = self.lab.dir.join(path);
                self.lab.small_disk(&path, *kib)
            }
            Action::Kill { at, args, times } => self.kill_again_and_again(at, args, *times),
            Action::Privileges(wanted) => self.privileges(wanted),
            Action::Fate(fate) => self.fate(fate),
            Action::Memory { trace, most, start } => self.memory(trace, *most, *start),
            Action::Cost(cost) => self.cost(cost),
            Action::Capabilities { trace } => self.capabilities(trace),
            Action::Verifier { trace } => self.verifier(trace),
            Action::RandomRules { at, seed, count } => self.random_rules(at, *seed, *count),
            Action::RandomIptablesRules { at, seed, count } => self.random_iptables_rules(at, *seed, *count),
            Action::RandomPackets { at, device, seed, count } => {
                self.random_packets(at, device, *seed, *count)
            }
            Action::Evaluate { trace, pairs, unknown } => self.evaluate(trace, *pairs, *unknown),
            Action::Tui(tui) => self.start_tui(tui),
            Action::Screen(screen) => self.screen(screen),
            Action::Keys { tui, keys } => self.press(tui, keys),
            Action::Answers { tui, keys, within_ms } => self.answers(tui, keys, *within_ms),
            Action::Paste { tui, at } => self.paste(tui, at),
            Action::Stick { tui } => self.stick(tui),
            Action::Resize { tui, size } => self.resize(tui, size),
            Action::TuiSignal { tui, signal } => self.signal_tui(tui, signal_of(*signal)),
            Action::TuiEnds { tui, exit, left, within } => self.tui_ends(tui, *exit, left, *within),
        }
    }

    /// Runs a generator to its end and gives what it said.
    pub(super) fn traffic(&mut self, at: &str, args: &[String]) -> Result<Value> {
        let started = self.start_traffic(at, args)?;
        self.end_traffic(started)
    }

    fn start_traffic(&mut self, at: &str, args: &[String]) -> Result<(String, Process)> {
        let name = self.unique(args.first().map_or("traffic", String::as_str));
        let process = Process::spawn(self.lab.traffic(at, args)?, &self.lab.dir, &name)?;
        Ok((name, process))
    }

    fn end_traffic(&self, (name, mut process): (String, Process)) -> Result<Value> {
        process.wait(TRAFFIC, &self.lab.limits)?;
        let said = read_lossy(&process.stdout)?;
        said.lines().last().and_then(|line| serde_json::from_str(line).ok()).with_context(|| {
            format!("{name} failed: {}", tail(&read_lossy(&process.stderr).unwrap_or_default()))
        })
    }

    /// Starts what goes on until the end, and waits until it can be used.
    pub(super) fn serve(&mut self, name: &str, at: &str, args: &[String]) -> Result<()> {
        let file = self.unique(name);
        let mut process = Process::spawn(self.lab.traffic(at, args)?, &self.lab.dir, &file)?;
        let stdout = process.stdout.clone();
        process.wait_for_line(
            &stdout,
            "{\"event\":\"listening\"",
            Duration::from_secs(10),
            &self.lab.limits,
        )?;
        self.servers.insert(name.to_owned(), process);
        Ok(())
    }

    fn release(&mut self, queue: &str) -> Result<()> {
        let limits = self.lab.limits.clone();
        let process = self.servers.get_mut(queue).with_context(|| format!("no queue is called {queue}"))?;
        process.signal(Signal::USR1)?;
        let stdout = process.stdout.clone();
        process.wait_for_line(&stdout, "{\"event\":\"released\"", Duration::from_secs(10), &limits).map(drop)
    }

    fn stream(&mut self, at: &str, to: SocketAddr, from: Option<SocketAddr>, interval_ms: u64) -> Result<()> {
        let mut args = vec!["udp-send".to_owned(), to.to_string()];
        args.extend(["--count", "0", "--interval"].map(str::to_owned));
        args.push(interval_ms.to_string());
        args.extend(from.iter().flat_map(|from| ["--from".to_owned(), from.to_string()]));
        let file = self.unique("stream");
        let process = Process::spawn(self.lab.traffic(at, &args)?, &self.lab.dir, &file)?;
        self.background.push(process);
        Ok(())
    }

    /// Everything a server has told.
    pub(super) fn server_events(&self, server: &str) -> Result<Vec<Value>> {
        let process = self.servers.get(server).with_context(|| format!("no server is called {server}"))?;
        let text = read_lossy(&process.stdout)?;
        Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    fn served(&mut self, server: &str, saw: Count, from: Option<&str>, not_from: Option<&str>) -> Result<()> {
        let count = |events: &[Value]| {
            events
                .iter()
                .filter(|event| matches!(event["event"].as_str(), Some("accept" | "datagram" | "queued")))
                .filter(|event| {
                    let peer = event["peer"].as_str().unwrap_or_default();
                    from.is_none_or(|from| is_peer(peer, from))
                        && not_from.is_none_or(|unwanted| !is_peer(peer, unwanted))
                })
                .count()
        };
        let limits = self.lab.limits.clone();
        let enough = limits.until(Duration::from_secs(2), || {
            let seen = count(&self.server_events(server)?);
            Ok((seen >= saw.least).then_some(seen))
        })?;
        let seen = match enough {
            Some(seen) => seen,
            None => count(&self.server_events(server)?),
        };
        if !saw.holds(seen) {
            let who = from.map_or_else(String::new, |from| format!(" from {from}"));
            let all: Vec<String> = self.server_events(server)?.iter().map(Value::to_string).collect();
            self.problem(format!(
                "the server {server} saw {seen}{who}, expected {saw}; it says: {}",
                tail(&all.join("\n"))
            ));
        }
        Ok(())
    }

    fn judge_client(&mut self, who: &str, wanted: Met, came: Option<Met>, said: &Value) {
        if came != Some(wanted) {
            self.problem(format!("{who}: expected {wanted:?}, came {said}"));
        }
    }

    /// Runs the commands of the first finding that has any, one after another, by a shell; those of every dropped packet
    /// when `all` are to be mended.
    fn fix(&mut self, at: &str, name: &str, all: bool) -> Result<()> {
        let trace = self.traces.get(name).with_context(|| format!("no trace is called {name}"))?;
        let told = trace.results_from(0)?;
        let whole = told.rfind('\n').map_or(0, |end| end + 1);
        let told = contract::read(&told[..whole], true);
        let first = |line: &Value| {
            let findings = line["findings"].as_array()?;
            let fix =
                findings.iter().filter_map(|finding| finding["fix"].as_array()).find(|fix| !fix.is_empty());
            let commands: Vec<&str> = fix?.iter().filter_map(Value::as_str).collect();
            Some(commands.join("\n"))
        };
        let mut commands: Vec<String> = Vec::new();
        for line in told.journeys.iter().chain(&told.connections) {
            match first(line) {
                Some(fix) => commands.push(fix),
                None if all && line["outcome"]["kind"] == "dropped" => {
                    self.problem(format!("{name} has not said how to mend {}", headline(line)));
                }
                None => {}
            }
        }
        if !all {
            commands.truncate(1);
        }
        if commands.is_empty() {
            self.problem(format!("{name} has said of nothing how to mend it"));
            return Ok(());
        }
        let commands = commands.join("\n");
        self.change_ruleset(at, |lab| lab.output(Some(at), "sh", &["-ec", &commands]).map(drop))
    }

    fn await_journeys(&mut self, name: &str, select: &Value, wanted: usize, within: f64) -> Result<()> {
        let select = self.filled_value(select)?;
        let limits = self.lab.limits.clone();
        let trace = self.traces.get_mut(name).with_context(|| format!("no trace is called {name}"))?;
        let mut seen = Vec::new();
        let (mut read, mut found) = (0, 0);
        let enough = limits.until(Duration::from_secs_f64(within), || {
            // Looked at before the results: nothing is written after the end.
            let ended = trace.process.poll()?;
            // Only what is new: a burst makes megabytes, and time spent here is taken from nattrace.
            let new = trace.results_from(read)?;
            let whole = new.rfind('\n').map_or(0, |end| end + 1);
            let journeys = contract::read(&new[..whole], true).journeys;
            found += journeys.iter().filter(|journey| matcher::matches(&select, journey)).count();
            read += u64::try_from(whole)?;
            seen.extend(journeys);
            match ended {
                _ if found >= wanted => Ok(Some(())),
                Some(ended) => bail!("{name} ended ({ended}) with {found} of {wanted} journeys"),
                None => Ok(None),
            }
        })?;
        if enough.is_none() {
            let shown: Vec<String> = seen.iter().map(headline).collect();
            // The scenario goes on: the end of the trace often explains what was missing.
            self.problem(format!(
                "{name} has not told {wanted} journeys like {select} after {:.0} s; it has {}: {}",
                limits.scaled(Duration::from_secs_f64(within)).as_secs_f64(),
                shown.len(),
                tail(&shown.join("\n")),
            ));
        }
        Ok(())
    }

    fn counter(&mut self, at: &str, name: &str, rose: Count) -> Result<()> {
        let now = self.read_counters(at)?;
        let now = now.get(name).with_context(|| format!("the kernel has no counter {name}"))?;
        let before =
            self.counters.get(at).and_then(|counters| counters.get(name)).copied().unwrap_or_default();
        let risen = usize::try_from(now.saturating_sub(before))?;
        if !rose.holds(risen) {
            self.problem(format!("{name} of {at} rose by {risen}, expected {rose}"));
        }
        Ok(())
    }
}

/// The action's name, as the scenario has it.
pub(super) fn name(action: &Action) -> &'static str {
    match action {
        Action::Ruleset { .. } => "ruleset",
        Action::Nft { .. } => "nft",
        Action::Iptables { .. } => "iptables",
        Action::Shell { .. } => "shell",
        Action::Sleep { .. } => "sleep",
        Action::Serve { .. } => "serve",
        Action::Queue { .. } => "queue",
        Action::Release { .. } => "release",
        Action::Xdp { .. } => "xdp",
        Action::Collector { .. } => "collector",
        Action::Stored(_) => "stored",
        Action::Served { .. } => "served",
        Action::Connect { .. } => "connect",
        Action::Ping { .. } => "ping",
        Action::Stream { .. } => "stream",
        Action::Burst { .. } => "burst",
        Action::Packet { .. } => "packet",
        Action::Mix { .. } => "mix",
        Action::Deaf { .. } => "deaf",
        Action::Trace(_) => "trace",
        Action::Await { .. } => "await",
        Action::Fix { .. } => "fix",
        Action::Freeze { .. } => "freeze",
        Action::Thaw { .. } => "thaw",
        Action::Stop { .. } => "stop",
        Action::Wait { .. } => "wait",
        Action::Expect(_) => "expect",
        Action::Counter { .. } => "counter",
        Action::SmallDisk { .. } => "small-disk",
        Action::Kill { .. } => "kill",
        Action::Privileges(_) => "privileges",
        Action::Fate(_) => "fate",
        Action::Memory { .. } => "memory",
        Action::Cost(_) => "cost",
        Action::Capabilities { .. } => "capabilities",
        Action::Verifier { .. } => "verifier",
        Action::RandomRules { .. } => "random-rules",
        Action::RandomIptablesRules { .. } => "random-iptables-rules",
        Action::RandomPackets { .. } => "random-packets",
        Action::Evaluate { .. } => "evaluate",
        Action::Tui(_) => "tui",
        Action::Screen(_) => "screen",
        Action::Keys { .. } => "keys",
        Action::Answers { .. } => "answers",
        Action::Paste { .. } => "paste",
        Action::Stick { .. } => "stick",
        Action::Resize { .. } => "resize",
        Action::TuiSignal { .. } => "tui-signal",
        Action::TuiEnds { .. } => "tui-ends",
    }
}

fn signal_of(name: SignalName) -> Signal {
    match name {
        SignalName::Int => Signal::INT,
        SignalName::Term => Signal::TERM,
        SignalName::Kill => Signal::KILL,
    }
}

/// Whether a peer (`10.0.0.1:7`, `[fd00::1]:7`) is meant by an address or by an address with port.
fn is_peer(peer: &str, wanted: &str) -> bool {
    peer == wanted || peer.rsplit_once(':').is_some_and(|(addr, _)| addr.trim_matches(['[', ']']) == wanted)
}

fn tcp_met(said: &Value) -> Option<Met> {
    match (said["result"].as_str()?, said["reply"].as_str()?) {
        ("connected", "hello") => Some(Met::Answered),
        ("connected", _) => Some(Met::Silence),
        ("refused", _) => Some(Met::Refused),
        ("timeout", _) => Some(Met::Timeout),
        ("forbidden", _) => Some(Met::Forbidden),
        ("unreachable", _) => Some(Met::Unreachable),
        _ => None,
    }
}

fn datagrams_met(said: &Value) -> Option<Met> {
    let number = |key: &str| said[key].as_u64().unwrap_or_default();
    let (sent, replies, refused) = (said["sent"].as_u64()?, number("replies"), number("refused"));
    match () {
        () if number("forbidden") == sent => Some(Met::Forbidden),
        () if replies == sent => Some(Met::Answered),
        () if refused > 0 && replies == 0 => Some(Met::Refused),
        () if refused == 0 && replies == 0 => Some(Met::Timeout),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn peers_by_address_and_by_port() {
        assert!(is_peer("10.0.0.1:7", "10.0.0.1"));
        assert!(is_peer("10.0.0.1:7", "10.0.0.1:7"));
        assert!(!is_peer("10.0.0.1:7", "10.0.0.1:8"));
        assert!(!is_peer("10.0.0.11:7", "10.0.0.1"));
        assert!(is_peer("[fd00::1]:7", "fd00::1"));
    }

    #[test]
    fn what_a_client_met() {
        assert_eq!(tcp_met(&json!({"result": "connected", "reply": "hello"})), Some(Met::Answered));
        assert_eq!(tcp_met(&json!({"result": "connected", "reply": ""})), Some(Met::Silence));
        assert_eq!(tcp_met(&json!({"result": "odd", "reply": ""})), None);
        let udp = |replies, refused| {
            datagrams_met(&json!({"sent": 3, "replies": replies, "refused": refused, "forbidden": 0}))
        };
        assert_eq!(udp(3, 0), Some(Met::Answered));
        assert_eq!(udp(0, 2), Some(Met::Refused));
        assert_eq!(udp(0, 0), Some(Met::Timeout));
        assert_eq!(udp(1, 0), None, "some answered is neither");
        assert_eq!(datagrams_met(&json!({"sent": 1, "replies": 0, "forbidden": 1})), Some(Met::Forbidden));
    }
}
