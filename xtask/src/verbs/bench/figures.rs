//! From the lines that `scenarios bench` prints to the figures of each configuration.

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::statistics::median;

/// How the lines call a machine without any tool.
const NONE: &str = "none";

/// One run in one guest.
#[derive(Debug, Default)]
pub(super) struct Figures {
    /// The line `machine`.
    pub(super) machine: Value,
    /// In the order of the lines; the first is without any tool.
    pub(super) rows: Vec<Row>,
}

/// What was found of one configuration.
#[derive(Debug, Default)]
pub(super) struct Row {
    pub(super) id: String,
    pub(super) title: String,
    /// Why it could not be had.
    pub(super) missing: Option<String>,
    pub(super) known: Flow,
    pub(super) new: Flow,
    pub(super) sent: u64,
    pub(super) received: u64,
    /// Seconds from each start to the tool's word that it is ready.
    pub(super) ready: Vec<f64>,
    /// The line `cost`, or null.
    pub(super) cost: Value,
    /// The line `events`, or null.
    pub(super) events: Value,
}

/// The bursts of one kind of traffic.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// Datagrams received in a second, of each burst.
    pub(super) rates: Vec<f64>,
    /// The same as a ratio to the bursts without a tool before and after.
    pub(super) ratios: Vec<f64>,
}

/// Bursts that follow each other without anything attached or detached between.
#[derive(Debug, Default)]
struct Turn {
    id: String,
    known: Vec<f64>,
    new: Vec<f64>,
}

impl Figures {
    /// Reads JSON Lines.
    pub(super) fn read(lines: &str) -> Result<Self> {
        let mut figures = Self::default();
        let mut turns: Vec<Turn> = Vec::new();
        for line in lines.lines() {
            let line: Value = serde_json::from_str(line).with_context(|| format!("no JSON: {line}"))?;
            let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
            let id = text("id");
            match line["type"].as_str() {
                Some("machine") => figures.machine = line,
                Some("configuration") => {
                    figures.rows.push(Row { id, title: text("title"), ..Row::default() });
                }
                Some("missing") => figures.row(&id)?.missing = Some(text("reason")),
                Some("cost") => figures.row(&id)?.cost = line,
                Some("events") => figures.row(&id)?.events = line,
                Some("ready") => figures.row(&id)?.ready.extend(line["seconds"].as_f64()),
                Some("burst") => {
                    let row = figures.row(&id)?;
                    row.sent += line["sent"].as_u64().unwrap_or_default();
                    row.received += line["received"].as_u64().unwrap_or_default();
                    if turns.last().is_none_or(|turn| turn.id != id) {
                        turns.push(Turn { id, ..Turn::default() });
                    }
                    if let (Some(turn), Some(rate)) = (turns.last_mut(), rate(&line)) {
                        if line["flow"] == "new" { &mut turn.new } else { &mut turn.known }.push(rate);
                    }
                }
                _ => {}
            }
        }
        for (at, turn) in turns.iter().enumerate() {
            let others: Vec<_> = neighbours(&turns, at).collect();
            let row = figures.row(&turn.id)?;
            row.known.add(&turn.known, &others, |turn| &turn.known);
            row.new.add(&turn.new, &others, |turn| &turn.new);
        }
        Ok(figures)
    }

    /// The row with this id.
    pub(super) fn find(&self, id: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.id == id)
    }

    fn row(&mut self, id: &str) -> Result<&mut Row> {
        self.rows
            .iter_mut()
            .find(|row| row.id == id)
            .with_context(|| format!("there is no configuration {id}"))
    }
}

impl Flow {
    fn add(&mut self, rates: &[f64], others: &[&Turn], of: fn(&Turn) -> &Vec<f64>) {
        self.rates.extend(rates);
        let beside: Vec<_> = others.iter().flat_map(|turn| of(turn)).copied().collect();
        if let Some(beside) = median(&beside) {
            self.ratios.extend(rates.iter().map(|rate| rate / beside));
        }
    }
}

/// The turns without a tool next before and next after.
fn neighbours(turns: &[Turn], at: usize) -> impl Iterator<Item = &Turn> {
    let without = |turn: &&Turn| turn.id == NONE;
    let before = turns[..at].iter().rev().find(without);
    before.into_iter().chain(turns[at + 1..].iter().find(without))
}

/// Datagrams received in a second.
fn rate(burst: &Value) -> Option<f64> {
    let (received, seconds) = (burst["received"].as_f64()?, burst["seconds"].as_f64()?);
    (received > 0.0 && seconds > 0.0).then(|| received / seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_to_what_was_before_and_after() {
        let burst = |id: &str, flow: &str, received: u32| {
            format!(
                r#"{{"type":"burst","id":"{id}","flow":"{flow}","sent":100,"received":{received},"seconds":0.01}}"#
            )
        };
        let lines = [
            r#"{"type":"configuration","id":"none","title":"no tool"}"#.to_owned(),
            r#"{"type":"configuration","id":"x","title":"X"}"#.to_owned(),
            r#"{"type":"ready","id":"x","seconds":1.5}"#.to_owned(),
            burst("none", "known", 100),
            burst("x", "known", 45),
            burst("x", "known", 90),
            burst("x", "new", 50),
            burst("none", "known", 80),
        ];
        let figures = Figures::read(&lines.join("\n")).expect("lines");
        let row = figures.find("x").expect("its row");
        assert_eq!(row.known.rates, [4500.0, 9000.0]);
        assert_eq!(row.known.ratios, [0.5, 1.0]);
        assert_eq!((row.new.rates.as_slice(), row.new.ratios.len()), ([5000.0].as_slice(), 0));
        assert_eq!((row.sent, row.received, row.ready.as_slice()), (300, 185, [1.5].as_slice()));
        assert_eq!(figures.find("none").expect("its row").known.ratios, [100.0 / 80.0, 80.0 / 100.0]);
    }

    #[test]
    fn a_line_of_a_stranger_is_an_error() {
        assert!(Figures::read(r#"{"type":"ready","id":"x","seconds":1}"#).is_err());
        assert!(Figures::read("nonsense").is_err());
    }
}
