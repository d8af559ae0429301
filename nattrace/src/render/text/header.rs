//! The first line of a block: which packet.

use jiff::tz::TimeZone;
use nattrace_core::conntrack::{Direction, State};
use nattrace_core::journey::{Journey, Kinship};
use nattrace_core::packet::{Icmp, Packet, protocol, tcp_flag};

use super::words::time_of_day;
use crate::render::json::state_name;
use crate::render::layout::{Layout, Lines};
use crate::render::namespaces::Namespaces;
use crate::render::style::{Role, Span};

pub(super) fn header(
    journey: &Journey,
    namespaces: &Namespaces,
    zone: &TimeZone,
    layout: Layout,
    out: &mut Lines,
) {
    let left = left(journey);
    let right = right(journey, namespaces, zone);
    layout.header(&left, &right, out);
}

/// Which packet, and what conntrack makes of it.
pub(in crate::render) fn left(journey: &Journey) -> Vec<Span> {
    let mut left = title(journey);
    let details = details(journey);
    if !details.is_empty() {
        left.push(Span::new(Role::Faint, format!("  {}", details.join("  "))));
    }
    left
}

/// Where it came from, and when.
pub(in crate::render) fn right(journey: &Journey, namespaces: &Namespaces, zone: &TimeZone) -> Vec<Span> {
    let mut right = Vec::new();
    if let Some(device) = &journey.iif {
        right.push(Span::new(Role::Plain, format!("in {device}")));
    } else if journey.is_from_this_host() {
        right.push(Span::new(Role::Plain, "from this host"));
    }
    if !namespaces.is_current(journey.netns.inum) {
        let name =
            namespaces.name_of(&journey.netns).map_or_else(|| journey.netns.inum.to_string(), str::to_owned);
        let comma = if right.is_empty() { "" } else { ", " };
        right.push(Span::new(Role::Plain, format!("{comma}netns {name}")));
    }
    let gap = if right.is_empty() { "" } else { "  " };
    right.push(Span::new(Role::Faint, format!("{gap}{}", time_of_day(journey.first_seen_ns, zone))));
    right
}

/// Number, protocol, ends and what kind of packet it is.
pub(crate) fn title(journey: &Journey) -> Vec<Span> {
    let packet = &journey.packet;
    let mut title = vec![
        Span::new(Role::Title, format!("#{}", journey.id)),
        Span::new(Role::Plain, format!(" {} ", packet.protocol_name())),
    ];
    let end = |end: Option<_>| {
        end.map_or_else(|| "?".to_owned(), |e: nattrace_core::packet::Endpoint| e.to_string())
    };
    if packet.source.is_some() || packet.destination.is_some() {
        title.push(Span::new(Role::Title, format!("{} → {}", end(packet.source), end(packet.destination))));
    } else {
        title.push(Span::new(Role::Plain, format!("{} bytes", packet.length)));
    }
    if let Some(kind) = kind(packet) {
        title.push(Span::new(Role::Plain, format!("  {kind}")));
    }
    title
}

/// Its flags, or what it says: `SYN ACK`, `echo request id 7 seq 1`.
pub(crate) fn kind(packet: &Packet) -> Option<String> {
    if packet.fragment_offset != 0 {
        return Some(format!("fragment from byte {}", packet.fragment_offset));
    }
    let kind = match packet.icmp {
        Some(icmp) => icmp_kind(packet.protocol, icmp),
        None => packet.tcp_flag_names().join(" ").to_uppercase(),
    };
    let first = packet.more_fragments.then(|| "first fragment".to_owned());
    let segments = (packet.segments > 1).then(|| format!("{} segments in one", packet.segments));
    let words: Vec<String> =
        [Some(kind), first, segments].into_iter().flatten().filter(|word| !word.is_empty()).collect();
    (!words.is_empty()).then(|| words.join("  "))
}

fn icmp_kind(protocol: Option<u8>, icmp: Icmp) -> String {
    let v6 = protocol == Some(protocol::ICMPV6);
    // RFC 792, RFC 1812 section 5.2.7.1; RFC 4443 section 3.1, 3.3.
    let exact = match (v6, icmp.kind, icmp.code) {
        (false, 3, 0) => Some("network unreachable"),
        (false, 3, 1) => Some("host unreachable"),
        (false, 3, 2) => Some("protocol unreachable"),
        (false, 3, 3) | (true, 1, 4) => Some("port unreachable"),
        (false, 3, 4) => Some("fragmentation needed"),
        (false, 3, 9 | 10 | 13) | (true, 1, 1) => Some("administratively prohibited"),
        (true, 1, 0) => Some("no route to destination"),
        (true, 1, 3) => Some("address unreachable"),
        (false, 11, 0) => Some("time to live exceeded"),
        (true, 3, 0) => Some("hop limit exceeded"),
        (false, 11, 1) | (true, 3, 1) => Some("reassembly time exceeded"),
        _ => None,
    };
    if let Some(name) = exact {
        return name.to_owned();
    }
    let name = match (v6, icmp.kind) {
        (false, 8) | (true, 128) => "echo request",
        (false, 0) | (true, 129) => "echo reply",
        (false, 3) | (true, 1) => "destination unreachable",
        (false, 11) | (true, 3) => "time exceeded",
        (true, 2) => "packet too big",
        (false, 5) | (true, 137) => "redirect",
        (false, 12) | (true, 4) => "parameter problem",
        (true, 133) => "router solicitation",
        (true, 134) => "router advertisement",
        (true, 135) => "neighbour solicitation",
        (true, 136) => "neighbour advertisement",
        _ => return format!("type {} code {}", icmp.kind, icmp.code),
    };
    match (icmp.id, icmp.sequence) {
        (Some(id), Some(sequence)) => format!("{name} id {id} seq {sequence}"),
        _ if icmp.code != 0 => format!("{name} code {}", icmp.code),
        _ => name.to_owned(),
    }
}

/// What conntrack makes of it, and a mark that it came with.
/// What else is known of the packet: relations, connection, mark.
pub(in crate::render) fn details(journey: &Journey) -> Vec<String> {
    let mut details = Vec::new();
    if let Some(relation) = &journey.relation {
        let words = match relation.kind {
            Kinship::Carries => "carries",
            Kinship::UnpackedFrom => "unpacked from",
            Kinship::PieceOf => "piece of",
            Kinship::MadeOf => "made of",
            Kinship::CopyOf => "copy of",
            Kinship::AnswerTo => "answer to",
        };
        let of: Vec<String> = relation.of.iter().map(|id| format!("#{id}")).collect();
        details.push(format!("{words} {}", of.join(" ")));
    }
    if let Some(connection) = &journey.connection {
        let reply = connection.direction == Some(Direction::Reply);
        // What goes without saying is left out: that a SYN is new, and that a reply's connection is established.
        let usual = match connection.state {
            Some(State::New) => journey.packet.tcp_flags == Some(tcp_flag::SYN),
            Some(State::Established) => reply,
            _ => false,
        };
        details.extend(connection.state.filter(|_| !usual).map(|state| state_name(state).to_owned()));
        details.extend(reply.then(|| "reply".to_owned()));
    }
    if journey.packet.mark != 0 {
        details.push(format!("mark {:#x}", journey.packet.mark));
    }
    details
}
