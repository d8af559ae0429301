//! Journeys do not depend on how the processors' events came to lie beside each other.
//!
//! The ring is one for all processors, and its records are in the order in which they were reserved. So what one processor
//! tells, and what is told of one packet, is in order always; what two processors tell of different packets at one time
//! is in any order. The sockets beside the ring (connections, transactions) are read when the ring has been, and lag. Real
//! recordings are played here in other orders that kernel and program could as well have given.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::*;
use fastrand::Rng;
use nattrace_core::event::{Body, Event, Source};
use nattrace_core::journey::{Journey, JourneyId, Options, SourcesOn};

/// How far events of different processors are moved past each other: more than between a reservation and its
/// record's time on any processor that is not stopped.
const APART_NS: u64 = 2 * MS;
/// Orders that each recording is played in; `NATTRACE_ORDERS` asks for more.
const ORDERS: u64 = 2;
/// Events of a recording at most: the largest take as long as all others.
const LONGEST: usize = 5000;

/// The streams that an event is of, each of which keeps its order.
fn streams(event: &Event) -> Vec<Stream> {
    let packet = match &event.body {
        Body::NftTrace(trace) => trace.packet.or(trace.hint),
        body => body.packet(),
    };
    match event.body.source() {
        Some(Source::Conntrack) => vec![Stream::Connections(event.netns)],
        // What the program itself adds has no other order than with the clock.
        None => vec![Stream::Program],
        Some(_) => [Stream::Processor(event.cpu)].into_iter().chain(packet.map(Stream::Packet)).collect(),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stream {
    Processor(u32),
    Packet(u64),
    Connections(u32),
    Program,
}

/// The same events in another order that keeps each stream's.
fn interleaved(events: &[Event], rng: &mut Rng) -> Vec<Event> {
    let mut latest: BTreeMap<Stream, u64> = BTreeMap::new();
    let mut arrived = 0;
    let mut keyed: Vec<(u64, &Event)> = Vec::new();
    for event in events {
        arrived = arrived.max(event.time_ns);
        // The program looks at the clock when it has read all there was, and asks about what it has read.
        if matches!(event.body, Body::Clock { .. } | Body::Fib(_) | Body::SetAnswer(_) | Body::Neighbour(_)) {
            arrived = keyed.iter().map(|(key, _)| *key).fold(arrived, u64::max);
        }
        let streams = streams(event);
        let delay = if streams == [Stream::Program] { 0 } else { rng.u64(..APART_NS) };
        let least = streams.iter().filter_map(|stream| latest.get(stream)).copied().fold(0, u64::max);
        let key = (arrived + delay).max(least);
        latest.extend(streams.into_iter().map(|stream| (stream, key)));
        keyed.push((key, event));
    }
    keyed.sort_by_key(|(key, _)| *key);
    keyed.into_iter().map(|(_, event)| event.clone()).collect()
}

fn journeys(options: &Options, events: Vec<Event>) -> Vec<String> {
    let has_clock = events.iter().any(|event| matches!(event.body, Body::Clock { .. }));
    let mut journeys = told_every(if has_clock { u64::MAX } else { 50 * MS }, options.clone(), events);
    journeys.sort_by_key(|journey| (journey.first_seen_ns, journey.packet_id));
    let places: BTreeMap<JourneyId, u64> = journeys.iter().map(|journey| journey.id).zip(1..).collect();
    journeys.iter().map(|journey| with_places(journey, &places)).collect()
}

/// A journey in words, with places in the order of beginnings for ids, which say what ended first.
fn with_places(journey: &Journey, places: &BTreeMap<JourneyId, u64>) -> String {
    let mut rest = format!("{journey:?}");
    let mut told = String::new();
    while let Some((before, after)) = rest.split_once("JourneyId(") {
        let (id, after) = after.split_once(')').expect("a number");
        let place = places.get(&JourneyId(id.parse().expect("a number")));
        told.extend([before, "#", &place.map_or("?".to_owned(), u64::to_string)]);
        rest = after.to_owned();
    }
    told + &rest
}

fn recordings() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    for (folder, extension) in [("tests/recordings", "jsonl"), ("../nattrace/tests/recordings", "rec")] {
        let entries = std::fs::read_dir(root.join(folder)).expect("the folder");
        let entries = entries.map(|entry| entry.expect("an entry").path());
        paths.extend(entries.filter(|path| path.extension().is_some_and(|e| e == extension)));
    }
    paths.sort();
    paths
}

#[test]
fn any_order_that_keeps_each_processor_s_and_each_packet_s_gives_the_same_journeys() {
    let asked = |name| std::env::var(name).ok().map(|number| number.parse::<u64>().expect("a number"));
    let seed = asked("NATTRACE_SEED").unwrap_or_else(|| fastrand::u64(..));
    let orders = asked("NATTRACE_ORDERS").unwrap_or(ORDERS);
    let (mut wrong, mut moved) = (Vec::new(), 0);
    for path in recordings() {
        let (header, events) = recorded(&path);
        if events.len() > LONGEST {
            continue;
        }
        let sources = SourcesOn::where_on(|source| header.is_on(source));
        let options =
            Options { filter: header.filter, follow: !header.no_follow, sources, ..Options::default() };
        let expected = journeys(&options, events.clone());
        for order in 0..orders {
            // The first half of the orders is the same in every run.
            let mut rng = Rng::with_seed(if order < orders / 2 { order } else { seed.wrapping_add(order) });
            let other = interleaved(&events, &mut rng);
            moved += usize::from(other != events);
            let told = journeys(&options, other);
            if told != expected {
                let differ = expected.iter().zip(&told).find(|(was, is)| was != is);
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                wrong.push(format!(
                    "{name} in order {order}: {} and {} journeys\n{differ:#?}",
                    expected.len(),
                    told.len()
                ));
                break;
            }
        }
    }
    assert!(moved > 100, "{moved} orders were others");
    assert!(wrong.is_empty(), "NATTRACE_SEED={seed}: {} recordings\n{}", wrong.len(), wrong.join("\n"));
}
