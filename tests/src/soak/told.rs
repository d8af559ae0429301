//! What nattrace tells, judged as it comes.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::ops::Range;
use std::process::ChildStdout;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::Shared;
use super::rules::{self, History};
use crate::lab::Lab;

/// Nothing new for so long: everything has been told.
const QUIET: Duration = Duration::from_millis(1500);

/// So many times as many rules may be told without their text as with it.
const LISTED: u64 = 8;

/// A line, with the members that are looked at.
#[derive(Debug, Deserialize)]
struct Line {
    r#type: String,
    #[serde(default)]
    packet: Packet,
    #[serde(default)]
    steps: Vec<Step>,
    source: Option<String>,
    count: Option<u64>,
    journeys: Option<serde_json::Value>,
    /// Of the summary; those of the start are texts.
    sources: Option<serde_json::Value>,
    held_back: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
struct Packet {
    sport: Option<u16>,
    dport: Option<u16>,
    protocol: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Step {
    kind: String,
    time_ns: Option<u64>,
    table: Option<serde_json::Value>,
    chain: Option<String>,
    text: Option<String>,
}

/// What there was in all.
#[derive(Debug, Default)]
pub(super) struct Checked {
    /// Lines of journeys.
    pub(super) journeys: u64,
    /// Rules of the router that were told with their text,
    pub(super) texts: u64,
    /// and without.
    pub(super) textless: u64,
    /// Lines that tell of losses, and events that they count.
    pub(super) loss_lines: u64,
    pub(super) lost: u64,
    /// Losses that nobody could count.
    uncounted: u64,
    summary: Option<Line>,
}

impl Checked {
    /// Packets that were left out, lest events of others be lost.
    pub(super) fn held_back(&self) -> u64 {
        self.summary.as_ref().and_then(|summary| summary.held_back).unwrap_or(0)
    }
}

impl Checked {
    /// What must hold of all together.
    pub(super) fn judge(&self, shared: &Shared) {
        let Some(summary) = &self.summary else {
            shared.problem("there is no summary".to_owned());
            return;
        };
        let total = summary.journeys.as_ref().and_then(|journeys| journeys["total"].as_u64());
        if total != Some(self.journeys) {
            shared.problem(format!("{} journeys were told, and the summary has {total:?}", self.journeys));
        }
        let sources = summary.sources.iter().filter_map(|sources| sources.as_object()).flatten();
        let lost: u64 = sources.filter_map(|(_, totals)| totals["lost"].as_u64()).sum();
        // What nobody could count counts as one, or as none.
        if !(self.lost..=self.lost + self.uncounted).contains(&lost) {
            shared.problem(format!("losses of {} events were told, and the summary has {lost}", self.lost));
        }
        // Packets are held back before records are lost.
        if self.loss_lines == 0 && self.held_back() == 0 {
            shared.problem("the ring was never full: nothing is known of what happens then".to_owned());
        }
        // An emulated machine takes longer to list a ruleset than that lasts: of two in three it is then not known.
        if self.texts == 0 || self.textless > self.texts * LISTED {
            shared.problem(format!("{} rules have a text, {} have none", self.texts, self.textless));
        }
    }
}

/// The state that the reader and those who wait for it share.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    losses: u64,
    /// Source port to how many journeys.
    expected: BTreeMap<u16, u32>,
}

impl Told {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads to the end.
    pub(super) fn read(&self, output: ChildStdout, history: &History, shared: &Shared) -> Result<Checked> {
        let mut checked = Checked::default();
        for text in BufReader::with_capacity(1 << 20, output).lines() {
            let text = text.context("its output cannot be read")?;
            let line: Line = match serde_json::from_str(&text) {
                Ok(line) => line,
                Err(error) => {
                    shared.problem(format!("a line is no JSON ({error}): {text}"));
                    continue;
                }
            };
            match line.r#type.as_str() {
                "journey" => {
                    checked.journeys += 1;
                    self.journey(&line, &mut checked, history, shared);
                }
                "loss" => {
                    checked.loss_lines += 1;
                    checked.lost += line.count.unwrap_or_default();
                    checked.uncounted += u64::from(line.count.is_none());
                    self.state().losses += 1;
                    if line.source.is_none() {
                        shared.problem(format!("a loss has no source: {text}"));
                    }
                }
                "summary" => checked.summary = Some(line),
                _ => {}
            }
        }
        Ok(checked)
    }

    fn journey(&self, line: &Line, checked: &mut Checked, history: &History, shared: &Shared) {
        let mut state = self.state();
        state.last = Some(Instant::now());
        if let Some(port) = line.packet.sport
            && let Some(times) = state.expected.get_mut(&port)
        {
            *times += 1;
        }
        drop(state);
        let Some(dport) = line.packet.dport.filter(|_| line.packet.protocol.as_deref() == Some("udp")) else {
            return;
        };
        for step in &line.steps {
            let is_rule = step.kind == "rule" && step.chain.as_deref() == Some("forward");
            if !is_rule || step.table.as_ref().and_then(|table| table.as_str()) != Some("soak") {
                continue;
            }
            let Some(text) = &step.text else {
                checked.textless += 1;
                continue;
            };
            // The policy is a step, too, and has a text of its own.
            let Some((generation, port)) = rules::named(text) else { continue };
            checked.texts += 1;
            let time_ns = step.time_ns.unwrap_or_default();
            if port != dport || !history.may_hold(generation, time_ns) {
                shared.problem(format!(
                    "a packet to port {dport} at {time_ns} is told to have met `{text}`, which {}",
                    if port == dport { "was not in force" } else { "is not for it" }
                ));
            }
        }
    }

    /// How many losses were told so far.
    pub(super) fn losses(&self) -> u64 {
        self.state().losses
    }

    /// Counts journeys of packets from these ports from now on.
    pub(super) fn expect(&self, ports: Range<u16>) {
        self.state().expected = ports.map(|port| (port, 0)).collect();
    }

    /// Whether each has one.
    pub(super) fn has_all_expected(&self) -> bool {
        self.state().expected.values().all(|times| *times > 0)
    }

    /// Ports whose packets have none, or more than one.
    pub(super) fn not_once(&self) -> BTreeMap<u16, u32> {
        let state = self.state();
        state.expected.iter().filter(|(_, times)| **times != 1).map(|(port, times)| (*port, *times)).collect()
    }

    /// Waits until nothing new is told.
    pub(super) fn is_quiet_within(&self, lab: &Lab, within: Duration) -> Result<bool> {
        let quiet = lab.limits.until(within, || {
            let since = self.state().last.map(|last| last.elapsed());
            Ok((since.is_none_or(|since| since > QUIET)).then_some(()))
        })?;
        Ok(quiet.is_some())
    }
}
