//! The rules of legacy iptables: which were in force at which moment, and what their text says they decide.
//!
//! They have no handles. A rule is known by its number in its chain, so a number means something only together with
//! the listing that was in force. The kernel replaces a table as a whole, in one function that a probe tells of: a
//! listing speaks for every moment from which no change separates it. Where changes are not told, or one may have
//! been under way, the answer is "not known".

use std::collections::{BTreeMap, VecDeque};

use bitcode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use super::iptables::{Target, iptables_target, target_goes_on, words};
use crate::event::{LegacyChange, NetnsId, NfFamily, TraceType, Verdict};

/// A packet that is in a table when that is replaced may tell of its old rules a little later.
const IN_FLIGHT_NS: u64 = 20_000_000;
/// No change takes longer: one whose end was not told is over after this.
const LONGEST_CHANGE_NS: u64 = 10_000_000_000;
/// Listings that are kept of each namespace, for journeys that end late.
const MAX_LISTINGS: usize = 16;
/// Changes that are kept apart; of older ones only that there were some between two moments.
const MAX_CHANGES: usize = 256;

/// The rules of one namespace as `iptables-save` and `ip6tables-save` write them, of the tables that are in use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct Listing {
    /// Before the first table was listed, nanoseconds since the epoch; the event's time is when the last one was.
    pub begun_ns: u64,
    /// The tables; one that could not be listed, or not be understood, is left out.
    pub tables: Vec<Table>,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct Table {
    /// `ip` or `ip6`.
    pub family: NfFamily,
    /// Name.
    pub name: String,
    /// Chains.
    pub chains: Vec<Chain>,
}

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct Chain {
    /// Name.
    pub name: String,
    /// The policy of a base chain, as written: `ACCEPT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Rules in order, as written: `-A CHAIN …`.
    pub rules: Vec<String>,
}

/// What the kernel tells of: a number in a chain.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Family of the table.
    pub family: NfFamily,
    /// Table.
    pub table: &'a str,
    /// Chain.
    pub chain: &'a str,
    /// Number in the chain, from 1.
    pub rulenum: u64,
    /// What the kernel calls it.
    pub called: TraceType,
}

/// What was at a [`Place`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A rule.
    Rule {
        /// As `iptables-save` writes it.
        text: String,
        /// What it decides for whatever it matches, where its target leaves no doubt.
        verdict: Option<Verdict>,
    },
    /// A base chain's policy.
    Policy(Verdict),
    /// The end of a chain that was jumped to.
    End,
}

/// The rules of all namespaces over time.
#[derive(Debug, Clone, Default)]
pub struct History {
    watched_ns: Option<u64>,
    /// Spans in which rules changed, or may have.
    changes: VecDeque<(u64, u64)>,
    /// Tasks that are changing rules: since when, and how many calls deep.
    under_way: BTreeMap<u64, (u64, u32)>,
    listings: BTreeMap<NetnsId, VecDeque<Listed>>,
}

#[derive(Debug, Clone)]
struct Listed {
    ended_ns: u64,
    listing: Listing,
}

impl History {
    /// Takes note of a change; its namespace is not told, so it counts for all.
    pub fn change(&mut self, time_ns: u64, change: LegacyChange) {
        match change {
            LegacyChange::Watched => self.watched_ns = self.watched_ns.or(Some(time_ns)),
            LegacyChange::Begun { task } => {
                let call = self.under_way.entry(task).or_insert((time_ns, 0));
                if call.0.saturating_add(LONGEST_CHANGE_NS) < time_ns {
                    let begun = std::mem::replace(call, (time_ns, 1)).0;
                    self.may_have_changed(begun, begun.saturating_add(LONGEST_CHANGE_NS));
                } else {
                    call.1 += 1;
                }
            }
            LegacyChange::Ended { task } => match self.under_way.get_mut(&task) {
                // Registering a table replaces the empty one that it begins with: one call within another.
                Some((_, depth)) if *depth > 1 => *depth -= 1,
                Some((begun, _)) => {
                    let begun = *begun;
                    self.under_way.remove(&task);
                    self.may_have_changed(begun, time_ns);
                }
                // The entry was missed.
                None => self.may_have_changed(time_ns.saturating_sub(LONGEST_CHANGE_NS), time_ns),
            },
        }
    }

    /// Rules may have changed within this span.
    pub fn may_have_changed(&mut self, first_ns: u64, last_ns: u64) {
        self.changes.push_back((first_ns, last_ns.saturating_add(IN_FLIGHT_NS)));
        if self.changes.len() > MAX_CHANGES
            && let Some((first, _)) = self.changes.pop_front()
            && let Some(next) = self.changes.front_mut()
        {
            next.0 = next.0.min(first);
        }
    }

    /// Takes note of a listing.
    pub fn list(&mut self, netns: NetnsId, time_ns: u64, listing: Listing) {
        let last = self.listings.get(&netns).and_then(VecDeque::back);
        let known = last.is_some_and(|last| {
            last.listing.tables == listing.tables && self.is_unchanged(last.listing.begun_ns, time_ns)
        });
        if known {
            return;
        }
        let listings = self.listings.entry(netns).or_default();
        listings.push_back(Listed { ended_ns: time_ns, listing });
        if listings.len() > MAX_LISTINGS {
            listings.pop_front();
        }
    }

    fn is_unchanged(&self, first_ns: u64, last_ns: u64) -> bool {
        let overlaps = |(begun, ended): (u64, u64)| begun <= last_ns && first_ns <= ended;
        let under_way =
            self.under_way.values().map(|(begun, _)| (*begun, begun.saturating_add(LONGEST_CHANGE_NS)));
        self.watched_ns.is_some_and(|watched| watched <= first_ns)
            && !self.changes.iter().copied().chain(under_way).any(overlaps)
    }

    /// The listing that held at a moment.
    fn listing(&self, netns: NetnsId, time_ns: u64) -> Option<&Listing> {
        let holds = |listed: &&Listed| {
            let begun = listed.listing.begun_ns;
            self.is_unchanged(begun.min(time_ns), listed.ended_ns.max(time_ns))
        };
        self.listings.get(&netns)?.iter().rev().find(holds).map(|listed| &listed.listing)
    }

    /// Whether a listing that is still to come may speak for a moment for which none does yet.
    #[must_use]
    pub fn may_be_listed(&self, netns: NetnsId, time_ns: u64, now_ns: u64) -> bool {
        self.listing(netns, time_ns).is_none() && self.is_unchanged(time_ns, now_ns)
    }

    /// The rules of a chain (family, table and name) at a moment, in order; `None` when that cannot be known.
    #[must_use]
    pub fn chain(
        &self,
        netns: NetnsId,
        (family, table, chain): (NfFamily, &str, &str),
        time_ns: u64,
    ) -> Option<&[String]> {
        let listing = self.listing(netns, time_ns)?;
        let table = listing.tables.iter().find(|t| t.family == family && t.name == table)?;
        table.chains.iter().find(|c| c.name == chain).map(|chain| chain.rules.as_slice())
    }

    /// What was at a place at a moment, or `None` when it cannot be known.
    #[must_use]
    pub fn find(&self, netns: NetnsId, place: &Place<'_>, time_ns: u64) -> Option<Found> {
        let listing = self.listing(netns, time_ns)?;
        let table = listing.tables.iter().find(|t| t.family == place.family && t.name == place.table)?;
        let chain = table.chains.iter().find(|chain| chain.name == place.chain)?;
        let at = usize::try_from(place.rulenum).ok()?.checked_sub(1)?;
        let end = if chain.policy.is_some() { TraceType::Policy } else { TraceType::Return };
        if let Some(text) = chain.rules.get(at) {
            // What the kernel calls it must be what it calls such a rule: else this is not the rule it means.
            let called = if is_bare_verdict(text) { end } else { TraceType::Rule };
            return (place.called == called)
                .then(|| Found::Rule { text: text.clone(), verdict: verdict(text, &table.chains) });
        }
        if at != chain.rules.len() || place.called != end {
            return None;
        }
        match chain.policy.as_deref() {
            None => Some(Found::End),
            Some("ACCEPT") => Some(Found::Policy(Verdict::Accept)),
            Some("DROP") => Some(Found::Policy(Verdict::Drop)),
            Some(_) => None,
        }
    }
}

/// Whether a rule only has one of the kernel's own verdicts, and no condition (`unconditional` in ip_tables.c).
fn is_bare_verdict(text: &str) -> bool {
    let words: Vec<&str> = text.split(' ').collect();
    matches!(words.as_slice(), ["-A", _, "-j", "ACCEPT" | "DROP" | "RETURN" | "QUEUE"])
}

/// What a rule decides for what it matches; `None` where its text does not say for certain. `chains` are those of its
/// table.
#[must_use]
pub fn verdict(text: &str, chains: &[Chain]) -> Option<Verdict> {
    let is_chain = |name: &String| chains.iter().any(|chain| chain.policy.is_none() && chain.name == *name);
    let target = match iptables_target(text)? {
        Target::None => return Some(Verdict::Continue),
        Target::Unclear => return None,
        Target::Goto(chain) => return is_chain(&chain).then_some(Verdict::Goto(chain)),
        Target::Jump(name) if is_chain(&name) => return Some(Verdict::Jump(name)),
        Target::Jump(name) => name,
    };
    Some(match target.as_str() {
        "ACCEPT" | "DNAT" | "SNAT" | "MASQUERADE" | "REDIRECT" | "NETMAP" => Verdict::Accept,
        "DROP" | "REJECT" => Verdict::Drop,
        "RETURN" => Verdict::Return,
        "NFQUEUE" => Verdict::Queue(queue_number(text)?),
        name if target_goes_on(name) => Verdict::Continue,
        _ => return None,
    })
}

/// Whether what a rule's text says it decides is what it decided, whatever happened: targets that are modules may
/// find a reason to drop (no port left to map to, no memory).
#[must_use]
pub fn is_sure(text: &str) -> bool {
    match iptables_target(text) {
        Some(Target::None | Target::Goto(_)) => true,
        None | Some(Target::Unclear) => false,
        Some(Target::Jump(name)) => matches!(name.as_str(), "ACCEPT" | "DROP" | "RETURN" | "REJECT"),
    }
}

/// `--queue-num N`; spread over several queues, which one it was is not known.
fn queue_number(text: &str) -> Option<u16> {
    let words = words(text)?;
    let numbers: Vec<&str> = words
        .windows(2)
        .filter_map(|pair| match pair {
            [(false, option), (false, number)] if option == "--queue-num" => Some(number.as_str()),
            _ => None,
        })
        .collect();
    match numbers.as_slice() {
        [number] => number.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const NETNS: NetnsId = 7;

    fn chain(name: &str, policy: Option<&str>, rules: &[&str]) -> Chain {
        let rules = rules.iter().map(|rule| format!("-A {name} {rule}")).collect();
        Chain { name: name.to_owned(), policy: policy.map(str::to_owned), rules }
    }

    fn listing(begun_ms: u64, forward: &[&str]) -> Listing {
        let chains = vec![
            chain("FORWARD", Some("DROP"), forward),
            chain("web", None, &["-p tcp -j ACCEPT", "-j DROP"]),
        ];
        let table = Table { family: NfFamily::Ip, name: "filter".to_owned(), chains };
        Listing { begun_ns: begun_ms * MS, tables: vec![table] }
    }

    fn at(chain: &'static str, rulenum: u64, called: TraceType) -> Place<'static> {
        Place { family: NfFamily::Ip, table: "filter", chain, rulenum, called }
    }

    fn watched() -> History {
        let mut history = History::default();
        history.change(MS, LegacyChange::Watched);
        history
    }

    fn text(history: &History, ms: u64) -> Option<String> {
        match history.find(NETNS, &at("FORWARD", 1, TraceType::Rule), ms * MS)? {
            Found::Rule { text, .. } => Some(text),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn numbers_are_rules_policies_and_ends() {
        let mut history = watched();
        history.list(NETNS, 20 * MS, listing(10, &["-p tcp -j web", "-j ACCEPT"]));
        let find = |chain, number, called| history.find(NETNS, &at(chain, number, called), 30 * MS);
        let rule = |text: &str, verdict| Some(Found::Rule { text: text.to_owned(), verdict: Some(verdict) });
        let jump = Verdict::Jump("web".to_owned());
        assert_eq!(find("FORWARD", 1, TraceType::Rule), rule("-A FORWARD -p tcp -j web", jump));
        assert_eq!(find("FORWARD", 2, TraceType::Policy), rule("-A FORWARD -j ACCEPT", Verdict::Accept));
        assert_eq!(find("FORWARD", 3, TraceType::Policy), Some(Found::Policy(Verdict::Drop)));
        assert_eq!(find("web", 1, TraceType::Rule), rule("-A web -p tcp -j ACCEPT", Verdict::Accept));
        assert_eq!(find("web", 2, TraceType::Return), rule("-A web -j DROP", Verdict::Drop));
        assert_eq!(find("web", 3, TraceType::Return), Some(Found::End));
    }

    #[test]
    fn what_the_kernel_would_call_otherwise_is_another_rule() {
        let mut history = watched();
        history.list(NETNS, 20 * MS, listing(10, &["-p tcp -j web", "-j ACCEPT"]));
        let find = |chain, number, called| history.find(NETNS, &at(chain, number, called), 30 * MS);
        assert_eq!(find("FORWARD", 1, TraceType::Policy), None);
        assert_eq!(find("FORWARD", 2, TraceType::Rule), None);
        assert_eq!(find("FORWARD", 3, TraceType::Rule), None);
        assert_eq!(find("FORWARD", 4, TraceType::Policy), None);
        assert_eq!(find("FORWARD", 0, TraceType::Rule), None);
        assert_eq!(find("web", 2, TraceType::Policy), None);
        assert_eq!(find("other", 1, TraceType::Return), None);
    }

    #[test]
    fn a_replaced_table_never_shows_the_wrong_rule() {
        let mut history = watched();
        history.list(NETNS, 20 * MS, listing(10, &["-s 10.0.0.1 -j ACCEPT"]));
        let old = Some("-A FORWARD -s 10.0.0.1 -j ACCEPT".to_owned());
        assert_eq!(text(&history, 5), old, "nothing changed before the listing");
        history.change(100 * MS, LegacyChange::Begun { task: 1 });
        assert_eq!(text(&history, 99), old);
        assert_eq!(text(&history, 101), None, "while it changes");
        history.change(102 * MS, LegacyChange::Ended { task: 1 });
        assert!(!history.may_be_listed(NETNS, 101 * MS, 200 * MS), "no listing will speak for that");
        assert!(history.may_be_listed(NETNS, 150 * MS, 200 * MS));
        history.list(NETNS, 210 * MS, listing(200, &["-s 10.0.0.2 -j ACCEPT"]));
        let new = Some("-A FORWARD -s 10.0.0.2 -j ACCEPT".to_owned());
        let cases = [(99, &old), (101, &None), (110, &None), (150, &new), (300, &new)];
        for (ms, expected) in cases {
            assert_eq!(text(&history, ms), *expected, "at {ms} ms");
        }
        assert!(!history.may_be_listed(NETNS, 150 * MS, 300 * MS));
    }

    #[test]
    fn a_call_within_a_call_is_one_change() {
        let mut history = watched();
        history.list(NETNS, 20 * MS, listing(10, &["-s 10.0.0.1 -j ACCEPT"]));
        for (ms, change) in [
            (100, LegacyChange::Begun { task: 1 }),
            (101, LegacyChange::Begun { task: 1 }),
            (102, LegacyChange::Ended { task: 1 }),
            (150, LegacyChange::Ended { task: 1 }),
        ] {
            history.change(ms * MS, change);
        }
        assert!(text(&history, 99).is_some());
        assert!(!history.may_be_listed(NETNS, 140 * MS, 300 * MS), "the outer call was under way");
        assert!(history.may_be_listed(NETNS, 200 * MS, 300 * MS));
        history.change(400 * MS, LegacyChange::Ended { task: 2 });
        assert_eq!(text(&history, 99), None, "whose beginning was not told");
    }

    #[test]
    fn a_change_whose_end_was_not_told_ends_at_last() {
        let mut history = watched();
        history.change(100 * MS, LegacyChange::Begun { task: 1 });
        assert!(!history.may_be_listed(NETNS, 9000 * MS, 9100 * MS));
        assert!(history.may_be_listed(NETNS, 11_000 * MS, 11_100 * MS));
        history.change(12_000 * MS, LegacyChange::Begun { task: 1 });
        history.change(12_001 * MS, LegacyChange::Ended { task: 1 });
        assert!(history.may_be_listed(NETNS, 13_000 * MS, 13_100 * MS));
        assert!(!history.may_be_listed(NETNS, 9000 * MS, 9100 * MS));
    }

    #[test]
    fn there_and_back_again_between_two_equal_listings_is_not_overlooked() {
        let mut history = watched();
        history.list(NETNS, 20 * MS, listing(10, &["-s 10.0.0.1 -j ACCEPT"]));
        for (ms, task) in [(100, 1), (200, 2)] {
            history.change(ms * MS, LegacyChange::Begun { task });
            history.change((ms + 1) * MS, LegacyChange::Ended { task });
        }
        history.list(NETNS, 310 * MS, listing(300, &["-s 10.0.0.1 -j ACCEPT"]));
        assert_eq!(text(&history, 150), None);
        assert!(text(&history, 250).is_some());
    }

    #[test]
    fn a_listing_made_during_a_change_speaks_for_nothing() {
        let mut history = watched();
        history.list(NETNS, 120 * MS, listing(90, &["-s 10.0.0.1 -j ACCEPT"]));
        history.change(100 * MS, LegacyChange::Begun { task: 1 });
        history.change(101 * MS, LegacyChange::Ended { task: 1 });
        for ms in [50, 100, 110, 200] {
            assert_eq!(text(&history, ms), None, "at {ms} ms");
        }
    }

    #[test]
    fn unless_changes_are_told_nothing_is_known() {
        let mut history = History::default();
        history.list(NETNS, 20 * MS, listing(10, &["-s 10.0.0.1 -j ACCEPT"]));
        assert_eq!(text(&history, 30), None);
        history.change(40 * MS, LegacyChange::Watched);
        assert_eq!(text(&history, 50), None, "it may have changed before");
        history.list(NETNS, 70 * MS, listing(60, &["-s 10.0.0.1 -j ACCEPT"]));
        assert!(text(&history, 50).is_some());
        history.may_have_changed(80 * MS, 90 * MS);
        assert_eq!(text(&history, 120), None, "events were lost");
    }

    #[test]
    fn another_namespace_is_another_history_and_changes_count_for_all() {
        let mut history = watched();
        history.list(NETNS, 20 * MS, listing(10, &["-s 10.0.0.1 -j ACCEPT"]));
        let place = at("FORWARD", 1, TraceType::Rule);
        assert_eq!(history.find(NETNS + 1, &place, 30 * MS), None);
    }

    #[test]
    fn many_changes_do_not_grow_it() {
        let mut history = watched();
        for i in 0..1000_u64 {
            history.change((i * 100 + 10) * MS, LegacyChange::Begun { task: 1 });
            history.change((i * 100 + 11) * MS, LegacyChange::Ended { task: 1 });
            let number = format!("-s 10.0.{}.{} -j DROP", i / 250, i % 250);
            history.list(NETNS, (i * 100 + 60) * MS, listing(i * 100 + 50, &[&number]));
        }
        assert!(history.changes.len() <= MAX_CHANGES);
        assert_eq!(history.listings[&NETNS].len(), MAX_LISTINGS);
        assert!(text(&history, 99_970).is_some());
        assert_eq!(text(&history, 70), None, "forgotten, not mistaken");
    }

    #[test]
    fn verdicts_are_what_the_target_says_for_certain() {
        let chains =
            [chain("web", None, &[]), chain("LOG_IT", None, &[]), chain("FORWARD", Some("DROP"), &[])];
        let cases = [
            ("-p tcp -m tcp --dport 22 -j ACCEPT", Some(Verdict::Accept)),
            ("-j DROP", Some(Verdict::Drop)),
            ("-s 10.0.0.0/8 -j RETURN", Some(Verdict::Return)),
            ("-j web", Some(Verdict::Jump("web".to_owned()))),
            ("-g LOG_IT", Some(Verdict::Goto("LOG_IT".to_owned()))),
            ("-j FORWARD", None),
            ("-j REJECT --reject-with icmp-port-unreachable", Some(Verdict::Drop)),
            ("-d 10.1.2.3/32 -j DNAT --to-destination 192.168.70.10:22", Some(Verdict::Accept)),
            ("-j LOG --log-prefix \"a b -j DROP \"", Some(Verdict::Continue)),
            ("-m comment --comment \"-j ACCEPT\" -j DROP", Some(Verdict::Drop)),
            ("-m comment --comment -j -j DROP", Some(Verdict::Drop)),
            ("-m comment --comment \"say \\\"-j ACCEPT\\\"\"", Some(Verdict::Continue)),
            ("-p tcp", Some(Verdict::Continue)),
            ("-j NFQUEUE --queue-num 3", Some(Verdict::Queue(3))),
            ("-j NFQUEUE --queue-balance 0:3", None),
            ("-j TPROXY --on-port 8080", None),
            ("-j SOMETHING_NEW", None),
            ("-m comment --comment \"not closed -j DROP", None),
            ("-m odd --odd -j ACCEPT -j DROP", None),
        ];
        for (text, expected) in cases {
            assert_eq!(verdict(&format!("-A FORWARD {text}"), &chains), expected, "{text}");
        }
    }
}
