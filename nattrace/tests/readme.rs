//! What the README shows is what the program prints: its blocks are replays of recordings made on a real kernel.

use std::path::Path;
use std::process::Command;

/// `(arguments of replay, expected output)` of each block that follows a `<!-- replay: … -->`.
fn blocks(readme: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    for part in readme.split("<!-- replay: ").skip(1) {
        let (arguments, rest) = part.split_once(" -->\n").expect("a closed comment");
        let body = rest.strip_prefix("```console\n").expect("a console block follows");
        let (body, _) = body.split_once("```").expect("a closed block");
        let (command, output) = body.split_once('\n').expect("a command line");
        assert!(command.starts_with("$ "), "{command}");
        blocks.push((arguments.to_owned(), output.to_owned()));
    }
    blocks
}

#[test]
fn every_session_in_the_readme_is_what_the_program_prints() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(here.join("../README.md")).expect("a README");
    let blocks = blocks(&readme);
    assert!(blocks.len() >= 3, "the README shows sessions");
    for (arguments, expected) in blocks {
        let output = Command::new(env!("CARGO_BIN_EXE_nattrace"))
            .arg("replay")
            .args(arguments.split(' '))
            .current_dir(here.join("tests/recordings"))
            .env("COLUMNS", "80")
            .env("TZ", "UTC")
            .output()
            .expect("the binary runs");
        let printed = String::from_utf8(output.stdout).expect("UTF-8");
        assert_eq!(printed, expected, "replay {arguments}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(
            printed.lines().all(|line| arguments.contains("nft") || line.chars().count() <= 80),
            "{printed}"
        );
    }
}
