//! Pictures of recordings made on a real kernel, as they were when somebody last looked at them.
//!
//! `UPDATE_EXPECTED=1 cargo test -p nattrace --test pictures` makes them anew: look at them before they are kept.

use std::path::Path;
use std::process::Command;

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
