//! A mistake of the user's, told in one line.

use std::fmt;

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::render::escape::escape;

/// What the user typed, why it cannot be, and what to do instead. Displays as one line, always.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// As typed: the flag and its value.
    pub typed: String,
    /// Why not.
    pub cause: String,
    /// What to type instead.
    pub remedy: String,
}

impl Mistake {
    pub(super) fn new(typed: impl Into<String>, cause: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { typed: typed.into(), cause: cause.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What was typed may hold anything, and is shown on a terminal.
        let line = format!("{}: {}; {}", self.typed, self.cause, self.remedy);
        f.write_str(&escape(&line))
    }
}

impl std::error::Error for Mistake {}

/// clap's answer in one line: its own spans several and ends with a usage dump.
pub(super) fn from_clap(error: &clap::Error) -> Mistake {
    let get = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(list)) => list.join(", "),
        Some(ContextValue::StyledStr(text)) => text.to_string(),
        _ => String::new(),
    };
    // "--dport <P>" and "--count <N>": the flag alone is what was typed.
    let flag = get(ContextKind::InvalidArg);
    let flag = flag.split(['=', ' ', '[']).next().unwrap_or_default().to_owned();
    let value = get(ContextKind::InvalidValue);
    let help = "`nattrace --help` lists all options";
    match error.kind() {
        ErrorKind::UnknownArgument if flag.starts_with('-') => {
            let root = super::args::Args::command();
            if root.get_arguments().any(|arg| arg.get_long() == flag.strip_prefix("--")) {
                let remedy = format!("leave {flag} out");
                return Mistake::new(flag, "the option has no meaning for this command", remedy);
            }
            let near = get(ContextKind::SuggestedArg);
            let remedy = if near.is_empty() { help.to_owned() } else { format!("did you mean {near}?") };
            Mistake::new(flag, "there is no such option here", remedy)
        }
        ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand => {
            let typed = match get(ContextKind::InvalidSubcommand) {
                word if word.is_empty() => flag,
                word => word,
            };
            let typed = if typed.is_empty() { "''".to_owned() } else { typed };
            let near = get(ContextKind::SuggestedSubcommand);
            if near.is_empty() {
                Mistake::new(
                    typed,
                    "a word that is neither an option nor a command",
                    "filters are options, as in `nattrace --proto tcp --dport 22`; the commands are \
                     check, replay, report, tui and anonymize",
                )
            } else {
                Mistake::new(typed, "there is no such command", format!("did you mean {near}?"))
            }
        }
        ErrorKind::InvalidValue if value.is_empty() => {
            let choices = get(ContextKind::ValidValue);
            let remedy = if choices.is_empty() {
                "give one after it".to_owned()
            } else {
                format!("give one of {choices}")
            };
            Mistake::new(flag, "the value is missing", remedy)
        }
        ErrorKind::InvalidValue => Mistake::new(
            format!("{flag} {value}"),
            "there is no such choice",
            format!("give one of {}", get(ContextKind::ValidValue)),
        ),
        ErrorKind::TooManyValues => Mistake::new(
            format!("{flag} {value}"),
            "the option takes no value",
            format!("write {flag} alone"),
        ),
        ErrorKind::ArgumentConflict => Mistake::new(flag, "given more than once", "give it once"),
        ErrorKind::MissingRequiredArgument => {
            let usage = get(ContextKind::Usage);
            let (command, what, example) = [
                ("anonymize", "FILE", "trace.rec -o public.rec"),
                ("report", "FILE", "trace.rec"),
                ("completions", "SHELL", "bash"),
            ]
            .into_iter()
            .find(|(command, ..)| usage.split_whitespace().any(|word| word == *command))
            .unwrap_or(("replay", "FILE", "trace.rec"));
            let remedy = format!("name one, as in `nattrace {command} {example}`");
            Mistake::new(command, format!("the {what} is missing"), remedy)
        }
        ErrorKind::InvalidUtf8 => {
            Mistake::new("command line", "it holds bytes that are not UTF-8", "write it in UTF-8")
        }
        _ => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or("it was not understood");
            let first = first.strip_prefix("error: ").unwrap_or(first).to_owned();
            Mistake::new("command line", first, help)
        }
    }
}
