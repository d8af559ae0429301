//! Which key does what: one table, for the keys themselves, the help, and the documentation.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    /// One line up.
    Up,
    /// One line down.
    Down,
    /// One screenful up.
    PageUp,
    /// One screenful down.
    PageDown,
    /// To the first line.
    First,
    /// To the last line.
    Last,
    /// Hide the packets of a connection.
    Fold,
    /// Show them.
    Unfold,
    /// Hide or show those of all connections.
    FoldAll,
    /// Keys move in the other pane.
    OtherPane,
    /// The chosen packet on the whole screen.
    Whole,
    /// Back to where one came from.
    Back,
    /// Filter as one types.
    Filter,
    /// Search.
    Search,
    /// The next that fits.
    Next,
    /// The one before.
    Previous,
    /// Stand still, or go on.
    Pause,
    /// The newest stays in view.
    Follow,
    /// What drops packets.
    Causes,
    /// Copy the fix.
    Copy,
    /// What the program said.
    Log,
    /// The keys.
    Help,
    /// End.
    Quit,
}

/// Keys that belong together, as a line of the help.
#[derive(Debug)]
pub(crate) struct Binding {
    keys: &'static [(KeyCode, KeyModifiers, Command)],
    /// The keys as they are shown.
    pub(crate) shown: &'static str,
    /// What they do, in words.
    pub(crate) what: &'static str,
}

const NONE: KeyModifiers = KeyModifiers::NONE;
const CTRL: KeyModifiers = KeyModifiers::CONTROL;

const fn key(c: char, command: Command) -> (KeyCode, KeyModifiers, Command) {
    (KeyCode::Char(c), NONE, command)
}

const fn ctrl(c: char, command: Command) -> (KeyCode, KeyModifiers, Command) {
    (KeyCode::Char(c), CTRL, command)
}

/// All of them, in the order of the help.
pub(crate) const BINDINGS: [Binding; 18] = [
    Binding {
        keys: &[
            (KeyCode::Up, NONE, Command::Up),
            (KeyCode::Down, NONE, Command::Down),
            key('k', Command::Up),
            key('j', Command::Down),
        ],
        shown: "↑ ↓ k j",
        what: "one up, one down; ends following",
    },
    Binding {
        keys: &[
            (KeyCode::PageUp, NONE, Command::PageUp),
            (KeyCode::PageDown, NONE, Command::PageDown),
            ctrl('b', Command::PageUp),
            ctrl('f', Command::PageDown),
            ctrl('u', Command::PageUp),
            ctrl('d', Command::PageDown),
        ],
        shown: "PgUp PgDn",
        what: "a screenful up, down; ^B ^F, too",
    },
    Binding {
        keys: &[
            (KeyCode::Home, NONE, Command::First),
            (KeyCode::End, NONE, Command::Last),
            key('g', Command::First),
            key('G', Command::Last),
        ],
        shown: "Home End",
        what: "to the first, to the last; g G, too",
    },
    Binding {
        keys: &[
            (KeyCode::Left, NONE, Command::Fold),
            (KeyCode::Right, NONE, Command::Unfold),
            key('h', Command::Fold),
            key('l', Command::Unfold),
        ],
        shown: "← → h l",
        what: "fold the packets of the connection away, unfold them",
    },
    Binding { keys: &[key('z', Command::FoldAll)], shown: "z", what: "fold or unfold all connections" },
    Binding {
        keys: &[(KeyCode::Tab, NONE, Command::OtherPane)],
        shown: "Tab",
        what: "scroll what is chosen; again: back to the list",
    },
    Binding {
        keys: &[(KeyCode::Enter, NONE, Command::Whole)],
        shown: "Enter",
        what: "what is chosen on the whole screen",
    },
    Binding {
        keys: &[(KeyCode::Esc, NONE, Command::Back)],
        shown: "Esc",
        what: "back; in the list: no filter any more",
    },
    Binding {
        keys: &[key('f', Command::Filter)],
        shown: "f",
        what: "filter as you type: all words must be there, !word must not",
    },
    Binding {
        keys: &[key('/', Command::Search)],
        shown: "/",
        what: "search: addresses, ports, ends, rules, chains, devices",
    },
    Binding {
        keys: &[key('n', Command::Next), key('N', Command::Previous)],
        shown: "n N",
        what: "the next that was searched, the one before",
    },
    Binding {
        keys: &[key('p', Command::Pause), key(' ', Command::Pause)],
        shown: "p Space",
        what: "pause the display, while the trace goes on; again: go on",
    },
    Binding {
        keys: &[key('F', Command::Follow)],
        shown: "F",
        what: "follow: the newest packet stays in view",
    },
    Binding {
        keys: &[key('c', Command::Causes)],
        shown: "c",
        what: "causes: what drops packets, the most frequent first",
    },
    Binding { keys: &[key('y', Command::Copy)], shown: "y", what: "copy the fix, and show it alone" },
    Binding { keys: &[key('m', Command::Log)], shown: "m", what: "messages: what nattrace said" },
    Binding {
        keys: &[key('?', Command::Help), (KeyCode::F(1), NONE, Command::Help)],
        shown: "? F1",
        what: "these keys",
    },
    Binding {
        keys: &[key('q', Command::Quit), ctrl('c', Command::Quit)],
        shown: "q ^C",
        what: "quit; prints the sum and the fixes that were looked at",
    },
];

/// What a key asks for where no text is typed.
pub(crate) fn command(pressed: &KeyEvent) -> Option<Command> {
    // A capital letter may come with Shift or without.
    let modifiers = pressed.modifiers.difference(KeyModifiers::SHIFT);
    let mut keys = BINDINGS.iter().flat_map(|binding| binding.keys);
    keys.find(|(code, with, _)| (*code, *with) == (pressed.code, modifiers)).map(|(_, _, command)| *command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_does_two_things() {
        let keys: Vec<_> = BINDINGS.iter().flat_map(|binding| binding.keys).collect();
        for (i, key) in keys.iter().enumerate() {
            assert!(keys[..i].iter().all(|other| (other.0, other.1) != (key.0, key.1)), "{key:?}");
        }
        assert_eq!(command(&KeyEvent::new(KeyCode::Char('G'), KeyModifiers::SHIFT)), Some(Command::Last));
        assert_eq!(command(&KeyEvent::new(KeyCode::Char('c'), CTRL)), Some(Command::Quit));
        assert_eq!(command(&KeyEvent::new(KeyCode::Char('c'), NONE)), Some(Command::Causes));
    }
}
