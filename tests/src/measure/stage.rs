//! The stages that are measured inside of this program, each in a process of its own.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use nattrace_core::event::Event;
use nattrace_core::journey::assemble::{Assembler, Options};
use nattrace_core::record::{Decoded, Format, Reader, Writer};

use super::cost::{Cost, processor_time};
use super::traffic::{Shape, Traffic};

/// Recording of [`Shape::Mixed`] in JSON.
pub(super) const MIXED_JSON: &str = "mixed-json.rec";
/// The same, compact.
pub(super) const MIXED: &str = "mixed.rec";
/// Recording of [`Shape::InFlight`], compact.
pub(super) const IN_FLIGHT: &str = "in-flight.rec";
/// Events that are made at once, before they are worked on.
const CHUNK: u64 = 4096;

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Stage {
    /// Writes a recording in JSON.
    RecordJson,
    /// Writes a compact recording.
    RecordCompact,
    /// The same, of packets in flight.
    RecordInFlight,
    /// Reads the first.
    ReadJson,
    /// Reads the second.
    ReadCompact,
    /// Makes journeys of events that are there.
    Assemble,
    /// The same, where every packet is dropped and explained.
    Explain,
    /// The same, where no packet ends.
    AssembleInFlight,
}

impl Stage {
    pub(super) const ALL: [Self; 8] = [
        Self::RecordJson,
        Self::RecordCompact,
        Self::RecordInFlight,
        Self::ReadJson,
        Self::ReadCompact,
        Self::Assemble,
        Self::Explain,
        Self::AssembleInFlight,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::RecordJson => "record-json",
            Self::RecordCompact => "record-compact",
            Self::RecordInFlight => "record-in-flight",
            Self::ReadJson => "read-json",
            Self::ReadCompact => "read-compact",
            Self::Assemble => "assemble",
            Self::Explain => "explain",
            Self::AssembleInFlight => "assemble-in-flight",
        }
    }

    /// Whether it makes a recording, which what follows may need.
    pub(super) fn makes_recording(self) -> bool {
        matches!(self, Self::RecordJson | Self::RecordCompact | Self::RecordInFlight)
    }

    /// The recording that it makes or reads.
    pub(super) fn file(self) -> Option<&'static str> {
        match self {
            Self::RecordJson | Self::ReadJson => Some(MIXED_JSON),
            Self::RecordCompact | Self::ReadCompact => Some(MIXED),
            Self::RecordInFlight => Some(IN_FLIGHT),
            Self::Assemble | Self::Explain | Self::AssembleInFlight => None,
        }
    }

    /// Does it, and says what it took.
    pub(super) fn run(self, events: u64, folder: &Path) -> Result<Cost> {
        let processor = match self {
            Self::RecordJson => record(events, Shape::Mixed, Format::Json, &folder.join(MIXED_JSON)),
            Self::RecordCompact => record(events, Shape::Mixed, Format::Compact, &folder.join(MIXED)),
            Self::RecordInFlight => record(events, Shape::InFlight, Format::Compact, &folder.join(IN_FLIGHT)),
            Self::ReadJson => read(&folder.join(MIXED_JSON)),
            Self::ReadCompact => read(&folder.join(MIXED)),
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
        took += processor_time().saturating_sub(begun);
    }
    Ok(took)
}

fn record(events: u64, shape: Shape, format: Format, path: &Path) -> Result<Duration> {
    let mut traffic = Traffic::new(shape)?;
    let file = File::create(path)?;
    let mut writer = Writer::begin(BufWriter::new(file), &traffic.header()?, format, None)?;
    let took = timed(events, &mut traffic, |event| Ok(writer.event(&event).map(drop)?))?;
    writer.finish()?;
    Ok(took)
}

fn read(path: &Path) -> Result<Duration> {
    let begun = processor_time();
    let mut reader = Reader::open(BufReader::new(File::open(path)?))?;
    while let Decoded::Event(_) = reader.next().context("its own recording")? {}
    Ok(processor_time().saturating_sub(begun))
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
