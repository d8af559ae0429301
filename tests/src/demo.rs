//! The article, played: three hosts in namespaces, a port-forward that does not work, the one command that
//! says why, the one that mends it, and the first one again.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use serde_json::Value;

use crate::lab::process::{Ended, Process, read_lossy, tail};
use crate::lab::{Interrupted, Lab, Limits, topology};

/// How to show it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The program to show
    #[arg(long, default_value = "nattrace")]
    nattrace: PathBuf,
}

/// What the router has: the article's ruleset, with established traffic accepted first.
const RULESET: &str = "\
table inet nat {
	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		ip daddr 10.1.2.3 tcp dport 1222 dnat ip to 192.168.70.10:22
	}

	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
	}
}

table inet filter {
	set allow_in {
		type ipv4_addr . inet_service
	}

	chain forward {
		type filter hook forward priority filter; policy accept;
		ct state established,related accept
		ct status dnat jump allowed_dnats
	}

	chain allowed_dnats {
		meta nfproto ipv4 ip daddr . tcp dport @allow_in accept
		drop
	}
}
";

/// What mends it, as the article has it.
const FIX: &str = "add element inet filter allow_in { 192.168.70.10 . 22 }";

/// What the client connects to.
const SERVICE: &str = "10.1.2.3:1222";

/// Where the container's server listens.
const SSH: &str = "192.168.70.10:22";

/// How many packets the second run shows: the three of the handshake tell the story.
const SHOWN: &str = "3";

/// Plays it. The exit code says whether everything went as it was told.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let nattrace = crate::runner::nattrace(&args.nattrace)?;
    let interrupted = crate::lab::heed_signals()?;
    crate::lab::netns::sweep();
    let dir = std::env::temp_dir().join(format!("nattrace-demo-{}", std::process::id()));
    let limits = Limits { deadline: Instant::now() + Duration::from_mins(4), interrupted, patience: 4.0 };
    let played = Lab::for_demo(dir.clone(), limits).and_then(|lab| Play::new(lab, nattrace)?.play());
    // Everything is taken down by now; these were the outputs of the players.
    let _ = std::fs::remove_dir_all(dir);
    match played {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) if error.is::<Interrupted>() => Ok(ExitCode::from(130)),
        Err(error) => Err(error),
    }
}

/// The stage, with the container's server running.
struct Play {
    server: Process,
    lab: Lab,
    nattrace: PathBuf,
    colour: bool,
}

impl Play {
    fn new(mut lab: Lab, nattrace: PathBuf) -> Result<Self> {
        topology::build(&mut lab, "article")?;
        lab.output_with_input(Some("router"), "nft", &["-f", "-"], RULESET)?;
        let args = ["tcp-server", SSH].map(str::to_owned);
        let mut server = Process::spawn(lab.traffic("container", &args)?, &lab.dir, "server")?;
        let stdout = server.stdout.clone();
        server.wait_for_line(&stdout, "{\"event\":\"listening\"", Duration::from_secs(10), &lab.limits)?;
        Ok(Self { server, lab, nattrace, colour: colour() })
    }

    fn play(self) -> Result<()> {
        say("Three hosts, as network namespaces of this machine:\n\n\
             \x20   client ──────────── router ──────────── container\n\
             \x20   10.2.1.2            10.1.2.3            192.168.70.10\n\n\
             The router forwards its port 1222 to port 22 of the container. The client\n\
             tries it, as `ssh -p 1222 10.1.2.3` would, and nattrace watches the router.")?;
        self.trace(None, 1, |play| {
            play.command("client", &format!("connect {SERVICE}"))?;
            let met = play.connect(2.2)?;
            result(&format!("the client: {met}"), met == "timeout")
        })?;
        say("The rewrite works; the rule `drop` at the end of allowed_dnats ends the packet,\n\
             because the element 192.168.70.10 . 22 is not in the set allow_in. So add it:")?;
        self.command("router", &format!("nft {FIX}"))?;
        self.lab.output(Some("router"), "nft", &[FIX])?;
        say("And the same once more:")?;
        self.trace(Some(SHOWN), 0, |play| {
            play.command("client", &format!("connect {SERVICE}"))?;
            let met = play.connect(3.0)?;
            result(&format!("the client: {met}"), met == "connected")
        })?;
        let seen = read_lossy(&self.server.stdout)?;
        let accepted = seen.lines().any(|line| line.contains("\"accept\"") && line.contains("10.2.1.2"));
        result("the container's server: a connection from 10.2.1.2", accepted)?;
        say("That is all. Everything is taken down again.")
    }

    /// Runs nattrace in the router while `meanwhile` happens, its output as it comes; `count` journeys, or
    /// until they stop coming.
    fn trace(
        &self,
        count: Option<&str>,
        exit: i32,
        meanwhile: impl FnOnce(&Self) -> Result<()>,
    ) -> Result<()> {
        let mut command = self.lab.command(Some("router"), self.nattrace.to_str().context("no text")?)?;
        let mut args = vec!["--dport", "1222"];
        args.extend(count.iter().flat_map(|count| ["--count", count]));
        self.command("router", &format!("nattrace {}", args.join(" ")))?;
        command.args(args);
        if self.colour {
            command.args(["--color", "always"]);
        }
        // It writes to a file here, so it cannot see how wide the terminal is; everything else is made for 80.
        if std::env::var_os("COLUMNS").is_none() {
            command.env("COLUMNS", "80");
        }
        let mut tracer = Process::spawn(command, &self.lab.dir, "nattrace")?;
        let stderr = tracer.stderr.clone();
        tracer.wait_for_line(&stderr, "nattrace: tracing", Duration::from_secs(10), &self.lab.limits)?;
        meanwhile(self)?;
        let ended = if count.is_none() {
            self.until_quiet(&tracer.stdout)?;
            tracer.signal(Signal::INT)?;
            tracer.wait(Duration::from_secs(5), &self.lab.limits)?
        } else {
            match tracer.wait(Duration::from_secs(3), &self.lab.limits) {
                Ok(ended) => ended,
                Err(error) if error.is::<Interrupted>() => return Err(error),
                Err(_) => {
                    tracer.signal(Signal::INT)?;
                    tracer.wait(Duration::from_secs(5), &self.lab.limits)?
                }
            }
        };
        raw(&format!("\n{}", read_lossy(&tracer.stdout)?))?;
        if ended != Ended::Code(exit) {
            bail!("nattrace ended with {ended}, not {exit}: {}", tail(&read_lossy(&stderr)?));
        }
        result(&format!("nattrace: exit code {exit}"), true)
    }

    /// Waits until a file has something and stops growing.
    fn until_quiet(&self, path: &Path) -> Result<()> {
        let mut last = (0, Instant::now());
        self.lab.limits.until(Duration::from_secs(3), || {
            let size = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
            if size != last.0 {
                last = (size, Instant::now());
            }
            Ok((size > 0 && last.1.elapsed() > Duration::from_millis(500)).then_some(()))
        })?;
        Ok(())
    }

    /// The client's attempt: `connected`, `timeout`, …
    fn connect(&self, timeout: f64) -> Result<String> {
        let args = ["tcp-connect", SERVICE, "--timeout", &timeout.to_string()].map(str::to_owned);
        let mut client = Process::spawn(self.lab.traffic("client", &args)?, &self.lab.dir, "client")?;
        client.wait(Duration::from_secs(10), &self.lab.limits)?;
        let said: Value = serde_json::from_str(read_lossy(&client.stdout)?.trim()).with_context(|| {
            format!("the client failed: {}", tail(&read_lossy(&client.stderr).unwrap_or_default()))
        })?;
        Ok(said["result"].as_str().unwrap_or("nothing").to_owned())
    }

    /// A command as if somebody typed it at `host`.
    fn command(&self, host: &str, command: &str) -> Result<()> {
        let line = format!("{host}# {command}");
        raw(&if self.colour { format!("\n\x1b[1m{line}\x1b[0m\n") } else { format!("\n{line}\n") })
    }
}

/// A paragraph of explanation.
fn say(text: &str) -> Result<()> {
    raw(&format!("\n{text}\n"))
}

/// What somebody else saw; it must be as it was told.
fn result(text: &str, right: bool) -> Result<()> {
    raw(&format!("  {text}\n"))?;
    if right { Ok(()) } else { bail!("the demonstration did not go as it should: {text}") }
}

fn raw(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("standard output is gone")
}

/// Colour on a terminal, or where somebody who shows our output on one says so; NO_COLOR forbids.
fn colour() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0");
    !set("NO_COLOR") && (std::io::stdout().is_terminal() || set("CLICOLOR_FORCE"))
}
