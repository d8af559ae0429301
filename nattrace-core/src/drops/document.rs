//! docs/drops.md.

use std::fmt::Write as _;

use super::{Cause, Sign, catalogue, fixes};

const INTRODUCTION: &str = "\
# Why packets are dropped

Made from the catalogue in `nattrace-core/src/drops` by `UPDATE_EXPECTED=1 cargo test -p nattrace-core`: do not edit.

Each drop in a journey names its cause. `code` is that of the finding in JSON; *known by* is the kernel's drop reason
(5.17 and later), the kernel function that freed the packet, or what the packet carried then. Where a kernel gives less, a cause
that says less is named: what is not known is not guessed. Capital words stand for the packet's own address, port, device or next
hop, and for how long it waited; nattrace prints those.
";

/// The catalogue as Markdown.
#[must_use]
pub fn document() -> String {
    let mut text = INTRODUCTION.to_owned();
    for group in &catalogue::GROUPS {
        let _ = write!(text, "\n## {}\n", group.title);
        for cause in group.causes {
            describe(&mut text, cause);
        }
    }
    text
}

fn describe(text: &mut String, cause: &Cause) {
    let _ = write!(text, "\n### {}\n\n{}\n\n", cause.code, cause.means);
    let signs: Vec<String> = cause.signs.iter().map(sign).collect();
    let lines = [
        ("looks like", cause.looks),
        ("check", cause.check),
        ("fix", &fixes::template(cause.code).map(|command| format!("`{command}`")).unwrap_or_default()),
        ("counted by", cause.counter),
        ("known by", &signs.join("; ")),
    ];
    for (title, line) in lines.into_iter().filter(|(_, line)| !line.is_empty()) {
        let _ = writeln!(text, "- *{title}*: {line}");
    }
}

fn sign(sign: &Sign) -> String {
    let mut words = match (sign.reason, sign.function) {
        (Some(reason), Some(function)) => format!("`{reason}` in `{function}`"),
        (Some(reason), None) => format!("`{reason}`"),
        (None, Some(function)) => format!("`{function}`"),
        (None, None) => String::new(),
    };
    if let Some(fact) = sign.fact {
        let _ = write!(words, " ({})", fact.words());
    }
    if sign.likely {
        words.push_str(", likely");
    }
    words
}
