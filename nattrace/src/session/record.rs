//! `--record`: the events as they come.

use std::fs::File;
use std::io::BufWriter;

use anyhow::{Context as _, Result};
use nattrace_core::event::{Event, Source};
use nattrace_core::record::{Header, NftTool, Writer, Written};

use super::voice::say;
use crate::cli::plan::Recording;
use crate::render::{SourceState, Start};

/// An open recording.
#[derive(Debug)]
pub(super) struct Recorder {
    /// Until it begins.
    file: Option<File>,
    out: Option<Writer<BufWriter<File>>>,
    name: String,
    limit: u64,
}

impl Recorder {
    /// Creates the file, before anything is changed anywhere.
    pub(super) fn create(recording: &Recording) -> Result<Self> {
        let name = format!("--record {}", recording.path.display());
        let file = File::create(&recording.path).with_context(|| name.clone())?;
        Ok(Self { file: Some(file), out: None, name, limit: recording.limit })
    }

    /// Writes what the recording is of.
    pub(super) fn start(&mut self, start: &Start, follow: bool, nft: NftTool) -> Result<()> {
        let Some(file) = self.file.take() else { return Ok(()) };
        let sources = start.sources.iter().map(|(source, state)| (*source, state_text(state))).collect();
        let mut header =
            Header::new(env!("CARGO_PKG_VERSION"), start.kernel.clone(), start.filter.clone(), sources);
        header.no_follow = !follow;
        header.nft = Some(nft);
        let out = Writer::begin(BufWriter::new(file), &header, Some(self.limit));
        self.out = Some(out.with_context(|| self.name.clone())?);
        Ok(())
    }

    /// Writes an event.
    pub(super) fn event(&mut self, event: &Event) -> Result<()> {
        let Some(out) = &mut self.out else { return Ok(()) };
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
        SourceState::On => "on".to_owned(),
        SourceState::Off(why) => why.clone(),
    }
}

/// The other way round.
pub(super) fn state_of(text: &str) -> SourceState {
    if text == "on" { SourceState::On } else { SourceState::Off(text.to_owned()) }
}

/// Which sources a recording has.
pub(super) fn is_on(header: &Header, source: Source) -> bool {
    header.sources.get(&source).is_some_and(|state| state == "on")
}
