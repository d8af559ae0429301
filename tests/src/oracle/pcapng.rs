//! `--format pcapng` as tshark and capinfos read it, against the JSON of the same packets.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::journey::{headline, netns_of, steps, text};
use crate::lab::process::output_of;

/// What tshark is asked for.
const FIELDS: [&str; 20] = [
    "frame.packet_id",
    "frame.interface_name",
    "frame.time_epoch",
    "frame.len",
    "frame.comment",
    "ip.src",
    "ip.dst",
    "ip.ttl",
    "ip.checksum.status",
    "ipv6.src",
    "ipv6.dst",
    "ipv6.hlim",
    "arp.src.proto_ipv4",
    "arp.dst.proto_ipv4",
    "tcp.srcport",
    "tcp.dstport",
    "udp.srcport",
    "udp.dstport",
    "sctp.srcport",
    "sctp.dstport",
];

/// A packet as tshark shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Frame {
    journey: u64,
    interface: String,
    time_ns: u64,
    length: u64,
    comments: Vec<String>,
    /// Address and port.
    source: (String, Option<u64>),
    destination: (String, Option<u64>),
    ttl: Option<u64>,
    /// The checksum of the IPv4 header; `None` where there is none.
    checksum: Option<bool>,
}

/// Where a journey shows its packet, and what must be said of it there.
#[derive(Debug, PartialEq, Eq)]
struct Stop {
    netns: [String; 2],
    place: String,
    time_ns: u64,
    ends: [(String, Option<u64>); 2],
    /// Each must be part of a comment.
    lines: Vec<String>,
}

/// The packets of a file, as tshark and capinfos have them.
pub(crate) fn read(file: &Path) -> Result<Vec<Frame>> {
    let mut tshark = Command::new("tshark");
    // Its state is no concern of the user's, whose configuration may change what it shows.
    tshark
        .env("HOME", "/nonexistent")
        .args(["-n", "-o", "ip.check_checksum:TRUE", "-T", "json", "-r"])
        .arg(file);
    tshark.args(FIELDS.iter().flat_map(|field| ["-e", field]));
    let frames: Value = serde_json::from_str(&output_of(tshark, "")?).context("tshark prints no JSON")?;
    let frames: Vec<Frame> = frames
        .as_array()
        .into_iter()
        .flatten()
        .map(|packet| frame(&packet["_source"]["layers"]))
        .collect::<Result<_>>()?;
    let mut capinfos = Command::new("capinfos");
    capinfos.args(["-T", "-m", "-r", "-c", "-o"]).arg(file);
    let told = output_of(capinfos, "")?;
    let told: Vec<&str> = told.trim().rsplit(',').take(2).collect();
    ensure!(
        told.as_slice() == ["True", &frames.len().to_string()] || frames.is_empty(),
        "capinfos says {told:?} of {} packets: not in order, or not as many",
        frames.len()
    );
    Ok(frames)
}

fn frame(layers: &Value) -> Result<Frame> {
    let all = |field: &str| -> Vec<String> {
        let values = layers[field].as_array().into_iter().flatten();
        values.filter_map(|value| value.as_str().map(str::to_owned)).collect()
    };
    let first = |fields: &[&str]| fields.iter().find_map(|field| all(field).into_iter().next());
    let number = |fields: &[&str]| first(fields).and_then(|value| value.parse().ok());
    let end = |addresses: &[&str], ports: &[&str]| (first(addresses).unwrap_or_default(), number(ports));
    let time = first(&["frame.time_epoch"]).context("a packet without a time")?;
    Ok(Frame {
        journey: number(&["frame.packet_id"]).context("a packet without an id")?,
        interface: first(&["frame.interface_name"]).context("a packet without an interface")?,
        time_ns: time.replace('.', "").parse().with_context(|| format!("no time: {time}"))?,
        length: number(&["frame.len"]).context("a packet without a length")?,
        comments: all("frame.comment"),
        source: end(
            &["ip.src", "ipv6.src", "arp.src.proto_ipv4"],
            &["tcp.srcport", "udp.srcport", "sctp.srcport"],
        ),
        destination: end(
            &["ip.dst", "ipv6.dst", "arp.dst.proto_ipv4"],
            &["tcp.dstport", "udp.dstport", "sctp.dstport"],
        ),
        ttl: number(&["ip.ttl", "ipv6.hlim"]),
        checksum: first(&["ip.checksum.status"]).map(|status| status == "1"),
    })
}

/// Complaints about packets that the file has and the journeys do not, or the other way round, or that differ.
pub(crate) fn complaints(journeys: &[Value], frames: &[Frame]) -> Vec<String> {
    let mut found = Vec::new();
    let mut told = 0;
    for journey in journeys {
        let id: u64 = text(journey, &["id"]).parse().unwrap_or_default();
        let frames: Vec<&Frame> = frames.iter().filter(|frame| frame.journey == id).collect();
        let stops = stops(journey);
        told += frames.len();
        if frames.len() != stops.len() {
            let place = |frame: &&Frame| frame.interface.clone();
            let seen: Vec<String> = frames.iter().map(place).collect();
            let there: Vec<&str> = stops.iter().map(|stop| stop.place.as_str()).collect();
            found.push(format!("{}: seen at {seen:?}, was at {there:?}", headline(journey)));
            continue;
        }
        for (number, (frame, stop)) in frames.iter().zip(&stops).enumerate() {
            let differences = differences(journey, number == 0, frame, stop);
            found.extend(differences.into_iter().map(|difference| {
                format!("{}: {number} at {}: {difference}", headline(journey), frame.interface)
            }));
        }
    }
    if told != frames.len() {
        found.push(format!("{} packets are of no journey", frames.len() - told));
    }
    found
}

fn differences(journey: &Value, first: bool, frame: &Frame, stop: &Stop) -> Vec<String> {
    let mut found = Vec::new();
    let (netns, place) = frame.interface.rsplit_once('/').unwrap_or(("", &frame.interface));
    if place != stop.place || (!netns.is_empty() && !stop.netns.iter().any(|name| name == netns)) {
        found.push(format!("it was at {} of {:?}", stop.place, stop.netns));
    }
    if frame.time_ns != stop.time_ns {
        found.push(format!("at {}, was there at {}", frame.time_ns, stop.time_ns));
    }
    let [source, destination] = &stop.ends;
    for (seen, was) in [(&frame.source, source), (&frame.destination, destination)] {
        // Behind IPv6's extension headers, which are not kept, no ports are seen.
        if seen.0 != was.0 || (seen.1.is_some() && seen.1 != was.1) {
            found.push(format!("{seen:?} should be {was:?}"));
        }
    }
    let arp = text(journey, &["packet", "family"]) == "arp";
    let link = if arp { 14 } else { 0 };
    if let Some(length) = journey["packet"]["length"].as_u64()
        && frame.length != length + link
    {
        found.push(format!("{} bytes, of a packet with {length}", frame.length));
    }
    if first && frame.ttl != journey["packet"]["ttl"].as_u64() {
        found.push(format!("TTL {:?}, was {}", frame.ttl, journey["packet"]["ttl"]));
    }
    if frame.checksum == Some(false) {
        found.push("the checksum of its header is wrong".to_owned());
    }
    let said = |line: &String| frame.comments.iter().any(|comment| comment.contains(line.as_str()));
    found
        .extend(stop.lines.iter().filter(|line| !said(line)).map(|line| format!("no comment says {line:?}")));
    found
}

/// The hooks, devices and rewrites of a journey, with the addresses behind each.
fn stops(journey: &Value) -> Vec<Stop> {
    let packet = &journey["packet"];
    let end = |addr: &str, port: &str| (text(packet, &[addr]).to_owned(), packet[port].as_u64());
    let mut ends = [end("saddr", "sport"), end("daddr", "dport")];
    let arp = text(packet, &["family"]) == "arp";
    let mut stops: Vec<Stop> = Vec::new();
    let mut early = vec![format!("journey #{} ", text(journey, &["id"]))];
    let first = text(journey, &["retransmission_of"]);
    early.extend((!first.is_empty()).then(|| format!("retransmission of #{first}:")));
    for step in steps(journey) {
        let netns = names(journey, step);
        let here = stops.last().filter(|stop| stop.netns == netns).map(|stop| stop.place.clone());
        let family = if arp { "arp" } else { "ip" };
        let place = match text(step, &["kind"]) {
            "hook" => Some(hook_name(step, text(step, &["family"]), text(step, &["hook"]))),
            "device" => Some(text(step, &["name"]).to_owned()),
            "rewrite" if step["inner"] != true => Some(here.unwrap_or_else(|| "kernel".to_owned())),
            "rule" | "policy" => step["hook"].as_str().and_then(|hook| {
                let is_here = here.is_some_and(|place| place.split(' ').any(|word| word == hook));
                (!is_here).then(|| hook_name(&Value::Null, family, hook))
            }),
            _ => None,
        };
        if let Some(place) = place {
            if text(step, &["kind"]) == "rewrite" {
                let to = (text(step, &["to", "addr"]).to_owned(), step["to"]["port"].as_u64());
                ends[usize::from(text(step, &["nat"]) == "dnat")] = to;
            }
            let time_ns = step["time_ns"].as_u64().unwrap_or_default();
            let lines = vec![format!("journey #{}", text(journey, &["id"]))];
            stops.push(Stop { netns, place, time_ns, ends: ends.clone(), lines });
        }
        stops.last_mut().map_or(&mut early, |stop| &mut stop.lines).extend(words(step));
    }
    if stops.is_empty() {
        let time_ns = journey["first_seen_ns"].as_u64().unwrap_or_default();
        let netns = names(journey, steps(journey).first().unwrap_or(&Value::Null));
        stops.push(Stop { netns, place: "kernel".to_owned(), time_ns, ends, lines: Vec::new() });
    }
    if let Some(stop) = stops.first_mut() {
        stop.lines.extend(early);
    }
    if let Some(stop) = stops.last_mut() {
        stop.lines.extend(ending(journey));
    }
    stops
}

/// What a namespace may be called: by its name, or by its number.
fn names(journey: &Value, step: &Value) -> [String; 2] {
    let netns = if step["netns"].is_object() { &step["netns"] } else { &journey["netns"] };
    let inum = netns_of(journey, step).unwrap_or_default();
    [text(netns, &["name"]).to_owned(), inum.to_string()]
}

/// What the interface of a hook is called.
fn hook_name(step: &Value, family: &str, hook: &str) -> String {
    let device = match hook {
        "ingress" => step["iif"].as_str(),
        "egress" => step["oif"].as_str(),
        _ => None,
    };
    match (device, family) {
        (Some(device), _) => format!("{hook} {device}"),
        (None, "ip" | "ip6" | "inet") => hook.to_owned(),
        (None, family) => format!("{family} {hook}"),
    }
}

/// What a comment must have of a step.
fn words(step: &Value) -> Vec<String> {
    match text(step, &["kind"]) {
        "rule" => {
            let rule = text(step, &["text"]);
            // Legacy iptables names the chain in the rule.
            let legacy = rule.strip_prefix("-A ").and_then(|rest| rest.split_once(' '));
            vec![plain(
                legacy.filter(|_| step["backend"] == "iptables-legacy").map_or(rule, |(_, rest)| rest),
            )]
        }
        "policy" => vec![format!("policy {}", text(step, &["verdict"]))],
        "rewrite" => {
            let end = |end: &Value| match (text(end, &["addr"]), end["port"].as_u64()) {
                (addr, Some(port)) if addr.contains(':') => format!("[{addr}]:{port}"),
                (addr, Some(port)) => format!("{addr}:{port}"),
                (addr, None) => addr.to_owned(),
            };
            let nat = text(step, &["nat"]).to_uppercase();
            vec![format!("⇒ {nat}  {} → {}", end(&step["from"]), end(&step["to"]))]
        }
        "drop" => [("drop reason: ", "reason"), ("drop function: ", "function")]
            .iter()
            .filter_map(|(lead, key)| Some(format!("{lead}{}", step[*key].as_str()?)))
            .collect(),
        _ => Vec::new(),
    }
}

/// What the last comments must have.
fn ending(journey: &Value) -> Vec<String> {
    let kind = match text(journey, &["outcome", "kind"]) {
        "transmitted" => "SENT".to_owned(),
        kind => kind.to_uppercase(),
    };
    let mut lines = vec![kind];
    for finding in journey["findings"].as_array().into_iter().flatten() {
        lines.push(plain(text(finding, &["text"])));
        let fixes = finding["fix"].as_array().into_iter().flatten();
        lines.extend(fixes.filter_map(Value::as_str).map(|fix| format!("fix: {}", plain(fix))));
    }
    lines
}

/// A text up to the first character that may be shown as something else.
fn plain(text: &str) -> String {
    text.chars().take_while(|c| !c.is_control() && c.is_ascii()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::path::PathBuf;

    fn journey() -> Value {
        json!({
            "id": "7", "netns": {"inum": 9, "name": "rt"}, "retransmission_of": "3", "first_seen_ns": 1,
            "packet": {"family": "ipv4", "saddr": "10.0.0.1", "sport": 7, "daddr": "10.0.0.2", "dport": 80,
                       "length": 60, "ttl": 64},
            "steps": [
                {"kind": "hook", "hook": "prerouting", "family": "ip", "time_ns": 1},
                {"kind": "rule", "text": "dnat to 10.0.0.3", "hook": "prerouting", "time_ns": 2},
                {"kind": "rewrite", "nat": "dnat", "time_ns": 3, "from": {"addr": "10.0.0.2", "port": 80},
                 "to": {"addr": "10.0.0.3", "port": 80}},
                {"kind": "drop", "reason": "NO_SOCKET", "time_ns": 4},
            ],
            "outcome": {"kind": "dropped"},
            "findings": [{"text": "because", "fix": ["nft add rule"]}],
        })
    }

    fn frames() -> Vec<Frame> {
        let end = |addr: &str, port| (addr.to_owned(), Some(port));
        let first = Frame {
            journey: 7,
            interface: "rt/prerouting".to_owned(),
            time_ns: 1,
            length: 60,
            comments: ["journey #7 tcp", "retransmission of #3: same", "dnat to 10.0.0.3"]
                .map(str::to_owned)
                .into(),
            source: end("10.0.0.1", 7),
            destination: end("10.0.0.2", 80),
            ttl: Some(64),
            checksum: Some(true),
        };
        let comments = [
            "journey #7",
            "⇒ DNAT  10.0.0.2:80 → 10.0.0.3:80",
            "drop reason: NO_SOCKET",
            "✗ DROPPED  by",
            "why: because",
            "fix: nft add rule",
        ];
        let comments = comments.map(str::to_owned).into();
        let second = Frame { time_ns: 3, destination: end("10.0.0.3", 80), comments, ..first.clone() };
        vec![first, second]
    }

    #[test]
    fn what_agrees() {
        assert_eq!(complaints(&[journey()], &frames()), Vec::<String>::new());
    }

    #[test]
    fn every_difference_is_found() {
        let judge = |change: fn(&mut Vec<Frame>)| {
            let mut frames = frames();
            change(&mut frames);
            complaints(&[journey()], &frames).len()
        };
        assert_eq!(judge(|frames| _ = frames.pop()), 1);
        assert_eq!(judge(|frames| frames.push(Frame::default())), 1);
        assert_eq!(judge(|frames| frames[0].interface = "rt/forward".to_owned()), 1);
        assert_eq!(judge(|frames| frames[0].interface = "web/prerouting".to_owned()), 1);
        assert_eq!(judge(|frames| frames[1].time_ns = 4), 1);
        assert_eq!(judge(|frames| frames[1].destination.0 = "10.0.0.2".to_owned()), 1);
        assert_eq!(judge(|frames| frames[1].source.1 = Some(8)), 1);
        assert_eq!(judge(|frames| frames[0].length = 40), 1);
        assert_eq!(judge(|frames| frames[0].ttl = Some(63)), 1);
        assert_eq!(judge(|frames| frames[1].checksum = Some(false)), 1);
        for comment in 0..3 {
            let mut frames = frames();
            frames[0].comments.remove(comment);
            assert_eq!(complaints(&[journey()], &frames).len(), if comment == 0 { 2 } else { 1 });
        }
        for comment in 0..6 {
            let mut frames = frames();
            frames[1].comments.remove(comment);
            assert_eq!(complaints(&[journey()], &frames).len(), 1, "{comment}");
        }
    }

    /// Runs nattrace as the binary does.
    fn nattrace(args: &[&str]) {
        let typed = std::iter::once("nattrace").chain(args.iter().copied()).map(Into::into);
        let plan = nattrace::cli::parse(typed, &nattrace::cli::Terminal::default()).expect("a plan");
        nattrace::session::run(plan).expect("a replay");
    }

    /// Files below the workspace's folder.
    fn recordings() -> Vec<PathBuf> {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
        let folders = ["nattrace-core/tests/recordings", "nattrace/tests/recordings"];
        let entries =
            folders.iter().flat_map(|folder| std::fs::read_dir(workspace.join(folder)).expect("a folder"));
        let paths = entries.map(|entry| entry.expect("an entry").path());
        paths.filter(|path| path.extension().is_some_and(|is| is == "jsonl")).collect()
    }

    /// Whether there is a tshark; whoever has none is told so.
    fn has_tshark() -> bool {
        let is_there = Command::new("tshark").arg("--version").output().is_ok();
        if !is_there {
            eprintln!("SKIPPED: tshark is not installed (cargo xtask setup)");
        }
        is_there
    }

    #[test]
    fn the_document_shows_what_tshark_prints() {
        const DOCUMENT: &str = "docs/pcapng.md";
        if !has_tshark() {
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
        let document = std::fs::read_to_string(workspace.join(DOCUMENT)).expect("the document");
        let (before, rest) = document.split_once("<!-- tshark: ").expect("a session");
        let (recording, rest) = rest.split_once(" -->\n```console\n$ ").expect("a command");
        let (command, rest) = rest.split_once('\n').expect("a command");
        let (shown, after) = rest.split_once("```").expect("an end");
        let recording = workspace.join("nattrace/tests/recordings").join(recording);
        let packets = folder.path().join("broken.pcapng");
        let text = |path: &Path| path.to_str().expect("a name").to_owned();
        nattrace(&["replay", &text(&recording), "--format", "pcapng", "-o", &text(&packets)]);
        // Quotation marks are the shell's.
        let plain = command.replace('\'', "");
        let mut words = plain.split(' ');
        let mut tshark = Command::new(words.next().expect("a program"));
        tshark.env("HOME", "/nonexistent").args(words).current_dir(folder.path());
        let printed = output_of(tshark, "").expect("what it prints");
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            let document = format!(
                "{before}<!-- tshark: port-forward-broken.jsonl -->\n```console\n$ {command}\n{printed}```{after}"
            );
            std::fs::write(workspace.join(DOCUMENT), document).expect("written");
        } else {
            assert_eq!(printed, shown);
        }
    }

    #[test]
    fn recordings_of_real_kernels_are_read_by_wireshark() {
        if !has_tshark() {
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let recordings = recordings();
        assert!(recordings.len() > 15);
        for recording in recordings {
            let (json, pcapng) = (folder.path().join("json"), folder.path().join("pcapng"));
            let [from, json, pcapng] =
                [&recording, &json, &pcapng].map(|path| path.to_str().expect("a name"));
            nattrace(&["replay", from, "--format", "json", "-o", json]);
            nattrace(&["replay", from, "--format", "pcapng", "-o", pcapng]);
            let told = std::fs::read_to_string(json).expect("the journeys");
            let told = super::super::contract::read(&told, false);
            let frames = read(Path::new(pcapng)).expect("what Wireshark reads");
            assert!(!told.journeys.is_empty() && frames.len() >= told.journeys.len());
            assert_eq!(complaints(&told.journeys, &frames), Vec::<String>::new(), "{}", recording.display());
        }
    }
}
