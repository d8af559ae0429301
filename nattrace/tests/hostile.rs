//! Whatever stands in names, rule texts and comments: a terminal is told nothing by it, and a page's, a picture's or a
//! graph's markup stays this program's own.
//!
//! The texts of real recordings are replaced by random ones, which are made of what terminals obey and markup is made of;
//! then they are told in every format, as `nattrace replay` does.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use fastrand::Rng;
use flate2::read::MultiGzDecoder;
use nattrace::cli::{self, Terminal};
use nattrace::render::escape::escape;
use nattrace::session;
use serde_json::Value;

/// What stands in every text that was replaced, where markup would begin, and where an attribute or a string would end.
const TAG: &str = "<hostile";
const QUOTE: &str = "\"hostile";

/// Pieces of which texts are made.
const PIECES: [&str; 24] = [
    "\u{1b}[2J",
    "\u{1b}]0;x\u{7}",
    "\u{9b}31m",
    "\u{90}q",
    "\r",
    "\n",
    "\t",
    "\0",
    "\u{8}",
    "\u{7f}",
    "\u{85}",
    "\u{202e}",
    "\u{200b}",
    "\u{2028}",
    "\u{feff}",
    "\u{e0041}",
    "</script>",
    "-->",
    "]]>",
    "&lt;",
    "'",
    "\\",
    "größe",
    "{}",
];

fn hostile(rng: &mut Rng) -> String {
    let mut text = String::new();
    for _ in 0..rng.usize(1..6) {
        text += PIECES[rng.usize(..PIECES.len())];
        match rng.u8(..4) {
            0 => text += TAG,
            1 => text += QUOTE,
            2 => text.push(rng.char(..)),
            _ => text += "a",
        }
    }
    text
}

/// Replaces texts at random, but for those without which the line would be no event.
fn poison(line: &str, rng: &mut Rng) -> String {
    let mut event: Value = serde_json::from_str(line).expect("an event");
    let mut paths = Vec::new();
    texts(&event, &mut String::new(), &mut paths);
    for path in paths {
        if rng.u8(..3) > 0 {
            continue;
        }
        let text = event.pointer_mut(&path).expect("a text");
        let before = std::mem::replace(text, Value::String(hostile(rng)));
        if nattrace_core::record::decode(event.to_string().as_bytes()).is_err() {
            *event.pointer_mut(&path).expect("a text") = before;
        }
    }
    event.to_string()
}

/// Where texts are.
fn texts(value: &Value, at: &mut String, paths: &mut Vec<String>) {
    let length = at.len();
    match value {
        Value::String(_) => paths.push(at.clone()),
        Value::Array(values) => {
            for (index, value) in values.iter().enumerate() {
                at.extend(["/", &index.to_string()]);
                texts(value, at, paths);
                at.truncate(length);
            }
        }
        Value::Object(members) => {
            for (name, value) in members {
                at.extend(["/", name]);
                texts(value, at, paths);
                at.truncate(length);
            }
        }
        _ => {}
    }
}

fn told(recording: &Path, format: &str, more: &[&str], output: &Path) -> String {
    let mut args: Vec<OsString> = ["nattrace", "replay"].map(OsString::from).to_vec();
    args.push(recording.into());
    args.extend(["--format", format, "-o"].map(OsString::from));
    args.push(output.into());
    args.extend(more.iter().map(OsString::from));
    let plan = cli::parse(args, &Terminal::default()).expect("a plan");
    session::run(plan).expect("a replay");
    fs::read_to_string(output).expect("its output")
}

/// Names of elements and attributes of a picture; an error where it is no XML.
fn markup(svg: &str) -> BTreeSet<String> {
    let document = roxmltree::Document::parse(svg).expect("XML");
    let elements = document.descendants().filter(roxmltree::Node::is_element);
    elements
        .flat_map(|node| {
            let attributes = node.attributes().map(|attribute| attribute.name().to_owned());
            attributes.chain([node.tag_name().name().to_owned()]).collect::<Vec<_>>()
        })
        .collect()
}

/// What of DOT is between strings.
fn between_strings(dot: &str) -> String {
    let (mut outside, mut within, mut escaped) = (String::new(), false, false);
    for c in dot.chars() {
        match c {
            '"' if !escaped => within = !within,
            _ if !within => outside.push(c),
            _ => {}
        }
        escaped = within && c == '\\' && !escaped;
    }
    assert!(!within, "a string does not end");
    outside
}

/// Without the colours that this program sets.
fn without_colours(text: &str) -> String {
    let mut pieces = text.split("\u{1b}[");
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let end = piece.find(|c: char| !c.is_ascii_digit() && c != ';').expect("an end");
        assert_eq!(&piece[end..=end], "m", "a colour, not {piece:?}");
        plain += &piece[end + 1..];
    }
    plain
}

#[test]
fn no_text_of_others_is_obeyed() {
    const ROUNDS: usize = 2;
    const RECORDINGS: [&str; 6] = [
        "article-tcp4.broken",
        "article-tcp4-kprobes.broken",
        "legacy-drop-rule4.trace",
        "netns-names-docker.trace",
        "path-route.trace",
        "why-iptables-port.trace",
    ];
    let seed = std::env::var("NATTRACE_SEED")
        .map_or_else(|_| fastrand::u64(..), |seed| seed.parse().expect("a number"));
    println!("NATTRACE_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let folder = tempfile::tempdir().expect("a folder");
    let (input, output) = (folder.path().join("poisoned"), folder.path().join("told"));
    // Texts that came through, as they should.
    let (mut escaped, mut quoted) = (0, 0);
    for name in RECORDINGS {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/recordings/{name}.rec"));
        let mut text = String::new();
        MultiGzDecoder::new(fs::File::open(&path).expect("a recording"))
            .read_to_string(&mut text)
            .expect("text");
        let known = markup(&told(&path, "svg", &[], &output));
        let elements = told(&path, "html", &[], &output).matches("<script").count();
        for _ in 0..ROUNDS {
            let mut lines = text.lines();
            let header = lines.next().expect("a header").to_owned();
            let poisoned: Vec<String> = lines.map(|line| poison(line, &mut rng)).collect();
            fs::write(&input, format!("{header}\n{}\n", poisoned.join("\n"))).expect("written");
            for (format, more) in [
                ("text", &[][..]),
                ("text", &["--color", "always"]),
                ("nft", &[]),
                ("json", &[]),
                ("dot", &[]),
            ] {
                let mut told = told(&input, format, more, &output);
                if !more.is_empty() {
                    told = without_colours(&told);
                }
                escaped += told.matches(r"\x1b[2J").count();
                for line in told.lines() {
                    assert_eq!(escape(line), line, "{name} as {format}");
                }
                match format {
                    "json" => {
                        for line in told.lines() {
                            serde_json::from_str::<Value>(line).expect("JSON");
                        }
                    }
                    "dot" => assert!(!between_strings(&told).contains("hostile"), "{name}: {told}"),
                    _ => {}
                }
            }
            let svg = told(&input, "svg", &[], &output);
            let others: Vec<String> = markup(&svg).difference(&known).cloned().collect();
            assert!(others.iter().all(|name| !name.contains("hostile")), "{name}: {others:?}");
            let html = told(&input, "html", &[], &output);
            assert!(!html.contains(TAG) && html.matches("<script").count() == elements, "{name}: {TAG}");
            quoted += html.matches("&lt;hostile").count();
            for (at, _) in html.match_indices(QUOTE) {
                // In the page's data, a string of JSON.
                assert_eq!(html[..at].chars().next_back(), Some('\\'), "{name}: {QUOTE}");
            }
            for page in [&svg, &html] {
                for line in page.lines() {
                    assert_eq!(escape(line), line, "{name}");
                }
            }
        }
    }
    assert!(escaped > 10 && quoted > 10, "{escaped} and {quoted} texts were shown");
}
