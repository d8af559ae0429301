//! docs/kernels.md: which scenarios a kernel cannot express, and why.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

const INTRODUCTION: &str = "\
# What a kernel cannot express

Made from the scenarios' `since` and `until` by `UPDATE_EXPECTED=1 cargo test -p nattrace-tests`: do not edit. All others are
written for Debian's 5.10, 6.1, 6.12 and 7.3 alike; where a kernel tells less, they say what it tells.

| scenario | on kernels | because |
|---|---|---|
";

/// The limits of one scenario (`since 5.12`), and the comment above them.
fn limits(text: &str) -> Option<(String, String)> {
    let mut reason = String::new();
    let mut limits: Vec<String> = Vec::new();
    for line in text.lines().take_while(|line| !line.starts_with('[')) {
        if let Some(comment) = line.strip_prefix("# ").filter(|_| limits.is_empty()) {
            reason.push_str(if reason.is_empty() { "" } else { " " });
            reason.push_str(comment);
        } else if let Some((key @ ("since" | "until"), value)) = line.split_once(" = ") {
            let from = if key == "since" { "from" } else { "before" };
            limits.push(format!("{from} {}", value.trim_matches('"')));
        } else if limits.is_empty() {
            reason.clear();
        }
    }
    (!limits.is_empty()).then(|| (limits.join(", "), reason))
}

fn document(scenarios: &Path) -> String {
    let entries = fs::read_dir(scenarios).expect("the scenarios").flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    let mut told = INTRODUCTION.to_owned();
    for name in names {
        let text = fs::read_to_string(scenarios.join(&name).join("scenario.toml")).unwrap_or_default();
        if let Some((limits, reason)) = limits(&text) {
            assert!(!reason.is_empty(), "{name} says no reason above its limits");
            let _ = writeln!(told, "| {name} | {limits} | {reason} |");
        }
    }
    told
}

#[test]
fn the_document_is_what_the_scenarios_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (found, file) = (document(&root.join("scenarios")), root.join("../docs/kernels.md"));
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(&file, &found).expect("docs can be written");
    }
    let expected = fs::read_to_string(&file).unwrap_or_default();
    assert!(found == expected, "docs/kernels.md is not what the scenarios say: UPDATE_EXPECTED=1 writes it");
}

#[test]
fn the_reason_stands_above_the_limit() {
    let text =
        "about = \"x\"\n# Not this.\nalone = true\n# Because.\nsince = \"5.12\"\n[[action]]\nsince = \"9\"\n";
    assert_eq!(limits(text), Some(("from 5.12".to_owned(), "Because.".to_owned())));
    assert_eq!(limits("about = \"x\"\n"), None);
}
