//! Pictures of recordings made on a real kernel, as they were when somebody last looked at them.
//!
//! `UPDATE_EXPECTED=1 cargo test -p nattrace --test pictures` makes them anew: look at them before they are kept.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::read::GzDecoder;
use nattrace::cli::{self, Terminal};
use nattrace::session;
use serde_json::Value;

fn report(recording: &str, format: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_nattrace"))
        .args(["report", recording, "--format", format])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("TZ", "UTC")
        .output()
        .expect("the binary runs");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn pictures_are_as_they_were() {
    let core = "../nattrace-core/tests/recordings";
    for (name, recording) in [
        ("port-forward-broken", "tests/recordings/port-forward-broken.jsonl".to_owned()),
        ("port-forward-fixed", "tests/recordings/port-forward-fixed.jsonl".to_owned()),
        ("namespaces", format!("{core}/full-namespaces.jsonl")),
    ] {
        for format in ["svg", "dot"] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/pictures/{name}.{format}"));
            let drawn = report(&recording, format);
            if std::env::var_os("UPDATE_EXPECTED").is_some() {
                std::fs::write(&path, &drawn).expect("written");
            }
            let expected = std::fs::read_to_string(&path).expect("the picture");
            assert_eq!(drawn, expected, "{}", path.display());
        }
    }
}

/// The picture of a recording, made within this process.
fn drawn(recording: &Path, output: &Path) -> String {
    let args = ["nattrace", "report", "--format", "svg"].map(Into::into).into_iter();
    let args = args.chain(["-o".into(), output.into(), recording.into()]);
    session::run(cli::parse(args, &Terminal::default()).expect("a plan")).expect("a report");
    std::fs::read_to_string(output).expect("its output")
}

/// How often each hook of each namespace was passed, as the steps of all journeys say, and how many journeys there are.
fn hooks_of(json: &str) -> (BTreeMap<String, u64>, u64) {
    let (mut hooks, mut journeys) = (BTreeMap::new(), 0);
    for line in json.lines() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        if line["type"] != "journey" {
            continue;
        }
        journeys += 1;
        for step in line["steps"].as_array().expect("steps").iter().filter(|step| step["kind"] == "hook") {
            let netns = step["netns"].get("inum").unwrap_or(&line["netns"]["inum"]);
            // Those of a device are in the lane of what takes the packet from it.
            let layer = match step["family"].as_str().expect("a family") {
                "ip" | "ip6" => "/ip/",
                "bridge" => "/bridge/",
                "arp" => "/arp/",
                _ => continue,
            };
            let hook = step["hook"].as_str().expect("a hook");
            *hooks.entry(format!("{netns}{layer}{hook}")).or_default() += 1;
        }
    }
    (hooks, journeys)
}

/// The values of elements of a picture that have all of these attributes.
fn values<'a>(svg: &'a str, attributes: &'a [&str]) -> impl Iterator<Item = Vec<&'a str>> {
    svg.split('<').filter_map(|element| {
        let value = |name: &&str| {
            let (_, rest) = element.split_once(&format!(" {name}=\""))?;
            rest.split_once('"').map(|(value, _)| value)
        };
        attributes.iter().map(value).collect()
    })
}

#[test]
fn pictures_of_all_scenarios_show_what_their_json_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings");
    let files = std::fs::read_dir(folder).expect("the folder").map(|entry| entry.expect("an entry").path());
    let recordings: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|extension| extension == "rec")).collect();
    assert!(recordings.len() > 100, "{} recordings", recordings.len());
    let output = tempfile::NamedTempFile::new().expect("a file");
    for recording in recordings {
        let mut json = String::new();
        let live = std::fs::File::open(recording.with_extension("told.gz")).expect("what was told live");
        GzDecoder::new(live).read_to_string(&mut json).expect("what was told live");
        let (hooks, journeys) = hooks_of(&json);
        let svg = drawn(&recording, output.path());
        let number = |text: &str| text.parse::<u64>().expect("a number");
        let places: BTreeMap<&str, u64> =
            values(&svg, &["data-place", "data-packets"]).map(|of| (of[0], number(of[1]))).collect();
        for (hook, count) in &hooks {
            // Rules of a hook that was not seen itself count, too.
            let seen = places.get(hook.as_str()).copied().unwrap_or(0);
            assert!(seen >= *count, "{}: {hook} was passed {count} times, not {seen}", recording.display());
        }
        // What comes to a place goes on from there, or ends there; whatever goes on has come.
        let (mut began, mut ended) = (0, 0);
        for (place, packets) in &places {
            let sum = |end: usize| -> u64 {
                let ways = values(&svg, &["data-from", "data-to", "data-packets"]);
                ways.filter(|way| way[end] == *place).map(|way| number(way[2])).sum()
            };
            let (from, to) = (sum(0), sum(1));
            assert!(from <= *packets && to <= *packets, "{}: {place}", recording.display());
            began += packets - to;
            ended += packets - from;
        }
        assert_eq!((began, ended), (journeys, journeys), "{}", recording.display());
    }
}
