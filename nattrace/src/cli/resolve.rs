//! Flags to plans: what belongs together, what excludes each other, and what holds where nothing is said.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum as _;
use nattrace_core::event::Source;
use nattrace_core::filter::Filter;

use super::args::{self, Args, Command, ExportArgs, FilterArgs, KernelArgs, LimitArgs, OutputArgs, RunArgs};
use super::mistake::Mistake;
use super::plan::{
    AnonymizePlan, CheckPlan, Format, Input, NetnsChoice, Otlp, Output, Plan, RecordFormat, Recording,
    ReplayPlan, Sources, TracePlan, TuiPlan, Watched, Width,
};
use super::terminal::Terminal;
use super::{Stop, generated, impossible, otlp, values};

#[cfg(test)]
mod tests;

/// New packets a second that are selected when nothing else is said: enough to see, too few to hurt.
const DEFAULT_RATE: u32 = 10;
/// Memory where nothing is said: bytes.
const DEFAULT_MEMORY: u64 = 128 << 20;
/// Bytes of a recording where nothing is said.
const DEFAULT_RECORD_LIMIT: u64 = 1 << 30;

/// Turns flags into a plan.
pub(super) fn resolve(args: Args, terminal: &Terminal) -> Result<Plan, Stop> {
    let Args { run, color, command } = args;
    let resolved = |output: &OutputArgs| resolve_output(output, color, terminal);
    match command {
        None => {
            let output = resolved(&run.output)?;
            Ok(Plan::Trace(Box::new(trace(run, output)?)))
        }
        Some(Command::Check(check)) => {
            if let Some(flag) = run.given() {
                return Err(Stop::Mistake(Mistake::new(
                    format!("{flag} with check"),
                    "check looks at the kernel, not at packets",
                    "write `nattrace check` alone",
                )));
            }
            let output = resolved(&run.output.join(check.output))?;
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
            only_while_traced(&run.kernel, "replay")?;
            let (file, run) = (replay.file.clone(), run.join((*replay).into()));
            let output = resolved(&run.output)?;
            Ok(Plan::Replay(Box::new(self::replay(file, &run, output)?)))
        }
        Some(Command::Report(report)) => {
            only_while_traced(&run.kernel, "report")?;
            let made = OutputArgs { format: Some(Format::Html), output: None };
            let made = RunArgs { output: made, ..RunArgs::default() };
            let (file, run) = (report.file.clone(), made.join(run).join((*report).into()));
            let output = resolved(&run.output)?;
            if !output.format.is_report() {
                let name = name_of(output.format);
                return Err(Stop::Mistake(Mistake::new(
                    format!("report --format {name}"),
                    "a report is a page (html) or its picture (svg, dot)",
                    format!("write `nattrace replay {} --format {name}`", file.display()),
                )));
            }
            Ok(Plan::Replay(Box::new(replay(file, &run, output)?)))
        }
        Some(Command::Tui(tui)) => Ok(self::tui(tui.file, run.join(tui.run), color, terminal)?),
        Some(Command::Anonymize { file, output }) => {
            let format = run.output.format.map(|_| "--format");
            if let Some(flag) = run.given().filter(|flag| *flag != "--anonymize").or(format) {
                return Err(Stop::Mistake(Mistake::new(
                    format!("{flag} with anonymize"),
                    "all of a recording is made anew",
                    format!("leave out {flag}"),
                )));
            }
            Ok(anonymize(file, output.or(run.output.output), terminal)?)
        }
        Some(Command::Completions { shell }) => Err(Stop::Print(generated::completions(shell))),
        Some(Command::Man) => Err(Stop::Print(generated::manual())),
    }
}

/// As it is typed.
fn name_of(format: Format) -> String {
    format.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

fn trace(run: RunArgs, output: Output) -> Result<TracePlan, Mistake> {
    let RunArgs { filter, limit, kernel, export, disguise, output: _ } = run;
    let anonymize = disguise.anonymize;
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
    let format = match &kernel.record_format {
        Some(typed) if kernel.record.is_none() => {
            return Err(Mistake::new(
                format!("--record-format {typed}"),
                "nothing is recorded",
                "give --record FILE, too",
            ));
        }
        Some(typed) => values::one("--record-format", typed, values::record_format)?,
        None => RecordFormat::default(),
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
        filter: resolve_filter(&filter)?,
        netns: resolve_netns(&filter)?.unwrap_or(NetnsChoice::Current),
        follow: !filter.no_follow,
        count: count(&limit)?,
        duration: duration(&limit)?,
        memory: memory(&limit)?,
        rate,
        sources: resolve_sources(&limit)?,
        trace_table: !kernel.no_trace_table,
        dry_run: kernel.dry_run,
        record: kernel.record.map(|path| Recording { path, format, limit: record_limit, anonymize }),
        otlp: resolve_export(&export)?,
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

fn replay(file: PathBuf, run: &RunArgs, output: Output) -> Result<ReplayPlan, Mistake> {
    Ok(ReplayPlan {
        input: input(file, output.path.as_ref())?,
        anonymize: run.disguise.anonymize,
        filter: resolve_filter(&run.filter)?,
        netns: resolve_netns(&run.filter)?.unwrap_or(NetnsChoice::All),
        follow: !run.filter.no_follow,
        count: count(&run.limit)?,
        duration: duration(&run.limit)?,
        memory: memory(&run.limit)?,
        sources: resolve_sources(&run.limit)?,
        otlp: resolve_export(&run.export)?,
        output,
    })
}

fn memory(limit: &LimitArgs) -> Result<u64, Mistake> {
    limit.memory.as_ref().map_or(Ok(DEFAULT_MEMORY), |typed| values::one("--memory", typed, values::memory))
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

fn tui(
    file: Option<PathBuf>,
    run: RunArgs,
    color: args::Color,
    terminal: &Terminal,
) -> Result<Plan, Mistake> {
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
    if run.kernel.dry_run {
        return Err(Mistake::new("--dry-run with tui", "there is nothing to look at", "leave out tui"));
    }
    let to_screen = run.output.output.as_deref().is_none_or(|to| to == Path::new("-"));
    if let Some(format) = run.output.format.filter(|_| to_screen) {
        return Err(Mistake::new(
            format!("--format {} with tui", name_of(format)),
            "the screen has a form of its own",
            "give -o FILE, too, for what it is to be written to",
        ));
    }
    let color = terminal.color(color, false);
    let output = resolve_output(&run.output, args::Color::Never, terminal)?;
    let watched = match file {
        None => Watched::Trace(trace(run, output)?),
        Some(file) => {
            only_while_traced(&run.kernel, "a recording")?;
            Watched::Replay(replay(file, &run, output)?)
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

fn resolve_output(args: &OutputArgs, color: args::Color, terminal: &Terminal) -> Result<Output, Mistake> {
    let path = written_file(args.output.clone())?;
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
