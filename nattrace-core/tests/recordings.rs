//! What real kernels sent, replayed: `recordings/NAME.jsonl` must give what `recordings/NAME.txt` says. They
//! were made with `nattrace --record`: those called `full-` on Debian 6.12 (or the kernel that follows), the others on 6.18
//! without kprobes. After a change that is meant,
//! `UPDATE_EXPECTED=1 cargo test -p nattrace-core --test recordings` writes the texts anew.

mod common;

use std::fmt::Write;
use std::path::Path;

use common::*;
use nattrace_core::journey::{Journey, JourneyId, Options, SourcesOn};

/// Replays a recording, telling the time every `tick_ns`.
fn replay(path: &Path, tick_ns: u64) -> Vec<Journey> {
    let (header, events) = recorded(path);
    let sources = SourcesOn::where_on(|source| header.is_on(source));
    told_every(tick_ns, Options { filter: header.filter, sources, ..Options::default() }, events)
}

fn text(journeys: &[Journey]) -> String {
    let mut text = String::new();
    let end = |end: Option<nattrace_core::packet::Endpoint>| end.map_or("-".to_owned(), |e| e.to_string());
    for journey in journeys {
        let packet = &journey.packet;
        let _ = writeln!(
            text,
            "#{} {} {} -> {} {:?}",
            journey.id,
            packet.protocol_name(),
            end(packet.source),
            end(packet.destination),
            packet.tcp_flag_names()
        );
        for line in told(journey) {
            let _ = writeln!(text, "    {line}");
        }
        for finding in &journey.findings {
            let _ = writeln!(text, "    ! {} {:?} {}", finding.code, finding.steps, finding.text);
        }
        if let Some(first) = journey.retransmission_of {
            let _ = writeln!(text, "    retransmission of #{first}, same path: {}", journey.same_path);
        }
    }
    text
}

/// Journeys by their beginning, with ids in that order: only these depend on when the ends are looked at.
fn in_order(mut journeys: Vec<Journey>) -> Vec<Journey> {
    journeys.sort_by_key(|j| (j.first_seen_ns, j.packet_id));
    let ids: Vec<JourneyId> = journeys.iter().map(|j| j.id).collect();
    let position =
        |id: JourneyId| ids.iter().position(|i| *i == id).map_or(id, |at| JourneyId(at as u64 + 1));
    for journey in &mut journeys {
        journey.id = position(journey.id);
        journey.retransmission_of = journey.retransmission_of.map(position);
    }
    journeys
}

fn recordings() -> Vec<std::path::PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings");
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .expect("the folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "jsonl"))
        .collect();
    paths.sort();
    paths
}

#[test]
fn recordings_give_the_journeys_they_should() {
    for path in recordings() {
        let seen = text(&replay(&path, 50 * MS));
        let expected = path.with_extension("txt");
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            std::fs::write(&expected, &seen).expect("written");
        }
        let expected = std::fs::read_to_string(&expected).expect("the expected text");
        assert_eq!(seen, expected, "{}", path.display());
    }
}

#[test]
fn how_often_the_time_is_told_changes_nothing() {
    for path in recordings() {
        let expected = text(&in_order(replay(&path, 50 * MS)));
        for tick in [0, MS, 500 * MS, u64::MAX] {
            assert_eq!(text(&in_order(replay(&path, tick))), expected, "{} every {tick} ns", path.display());
        }
    }
}
