//! A recording, written event by event.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::{Format, Header, WriteError, compact};
use crate::event::{Body, Event};

/// More than packing adds to what cannot be packed, and what the file ends with.
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
    form: Form<W>,
    limit: Option<u64>,
    full: bool,
    full_is_said: bool,
}

#[derive(Debug)]
enum Form<W: Write> {
    Json { out: Box<GzEncoder<Counted<W>>>, line: Vec<u8> },
    Compact { out: Counted<W>, block: Vec<Event> },
}

impl<W: Write> Writer<W> {
    /// Begins a recording in one of the formats, of at most so many bytes.
    pub fn begin(out: W, header: &Header, format: Format, limit: Option<u64>) -> Result<Self, WriteError> {
        let mut out = Counted { out, written: 0 };
        let header = Header { version: format.version(), ..header.clone() };
        let mut line = serde_json::to_vec(&header).map_err(WriteError::Unwritable)?;
        line.push(b'\n');
        let form = match format {
            Format::Json => {
                let mut out = Box::new(GzEncoder::new(out, Compression::fast()));
                put_line(&mut out, &line)?;
                Form::Json { out, line }
            }
            Format::Compact => {
                out.write_all(&line)?;
                Form::Compact { out, block: Vec::new() }
            }
        };
        Ok(Self { form, limit, full: false, full_is_said: false })
    }

    /// Writes an event.
    pub fn event(&mut self, event: &Event) -> Result<Written, WriteError> {
        if !self.full {
            self.put(event)?;
        }
        Ok(match (self.full, std::mem::replace(&mut self.full_is_said, self.full)) {
            (false, _) => Written::Yes,
            (true, false) => Written::Full,
            (true, true) => Written::No,
        })
    }

    fn put(&mut self, event: &Event) -> Result<(), WriteError> {
        let written = self.written();
        match &mut self.form {
            Form::Json { out, line } => {
                encode(line, event)?;
                let most = written + line.len() as u64 + MARGIN;
                self.full = self.limit.is_some_and(|limit| most > limit);
                if self.full {
                    encode(line, &end(event))?;
                }
                put_line(out, line)?;
            }
            Form::Compact { block, .. } => {
                block.push(event.clone());
                if block.len() >= compact::BLOCK {
                    self.end_block()?;
                }
            }
        }
        Ok(())
    }

    /// Writes the block that has begun.
    fn end_block(&mut self) -> Result<(), WriteError> {
        let Form::Compact { out, block } = &mut self.form else { return Ok(()) };
        let Some(last) = block.last() else { return Ok(()) };
        let end = end(last);
        let mut packed = compact::pack(block);
        block.clear();
        let most = out.written + packed.len() as u64 + MARGIN;
        self.full = self.limit.is_some_and(|limit| most > limit);
        if self.full {
            packed = compact::pack(&vec![end]);
        }
        Ok(out.write_all(&packed)?)
    }

    /// Bytes so far.
    #[must_use]
    pub fn written(&self) -> u64 {
        match &self.form {
            Form::Json { out, .. } => out.get_ref().written,
            Form::Compact { out, .. } => out.written,
        }
    }

    /// Hands on what is kept back.
    pub fn flush(&mut self) -> Result<(), WriteError> {
        self.end_block()?;
        match &mut self.form {
            Form::Json { out, .. } => out.get_mut().out.flush()?,
            Form::Compact { out, .. } => out.out.flush()?,
        }
        Ok(())
    }

    /// Ends the recording.
    pub fn finish(mut self) -> Result<(), WriteError> {
        self.end_block()?;
        match self.form {
            Form::Json { out, .. } => out.finish()?.out.flush()?,
            Form::Compact { mut out, .. } => out.out.flush()?,
        }
        Ok(())
    }
}

/// What a recording that came to its limit before this event ends with.
fn end(event: &Event) -> Event {
    Event { body: Body::Full, cpu: u32::MAX, netns: 0, time_ns: event.time_ns }
}

fn encode(line: &mut Vec<u8>, event: &Event) -> Result<(), WriteError> {
    line.clear();
    serde_json::to_writer(&mut *line, event).map_err(WriteError::Unwritable)?;
    line.push(b'\n');
    Ok(())
}

/// Writes a line so that it can be unpacked without what comes after it.
fn put_line<W: Write>(out: &mut GzEncoder<Counted<W>>, line: &[u8]) -> io::Result<()> {
    out.write_all(line)?;
    out.flush()
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
