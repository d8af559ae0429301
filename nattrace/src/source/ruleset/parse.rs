//! The text of `nft -a list ruleset` (nftables src/rule.c `table_print`, `chain_print`, `rule_print`).
//!
//! nft indents by tabs, closes a table with `}` and what is in it with a tab and `}`, ends each rule with
//! ` # handle N`, and wraps rules whose sets are long. It writes comments and log prefixes between quotes
//! without escaping what is in them, so that a comment can hold anything: braces, handles, new lines, and
//! (not by nft, but by other programs) even quotes. Hence the care with quotes here. What cannot be told
//! apart ends up as text of the wrong length, never as a rule that is not there.

use nattrace_core::event::{HookPoint, NfFamily};
use nattrace_core::ruleset::{BaseChain, Chain, Rule, Table};

/// Everything that the listing tells of tables, chains and rules.
#[must_use]
pub fn parse(text: &str) -> Vec<Table> {
    let mut parser = Parser { lines: text.lines() };
    let mut tables = Vec::new();
    while let Some(line) = parser.lines.next() {
        // "# Warning: table ip nat is managed by iptables-nft, do not touch!" and empty lines.
        if let Some((family, name, handle)) = table_header(line) {
            let chains = parser.table(family);
            tables.push(Table { family, name, handle, chains });
        }
    }
    tables
}

struct Parser<'a> {
    lines: std::str::Lines<'a>,
}

impl Parser<'_> {
    /// A line, with those that follow while a quoted text goes on.
    fn logical(&mut self) -> Option<String> {
        let mut line = self.lines.next()?.to_owned();
        while !quotes_closed(&line) {
            let Some(next) = self.lines.next() else { break };
            line.push('\n');
            line.push_str(next);
        }
        Some(line)
    }

    /// The chains up to the end of the table.
    fn table(&mut self, family: NfFamily) -> Vec<Chain> {
        let mut chains = Vec::new();
        while let Some(line) = self.logical() {
            if line == "}" {
                break;
            }
            let words = line.trim_start();
            if let Some((name, handle)) = words.strip_prefix("chain ").and_then(block_header) {
                let mut chain = Chain { name, handle, base: None, rules: Vec::new() };
                self.chain(family, &mut chain);
                chains.push(chain);
            } else if block_header(words).is_some() || words.ends_with('{') {
                // Sets, maps, counters, flowtables, helpers.
                while self.logical().is_some_and(|line| line != "\t}") {}
            }
        }
        chains
    }

    fn chain(&mut self, family: NfFamily, chain: &mut Chain) {
        let mut rule = String::new();
        while let Some(line) = self.logical() {
            if line == "\t}" {
                break;
            }
            let words = line.trim();
            if rule.is_empty() {
                if words.is_empty() || (words.starts_with("comment \"") && words.ends_with('"')) {
                    continue;
                }
                if let Some(base) = words.strip_prefix("type ").and_then(|words| base_chain(words, family)) {
                    chain.base = Some(base);
                    continue;
                }
            } else {
                rule.push(' ');
            }
            // nft has no words for some matches of iptables, but a blank; at the beginning of a rule its traces have it, too.
            let blank = rule.is_empty() && line.trim_start_matches('\t').starts_with(' ');
            rule.push_str(if blank { " " } else { "" });
            rule.push_str(words);
            // Until its handle comes, the rule is not at its end.
            if let Some((text, handle)) = split_handle(&rule) {
                let text = text.to_owned();
                rule.clear();
                chain.rules.push(Rule::new(handle, text));
            }
        }
    }
}

/// Whether no quoted text goes on after this. With a stray quote inside a quoted text the count is odd at
/// the end, too; then what follows the last quote tells.
fn quotes_closed(line: &str) -> bool {
    if line.matches('"').count().is_multiple_of(2) {
        return true;
    }
    let Some((before, after)) = line.rsplit_once('"') else { return true };
    // A quote that opens has a blank before it.
    (after.is_empty() && !before.ends_with(' ')) || after.strip_prefix(" # handle ").is_some_and(is_number)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// `TEXT # handle N`.
fn split_handle(line: &str) -> Option<(&str, u64)> {
    let (text, number) = line.rsplit_once("# handle ")?;
    Some((text.trim_end(), is_number(number).then(|| number.parse().ok())??))
}

/// `NAME { # handle N`, and what newer versions of nft add to it.
fn block_header(words: &str) -> Option<(String, u64)> {
    let (name, rest) = words.split_once(" { # handle ")?;
    let number = rest.split(' ').next()?;
    Some((unquoted(name), is_number(number).then(|| number.parse().ok())??))
}

/// `table FAMILY NAME { # handle N progname NAME`.
fn table_header(line: &str) -> Option<(NfFamily, String, u64)> {
    let (family, rest) = line.strip_prefix("table ")?.split_once(' ')?;
    let (name, handle) = block_header(rest)?;
    Some((NfFamily::from_name(family)?, name, handle))
}

fn unquoted(name: &str) -> String {
    let inner = name.strip_prefix('"').and_then(|name| name.strip_suffix('"'));
    inner.unwrap_or(name).to_owned()
}

/// `KIND hook HOOK [device "eth0"|devices = { … }] priority PRIORITY; policy POLICY;`
fn base_chain(words: &str, family: NfFamily) -> Option<BaseChain> {
    let (kind, rest) = words.split_once(" hook ")?;
    let (hook, rest) = rest.split_once(' ')?;
    // Device names come before the priority and can be anything but words between blanks.
    let (devices, rest) = rest.rsplit_once("priority ")?;
    let (priority, rest) = rest.split_once(';')?;
    let policy = rest.trim().strip_prefix("policy ").and_then(|rest| rest.split(';').next());
    Some(BaseChain {
        kind: kind.to_owned(),
        hook: HookPoint::from_name(hook)?,
        devices: device_names(devices),
        priority: priority_number(priority, family)?,
        policy: policy.unwrap_or("accept").to_owned(),
    })
}

/// `device "eth0"`, `devices = { "eth0", "eth1" }`; nft 1.0.6 leaves the quotes out in the second.
fn device_names(words: &str) -> Vec<String> {
    let list = words.trim().strip_prefix("device").unwrap_or_default();
    let list = list.trim_start_matches(['s', ' ', '=', '{']).trim_end_matches(['}', ' ']);
    list.split(',').map(|name| unquoted(name.trim())).filter(|name| !name.is_empty()).collect()
}

/// `-150`, `mangle`, `dstnat + 10`, `filter - 5`.
fn priority_number(text: &str, family: NfFamily) -> Option<i32> {
    let text = text.trim();
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let mut words = text.split_whitespace();
    let base = named_priority(words.next()?, family)?;
    match (words.next(), words.next().map(str::parse::<i32>)) {
        (None, None) => Some(base),
        (Some("+"), Some(Ok(offset))) => base.checked_add(offset),
        (Some("-"), Some(Ok(offset))) => base.checked_sub(offset),
        _ => None,
    }
}

/// nftables src/rule.c `std_prios`: `NF_IP_PRI_*` in the kernel.
const PRIORITIES: &[(&str, i32)] =
    &[("raw", -300), ("mangle", -150), ("dstnat", -100), ("filter", 0), ("security", 50), ("srcnat", 100)];
/// nftables src/rule.c `bridge_std_prios`: `NF_BR_PRI_*` in the kernel.
const BRIDGE_PRIORITIES: &[(&str, i32)] =
    &[("dstnat", -300), ("filter", -200), ("out", 100), ("srcnat", 300)];

fn named_priority(name: &str, family: NfFamily) -> Option<i32> {
    let names = if family == NfFamily::Bridge { BRIDGE_PRIORITIES } else { PRIORITIES };
    names.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by nft 1.0.6 (`nft -a -s -t list ruleset`) for a ruleset with one of everything.
    const LISTING: &str = include_str!("fixtures/listing-1.0.6.txt");

    #[test]
    fn devices_of_a_chain_are_read_in_both_spellings() {
        let devices = |words: &str| {
            let words = format!("filter hook ingress {words}priority filter; policy accept;");
            base_chain(&words, NfFamily::Netdev).expect("a base chain").devices
        };
        assert_eq!(devices("device \"eth0\" "), ["eth0"]);
        assert_eq!(devices("devices = { eth0, sense } "), ["eth0", "sense"]);
        assert_eq!(devices("devices = { \"eth0\", \"eth1\" } "), ["eth0", "eth1"]);
        assert_eq!(devices(""), [""; 0]);
    }

    fn find<'a>(tables: &'a [Table], table: &str, chain: &str) -> &'a Chain {
        let table = tables.iter().find(|t| t.name == table).expect("the table");
        table.chains.iter().find(|c| c.name == chain).expect("the chain")
    }

    #[test]
    fn a_listing_of_everything_is_read() {
        let tables = parse(LISTING);
        let names: Vec<_> = tables.iter().map(|t| (t.family.name(), t.name.as_str(), t.handle)).collect();
        assert_eq!(
            names,
            [
                ("inet", "t", 1),
                ("netdev", "nd", 2),
                ("arp", "a", 3),
                ("bridge", "b", 4),
                ("ip", "filter", 5),
                ("ip", "nat", 6)
            ]
        );
        let chains: Vec<_> = tables[0].chains.iter().map(|c| (c.name.as_str(), c.handle)).collect();
        assert_eq!(chains, [("in", 1), ("pre", 2), ("post", 3), ("other", 4), ("lo0", 5), ("Quoted_x", 6)]);
        let priority = |table: &str, chain: &str| {
            let base = find(&tables, table, chain).base.clone().expect("a base chain");
            (base.kind, base.hook, base.priority, base.policy)
        };
        let filter = "filter".to_owned();
        let accept = "accept".to_owned();
        assert_eq!(priority("t", "in"), (filter.clone(), HookPoint::Input, -5, "drop".to_owned()));
        assert_eq!(priority("t", "pre"), ("nat".to_owned(), HookPoint::Prerouting, -90, accept.clone()));
        assert_eq!(priority("t", "post"), ("nat".to_owned(), HookPoint::Postrouting, 95, accept.clone()));
        assert_eq!(priority("t", "lo0"), (filter.clone(), HookPoint::Forward, i32::MIN, accept.clone()));
        assert_eq!(priority("nd", "ing"), (filter.clone(), HookPoint::Ingress, -500, accept.clone()));
        assert_eq!(priority("nd", "ing2"), (filter.clone(), HookPoint::Ingress, 0, accept.clone()));
        assert_eq!(priority("b", "i"), (filter, HookPoint::Prerouting, -300, accept));
        assert_eq!(find(&tables, "t", "other").base, None);
        let rules = |chain: &str| -> Vec<(u64, &str)> {
            find(&tables, "t", chain).rules.iter().map(|r| (r.handle, r.text.as_str())).collect()
        };
        assert_eq!(rules("in").iter().map(|r| r.0).collect::<Vec<_>>(), [14, 16, 17, 18]);
        assert!(rules("in")[0].1.starts_with("ip saddr { 1.1.1.1, "));
        assert!(rules("in")[0].1.ends_with("} counter accept comment \"evil } # handle 9\""));
        assert_eq!(rules("in")[2].1, "ip saddr @s log prefix \"hey # handle 4\" counter drop");
        assert_eq!(rules("pre")[0], (19, "tcp dport 1222 dnat ip to 192.168.70.10:22"));
        assert_eq!(rules("lo0"), []);
        let compat = find(&tables, "filter", "INPUT");
        assert_eq!(compat.rules[0].text, "tcp dport 22 xt match recent  counter accept");
    }

    fn rules_of(body: &str) -> Vec<(u64, String)> {
        let text = format!(
            "table inet t {{ # handle 7 progname x\n\tchain c {{ # handle 3\n{body}\t}}\n\n\
             \tchain after {{ # handle 4\n\t\taccept # handle 99\n\t}}\n}}\n"
        );
        let tables = parse(&text);
        assert_eq!(tables[0].handle, 7);
        assert_eq!(find(&tables, "t", "after").rules[0].handle, 99, "{body}");
        find(&tables, "t", "c").rules.iter().map(|r| (r.handle, r.text.clone())).collect()
    }

    #[test]
    fn wrapped_rules_are_joined() {
        let body = "\t\tip saddr { 10.0.0.1, 10.0.0.2,\n\t\t\t     10.0.0.3 } drop # handle 5\n\t\taccept # handle 6\n";
        let expected =
            [(5, "ip saddr { 10.0.0.1, 10.0.0.2, 10.0.0.3 } drop".to_owned()), (6, "accept".to_owned())];
        assert_eq!(rules_of(body), expected);
    }

    #[test]
    fn hostile_comments_stay_comments() {
        for comment in [
            "}",
            "\t}",
            "\n\t}\n}\ntable inet evil { # handle 1\n",
            "# handle 9",
            "x # handle 9\n\t\taccept # handle 8",
            "a\"b",
            "{ # handle 1",
            "\n\tchain evil { # handle 1\n",
            "type filter hook input priority 0; policy drop;",
        ] {
            let body = format!("\t\taccept comment \"{comment}\" # handle 5\n\t\tdrop # handle 6\n");
            let rules = rules_of(&body);
            assert_eq!(rules.iter().map(|r| r.0).collect::<Vec<_>>(), [5, 6], "{comment:?}");
            assert_eq!(rules[1].1, "drop");
            let body = format!("\t\tcomment \"{comment}\"\n\t\tdrop # handle 6\n");
            assert_eq!(rules_of(&body), [(6, "drop".to_owned())], "{comment:?}");
        }
    }

    #[test]
    fn other_blocks_are_passed_by() {
        let text = "table inet t { # handle 1\n\tflags owner\n\n\tset s { # handle 2\n\t\ttype ipv4_addr\n\
                    \t\telements = { 1.1.1.1,\n\t\t\t     2.2.2.2 }\n\t}\n\n\
                    \tflowtable f { # handle 3\n\t\thook ingress priority filter\n\t\tdevices = { eth0 }\n\t}\n\n\
                    \tct helper h {\n\t\ttype \"ftp\" protocol tcp\n\t}\n\n\
                    \tchain c { # handle 4\n\t\ttype filter hook ingress devices = { \"eth0\", \"priority 5;\" } priority filter + 3; policy drop;\n\t}\n}\n";
        let tables = parse(text);
        assert_eq!(tables[0].chains.len(), 1);
        let base = tables[0].chains[0].base.clone().expect("a base chain");
        assert_eq!((base.priority, base.policy.as_str()), (3, "drop"));
    }

    #[test]
    fn a_listing_cut_anywhere_is_survived() {
        for end in (0..LISTING.len()).filter(|end| LISTING.is_char_boundary(*end)) {
            let _ = parse(&LISTING[..end]);
            let _ = parse(&LISTING[end..]);
        }
    }

    #[test]
    fn priorities_are_numbers_in_the_end() {
        for (text, number) in [
            ("0", Some(0)),
            ("-2147483648", Some(i32::MIN)),
            ("mangle", Some(-150)),
            ("dstnat + 10", Some(-90)),
            ("srcnat - 5", Some(95)),
            ("srcnat - 2147483647", Some(-2_147_483_547)),
            ("filter + 99999999999", None),
            ("nowhere", None),
            ("", None),
        ] {
            assert_eq!(priority_number(text, NfFamily::Inet), number, "{text}");
        }
    }
}
