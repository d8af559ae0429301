//! Every scenario of the suite, as it was recorded: `recordings/NAME.rec` must be told as it was told live, which is in
//! `recordings/NAME.told.gz`, byte for byte but for the first line. `cargo xtask record` makes both anew; after a change
//! of the output that is meant, `UPDATE_EXPECTED=1 cargo test -p nattrace --test recordings` writes what is told now.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use nattrace::cli::{self, Terminal};
use nattrace::session;

fn recordings() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings");
    let mut paths: Vec<_> = fs::read_dir(folder)
        .expect("the folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rec"))
        .collect();
    paths.sort();
    paths
}

/// What a replay prints, without its first line: what it was asked for.
fn replayed(recording: &Path, output: &Path) -> String {
    let args = [
        "nattrace".into(),
        "replay".into(),
        recording.into(),
        "--format".into(),
        "json".into(),
        "-o".into(),
        output.into(),
    ];
    let plan = cli::parse(args, &Terminal::default()).expect("a plan");
    session::run(plan).expect("a replay");
    let printed = fs::read_to_string(output).expect("its output");
    printed.split_inclusive('\n').skip(1).collect()
}

#[test]
fn every_scenario_is_told_again_as_it_was_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = folder.path().join("told.jsonl");
    let mut wrong = Vec::new();
    let recordings = recordings();
    for recording in &recordings {
        let expected = recording.with_extension("told.gz");
        let told = replayed(recording, &output);
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            let mut out = GzEncoder::new(fs::File::create(&expected).expect("a file"), Compression::best());
            out.write_all(told.as_bytes()).and_then(|()| out.finish().map(drop)).expect("written");
        }
        let mut before = String::new();
        let file = fs::File::open(&expected).expect("what was told live");
        GzDecoder::new(file).read_to_string(&mut before).expect("what was told live");
        if let Some((was, is)) = before.lines().zip(told.lines()).find(|(was, is)| was != is) {
            wrong.push(format!("{}:\nwas {was}\nis  {is}", recording.display()));
        } else if before != told {
            wrong.push(format!(
                "{}: {} lines, not {}",
                recording.display(),
                told.lines().count(),
                before.lines().count()
            ));
        }
    }
    assert!(recordings.len() > 100, "{} recordings", recordings.len());
    assert!(
        wrong.is_empty(),
        "{} of {} are told otherwise\n{}",
        wrong.len(),
        recordings.len(),
        wrong.join("\n")
    );
}
