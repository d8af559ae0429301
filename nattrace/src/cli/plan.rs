//! Ready-to-run values: nothing after this page looks at flags or at the environment.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum as _;
use nattrace_core::event::Source;
use nattrace_core::filter::Filter;

use super::args::{self, Args, Command, ExportArgs, FilterArgs, KernelArgs, LimitArgs, OutputArgs};
use super::mistake::Mistake;
use super::terminal::Terminal;
use super::{Stop, generated, impossible, otlp, values};

pub use super::args::Format;
pub use super::otlp::Otlp;

/// New packets a second that are selected when nothing else is said: enough to see, too few to hurt.
const DEFAULT_RATE: u32 = 10;
/// Bytes of a recording where nothing is said.
const DEFAULT_RECORD_LIMIT: u64 = 1 << 30;

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Trace the running kernel.
    Trace(Box<TracePlan>),
    /// Say what the kernel and the privileges allow.
    Check(CheckPlan),
    /// Tell a recording again.
    Replay(Box<ReplayPlan>),
    /// Show either on the whole screen.
    Tui(Box<TuiPlan>),
    /// Make a recording of other addresses and names.
    Anonymize(AnonymizePlan),
}

/// `nattrace`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracePlan {
    /// Which packets.
    pub filter: Filter,
    /// Where the trace starts.
    pub netns: NetnsChoice,
    /// Whether the connection of a selected packet is followed.
    pub follow: bool,
    /// Stop after so many finished journeys.
    pub count: Option<u64>,
    /// Stop after this time.
    pub duration: Option<Duration>,
    /// New packets a second that are selected at most; `None` for no limit.
    pub rate: Option<u32>,
    /// Which sources to use.
    pub sources: Sources,
    /// Whether a trace table may be installed.
    pub trace_table: bool,
    /// Say what would be done, and do nothing.
    pub dry_run: bool,
    /// Where to keep the events.
    pub record: Option<Recording>,
    /// Where journeys go beside the output.
    pub otlp: Option<Otlp>,
    /// Where the results go, and how.
    pub output: Output,
}

/// Where events are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recording {
    /// The file.
    pub path: PathBuf,
    /// Bytes that it has at most.
    pub limit: u64,
    /// Whether addresses and names are replaced.
    pub anonymize: bool,
}

/// `nattrace check`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckPlan {
    /// Where the results go, and how: as text or JSON.
    pub output: Output,
}

/// `nattrace replay`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayPlan {
    /// What to read.
    pub input: Input,
    /// Which packets.
    pub filter: Filter,
    /// Which namespaces' packets, by recorded name or inode number: [`NetnsChoice::All`] when nothing was said.
    pub netns: NetnsChoice,
    /// Whether the connection of a selected packet is followed.
    pub follow: bool,
    /// Stop after so many finished journeys.
    pub count: Option<u64>,
    /// Stop this long after the first event, by the recording's clock.
    pub duration: Option<Duration>,
    /// Events of which sources to use.
    pub sources: Sources,
    /// Where journeys go beside the output.
    pub otlp: Option<Otlp>,
    /// Whether addresses and names are replaced in what is told.
    pub anonymize: bool,
    /// Where the results go, and how.
    pub output: Output,
}

/// `nattrace tui`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TuiPlan {
    /// What is shown; its output is used where it names a file.
    pub watched: Watched,
    /// Whether to use colour.
    pub color: bool,
}

/// What a [`TuiPlan`] shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watched {
    /// The running kernel.
    Trace(TracePlan),
    /// A recording.
    Replay(ReplayPlan),
}

/// `nattrace anonymize`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnonymizePlan {
    /// What to read.
    pub input: Input,
    /// A file instead of standard output.
    pub output: Option<PathBuf>,
}

/// A recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// `-`
    Stdin,
    /// A file.
    File(PathBuf),
}

/// `--netns`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetnsChoice {
    /// The one this process is in.
    Current,
    /// Names, process ids or paths, as typed.
    Named(Vec<String>),
    /// Every one.
    All,
}

/// `--sources`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    /// The sources to use.
    pub set: BTreeSet<Source>,
    /// Whether the user named them. Then one that the kernel refuses is worth more than a note.
    pub named: bool,
}

/// Where the results go, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The form.
    pub format: Format,
    /// A file instead of standard output.
    pub path: Option<PathBuf>,
    /// Whether to use colour.
    pub color: bool,
    /// How wide text may be.
    pub width: Width,
}

/// How wide text may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// As wide as the terminal is at that moment.
    Terminal,
    /// So many columns: `COLUMNS` is exported.
    Columns(usize),
    /// Every step on one line, however long: what goes to a pipe or a file is searched and cut by line.
    Unbroken,
}

/// Turns flags into a plan.
pub(super) fn resolve(args: Args, terminal: &Terminal) -> Result<Plan, Stop> {
    let Args { filter, limit, kernel, export, disguise, output, color, command } = args;
    let resolved = |output: OutputArgs| resolve_output(output, color, terminal);
    match command {
        None => {
            let output = resolved(output)?;
            let plan = trace(&filter, &limit, kernel, &export, disguise.anonymize, output)?;
            Ok(Plan::Trace(Box::new(plan)))
        }
        Some(Command::Check(check)) => {
            let given = filter.given().or(limit.given()).or(kernel.given()).or(export.given());
            if let Some(flag) = given.or(disguise.given()) {
                return Err(Stop::Mistake(Mistake::new(
                    format!("{flag} with check"),
                    "check looks at the kernel, not at packets",
                    "write `nattrace check` alone",
                )));
            }
            let output = resolved(output.join(check.output))?;
            let cause = match output.format {
                Format::Text | Format::Json => None,
                Format::Nft => Some("nft has no grammar for it"),
                Format::Pcapng => Some("there are no packets in it"),
                Format::Html | Format::Svg | Format::Dot => Some("there are no packets to show"),
            };
            if let Some(cause) = cause {
                return Err(Stop::Mistake(Mistake::new(
                    format!("check --format {}", name_of(output.format)),
                    cause,
                    "give --format text or json",
                )));
            }
            Ok(Plan::Check(CheckPlan { output }))
        }
        Some(Command::Replay(replay)) => {
            only_while_traced(&kernel, "replay")?;
            let output = resolved(output.join(replay.output))?;
            let (filter, limit) = (filter.join(replay.filter), limit.join(replay.limit));
            let export = export.join(replay.export);
            let anonymize = disguise.anonymize || replay.disguise.anonymize;
            let plan = self::replay(replay.file, &filter, &limit, &export, anonymize, output)?;
            Ok(Plan::Replay(Box::new(plan)))
        }
        Some(Command::Tui(tui)) => {
            let output = output.join(tui.output);
            let shown = Shown {
                filter: filter.join(tui.filter),
                limit: limit.join(tui.limit),
                kernel: kernel.join(tui.kernel),
                export: export.join(tui.export),
                anonymize: disguise.anonymize || tui.disguise.anonymize,
            };
            Ok(self::tui(tui.file, shown, output, color, terminal)?)
        }
        Some(Command::Anonymize { file, output }) => {
            let given = filter.given().or(limit.given()).or(kernel.given()).or(export.given());
            if let Some(flag) = given {
                return Err(Stop::Mistake(Mistake::new(
                    format!("{flag} with anonymize"),
                    "all of a recording is made anew",
                    format!("leave out {flag}"),
                )));
            }
            Ok(anonymize(file, output, terminal)?)
        }
        Some(Command::Report(report)) => {
            only_while_traced(&kernel, "report")?;
            let made = OutputArgs { format: Some(Format::Html), output: None };
            let output = resolved(made.join(output).join(report.output))?;
            if !output.format.is_report() {
                let name = name_of(output.format);
                return Err(Stop::Mistake(Mistake::new(
                    format!("report --format {name}"),
                    "a report is a page (html) or its picture (svg, dot)",
                    format!("write `nattrace replay {} --format {name}`", report.file.display()),
                )));
            }
            let (filter, limit) = (filter.join(report.filter), limit.join(report.limit));
            let export = export.join(report.export);
            let anonymize = disguise.anonymize || report.disguise.anonymize;
            let plan = replay(report.file, &filter, &limit, &export, anonymize, output)?;
            Ok(Plan::Replay(Box::new(plan)))
        }
        Some(Command::Completions { shell }) => Err(Stop::Print(generated::completions(shell))),
        Some(Command::Man) => Err(Stop::Print(generated::manual())),
    }
}

/// As it is typed.
fn name_of(format: Format) -> String {
    format.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

fn trace(
    filter: &FilterArgs,
    limit: &LimitArgs,
    kernel: KernelArgs,
    export: &ExportArgs,
    anonymize: bool,
    output: Output,
) -> Result<TracePlan, Mistake> {
    if anonymize && kernel.record.is_none() {
        return Err(Mistake::new(
            "--anonymize",
            "nothing is recorded, and what is told while packets pass keeps its names",
            "give --record FILE, too",
        ));
    }
    let rate = match &kernel.rate {
        Some(typed) => values::one("--rate", typed, values::rate)?,
        None => Some(DEFAULT_RATE),
    };
    let record_limit = match &kernel.record_limit {
        Some(typed) if kernel.record.is_none() => {
            return Err(Mistake::new(
                format!("--record-limit {typed}"),
                "nothing is recorded",
                "give --record FILE, too",
            ));
        }
        Some(typed) => values::one("--record-limit", typed, values::size)?,
        None => DEFAULT_RECORD_LIMIT,
    };
    if let (Some(record), Some(path)) = (&kernel.record, &output.path)
        && same_file(record, path)
    {
        return Err(Mistake::new(
            format!("--record {} with -o {}", record.display(), path.display()),
            "the recording and the results would overwrite each other",
            "give two files",
        ));
    }
    Ok(TracePlan {
        filter: resolve_filter(filter)?,
        netns: resolve_netns(filter)?.unwrap_or(NetnsChoice::Current),
        follow: !filter.no_follow,
        count: count(limit)?,
        duration: duration(limit)?,
        rate,
        sources: resolve_sources(limit)?,
        trace_table: !kernel.no_trace_table,
        dry_run: kernel.dry_run,
        record: kernel.record.map(|path| Recording { path, limit: record_limit, anonymize }),
        otlp: resolve_export(export)?,
        output,
    })
}

/// The recording that is read; not the one that is written.
fn input(file: PathBuf, output: Option<&PathBuf>) -> Result<Input, Mistake> {
    if let Some(path) = output
        && same_file(&file, path)
    {
        return Err(Mistake::new(
            format!("-o {}", path.display()),
            "the results would overwrite the recording that is read",
            "give another file",
        ));
    }
    Ok(if file == Path::new("-") { Input::Stdin } else { Input::File(file) })
}

fn anonymize(file: PathBuf, output: Option<PathBuf>, terminal: &Terminal) -> Result<Plan, Mistake> {
    let output = written_file(output)?;
    if output.is_none() && terminal.stdout {
        return Err(Mistake::new(
            "anonymize",
            "a recording is no text, and standard output is a terminal",
            "give -o FILE",
        ));
    }
    Ok(Plan::Anonymize(AnonymizePlan { input: input(file, output.as_ref())?, output }))
}

fn replay(
    file: PathBuf,
    filter: &FilterArgs,
    limit: &LimitArgs,
    export: &ExportArgs,
    anonymize: bool,
    output: Output,
) -> Result<ReplayPlan, Mistake> {
    Ok(ReplayPlan {
        input: input(file, output.path.as_ref())?,
        anonymize,
        filter: resolve_filter(filter)?,
        netns: resolve_netns(filter)?.unwrap_or(NetnsChoice::All),
        follow: !filter.no_follow,
        count: count(limit)?,
        duration: duration(limit)?,
        sources: resolve_sources(limit)?,
        otlp: resolve_export(export)?,
        output,
    })
}

fn only_while_traced(kernel: &KernelArgs, what: &str) -> Result<(), Mistake> {
    match kernel.given() {
        None => Ok(()),
        Some(flag) => Err(Mistake::new(
            format!("{flag} with {what}"),
            "it has a meaning only while the kernel is traced",
            format!("leave out {flag}"),
        )),
    }
}

/// The flags of `nattrace tui` before and after that word, without those of its output.
struct Shown {
    filter: FilterArgs,
    limit: LimitArgs,
    kernel: KernelArgs,
    export: ExportArgs,
    anonymize: bool,
}

fn tui(
    file: Option<PathBuf>,
    shown: Shown,
    output: OutputArgs,
    color: args::Color,
    terminal: &Terminal,
) -> Result<Plan, Mistake> {
    let Shown { filter, limit, kernel, export, anonymize } = shown;
    let instead = match &file {
        Some(file) => format!("use `nattrace replay {}`, which writes lines", file.display()),
        None => "use nattrace without tui, which writes lines".to_owned(),
    };
    if !terminal.stdout {
        return Err(Mistake::new("tui", "standard output is not a terminal", instead));
    }
    if terminal.dumb {
        return Err(Mistake::new("tui with TERM=dumb", "such a terminal has no screen to draw on", instead));
    }
    if kernel.dry_run {
        return Err(Mistake::new("--dry-run with tui", "there is nothing to look at", "leave out tui"));
    }
    if let Some(flag) =
        output.format.filter(|_| output.output.as_deref().is_none_or(|to| to == Path::new("-")))
    {
        let format = flag.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
        return Err(Mistake::new(
            format!("--format {format} with tui"),
            "the screen has a form of its own",
            "give -o FILE, too, for what it is to be written to",
        ));
    }
    let color = terminal.color(color, false);
    let output = resolve_output(output, args::Color::Never, terminal)?;
    let watched = match file {
        None => Watched::Trace(trace(&filter, &limit, kernel, &export, anonymize, output)?),
        Some(file) => {
            only_while_traced(&kernel, "a recording")?;
            Watched::Replay(replay(file, &filter, &limit, &export, anonymize, output)?)
        }
    };
    Ok(Plan::Tui(Box::new(TuiPlan { watched, color })))
}

fn count(limit: &LimitArgs) -> Result<Option<u64>, Mistake> {
    limit.count.as_deref().map(|typed| values::one("--count", typed, values::count)).transpose()
}

fn duration(limit: &LimitArgs) -> Result<Option<Duration>, Mistake> {
    limit.duration.as_deref().map(|typed| values::one("--duration", typed, values::duration)).transpose()
}

fn resolve_filter(args: &FilterArgs) -> Result<Filter, Mistake> {
    let filter = Filter {
        protocols: values::list("--proto", &args.proto, values::proto)?,
        saddr: values::list("--saddr", &args.saddr, values::prefix)?,
        daddr: values::list("--daddr", &args.daddr, values::prefix)?,
        addr: values::list("--addr", &args.addr, values::prefix)?,
        sport: values::list("--sport", &args.sport, values::ports)?,
        dport: values::list("--dport", &args.dport, values::ports)?,
        port: values::list("--port", &args.port, values::ports)?,
        iif: values::list("--iif", &args.iif, values::device)?,
        oif: values::list("--oif", &args.oif, values::device)?,
        marks: values::list("--mark", &args.mark, values::mark)?,
        tcp_flags: values::tcp_flags("--tcp-flags", &args.tcp_flags)?,
    };
    impossible::refuse(&filter)?;
    Ok(filter)
}

fn resolve_netns(args: &FilterArgs) -> Result<Option<NetnsChoice>, Mistake> {
    let names = values::list("--netns", &args.netns, values::netns)?;
    let all = names.iter().any(|name| name == "all");
    if all && names.len() > 1 {
        return Err(Mistake::new(
            format!("--netns {}", names.join(",")),
            "all is every namespace already",
            "give all alone, or the names alone",
        ));
    }
    Ok(match names {
        names if names.is_empty() => None,
        _ if all => Some(NetnsChoice::All),
        names => Some(NetnsChoice::Named(names)),
    })
}

fn resolve_sources(limit: &LimitArgs) -> Result<Sources, Mistake> {
    let named = values::list("--sources", &limit.sources, values::source)?;
    Ok(if named.is_empty() {
        Sources { set: Source::ALL.into(), named: false }
    } else {
        Sources { set: named.into_iter().collect(), named: true }
    })
}

fn resolve_export(args: &ExportArgs) -> Result<Option<Otlp>, Mistake> {
    args.otlp.as_deref().map(|url| otlp::resolve(url, |name| std::env::var(name).ok())).transpose()
}

/// A file to be written; `-` is standard output, as everywhere.
fn written_file(typed: Option<PathBuf>) -> Result<Option<PathBuf>, Mistake> {
    let path = typed.filter(|path| path != Path::new("-"));
    if path.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
        return Err(Mistake::new(
            "-o ''",
            "a file has a name",
            "give one, or leave -o out for standard output",
        ));
    }
    Ok(path)
}

fn resolve_output(args: OutputArgs, color: args::Color, terminal: &Terminal) -> Result<Output, Mistake> {
    let path = written_file(args.output)?;
    let format = args.format.unwrap_or_default();
    let on_terminal = path.is_none() && terminal.stdout;
    if format == Format::Pcapng && on_terminal {
        return Err(Mistake::new(
            "--format pcapng",
            "it is no text, and standard output is a terminal",
            "give -o FILE, or pipe it, as in `nattrace --format pcapng | wireshark -k -i -`",
        ));
    }
    if format == Format::Html && on_terminal {
        return Err(Mistake::new(
            "--format html",
            "a page on a terminal is of no use",
            "write it to a file, as in -o report.html",
        ));
    }
    let width = match terminal.columns {
        Some(columns) => Width::Columns(columns),
        None if terminal.stdout && path.is_none() => Width::Terminal,
        None => Width::Unbroken,
    };
    Ok(Output { format, color: terminal.color(color, path.is_some()), path, width })
}

/// Whether two paths name one file, as far as can be told without opening it.
fn same_file(a: &Path, b: &Path) -> bool {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => absolute(a) == absolute(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Stop, parse};
    use nattrace_core::filter::{Masked, PortRange};

    fn plan(line: &str) -> Result<Plan, String> {
        let argv = std::iter::once("nattrace").chain(line.split_whitespace()).map(Into::into);
        parse(argv, &Terminal::default()).map_err(|stop| match stop {
            Stop::Mistake(mistake) => mistake.to_string(),
            Stop::Print(text) => text,
        })
    }

    fn trace(line: &str) -> TracePlan {
        match plan(line) {
            Ok(Plan::Trace(plan)) => *plan,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn without_a_flag_everything_has_its_default() {
        let plan = trace("");
        assert_eq!(plan.filter, Filter::default());
        assert_eq!(plan.netns, NetnsChoice::Current);
        assert!(plan.follow && plan.trace_table && !plan.dry_run);
        assert_eq!((plan.count, plan.duration, plan.rate), (None, None, Some(10)));
        assert_eq!(plan.sources, Sources { set: Source::ALL.into(), named: false });
        assert_eq!(plan.output.format, Format::Text);
        assert_eq!(plan.output.width, Width::Unbroken);
    }

    #[test]
    fn every_flag_reaches_the_plan() {
        let plan = trace(
            "--proto tcp,6 --saddr 10.0.0.0/8 --daddr 10.1.2.3 --addr 10.0.0.0/8 --sport 1024-65535 --dport 22 \
             --dport 8000-8100 --port 22 --iif enp0 --oif veth21 --mark 0x1/0xf --tcp-flags syn,!ack --netns rtr,web \
             --no-follow --count 3 --duration 1h30m --rate 0 --format json --record /tmp/r --anonymize --record-limit 10M -o /tmp/o \
             --sources nft,conntrack --no-trace-table --dry-run",
        );
        assert_eq!(plan.filter.protocols, [6]);
        assert_eq!(
            plan.filter.dport,
            [PortRange { first: 22, last: 22 }, PortRange { first: 8000, last: 8100 }]
        );
        assert_eq!(plan.filter.tcp_flags, Some(Masked { value: 2, mask: 0x12 }));
        assert_eq!(plan.netns, NetnsChoice::Named(vec!["rtr".into(), "web".into()]));
        assert!(!plan.follow && !plan.trace_table && plan.dry_run);
        assert_eq!((plan.count, plan.duration, plan.rate), (Some(3), Some(Duration::from_mins(90)), None));
        assert_eq!(plan.sources.set, [Source::Nft, Source::Conntrack].into());
        assert_eq!(plan.output.format, Format::Json);
        assert_eq!(plan.record, Some(Recording { path: "/tmp/r".into(), limit: 10 << 20, anonymize: true }));
        assert_eq!(plan.output.path, Some("/tmp/o".into()));
    }

    #[test]
    fn options_before_and_after_replay_belong_together() {
        let Ok(Plan::Replay(plan)) =
            plan("--dport 22 --format json --anonymize replay trace.rec --dport 80 --count 2")
        else {
            panic!("a replay");
        };
        assert_eq!(plan.filter.dport.len(), 2);
        assert_eq!(plan.output.format, Format::Json);
        assert_eq!(plan.count, Some(2));
        assert_eq!(plan.netns, NetnsChoice::All);
        assert_eq!(plan.input, Input::File("trace.rec".into()));
    }

    fn tui(line: &str, terminal: &Terminal) -> Result<TuiPlan, String> {
        let argv = std::iter::once("nattrace").chain(line.split_whitespace()).map(Into::into);
        match parse(argv, terminal) {
            Ok(Plan::Tui(plan)) => Ok(*plan),
            Err(Stop::Mistake(mistake)) => Err(mistake.to_string()),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn the_interface_takes_what_a_trace_and_a_replay_take() {
        let terminal = Terminal { stdout: true, ..Terminal::default() };
        let live = tui("--dport 22 tui --rate 0 --record x --netns web", &terminal).unwrap();
        assert!(live.color);
        let Watched::Trace(plan) = live.watched else { panic!("a trace") };
        assert_eq!((plan.filter.dport.len(), plan.rate), (1, None));
        assert_eq!(plan.netns, NetnsChoice::Named(vec!["web".into()]));
        assert!(plan.record.is_some());
        let recorded = tui("tui x.rec --saddr 10.0.0.1 --color never", &terminal).unwrap();
        assert!(!recorded.color);
        let Watched::Replay(plan) = recorded.watched else { panic!("a replay") };
        assert_eq!(plan.input, Input::File("x.rec".into()));
        assert_eq!(plan.filter.saddr.len(), 1);
        let written = tui("tui --format json -o x.json", &terminal).unwrap();
        let Watched::Trace(plan) = written.watched else { panic!("a trace") };
        assert_eq!((plan.output.format, plan.output.path), (Format::Json, Some("x.json".into())));
    }

    #[test]
    fn the_interface_needs_a_screen() {
        let terminal = Terminal { stdout: true, ..Terminal::default() };
        let dumb = Terminal { dumb: true, ..terminal.clone() };
        for (line, terminal, said) in [
            (
                "tui",
                &Terminal::default(),
                "tui: standard output is not a terminal; use nattrace without tui, which writes lines",
            ),
            (
                "tui x.rec",
                &Terminal::default(),
                "tui: standard output is not a terminal; use `nattrace replay x.rec`, which writes lines",
            ),
            (
                "tui",
                &dumb,
                "tui with TERM=dumb: such a terminal has no screen to draw on; use nattrace without tui, which \
                 writes lines",
            ),
            ("tui --dry-run", &terminal, "--dry-run with tui: there is nothing to look at; leave out tui"),
            (
                "tui --format json",
                &terminal,
                "--format json with tui: the screen has a form of its own; give -o FILE, too, for what it is to be \
                 written to",
            ),
            (
                "tui x.rec --rate 5",
                &terminal,
                "--rate with a recording: it has a meaning only while the kernel is traced; leave out --rate",
            ),
        ] {
            assert_eq!(tui(line, terminal).unwrap_err(), said);
        }
    }

    #[test]
    fn a_collector_is_beside_the_output() {
        let url = |otlp: Option<Otlp>| otlp.map(|otlp| otlp.url);
        let live = trace("--otlp http://collector --format json -o /tmp/o");
        assert_eq!(url(live.otlp).as_deref(), Some("http://collector:4318/v1/traces"));
        assert_eq!((live.output.format, live.output.path), (Format::Json, Some("/tmp/o".into())));
        for line in [
            "--otlp http://a:1 replay f",
            "replay f --otlp http://a:1",
            "--otlp http://b replay f --otlp http://a:1",
        ] {
            let Ok(Plan::Replay(plan)) = plan(line) else { panic!("a replay") };
            assert_eq!(url(plan.otlp).as_deref(), Some("http://a:1/v1/traces"), "{line}");
        }
        assert_eq!(trace("").otlp, None);
    }

    #[test]
    fn a_report_is_a_replay_that_makes_a_page() {
        for (line, format) in [
            ("--dport 22 report f --count 2", Format::Html),
            ("--dport 22 report f --count 2 --format svg", Format::Svg),
            ("--format dot --dport 22 replay f --count 2", Format::Dot),
        ] {
            let Ok(Plan::Replay(plan)) = plan(line) else { panic!("{line}") };
            assert_eq!((plan.output.format, plan.count, plan.filter.dport.len()), (format, Some(2), 1));
        }
        let terminal = Terminal { stdout: true, ..Terminal::default() };
        let typed = |line: &str| parse(line.split(' ').map(Into::into), &terminal);
        let Err(Stop::Mistake(mistake)) = typed("nattrace report f") else { panic!("a mistake") };
        assert_eq!(
            mistake.to_string(),
            "--format html: a page on a terminal is of no use; write it to a file, as in -o report.html"
        );
        assert!(typed("nattrace report f -o page.html").is_ok());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (line, said) in [
            ("--rate 5 replay f", "--rate with replay: it has a meaning only while the kernel is traced"),
            ("replay f --rate 5", "--rate: the option has no meaning for this command"),
            ("check --dport 1", "--dport: the option has no meaning for this command"),
            ("--dport 1 check", "--dport with check: check looks at the kernel"),
            ("--otlp http://h check", "--otlp with check: check looks at the kernel"),
            (
                "--otlp h:4318",
                "--otlp h:4318: a URL begins with http:// or https:// and names a host; give one",
            ),
            ("check --format nft", "check --format nft: nft has no grammar for it"),
            ("check --format pcapng", "check --format pcapng: there are no packets in it"),
            ("check --format svg", "check --format svg: there are no packets to show"),
            ("--rate 5 report f", "--rate with report: it has a meaning only while the kernel is traced"),
            ("report f --format json", "report --format json: a report is a page (html) or its picture"),
            ("report f -o ./f", "-o ./f: the results would overwrite the recording"),
            ("replay f -o ./f", "-o ./f: the results would overwrite the recording"),
            ("--record x -o x", "--record x with -o x: the recording and the results"),
            ("--anonymize", "--anonymize: nothing is recorded, and what is told"),
            ("--anonymize check", "--anonymize with check: check looks at the kernel"),
            ("anonymize f -o ./f", "-o ./f: the results would overwrite the recording"),
            ("--dport 1 anonymize f", "--dport with anonymize: all of a recording is made anew"),
            ("anonymize", "anonymize: the FILE is missing; name one, as in `nattrace anonymize trace.rec"),
            ("--record-limit 5M", "--record-limit 5M: nothing is recorded; give --record FILE, too"),
            ("--record x --record-limit 5Q", "--record-limit 5Q: not a size"),
            ("--record x --record-limit 9", "--record-limit 9: too small"),
            ("--netns all,web", "--netns all,web: all is every namespace already"),
        ] {
            let mistake = plan(line).unwrap_err();
            assert!(mistake.starts_with(said), "{line}: {mistake}");
        }
    }

    #[test]
    fn what_is_no_text_does_not_go_to_a_terminal() {
        let terminal = Terminal { stdout: true, ..Terminal::default() };
        let plan = |line: &str| parse(line.split_whitespace().map(Into::into), &terminal);
        let Err(Stop::Mistake(mistake)) = plan("nattrace anonymize f") else { panic!("it is refused") };
        assert!(mistake.to_string().starts_with("anonymize: a recording is no text, and standard output"));
        for line in ["nattrace --format pcapng", "nattrace replay f --format pcapng -o -"] {
            let Err(Stop::Mistake(mistake)) = plan(line) else { panic!("{line} is refused") };
            assert!(mistake.to_string().starts_with("--format pcapng: it is no text, and standard output"));
        }
        assert!(plan("nattrace --format pcapng -o f").is_ok());
        let pipe = Terminal::default();
        assert!(parse(["nattrace", "--format", "pcapng"].map(Into::into), &pipe).is_ok());
    }

    #[test]
    fn filters_that_no_packet_can_match_are_refused() {
        for line in [
            "--proto icmp --dport 1",
            "--proto gre,47 --port 1",
            "--tcp-flags syn --proto udp",
            "--saddr 10.0.0.1 --daddr ::1",
            "--saddr 10.0.0.1 --addr ::1",
            "--tcp-flags syn,!syn",
            "--mark 0x10/0xf",
            "--proto icmp --saddr ::1",
            "--proto icmpv6 --saddr 10.0.0.1",
            "--saddr 10.0.0.1 --daddr 10.0.0.2 --addr 10.0.0.3",
            "--sport 1 --dport 2 --port 3",
            "--proto udp --dport 1 --tcp-flags syn",
        ] {
            let mistake = plan(line).unwrap_err();
            assert!(mistake.contains("so no packet can match; "), "{line}: {mistake}");
            assert!(!mistake.contains('\n'));
        }
        for line in [
            "--proto icmp,tcp --dport 1",
            "--proto icmp,icmpv6",
            "--proto icmp,icmpv6 --saddr ::1",
            "--saddr 10.0.0.1,::1 --daddr ::1",
            "--saddr 10.0.0.1 --addr 10.0.0.2",
            "--saddr 10.0.0.1 --daddr 10.0.0.2 --addr 10.0.0.0/8",
            "--tcp-flags syn --dport 80",
            "--mark 0/0",
        ] {
            assert!(plan(line).is_ok(), "{line}: {:?}", plan(line));
        }
    }
}
