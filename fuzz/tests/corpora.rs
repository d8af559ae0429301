//! Each target reads its corpus, and inputs made of it: what `cargo xtask fuzz` does for hours, for a moment.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nattrace_fuzz::{TARGETS, Target, mutate};

/// How long changed inputs are tried, for each target.
const TIME: Duration = Duration::from_millis(1500);
/// Bytes of an input at most.
const MOST: usize = 16 << 10;

fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    let mut paths: Vec<_> =
        fs::read_dir(&folder).expect("a corpus").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} has no inputs", target.name);
    paths.iter().map(|path| fs::read(path).expect("an input")).collect()
}

#[test]
fn what_was_found_once_is_read() {
    for target in TARGETS {
        corpus(&target).iter().for_each(|input| (target.run)(input));
    }
}
