//! Which rule text was in force at which moment.
//!
//! A rule handle is unique within one life of a table only: `flush ruleset` and a reload give the same
//! handles to other rules. So the key is the table's own handle, which the kernel never reuses within a
//! namespace, and where a source does not give it, the life of the table that covers the moment. In doubt
//! the answer is "not known": a wrong rule is worse than none.

use std::collections::{BTreeMap, VecDeque};

use super::{BaseChain, KnownRule, Listing, Rule};
use crate::event::{Commit, NfFamily};
use crate::name::Name;

/// A commit is told by netlink after it took effect, a trace message after the rule was evaluated: within
/// this distance of a commit the order of the two is not known.
const COMMIT_MARGIN_NS: u64 = 20_000_000;
/// A packet that is in a chain when the ruleset changes ends its evaluation by the old one.
const IN_FLIGHT_NS: u64 = 1_000_000;
/// Lives of tables that are over and still kept, for journeys that end late.
const MAX_DEAD_TABLES: usize = 32;
/// Rules that are gone from a living table and still kept, for the same reason.
const MAX_DEAD_RULES: usize = 4096;
/// Rules kept that had the same handle one after the other.
const MAX_REPLACED: usize = 8;
/// Orders of rules kept for each table.
const MAX_ORDERS: usize = 4;
/// Moments of doubt kept for each table.
const MAX_DOUBTS: usize = 64;

/// A rule as a trace source names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleName<'a> {
    /// Family of the table.
    pub family: NfFamily,
    /// Table.
    pub table: &'a str,
    /// `nft_table.handle`, where the source gives it.
    pub table_handle: Option<u64>,
    /// Chain.
    pub chain: &'a str,
    /// Handle of the rule.
    pub handle: u64,
}

/// The rulesets of one namespace over time.
#[derive(Debug, Clone, Default)]
pub struct History {
    lives: Vec<Life>,
    doubts: BTreeMap<(NfFamily, Name), Vec<Doubt>>,
    committed: Option<(u64, u32)>,
    /// From when on an order that is listed now holds.
    ordered_from_ns: u64,
    /// The last transactions: from when to when each may have taken effect.
    commits: VecDeque<(u64, u64)>,
    /// Older ones are not remembered.
    commits_since_ns: u64,
    listed: Option<(u64, Option<u32>)>,
}

/// One table from its creation to its deletion.
#[derive(Debug, Clone)]
struct Life {
    family: NfFamily,
    name: String,
    /// `None` until a listing tells: the commit that created it may not.
    handle: Option<u64>,
    from_ns: u64,
    until_ns: u64,
    chains: BTreeMap<String, Option<BaseChain>>,
    /// By handle: more than one where rules were replaced. The last may be the one before a replacement that has
    /// not been listed yet.
    rules: BTreeMap<u64, Vec<Reign>>,
    /// From when on the next rule listed with a handle holds.
    awaited: BTreeMap<u64, u64>,
    /// In which order chains had their rules, the last listing's last.
    orders: Vec<Order>,
}

/// The rules of each chain in order, by handle, for as long as no transaction came.
#[derive(Debug, Clone)]
struct Order {
    from_ns: u64,
    until_ns: u64,
    chains: BTreeMap<String, Vec<u64>>,
}

/// A rule for as long as it had its handle.
#[derive(Debug, Clone)]
struct Reign {
    chain: String,
    rule: KnownRule,
    from_ns: u64,
    until_ns: u64,
}

impl Life {
    fn is(&self, family: NfFamily, name: &str) -> bool {
        self.family == family && self.name == name
    }

    fn alive(&self) -> bool {
        self.until_ns == u64::MAX
    }

    fn covers(&self, time_ns: u64) -> bool {
        self.from_ns <= time_ns && time_ns < self.until_ns
    }

    fn rule(&self, chain: &str, handle: u64, time_ns: u64) -> Option<&KnownRule> {
        let reign = self.rules.get(&handle)?.iter().find(|r| r.from_ns <= time_ns && time_ns < r.until_ns)?;
        (reign.chain == chain).then_some(&reign.rule)
    }

    /// Another rule took the handle at some moment within the doubt.
    fn replace(&mut self, handle: u64, doubt: &Doubt) {
        if let Some(last) = self.rules.get_mut(&handle).and_then(|reigns| reigns.last_mut()) {
            last.until_ns = last.until_ns.min(doubt.begins_ns());
        }
        self.awaited.insert(handle, doubt.ends_ns());
    }

    /// A rule is listed; `since_ns` is when the ruleset was listed before.
    fn tell(&mut self, chain: &str, rule: &Rule, since_ns: Option<u64>, time_ns: u64) {
        let awaited = self.awaited.remove(&rule.handle);
        let reigns = self.rules.entry(rule.handle).or_default();
        let mut from_ns = awaited.unwrap_or(0);
        if awaited.is_none()
            && let Some(last) = reigns.last_mut()
        {
            if last.rule.text == rule.text && last.chain == chain {
                // Which tools told it can differ.
                last.rule.iptables = rule.iptables.as_ref().map(Name::from).or(last.rule.iptables.take());
                last.rule.counted =
                    last.rule.counted.take().or_else(|| rule.counted.as_ref().map(Name::from));
                return;
            }
            // Nobody told of the replacement.
            last.until_ns = last.until_ns.min(since_ns.unwrap_or(0));
            from_ns = time_ns;
        }
        reigns.push(Reign { chain: chain.to_owned(), rule: rule.into(), from_ns, until_ns: u64::MAX });
        if reigns.len() > MAX_REPLACED {
            reigns.remove(0);
        }
    }
}

/// A span in which nobody can say which life of a table a message was about.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_field_names, reason = "the unit belongs to the name of a time")]
struct Doubt {
    first_ns: u64,
    last_ns: u64,
    before_ns: u64,
    after_ns: u64,
}

impl Doubt {
    /// Around a commit: as wide as its time is uncertain.
    fn around(time_ns: u64, commit: &Commit) -> Self {
        let (before_ns, after_ns) = match commit.uncertain_ns {
            Some(before_ns) => (before_ns, IN_FLIGHT_NS),
            None => (COMMIT_MARGIN_NS, COMMIT_MARGIN_NS),
        };
        Self { first_ns: time_ns, last_ns: time_ns, before_ns, after_ns }
    }

    /// Between two listings.
    fn between(first_ns: u64, last_ns: u64) -> Self {
        Self { first_ns, last_ns, before_ns: COMMIT_MARGIN_NS, after_ns: COMMIT_MARGIN_NS }
    }

    fn begins_ns(&self) -> u64 {
        self.first_ns.saturating_sub(self.before_ns)
    }

    fn ends_ns(&self) -> u64 {
        self.last_ns.saturating_add(self.after_ns)
    }

    fn covers(&self, time_ns: u64) -> bool {
        self.begins_ns() <= time_ns && time_ns <= self.ends_ns()
    }
}

impl History {
    /// Takes note of a transaction.
    pub fn commit(&mut self, time_ns: u64, commit: &Commit) {
        self.committed = Some((time_ns, commit.generation));
        if !is_of_trace_tables(commit) {
            self.reorder(Doubt::around(time_ns, commit));
        }
        for (family, name, handle) in &commit.deleted_tables {
            let mut ended = false;
            for life in self.lives.iter_mut().filter(|l| l.alive() && l.is(*family, name)) {
                if handle.is_none() || life.handle.is_none() || life.handle == *handle {
                    life.until_ns = time_ns;
                    ended = true;
                }
            }
            if ended {
                self.doubt(*family, name, Doubt::around(time_ns, commit));
            }
        }
        for (family, name, handle) in &commit.replaced_rules {
            for life in self.lives.iter_mut().filter(|l| l.alive() && l.is(*family, name)) {
                life.replace(*handle, &Doubt::around(time_ns, commit));
            }
        }
        for (family, name, handle) in &commit.new_tables {
            if handle.is_some() && self.lives.iter().any(|l| l.handle == *handle) {
                continue;
            }
            let mut replaced = commit.deleted_tables.iter().any(|(f, n, _)| f == family && n == name);
            for life in self.lives.iter_mut().filter(|l| l.is(*family, name)) {
                life.until_ns = life.until_ns.min(time_ns);
                replaced = true;
            }
            if replaced {
                self.doubt(*family, name, Doubt::around(time_ns, commit));
            }
            // Without a predecessor there is no doubt, only a message about the new table that came early.
            let from_ns = if replaced { time_ns } else { time_ns.saturating_sub(COMMIT_MARGIN_NS) };
            self.lives.push(Life {
                family: *family,
                name: name.clone(),
                handle: *handle,
                from_ns,
                until_ns: u64::MAX,
                chains: BTreeMap::new(),
                rules: BTreeMap::new(),
                awaited: BTreeMap::new(),
                orders: Vec::new(),
            });
        }
        self.forget_old();
    }

    /// Chains may have other rules, and sets other elements, from then on.
    fn reorder(&mut self, doubt: Doubt) {
        for order in self.lives.iter_mut().filter_map(|life| life.orders.last_mut()) {
            order.until_ns = order.until_ns.min(doubt.begins_ns());
        }
        self.ordered_from_ns = doubt.ends_ns();
        self.commits.push_back((doubt.begins_ns(), doubt.ends_ns()));
        if self.commits.len() > MAX_DOUBTS
            && let Some((_, ended_ns)) = self.commits.pop_front()
        {
            self.commits_since_ns = ended_ns;
        }
    }

    /// Takes note of a listing.
    pub fn list(&mut self, time_ns: u64, listing: &Listing) {
        let previous_ns = self.listed.map(|(time, _)| time);
        let stale = matches!(
            (self.committed, listing.generation),
            (Some((_, committed)), Some(listed)) if newer(committed, listed)
        );
        for table in &listing.tables {
            let known = self.lives.iter().position(|l| l.handle == Some(table.handle)).or_else(|| {
                self.lives.iter().position(|l| {
                    !stale && l.alive() && l.handle.is_none() && l.is(table.family, &table.name)
                })
            });
            let at =
                if let Some(at) = known { at } else { self.discover(time_ns, previous_ns, stale, table) };
            let Some(life) = self.lives.get_mut(at) else { continue };
            life.handle = Some(table.handle);
            for chain in &table.chains {
                life.chains.insert(chain.name.clone(), chain.base.clone());
                for rule in &chain.rules {
                    // What was listed before a replacement is not the rule that is waited for.
                    if !(stale && life.awaited.contains_key(&rule.handle)) {
                        life.tell(&chain.name, rule, previous_ns, time_ns);
                    }
                }
            }
            // One that is newer than every transaction told of holds from now on; when it began is not known.
            let ahead = matches!(
                (self.committed, listing.generation),
                (Some((_, committed)), Some(listed)) if newer(listed, committed)
            );
            let from_ns = if ahead { time_ns } else { self.ordered_from_ns };
            if !stale && life.orders.last().is_none_or(|order| order.until_ns != u64::MAX) {
                life.orders.push(Order {
                    from_ns,
                    until_ns: u64::MAX,
                    chains: table
                        .chains
                        .iter()
                        .map(|chain| {
                            (chain.name.clone(), chain.rules.iter().map(|rule| rule.handle).collect())
                        })
                        .collect(),
                });
                if life.orders.len() > MAX_ORDERS {
                    life.orders.remove(0);
                }
            }
            let listed: usize = table.chains.iter().map(|c| c.rules.len()).sum();
            if life.rules.len() > listed + MAX_DEAD_RULES {
                let kept: std::collections::BTreeSet<u64> =
                    table.chains.iter().flat_map(|c| c.rules.iter().map(|r| r.handle)).collect();
                life.rules.retain(|handle, _| kept.contains(handle));
                life.awaited.retain(|handle, _| kept.contains(handle));
            }
        }
        if !stale {
            self.bury_unlisted(time_ns, previous_ns, listing);
        }
        self.listed = Some((time_ns, listing.generation));
        self.forget_old();
    }

    /// A table that no commit announced: when it came is known to lie between two listings.
    fn discover(
        &mut self,
        time_ns: u64,
        previous_ns: Option<u64>,
        stale: bool,
        table: &super::Table,
    ) -> usize {
        let since = previous_ns.unwrap_or(0);
        let mut from_ns = 0;
        let mut until_ns = u64::MAX;
        let mut replaced = false;
        if stale {
            // It was listed before a commit that this history knows already; if that commit ended this
            // name's life, this is the one that ended.
            let key = (table.family, (&table.name).into());
            if let Some(doubt) = self.doubts.get(&key).and_then(|d| d.last()) {
                until_ns = doubt.first_ns;
            } else if let Some((time, _)) = self.committed
                && self.lives.iter().any(|l| l.alive() && l.is(table.family, &table.name))
            {
                until_ns = time;
            }
        } else {
            for life in self.lives.iter_mut().filter(|l| l.is(table.family, &table.name)) {
                if life.alive() {
                    life.until_ns = since;
                    replaced = true;
                }
                from_ns = from_ns.max(life.until_ns);
            }
        }
        if replaced {
            from_ns = time_ns;
            self.doubt(table.family, &table.name, Doubt::between(since, time_ns));
        }
        self.lives.push(Life {
            family: table.family,
            name: table.name.clone(),
            handle: Some(table.handle),
            from_ns,
            until_ns,
            chains: BTreeMap::new(),
            rules: BTreeMap::new(),
            awaited: BTreeMap::new(),
            orders: Vec::new(),
        });
        self.lives.len() - 1
    }

    /// Tables that were there at the last listing and are not in this one.
    fn bury_unlisted(&mut self, time_ns: u64, previous_ns: Option<u64>, listing: &Listing) {
        let since = previous_ns.unwrap_or(0);
        let mut doubts = Vec::new();
        for life in self.lives.iter_mut().filter(|l| l.alive()) {
            if !listing.tables.iter().any(|t| Some(t.handle) == life.handle) {
                life.until_ns = since.max(life.from_ns);
                doubts.push((life.family, life.name.clone()));
            }
        }
        for (family, name) in doubts {
            self.doubt(family, &name, Doubt::between(since, time_ns));
        }
    }

    fn doubt(&mut self, family: NfFamily, name: &str, doubt: Doubt) {
        let doubts = self.doubts.entry((family, name.into())).or_default();
        doubts.push(doubt);
        if doubts.len() > MAX_DOUBTS {
            doubts.remove(0);
        }
    }

    fn forget_old(&mut self) {
        while self.lives.iter().filter(|l| !l.alive()).count() > MAX_DEAD_TABLES {
            let oldest =
                self.lives.iter().enumerate().filter(|(_, l)| !l.alive()).min_by_key(|(_, l)| l.until_ns);
            let Some((at, _)) = oldest else { break };
            self.lives.remove(at);
        }
        let lives = &self.lives;
        self.doubts.retain(|(family, name), _| lives.iter().any(|l| l.is(*family, name)));
    }

    /// Whether the newest transaction known of has been listed: then a text that is missing stays missing.
    #[must_use]
    pub fn is_current(&self) -> bool {
        match (self.committed, self.listed) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some((_, committed)), Some((_, Some(listed)))) => !newer(committed, listed),
            (Some((committed_ns, _)), Some((listed_ns, None))) => listed_ns > committed_ns,
        }
    }

    /// A rule as it was at a moment, or `None` when that cannot be known. What it had counted is that of its first
    /// listing: nft's traces show what it read at its start, not what was counted since.
    #[must_use]
    pub fn rule(&self, name: &RuleName<'_>, time_ns: u64) -> Option<&KnownRule> {
        self.life(name.family, name.table, name.table_handle, time_ns)?.rule(name.chain, name.handle, time_ns)
    }

    /// The rules of a chain in order, as they were at a moment; `None` when that cannot be known. Of `name`, the handle of
    /// the rule is not looked at.
    #[must_use]
    pub fn chain(&self, name: &RuleName<'_>, time_ns: u64) -> Option<Vec<&KnownRule>> {
        let life = self.life(name.family, name.table, name.table_handle, time_ns)?;
        let order = life.orders.iter().find(|o| o.from_ns <= time_ns && time_ns < o.until_ns)?;
        let handles = order.chains.get(name.chain)?;
        handles.iter().map(|handle| life.rule(name.chain, *handle, time_ns)).collect()
    }

    /// The chains that stood at a moment, with where they hang; those of tables in doubt are left out.
    pub fn chains(&self, time_ns: u64) -> impl Iterator<Item = (RuleName<'_>, Option<&BaseChain>)> {
        let lives = self.lives.iter().filter(move |life| life.covers(time_ns));
        lives.filter(move |life| self.life(life.family, &life.name, None, time_ns).is_some()).flat_map(
            |life| {
                let name = |chain| RuleName {
                    family: life.family,
                    table: &life.name,
                    table_handle: life.handle,
                    chain,
                    handle: 0,
                };
                life.chains.iter().map(move |(chain, base)| (name(chain), base.as_ref()))
            },
        )
    }

    /// Whether no transaction came between two moments.
    #[must_use]
    pub fn is_unchanged_between(&self, first_ns: u64, last_ns: u64) -> bool {
        first_ns >= self.commits_since_ns
            && !self.commits.iter().any(|(begins, ends)| *begins <= last_ns && first_ns <= *ends)
    }

    /// Where a chain hangs, when it is a base chain. Answers also in moments of doubt, as long as every
    /// life of the table says the same: reloads rarely move chains.
    #[must_use]
    pub fn base_chain(
        &self,
        family: NfFamily,
        table: &str,
        table_handle: Option<u64>,
        chain: &str,
        time_ns: u64,
    ) -> Option<&BaseChain> {
        if let Some(life) = self.life(family, table, table_handle, time_ns)
            && let Some(base) = life.chains.get(chain)
        {
            return base.as_ref();
        }
        let mut found: Option<&BaseChain> = None;
        for base in self.lives.iter().filter(|l| l.is(family, table)).filter_map(|l| l.chains.get(chain)) {
            let base = base.as_ref()?;
            if found.is_some_and(|f| f.hook != base.hook || f.kind != base.kind) {
                return None;
            }
            found = Some(base);
        }
        found
    }

    fn life(&self, family: NfFamily, name: &str, handle: Option<u64>, time_ns: u64) -> Option<&Life> {
        if handle.is_some() {
            return self.lives.iter().find(|l| l.handle == handle && l.is(family, name));
        }
        let in_doubt = self
            .doubts
            .get(&(family, name.into()))
            .is_some_and(|doubts| doubts.iter().any(|doubt| doubt.covers(time_ns)));
        if in_doubt {
            return None;
        }
        self.lives.iter().find(|l| l.is(family, name) && l.covers(time_ns))
    }
}

/// Whether a transaction only brought or removed a trace table, which touches nothing else.
fn is_of_trace_tables(commit: &Commit) -> bool {
    let mut tables = commit.new_tables.iter().chain(&commit.deleted_tables).peekable();
    tables.peek().is_some() && tables.all(|(_, name, _)| super::is_trace_table(name))
}

/// Whether generation `a` came after `b`; the counter wraps.
fn newer(a: u32, b: u32) -> bool {
    let distance = a.wrapping_sub(b);
    distance != 0 && distance < u32::MAX / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::HookPoint;
    use crate::ruleset::{Chain, Table};

    const MS: u64 = 1_000_000;

    fn listing(generation: u32, table_handle: u64, rules: &[(u64, &str)]) -> Listing {
        let base = BaseChain {
            kind: "filter".to_owned(),
            hook: HookPoint::Forward,
            devices: Vec::new(),
            priority: 0,
            policy: "accept".to_owned(),
        };
        let rules = rules.iter().map(|(handle, text)| Rule::new(*handle, (*text).to_owned()));
        let chain = Chain { name: "c".to_owned(), handle: 1, base: Some(base), rules: rules.collect() };
        let table =
            Table { family: NfFamily::Inet, name: "t".to_owned(), handle: table_handle, chains: vec![chain] };
        Listing { generation: Some(generation), tables: vec![table] }
    }

    fn text<'a>(history: &'a History, name: &RuleName<'_>, time_ns: u64) -> Option<&'a str> {
        history.rule(name, time_ns).map(|rule| rule.text.as_str())
    }

    fn name(handle: u64, table_handle: Option<u64>) -> RuleName<'static> {
        RuleName { family: NfFamily::Inet, table: "t", table_handle, chain: "c", handle }
    }

    fn reload(generation: u32, handles: bool) -> Commit {
        Commit {
            generation,
            deleted_tables: vec![(NfFamily::Inet, "t".to_owned(), handles.then_some(8))],
            new_tables: vec![(NfFamily::Inet, "t".to_owned(), handles.then_some(9))],
            changes: 2,
            ..Commit::default()
        }
    }

    fn replacement(generation: u32) -> Commit {
        Commit {
            generation,
            replaced_rules: vec![(NfFamily::Inet, "t".to_owned(), 4)],
            changes: 3,
            uncertain_ns: Some(2 * MS),
            ..Commit::default()
        }
    }

    #[test]
    fn a_replaced_rule_leaves_its_handle_and_not_its_text() {
        let mut history = History::default();
        history.list(100 * MS, &listing(1, 8, &[(4, "first"), (5, "other")]));
        history.commit(200 * MS, &replacement(2));
        for table in [None, Some(8)] {
            assert_eq!(text(&history, &name(4, table), 150 * MS), Some("first"));
            assert_eq!(text(&history, &name(4, table), 199 * MS), None, "by either");
            assert_eq!(text(&history, &name(4, table), 205 * MS), None, "not listed yet");
            assert_eq!(text(&history, &name(5, table), 205 * MS), Some("other"));
        }
        // Listed before the replacement, read after it.
        history.list(205 * MS, &listing(1, 8, &[(4, "first"), (5, "other")]));
        assert_eq!(text(&history, &name(4, None), 205 * MS), None);
        history.list(210 * MS, &listing(2, 8, &[(4, "second"), (5, "other")]));
        history.commit(300 * MS, &replacement(3));
        history.list(310 * MS, &listing(3, 8, &[(4, "third"), (5, "other")]));
        for (ms, expected) in
            [(150, Some("first")), (200, None), (202, Some("second")), (299, None), (302, Some("third"))]
        {
            assert_eq!(text(&history, &name(4, None), ms * MS), expected, "at {ms} ms");
        }
    }

    #[test]
    fn a_replacement_that_nobody_told_of_leaves_the_span_between_the_listings_unknown() {
        let mut history = History::default();
        history.list(100 * MS, &listing(1, 8, &[(4, "first")]));
        history.list(500 * MS, &listing(2, 8, &[(4, "second")]));
        // Its notification comes after the listing that has it already: another listing follows.
        history.commit(400 * MS, &replacement(2));
        history.list(600 * MS, &listing(2, 8, &[(4, "second")]));
        for (ms, expected) in [(50, Some("first")), (300, None), (450, Some("second")), (700, Some("second"))]
        {
            assert_eq!(text(&history, &name(4, None), ms * MS), expected, "at {ms} ms");
        }
    }

    #[test]
    fn a_commit_whose_time_is_known_leaves_little_in_doubt() {
        let mut history = History::default();
        history.list(100 * MS, &listing(1, 8, &[(4, "old")]));
        history.commit(500 * MS, &Commit { uncertain_ns: Some(2 * MS), ..reload(2, true) });
        history.list(700 * MS, &listing(2, 9, &[(4, "new")]));
        assert_eq!(text(&history, &name(4, None), 497 * MS), Some("old"));
        assert_eq!(text(&history, &name(4, None), 499 * MS), None, "by either");
        assert_eq!(text(&history, &name(4, None), 502 * MS), Some("new"));
    }

    #[test]
    fn what_a_rule_had_counted_is_that_of_its_first_listing() {
        let counted = |generation: u32, text: &str, counted: &str| {
            let mut listing = listing(generation, 8, &[(4, text)]);
            listing.tables[0].chains[0].rules[0].counted = Some(counted.to_owned());
            listing
        };
        let mut history = History::default();
        history.list(100 * MS, &counted(1, "counter", "counter packets 0 bytes 0"));
        history.list(200 * MS, &counted(2, "counter", "counter packets 7 bytes 420"));
        let counted_text = |history: &History, ms: u64| {
            history.rule(&name(4, None), ms * MS).map(|rule| rule.counted_text().to_owned())
        };
        assert_eq!(counted_text(&history, 300).as_deref(), Some("counter packets 0 bytes 0"));
        assert_eq!(text(&history, &name(4, None), 300 * MS), Some("counter"));
        // Replaced: another rule, whose counter began anew.
        history.list(400 * MS, &counted(3, "counter drop", "counter packets 1 bytes 60 drop"));
        assert_eq!(counted_text(&history, 500).as_deref(), Some("counter packets 1 bytes 60 drop"));
        history.list(600 * MS, &listing(4, 8, &[(4, "drop")]));
        assert_eq!(counted_text(&history, 700).as_deref(), Some("drop"), "nothing counts");
    }

    #[test]
    fn a_reload_never_shows_the_wrong_rule() {
        for handles in [true, false] {
            let mut history = History::default();
            history.list(100 * MS, &listing(1, 8, &[(4, "old")]));
            assert_eq!(text(&history, &name(4, None), 50 * MS), Some("old"), "before the first listing");
            history.commit(500 * MS, &reload(2, handles));
            assert!(!history.is_current());
            assert_eq!(text(&history, &name(4, None), 600 * MS), None, "not listed yet");
            history.list(700 * MS, &listing(2, 9, &[(4, "new")]));
            assert!(history.is_current());
            let cases = [
                (400, Some("old")),
                (485, None),
                (500, None),
                (515, None),
                (521, Some("new")),
                (900, Some("new")),
            ];
            for (ms, expected) in cases {
                assert_eq!(text(&history, &name(4, None), ms * MS), expected, "at {ms} ms");
            }
            assert_eq!(text(&history, &name(4, Some(8)), 500 * MS), Some("old"));
            assert_eq!(text(&history, &name(4, Some(9)), 500 * MS), Some("new"));
            assert_eq!(text(&history, &name(4, Some(10)), 500 * MS), None);
        }
    }

    #[test]
    fn a_listing_made_before_the_commit_does_not_speak_for_after() {
        let mut history = History::default();
        history.commit(500 * MS, &reload(2, false));
        history.list(510 * MS, &listing(1, 8, &[(4, "old")]));
        assert!(!history.is_current());
        assert_eq!(text(&history, &name(4, None), 600 * MS), None);
        history.list(520 * MS, &listing(2, 9, &[(4, "new")]));
        for (ms, expected) in [(400, Some("old")), (490, None), (510, None), (600, Some("new"))] {
            assert_eq!(text(&history, &name(4, None), ms * MS), expected, "at {ms} ms");
        }
        assert_eq!(text(&history, &name(4, Some(8)), 600 * MS), Some("old"));
    }

    #[test]
    fn a_reload_whose_commit_was_lost_leaves_the_span_between_the_listings_unknown() {
        let mut history = History::default();
        history.list(100 * MS, &listing(1, 8, &[(4, "old")]));
        history.list(500 * MS, &listing(2, 9, &[(4, "new")]));
        for (ms, expected) in [(50, Some("old")), (300, None), (510, None), (600, Some("new"))] {
            assert_eq!(text(&history, &name(4, None), ms * MS), expected, "at {ms} ms");
        }
    }

    #[test]
    fn rules_added_and_deleted_in_a_living_table_keep_their_text() {
        let mut history = History::default();
        history.list(100 * MS, &listing(1, 8, &[(4, "first")]));
        history.commit(200 * MS, &Commit { generation: 2, ..Commit::default() });
        assert_eq!(text(&history, &name(4, None), 200 * MS), Some("first"), "no table came or went");
        history.list(210 * MS, &listing(2, 8, &[(5, "second")]));
        assert_eq!(text(&history, &name(4, None), 150 * MS), Some("first"));
        assert_eq!(text(&history, &name(5, None), 205 * MS), Some("second"));
        assert_eq!(text(&history, &name(6, None), 205 * MS), None);
    }

    #[test]
    fn a_rule_is_looked_for_in_its_own_chain() {
        let mut history = History::default();
        history.list(100 * MS, &listing(1, 8, &[(4, "first")]));
        let elsewhere = RuleName { chain: "d", ..name(4, None) };
        assert_eq!(text(&history, &elsewhere, 150 * MS), None);
    }

    #[test]
    fn chains_are_found_even_within_a_reload() {
        let mut history = History::default();
        history.list(100 * MS, &listing(1, 8, &[]));
        history.commit(500 * MS, &reload(2, true));
        history.list(510 * MS, &listing(2, 9, &[]));
        let base = history.base_chain(NfFamily::Inet, "t", None, "c", 500 * MS).expect("a base chain");
        assert_eq!(base.hook, HookPoint::Forward);
        assert!(history.base_chain(NfFamily::Inet, "t", None, "d", 500 * MS).is_none());
    }

    #[test]
    fn many_reloads_do_not_grow_it() {
        let mut history = History::default();
        for i in 0..1000_u32 {
            let (old, new) = (u64::from(i), u64::from(i) + 1);
            let commit = Commit {
                generation: i,
                deleted_tables: vec![(NfFamily::Inet, "t".to_owned(), Some(old))],
                new_tables: vec![(NfFamily::Inet, "t".to_owned(), Some(new))],
                changes: 2,
                ..Commit::default()
            };
            let at = u64::from(i) * 100 * MS;
            history.commit(at, &commit);
            history.list(at + MS, &listing(i, new, &[(1, "x")]));
        }
        assert!(history.lives.len() <= MAX_DEAD_TABLES + 1);
        assert!(history.doubts.values().all(|d| d.len() <= MAX_DOUBTS));
    }
}
