//! A rule's text in words.

/// A word, with where it stands in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word<'a> {
    pub(super) text: &'a str,
    pub(super) quoted: bool,
    pub(super) begin: usize,
    pub(super) end: usize,
}

/// Splits at blanks and around `{ } ( ) ,`; what is between quotes stays whole. A comma within a word (`established,related`)
/// is part of it.
pub(super) fn words(text: &str) -> Vec<Word<'_>> {
    let mut found = Vec::with_capacity(text.len() / 5 + 1);
    let mut rest = text.char_indices().peekable();
    while let Some((begin, c)) = rest.next() {
        if c.is_whitespace() {
            continue;
        }
        if c == '"' {
            let end = rest.by_ref().find(|(_, c)| *c == '"').map_or(text.len(), |(at, _)| at);
            let inner = text.get(begin + 1..end).unwrap_or_default();
            found.push(Word { text: inner, quoted: true, begin, end: (end + 1).min(text.len()) });
            continue;
        }
        let mut end = begin + c.len_utf8();
        if !matches!(c, '{' | '}' | '(' | ')' | ',') {
            while let Some((at, next)) = rest.peek().copied() {
                let ends_list = next == ','
                    && text
                        .get(at + 1..)
                        .is_none_or(|after| after.starts_with([' ', '\n']) || after.is_empty());
                if next.is_whitespace() || matches!(next, '{' | '}' | '(' | ')') || ends_list {
                    break;
                }
                end = at + next.len_utf8();
                rest.next();
            }
        }
        found.push(Word { text: text.get(begin..end).unwrap_or_default(), quoted: false, begin, end });
    }
    found
}
