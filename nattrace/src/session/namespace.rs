//! What is opened in each watched namespace.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use nattrace_core::event::{Body, Event, Source};
use nattrace_core::ruleset::Listing;

use super::clock::now_ns;
use crate::cli::plan::{NetnsChoice, TracePlan};
use crate::render::SourceState;
use crate::source::netlink::conntrack::{self, ConntrackSocket};
use crate::source::netlink::fib::FibSocket;
use crate::source::netlink::route;
use crate::source::netlink::ruleset_changes::{self, RulesetSocket};
use crate::source::netlink::trace::TraceSocket;
use crate::source::netlink::trace_table::{Beside, FollowBy, TraceTable, TraceTableError, TraceTableSpec};
use crate::source::netns::{self, Netns};
use crate::source::ruleset::{self, Counted, ListError, Listed};

/// A watched namespace with its sockets. Dropping it removes the trace table.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) netns: Arc<Netns>,
    pub(super) trace: Option<TraceSocket>,
    pub(super) ruleset: Option<RulesetSocket>,
    pub(super) conntrack: Option<ConntrackSocket>,
    pub(super) fib: Option<FibSocket>,
    pub(super) table: Option<TraceTable>,
    counted: Counted,
    /// The ruleset before the trace table was installed. That table's own notification leads to the next listing.
    listed: Option<TimedListing>,
}

/// A listing, or why there is none, and when it was complete, in nanoseconds since the epoch.
type TimedListing = (u64, Result<Listed, ListError>);

fn list(netns: &Netns, counted: Counted) -> TimedListing {
    let listed = ruleset::list_with(netns, counted);
    (now_ns(), listed)
}

/// The namespaces the plan names. A namespace given twice is watched once.
pub(super) fn choose(choice: &NetnsChoice) -> Result<Vec<Netns>> {
    let mut chosen: BTreeMap<u32, Netns> = BTreeMap::new();
    match choice {
        NetnsChoice::Current => {
            let current = netns::current().context("the current network namespace")?;
            chosen.insert(current.inum, current);
        }
        NetnsChoice::Named(names) => {
            for name in names {
                let netns = netns::resolve(name).with_context(|| format!("--netns {name}"))?;
                chosen.insert(netns.inum, netns);
            }
        }
        NetnsChoice::All => {
            for netns in netns::all() {
                chosen.insert(netns.inum, netns);
            }
        }
    }
    Ok(chosen.into_values().collect())
}

/// A device that no watched namespace has is a mistake in the filter, not an empty result.
pub(super) fn check_devices(plan: &TracePlan, namespaces: &[Netns]) -> Result<()> {
    if plan.filter.iif.is_empty() && plan.filter.oif.is_empty() {
        return Ok(());
    }
    let mut known = Vec::new();
    for netns in namespaces {
        if let Ok(Ok(links)) = netns::run_in(netns, route::links) {
            known.extend(links.into_iter().map(|link| link.name));
        }
    }
    for (flag, names) in [("--iif", &plan.filter.iif), ("--oif", &plan.filter.oif)] {
        for name in names {
            if !known.contains(name) {
                anyhow::bail!(
                    "{flag} {name}: no such interface in the traced namespace; `ip link` lists them"
                );
            }
        }
    }
    Ok(())
}

impl Watched {
    /// Opens the sockets that are wanted; what cannot be opened is noted in `states`.
    pub(super) fn open(netns: Netns, plan: &TracePlan, states: &mut States) -> Self {
        let wants = |source| plan.sources.set.contains(&source);
        let mut watched = Self {
            netns: Arc::new(netns),
            trace: None,
            ruleset: None,
            conntrack: None,
            fib: None,
            table: None,
            counted: super::trace::counted(plan),
            listed: None,
        };
        if wants(Source::Nft) {
            // Asking makes the kernel load nf_tables.
            let opened = watched
                .try_inside(ruleset_changes::generation)
                .and_then(|_| watched.try_inside(TraceSocket::open));
            match opened {
                Ok(socket) => watched.trace = Some(socket),
                Err(why) => states.off(Source::Nft, &why),
            }
            // Rule text and its changes: without them rules are shown by handle.
            watched.ruleset = watched.try_inside(RulesetSocket::open).ok();
        }
        if wants(Source::Conntrack) {
            match watched.try_inside(ConntrackSocket::open) {
                Ok(socket) => watched.conntrack = Some(socket),
                Err(why) => states.off(Source::Conntrack, &why),
            }
        }
        // Without it no routing table is told.
        watched.fib = watched.try_inside(FibSocket::open).ok();
        watched
    }

    /// Runs something in the namespace.
    pub(super) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> std::io::Result<T> {
        netns::run_in(&self.netns, work)
    }

    /// Runs something that can fail in the namespace; why it, or entering, did.
    fn try_inside<T: Send, E: std::fmt::Display + Send>(
        &self,
        work: impl FnOnce() -> Result<T, E> + Send,
    ) -> Result<T, String> {
        match self.inside(work) {
            Ok(done) => done.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// How replies can be recognised here without switching anything on that is off.
    pub(super) fn follow_by(&mut self, plan: &TracePlan) -> FollowBy {
        if !plan.follow {
            return FollowBy::No;
        }
        let (other, tracked) =
            self.inside(|| (ruleset::legacy::saved_here(), conntrack::tracked())).unwrap_or_default();
        let (_, listed) = self.listed.insert(list(&self.netns, self.counted));
        let nothing = Listing::default();
        let listing = listed.as_ref().map_or(&nothing, |listed| &listed.listing);
        if conntrack::in_use(listing, &other, tracked) { FollowBy::Conntrack } else { FollowBy::Headers }
    }

    /// Installs the trace table, and those beside it that the ruleset asks for; what could not be installed of these.
    pub(super) fn install_table(&mut self, spec: &TraceTableSpec) -> Result<Vec<String>, TraceTableError> {
        let mut table = self.inside(|| TraceTable::install(spec))??;
        let (_, listed) = self.listed.get_or_insert_with(|| list(&self.netns, self.counted));
        let wanted = listed.as_ref().map(|listed| Beside::wanted(&listed.listing, &spec.filter));
        let mut refused = Vec::new();
        // They are the socket's, which knows its namespace.
        for beside in wanted.unwrap_or_default() {
            let family = beside.family().name();
            if let Err(error) = table.add(spec, beside) {
                refused.push(format!("no trace table in the family {family}: {error}"));
            }
        }
        self.table = Some(table);
        Ok(refused)
    }

    /// What is known before the first packet: the namespace's name, its devices, our table, the ruleset; and what
    /// is to be said about texts that are missing.
    pub(super) fn introduction(&mut self) -> (Vec<Event>, Vec<String>) {
        let time_ns = now_ns();
        let event = |body| Event { time_ns, cpu: u32::MAX, netns: self.netns.inum, body };
        let mut events = vec![event(Body::Namespace { name: self.netns.name.clone() })];
        if let Some(table) = &self.table {
            let own = |family| event(Body::OwnTable { family, name: table.name().to_owned() });
            events.extend(table.families().map(own));
        }
        if let Ok(Ok(links)) = self.inside(route::links) {
            events.extend(links.into_iter().map(|link| event(Body::Link(link))));
        }
        let (listed_ns, listed) = self.listed.take().unwrap_or_else(|| list(&self.netns, self.counted));
        let notes = match listed {
            Ok(listed) => {
                events.push(Event { time_ns: listed_ns, ..event(Body::Ruleset(listed.listing)) });
                let note = |tool| format!("without {tool}: what iptables-nft made is shown in nft's words");
                listed.missing.into_iter().map(note).collect()
            }
            Err(error) => vec![format!("no rule text: {error}")],
        };
        (events, notes)
    }
}

/// Which source is on, and why one is not. A source that works in one namespace is on.
#[derive(Debug, Default)]
pub(super) struct States {
    states: BTreeMap<Source, SourceState>,
}

impl States {
    /// A source gives events.
    pub(super) fn on(&mut self, source: Source) {
        self.states.insert(source, SourceState::On);
    }

    /// A source does not, unless it does elsewhere.
    pub(super) fn off(&mut self, source: Source, why: &str) {
        self.states.entry(source).or_insert_with(|| SourceState::Off(one_line(why)));
    }

    /// Whether a source is on.
    pub(super) fn is_on(&self, source: Source) -> bool {
        self.states.get(&source) == Some(&SourceState::On)
    }

    /// Sources that were asked for and are not to be had, with the reason.
    pub(super) fn refused(&self) -> Vec<(Source, String)> {
        let refused = |(source, state): (&Source, &SourceState)| match state {
            SourceState::Off(why) => Some((*source, why.clone())),
            SourceState::On => None,
        };
        self.states.iter().filter_map(refused).collect()
    }

    /// The reasons, by source.
    pub(super) fn finish(mut self) -> BTreeMap<Source, SourceState> {
        for source in Source::ALL {
            self.off(source, "left out by --sources");
        }
        self.states
    }
}

fn one_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim().to_owned()
}
