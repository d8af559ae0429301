//! `--format nft` against `nft monitor trace`, byte for byte.
//!
//! nft mixes the lines of packets that are under way at once; nattrace tells one packet after another. What both must
//! agree in is each trace id's lines and their order.

use std::collections::{BTreeMap, BTreeSet};

use super::agreement::OWN_TABLE;
use super::listing::Snapshot;
use super::monitor::{Line, What};
use crate::scenario::Agreement;

/// Complaints about lines that only one of the two has, or that are in another order. `printed` is what nft said in each
/// namespace, `told` what nattrace did of the packets in all of them, whose lines do not say where. `listed` is what
/// `nft -s list ruleset` says by now: a rule that was added after nft had read the ruleset is unknown to its trace.
pub(crate) fn complaints(printed: &[String], told: &str, listed: &str, agreement: Agreement) -> Vec<String> {
    let with_text = !matches!(agreement, Agreement::Handles | Agreement::NoTexts);
    let mut nft: BTreeMap<&str, Vec<Vec<String>>> = BTreeMap::new();
    for (id, lines) in printed.iter().flat_map(|printed| by_id(printed, with_text)) {
        nft.entry(id).or_default().push(lines);
    }
    let mut found = Vec::new();
    for (id, lines) in by_id(told, with_text) {
        let theirs = nft.remove(id).unwrap_or_default();
        found.extend(difference(&theirs, &lines, listed, agreement == Agreement::Exact));
    }
    if agreement == Agreement::Exact {
        found.extend(nft.into_values().filter_map(|theirs| difference(&theirs, &[], listed, true)));
    }
    found
}

/// Where nft goes on with the texts of rules that were replaced, each text must be one that was listed for that
/// handle at some moment: else one of the two is wrong in another way.
pub(crate) fn stale(lines: &[Line], snapshots: &[Snapshot], inum: u64) -> Vec<String> {
    let mut found = Vec::new();
    for line in lines.iter().filter(|line| !line.place.table.starts_with(OWN_TABLE)) {
        let What::Rule { text: Some(text), handle: Some(handle), .. } = &line.what else { continue };
        let rule = (line.place.clone(), *handle);
        let mut listed = snapshots.iter().filter(|snapshot| snapshot.inum == inum);
        if !listed.any(|snapshot| snapshot.rules.get(&rule) == Some(text)) {
            found.push(format!(
                "nft says that rule {handle} of {} is {text}, which was never listed",
                line.place
            ));
        }
    }
    found
}

/// nft's own lines by trace id: without those of nattrace's tables, and without those that only nattrace prints.
fn by_id(text: &str, with_text: bool) -> BTreeMap<&str, Vec<String>> {
    let mut lines: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for line in text.lines() {
        let Some(rest) = line.strip_prefix("trace id ") else { continue };
        let mut words = rest.splitn(4, ' ');
        let (Some(id), Some(_), Some(table)) = (words.next(), words.next(), words.next()) else { continue };
        if table.ends_with(':') || table.starts_with(OWN_TABLE) {
            continue;
        }
        let line = if with_text { line.to_owned() } else { without_text(line) };
        lines.entry(id).or_default().push(line);
    }
    lines
}

/// A rule's line without what it says of the rule.
fn without_text(line: &str) -> String {
    let rule = [" rule ", " unknown rule handle "].iter().filter_map(|word| line.find(word)).min();
    match (rule, line.rfind(" (verdict ")) {
        (Some(begin), Some(end)) if begin < end => format!("{} rule{}", &line[..begin], &line[end..]),
        _ => line.to_owned(),
    }
}

/// Whether the lines are the same, or tell the same rule, which only nattrace knows, and as it is listed.
fn agree(theirs: &str, ours: &str, listed: &str) -> bool {
    let added = || {
        let (place, unknown) = theirs.split_once(" unknown rule handle ")?;
        let verdict = unknown.split_once(' ')?.1;
        let text = ours.strip_prefix(place)?.strip_prefix(" rule ")?.strip_suffix(verdict)?.trim();
        let text = without_values(text);
        Some(listed.lines().any(|line| line.trim() == text))
    };
    theirs == ours || added() == Some(true)
}

/// A rule's text as `nft -s` lists it.
fn without_values(text: &str) -> String {
    let words: Vec<&str> = text.split(' ').collect();
    let (mut left, mut rest) = (Vec::new(), words.as_slice());
    while let [word, after @ ..] = rest {
        left.push(*word);
        rest = match after {
            ["packets", _, "bytes", _, after @ ..] if *word == "counter" => after,
            after => after,
        };
    }
    left.join(" ")
}

/// Where `ours` is no merger of `theirs`, which has the lines of each namespace in which a packet had the same id: where
/// a namespace ends and another begins is not told, but each keeps its order. Unless `exact`, theirs may have more.
fn difference(theirs: &[Vec<String>], ours: &[String], listed: &str, exact: bool) -> Option<String> {
    // How much of each namespace may have been told so far.
    let mut reached = BTreeSet::from([vec![0; theirs.len()]]);
    let next = |reached: &BTreeSet<Vec<usize>>| -> String {
        let lines = reached.iter().flat_map(|told| told.iter().zip(theirs));
        let left: BTreeSet<&String> = lines.filter_map(|(told, lines)| lines.get(*told)).collect();
        let left: Vec<String> = left.into_iter().map(|line| format!("{line:?}")).collect();
        if left.is_empty() { "nothing more".to_owned() } else { left.join(" or ") }
    };
    for line in ours {
        let mut further = BTreeSet::new();
        for told in &reached {
            for (namespace, lines) in theirs.iter().enumerate() {
                let rest = lines.get(told[namespace]..).unwrap_or_default();
                let at = if exact {
                    rest.first().is_some_and(|other| agree(other, line, listed)).then_some(0)
                } else {
                    rest.iter().position(|other| agree(other, line, listed))
                };
                if let Some(at) = at {
                    let mut told = told.clone();
                    told[namespace] += at + 1;
                    further.insert(told);
                }
            }
        }
        if further.is_empty() {
            return Some(format!("nft printed {}, nattrace {line:?}", next(&reached)));
        }
        reached = further;
    }
    let all: Vec<usize> = theirs.iter().map(Vec::len).collect();
    (exact && !reached.contains(&all))
        .then(|| format!("nft printed {}, nattrace nothing more", next(&reached)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::monitor::parse;

    const NFT: &str = "\
trace id 0000000a inet nattrace_1 pre rule meta nftrace set 1 (verdict continue)
trace id 0000000a inet filter forward packet: iif \"enp0\" ip saddr 10.0.0.1 
trace id 0000000b inet filter forward packet: iif \"enp0\" ip saddr 10.0.0.2 
trace id 0000000a inet filter forward rule jump x (verdict jump x)
trace id 0000000b inet filter forward policy accept 
trace id 0000000a inet filter x rule drop (verdict drop)
";
    const OURS: &str = "\
trace id 0000000a ip device: receive iif \"enp0\"
trace id 0000000a inet filter forward packet: iif \"enp0\" ip saddr 10.0.0.1 
trace id 0000000a inet filter forward rule jump x (verdict jump x)
trace id 0000000a inet filter x rule drop (verdict drop)
trace id 0000000b inet filter forward packet: iif \"enp0\" ip saddr 10.0.0.2 
trace id 0000000b inet filter forward policy accept 
";

    #[test]
    fn the_same_lines_packet_by_packet() {
        assert_eq!(complaints(&[NFT.to_owned()], OURS, "", Agreement::Exact), Vec::<String>::new());
    }

    #[test]
    fn a_rule_added_since_must_be_told_as_it_is_listed() {
        let printed = ["trace id 0000000a ip t c unknown rule handle 7 (verdict accept)\n".to_owned()];
        let told =
            "trace id 0000000a ip t c rule udp dport 9  counter packets 1 bytes 33 accept (verdict accept)\n";
        let judge = |told: &str, listed: &str| complaints(&printed, told, listed, Agreement::Exact).len();
        let listed = "\tchain c {\n\t\tudp dport 9  counter accept\n\t}\n";
        assert_eq!(judge(told, listed), 0);
        assert_eq!(judge(&printed[0], listed), 0);
        assert_eq!(judge(told, ""), 1);
        assert_eq!(judge(&told.replace("dport 9", "dport 8"), listed), 1);
        assert_eq!(judge(&told.replace("(verdict accept)", "(verdict drop)"), listed), 1);
        assert_eq!(judge(&told.replace(" c rule", " d rule"), listed), 1);
    }

    #[test]
    fn each_namespace_keeps_its_order() {
        // The second has the same id by chance.
        let other = "trace id 0000000a ip t c rule accept (verdict accept)\n\
                     trace id 0000000a ip t c rule drop (verdict drop)\n";
        let (first, second) = other.split_once('\n').expect("two lines");
        let both = [NFT.to_owned(), other.to_owned()];
        let judge = |ours: &str| complaints(&both, ours, "", Agreement::Exact).len();
        assert_eq!(judge(&format!("{other}{OURS}")), 0);
        assert_eq!(judge(&format!("{first}\n{OURS}{second}")), 0);
        assert_eq!(judge(&format!("{second}{OURS}{first}\n")), 1);
        assert_eq!(judge(&format!("{first}\n{OURS}")), 1);
        assert_eq!(
            complaints(&both, &format!("{second}{OURS}"), "", Agreement::Subset),
            Vec::<String>::new()
        );
    }

    #[test]
    fn every_byte_and_the_order_count() {
        let judge = |ours: &str, agreement| complaints(&[NFT.to_owned()], ours, "", agreement).len();
        assert_eq!(judge(&OURS.replace("accept ", "accept"), Agreement::Exact), 1);
        assert_eq!(judge(&OURS.replace("10.0.0.2", "10.0.0.3"), Agreement::Subset), 1);
        let swapped = OURS.replace("forward rule jump x (verdict jump x)", "x rule drop (verdict drop)");
        assert_eq!(judge(&swapped, Agreement::Exact), 1);
        let missing = OURS.lines().take(4).collect::<Vec<_>>().join("\n");
        assert_eq!((judge(&missing, Agreement::Exact), judge(&missing, Agreement::Subset)), (1, 0));
    }

    #[test]
    fn texts_do_not_count_where_nft_is_wrong_in_them() {
        let judge = |ours: &str, agreement| complaints(&[NFT.to_owned()], ours, "", agreement).len();
        let other = OURS.replace("rule jump x (", "rule counter jump x (");
        assert_eq!((judge(&other, Agreement::Handles), judge(&other, Agreement::Subset)), (0, 1));
        let unknown = OURS.replace("rule jump x (", "unknown rule handle 7 (");
        assert_eq!(judge(&unknown, Agreement::NoTexts), 0);
        assert_eq!(judge(&OURS.replace("(verdict drop)", "(verdict accept)"), Agreement::Handles), 1);
    }

    #[test]
    fn a_stale_text_must_have_been_right_once() {
        let lines = parse("trace id 0000000a inet f c rule drop # handle 7 (verdict drop)\n").expect("lines");
        let snapshot = |text: &str| Snapshot {
            inum: 5,
            begun_ns: 0,
            ended_ns: 1,
            rules: BTreeMap::from([((lines[0].place.clone(), 7), text.to_owned())]),
        };
        assert_eq!(stale(&lines, &[snapshot("accept"), snapshot("drop")], 5), Vec::<String>::new());
        assert_eq!(stale(&lines, &[snapshot("accept")], 5).len(), 1);
    }
}
