//! What is known of the terminal and of the user's wishes for it, read once.

use std::env;
use std::io::IsTerminal;

use super::args::Color;

/// The surroundings that decide about colour and width.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terminal {
    /// Standard output is a terminal.
    pub stdout: bool,
    /// `NO_COLOR` is set and not empty (no-color.org).
    pub no_color: bool,
    /// `TERM=dumb`.
    pub dumb: bool,
    /// `COLUMNS`, when somebody exported it: shells do not do so on their own.
    pub columns: Option<usize>,
}

impl Terminal {
    /// Looks at this process's surroundings.
    #[must_use]
    pub fn of_this_process() -> Self {
        Self {
            stdout: std::io::stdout().is_terminal(),
            no_color: env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty()),
            dumb: env::var_os("TERM").is_some_and(|v| v == "dumb"),
            columns: env::var("COLUMNS").ok().and_then(|v| v.parse().ok()).filter(|c| *c > 0),
        }
    }

    /// Whether to use colour. A file is not a terminal, wherever standard output goes.
    pub(super) fn color(&self, choice: Color, to_file: bool) -> bool {
        match choice {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => self.stdout && !to_file && !self.no_color && !self.dumb,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_for_terminals_unless_told() {
        let terminal = Terminal { stdout: true, ..Terminal::default() };
        assert!(terminal.color(Color::Auto, false));
        assert!(!terminal.color(Color::Auto, true), "a file under -o");
        assert!(!Terminal { no_color: true, ..terminal.clone() }.color(Color::Auto, false));
        assert!(!Terminal { dumb: true, ..terminal.clone() }.color(Color::Auto, false));
        assert!(!Terminal::default().color(Color::Auto, false), "a pipe");
        assert!(Terminal { no_color: true, ..Terminal::default() }.color(Color::Always, true));
        assert!(!terminal.color(Color::Never, false));
    }
}
