//! The lines of `nft -a -s monitor trace`, as values.

/// One line about a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// The trace id as nft prints it.
    pub(crate) id: String,
    /// Family, table and chain.
    pub(crate) place: Place,
    /// What it says.
    pub(crate) what: What,
}

/// Where a line (or a step) belongs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Family of the table.
    pub(crate) family: String,
    /// Table.
    pub(crate) table: String,
    /// Chain.
    pub(crate) chain: String,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.family, self.table, self.chain)
    }
}

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// A rule matched. The text is absent when nft does not know the handle, the handle too when nft does not
    /// print it.
    Rule {
        /// The rule's text.
        text: Option<String>,
        /// Its handle.
        handle: Option<u64>,
        /// `accept`, `jump NAME`, …
        verdict: String,
    },
    /// A base chain's policy decided.
    Policy {
        /// `accept` or `drop`.
        verdict: String,
    },
    /// The headers at the beginning of a base chain.
    Packet,
    /// The end of a chain, or conntrack's words.
    Other,
}

/// Reads the whole output. The error is the first line that cannot be understood: a witness that is
/// misunderstood is none.
pub(crate) fn parse(output: &str) -> Result<Vec<Line>, String> {
    output
        .lines()
        .filter(|line| line.starts_with("trace id "))
        .map(|line| parse_line(line.trim_end()).ok_or_else(|| line.to_owned()))
        .collect()
}

fn parse_line(line: &str) -> Option<Line> {
    let mut words = line.strip_prefix("trace id ")?.splitn(5, ' ');
    let id = words.next()?.to_owned();
    let mut word = || words.next().map(str::to_owned);
    let place = Place { family: word()?, table: word()?, chain: word()? };
    let rest = words.next()?;
    let what = if let Some(rule) = rest.strip_prefix("unknown rule handle ") {
        let (handle, verdict) = split_verdict(rule)?;
        What::Rule { text: None, handle: Some(handle.parse().ok()?), verdict }
    } else if let Some(rule) = rest.strip_prefix("rule ") {
        let (rule, verdict) = split_verdict(rule)?;
        let (text, handle) = split_handle(rule);
        What::Rule { text: Some(text.to_owned()), handle, verdict }
    } else if let Some(policy) = rest.strip_prefix("policy ") {
        What::Policy { verdict: policy.split_whitespace().next()?.to_owned() }
    } else if rest.starts_with("verdict return") {
        // Before Linux 6.7, nft prints an explicit `return` like this, though the kernel names the rule.
        What::Rule { text: None, handle: None, verdict: "return".to_owned() }
    } else if rest.starts_with("packet: ") {
        What::Packet
    } else if rest.starts_with("verdict ") || rest.starts_with("conntrack: ") {
        What::Other
    } else {
        return None;
    };
    Some(Line { id, place, what })
}

/// `TEXT (verdict jump x)`, with a mark after it or not. Comments may hold the same words: the last counts.
fn split_verdict(text: &str) -> Option<(&str, String)> {
    let begin = text.rfind(" (verdict ")?;
    let verdict = text[begin + " (verdict ".len()..].split(')').next()?;
    Some((&text[..begin], verdict.to_owned()))
}

/// `TEXT # handle N`, as `nft -a` writes at the end of a rule.
pub(super) fn split_handle(text: &str) -> (&str, Option<u64>) {
    match text.rsplit_once(" # handle ") {
        Some((rule, handle)) if handle.parse::<u64>().is_ok() => (rule, handle.parse().ok()),
        _ => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(line: &str) -> Line {
        parse(line).expect("a line").remove(0)
    }

    #[test]
    fn rules_with_handles_and_verdicts() {
        let line = one(
            "trace id 9c01f8aa inet filter forward rule ct status dnat jump allowed_dnats # handle 7 (verdict jump allowed_dnats)",
        );
        assert_eq!(line.id, "9c01f8aa");
        assert_eq!(line.place.to_string(), "inet filter forward");
        let What::Rule { text, handle, verdict } = line.what else { panic!("a rule") };
        assert_eq!(text.as_deref(), Some("ct status dnat jump allowed_dnats"));
        assert_eq!((handle, verdict.as_str()), (Some(7), "jump allowed_dnats"));
    }

    #[test]
    fn comments_cannot_forge_verdicts_or_handles() {
        let line = one(
            "trace id 00000001 inet f cls rule udp sport & 7 == 2 drop comment \"two (verdict accept) # handle 9\" # handle 5 (verdict drop) ",
        );
        let What::Rule { text, handle, verdict } = line.what else { panic!("a rule") };
        assert!(text.expect("text").ends_with("# handle 9\""));
        assert_eq!((handle, verdict.as_str()), (Some(5), "drop"));
    }

    #[test]
    fn unknown_handles_policies_and_the_rest() {
        let What::Rule { text: None, handle: Some(12), verdict } =
            one("trace id 00000001 inet f c unknown rule handle 12 (verdict continue)").what
        else {
            panic!("an unknown rule")
        };
        assert_eq!(verdict, "continue");
        let policy = one("trace id 00000001 inet f input policy drop meta mark 0x00000007 ");
        assert_eq!(policy.what, What::Policy { verdict: "drop".into() });
        assert_eq!(
            one("trace id 00000001 inet f pre packet: iif \"vb\" ip saddr 10.9.0.1 ").what,
            What::Packet
        );
        assert_eq!(one("trace id 00000001 inet f pre verdict continue ").what, What::Other);
        let What::Rule { text: None, handle: None, verdict } =
            one("trace id 00000001 inet f c verdict return ").what
        else {
            panic!("a rule that nft does not name")
        };
        assert_eq!(verdict, "return");
        assert_eq!(one("trace id 00000001 inet f pre conntrack: ct state new ").what, What::Other);
    }

    #[test]
    fn what_is_not_understood_is_said() {
        assert!(parse("trace id 00000001 inet f pre surprise").is_err());
        assert!(parse("trace id 00000001 inet").is_err());
        assert_eq!(parse("# something else\n"), Ok(Vec::new()));
    }
}
