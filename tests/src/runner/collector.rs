//! A collector, and what it must have got.

use std::time::Duration;

use anyhow::{Context, Result};

use super::stage::Stage;
use crate::lab::process::Process;
use crate::oracle::stored;
use crate::scenario::Stored;

/// Where the collector passes everything on to.
const STORE: &str = "127.0.0.1:4319";
/// How long it may take until all has passed through it.
const ARRIVES_WITHIN: Duration = Duration::from_secs(10);

impl Stage {
    /// Starts the store and the collector, and waits until both can be used.
    pub(super) fn start_collector(&mut self, name: &str, at: &str) -> Result<()> {
        self.serve(name, at, &["otlp-store".to_owned(), STORE.to_owned()])?;
        let program = self.settings.collector.as_ref().context("no collector")?;
        let program = program.to_str().context("the collector's path is no text")?;
        let mut command = self.lab.command(Some(at), program)?;
        command.arg("start").arg("--pid-file").arg(self.lab.dir.join("rotel.pid"));
        command.arg("--log-file").arg(self.lab.dir.join("rotel.log"));
        for (flag, value) in [
            ("--otlp-http-endpoint", "0.0.0.0:4318"),
            ("--otlp-grpc-endpoint", "127.0.0.1:4317"),
            ("--exporter", "otlp"),
            ("--otlp-exporter-protocol", "http"),
        ] {
            command.args([flag, value]);
        }
        command.arg("--otlp-exporter-endpoint").arg(format!("http://{STORE}"));
        let file = self.unique("rotel");
        let mut process = Process::spawn(command, &self.lab.dir, &file)?;
        let listening = self.lab.limits.until(Duration::from_secs(10), || {
            if let Some(ended) = process.poll()? {
                anyhow::bail!("the collector ended ({ended})");
            }
            let sockets = self.lab.output(Some(at), "ss", &["-Hltn", "sport", "=", ":4318"])?;
            Ok((!sockets.is_empty()).then_some(()))
        })?;
        listening.context("the collector did not begin to listen")?;
        self.background.push(process);
        Ok(())
    }

    /// Notes what the store lacks, or has too much.
    pub(super) fn stored(&mut self, expected: &Stored) -> Result<()> {
        let mut told = Vec::new();
        for (name, host) in &expected.told {
            let trace = self.traces.get(name).with_context(|| format!("no trace is called {name}"))?;
            trace.exit()?;
            told.extend(trace.output.journeys.iter().map(|journey| (host.clone(), journey.clone())));
        }
        let mut traces = expected.traces.clone();
        for pattern in traces.iter_mut().flat_map(|together| &mut together.journeys) {
            *pattern = self.filled_value(pattern)?;
        }
        let limits = self.lab.limits.clone();
        let all = limits.until(ARRIVES_WITHIN, || {
            let events = self.server_events(&expected.collector)?;
            Ok((stored::journeys(&events).len() >= told.len()).then_some(events))
        })?;
        let events = match all {
            Some(events) => events,
            None => self.server_events(&expected.collector)?,
        };
        for problem in stored::complaints(&events, &told, &traces) {
            self.problem(format!("{}: {problem}", expected.collector));
        }
        Ok(())
    }
}
