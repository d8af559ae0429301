//! `--memory`: how it is divided, and that it did not suffice.

use nattrace_core::journey::assemble::Assembler;

use super::voice::say;

/// What the program takes without packets, and for connections, names and what else is bounded by number: bytes.
const REST: u64 = 28 << 20;

/// What packets under way may take of so many bytes: the rest is the program's own, and what the allocator keeps in pieces. With
/// a million packets in flight the whole program took 88 MB of 128 (docs/performance.md).
pub(super) fn of_journeys(memory: u64) -> usize {
    let left = memory.saturating_sub(REST).max(memory / 16);
    usize::try_from(left / 10 * 6).unwrap_or(usize::MAX)
}

/// Says once that journeys were given up.
#[derive(Debug, Default)]
pub(super) struct GivenUp {
    said: bool,
}

impl GivenUp {
    pub(super) fn look(&mut self, assembler: &Assembler, memory: u64) {
        if !self.said && assembler.given_up() > 0 {
            self.said = true;
            say(&format!(
                "the packets under way need more than --memory {}M: the oldest are given up, and told as unfinished",
                memory >> 20
            ));
        }
    }
}
