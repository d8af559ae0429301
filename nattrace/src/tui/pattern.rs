//! What is typed to find or to filter.

/// Words that all must be there, whatever their case; one behind `!` must not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Pattern {
    typed: String,
    words: Vec<(bool, String)>,
}

impl Pattern {
    /// Of what was typed.
    pub(crate) fn new(typed: &str) -> Self {
        let word = |word: &str| match word.strip_prefix('!') {
            Some(unwanted) => (false, unwanted.to_lowercase()),
            None => (true, word.to_lowercase()),
        };
        // A lonely `!` is the beginning of a word.
        let words = typed.split_whitespace().map(word).filter(|(_, word)| !word.is_empty()).collect();
        Self { typed: typed.to_owned(), words }
    }

    /// As it was typed.
    pub(crate) fn typed(&self) -> &str {
        &self.typed
    }

    /// Whether it says nothing, and so fits everything.
    pub(crate) fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Whether a text, which is in lower case, has what is wanted.
    pub(crate) fn fits(&self, text: &str) -> bool {
        self.words.iter().all(|(wanted, word)| text.contains(word.as_str()) == *wanted)
    }

    /// The words that are wanted, in lower case.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = &str> {
        self.words.iter().filter(|(wanted, _)| *wanted).map(|(_, word)| word.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_words_must_fit() {
        let text = "#1 tcp 10.2.1.2:40726 → 10.1.2.3:1222 dropped by inet filter forward";
        for (typed, fits) in [
            ("", true),
            ("   ", true),
            ("10.1.2.3", true),
            (":1222 Dropped", true),
            ("dropped udp", false),
            ("tcp !sent", true),
            ("tcp !dropped", false),
            ("!", true),
        ] {
            assert_eq!(Pattern::new(typed).fits(text), fits, "{typed}");
        }
        assert_eq!(Pattern::new("a !b C").wanted().collect::<Vec<_>>(), ["a", "c"]);
    }
}
