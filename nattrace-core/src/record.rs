//! The recording, in one of two formats ([`Format`]). The first is JSON Lines: a header and then one event a line, exactly as the sources gave them, packed by gzip (RFC 1952)
//! so that each event can be unpacked as soon as it is written: a file that is cut off loses what is not whole. A recording
//! is a bug report that can be replayed, so it is read by whatever program the reader has: what is not
//! understood is an error with a line number, never a guess.

mod compact;
pub mod hex;
mod reader;
mod writer;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use reader::{Decoded, Reader};
pub use writer::{Writer, Written};

use crate::event::{Event, Source};
use crate::filter::Filter;

/// The version of recordings in JSON.
pub const VERSION: u32 = 1;
/// The version of compact ones.
pub const COMPACT_VERSION: u32 = 2;

/// How events are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// JSON Lines, packed by gzip: any program can read it, and future versions of this one can.
    #[default]
    Json,
    /// Blocks of binary events behind a header in JSON: smaller, and much faster to write and to read, by this version of
    /// the format alone.
    Compact,
}

impl Format {
    /// The version that the header tells.
    #[must_use]
    pub fn version(self) -> u32 {
        match self {
            Self::Json => VERSION,
            Self::Compact => COMPACT_VERSION,
        }
    }
}

/// What the first line says it is.
const MAGIC: &str = "recording";

/// What a recording is of: its first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// `recording`: tells the file from other JSON Lines.
    nattrace: String,
    /// [`VERSION`] or [`COMPACT_VERSION`].
    pub version: u32,
    /// Version of the program that recorded.
    pub program: String,
    /// `uname -r` of the kernel that was recorded.
    pub kernel: Option<String>,
    /// What was asked for.
    #[serde(default)]
    pub filter: Filter,
    /// `on` for each source, or why it was not.
    #[serde(default)]
    pub sources: BTreeMap<Source, String>,
    /// Only the selected packets were followed, not their connections.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_follow: bool,
    /// The run ended after so many journeys, had there been as many: there it stops, whatever else was under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// The nft of that machine, where its words are to be found again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nft: Option<NftTool>,
}

/// What decides in which words nft prints a trace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NftTool {
    /// What `nft --version` says; `None` where there is none.
    pub version: Option<String>,
    /// `/etc/protocols`: the name of each protocol number, where it has one.
    pub protocols: BTreeMap<u8, String>,
}

impl Header {
    /// The header of a recording that begins now.
    #[must_use]
    pub fn new(
        program: impl Into<String>,
        kernel: Option<String>,
        filter: Filter,
        sources: BTreeMap<Source, String>,
    ) -> Self {
        Self {
            nattrace: MAGIC.to_owned(),
            version: VERSION,
            program: program.into(),
            kernel,
            filter,
            sources,
            no_follow: false,
            count: None,
            nft: None,
        }
    }

    /// Whether a source was on.
    #[must_use]
    pub fn is_on(&self, source: Source) -> bool {
        self.sources.get(&source).is_some_and(|state| state == ON)
    }
}

/// What a header says of a source that was on; of another, why it was not.
pub const ON: &str = "on";

/// Why something is not a recording, or cannot be read as one.
#[derive(Debug, Error)]
pub enum RecordError {
    /// The first line is not a recording's.
    #[error("not a recording of nattrace")]
    NotARecording,
    /// Another version wrote it.
    #[error("the recording has version {found}, this program reads versions {VERSION} and {COMPACT_VERSION}")]
    Version {
        /// The version it has.
        found: u64,
    },
    /// A line that is no event.
    #[error("line {line} of the recording is damaged: {error}")]
    Damaged {
        /// Line number, from 1.
        line: u64,
        /// What is wrong with it.
        error: serde_json::Error,
    },
    /// A block that has no events in it.
    #[error("block {block} of the recording is damaged")]
    DamagedBlock {
        /// Its number, from 1.
        block: u64,
    },
    /// A line that no recording can have.
    #[error("line {line} of the recording is longer than any event")]
    TooLong {
        /// Line number, from 1.
        line: u64,
    },
    /// Reading failed.
    #[error("cannot read the recording")]
    Read(#[from] std::io::Error),
}

/// Why something cannot be recorded.
#[derive(Debug, Error)]
pub enum WriteError {
    /// Something that JSON cannot express.
    #[error("cannot be recorded: {0}")]
    Unwritable(serde_json::Error),
    /// Writing failed.
    #[error("cannot write the recording")]
    Write(#[from] std::io::Error),
}

/// Reads a recording's first line.
pub fn decode_header(line: &[u8]) -> Result<Header, RecordError> {
    #[derive(Deserialize)]
    struct Claim {
        nattrace: String,
        version: u64,
    }
    let claim: Claim = serde_json::from_slice(line).map_err(|_| RecordError::NotARecording)?;
    if claim.nattrace != MAGIC {
        return Err(RecordError::NotARecording);
    }
    if ![VERSION, COMPACT_VERSION].map(u64::from).contains(&claim.version) {
        return Err(RecordError::Version { found: claim.version });
    }
    serde_json::from_slice(line).map_err(|error| RecordError::Damaged { line: 1, error })
}

/// Reads an event's line.
pub fn decode(line: &[u8]) -> Result<Event, serde_json::Error> {
    serde_json::from_slice(line)
}

#[cfg(test)]
mod tests;
