//! Legacy iptables: its `TRACE:` lines in the kernel's log, its rules and their counters (`iptables-legacy-save -c`),
//! against the steps of the journeys.

use std::collections::BTreeMap;

use serde_json::Value;

use super::journey::{headline, steps_in, text};

/// What a line of the kernel's log says of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Logged {
    place: Numbered,
    /// `rule`, `return` or `policy`.
    called: String,
    /// `ID=` of IPv4; IPv6 has none.
    id: Option<u64>,
}

/// A number in a chain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Numbered {
    family: &'static str,
    table: String,
    chain: String,
    /// `None`: the policy.
    number: Option<usize>,
}

impl std::fmt::Display for Numbered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let number = self.number.map_or_else(|| "policy".to_owned(), |number| number.to_string());
        write!(f, "{} {}:{}:{number}", self.family, self.table, self.chain)
    }
}

/// Reads the lines of /dev/kmsg that legacy iptables has written.
pub(crate) fn logged(log: &str) -> Result<Vec<Logged>, String> {
    log.lines()
        .filter_map(|line| Some((line, line.split_once("TRACE: ")?.1)))
        .map(|(line, said)| parse(said).ok_or_else(|| line.to_owned()))
        .collect()
}

fn parse(said: &str) -> Option<Logged> {
    let mut words = said.split_whitespace();
    let mut place = words.next()?.split(':');
    let mut next = || place.next().map(str::to_owned);
    let (table, chain, called, number) = (next()?, next()?, next()?, next()?);
    let member = |name: &str| said.split_whitespace().find_map(|word| word.strip_prefix(name));
    let family = if member("SRC=")?.contains(':') { "ip6" } else { "ip" };
    let number = Some(number.parse().ok()?);
    let id = member("ID=").and_then(|id| id.parse().ok()).filter(|_| family == "ip");
    Some(Logged { place: Numbered { family, table, chain, number }, called, id })
}

/// The rules of one namespace, as both tools save them with counters.
#[derive(Debug, Clone, Default)]
pub(crate) struct Saved {
    rules: BTreeMap<Numbered, (String, u64)>,
    lengths: BTreeMap<(&'static str, String, String), usize>,
}

impl Saved {
    /// Reads `iptables-legacy-save -c` and `ip6tables-legacy-save -c`.
    pub(crate) fn read(ip: &str, ip6: &str) -> Self {
        let mut saved = Self::default();
        for (family, output) in [("ip", ip), ("ip6", ip6)] {
            let mut table = String::new();
            for line in output.lines() {
                if let Some(name) = line.strip_prefix('*') {
                    name.clone_into(&mut table);
                } else if let Some(chain) = line.strip_prefix(':') {
                    let words: Vec<&str> = chain.split(' ').collect();
                    let [name, policy, counted] = words.as_slice() else { continue };
                    saved.lengths.insert((family, table.clone(), (*name).to_owned()), 0);
                    if *policy != "-" {
                        let place = Numbered {
                            family,
                            table: table.clone(),
                            chain: (*name).to_owned(),
                            number: None,
                        };
                        saved.rules.insert(place, ((*policy).to_lowercase(), packets(counted)));
                    }
                } else if let Some((counted, rule)) = line.split_once(" -A ") {
                    let chain = rule.split(' ').next().unwrap_or_default().to_owned();
                    let length = saved.lengths.entry((family, table.clone(), chain.clone())).or_default();
                    *length += 1;
                    let place = Numbered { family, table: table.clone(), chain, number: Some(*length) };
                    saved.rules.insert(place, (format!("-A {rule}"), packets(counted)));
                }
            }
        }
        saved
    }

    /// What a line speaks of; `None` for the end of a chain that was jumped to, which is no step.
    fn place_of(&self, logged: &Logged) -> Option<Numbered> {
        let place = logged.place.clone();
        let length = self.lengths.get(&(place.family, place.table.clone(), place.chain.clone()));
        let beyond = length.is_some_and(|length| place.number.is_some_and(|number| number > *length));
        match (beyond, logged.called.as_str()) {
            (true, "policy") => Some(Numbered { number: None, ..place }),
            (true, "return") => None,
            _ => Some(place),
        }
    }
}

/// `[packets:bytes]`.
fn packets(counted: &str) -> u64 {
    let number = counted.trim_start_matches('[').split(':').next();
    number.and_then(|number| number.parse().ok()).unwrap_or_default()
}

fn place_of(step: &Value) -> Option<Numbered> {
    if text(step, &["backend"]) != "iptables-legacy" {
        return None;
    }
    let number = match text(step, &["kind"]) {
        "rule" => Some(usize::try_from(step["rulenum"].as_u64()?).ok()?),
        _ => None,
    };
    let family = if text(step, &["family"]) == "ip6" { "ip6" } else { "ip" };
    let member = |key| text(step, &[key]).to_owned();
    Some(Numbered { family, table: member("table"), chain: member("chain"), number })
}

/// Complaints about steps without a line and lines without a step, about steps that no packet of the log has in this
/// order, about texts that were not there, and about counters. With `all`, every counted packet was traced.
pub(crate) fn complaints(
    log: &[Logged],
    (before, after): (&Saved, &Saved),
    journeys: &[Value],
    inum: u64,
    all: bool,
) -> Vec<String> {
    let mut found = Vec::new();
    let mut balance: BTreeMap<Numbered, (usize, usize)> = BTreeMap::new();
    let mut by_id: BTreeMap<u64, Vec<Numbered>> = BTreeMap::new();
    for logged in log {
        let Some(place) = after.place_of(logged) else { continue };
        if let Some(id) = logged.id {
            by_id.entry(id).or_default().push(place.clone());
        }
        balance.entry(place).or_default().0 += 1;
    }
    for journey in journeys {
        let told: Vec<Numbered> = steps_in(journey, inum).filter_map(place_of).collect();
        for place in &told {
            balance.entry(place.clone()).or_default().1 += 1;
        }
        let id = journey["packet"]["ip_id"].as_u64();
        if let Some(lines) = id.and_then(|id| by_id.get(&id))
            && !told.is_empty()
            && !lines.windows(told.len()).any(|window| window == told)
        {
            found.push(format!(
                "the kernel's log does not have the steps of {} in this order",
                headline(journey)
            ));
        }
        found.extend(texts(journey, inum, before, after));
    }
    for (place, (logged, told)) in &balance {
        if logged != told {
            found.push(format!("the kernel logged {logged} times, the journeys have {told} times: {place}"));
        }
    }
    for (place, (rule, counted)) in &after.rules {
        // A rule that was replaced counts anew.
        let Some(counted) = before
            .rules
            .get(place)
            .filter(|(same, _)| same == rule)
            .and_then(|(_, earlier)| counted.checked_sub(*earlier))
        else {
            continue;
        };
        let told = balance.get(place).map_or(0, |(_, told)| *told as u64);
        // Policies count what the kernel itself sends, too.
        if told > counted || (all && place.number.is_some() && told != counted) {
            found.push(format!("{place} counted {counted} packets, the journeys have {told}"));
        }
    }
    found
}

/// A rule has the text of its number, before or after; and a verdict only with it.
fn texts(journey: &Value, inum: u64, before: &Saved, after: &Saved) -> Vec<String> {
    let mut found = Vec::new();
    for step in steps_in(journey, inum) {
        let Some(place) = place_of(step) else { continue };
        let listed = [before, after].map(|saved| saved.rules.get(&place).map(|(text, _)| text.as_str()));
        let said = if place.number.is_some() { step["text"].as_str() } else { step["verdict"].as_str() };
        if said.is_some() && !listed.contains(&said) {
            found.push(format!("{place} of {} is told as {said:?}, and was {listed:?}", headline(journey)));
        }
        if said.is_none() && !step["verdict"].is_null() {
            found.push(format!("{place} of {} has no text, but a verdict", headline(journey)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const LOG: &str = "\
4,600,17,-;TRACE: filter:FORWARD:rule:1 IN=enp0 OUT=veth21 MAC=02 SRC=10.2.1.2 DST=192.168.70.10 LEN=60 ID=7 DF PROTO=TCP
4,601,18,-;TRACE: filter:web:return:1 IN=enp0 OUT=veth21 SRC=10.2.1.2 DST=192.168.70.10 ID=7 PROTO=TCP
4,602,19,-;something else
4,603,20,-;TRACE: filter:web:return:2 IN=enp0 OUT=veth21 SRC=10.2.1.2 DST=192.168.70.10 ID=7 PROTO=TCP
4,604,21,-;TRACE: filter:FORWARD:policy:2 IN=enp0 OUT=veth21 SRC=10.2.1.2 DST=192.168.70.10 ID=7 PROTO=TCP
";

    fn saved(packets: u64) -> Saved {
        let text = format!(
            "*filter\n:FORWARD DROP [{packets}:60]\n:web - [0:0]\n[{packets}:60] -A FORWARD -p tcp -j web\n\
             [{packets}:60] -A web -j RETURN\nCOMMIT\n"
        );
        Saved::read(&text, "")
    }

    fn step(kind: &str, chain: &str, number: u64, text: &str, verdict: &str) -> Value {
        let mut step = json!({"kind": kind, "backend": "iptables-legacy", "family": "ip", "table": "filter",
                              "chain": chain, "verdict": verdict});
        if kind == "rule" {
            (step["rulenum"], step["text"]) = (json!(number), json!(text));
        }
        step
    }

    fn journey() -> Value {
        json!({"netns": {"inum": 5}, "packet": {"ip_id": 7}, "steps": [
            step("rule", "FORWARD", 1, "-A FORWARD -p tcp -j web", "jump web"),
            step("rule", "web", 1, "-A web -j RETURN", "return"),
            step("policy", "FORWARD", 0, "", "drop"),
        ]})
    }

    fn judge(journey: Value) -> Vec<String> {
        complaints(&logged(LOG).expect("lines"), (&saved(3), &saved(4)), &[journey], 5, true)
    }

    #[test]
    fn steps_that_the_kernel_logged_and_counted() {
        assert_eq!(judge(journey()), Vec::<String>::new());
    }

    #[test]
    fn what_differs_is_told() {
        type Damage = fn(&mut Value);
        let damages: [(&str, Damage); 5] = [
            ("logged 1 times, the journeys have 0", |j| drop(j["steps"].as_array_mut().map(|s| s.remove(1)))),
            ("counted 1 packets", |j| drop(j["steps"].as_array_mut().map(|s| s.remove(0)))),
            ("in this order", |j| j["steps"].as_array_mut().expect("steps").swap(0, 1)),
            ("is told as", |j| j["steps"][0]["text"] = json!("-A FORWARD -p udp -j web")),
            ("no text, but a verdict", |j| j["steps"][0]["text"] = json!(null)),
        ];
        for (says, damage) in damages {
            let mut victim = journey();
            damage(&mut victim);
            let found = judge(victim);
            assert!(found.iter().any(|line| line.contains(says)), "{found:?} does not say {says}");
        }
    }

    #[test]
    fn a_line_that_is_not_understood_is_said() {
        assert!(logged("TRACE: filter:FORWARD").is_err());
        let six =
            logged("TRACE: raw:OUTPUT:policy:1 IN= OUT=lo SRC=fd00::1 DST=fd00::2 ID=9").expect("a line");
        assert_eq!((six[0].place.family, six[0].id), ("ip6", None));
    }
}
