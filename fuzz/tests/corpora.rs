//! Each target reads its corpus, and inputs made of it: what `cargo xtask fuzz` does for hours, for a moment.

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;
use std::time::{Duration, Instant};

use fastrand::Rng;
use nattrace_fuzz::{TARGETS, Target, mutate};

/// How long changed inputs are tried, for each target.
const TIME: Duration = Duration::from_millis(500);
/// Bytes of an input at most.
const MOST: usize = 4096;

fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    let mut paths: Vec<_> =
        fs::read_dir(&folder).expect("a corpus").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} has no inputs", target.name);
    paths.iter().map(|path| fs::read(path).expect("an input")).collect()
}

/// A panic is this test's, with the input that made it.
fn read(target: &Target, input: &[u8]) {
    let begun = Instant::now();
    let survived = catch_unwind(|| (target.run)(input));
    assert!(survived.is_ok(), "{} with b\"{}\"", target.name, input.escape_ascii());
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{} took {:?} for b\"{}\"",
        target.name,
        begun.elapsed(),
        input.escape_ascii()
    );
}

#[test]
fn every_input_that_led_anywhere_is_read() {
    for target in TARGETS {
        for input in corpus(&target) {
            read(&target, &input);
        }
    }
}

#[test]
fn inputs_changed_at_random_are_read() {
    let mut rng = Rng::new();
    for target in TARGETS {
        let corpus = corpus(&target);
        let begun = Instant::now();
        while begun.elapsed() < TIME {
            let mut input = corpus[rng.usize(..corpus.len())].clone();
            if target.is_text && rng.bool() {
                mutate::text(&mut input, &mut rng, MOST);
            } else {
                mutate::bytes(&mut input, &mut rng, MOST);
            }
            read(&target, &input);
        }
    }
}

#[test]
fn every_corpus_has_its_target() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for entry in fs::read_dir(folder).expect("the corpora") {
        let name = entry.expect("an entry").file_name().into_string().expect("a name");
        assert!(nattrace_fuzz::named(&name).is_some(), "{name}");
    }
}
