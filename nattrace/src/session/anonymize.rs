//! `nattrace anonymize`, and what `--anonymize` does elsewhere: other addresses and names.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use anyhow::{Context as _, Result};
use nattrace_core::anonymize::Anonymizer;
use nattrace_core::record::{Decoded, Format, Writer};

use super::replay::{self, Recorded};
use super::voice::say;
use crate::cli::ExitStatus;
use crate::cli::plan::AnonymizePlan;

/// One whose key nobody knows, and that is gone with this process.
pub(super) fn anonymizer() -> Result<Anonymizer> {
    let mut key = [0; 16];
    let read = rustix::rand::getrandom(&mut key, rustix::rand::GetRandomFlags::empty());
    // Never less of so few bytes (getrandom(2)).
    anyhow::ensure!(read.context("no random key")? == key.len(), "no random key");
    Ok(Anonymizer::new(key))
}

/// One that has seen what rules of a recording ask for, where it can be read twice.
pub(super) fn for_recording(recorded: &Recorded) -> Result<Anonymizer> {
    let mut anonymizer = anonymizer()?;
    let Some(mut reader) = recorded.once_more()? else { return Ok(anonymizer) };
    // What cannot be read is told when it is read again.
    while let Ok(Decoded::Event(event)) = reader.next() {
        anonymizer.learn(&event);
    }
    Ok(anonymizer)
}

/// Makes a recording that a stranger may have.
pub(super) fn run(plan: &AnonymizePlan) -> Result<ExitStatus> {
    let recorded = Recorded::of(&plan.input);
    let name = recorded.name();
    let mut anonymizer = for_recording(&recorded)?;
    let mut reader = recorded.open()?;
    let header = anonymizer.header(reader.header());
    let target: Box<dyn Write> = match &plan.output {
        None => Box::new(io::stdout().lock()),
        Some(path) => Box::new(File::create(path).with_context(|| format!("-o {}", path.display()))?),
    };
    let to =
        || plan.output.as_ref().map_or("standard output".to_owned(), |to| format!("-o {}", to.display()));
    let mut writer = Writer::begin(BufWriter::new(target), &header, Format::Json, None).with_context(to)?;
    let mut events = 0_u64;
    loop {
        match reader.next().with_context(|| name.clone())? {
            Decoded::Event(event) => {
                writer.event(&anonymizer.event(&event)).with_context(to)?;
                events += 1;
            }
            Decoded::CutOff => {
                replay::say_cut_off(&name);
                break;
            }
            Decoded::End => break,
        }
    }
    writer.finish().with_context(to)?;
    let replaced = anonymizer.replaced();
    say(&format!(
        "{events} events: {} addresses and {} names are others now; ports, times and kernel stay",
        replaced.addresses, replaced.names
    ));
    if replaced.words > 0 {
        say(&format!(
            "{} words of rules were not understood, and are `wordN`; what such rules ask for is not known",
            replaced.words
        ));
    }
    Ok(ExitStatus::Clean)
}
