//! What is said of a rule that did not rewrite a packet, and what to type so that it does.

use super::remedy::{add_element, iptables};
use super::{Candidate, Dialect, Miss, Passed, Place};
use crate::evaluate::{Answer, Asks, Moment};
use crate::event::HookPoint;
use crate::findings::{Certainty, Finding, is_plain, is_plain_element};
use crate::packet::Packet;

/// A rule that matches, behind one that took the packet.
pub(super) struct Late<'a> {
    pub(super) rule: &'a Candidate<'a>,
    pub(super) taken_by: &'a Candidate<'a>,
    pub(super) way: &'a Passed<'a>,
}

/// A chain that nothing leads to.
pub(super) struct Nowhere<'a> {
    pub(super) chain: &'a str,
    pub(super) hook: HookPoint,
    /// A chain of type nat of the same table that hangs where it should be.
    pub(super) base: Option<&'a str>,
}

pub(super) fn nearly(
    place: &Place<'_>,
    miss: &Miss<'_>,
    ways: &[Passed<'_>],
    moment: &Moment<'_>,
) -> Finding {
    let rule = place.name(miss.rule, miss.chain);
    let failure = &miss.failure;
    let (lacks, fix) = match &failure.lookup {
        Some(lookup) => {
            // What a map lacks leads somewhere, and nobody knows where.
            let fix = add_element(place, lookup).filter(|_| !has_map(&failure.expression));
            (format!("{} is not in {}", lookup.element, lookup.set), fix)
        }
        None => (
            format!("for `{}`: the packet has {}", failure.expression, failure.packet),
            ways.iter().find(|way| way.chain == miss.chain).and_then(|way| wider(place, miss, way, moment)),
        ),
    };
    Finding {
        code: "dnat-nearly-matched",
        text: format!("Its destination was not rewritten. {rule} would have done so, but {lacks}."),
        fix: fix.into_iter().collect(),
        certainty: Certainty::Likely,
        steps: Vec::new(),
        near: Some(place.refer(miss.rule, miss.chain)),
    }
}

/// Whether a rule was likely meant for the packet: it has the port that the rule asks for, or one that is a slip away.
pub(super) fn is_meant(miss: &Miss<'_>) -> bool {
    let failure = &miss.failure;
    let of_ports = ["dport", "sport", "-ports"].iter().any(|name| failure.expression.contains(name));
    match failure.asks {
        Asks::End if of_ports => {
            let wanted = failure.expression.rsplit(' ').next().unwrap_or_default();
            failure.lookup.is_none() && one_slip_apart(wanted, &failure.packet)
        }
        _ => miss.held > 0,
    }
}

/// Whether two numbers differ in one digit, one of them missing or two of them swapped.
fn one_slip_apart(one: &str, other: &str) -> bool {
    if ![one, other].into_iter().all(|number| number.parse::<u16>().is_ok()) {
        return false;
    }
    let common = one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    let (a, b) = (one.as_bytes(), other.as_bytes());
    let rest = |number: &[u8], skip: usize| number.get(common + skip..).map(<[u8]>::to_vec);
    let swapped = || {
        a.len() == b.len()
            && a.get(common) == b.get(common + 1)
            && a.get(common + 1) == b.get(common)
            && rest(a, 2) == rest(b, 2)
    };
    let changed = rest(a, 1).is_some() && rest(a, 1) == rest(b, 1);
    let missing = (rest(a, 1).is_some() && rest(a, 1) == rest(b, 0))
        || (rest(b, 1).is_some() && rest(a, 0) == rest(b, 1));
    changed || missing || swapped()
}

fn has_map(expression: &str) -> bool {
    expression.split_whitespace().any(|word| word == "map")
}

/// The rule once more, for the packet's own value, in front of the one that nearly matched.
fn wider(place: &Place<'_>, miss: &Miss<'_>, way: &Passed<'_>, moment: &Moment<'_>) -> Option<String> {
    let (rule, failure) = (miss.rule, &miss.failure);
    if has_map(&failure.expression) || failure.expression.contains('!') {
        return None;
    }
    let end = failure.expression.find('{').or_else(|| failure.expression.rfind(' ').map(|at| at + 1))?;
    let key = failure.expression.get(..end)?;
    if !is_plain_element(&failure.packet) {
        return None;
    }
    let of_devices = rule.dialect == Dialect::Nft && ["iif", "oif"].iter().any(|name| key.contains(name));
    let like = match (failure.packet.contains(" . "), of_devices) {
        // nft compares several values at once with a set alone.
        (true, false) => format!("{key}{{ {} }}", failure.packet),
        (true, true) => return None,
        // A name can be a word of nft's.
        (false, true) => format!("{key}\"{}\"", failure.packet),
        (false, false) => format!("{key}{}", failure.packet),
    };
    let text = rule.text.replacen(&failure.expression, &like, 1);
    // It would match: else it is not what to type.
    let matches = matches!(rule.dialect.read(&text).judge(moment, &|_| None), Answer::Matches(_));
    matches.then(|| insert(place, way, rule, &text)).flatten()
}

pub(super) fn late(place: &Place<'_>, found: &Late<'_>) -> Finding {
    let Late { rule, taken_by, way } = found;
    let number = place.number();
    Finding {
        code: "dnat-comes-too-late",
        text: format!(
            "{} matches it, too, but \"{}\" ({number} {}) comes before it and decides.",
            place.name(rule, way.chain),
            taken_by.text,
            taken_by.handle
        ),
        fix: insert(place, way, taken_by, rule.text).into_iter().collect(),
        certainty: Certainty::Likely,
        steps: Vec::new(),
        near: Some(place.refer(rule, way.chain)),
    }
}

/// The chain of a table for what this host sends.
#[derive(Clone, Copy)]
pub(super) enum Output<'a> {
    Chain(&'a str),
    /// There is none.
    Missing,
    /// There is none, and its name is another's.
    NameTaken,
}

pub(super) fn for_others(
    place: &Place<'_>,
    rule: &Candidate<'_>,
    chain: &str,
    output: Output<'_>,
    packet: &Packet,
    matches: impl Fn(&str) -> bool,
) -> Finding {
    let (family, table) = (place.family.name(), place.table);
    let text = for_this_destination(&without_device(rule.text), packet);
    let loopback = packet.source.is_some_and(|source| source.addr.is_loopback());
    let works = matches(&text) && !loopback && is_plain(table);
    let fix = match output {
        Output::Missing if works && rule.dialect == Dialect::Nft => statement(&text).map(|text| {
            vec![
                format!("nft 'add chain {family} {table} output {{ type nat hook output priority -100; }}'"),
                format!("nft add rule {family} {table} output {text}"),
            ]
        }),
        Output::Chain(chain) if works && is_plain(chain) => {
            add(place, chain, rule.dialect, &text).map(|command| vec![command])
        }
        _ => None,
    };
    let loopback = if loopback { " What comes from a loopback address cannot leave this host." } else { "" };
    Finding {
        code: "dnat-not-for-local",
        text: format!(
            "This host sent it itself. {} would rewrite it, but is asked for what comes in alone: what this host sends is \
             rewritten in output.{loopback}",
            place.name(rule, chain)
        ),
        fix: fix.unwrap_or_default(),
        certainty: Certainty::Likely,
        steps: Vec::new(),
        near: Some(place.refer(rule, chain)),
    }
}

pub(super) fn without_hook(place: &Place<'_>, rule: &Candidate<'_>, found: &Nowhere<'_>) -> Finding {
    let Nowhere { chain, hook, base } = found;
    let (family, table, hook) = (place.family.name(), place.table, hook.name());
    let plain = rule.dialect == Dialect::Nft && [table, *chain].into_iter().all(is_plain);
    let fix = match base {
        Some(base) if plain && is_plain(base) => {
            vec![format!("nft add rule {family} {table} {base} jump {chain}")]
        }
        None if plain => vec![
            format!(
                "nft 'add chain {family} {table} {chain}_{hook} {{ type nat hook {hook} priority -100; }}'"
            ),
            format!("nft add rule {family} {table} {chain}_{hook} jump {chain}"),
        ],
        _ => Vec::new(),
    };
    Finding {
        code: "chain-without-hook",
        text: format!(
            "{} would rewrite it, but no packet comes there: the chain hangs in no hook, and no rule leads to it.",
            place.name(rule, chain)
        ),
        fix,
        certainty: Certainty::Likely,
        steps: Vec::new(),
        near: Some(place.refer(rule, chain)),
    }
}

/// A rule that is for this destination alone: without its device it would be for all that this host sends.
fn for_this_destination(text: &str, packet: &Packet) -> String {
    let Some(to) = packet.destination.map(|destination| destination.addr) else { return text.to_owned() };
    let mut words = text.split_whitespace().collect::<Vec<_>>();
    let names = |pair: &[&str]| match pair {
        ["daddr" | "-d", "!=" | "!"] | ["!", "-d"] => false,
        [word, _] => matches!(*word, "daddr" | "-d"),
        _ => false,
    };
    let negated = |at: usize| at > 0 && words.get(at - 1) == Some(&"!");
    if words.windows(2).enumerate().any(|(at, pair)| names(pair) && !negated(at)) {
        return text.to_owned();
    }
    let to = to.to_string();
    let family = if to.contains(':') { "ip6" } else { "ip" };
    match words.first() {
        Some(&"-A") => words.splice(2..2, ["-d", &to]).for_each(drop),
        _ => words.splice(0..0, [family, "daddr", &to]).for_each(drop),
    }
    words.join(" ")
}

/// A rule that does not ask by which device a packet came.
fn without_device(text: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut words = text.split_whitespace().peekable();
    while let Some(word) = words.next() {
        match word {
            "iif" | "iifname" | "-i" => {
                words.next_if_eq(&"!=");
                if words.next() == Some("{") {
                    words.by_ref().find(|word| *word == "}");
                }
                if word == "-i" && kept.last() == Some(&"!") {
                    kept.pop();
                }
                if kept.last() == Some(&"meta") {
                    kept.pop();
                }
            }
            _ => kept.push(word),
        }
    }
    kept.join(" ")
}

/// A rule as one types it: without its comment, in quotes where a shell would take parts of it for its own.
fn statement(text: &str) -> Option<String> {
    let text = text.split(" comment \"").next()?;
    let shells = |c: char| !(c.is_ascii_alphanumeric() || " .,:/@-_{}=+".contains(c));
    match text {
        text if text.contains(['\'', '\n']) => None,
        text if text.contains(shells) => Some(format!("'{text}'")),
        text => Some(text.to_owned()),
    }
}

/// Puts a rule in front of another.
fn insert(place: &Place<'_>, way: &Passed<'_>, before: &Candidate<'_>, text: &str) -> Option<String> {
    if ![place.table, way.chain].into_iter().all(is_plain) || is_managed(place, way.chain) {
        return None;
    }
    if before.dialect == Dialect::Nft {
        let (family, table, chain) = (place.family.name(), place.table, way.chain);
        let text = statement(text)?;
        return Some(format!("nft insert rule {family} {table} {chain} handle {} {text}", before.handle));
    }
    let number = way.rules.as_deref()?.iter().position(|rule| rule.handle == before.handle)? + 1;
    let rest = of_iptables(text)?;
    Some(format!("{} -t {} -I {} {number} {rest}", iptables(place, way)?, place.table, way.chain))
}

/// Puts a rule at the end of a chain.
fn add(place: &Place<'_>, chain: &str, dialect: Dialect, text: &str) -> Option<String> {
    if is_managed(place, chain) {
        return None;
    }
    if dialect == Dialect::Nft {
        return Some(format!(
            "nft add rule {} {} {chain} {}",
            place.family.name(),
            place.table,
            statement(text)?
        ));
    }
    let program = if dialect == Dialect::Ip6tables { "ip6tables-nft" } else { "iptables-nft" };
    Some(format!("{program} -t {} -A {chain} {}", place.table, of_iptables(text)?))
}

/// What `iptables-save` prints, without the chain and the comment; `None` where a shell would read something else.
fn of_iptables(text: &str) -> Option<String> {
    const COMMENT: &str = "-m comment --comment ";
    let mut rest = text.strip_prefix("-A ")?.split_once(' ')?.1.to_owned();
    if let Some(at) = rest.find(COMMENT) {
        let comment = rest.get(at + COMMENT.len()..)?;
        let length = match comment.strip_prefix('"') {
            Some(quoted) => quoted.find('"')? + 2,
            None => comment.find(' ').unwrap_or(comment.len()),
        };
        rest.replace_range(at..(at + COMMENT.len() + length + 1).min(rest.len()), "");
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || " .,:/-_=+!".contains(c);
    // What follows a `!` directly is looked up in a shell's history.
    let own = rest.chars().all(plain) && rest.split('!').skip(1).all(|after| after.starts_with(' '));
    own.then_some(rest)
}

/// Chains that a program writes anew.
fn is_managed(place: &Place<'_>, chain: &str) -> bool {
    place.table == "firewalld" || chain.starts_with("DOCKER") || chain.starts_with("KUBE-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{Endpoint, datagram};

    fn end(addr: &str) -> Endpoint {
        Endpoint { addr: addr.parse().expect("an address"), port: Some(1) }
    }

    #[test]
    fn a_slip_is_one_digit() {
        for (wanted, came) in
            [("1222", "1223"), ("8080", "8008"), ("80", "808"), ("2222", "222"), ("443", "343")]
        {
            assert!(one_slip_apart(wanted, came), "{wanted} {came}");
            assert!(one_slip_apart(came, wanted), "{came} {wanted}");
        }
        for (wanted, came) in
            [("1222", "22"), ("80", "443"), ("80", "80x"), ("1000-2000", "1000"), ("8080", "8800x")]
        {
            assert!(!one_slip_apart(wanted, came), "{wanted} {came}");
        }
    }

    #[test]
    fn a_rule_is_freed_from_its_device() {
        for (text, freed) in [
            ("iifname \"eth0\" tcp dport 22 dnat to 10.0.0.1", "tcp dport 22 dnat to 10.0.0.1"),
            ("meta iifname != { \"a\", \"b\" } redirect", "redirect"),
            ("-A PREROUTING ! -i eth0 -p tcp -j DNAT", "-A PREROUTING -p tcp -j DNAT"),
        ] {
            assert_eq!(without_device(text), freed);
        }
    }

    #[test]
    fn what_a_shell_would_read_otherwise_is_quoted() {
        assert_eq!(
            statement("udp dport { 1, 2 } redirect comment \"a;b\"").as_deref(),
            Some("udp dport { 1, 2 } redirect")
        );
        assert_eq!(statement("iifname \"a b\" redirect").as_deref(), Some("'iifname \"a b\" redirect'"));
        assert_eq!(statement("iifname \"a'b\" redirect"), None);
        let rest = |text| of_iptables(text);
        assert_eq!(rest("-A A -m comment --comment \"a; !b\" -j DNAT").as_deref(), Some("-j DNAT"));
        assert_eq!(rest("-A A ! -i a -m comment --comment x -j DNAT").as_deref(), Some("! -i a -j DNAT"));
        for hazard in
            ["-A A -m comment --comment \"a\\\"$(x)\" -j DNAT", "-A A -i $(x) -j DNAT", "-A A -i !x -j DNAT"]
        {
            assert_eq!(rest(hazard), None, "{hazard}");
        }
    }

    #[test]
    fn a_rule_for_all_devices_is_for_one_destination() {
        let packet = datagram(end("10.1.2.3"), end("10.1.2.3"));
        for (text, bounded) in [
            ("tcp dport 443 dnat to 10.0.0.5", "ip daddr 10.1.2.3 tcp dport 443 dnat to 10.0.0.5"),
            ("ip daddr != 10.9.9.9 redirect", "ip daddr 10.1.2.3 ip daddr != 10.9.9.9 redirect"),
            ("ip daddr 10.1.2.3 redirect", "ip daddr 10.1.2.3 redirect"),
            ("-A OUTPUT -p tcp -j DNAT", "-A OUTPUT -d 10.1.2.3 -p tcp -j DNAT"),
            ("-A OUTPUT ! -d 10.9.9.9/32 -j DNAT", "-A OUTPUT -d 10.1.2.3 ! -d 10.9.9.9/32 -j DNAT"),
            ("-A OUTPUT -d 10.1.2.3/32 -j DNAT", "-A OUTPUT -d 10.1.2.3/32 -j DNAT"),
        ] {
            assert_eq!(for_this_destination(text, &packet), bounded);
        }
    }
}
