//! When the rules of legacy iptables are listed: at the start, and again when a packet came to one of them, or they were
//! in use before, and they have changed since.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nattrace_core::event::{Body, Event, LegacyChange, NetnsId, Source};
use nattrace_core::ruleset::legacy::Listing;

use super::clock::now_ns;
use super::namespace::Watched;
use crate::cli::plan::TracePlan;
use crate::source::bpf::load::Programs;
use crate::source::netns::Netns;
use crate::source::ruleset::legacy;

/// After a change: longer than packets that are in a table may still tell of its old rules, so that one listing
/// speaks for all that come later.
const SETTLE_NS: u64 = 30_000_000;
/// The least time from one listing of a namespace to the next.
const REST_NS: u64 = 200_000_000;

/// Which namespaces are to be listed again.
#[derive(Debug, Default)]
pub(super) struct LegacyListings {
    /// Namespaces in which legacy iptables is in use.
    used: BTreeSet<NetnsId>,
    /// When the listing that was taken last was begun.
    listed: BTreeMap<NetnsId, u64>,
    /// Namespaces whose listing is under way.
    under_way: BTreeSet<NetnsId>,
    settled_ns: u64,
    complained: bool,
}

impl LegacyListings {
    /// Takes note of an event; namespaces that are to be listed because of it, and after which time.
    pub(super) fn see(&mut self, event: &Event) -> Vec<(NetnsId, Duration)> {
        match &event.body {
            Body::LegacyRule(_) => {
                self.used.insert(event.netns);
            }
            Body::LegacyRuleset(listing) => {
                if !listing.tables.is_empty() {
                    self.used.insert(event.netns);
                }
                self.listed.insert(event.netns, listing.begun_ns);
                self.under_way.remove(&event.netns);
            }
            Body::LegacyChange(LegacyChange::Watched) => self.settles(event.time_ns),
            Body::LegacyChange(LegacyChange::Ended { .. }) => self.settles(event.time_ns + SETTLE_NS),
            // A change may be among what was lost.
            Body::Loss(loss) if loss.source == Source::Probes => {
                self.settles(loss.last_ns + SETTLE_NS);
            }
            _ => return Vec::new(),
        }
        self.due()
    }

    /// Only a listing that is begun later says what holds from now on.
    fn settles(&mut self, time_ns: u64) {
        self.settled_ns = self.settled_ns.max(time_ns);
    }

    fn due(&mut self) -> Vec<(NetnsId, Duration)> {
        let settled = self.settled_ns;
        let stale = |netns: &&NetnsId| {
            !self.under_way.contains(netns) && self.listed.get(netns).is_none_or(|begun| *begun < settled)
        };
        let due: Vec<NetnsId> = self.used.iter().filter(stale).copied().collect();
        self.under_way.extend(&due);
        let now = now_ns();
        let after = |netns: NetnsId| {
            let rested = self.listed.get(&netns).map_or(0, |begun| begun.saturating_add(REST_NS));
            (netns, Duration::from_nanos(settled.max(rested).saturating_sub(now)))
        };
        due.into_iter().map(after).collect()
    }

    /// A namespace is not watched any more.
    pub(super) fn forget(&mut self, netns: NetnsId) {
        self.used.remove(&netns);
        self.listed.remove(&netns);
        self.under_way.remove(&netns);
    }

    /// Whether a listing is under way.
    pub(super) fn is_waiting(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// What to say of a listing that lacks something: once.
    pub(super) fn complaint(&mut self, why: Option<String>) -> Option<String> {
        why.filter(|_| !std::mem::replace(&mut self.complained, true))
    }
}

/// That changes are told from now on.
pub(super) fn watched() -> Event {
    Event { time_ns: now_ns(), cpu: u32::MAX, netns: 0, body: Body::LegacyChange(LegacyChange::Watched) }
}

/// Lists a namespace as an event, and why something is missing of it. It blocks.
pub(super) fn list(netns: &Netns) -> (Event, Option<String>) {
    let (listing, missing): (Listing, _) = legacy::list(netns, now_ns());
    let body = Body::LegacyRuleset(listing);
    let event = Event { time_ns: now_ns(), cpu: u32::MAX, netns: netns.inum, body };
    (event, missing.map(|missing| missing.to_string()))
}

/// What the start has to say of legacy iptables where it is in use: what is known of its rules, and what a user loses.
pub(super) fn introduction(
    watched: &[Watched],
    programs: Option<&Programs>,
    plan: &TracePlan,
    notes: &mut Vec<String>,
) -> (Vec<Event>, LegacyListings) {
    let mut listings = LegacyListings::default();
    let told = programs.is_some_and(Programs::tells_legacy_rules);
    let marked = watched.iter().any(|w| w.table.is_some());
    let mut events = Vec::new();
    if programs.is_some_and(Programs::tells_legacy_changes) {
        events.push(self::watched());
    }
    let used: Vec<&Watched> = watched.iter().filter(|w| legacy::is_in_use(&w.netns)).collect();
    if used.is_empty() {
        return (events, listings);
    }
    if !told {
        notes.push("rules of legacy iptables are not shown: that needs probes".to_owned());
        return (events, listings);
    }
    if !plan.trace_table {
        notes.push(
            "--no-trace-table: rules of legacy iptables are shown only for packets that its TRACE target marks"
                .to_owned(),
        );
    } else if !marked {
        notes.push("rules of legacy iptables are not shown: that needs the trace table".to_owned());
    }
    let mut missing = None;
    for watched in used {
        let (event, why) = list(&watched.netns);
        events.push(event);
        missing = missing.or(why);
        if marked && let Some(logger) = watched.inside(legacy::logger).ok().flatten() {
            notes.push(format!(
                "legacy iptables has a logger ({logger}): the kernel may log its rules for traced packets, too"
            ));
        }
    }
    notes.extend(listings.complaint(missing));
    (events, listings)
}
