//! The interface in a real terminal, tmux's: keys in, screen out, on recordings. `cargo xtask setup` brings tmux.

#[path = "../../tests/src/lab/tmux.rs"]
mod tmux;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use expect_test::expect_file;
use tempfile::{NamedTempFile, TempDir};
use tmux::Terminal;

const SMALL: (u16, u16) = (80, 24);
const LARGE: (u16, u16) = (120, 40);
/// Machines are busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// One `nattrace tui` in `nattrace/tests/recordings`.
struct Shown {
    terminal: Terminal,
    /// Where the terminal's socket is: the last to go.
    _dir: TempDir,
}

impl Shown {
    fn start(size: (u16, u16), args: &[&str]) -> Self {
        Self::start_with(size, args, &[])
    }

    fn start_with(size: (u16, u16), args: &[&str], env: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut command = Command::new("tmux");
        command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings"));
        for name in ["NO_COLOR", "COLUMNS"] {
            command.env_remove(name);
        }
        command.env("TZ", "UTC").envs(env.iter().copied());
        let program = [&[env!("CARGO_BIN_EXE_nattrace"), "tui"], args].concat();
        let program: Vec<String> = program.into_iter().map(str::to_owned).collect();
        let terminal = Terminal::start(command, &dir.path().join("tmux"), size, &program).expect("tmux");
        Self { terminal, _dir: dir }
    }

    /// Waits until all of this is on the screen, and gives the screen.
    #[track_caller]
    fn until(&self, shown: &[&str]) -> String {
        self.until_it(|screen| shown.iter().all(|text| screen.contains(text)))
    }

    #[track_caller]
    fn until_it(&self, enough: impl Fn(&str) -> bool) -> String {
        let begun = Instant::now();
        let mut before = String::new();
        loop {
            let screen = self.terminal.screen().expect("a screen");
            // A picture is on its way while it changes.
            if enough(&screen) && screen == before {
                return screen;
            }
            before.clone_from(&screen);
            assert!(begun.elapsed() < PATIENCE, "this is on the screen:\n{screen}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn press(&self, keys: &[&str]) {
        self.terminal.press(keys).expect("keys");
    }

    /// Waits for the end: the exit code, and what is left on the terminal.
    #[track_caller]
    fn ended(&self) -> (i32, String) {
        let begun = Instant::now();
        loop {
            if let Some(code) = self.terminal.exit().expect("an end") {
                return (code, self.terminal.screen().expect("a screen"));
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "still there:\n{}",
                self.terminal.screen().expect("a screen")
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The whole recording is on the screen.
const READ: &str = "ALL READ";
const FIX: &str = "nft add element inet filter allow_in { 192.168.70.10 . 22 }";

#[test]
fn a_broken_port_forward_is_understood_and_its_fix_copied() {
    let shown = Shown::start(SMALL, &["port-forward-broken.jsonl"]);
    expect_file!["screens/broken-80x24.txt"].assert_eq(&shown.until(&[READ]));
    shown.press(&["Enter"]);
    expect_file!["screens/packet-80x24.txt"]
        .assert_eq(&shown.until_it(|screen| screen.contains(FIX) && !screen.contains('▾')));
    shown.press(&["y"]);
    let alone = shown.until(&["the fix of #1"]);
    assert!(alone.lines().any(|line| line == FIX), "{alone}");
    assert_eq!(shown.terminal.clipboard().expect("a clipboard"), FIX);
    shown.press(&["Escape", "q"]);
    let (code, left) = shown.ended();
    assert_eq!(code, 1, "as the plain run's");
    assert!(left.contains("6 packets: 6 dropped") && left.contains(FIX), "{left}");
    assert!(!left.contains(READ), "the screen is as it was: {left}");
}

#[test]
fn in_a_large_terminal() {
    let shown = Shown::start(LARGE, &["port-forward-fixed.jsonl"]);
    expect_file!["screens/fixed-120x40.txt"].assert_eq(&shown.until(&[READ]));
    shown.press(&["k"]);
    expect_file!["screens/connection-120x40.txt"].assert_eq(&shown.until(&["── connection ─"]));
    shown.press(&["C-c"]);
    assert_eq!(shown.ended().0, 0);
}

#[test]
fn filter_search_and_back() {
    let shown = Shown::start(SMALL, &["port-forward-fixed.jsonl", "--dport", "1222"]);
    shown.until(&[READ, "port-forward-fixed.jsonl --dport 1222"]);
    shown.press(&["f"]);
    shown.terminal.enter("fin").expect("typed");
    let filtered = shown.until(&["filter fin:", "filter: fin"]);
    assert!(filtered.contains("FIN ACK") && !filtered.contains("PSH ACK"), "{filtered}");
    shown.press(&["Enter", "Escape"]);
    shown.until(&["PSH ACK"]);
    shown.press(&["/"]);
    shown.terminal.enter("psh").expect("typed");
    shown.press(&["Enter"]);
    shown.until(&["── packet #4 ─"]);
    shown.press(&["?"]);
    expect_file!["screens/help-80x24.txt"].assert_eq(&shown.until(&["── keys ─"]));
    shown.press(&["q", "q"]);
    assert_eq!(shown.ended().0, 0);
}

#[test]
fn every_size_can_be_come_to() {
    let shown = Shown::start(SMALL, &["port-forward-broken.jsonl"]);
    shown.until(&[READ]);
    for (columns, rows) in [(20, 5), (10, 2), (200, 60), (40, 12)] {
        shown.terminal.resize(columns, rows).expect("resized");
        shown.until_it(|screen| rows < 3 || screen.contains('✗'));
        for keys in ["Enter", "c", "?", "m", "y", "Escape"] {
            shown.press(&[keys]);
        }
    }
    shown.terminal.resize(80, 24).expect("resized");
    shown.press(&["Escape", "Escape"]);
    shown.until(&[READ, "✗ DROPPED"]);
    shown.press(&["q"]);
    assert_eq!(shown.ended().0, 1);
}

#[test]
fn colour_where_it_is_wanted() {
    for (args, env, coloured) in [
        (&["port-forward-broken.jsonl"][..], &[][..], true),
        (&["port-forward-broken.jsonl"], &[("NO_COLOR", "1")], false),
        (&["port-forward-broken.jsonl", "--color", "never"], &[], false),
    ] {
        let shown = Shown::start_with(SMALL, args, env);
        shown.until(&[READ]);
        let painted = shown.terminal.capture(&["-e"]).expect("a screen");
        let has_colour = painted.contains("\x1b[38;5;");
        assert_eq!(has_colour, coloured, "{args:?} {env:?}: {painted:?}");
        assert!(painted.contains(";7m"), "what is chosen stands out: {painted:?}");
    }
}

#[test]
fn signals_give_the_terminal_back() {
    for signal in ["TERM", "INT", "HUP"] {
        let shown = Shown::start(SMALL, &["port-forward-broken.jsonl"]);
        shown.until(&[READ]);
        let pid = shown.terminal.pid().expect("a process").to_string();
        let sent = Command::new("kill").args(["-s", signal, &pid]).status().expect("kill");
        assert!(sent.success());
        let (code, left) = shown.ended();
        assert_eq!(code, 1, "{signal}");
        assert!(left.contains("6 packets: 6 dropped") && !left.contains(READ), "{signal}: {left}");
    }
}

#[test]
fn a_terminal_that_takes_nothing_does_not_keep_it() {
    let shown = Shown::start(SMALL, &["port-forward-broken.jsonl"]);
    shown.until(&[READ]);
    let pid = shown.terminal.pid().expect("a process").to_string();
    // More pictures than the kernel holds for a terminal.
    for _ in 0..200 {
        shown.terminal.enter("jjGgkk").expect("typed");
    }
    shown.terminal.set_stuck(true).expect("stuck");
    assert!(Command::new("kill").arg(&pid).status().expect("kill").success());
    let begun = Instant::now();
    while shown.terminal.exit().expect("an end").is_none() {
        assert!(begun.elapsed() < PATIENCE, "it waits for its terminal");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_is_no_recording_is_said_on_the_terminal_as_it_is() {
    let shown = Shown::start(SMALL, &["no-such-file.rec"]);
    let (code, left) = shown.ended();
    assert_eq!(code, 2);
    assert!(left.starts_with("nattrace: no-such-file.rec: No such file"), "{left}");
}

#[test]
fn a_recording_that_was_cut_off_says_so() {
    let whole = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings/port-forward-broken.jsonl");
    let bytes = std::fs::read(whole).expect("a recording");
    let cut = NamedTempFile::new().expect("a file");
    std::fs::write(&cut, &bytes[..bytes.len() * 2 / 3]).expect("written");
    let shown = Shown::start(SMALL, &[cut.path().to_str().expect("a name")]);
    shown.until(&["it was cut off"]);
    shown.press(&["q"]);
    let (_, left) = shown.ended();
    let words: String = left.split_whitespace().collect();
    assert!(words.contains("itwascutoff"), "{left}");
}

/// A block of a document: where it begins and ends, and how the screen in it comes to be.
struct Block<'a> {
    /// From the comment's end to the block's.
    range: std::ops::Range<usize>,
    recording: &'a str,
    size: (u16, u16),
    keys: Vec<&'a str>,
}

/// The blocks that follow `<!-- tui: RECORDING COLUMNSxROWS KEYS -->`.
fn blocks(document: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    for (start, mark) in document.match_indices("<!-- tui: ") {
        let rest = &document[start + mark.len()..];
        let (told, _) = rest.split_once(" -->\n").expect("a closed comment");
        let begin = start + mark.len() + told.len() + " -->\n".len();
        let body = document[begin..].strip_prefix("```console\n").expect("a console block follows");
        let end = begin + "```console\n".len() + body.find("```\n").expect("a closed block") + "```\n".len();
        let mut words = told.split(' ');
        let (recording, size) = (words.next().expect("a recording"), words.next().expect("a size"));
        let (columns, rows) = size.split_once('x').expect("COLUMNSxROWS");
        let size = (columns.parse().expect("columns"), rows.parse().expect("rows"));
        blocks.push(Block { range: begin..end, recording, size, keys: words.collect() });
    }
    blocks
}

#[test]
fn pictures_in_documents_are_what_the_program_shows() {
    for (name, least) in [("docs/tui.md", 1), ("README.md", 0)] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
        let document = std::fs::read_to_string(&path).expect("a document");
        let blocks = blocks(&document);
        assert!(blocks.len() >= least, "{name} has a picture");
        let mut renewed = document.clone();
        for block in blocks.into_iter().rev() {
            let shown = Shown::start(block.size, &[block.recording]);
            shown.until(&[READ]);
            let mut screen = shown.until(&[]);
            for key in &block.keys {
                shown.press(&[key]);
                screen = shown.until_it(|now| now != screen);
            }
            let told = format!("```console\n$ nattrace tui {}\n{screen}```\n", block.recording);
            renewed.replace_range(block.range, &told);
        }
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(&path, &renewed).expect("written");
        } else {
            assert_eq!(document, renewed, "{name}: UPDATE_EXPECT=1 renews it");
        }
    }
}
