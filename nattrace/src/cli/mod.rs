//! The command line: flags as typed, then a plan that nothing after it needs flags for.
//!
//! ```text
//! argv ── args (clap: strings as typed) ── resolve (values: each checked) ── plan (ready to run) ──▶ session
//! ```
//!
//! Every mistake is one line that names the flag, what is wrong with it, and what to type instead.

mod args;
mod exit;
mod generated;
mod impossible;
mod mistake;
mod otlp;
pub mod plan;
mod resolve;
mod terminal;
mod values;

use std::ffi::OsString;

use clap::{CommandFactory, FromArgMatches};

pub use exit::{ExitStatus, answer};
pub use mistake::Mistake;
pub use plan::Plan;
pub use terminal::Terminal;

use args::Args;

/// Why the command line gave no plan.
#[derive(Debug)]
pub enum Stop {
    /// Help or version was asked for: this text belongs on standard output, and all is well.
    Print(String),
    /// The user made a mistake.
    Mistake(Mistake),
}

impl From<Mistake> for Stop {
    fn from(mistake: Mistake) -> Self {
        Self::Mistake(mistake)
    }
}

/// Reads a command line, program name first.
pub fn parse<I>(argv: I, terminal: &Terminal) -> Result<Plan, Stop>
where
    I: IntoIterator<Item = OsString>,
{
    let argv: Vec<OsString> = argv.into_iter().collect();
    let typed = Args::command()
        .try_get_matches_from(&argv)
        .and_then(|matches| Args::from_arg_matches(&matches))
        .map_err(|error| match error.kind() {
            clap::error::ErrorKind::DisplayHelp | clap::error::ErrorKind::DisplayVersion => {
                let text = error.render();
                // The flags were not parsed to the end, so `--color` is read by eye.
                let color = terminal.color(color_by_eye(&argv), false);
                Stop::Print(if color { text.ansi().to_string() } else { text.to_string() })
            }
            _ => Stop::Mistake(mistake::from_clap(&error)),
        })?;
    resolve::resolve(typed, terminal)
}

/// The value of `--color` in a command line that asks for help.
fn color_by_eye(argv: &[OsString]) -> args::Color {
    use clap::ValueEnum;
    let mut previous = None;
    let mut found = args::Color::Auto;
    for arg in argv.iter().filter_map(|a| a.to_str()) {
        let value = arg.strip_prefix("--color=").or((previous == Some("--color")).then_some(arg));
        if let Some(color) = value.and_then(|v| args::Color::from_str(v, false).ok()) {
            found = color;
        }
        previous = Some(arg);
    }
    found
}
