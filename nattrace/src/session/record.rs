//! `--record`: the events, one a line, as they come.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use nattrace_core::event::{Event, Source};
use nattrace_core::record::{Header, NftTool, encode, encode_header};

use crate::render::{SourceState, Start};

/// An open recording.
#[derive(Debug)]
pub(super) struct Recorder {
    out: BufWriter<File>,
    name: String,
}

impl Recorder {
    /// Creates the file, before anything is changed anywhere.
    pub(super) fn create(path: &Path) -> Result<Self> {
        let name = format!("--record {}", path.display());
        let file = File::create(path).with_context(|| name.clone())?;
        Ok(Self { out: BufWriter::new(file), name })
    }

    /// Writes what the recording is of.
    pub(super) fn start(&mut self, start: &Start, nft: NftTool) -> Result<()> {
        let sources = start.sources.iter().map(|(source, state)| (*source, state_text(state))).collect();
        let mut header =
            Header::new(env!("CARGO_PKG_VERSION"), start.kernel.clone(), start.filter.clone(), sources);
        header.nft = Some(nft);
        self.line(&encode_header(&header).context("the recording's header")?)
    }

    /// Writes an event.
    pub(super) fn event(&mut self, event: &Event) -> Result<()> {
        self.line(&encode(event).context("an event for the recording")?)
    }

    /// Writes out what is buffered.
    pub(super) fn finish(mut self) -> Result<()> {
        self.out.flush().with_context(|| self.name.clone())
    }

    fn line(&mut self, line: &str) -> Result<()> {
        self.out
            .write_all(line.as_bytes())
            .and_then(|()| self.out.write_all(b"\n"))
            .with_context(|| self.name.clone())
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
