//! `--record`: the events as they come.

use std::io::BufWriter;

use anyhow::{Context as _, Result};
use nattrace_core::anonymize::Anonymizer;
use nattrace_core::event::Event;
use nattrace_core::record::{Format, Header, NftTool, ON, Writer, Written};

use super::anonymize;
use super::fresh::Fresh;
use super::voice::say;
use crate::cli::plan::{Recording, TracePlan};
use crate::render::{SourceState, Start};

/// An open recording.
#[derive(Debug)]
pub(super) struct Recorder {
    /// Until it begins.
    file: Option<Fresh>,
    out: Option<Writer<BufWriter<Fresh>>>,
    name: String,
    format: Format,
    limit: u64,
    anonymizer: Option<Anonymizer>,
}

impl Recorder {
    /// Opens the file, before anything is changed anywhere.
    pub(super) fn open(recording: &Recording) -> Result<Self> {
        let name = format!("--record {}", recording.path.display());
        let file = Fresh::open(&recording.path).with_context(|| name.clone())?;
        let anonymizer = if recording.anonymize { Some(anonymize::anonymizer()?) } else { None };
        let Recording { format, limit, .. } = *recording;
        Ok(Self { file: Some(file), out: None, name, format, limit, anonymizer })
    }

    /// Writes what the recording is of. `introduction` is what will be recorded first.
    pub(super) fn start(
        &mut self,
        start: &Start,
        plan: &TracePlan,
        nft: NftTool,
        introduction: &[Event],
    ) -> Result<()> {
        let Some(mut file) = self.file.take() else { return Ok(()) };
        let sources = start.sources.iter().map(|(source, state)| (*source, state_text(state))).collect();
        let mut header =
            Header::new(env!("CARGO_PKG_VERSION"), start.kernel.clone(), start.filter.clone(), sources);
        header.no_follow = !plan.follow;
        header.count = plan.count;
        header.nft = Some(nft);
        if let Some(anonymizer) = &mut self.anonymizer {
            for event in introduction {
                anonymizer.learn(event);
            }
            header = anonymizer.header(&header);
        }
        file.begin().with_context(|| self.name.clone())?;
        let out = Writer::begin(BufWriter::new(file), &header, self.format, Some(self.limit));
        self.out = Some(out.with_context(|| self.name.clone())?);
        Ok(())
    }

    /// Writes an event.
    pub(super) fn event(&mut self, event: &Event) -> Result<()> {
        let Some(out) = &mut self.out else { return Ok(()) };
        let replaced = self.anonymizer.as_mut().map(|anonymizer| anonymizer.event(event));
        let event = replaced.as_ref().unwrap_or(event);
        if out.event(event).with_context(|| self.name.clone())? == Written::Full {
            say(&format!(
                "{}: {} bytes, its --record-limit, are written; what comes now is traced, not recorded",
                self.name, self.limit
            ));
        }
        Ok(())
    }

    /// Hands on what is buffered: it is to survive this program.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.out.as_mut().map_or(Ok(()), Writer::flush).with_context(|| self.name.clone())
    }

    /// Ends it.
    pub(super) fn finish(self) -> Result<()> {
        self.out.map_or(Ok(()), Writer::finish).with_context(|| self.name)
    }
}

/// `on`, or why not: as JSON output has it.
pub(super) fn state_text(state: &SourceState) -> String {
    match state {
        SourceState::On => ON.to_owned(),
        SourceState::Off(why) => why.clone(),
    }
}

/// The other way round.
pub(super) fn state_of(text: &str) -> SourceState {
    if text == ON { SourceState::On } else { SourceState::Off(text.to_owned()) }
}
