//! Rules in the syntax of iptables: `-A FORWARD -p tcp -m comment --comment "a \"b\"" -j ACCEPT`.

/// What a rule does with what it matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Nothing.
    None,
    /// `-j`.
    Jump(String),
    /// `-g`.
    Goto(String),
    /// Its text can be read in two ways.
    Unclear,
}

impl Target {
    /// Where it sends the packet: the word after `-j` or `-g`.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Jump(name) | Self::Goto(name) => Some(name),
            Self::None | Self::Unclear => None,
        }
    }
}

/// Whether a packet goes on to the next rule behind this target, whatever it did.
pub(crate) fn target_goes_on(name: &str) -> bool {
    matches!(
        name,
        "AUDIT"
            | "CHECKSUM"
            | "CLASSIFY"
            | "CONNMARK"
            | "CONNSECMARK"
            | "CT"
            | "DNPT"
            | "DSCP"
            | "ECN"
            | "HL"
            | "HMARK"
            | "IDLETIMER"
            | "LED"
            | "LOG"
            | "MARK"
            | "NFLOG"
            | "NOTRACK"
            | "RATEEST"
            | "SECMARK"
            | "SET"
            | "SNPT"
            | "TCPMSS"
            | "TCPOPTSTRIP"
            | "TEE"
            | "TOS"
            | "TRACE"
            | "TTL"
            | "ULOG"
    )
}

/// The target of a rule in iptables' syntax (a line of `iptables-save`); `None` for rules in another syntax.
///
/// An argument can look like an option (`--comment -j`): what is not followed by a name is none.
#[must_use]
pub fn iptables_target(rule: &str) -> Option<Target> {
    if !rule.starts_with("-A ") {
        return None;
    }
    let Some(words) = words(rule) else { return Some(Target::Unclear) };
    let mut found = Target::None;
    for pair in words.windows(2) {
        let [(false, option), (false, name)] = pair else { continue };
        if name.starts_with(['-', '!']) || !matches!(option.as_str(), "-j" | "-g") {
            continue;
        }
        if found != Target::None {
            return Some(Target::Unclear);
        }
        found = if option == "-j" { Target::Jump(name.clone()) } else { Target::Goto(name.clone()) };
    }
    Some(found)
}

/// Whether a quoted text is open at the end of `rule`, which then goes on in the next line.
#[must_use]
pub fn iptables_quote_is_open(rule: &str) -> bool {
    words(rule).is_none()
}

/// The words of a rule, and whether they were quoted: they are where they hold anything unusual, and then a backslash
/// takes the meaning from the character that follows (libxtables `xtables_save_string`). `None` where a quote is open at
/// the end.
pub(crate) fn words(rule: &str) -> Option<Vec<(bool, String)>> {
    let mut words = Vec::new();
    let (mut word, mut quoted, mut inside, mut escaped) = (String::new(), false, false, false);
    for c in rule.chars() {
        match c {
            _ if escaped => {
                word.push(c);
                escaped = false;
            }
            '\\' if inside => escaped = true,
            '"' => {
                inside = !inside;
                quoted = true;
            }
            ' ' if !inside => {
                if quoted || !word.is_empty() {
                    words.push((quoted, std::mem::take(&mut word)));
                }
                quoted = false;
            }
            _ => word.push(c),
        }
    }
    if quoted || !word.is_empty() {
        words.push((quoted, word));
    }
    (!inside).then_some(words)
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
            ("-A u -m comment --comment -j -j DROP", Some("DROP")),
            ("-A u -m odd --odd -j ACCEPT -j DROP", None),
            ("tcp dport 80 accept comment \"-A x -j ACCEPT\"", None),
            ("", None),
        ];
        for (rule, name) in cases {
            let target = iptables_target(rule);
            assert_eq!(target.as_ref().and_then(Target::name), name, "{rule}");
            assert_eq!(target.is_some(), rule.starts_with("-A"), "{rule}");
            assert!(!iptables_quote_is_open(rule), "{rule}");
        }
        assert!(iptables_quote_is_open(r#"-A u -m comment --comment "open \""#));
    }
}
