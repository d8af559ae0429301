//! What a `scenario.toml` says.

pub(crate) mod count;
#[cfg(test)]
mod kernels;
pub(crate) mod load;
pub(crate) mod matcher;
mod template;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;

use crate::traffic::xdp::{self, Program};
use count::Count;

pub(crate) use template::substitute;

/// One scenario (or one variant of one), ready to be run.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    /// Directory name, and variant name where there are variants: `article/tcp4`.
    pub(crate) name: String,
    /// Where its files are.
    pub(crate) dir: PathBuf,
    /// What it says.
    pub(crate) script: Script,
}

/// The contents of `scenario.toml`, variables of the variant filled in.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[expect(clippy::struct_excessive_bools, reason = "what a scenario is or is not, each by itself")]
pub(crate) struct Script {
    /// What is proved, for people.
    pub(crate) about: String,
    /// What the machine must have; otherwise the scenario is skipped with that reason.
    #[serde(default)]
    pub(crate) needs: Vec<Need>,
    /// The first kernel that behaves so (`6.12`).
    pub(crate) since: Option<String>,
    /// The first kernel that does not any more.
    pub(crate) until: Option<String>,
    /// Which topology.
    pub(crate) topology: String,
    /// Role to nft file, loaded before the first action.
    #[serde(default)]
    pub(crate) rulesets: BTreeMap<String, String>,
    /// Tables that iptables-nft makes and owns here (`ip filter`): their rules are to be told in its syntax.
    #[serde(default)]
    pub(crate) iptables: Vec<String>,
    /// Role to sysctl lines (`net/ipv4/…=1`), set before the first action.
    #[serde(default)]
    pub(crate) sysctls: BTreeMap<String, Vec<String>>,
    /// One of many that another scenario has all together: left out where time is short (`--brief`).
    #[serde(default)]
    pub(crate) thorough: bool,
    /// Nothing of it is the kernel's: of the kernels that play most of the suite, one is enough (`--again` leaves it out).
    #[serde(default)]
    pub(crate) once: bool,
    /// One of the few that are played on every kernel, where others are played on some (`--sample`).
    #[serde(default)]
    pub(crate) sample: bool,
    /// Nothing else may run at the same time: it measures.
    #[serde(default)]
    pub(crate) alone: bool,
    /// Seconds after which the scenario has failed.
    #[serde(default = "sixty")]
    pub(crate) timeout: f64,
    /// What happens, in order.
    #[serde(rename = "action")]
    pub(crate) actions: Vec<Action>,
}

/// A requirement that not every machine meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Need {
    /// Kernel probes: full mode.
    Probes,
    /// The absence of kernel probes: what is said in reduced mode.
    Reduced,
    /// A kernel that speaks SCTP.
    Sctp,
    /// A kernel whose tables can have an owner, so that a trace table marks packets.
    TraceTable,
    /// An OpenTelemetry collector (`scenarios run --collector`).
    Collector,
    /// A kernel for which it is recorded what the verifier goes through.
    VerifierRecord,
    /// Wireshark's `tshark` and `capinfos`, which guests do not have.
    Tshark,
}

/// In which mode something is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    /// With kernel probes.
    Full,
    /// Without.
    Reduced,
}

/// How nattrace watches hooks and the ends of buffers, where there are probes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Hooks {
    /// As it likes best.
    #[default]
    Any,
    /// By kprobes and kretprobes, as on kernels whose trampolines take no programs.
    Kprobe,
}

/// How nattrace gets into the namespace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Via {
    /// A plain setns(2).
    #[default]
    Setns,
    /// As people do it: `ip netns exec`, which also mounts another /sys.
    Ip,
    /// As root with no capability but CAP_NET_ADMIN.
    NetAdmin,
    /// As root with the capabilities that a trace of one namespace needs, and no other.
    Least,
    /// As nobody, with the same.
    Nobody,
    /// Where nobody finds an nft that can be run.
    WithoutNft,
    /// Where `ip netns` knows no names.
    Nameless,
    /// Where there are no namespaces but the topology's, and no processes but its own: it cannot be signalled there.
    Apart,
    /// Where nobody finds an iptables that can be run.
    WithoutIptables,
    /// Where nobody finds a tool that lists legacy iptables.
    WithoutLegacySave,
}

/// What nattrace is to print.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Format {
    /// JSON Lines, which are judged.
    #[default]
    Json,
    /// Whatever it prints by itself.
    Text,
    /// The lines of nft, which are compared with nft's.
    Nft,
    /// Packets, which are compared with the journeys of its recording (`replay`), as Wireshark reads them.
    Pcapng,
}

/// Where nattrace's standard output goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Stdout {
    /// Into a file that is checked.
    #[default]
    File,
    /// Into a pipe that nobody reads.
    ClosedPipe,
}

/// How far the lines of `nft monitor trace` and the journeys must agree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Agreement {
    /// Line for step and step for line.
    #[default]
    Exact,
    /// Every step has its line; there may be more lines (nattrace was stopped in the middle).
    Subset,
    /// As `subset`, and texts are not compared: the ruleset is replaced, and nft prints stale texts then.
    Handles,
    /// As `handles`, and nattrace may have no texts at all.
    NoTexts,
    /// Not compared: no trace messages are asked for.
    Off,
}

/// How the counters of rules and the steps of journeys must agree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Counting {
    /// No rule has more steps than it counted packets: some packets are not traced.
    #[default]
    AtMost,
    /// Every packet that a counting rule matches is traced.
    Equal,
    /// Not compared: a rule is replaced, and its counter begins anew.
    Off,
}

/// A signal, by name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum SignalName {
    /// Ctrl-C.
    #[default]
    Int,
    /// Polite end.
    Term,
    /// No mercy.
    Kill,
}

/// What a client is to experience.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Met {
    /// TCP: connected and echoed. UDP and ping: every packet answered.
    Answered,
    /// TCP: RST. UDP: ICMP port unreachable.
    Refused,
    /// Nothing came back.
    Timeout,
    /// The kernel refused to send (EPERM).
    Forbidden,
    /// ICMP unreachable other than port.
    Unreachable,
    /// TCP: connected, and the server's answer never came.
    Silence,
}

/// Layer 4 of the generators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Proto {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP, one-to-one.
    Sctp,
}

/// One thing to do. `at` names a role of the topology.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "do", deny_unknown_fields, rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub(crate) enum Action {
    /// Load an nft file (`nft -f`).
    Ruleset { at: String, file: String },
    /// `nft COMMAND`.
    Nft { at: String, run: String },
    /// A shell script that changes the ruleset by other programs than nft.
    Iptables { at: String, run: String },
    /// A shell command; it must succeed.
    Shell { at: Option<String>, run: String },
    /// Wait.
    Sleep { seconds: f64 },
    /// Start an echo server and wait until it listens.
    Serve {
        name: String,
        at: String,
        proto: Proto,
        listen: SocketAddr,
        #[serde(default)]
        sink: bool,
    },
    /// Open sockets that do not take what comes to them (`scenarios traffic deaf --help`).
    Deaf { name: String, at: String, sockets: Vec<String> },
    /// Start a program that answers for the packets of an NFQUEUE: accepts them, where nothing else is said.
    Queue {
        name: String,
        at: String,
        number: u16,
        #[serde(default)]
        refuse: bool,
        #[serde(default)]
        hold: bool,
        most: Option<u32>,
        source: Option<Ipv4Addr>,
    },
    /// Have it answer for what it holds.
    Release { queue: String },
    /// Run an XDP program on what a device takes in.
    Xdp {
        at: String,
        device: String,
        program: Program,
        #[serde(default)]
        mode: xdp::Mode,
    },
    /// Start an OpenTelemetry collector that takes OTLP over HTTP at port 4318, and a store that it passes everything on to.
    Collector { name: String, at: String },
    /// What a collector's store must have got.
    Stored(Stored),
    /// What a server, or the reader of a queue, must have seen by now.
    Served { server: String, saw: Count, from: Option<String>, not_from: Option<String> },
    /// Connect over TCP, or send one datagram and wait for the answer.
    Connect {
        at: String,
        proto: Proto,
        to: SocketAddr,
        from: Option<SocketAddr>,
        #[serde(default = "two")]
        timeout: f64,
        #[serde(default = "one")]
        count: u32,
        /// TCP: so many bytes more, at once, and back.
        #[serde(default)]
        more: u32,
        met: Met,
    },
    /// ICMP echo.
    Ping {
        at: String,
        to: IpAddr,
        #[serde(default = "one_u16")]
        count: u16,
        #[serde(default = "one_second")]
        timeout: f64,
        met: Met,
    },
    /// Datagrams without end, until the scenario is over.
    Stream { at: String, to: SocketAddr, from: Option<SocketAddr>, interval_ms: u64 },
    /// Many datagrams of one shape at once.
    Burst {
        at: String,
        from: IpAddr,
        to: SocketAddr,
        count: u16,
        #[serde(default = "four")]
        senders: u16,
        #[serde(default)]
        vary_length: bool,
        port: u16,
        #[serde(default)]
        pause_us: u32,
    },
    /// Crafted packets, straight to a device: arguments of the generator `packet` (`scenarios traffic packet --help`).
    Packet { at: String, args: String },
    /// Several of these at once.
    Mix { at: String, args: Vec<String> },
    /// Start nattrace (in JSON) and wait until it is ready.
    Trace(Trace),
    /// Wait until nattrace has written so many journeys that match.
    Await {
        #[serde(default = "trace_name")]
        trace: String,
        #[serde(default, rename = "where")]
        select: Value,
        journeys: usize,
        #[serde(default = "ten")]
        within: f64,
    },
    /// Type what nattrace said: the commands of the first fix of the first dropped journey, as they are.
    Fix {
        at: String,
        #[serde(default = "trace_name")]
        trace: String,
        /// For every packet that was dropped so far; else for the first alone.
        #[serde(default)]
        all: bool,
    },
    /// Stop nattrace's processor time, as a machine that is too busy does.
    Freeze {
        #[serde(default = "trace_name")]
        trace: String,
    },
    /// Let it go on.
    Thaw {
        #[serde(default = "trace_name")]
        trace: String,
    },
    /// End nattrace by a signal and wait for its end.
    Stop {
        #[serde(default = "trace_name")]
        trace: String,
        #[serde(default)]
        signal: SignalName,
        #[serde(default = "ten")]
        within: f64,
    },
    /// Wait until nattrace ends by itself.
    Wait {
        #[serde(default = "trace_name")]
        trace: String,
        #[serde(default = "ten")]
        within: f64,
        /// It must not end earlier than this after its start.
        #[serde(default)]
        not_before: f64,
    },
    /// What the ended nattrace must have said.
    Expect(Box<Expect>),
    /// A counter since the first action: of /proc/net/snmp (`UdpNoPorts`), netstat (`TcpExtListenDrops`), snmp6
    /// (`Udp6NoPorts`), conntrack (`conntrack clashres`) or a queue (`queue 7 queue_dropped`).
    Counter { at: String, name: String, rose: Count },
    /// A file system of that many KiB, mounted below the scenario's directory.
    SmallDisk { path: String, kib: u32 },
    /// Start nattrace and end it at a random moment, by signals and for want of memory or threads, again and again; nothing of
    /// it may be left.
    Kill { at: String, args: Vec<String>, times: u32 },
    /// What a running nattrace may do yet.
    Privileges(Privileges),
    /// Play the same with and without nattrace: everybody's counters must be the same.
    Fate(Fate),
    /// Most memory that a running nattrace took so far, in MB, and longest time to its ready line, in seconds.
    Memory {
        #[serde(default = "trace_name")]
        trace: String,
        most: f64,
        start: f64,
    },
    /// What an ended `nattrace check` said, against what the kernel has.
    Capabilities { trace: String },
    /// How much the verifier went through for the programs of a running nattrace, against what is recorded.
    Verifier { trace: String },
    /// What nattrace costs: runs per forwarded packet, idle processor, memory, start.
    Cost(Cost),
    /// Load as many random rules, in a table at the forward hook.
    RandomRules { at: String, seed: u64, count: usize },
    /// The same of iptables-nft, in its filter table.
    RandomIptablesRules { at: String, seed: u64, count: usize },
    /// Send as many random packets that are forwarded.
    RandomPackets { at: String, device: String, seed: u64, count: usize },
    /// Compare the evaluator with what the kernel did to the packets of an ended trace that was recorded: at least so many
    /// pairs of a rule and a packet, of which it may not know such a share.
    Evaluate { trace: String, pairs: usize, unknown: f64 },
    /// Start `nattrace tui` in a terminal.
    Tui(Tui),
    /// Wait until its screen shows all of this.
    Screen(Screen),
    /// Press keys, by tmux's names; what begins with `=` is typed as it is.
    Keys {
        #[serde(default = "tui_name")]
        tui: String,
        keys: Vec<String>,
    },
    /// The same, where each changes the picture: at most after so many milliseconds.
    Answers {
        #[serde(default = "tui_name")]
        tui: String,
        keys: Vec<String>,
        within_ms: u64,
    },
    /// Run what was copied to the clipboard.
    Paste {
        #[serde(default = "tui_name")]
        tui: String,
        at: String,
    },
    /// Its terminal takes nothing any more, until the program has ended.
    Stick {
        #[serde(default = "tui_name")]
        tui: String,
    },
    /// Its terminal gets another size.
    Resize {
        #[serde(default = "tui_name")]
        tui: String,
        size: String,
    },
    /// Send a signal to it.
    TuiSignal {
        #[serde(default = "tui_name")]
        tui: String,
        signal: SignalName,
    },
    /// Wait for its end; what it must leave on the terminal. Nothing else of it may be left.
    TuiEnds {
        #[serde(default = "tui_name")]
        tui: String,
        exit: i32,
        #[serde(default)]
        left: Vec<String>,
        #[serde(default = "ten")]
        within: f64,
    },
}

/// How to start `nattrace tui`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Tui {
    /// What it is called in later actions.
    #[serde(default = "tui_name")]
    pub(crate) name: String,
    /// In which namespace it runs; where the runner is when absent.
    #[serde(default)]
    pub(crate) at: Option<String>,
    /// Arguments behind `tui`.
    pub(crate) args: Vec<String>,
    /// They name a recording.
    #[serde(default)]
    pub(crate) file: bool,
    /// Columns and rows of the terminal.
    #[serde(default = "usual_size")]
    pub(crate) size: String,
}

/// What a screen must show.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Screen {
    /// Which one.
    #[serde(default = "tui_name")]
    pub(crate) tui: String,
    /// Each must be on it,
    pub(crate) shows: Vec<String>,
    /// and at the same time none of these.
    #[serde(default)]
    pub(crate) never: Vec<String>,
    #[serde(default = "ten")]
    pub(crate) within: f64,
}

/// How to start nattrace.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[expect(clippy::struct_excessive_bools, reason = "what a scenario may ask for, each on or off")]
pub(crate) struct Trace {
    /// What it is called in later actions.
    #[serde(default = "trace_name")]
    pub(crate) name: String,
    /// In which namespace it runs; where the runner is when absent.
    #[serde(default)]
    pub(crate) at: Option<String>,
    /// In which namespaces (a comma list) its packets are watched by the other tools; the same when absent.
    #[serde(default)]
    pub(crate) watch: Option<String>,
    /// Arguments, without `--format`.
    pub(crate) args: Vec<String>,
    /// How it gets there.
    #[serde(default)]
    pub(crate) via: Via,
    /// Shell scripts that it finds in the place of programs (`nft`).
    #[serde(default)]
    pub(crate) programs: BTreeMap<String, String>,
    /// Environment variables.
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
    /// What it is to print.
    #[serde(default)]
    pub(crate) format: Format,
    /// Wait for `nattrace: tracing`.
    #[serde(default = "yes")]
    pub(crate) ready: bool,
    /// Where it writes its results, when `-o` is among the arguments.
    #[serde(default)]
    pub(crate) output: Option<String>,
    /// Where standard output goes.
    #[serde(default)]
    pub(crate) stdout: Stdout,
    /// Whether other tools watch beside it; what they read costs program runs that are not nattrace's doing.
    #[serde(default = "yes")]
    pub(crate) witnesses: bool,
    /// How it is to watch hooks.
    #[serde(default)]
    pub(crate) hooks: Hooks,
    /// How far `nft monitor trace` must agree.
    #[serde(default)]
    pub(crate) monitor: Agreement,
    /// How many trace ids a packet has at most: more than one where it crosses the loopback.
    #[serde(default = "one_usize")]
    pub(crate) ids: usize,
    /// How the counters of rules and the steps must agree.
    #[serde(default)]
    pub(crate) counters: Counting,
    /// Legacy iptables is in use: its lines in the kernel's log, its rules and counters are compared with the steps.
    #[serde(default)]
    pub(crate) legacy: bool,
    /// Record the events, replay them, and compare.
    #[serde(default)]
    pub(crate) replay: bool,
    /// Record with `--anonymize`: the recording tells the same journeys of others, and has nothing of whose they were. Needs
    /// `replay`.
    #[serde(default)]
    pub(crate) anonymize: bool,
    /// Replay the recording into pcapng, and compare what Wireshark reads; needs `replay`, and `tshark` of the machine.
    #[serde(default)]
    pub(crate) pcapng: bool,
    /// The sources are what the arguments say, not what the mode says.
    #[serde(default)]
    pub(crate) own_sources: bool,
}

/// What is expected of an ended nattrace.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Expect {
    /// Which one.
    #[serde(default = "trace_name")]
    pub(crate) trace: String,
    /// Exit code.
    pub(crate) exit: i32,
    /// Each must be somewhere on standard error.
    #[serde(default)]
    pub(crate) stderr: Vec<String>,
    /// Each must be somewhere on standard output (text format).
    #[serde(default)]
    pub(crate) stdout: Vec<String>,
    /// None may be on standard output.
    #[serde(default)]
    pub(crate) stdout_never: Vec<String>,
    /// None may be on standard error.
    #[serde(default)]
    pub(crate) stderr_never: Vec<String>,
    /// It must be one clear complaint: few lines, nothing on standard output.
    #[serde(default)]
    pub(crate) complaint: bool,
    /// How many journeys in all.
    #[serde(default)]
    pub(crate) total: Option<Count>,
    /// Pattern of the `start` line.
    #[serde(default)]
    pub(crate) start: Option<Value>,
    /// Pattern of the `summary` line.
    #[serde(default)]
    pub(crate) summary: Option<Value>,
    /// Patterns, each of which one `connection` line must be like.
    #[serde(default)]
    pub(crate) connections: Vec<Value>,
    /// Groups of journeys.
    #[serde(default)]
    pub(crate) journeys: Vec<Group>,
    /// The server that saw the sources which the journeys end with, each as often.
    #[serde(default)]
    pub(crate) sources_seen_by: Option<String>,
    /// Packets whose rules are known by construction.
    #[serde(default)]
    pub(crate) classify: Option<Classify>,
}

/// What a collector passed on.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Stored {
    /// Which collector.
    pub(crate) collector: String,
    /// The ended traces whose journeys all must be there, each once and as it was told, by the `host.name` each gave itself.
    pub(crate) told: BTreeMap<String, String>,
    /// Groups of traces.
    pub(crate) traces: Vec<Together>,
}

/// Traces that hold certain spans.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Together {
    /// Patterns: a trace is counted that has a journey of its own for each, and no other journey.
    pub(crate) journeys: Vec<Value>,
    /// How many such traces there are.
    pub(crate) count: Count,
}

/// Journeys selected by a pattern, and what holds for all of them.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Group {
    /// Only in this mode.
    #[serde(default)]
    pub(crate) mode: Option<Mode>,
    /// Only from this kernel on (`6.12`).
    #[serde(default)]
    pub(crate) since: Option<String>,
    /// Only before this kernel.
    #[serde(default)]
    pub(crate) until: Option<String>,
    /// Which journeys.
    #[serde(default, rename = "where")]
    pub(crate) select: Value,
    /// How many there are.
    #[serde(default = "at_least_one")]
    pub(crate) count: Count,
    /// What else holds for each.
    #[serde(default)]
    pub(crate) is: Value,
    /// An ordered sub-sequence of each one's steps.
    #[serde(default)]
    pub(crate) steps: Vec<Value>,
    /// Steps that each one has, wherever.
    #[serde(default)]
    pub(crate) has: Vec<Value>,
    /// Steps that none has.
    #[serde(default)]
    pub(crate) never: Vec<Value>,
}

/// A burst whose packets are sorted into chains by their port or length: the chain that each packet passes
/// is known before it is sent.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Classify {
    /// `sport` or `length`: the member of `packet` that tells the packets apart.
    pub(crate) by: String,
    /// The value of the first packet.
    pub(crate) first: u64,
    /// How many packets, with consecutive values.
    pub(crate) packets: u64,
    /// The class is the value (less `less`) modulo this.
    pub(crate) modulo: u64,
    /// Subtracted before the modulo: nft sees the UDP length, the JSON has the packet's.
    #[serde(default)]
    pub(crate) less: u64,
    /// Chains are called by this and the class.
    pub(crate) chain: String,
    /// Classes whose chain drops.
    pub(crate) dropped: Vec<u64>,
    /// The server that receives the others.
    pub(crate) server: String,
}

/// Which capabilities a running nattrace has, named as setpriv(1) does (`net_admin`).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Privileges {
    /// Which one.
    #[serde(default = "trace_name")]
    pub(crate) trace: String,
    /// Its first thread has these,
    pub(crate) least: Vec<String>,
    /// and may have these, too; no thread has others.
    #[serde(default)]
    pub(crate) most: Vec<String>,
    /// Threads, by name, that are there and have none.
    #[serde(default)]
    pub(crate) without: Vec<String>,
    /// Nothing else is in the bounding set, either.
    #[serde(default = "yes")]
    pub(crate) bounding: bool,
}

/// What is played with and without nattrace.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Fate {
    /// Where nattrace runs.
    pub(crate) at: String,
    /// Its arguments, without `--format`.
    pub(crate) args: Vec<String>,
    /// Role to the nft file that is loaded anew before each play.
    pub(crate) rulesets: BTreeMap<String, String>,
    /// How many plays without it, and as many with it.
    pub(crate) plays: u32,
    /// Least number of journeys that each play with it tells.
    pub(crate) journeys: usize,
    /// What is played.
    pub(crate) play: Vec<Action>,
}

/// What the cost measurement does.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Cost {
    /// The ended-by-nobody trace to measure.
    #[serde(default = "trace_name")]
    pub(crate) trace: String,
    /// Who sends.
    pub(crate) at: String,
    /// From which address.
    pub(crate) from: IpAddr,
    /// Where to.
    pub(crate) to: SocketAddr,
    /// How many packets, each of a connection of its own.
    pub(crate) packets: u16,
    /// Whether conntrack knows the connections already: else each packet makes ctnetlink tell of a new one, to
    /// nattrace too.
    pub(crate) known: bool,
    /// Most program runs per forwarded packet.
    pub(crate) runs: f64,
    /// Most processor time in `idle` seconds, in milliseconds.
    pub(crate) busy: f64,
    /// Seconds without traffic.
    pub(crate) idle: f64,
    /// Most resident memory, in MB.
    pub(crate) rss: f64,
    /// Longest time to the ready line, in seconds.
    pub(crate) start: f64,
    /// The same of 5.10, which searches all its symbols for each probe (`kallsyms_lookup_name`).
    pub(crate) start_old: f64,
}

fn sixty() -> f64 {
    60.0
}
fn ten() -> f64 {
    10.0
}
fn two() -> f64 {
    2.0
}
fn one_second() -> f64 {
    1.0
}
fn one() -> u32 {
    1
}
fn one_usize() -> usize {
    1
}
fn one_u16() -> u16 {
    1
}
fn four() -> u16 {
    4
}
fn yes() -> bool {
    true
}
fn tui_name() -> String {
    "tui".to_owned()
}
fn usual_size() -> String {
    "80x24".to_owned()
}
fn trace_name() -> String {
    "trace".to_owned()
}
fn at_least_one() -> Count {
    Count { least: 1, most: None }
}
