//! What people and programs read: a line a scenario, JSON Lines, and the counts at the end.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// How a scenario ended.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Everything held.
    Passed,
    /// What did not hold.
    Failed(Vec<String>),
    /// Why it was not run.
    Skipped(String),
}

/// At most so many lines of one scenario's problems are printed; the file has all.
const SHOWN: usize = 12;

/// At most so many characters of one problem.
const WIDTH: usize = 1500;

/// Prints and counts.
#[derive(Debug)]
pub(super) struct Report {
    jsonl: Option<File>,
    passed: usize,
    failed: usize,
    skipped: usize,
    /// By scenario, until it is reported.
    measures: BTreeMap<String, BTreeMap<String, Value>>,
}

impl Report {
    /// Opens the JSON Lines file, if one is wanted.
    pub(super) fn open(jsonl: Option<&Path>) -> Result<Self> {
        let jsonl = jsonl
            .map(|path| File::create(path).with_context(|| format!("{} cannot be written", path.display())))
            .transpose()?;
        Ok(Self { jsonl, passed: 0, failed: 0, skipped: 0, measures: BTreeMap::new() })
    }

    /// Numbers that docs may quote.
    pub(super) fn measure(
        &mut self,
        scenario: &str,
        name: &str,
        values: &BTreeMap<String, Value>,
    ) -> Result<()> {
        let shown: Vec<String> = values.iter().map(|(key, value)| format!("{key}={value}")).collect();
        print(&format!("measure {name} {}", shown.join(" ")))?;
        self.measures.entry(scenario.to_owned()).or_default().insert(name.to_owned(), json!(values));
        Ok(())
    }

    /// One scenario has ended; `dir` has its outputs.
    pub(super) fn scenario(
        &mut self,
        name: &str,
        verdict: &Verdict,
        took: Duration,
        dir: &Path,
    ) -> Result<()> {
        let seconds = (took.as_secs_f64() * 10.0).round() / 10.0;
        let (word, reasons) = match verdict {
            Verdict::Passed => {
                self.passed += 1;
                print(&format!("ok {name} {seconds:.1}s"))?;
                ("ok", Vec::new())
            }
            Verdict::Skipped(reason) => {
                self.skipped += 1;
                print(&format!("skipped {name} {reason}"))?;
                ("skipped", vec![reason.clone()])
            }
            Verdict::Failed(problems) => {
                self.failed += 1;
                let first = problems.first().map_or("", |problem| problem.lines().next().unwrap_or_default());
                print(&format!("FAILED {name} {}", cut(first)))?;
                for problem in problems.iter().take(SHOWN) {
                    print(&format!("    - {}", cut(problem).replace('\n', "\n      ")))?;
                }
                if problems.len() > SHOWN {
                    print(&format!("    and {} more", problems.len() - SHOWN))?;
                }
                print(&format!("    all outputs: {}", dir.display()))?;
                ("failed", problems.clone())
            }
        };
        let measures = self.measures.remove(name).unwrap_or_default();
        if let Some(file) = &mut self.jsonl {
            let line = json!({
                "scenario": name, "result": word, "seconds": seconds, "reasons": reasons, "measures": measures,
            });
            writeln!(file, "{line}").context("the results cannot be written")?;
        }
        Ok(())
    }

    /// Prints the counts; whether nothing failed.
    pub(super) fn close(&self) -> Result<bool> {
        print(&format!("{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped))?;
        Ok(self.failed == 0)
    }
}

/// What holds for a whole run.
pub(super) fn note(text: &str) -> Result<()> {
    print(&format!("note: {text}"))
}

fn cut(text: &str) -> String {
    if text.chars().count() <= WIDTH {
        return text.to_owned();
    }
    text.chars().take(WIDTH).chain(['…']).collect()
}

/// One line, at once: whoever watches wants to see it now.
fn print(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("standard output is gone")
}
