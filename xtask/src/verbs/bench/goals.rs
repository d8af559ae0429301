//! What nattrace wants to be, and whether it is.

use serde_json::Value;

use super::{
    figures::{Figures, Flow, Row},
    statistics::{Spread, median},
    table::Table,
};

/// The configurations that are judged.
const JUDGED: &str = "nattrace-nothing";
const FLOOR: &str = "floor";

/// Program runs at the router for a packet that nobody asked about.
const RUNS: f64 = 6.0;
/// Forwarding rate as a share of that with empty programs.
const SHARE: f64 = 0.95;
/// Seconds from start to readiness.
const READY: f64 = 1.5;
/// Percent of a processor while nothing happens.
const IDLE: f64 = 0.3;
/// Megabytes resident.
const MEMORY: f64 = 40.0;

/// All goals. `counted` is the run whose clock counts instructions.
pub(super) fn judged(timed: Option<&Figures>, counted: Option<&Figures>) -> Table {
    let mut table = Table::new(["goal, while nothing matches", "bound", "measured", ""]);
    let cost = |key: &str| timed?.find(JUDGED)?.cost[key].as_f64();
    let of = |figures: Option<&Figures>, of: fn(&Row) -> Option<f64>| {
        let figures = figures?;
        Some(of(figures.find(JUDGED)?)? / of(figures.find(FLOOR)?)?)
    };
    let ready = timed.and_then(|figures| median(&figures.find(JUDGED)?.ready));
    let mut judge = |goal: &str, bound: String, value: Option<f64>, met: &dyn Fn(f64) -> bool| {
        let (measured, verdict) = match value {
            Some(value) => (format!("{value:.2}"), if met(value) { "met" } else { "missed" }),
            None => ("nothing".to_owned(), "not judged"),
        };
        table.row(vec![goal.to_owned(), bound, measured, verdict.to_owned()]);
    };
    let runs = cost("router_runs_per_packet");
    judge("program runs at the router for a packet", format!("≤ {RUNS}"), runs, &|runs| runs <= RUNS);
    let rate = of(timed, |row| median(&row.known.ratios));
    judge("forwarding rate by that with empty programs", format!("≥ {SHARE}"), rate, &|rate| rate >= SHARE);
    let rate = of(counted, |row| median(&row.known.rates));
    judge("the same where time is instructions", format!("≥ {SHARE}"), rate, &|rate| rate >= SHARE);
    judge("seconds from start to readiness", format!("< {READY}"), ready, &|ready| ready < READY);
    judge("percent of a processor", format!("≤ {IDLE}"), cost("idle_percent"), &|idle| idle <= IDLE);
    judge("megabytes resident", format!("≤ {MEMORY}"), cost("rss_mb"), &|memory| memory <= MEMORY);
    table
}

/// Instructions of a datagram's whole way, where a nanosecond is one.
pub(super) fn instructions(flow: &Flow) -> Option<Spread> {
    Spread::of(&flow.rates.iter().map(|rate| 1e9 / rate).collect::<Vec<_>>())
}

/// What the events of a row came to: `expected`, `shown`, and what the tool said is lost.
pub(super) fn told(events: &Value) -> [String; 3] {
    let number = |key: &str| events[key].as_f64().map(|number| format!("{number:.0}"));
    let unit = events["unit"].as_str().unwrap_or_default();
    match number("expected") {
        None => Default::default(),
        Some(expected) if expected == "0" && number("shown").as_deref() == Some("0") => {
            ["–", "–", "–"].map(str::to_owned)
        }
        Some(expected) => [
            format!("{expected} {unit}"),
            number("shown").unwrap_or_default(),
            number("lost_told").unwrap_or_else(|| "it does not say".to_owned()),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(lines: &[&str]) -> Figures {
        let rows = [JUDGED, FLOOR, "none"]
            .map(|id| format!(r#"{{"type":"configuration","id":"{id}","title":"{id}"}}"#));
        Figures::read(&[&rows.join("\n"), &lines.join("\n")].map(|text| text.trim()).join("\n"))
            .expect("lines")
    }

    #[test]
    fn a_goal_is_met_or_missed_by_its_bound() {
        let timed = figures(&[
            r#"{"type":"cost","id":"nattrace-nothing","router_runs_per_packet":6.0,"idle_percent":0.31,"rss_mb":12.0}"#,
            r#"{"type":"ready","id":"nattrace-nothing","seconds":1.5}"#,
        ]);
        let counted = figures(&[
            r#"{"type":"burst","id":"nattrace-nothing","flow":"known","sent":95,"received":95,"seconds":1}"#,
            r#"{"type":"burst","id":"floor","flow":"known","sent":100,"received":100,"seconds":1}"#,
        ]);
        let text = judged(Some(&timed), Some(&counted)).markdown();
        let verdicts: Vec<_> =
            text.lines().skip(2).filter_map(|line| line.rsplit('|').nth(1)).map(str::trim).collect();
        assert_eq!(verdicts, ["met", "not judged", "met", "missed", "missed", "met"], "{text}");
    }

    #[test]
    fn what_a_tool_does_not_say_is_not_made_up() {
        let event = |text| told(&serde_json::from_str(text).expect("JSON"));
        let said = event(r#"{"unit":"lines","expected":30,"shown":12,"lost_told":null}"#);
        assert_eq!(said, ["30 lines", "12", "it does not say"].map(str::to_owned));
        let said = event(r#"{"unit":"journeys","expected":30,"shown":12,"lost_told":18}"#);
        assert_eq!(said[2], "18");
        assert_eq!(told(&Value::Null), ["", "", ""].map(str::to_owned));
    }
}
