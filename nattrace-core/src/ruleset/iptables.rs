//! Rules in the syntax of iptables: `-A FORWARD -p tcp -m comment --comment "a \"b\"" -j ACCEPT`.

/// Where a rule in iptables' syntax (a line of `iptables-save`) sends a packet that it matches: the word after
/// `-j` or `-g`. `None` where it sends it nowhere, and for rules in another syntax.
#[must_use]
pub fn iptables_target(rule: &str) -> Option<&str> {
    let mut quotes = Quotes::default();
    // A text between quotes is a word, quotes and all.
    let mut words = rule.split(|c| !quotes.inside(c) && c.is_whitespace()).filter(|word| !word.is_empty());
    if words.next() != Some("-A") {
        return None;
    }
    words.find(|word| matches!(*word, "-j" | "-g"))?;
    words.next()
}

/// Whether a quoted text is open at the end of `rule`, which then goes on in the next line.
#[must_use]
pub fn iptables_quote_is_open(rule: &str) -> bool {
    let mut quotes = Quotes::default();
    for c in rule.chars() {
        quotes.inside(c);
    }
    quotes.open
}

/// Between quotes a backslash takes the meaning from the character that follows (libxtables
/// `xtables_save_string`).
#[derive(Debug, Default)]
struct Quotes {
    open: bool,
    escaped: bool,
}

impl Quotes {
    /// Takes the next character; whether quoted text goes on after it.
    fn inside(&mut self, c: char) -> bool {
        match c {
            _ if self.escaped => self.escaped = false,
            '\\' if self.open => self.escaped = true,
            '"' => self.open = !self.open,
            _ => {}
        }
        self.open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_is_not_in_the_comment() {
        let cases = [
            (r"-A FORWARD -p tcp -m tcp --dport 80 -j ACCEPT", Some("ACCEPT")),
            (r#"-A u -m comment --comment "x\" -j DROP" -j RETURN"#, Some("RETURN")),
            ("-A u -m comment --comment \"two\nlines -g x\" -g chain", Some("chain")),
            (r#"-A u -m comment --comment "ends in \\" -j DNAT --to-destination 10.0.0.1:80"#, Some("DNAT")),
            ("-A u -p udp", None),
            ("tcp dport 80 accept comment \"-A x -j ACCEPT\"", None),
            ("", None),
        ];
        for (rule, target) in cases {
            assert_eq!(iptables_target(rule), target, "{rule}");
            assert!(!iptables_quote_is_open(rule), "{rule}");
        }
        assert!(iptables_quote_is_open(r#"-A u -m comment --comment "open \""#));
    }
}
