//! Blocks of events, for recordings that are read often or are large: a tenth of the time of JSON. A block is its length in
//! bytes (four, little-endian) and LZ4 data, whose unpacked length comes first; in it are events as bitcode has them. What
//! bitcode makes of a type changes when the type does: another version of this format then.

use std::io::{self, Read};

use super::RecordError;
use crate::event::Event;

/// Events in a block at most: what a file that is cut off can lose, where the recorder did not hand on its block before.
pub(super) const BLOCK: usize = 1024;
/// No block is longer, packed or not: the longest event is a ruleset's listing.
const MAX_BLOCK: usize = 256 << 20;

/// A block.
pub(super) fn pack(events: &Vec<Event>) -> Vec<u8> {
    let packed = lz4_flex::block::compress_prepend_size(&bitcode::encode(events));
    let mut block = Vec::with_capacity(4 + packed.len());
    // One that is too long for its length cannot be read again: it is damaged, and said to be.
    block.extend_from_slice(&u32::try_from(packed.len()).unwrap_or(u32::MAX).to_le_bytes());
    block.extend_from_slice(&packed);
    block
}

/// What follows in a recording.
#[derive(Debug)]
pub(super) enum Block {
    Events(Vec<Event>),
    CutOff,
    End,
}

/// What blocks are read into, one after the other.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    packed: Vec<u8>,
    unpacked: Vec<u8>,
}

/// Reads a block. `number` is said in errors.
pub(super) fn unpack(
    input: &mut impl Read,
    buffers: &mut Buffers,
    number: u64,
) -> Result<Block, RecordError> {
    let damaged = || RecordError::DamagedBlock { block: number };
    let mut length = [0; 4];
    match read_up_to(input, &mut length)? {
        0 => return Ok(Block::End),
        4 => {}
        _ => return Ok(Block::CutOff),
    }
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if length > MAX_BLOCK {
        return Err(damaged());
    }
    let Buffers { packed, unpacked } = buffers;
    packed.clear();
    input.by_ref().take(length as u64).read_to_end(packed)?;
    if packed.len() < length {
        return Ok(Block::CutOff);
    }
    let (size, data) = lz4_flex::block::uncompressed_size(packed).map_err(|_| damaged())?;
    if size > MAX_BLOCK {
        return Err(damaged());
    }
    unpacked.resize(size, 0);
    let size = lz4_flex::block::decompress_into(data, unpacked).map_err(|_| damaged())?;
    unpacked.truncate(size);
    bitcode::decode(unpacked).map(Block::Events).map_err(|_| damaged())
}

/// As many bytes as there are, or as there is room for.
fn read_up_to(input: &mut impl Read, bytes: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    while let Some(room) = bytes.get_mut(read..).filter(|room| !room.is_empty()) {
        match input.read(room) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}
