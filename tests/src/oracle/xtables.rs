//! The words of iptables-nft for the rules of its tables: `xtables-monitor --trace`, which asks the kernel for each
//! rule by its handle, and `iptables-nft-save`, which tells all rules in their order.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

use super::listing::{Listed, Snapshot, logical_lines};
use super::monitor::{Line, Place, What};

/// Families, and who saves their rules.
pub(crate) const SAVERS: [(&str, &str); 4] = [
    ("ip", "iptables-nft-save"),
    ("ip6", "ip6tables-nft-save"),
    ("arp", "arptables-nft-save"),
    ("bridge", "ebtables-nft-save"),
];

/// The family whose rules xtables-monitor can read. In others, and where it is not told this one, it ends at the first
/// rule that it takes for none of iptables' (1.8.9: any of `ip6tables -p tcp`).
const MONITORED: &str = "ip";

/// Whether xtables-monitor can be a witness for one of `tables`.
pub(crate) fn is_monitored(tables: &[String]) -> bool {
    tables.iter().any(|table| table.split(' ').next() == Some(MONITORED))
}

/// Texts of rules by place and handle; those of a handle that came to mean another rule, too.
pub(crate) type Texts = BTreeMap<(Place, u64), Vec<String>>;

/// Reads the output of `xtables-monitor --trace`.
pub(crate) fn parse(output: &str) -> Texts {
    let mut texts = Texts::new();
    for line in output.lines().filter_map(|line| line.strip_prefix(" TRACE: ")) {
        if let Some((rule, text)) = parse_line(line) {
            let known = texts.entry(rule).or_default();
            if !known.contains(&text) {
                known.push(text);
            }
        }
    }
    texts
}

/// `2 8df12722 nat:PREROUTING:rule:0x2:ACCEPT  -4 -t nat -A PREROUTING -j DNAT …`
fn parse_line(line: &str) -> Option<((Place, u64), String)> {
    let mut words = line.splitn(4, ' ');
    let family = match words.next()? {
        "2" => "ip",
        "3" => "arp",
        "7" => "bridge",
        "10" => "ip6",
        _ => return None,
    };
    let mut place = words.nth(1)?.split(':');
    let (table, chain) = (place.next()?.to_owned(), place.next()?.to_owned());
    let (Some("rule"), Some(handle)) = (place.next(), place.next()?.strip_prefix("0x")) else { return None };
    let handle = u64::from_str_radix(handle, 16).ok()?;
    let text = words.next()?.split_once(" -A ")?.1;
    Some(((Place { family: family.to_owned(), table, chain }, handle), format!("-A {}", text.trim_end())))
}

fn is_owned(place: &Place, tables: &[String]) -> bool {
    tables.iter().any(|table| table.split_once(' ') == Some((&place.family, &place.table)))
}

/// Adds what was saved (see [`retell_rules`]) of tables in the families that xtables-monitor cannot read.
pub(crate) fn add_saved(texts: &mut Texts, snapshots: &[Snapshot], inum: u64, tables: &[String]) {
    for snapshot in snapshots.iter().filter(|snapshot| snapshot.inum == inum) {
        for (rule, text) in &snapshot.rules {
            if rule.0.family != MONITORED && is_owned(&rule.0, tables) {
                let known = texts.entry(rule.clone()).or_default();
                if !known.contains(text) {
                    known.push(text.clone());
                }
            }
        }
    }
}

/// Puts the words of iptables-nft in the place of nft's, for rules of `tables`. Of several texts of one handle none
/// is a witness.
pub(crate) fn retell_lines(lines: &mut [Line], tables: &[String], texts: &Texts) {
    for line in lines.iter_mut().filter(|line| is_owned(&line.place, tables)) {
        if let What::Rule { text, handle: Some(handle), .. } = &mut line.what {
            *text = match texts.get(&(line.place.clone(), *handle)).map(Vec::as_slice) {
                Some([only]) => Some(only.clone()),
                _ => None,
            };
        }
    }
}

/// The same for listed rules, by `iptables-nft-save`: its k-th rule of a chain is the k-th that nft lists.
pub(crate) fn retell_rules(rules: &mut [Listed], tables: &[String], family: &str, saved: &str) -> Result<()> {
    let mut lines: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    let mut table = String::new();
    // In a comment, a backslash before a quote or a backslash takes their meaning from them.
    let quotes = |line: &str| line.replace(r"\\", "").replace("\\\"", "").matches('"').count();
    for line in logical_lines(saved, quotes) {
        if let Some(name) = line.strip_prefix('*') {
            name.clone_into(&mut table);
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let chain = rule.split(' ').next().unwrap_or_default();
            lines.entry((table.clone(), chain.to_owned())).or_default().push(line.trim_end().to_owned());
        }
    }
    for ((place, handle), text) in rules.iter_mut() {
        if place.family != family || !is_owned(place, tables) {
            continue;
        }
        let left = lines.get_mut(&(place.table.clone(), place.chain.clone())).filter(|left| !left.is_empty());
        let Some(left) = left else { bail!("{family} saves no line for rule {handle} of {place}") };
        *text = left.remove(0);
    }
    if let Some(((table, chain), _)) = lines.iter().find(|((table, _), left)| {
        !left.is_empty() && tables.iter().any(|owned| *owned == format!("{family} {table}"))
    }) {
        bail!("nft lists fewer rules of {family} {table} {chain} than are saved");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{listing, monitor};

    #[test]
    fn what_was_traced_is_told_in_the_words_of_iptables() {
        let texts = parse(
            "PACKET: 2 8df12722 IN=nt.r1 SRC=10.0.1.2 \n \
             TRACE: 2 8df12722 nat:PREROUTING:rule:0x1f:ACCEPT  -4 -t nat -A PREROUTING -j DNAT --to-destination 10.0.2.2:80\n \
             TRACE: 10 8df12722 filter:INPUT:rule:0x2:JUMP:u  ip6tables -t filter -A INPUT -j u \n \
             TRACE: 2 8df12722 filter:INPUT:policy:DROP \n \
             TRACE: 1 8df12722 tt:o:rule:0x2:CONTINUE  \n",
        );
        let told: Vec<String> =
            texts.iter().map(|((place, handle), texts)| format!("{place} {handle} {texts:?}")).collect();
        assert_eq!(
            told,
            [
                "ip nat PREROUTING 31 [\"-A PREROUTING -j DNAT --to-destination 10.0.2.2:80\"]",
                "ip6 filter INPUT 2 [\"-A INPUT -j u\"]",
            ]
        );
        let mut lines = monitor::parse(
            "trace id 8df12722 ip nat PREROUTING rule counter dnat to 10.0.2.2:80 # handle 31 (verdict accept)\n\
             trace id 8df12722 ip mine c rule accept # handle 31 (verdict accept)\n",
        )
        .expect("lines");
        retell_lines(&mut lines, &["ip nat".to_owned()], &texts);
        let text = |line: &Line| match &line.what {
            What::Rule { text, .. } => text.clone().unwrap_or_default(),
            _ => String::new(),
        };
        assert_eq!(text(&lines[0]), "-A PREROUTING -j DNAT --to-destination 10.0.2.2:80");
        assert_eq!(text(&lines[1]), "accept");
    }

    #[test]
    fn saved_rules_are_paired_in_their_order() {
        let listing = "table ip filter { # handle 1\n\tchain INPUT { # handle 1\n\
                       \t\tcounter accept # handle 9\n\t\tcounter drop # handle 2\n\t}\n}\n";
        let tables = ["ip filter".to_owned()];
        let mut rules = listing::rules(listing);
        let saved = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -j ACCEPT\n-A INPUT -j DROP\nCOMMIT\n";
        retell_rules(&mut rules, &tables, "ip", saved).expect("a pairing");
        let told: Vec<_> = rules.iter().map(|((_, handle), text)| (*handle, text.as_str())).collect();
        assert_eq!(told, [(9, "-A INPUT -j ACCEPT"), (2, "-A INPUT -j DROP")]);
        let fewer = saved.replace("-A INPUT -j DROP\n", "");
        assert!(retell_rules(&mut listing::rules(listing), &tables, "ip", &fewer).is_err());
        let more = saved.replace("COMMIT", "-A INPUT -p tcp\nCOMMIT");
        assert!(retell_rules(&mut listing::rules(listing), &tables, "ip", &more).is_err());
    }
}
