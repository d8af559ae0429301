//! `docs/safety.md` lists every file with unsafe code, and how much of it there is.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') && name != "node_modules" {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Blocks, functions, implementations and attributes that are unsafe.
fn places(source: &str) -> usize {
    let code = source.lines().map(|line| line.split("//").next().unwrap_or_default());
    code.map(|line| {
        let words = line.match_indices("unsafe").map(|(at, word)| (&line[..at], &line[at + word.len()..]));
        words
            .filter(|(before, rest)| {
                !before.ends_with('_') && BEGINS.iter().any(|next| rest.starts_with(next))
            })
            .count()
    })
    .sum()
}

/// What follows the word where something is unsafe.
const BEGINS: [&str; 5] = [" {", " fn ", " impl ", " extern ", "("];

#[test]
fn every_file_with_unsafe_code_is_listed_with_its_places() {
    let workspace = workspace();
    let mut files = Vec::new();
    sources(&workspace, &mut files);
    let mut found = BTreeMap::new();
    for file in files {
        let count = places(&fs::read_to_string(&file).expect("a source"));
        let name = file.strip_prefix(&workspace).expect("of the workspace").display().to_string();
        if count > 0 {
            found.insert(name, count);
        }
    }
    let document = workspace.join("docs/safety.md");
    let text = fs::read_to_string(&document).expect("the document");
    let listed = |line: &str| {
        let (name, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
        let (count, why) = rest.split_once(" | ")?;
        let is_source = Path::new(name).extension().is_some_and(|extension| extension == "rs");
        is_source.then(|| Some((name.to_owned(), count.parse().ok()?, why.to_owned())))?
    };
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        let line = |line: &str| match listed(line) {
            Some((name, _, why)) => {
                format!("| `{name}` | {} | {why}\n", found.get(&name).copied().unwrap_or(0))
            }
            None => format!("{line}\n"),
        };
        fs::write(&document, text.lines().map(line).collect::<String>()).expect("written");
    }
    let text = fs::read_to_string(&document).expect("the document");
    let told: BTreeMap<String, usize> =
        text.lines().filter_map(listed).map(|(name, count, _)| (name, count)).collect();
    assert_eq!(told, found, "docs/safety.md lists the first, the sources have the second");
}
