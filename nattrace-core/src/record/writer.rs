//! A recording, written event by event.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::{Header, RecordError};
use crate::event::{Body, Event};

/// More than packing adds to a line that cannot be packed, and what the file ends with.
const MARGIN: u64 = 512;

/// Whether an event was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It was.
    Yes,
    /// The limit is reached: neither it nor what comes after it is. This is said once.
    Full,
    /// The limit was reached before.
    No,
}

/// Writes a recording.
#[derive(Debug)]
pub struct Writer<W: Write> {
    out: GzEncoder<Counted<W>>,
    line: Vec<u8>,
    limit: Option<u64>,
    full: bool,
}

impl<W: Write> Writer<W> {
    /// Begins a recording, of at most so many bytes.
    pub fn begin(out: W, header: &Header, limit: Option<u64>) -> Result<Self, RecordError> {
        let out = GzEncoder::new(Counted { out, written: 0 }, Compression::fast());
        let mut new = Self { out, line: Vec::new(), limit, full: false };
        serde_json::to_writer(&mut new.line, header).map_err(RecordError::Unwritable)?;
        new.put()?;
        Ok(new)
    }

    /// Writes an event.
    pub fn event(&mut self, event: &Event) -> Result<Written, RecordError> {
        if self.full {
            return Ok(Written::No);
        }
        self.line.clear();
        serde_json::to_writer(&mut self.line, event).map_err(RecordError::Unwritable)?;
        let most = self.written() + self.line.len() as u64 + MARGIN;
        if self.limit.is_none_or(|limit| most <= limit) {
            self.put()?;
            return Ok(Written::Yes);
        }
        self.full = true;
        self.line.clear();
        let end = Event { body: Body::Full, cpu: u32::MAX, netns: 0, time_ns: event.time_ns };
        serde_json::to_writer(&mut self.line, &end).map_err(RecordError::Unwritable)?;
        self.put()?;
        Ok(Written::Full)
    }

    /// Bytes so far.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.out.get_ref().written
    }

    /// Hands on what the target keeps back.
    pub fn flush(&mut self) -> Result<(), RecordError> {
        Ok(self.out.get_mut().out.flush()?)
    }

    /// Ends the recording.
    pub fn finish(self) -> Result<(), RecordError> {
        Ok(self.out.finish()?.out.flush()?)
    }

    /// Writes the line so that it can be unpacked without what comes after it.
    fn put(&mut self) -> Result<(), RecordError> {
        self.line.push(b'\n');
        self.out.write_all(&self.line)?;
        self.out.flush()?;
        Ok(())
    }
}

/// Counts what is written. Packing ends each line with a flush, which is not to reach the file every time.
#[derive(Debug)]
struct Counted<W> {
    out: W,
    written: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
