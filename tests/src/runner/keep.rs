//! Recordings that are kept, each beside the journeys that were told live: what `cargo test` replays afterwards.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;

use anyhow::{Context, Result};
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

/// Larger ones are not kept, packed bytes: they are of load, and their packets are much the same.
const LARGEST: usize = 512 << 10;

/// Writes `NAME.rec` and `NAME.told.gz` into a directory, packed as a whole: a recording that grows is packed event by
/// event, to three times the size.
pub(super) fn keep(dir: &Path, name: &str, recording: &Path, told: &str) -> Result<()> {
    let mut events = Vec::new();
    let file = File::open(recording).with_context(|| recording.display().to_string())?;
    MultiGzDecoder::new(file).read_to_end(&mut events).with_context(|| recording.display().to_string())?;
    let events = packed(&events)?;
    if events.len() > LARGEST {
        return Ok(());
    }
    std::fs::create_dir_all(dir)?;
    std::fs::write(dir.join(format!("{name}.rec")), events)?;
    std::fs::write(dir.join(format!("{name}.told.gz")), packed(told.as_bytes())?)?;
    Ok(())
}

fn packed(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut out = GzEncoder::new(Vec::new(), Compression::best());
    out.write_all(bytes)?;
    Ok(out.finish()?)
}
