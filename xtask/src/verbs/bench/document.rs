//! docs/performance.md, written from what was measured and nothing else.

use serde_json::Value;

use super::{
    figures::{Figures, Flow, Row},
    goals,
    statistics::{Spread, median},
    table::Table,
};

/// Why goals are missed, and what was tried: what no run measures.
const REASONS: &str = "\
## What is missed, and why

- **Packets nobody asks about** cost more than with empty programs. Of some 3,300 instructions that a datagram takes more than
  with these, two thirds are the two chains of the trace table at PREROUTING, of which nf_tables makes much before the first
  rule of each, and a third what the programs do: half of it compares its headers with the filter, twice. Tried: hooks
  are watched at their return alone; nothing is looked up while no packet is followed; what a packet is asked for is read
  before where it is (21,840 instructions a datagram before these, 20,279 after); BTF tracepoints and fexit read
  `struct sk_buff` without a helper, and a header is read in one piece (19,272); a program that knows the filter answers for
  the table, whose rules take several times as long (18,285); a second one for the other chain (17,555, and a seventh run at
  the router). Next: one chain instead of two, where programs know replies by what NAT will make of them.
- **New connections**: conntrack makes a message of each for whoever listens, some 6,000 instructions, and asks our filter
  whether the socket gets it. Tried: that filter, which lets pass what may be of interest alone (43,764 instructions a datagram
  before, when nattrace was woken for each; 27,207 after). Next: not to listen for new ones, and to ask for the ids of those
  that are followed.
- **A million events a second from recording to JSON, three million to journeys**: a journey has many steps, each with names of
  its own, and a long line of JSON. Tried: journeys are never moved, indexes are plain numbers, paths are digests, a compact
  recording (reading is no longer what takes the time), zlib-rs; names that are in a step or shared, a serializer of our
  own (half as fast again than before); mimalloc (as much, but it kept half as much memory again); link-time optimization (3 %).
  What is left is flat: a fifth of it is memory taken and given back, most of that for the texts of events that are read. Next:
  events that hold short names and headers in themselves.
";

/// One run of the command.
#[derive(Debug)]
pub(super) struct Run {
    /// How it was called.
    pub(super) command: String,
    /// `2026-11-27`
    pub(super) date: String,
    /// The machine and its programs, a sentence each.
    pub(super) circumstances: Vec<String>,
    /// How often each configuration had its turn.
    pub(super) turns: u32,
    /// In a guest whose time is the host's; or why there is none.
    pub(super) timed: Result<Figures, String>,
    /// The same where a nanosecond is an instruction.
    pub(super) counted: Result<Figures, String>,
    /// Lines of `scenarios measure`.
    pub(super) user_space: Result<Vec<Value>, String>,
}

impl Run {
    /// The whole document.
    pub(super) fn document(&self) -> String {
        let sections = self.sections().map(|section| match section {
            Ok(table) => table.markdown(),
            Err(reason) => format!("Not measured in this run: {reason}.\n"),
        });
        let [forwarding, counted, user_space] = sections;
        let missing = match self.missing().as_slice() {
            [] => String::new(),
            missing => format!("\nWhat could not be had, and why:\n\n- {}\n", missing.join("\n- ")),
        };
        let circumstances: Vec<_> = self.circumstances.iter().map(|line| format!("- {line}\n")).collect();
        format!(
            "# Performance

Written by `{command}` on {date}: every number is of that run.
Ratios hold for this emulated machine; a real one forwards more, and its ratios may be others. Counts of program runs and of
events hold anywhere.

{circumstances}
## Packets through a router

A client, a router and a server, namespaces of one guest. The client sends UDP datagrams of 64 bytes as fast as their
way takes them: one thread, on a processor that is the traffic's alone, sends 32 and receives what has arrived. The rate is
what was received in a second. Bursts last 0.4 s at most; between attaching or detaching anything and the first burst
that counts, one is thrown away. Turns of each tool: {turns}, each after and before bursts without any tool; a ratio is to the
median of those, and the table has the median of all ratios, with the quartiles. The first row has the ratios of such bursts
to the next of their kind: {none}. *Known*: one connection, which the router's conntrack knows. *New*: each datagram
is of a connection of its own. The empty programs are at those points where the running nattrace has its own, as the kernel
tells of them: {points}.

Program runs are the kernel's count (`kernel.bpf_stats_enabled`) in a further burst, in all three namespaces. What should be
told is taken from ten datagrams that came slowly, times those of a burst at full speed. *Lost* is what the tool itself says.

{forwarding}{missing}
## Goals

{goals}
## Instructions

The same in a guest with one processor whose clock counts instructions (QEMU's `-icount shift=0`), so that nothing else on
the machine matters: what a datagram takes on its whole way, from the client's send to the server's receive. The processor is
the tool's, too: where it hears of each new connection, its own work with that is counted. Tools that have to do with every
packet, or never rest, are left out.

{counted}
## User space alone

From a recording, on one processor, without a kernel to trace: processor time of `scenarios measure`, of user and kernel.

{user_space}
{REASONS}",
            command = self.command,
            date = self.date,
            circumstances = circumstances.concat(),
            turns = self.turns,
            points = self.points(),
            none = self.without(),
            goals = self.goals().markdown(),
        )
    }

    /// What a terminal shows.
    pub(super) fn shown(&self) -> String {
        let sections = self.sections().map(|section| match section {
            Ok(table) => table.aligned(),
            Err(reason) => format!("not measured: {reason}\n"),
        });
        let missing: Vec<_> = self.missing().iter().map(|line| format!("missing: {line}\n")).collect();
        [missing.concat(), sections.join("\n"), self.goals().aligned()].join("\n")
    }

    /// Packets through a router, the same by instructions, user space.
    fn sections(&self) -> [Result<Table, &String>; 3] {
        [
            self.timed.as_ref().map(forwarding),
            self.counted.as_ref().map(instructions),
            self.user_space.as_ref().map(|lines| stages(lines)),
        ]
    }

    /// Tools that could not be had, and why.
    fn missing(&self) -> Vec<String> {
        let runs = [&self.timed, &self.counted].into_iter().flatten();
        let rows = runs.flat_map(|figures| &figures.rows);
        let mut missing: Vec<_> =
            rows.filter_map(|row| Some(format!("{}: {}", row.title, row.missing.as_ref()?))).collect();
        missing.dedup();
        missing
    }

    /// Where the floor's programs are.
    fn points(&self) -> &str {
        let mut runs = [&self.timed, &self.counted].into_iter().flatten();
        runs.find_map(|figures| figures.machine["points"].as_str()).unwrap_or("no points")
    }

    /// What the router forwards without any tool.
    fn without(&self) -> String {
        let row = self.timed.as_ref().ok().and_then(|figures| figures.rows.first());
        let rate = |flow: fn(&Row) -> &Flow| median(&flow(row?).rates);
        match (rate(|row| &row.known), rate(|row| &row.new)) {
            (Some(known), Some(new)) => {
                format!("{known:.0} datagrams a second, {new:.0} of new connections")
            }
            _ => "none".to_owned(),
        }
    }

    fn goals(&self) -> Table {
        goals::judged(self.timed.as_ref().ok(), self.counted.as_ref().ok())
    }
}

/// The comparison.
fn forwarding(figures: &Figures) -> Table {
    let mut table = Table::new([
        "tool",
        "rate, known",
        "rate, new",
        "packets lost",
        "program runs a packet",
        "ready, s",
        "idle, %",
        "MB",
        "to be told",
        "told",
        "lost",
    ]);
    for row in &figures.rows {
        if row.missing.is_some() {
            table.row(vec![row.title.clone(), "missing".to_owned()]);
            continue;
        }
        let cost = |key: &str| row.cost[key].as_f64();
        let number = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.1}"));
        let mut cells = vec![
            row.title.clone(),
            ratio(&row.known),
            ratio(&row.new),
            lost(row),
            number(cost("runs_per_packet")),
            median(&row.ready).map_or_else(String::new, |ready| format!("{ready:.2}")),
            cost("idle_percent").map_or_else(String::new, |idle| format!("{idle:.2}")),
            number(cost("rss_mb")),
        ];
        cells.extend(goals::told(&row.events));
        table.row(cells);
    }
    table
}

/// `0.93 (0.91–0.95)`; of the first row the rate itself, too.
fn ratio(flow: &Flow) -> String {
    let Some(spread) = Spread::of(&flow.ratios) else { return String::new() };
    format!("{:.2} ({:.2}–{:.2})", spread.median, spread.low, spread.high)
}

/// Datagrams that did not arrive, of those that were sent.
fn lost(row: &Row) -> String {
    match row.sent.saturating_sub(row.received) {
        0 => "0".to_owned(),
        lost => format!("{lost} of {}", row.sent),
    }
}

/// The comparison by instructions.
fn instructions(figures: &Figures) -> Table {
    let mut table = Table::new([
        "tool",
        "instructions, known",
        "quartiles",
        "more than without",
        "rate, known",
        "instructions, new",
        "rate, new",
    ]);
    let without = figures.rows.first();
    for row in &figures.rows {
        let Some(spread) = goals::instructions(&row.known) else {
            table.row(vec![row.title.clone(), "missing".to_owned()]);
            continue;
        };
        let new = goals::instructions(&row.new);
        let of_none = |flow: fn(&Row) -> &Flow| Some(goals::instructions(flow(without?))?.median);
        let number = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.0}"));
        let share = |part: Option<f64>| part.map_or_else(String::new, |part| format!("{part:.3}"));
        table.row(vec![
            row.title.clone(),
            format!("{:.0}", spread.median),
            format!("{:.0}–{:.0}", spread.low, spread.high),
            of_none(|row| &row.known)
                .map_or_else(String::new, |none| format!("{:+.0}", spread.median - none)),
            share(of_none(|row| &row.known).map(|none| none / spread.median)),
            number(new.map(|new| new.median)),
            share(of_none(|row| &row.new).zip(new).map(|(none, new)| none / new.median)),
        ]);
    }
    table
}

/// The stages of user space, by the lines of `scenarios measure`.
fn stages(lines: &[Value]) -> Table {
    let mut table = Table::new(["stage", "events", "events a second", "processor, s", "peak MB"]);
    for line in lines {
        let number = |key: &str, digits: usize, unit: f64| {
            line[key].as_f64().map_or_else(String::new, |value| format!("{:.digits$}", value / unit))
        };
        table.row(vec![
            format!("`{}`", line["stage"].as_str().unwrap_or("?")),
            number("events", 0, 1.0),
            number("events_per_second", 0, 1.0),
            number("processor_s", 2, 1.0),
            number("peak_bytes", 1, 1e6),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = r#"{"type":"machine","kernel":"6.12.1","processors":2,"points":"4 tracepoints"}
{"type":"configuration","id":"none","title":"no tool"}
{"type":"configuration","id":"nattrace-nothing","title":"nattrace, nothing matches"}
{"type":"configuration","id":"pwru-all","title":"pwru, all match"}
{"type":"missing","id":"pwru-all","reason":"no network"}
{"type":"burst","id":"none","flow":"known","sent":100,"received":100,"seconds":0.001}
{"type":"burst","id":"nattrace-nothing","flow":"known","sent":100,"received":90,"seconds":0.001}
{"type":"burst","id":"none","flow":"known","sent":100,"received":100,"seconds":0.001}"#;

    fn run() -> Run {
        let line = r#"{"stage":"assemble","events":10,"events_per_second":3000000,"processor_s":0.5,"peak_bytes":2500000}"#;
        Run {
            command: "cargo xtask bench".to_owned(),
            date: "2026-11-27".to_owned(),
            circumstances: vec!["A machine.".to_owned()],
            turns: 3,
            timed: Figures::read(LINES).map_err(|error| error.to_string()),
            counted: Figures::read(LINES).map_err(|error| error.to_string()),
            user_space: Ok(vec![serde_json::from_str(line).expect("JSON")]),
        }
    }

    #[test]
    fn the_document_has_what_was_measured() {
        let text = run().document();
        for part in [
            "by `cargo xtask bench` on 2026-11-27",
            "| nattrace, nothing matches | 0.90 (0.90–0.90) |  | 10 of 100 |",
            "| pwru, all match | missing |",
            "- pwru, all match: no network",
            // A thousandth of a second, by a hundred and by ninety datagrams, in nanoseconds.
            "| no tool | 10000 | 10000–10000 | +0 | 1.000 |  |  |",
            "| nattrace, nothing matches | 11111 | 11111–11111 | +1111 | 0.900 |  |  |",
            "| `assemble` | 10 | 3000000 | 0.50 | 2.5 |",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }

    #[test]
    fn what_was_not_measured_is_said_to_be_missing() {
        let reason = || Err("this kernel has none".to_owned());
        let run = Run { user_space: reason(), counted: Err("too slow".to_owned()), ..run() };
        assert!(run.document().contains("Not measured in this run: this kernel has none."));
        assert!(run.shown().contains("not measured: too slow"));
    }
}
