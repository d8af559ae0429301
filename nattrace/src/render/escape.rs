//! Untrusted text made fit for a terminal.
//!
//! Rule comments, device, chain and namespace names and command lines hold whatever somebody put there. A
//! terminal obeys control characters, and readers are misled by characters that reorder or hide others.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Shows control characters, and characters that reorder, hide or break text, as their escapes: `\n`,
/// `\x1b`, `\u{202e}`. Text without them is returned as it is.
#[must_use]
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            c if c.is_ascii() && is_unsafe(c) => {
                let _ = write!(escaped, "\\x{:02x}", u32::from(c));
            }
            c if is_unsafe(c) => {
                let _ = write!(escaped, "\\u{{{:x}}}", u32::from(c));
            }
            c => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}

/// Whether a terminal or a reader would do something else with the character than show it.
pub(crate) fn is_unsafe(c: char) -> bool {
    // C0, DEL and C1: U+009B alone is CSI to a terminal.
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}'
            // zero width, and the marks and overrides that reorder text
            | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            // line and paragraph separators
            | '\u{2028}' | '\u{2029}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_stays() {
        for text in ["", "ip daddr 10.1.2.3 accept", "comment \"größer → 東京\"", r"back\slash"] {
            assert!(matches!(escape(text), Cow::Borrowed(same) if same == text));
        }
    }

    #[test]
    fn a_terminal_is_told_nothing() {
        assert_eq!(escape("\x1b[31mred\x1b[0m"), r"\x1b[31mred\x1b[0m");
        assert_eq!(escape("\u{9b}2J"), r"\u{9b}2J");
        assert_eq!(escape("\x1b]0;title\x07"), r"\x1b]0;title\x07");
        assert_eq!(escape("a\r\nb\tc\0\x7f\x08"), r"a\r\nb\tc\x00\x7f\x08");
    }

    #[test]
    fn a_reader_is_not_misled() {
        assert_eq!(escape("drop\u{202e}tpecca"), r"drop\u{202e}tpecca");
        assert_eq!(escape("et\u{200b}h0"), r"et\u{200b}h0");
        assert_eq!(escape("one\u{2028}two"), r"one\u{2028}two");
    }
}
