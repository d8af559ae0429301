//! A recording, read event by event.

use std::io::{self, BufRead, BufReader, Read as _};

use flate2::bufread::MultiGzDecoder;

use super::compact::{self, Block, Buffers};
use super::{COMPACT_VERSION, Header, RecordError, decode, decode_header};
use crate::event::Event;

/// No line is longer: the longest is a ruleset's listing.
const MAX_LINE: u64 = 256 << 20;
/// A header is short: what has no line end early on is something else, and is not read through.
const MAX_HEADER: u64 = 1 << 20;
/// How a gzip file begins (RFC 1952, 2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// What comes next in a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// An event.
    Event(Box<Event>),
    /// The last line is not whole: the recorder was killed, or its disk was full.
    CutOff,
    /// That was all.
    End,
}

/// Reads a recording from whatever gives its bytes.
pub struct Reader<'a> {
    input: Box<dyn BufRead + 'a>,
    header: Header,
    /// Number of the line or the block.
    line: u64,
    buffer: Vec<u8>,
    buffers: Buffers,
    /// What is left of a block, or the event of a line.
    block: std::vec::IntoIter<Event>,
    /// The first of these was lent, and is over.
    lent: bool,
    over: bool,
    /// The end was not whole.
    torn: bool,
}

impl<'a> Reader<'a> {
    /// Reads the header. The recording may be packed by gzip, as it is written, or not.
    pub fn open(mut input: impl BufRead + 'a) -> Result<Self, RecordError> {
        let mut buffer = Vec::new();
        let packed = input.fill_buf()?.starts_with(&GZIP);
        let mut input: Box<dyn BufRead + 'a> =
            if packed { Box::new(BufReader::new(MultiGzDecoder::new(input))) } else { Box::new(input) };
        if read_line(&mut input, &mut buffer, MAX_HEADER)? != Line::Whole {
            return Err(RecordError::NotARecording);
        }
        let header = decode_header(&buffer)?;
        Ok(Self {
            input,
            header,
            line: 1,
            buffer,
            buffers: Buffers::default(),
            block: Vec::new().into_iter(),
            lent: false,
            over: false,
            torn: false,
        })
    }

    /// What the recording is of.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Reads the next event; empty lines are passed over.
    #[expect(clippy::should_implement_trait, reason = "an iterator could not tell a cut-off end from an end")]
    pub fn next(&mut self) -> Result<Decoded, RecordError> {
        self.advance()?;
        Ok(match self.block.next() {
            Some(event) => Decoded::Event(Box::new(event)),
            None if self.torn => Decoded::CutOff,
            None => Decoded::End,
        })
    }

    /// Whether what was read last was not whole: the recorder was killed, or its disk was full.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        self.torn
    }

    /// As [`Reader::next`], for who needs the event for no longer than until the next one: none is moved about. `None` at
    /// the end, or where it [is cut off](Self::is_cut_off).
    pub fn next_event(&mut self) -> Result<Option<&Event>, RecordError> {
        self.advance()?;
        self.lent = true;
        Ok(self.block.as_slice().first())
    }

    /// Sees to it that the next event is there, if there is one more.
    fn advance(&mut self) -> Result<(), RecordError> {
        if std::mem::take(&mut self.lent) {
            self.block.next();
        }
        if self.block.as_slice().is_empty() { self.fill() } else { Ok(()) }
    }

    /// Reads a block, or a line; none is there at the end.
    fn fill(&mut self) -> Result<(), RecordError> {
        if self.header.version == COMPACT_VERSION {
            return self.fill_by_block();
        }
        while !self.over {
            self.buffer.clear();
            self.line += 1;
            let line = read_line(&mut self.input, &mut self.buffer, MAX_LINE)?;
            if line != Line::Whole && self.buffer.len() as u64 >= MAX_LINE {
                self.over = true;
                return Err(RecordError::TooLong { line: self.line });
            }
            self.over = line != Line::Whole;
            self.torn = line == Line::Torn;
            if self.buffer.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            match decode(&self.buffer) {
                Ok(event) => {
                    self.block = vec![event].into_iter();
                    break;
                }
                Err(_) if self.over => self.torn = true,
                Err(error) => return Err(RecordError::Damaged { line: self.line, error }),
            }
        }
        Ok(())
    }

    fn fill_by_block(&mut self) -> Result<(), RecordError> {
        while self.block.as_slice().is_empty() {
            match compact::unpack(&mut self.input, &mut self.buffers, self.line)? {
                Block::Events(events) => self.block = events.into_iter(),
                Block::CutOff => {
                    self.torn = true;
                    break;
                }
                Block::End => break,
            }
            self.line += 1;
        }
        Ok(())
    }
}

/// How a line ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Whole,
    /// With the file, or with as many bytes as were to be read.
    Unended,
    /// With a packed file that is not whole.
    Torn,
}

/// Reads up to a line's end or `limit` bytes.
fn read_line(input: &mut impl BufRead, buffer: &mut Vec<u8>, limit: u64) -> io::Result<Line> {
    match input.by_ref().take(limit).read_until(b'\n', buffer) {
        Ok(_) if buffer.last() == Some(&b'\n') => Ok(Line::Whole),
        Ok(_) => Ok(Line::Unended),
        // What it gave before counts, also where a disk that lost its power has zeros behind it.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput
            ) =>
        {
            Ok(Line::Torn)
        }
        Err(error) => Err(error),
    }
}
