//! The flags as typed. What they mean is decided in [`super::plan`]; this page is what `--help` shows.

use std::path::PathBuf;

use clap::{ArgAction, Args as ClapArgs, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

const EXAMPLES: &str = "\
Examples:
  Where does the port-forward break? Then retry the connection that fails:
    nattrace --dport 1222

  One packet of a client, with its whole way, for a script:
    nattrace --saddr 10.2.1.2 --proto tcp --tcp-flags 'syn,!ack' --count 1 --format json

  A container: start in its namespace, follow the packet wherever it goes:
    nattrace --netns web --port 80,443,8000-8100

  Everything that goes out by one device, whatever it costs:
    nattrace --oif eth0 --rate 0 --duration 10s

  Look around in it while it runs: packets, the way of each, what drops them, the fix:
    nattrace tui --dport 1222

  Also for the whole fleet's collector, where a packet's hops on all routers are one trace:
    nattrace --dport 1222 --otlp http://collector:4318

  Keep what was seen, and look at it again elsewhere, without root:
    nattrace --addr 2001:db8::/32 --record trace.rec
    nattrace replay trace.rec --proto icmpv6
    nattrace tui trace.rec

  The same as a page to mail to a colleague, or its picture alone:
    nattrace report trace.rec -o report.html
    nattrace report trace.rec --dport 22 --format svg -o path.svg

  Send it to somebody who is not to know whose it is:
    nattrace anonymize trace.rec -o public.rec

Exit status:
  0 packets were seen and none was dropped    1 at least one was dropped
  2 the work could not be done                3 it ran, and nothing matched";

// One text for `-h` and `--help`: with a longer one, clap spreads every option over three lines.
const ABOUT: &str = "\
Says where a packet went, what rewrote it, what dropped it, and why.

Filters select packets by what they look like before any rewrite. Once a packet is selected, its
whole connection is followed, after rewrites and in both directions. Filters of one kind are
alternatives (--dport 22,80), filters of different kinds must all hold. Without a filter every
packet is selected. It runs until Ctrl-C.";

/// What can be typed, a line each.
pub(super) const USAGE: &str = "\
nattrace [FILTERS] [OPTIONS]
       nattrace replay FILE [FILTERS] [OPTIONS]
       nattrace report FILE [FILTERS] [OPTIONS] -o PAGE
       nattrace tui [FILE] [FILTERS] [OPTIONS]
       nattrace anonymize FILE [-o FILE]
       nattrace check
       nattrace completions SHELL | man";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "nattrace",
    version,
    about = ABOUT,
    max_term_width = 100,
    after_help = EXAMPLES,
    override_usage = USAGE
)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) run: RunArgs,
    /// Colour: auto (on a terminal, unless NO_COLOR is set), always, never
    #[arg(long, value_enum, value_name = "WHEN", default_value_t, global = true, help_heading = "Output")]
    #[arg(hide_possible_values = true, hide_default_value = true)]
    pub(super) color: Color,
    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Say what this kernel and these privileges allow, and what each missing thing costs
    Check(CheckArgs),
    /// Tell again what --record kept: no kernel, no root needed
    Replay(Box<ReplayArgs>),
    /// Make a page of what --record kept, or, with --format svg or dot, its picture alone
    Report(Box<ReplayArgs>),
    /// Look around in packets as they come, or in a recording, on the whole screen; ? there shows the keys
    Tui(Box<TuiArgs>),
    /// Make a recording that a stranger may have: addresses and names are replaced
    Anonymize {
        /// A file made with --record; - for standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Write the new recording there instead of to standard output
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Print what makes a shell complete the flags: bash, zsh, fish
    Completions {
        /// The shell
        #[arg(value_name = "SHELL")]
        shell: Shell,
    },
    /// Print the manual page
    Man,
}

#[derive(Debug, ClapArgs)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

#[derive(Debug, ClapArgs)]
pub(super) struct ReplayArgs {
    /// A file made with --record; - for standard input
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    #[command(flatten)]
    pub(super) filter: FilterArgs,
    #[command(flatten)]
    pub(super) limit: LimitArgs,
    #[command(flatten)]
    pub(super) export: ExportArgs,
    #[command(flatten)]
    pub(super) disguise: DisguiseArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

#[derive(Debug, ClapArgs)]
pub(super) struct TuiArgs {
    /// A file made with --record, - for standard input; without one, the running kernel is traced
    #[arg(value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
    #[command(flatten)]
    pub(super) run: RunArgs,
}

/// All that can be asked of a run, before the name of a command and after it.
#[derive(Debug, Default, ClapArgs)]
pub(super) struct RunArgs {
    #[command(flatten)]
    pub(super) filter: FilterArgs,
    #[command(flatten)]
    pub(super) limit: LimitArgs,
    #[command(flatten)]
    pub(super) kernel: KernelArgs,
    #[command(flatten)]
    pub(super) export: ExportArgs,
    #[command(flatten)]
    pub(super) disguise: DisguiseArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

/// Which packets. Lists may repeat the flag or separate values by commas.
#[derive(Debug, Default, ClapArgs)]
#[command(next_help_heading = "Filters (lists: repeat, or separate by commas)")]
pub(super) struct FilterArgs {
    /// Protocol: tcp, udp, icmp, icmpv6, sctp, another name, or a number
    #[arg(long, value_name = "PROTO", action = ArgAction::Append, allow_negative_numbers = true)]
    pub(super) proto: Vec<String>,
    /// Source address or prefix, v4 or v6, before any rewrite
    #[arg(long, value_name = "ADDR[/LEN]", action = ArgAction::Append)]
    pub(super) saddr: Vec<String>,
    /// Destination address or prefix, before any rewrite
    #[arg(long, value_name = "ADDR[/LEN]", action = ArgAction::Append)]
    pub(super) daddr: Vec<String>,
    /// Either address
    #[arg(long, value_name = "ADDR[/LEN]", action = ArgAction::Append)]
    pub(super) addr: Vec<String>,
    /// Source port or range of ports; implies tcp, udp or sctp
    #[arg(long, value_name = "PORT[-PORT]", action = ArgAction::Append, allow_negative_numbers = true)]
    pub(super) sport: Vec<String>,
    /// Destination port or range of ports: 22 or 22,8000-8100
    #[arg(long, value_name = "PORT[-PORT]", action = ArgAction::Append, allow_negative_numbers = true)]
    pub(super) dport: Vec<String>,
    /// Either port
    #[arg(long, value_name = "PORT[-PORT]", action = ArgAction::Append, allow_negative_numbers = true)]
    pub(super) port: Vec<String>,
    /// Device that the packet came in by
    #[arg(long, value_name = "NAME", action = ArgAction::Append)]
    pub(super) iif: Vec<String>,
    /// Device that the packet goes out by, once that is known
    #[arg(long, value_name = "NAME", action = ArgAction::Append)]
    pub(super) oif: Vec<String>,
    /// Packet mark, decimal or 0x hexadecimal, with an optional mask
    #[arg(long, value_name = "VALUE[/MASK]", action = ArgAction::Append, allow_negative_numbers = true)]
    pub(super) mark: Vec<String>,
    /// TCP flags that are set, and with ! those that are clear: 'syn,!ack' is a connection attempt
    #[arg(long, value_name = "FLAGS", action = ArgAction::Append)]
    pub(super) tcp_flags: Vec<String>,
    /// Network namespace where the trace starts: a name, a PID, a path, or all [default: the current one]
    #[arg(long, value_name = "NETNS", action = ArgAction::Append)]
    pub(super) netns: Vec<String>,
    /// Follow the selected packet only, not its connection
    #[arg(long)]
    pub(super) no_follow: bool,
}

/// When to stop and whom to listen to: makes sense with a kernel and in a replay.
#[derive(Debug, Default, ClapArgs)]
#[command(next_help_heading = "Tracing")]
pub(super) struct LimitArgs {
    /// Stop after N finished journeys
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(super) count: Option<String>,
    /// Stop after this time: 500ms, 10s, 5m, 1h30m
    #[arg(long, value_name = "TIME", allow_negative_numbers = true)]
    pub(super) duration: Option<String>,
    /// Take so much memory for packets under way, and give up the oldest for the next: 64M, 1G [default: 128M]
    #[arg(long, value_name = "SIZE")]
    pub(super) memory: Option<String>,
    /// Use only these of probes, tracepoints, nft, conntrack [default: all that the kernel allows]
    #[arg(long, value_name = "LIST", action = ArgAction::Append)]
    pub(super) sources: Vec<String>,
}

/// What only a trace of the running kernel can do.
#[derive(Debug, Default, ClapArgs)]
#[command(next_help_heading = "Tracing")]
pub(super) struct KernelArgs {
    /// Select at most N new packets a second; 0 for no limit [default: 10]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(super) rate: Option<String>,
    /// Also keep the events, for `nattrace replay`
    #[arg(long, value_name = "FILE")]
    pub(super) record: Option<PathBuf>,
    /// Stop recording, not tracing, at this size of the file: 10M, 2G [default: 1G]
    #[arg(long, value_name = "SIZE")]
    pub(super) record_limit: Option<String>,
    /// Keep events as json, which any program reads, or compact: smaller, and read ten times as fast [default: json]
    #[arg(long, value_name = "FORMAT")]
    pub(super) record_format: Option<String>,
    /// Add nothing to any ruleset; rules are then seen by probes alone, or said to be missing
    #[arg(long)]
    pub(super) no_trace_table: bool,
    /// Say what would be attached and installed, and do nothing
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// Who else is told: makes sense where there are journeys.
#[derive(Debug, Default, ClapArgs)]
#[command(next_help_heading = "Output")]
pub(super) struct ExportArgs {
    /// Also send journeys as traces to an OpenTelemetry collector: http://HOST[:4318] or https://HOST
    #[arg(long, value_name = "URL")]
    pub(super) otlp: Option<String>,
}

/// Whose packets they are is not to be seen.
#[derive(Debug, Default, ClapArgs)]
#[command(next_help_heading = "Tracing")]
pub(super) struct DisguiseArgs {
    /// Replace addresses and names, in what --record keeps or in what a replay tells
    #[arg(long)]
    pub(super) anonymize: bool,
}

#[derive(Debug, Default, ClapArgs)]
#[command(next_help_heading = "Output")]
pub(super) struct OutputArgs {
    /// text for people [default], json for programs (JSON Lines), nft for what reads `nft monitor trace`,
    /// pcapng for Wireshark; html for a page of it all [default of report], svg and dot for its picture alone, these
    /// three at the end
    #[arg(long, value_enum, value_name = "FORMAT", hide_possible_values = true)]
    pub(super) format: Option<Format>,
    /// Write the results there instead of to standard output
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
}

/// The form of the results.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people: one block per packet.
    #[default]
    Text,
    /// For programs: JSON Lines, schema 1.
    Json,
    /// The lines of `nft monitor trace`, and more in the same grammar.
    Nft,
    /// For Wireshark and its kin: packets at each hook, with comments.
    Pcapng,
    /// A page of it all, at the end.
    Html,
    /// The picture of where packets went, at the end.
    Svg,
    /// The same for graphviz.
    Dot,
}

impl Format {
    /// Whether it is told at the end, all at once.
    pub(super) fn is_report(self) -> bool {
        matches!(self, Self::Html | Self::Svg | Self::Dot)
    }
}

/// `--color`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Color {
    /// On a terminal.
    #[default]
    Auto,
    /// Everywhere.
    Always,
    /// Nowhere.
    Never,
}

impl From<ReplayArgs> for RunArgs {
    fn from(args: ReplayArgs) -> Self {
        let ReplayArgs { file: _, filter, limit, export, disguise, output } = args;
        Self { filter, limit, kernel: KernelArgs::default(), export, disguise, output }
    }
}

impl RunArgs {
    /// As [`FilterArgs::join`].
    pub(super) fn join(self, after: Self) -> Self {
        Self {
            filter: self.filter.join(after.filter),
            limit: self.limit.join(after.limit),
            kernel: self.kernel.join(after.kernel),
            export: self.export.join(after.export),
            disguise: DisguiseArgs { anonymize: after.disguise.anonymize || self.disguise.anonymize },
            output: self.output.join(after.output),
        }
    }

    /// As [`FilterArgs::given`], but for where and how the results are written.
    pub(super) fn given(&self) -> Option<&'static str> {
        let Self { filter, limit, kernel, export, disguise, output: _ } = self;
        let given = filter.given().or(limit.given()).or(kernel.given());
        given.or(export.given()).or(disguise.anonymize.then_some("--anonymize"))
    }
}

impl FilterArgs {
    /// Options before and after the name of a command belong together.
    pub(super) fn join(mut self, after: Self) -> Self {
        let lists = [
            (&mut self.proto, after.proto),
            (&mut self.saddr, after.saddr),
            (&mut self.daddr, after.daddr),
            (&mut self.addr, after.addr),
            (&mut self.sport, after.sport),
            (&mut self.dport, after.dport),
            (&mut self.port, after.port),
            (&mut self.iif, after.iif),
            (&mut self.oif, after.oif),
            (&mut self.mark, after.mark),
            (&mut self.tcp_flags, after.tcp_flags),
            (&mut self.netns, after.netns),
        ];
        for (list, more) in lists {
            list.extend(more);
        }
        self.no_follow |= after.no_follow;
        self
    }

    /// The first of these flags that was given, for saying that it has no meaning here.
    pub(super) fn given(&self) -> Option<&'static str> {
        let lists = [
            ("--proto", &self.proto),
            ("--saddr", &self.saddr),
            ("--daddr", &self.daddr),
            ("--addr", &self.addr),
            ("--sport", &self.sport),
            ("--dport", &self.dport),
            ("--port", &self.port),
            ("--iif", &self.iif),
            ("--oif", &self.oif),
            ("--mark", &self.mark),
            ("--tcp-flags", &self.tcp_flags),
            ("--netns", &self.netns),
        ];
        let list = lists.into_iter().find(|(_, values)| !values.is_empty()).map(|(flag, _)| flag);
        list.or(self.no_follow.then_some("--no-follow"))
    }
}

impl LimitArgs {
    /// As [`FilterArgs::join`].
    pub(super) fn join(mut self, after: Self) -> Self {
        self.sources.extend(after.sources);
        Self {
            count: after.count.or(self.count),
            duration: after.duration.or(self.duration),
            memory: after.memory.or(self.memory),
            sources: self.sources,
        }
    }

    /// As [`FilterArgs::given`].
    pub(super) fn given(&self) -> Option<&'static str> {
        let flags = [
            ("--count", self.count.is_some()),
            ("--duration", self.duration.is_some()),
            ("--memory", self.memory.is_some()),
            ("--sources", !self.sources.is_empty()),
        ];
        flags.into_iter().find(|(_, given)| *given).map(|(flag, _)| flag)
    }
}

impl KernelArgs {
    /// As [`FilterArgs::join`].
    pub(super) fn join(self, after: Self) -> Self {
        Self {
            rate: after.rate.or(self.rate),
            record: after.record.or(self.record),
            record_limit: after.record_limit.or(self.record_limit),
            record_format: after.record_format.or(self.record_format),
            no_trace_table: after.no_trace_table || self.no_trace_table,
            dry_run: after.dry_run || self.dry_run,
        }
    }

    /// As [`FilterArgs::given`].
    pub(super) fn given(&self) -> Option<&'static str> {
        let flags = [
            ("--rate", self.rate.is_some()),
            ("--record", self.record.is_some()),
            ("--record-limit", self.record_limit.is_some()),
            ("--record-format", self.record_format.is_some()),
            ("--no-trace-table", self.no_trace_table),
            ("--dry-run", self.dry_run),
        ];
        flags.into_iter().find(|(_, given)| *given).map(|(flag, _)| flag)
    }
}

impl ExportArgs {
    /// As [`FilterArgs::join`].
    fn join(self, after: Self) -> Self {
        Self { otlp: after.otlp.or(self.otlp) }
    }

    /// As [`FilterArgs::given`].
    fn given(&self) -> Option<&'static str> {
        self.otlp.is_some().then_some("--otlp")
    }
}

impl OutputArgs {
    /// As [`FilterArgs::join`].
    pub(super) fn join(self, after: Self) -> Self {
        Self { format: after.format.or(self.format), output: after.output.or(self.output) }
    }
}
