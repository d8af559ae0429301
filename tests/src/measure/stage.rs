//! The stages that are measured inside of this program, each in a process of its own.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use nattrace_core::event::Event;
use nattrace_core::journey::assemble::{Assembler, Options};
use nattrace_core::record::{Decoded, Reader, Writer};

use super::cost::{Cost, processor_time};
use super::shape_of;
use super::traffic::{Shape, Traffic};

/// Recording of [`Shape::Mixed`].
pub(super) const MIXED: &str = "mixed.rec";
/// Recording of [`Shape::InFlight`].
pub(super) const IN_FLIGHT: &str = "in-flight.rec";
/// Events that are made at once, before they are worked on.
const CHUNK: u64 = 4096;

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Stage {
    /// Writes the recording that is read by others.
    Record,
    /// The same, of packets in flight.
    RecordInFlight,
    /// Reads it.
    Read,
    /// Makes journeys of events that are there.
    Assemble,
    /// The same, where every packet is dropped and explained.
    Explain,
    /// The same, where no packet ends.
    AssembleInFlight,
}

impl Stage {
    pub(super) const ALL: [Self; 6] = [
        Self::Record,
        Self::RecordInFlight,
        Self::Read,
        Self::Assemble,
        Self::Explain,
        Self::AssembleInFlight,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::RecordInFlight => "record-in-flight",
            Self::Read => "read",
            Self::Assemble => "assemble",
            Self::Explain => "explain",
            Self::AssembleInFlight => "assemble-in-flight",
        }
    }

    /// The recording that it makes.
    pub(super) fn makes(self) -> Option<&'static str> {
        match self {
            Self::Record => Some(MIXED),
            Self::RecordInFlight => Some(IN_FLIGHT),
            _ => None,
        }
    }

    /// The recording that it makes or reads.
    pub(super) fn file(self) -> Option<&'static str> {
        if self == Self::Read { Some(MIXED) } else { self.makes() }
    }

    /// Does it, and says what it took.
    pub(super) fn run(self, events: u64, folder: &Path) -> Result<Cost> {
        let processor = match self {
            Self::Record => record(events, MIXED, folder),
            Self::RecordInFlight => record(events, IN_FLIGHT, folder),
            Self::Read => read(folder),
            Self::Assemble => assemble(events, Shape::Mixed),
            Self::Explain => assemble(events, Shape::Dropped),
            Self::AssembleInFlight => assemble(events, Shape::InFlight),
        }?;
        Ok(Cost { events, processor, peak_bytes: 0 })
    }
}

/// Has events worked on by so many, and says how long that took, without making them.
fn timed(events: u64, traffic: &mut Traffic, mut work: impl FnMut(Event) -> Result<()>) -> Result<Duration> {
    let mut took = Duration::ZERO;
    let mut left = events;
    while left > 0 {
        let chunk: Vec<Event> = (0..left.min(CHUNK)).map(|_| traffic.next()).collect();
        left -= left.min(CHUNK);
        let begun = processor_time();
        chunk.into_iter().try_for_each(&mut work)?;
        took += processor_time() - begun;
    }
    Ok(took)
}

fn record(events: u64, name: &str, folder: &Path) -> Result<Duration> {
    let mut traffic = Traffic::new(shape_of(name))?;
    let file = File::create(folder.join(name))?;
    let mut writer = Writer::begin(BufWriter::new(file), &traffic.header()?, None)?;
    let took = timed(events, &mut traffic, |event| Ok(writer.event(&event).map(drop)?))?;
    writer.finish()?;
    Ok(took)
}

fn read(folder: &Path) -> Result<Duration> {
    let begun = processor_time();
    let mut reader = Reader::open(BufReader::new(File::open(folder.join(MIXED))?))?;
    while let Decoded::Event(_) = reader.next().context("its own recording")? {}
    Ok(processor_time() - begun)
}

fn assemble(events: u64, shape: Shape) -> Result<Duration> {
    let mut traffic = Traffic::new(shape)?;
    let options = Options { filter: traffic.filter()?, asks: true, ..Options::default() };
    let mut assembler = Assembler::new(options);
    timed(events, &mut traffic, |event| {
        assembler.push(event);
        drop(assembler.finished());
        Ok(())
    })
}
