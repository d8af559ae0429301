//! A journey as entries: one for each hook and device, and one behind each rewrite.

use nattrace_core::event::{HookPoint, Manip, NetnsId, NfFamily};
use nattrace_core::journey::{
    DeviceStep, DropCause, Journey, JourneyId, KernelDrop, Outcome, Step, StepKind,
};
use nattrace_core::packet::{Endpoint, Family};

use super::frame::{Moment, Origin, frame};
use super::interface::{Interface, Link, Place};
use super::{INBOUND, OUTBOUND};
use crate::render::escape::escape;
use crate::render::layout::Row;
use crate::render::namespaces::Namespaces;
use crate::render::style::Span;
use crate::render::text::{header, rows, words};

/// A packet at one place.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) time_ns: u64,
    pub(super) journey: JourneyId,
    pub(super) interface: Interface,
    pub(super) bytes: Vec<u8>,
    /// As it was on its way.
    pub(super) length: u32,
    /// One line each.
    pub(super) comments: Vec<String>,
    /// Of `epb_flags`, where there is one.
    pub(super) direction: Option<u32>,
}

/// Where an entry begins, and the addresses there.
struct Stop {
    /// The first step that is told with it.
    first: usize,
    time_ns: u64,
    netns: NetnsId,
    place: Place,
    direction: Option<u32>,
    /// Source and destination.
    ends: (Option<Endpoint>, Option<Endpoint>),
}

/// The entries of a journey: at least one.
pub(super) fn entries(journey: &Journey, namespaces: &Namespaces) -> Vec<Entry> {
    let stops = stops(journey);
    let rows = rows::by_step(journey, namespaces);
    let last = stops.len().saturating_sub(1);
    let mut entries = Vec::new();
    for (i, stop) in stops.iter().enumerate() {
        let next = stops.get(i + 1);
        let moment = Moment {
            netns: stop.netns,
            time_ns: stop.time_ns
                ..next.map_or(u64::MAX, |next| next.time_ns.max(stop.time_ns.saturating_add(1))),
            source: stop.ends.0,
            destination: stop.ends.1,
        };
        let frame = frame(journey, &moment);
        // What was told before the first place belongs to it; what comes last, to the last one.
        let first = if i == 0 { 0 } else { stop.first };
        let until = next.map_or(usize::MAX, |next| next.first);
        let mut comments = if i == 0 { title(journey) } else { vec![format!("journey #{}", journey.id)] };
        comments.extend(rows.iter().filter(|(at, _)| (first..until).contains(at)).map(|(_, row)| line(row)));
        let told = journey.steps.get(first..until.min(journey.steps.len())).unwrap_or_default();
        comments.extend(told.iter().filter_map(kernel_drop).flat_map(drop_words));
        if i == last {
            comments.extend(meaning(journey));
        }
        comments.extend(frame.link.as_deref().map(ether));
        comments.extend(origin(frame.origin, journey.packet.family));
        let link = if journey.packet.family == Family::Arp { Link::Ethernet } else { Link::Ip };
        entries.push(Entry {
            time_ns: stop.time_ns,
            journey: journey.id,
            interface: Interface::new(stop.netns, stop.place.clone(), link, namespaces),
            bytes: frame.bytes,
            length: frame.length,
            comments,
            direction: stop.direction,
        });
    }
    entries
}

/// The places of a journey, and the addresses at each.
fn stops(journey: &Journey) -> Vec<Stop> {
    let mut ends = (journey.packet.source, journey.packet.destination);
    let mut stops: Vec<Stop> = Vec::new();
    for (first, step) in journey.steps.iter().enumerate() {
        let here = stops.last().filter(|last| last.netns == step.netns);
        let Some((place, direction)) = place(step, here, journey.packet.family) else { continue };
        if let StepKind::Rewrite { nat, to, .. } = &step.kind {
            match nat {
                Manip::Dnat => ends.1 = Some(*to),
                Manip::Snat => ends.0 = Some(*to),
            }
        }
        stops.push(Stop { first, time_ns: step.time_ns, netns: step.netns, place, direction, ends });
    }
    if stops.is_empty() {
        let netns = journey.steps.first().map_or(journey.netns.inum, |step| step.netns);
        let (time_ns, place) = (journey.first_seen_ns, Place::Elsewhere);
        stops.push(Stop { first: 0, time_ns, netns, place, direction: None, ends });
    }
    stops
}

/// Where a step shows the packet anew; `here` is where it was seen last.
fn place(step: &Step, here: Option<&Stop>, family: Family) -> Option<(Place, Option<u32>)> {
    match &step.kind {
        StepKind::Hook { hook, family, iif, oif, .. } => {
            Some((Place::hook(*family, *hook, iif.as_deref(), oif.as_deref()), None))
        }
        StepKind::Device { event: DeviceStep::Receive, name } => {
            Some((Place::Device(name.clone()), Some(INBOUND)))
        }
        StepKind::Device { event: DeviceStep::Transmit, name } => {
            Some((Place::Device(name.clone()), Some(OUTBOUND)))
        }
        StepKind::Rewrite { inner: false, .. } => {
            Some(here.map_or((Place::Elsewhere, None), |here| (here.place.clone(), here.direction)))
        }
        // A rule knows its hook even where the hook itself was not seen.
        kind => {
            let hook = kind.hook_of_rules()?;
            let family = if family == Family::Arp { NfFamily::Arp } else { NfFamily::Inet };
            let is_here = here.is_some_and(|here| is_hook(&here.place, hook));
            (!is_here).then(|| (Place::hook(family, hook, None, None), None))
        }
    }
}

fn is_hook(place: &Place, wanted: HookPoint) -> bool {
    matches!(place, Place::Hook(hook) | Place::OtherHook(_, hook, _) if *hook == wanted)
}

/// Which packet it is, and what others it belongs to.
fn title(journey: &Journey) -> Vec<String> {
    let title: String = header::title(journey).iter().map(Span::text).collect();
    let mut lines = vec![format!("journey {title}")];
    lines.extend(header::details(journey));
    lines.extend(journey.retransmission_of.map(|first| {
        let same = if journey.same_path { "same path, same end" } else { "path or end differ" };
        format!("retransmission of #{first}: {same}")
    }));
    lines
}

fn line(row: &Row) -> String {
    let text: String = row.text.iter().map(Span::text).collect();
    let place = row.place.as_ref().map(Span::text);
    let parts = [Some(row.label.text()), place, Some(&text)].into_iter().flatten();
    parts.map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("  ")
}

/// The kernel's own names for a drop: a comment for themselves, to be filtered by.
fn drop_words(KernelDrop { reason, function, .. }: &KernelDrop) -> Vec<String> {
    [("drop reason", reason), ("drop function", function)]
        .into_iter()
        .filter_map(|(what, name)| name.as_ref().map(|name| format!("{what}: {}", escape(name))))
        .collect()
}

fn kernel_drop(step: &Step) -> Option<&KernelDrop> {
    match &step.kind {
        StepKind::Drop(drop) => Some(drop),
        _ => None,
    }
}

/// What it means and what to do.
fn meaning(journey: &Journey) -> Vec<String> {
    let mut lines = Vec::new();
    let told = journey.steps.iter().any(|step| kernel_drop(step).is_some());
    if let (false, Outcome::Dropped(DropCause::Kernel(drop))) = (told, &journey.outcome) {
        lines.extend(drop_words(drop));
    }
    for finding in &journey.findings {
        let why = words::certainty(finding.certainty);
        lines.push(format!("{why}: {}", escape(&finding.text)));
        lines.extend(finding.fix.iter().map(|command| format!("fix: {}", escape(command))));
    }
    lines
}

fn ether(link: &[u8]) -> String {
    let address = |range: std::ops::Range<usize>| {
        let bytes = link.get(range).unwrap_or_default();
        bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
    };
    format!("came as ether {} → {}", address(6..12), address(0..6))
}

/// How the bytes came about, where they are not what was seen.
fn origin(origin: Origin, family: Family) -> Option<String> {
    let told = match (origin, family) {
        (Origin::Seen, _) => return None,
        (Origin::Changed, _) => {
            "bytes: as seen elsewhere on its way, with the addresses, ports, TTL and checksums of here"
        }
        (Origin::Made, Family::Arp) => {
            "bytes: made of the two addresses that are known; operation and link-layer addresses are not, and 0"
        }
        (Origin::Made, _) => {
            "bytes: made of header fields; what is not known is 0: checksums and options behind the IP header, \
             TCP's window, don't-fragment"
        }
        (Origin::Unknown, _) => "bytes: not known",
    };
    Some(told.to_owned())
}
