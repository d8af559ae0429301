//! What to type so that packets like a dropped one are let through, for the tool that owns the rules.

use std::net::IpAddr;

use super::{Backend, Dialect, Open, Passed, Place};
use crate::conntrack::Direction;
use crate::evaluate::Lookup;
use crate::event::{HookPoint, NfFamily};
use crate::findings::{is_plain, is_plain_element};
use crate::packet::{Endpoint, Packet, protocol};

/// A command that lets packets like this through, where they are dropped now.
pub(super) fn let_through(place: &Place<'_>, open: &Open, passed: &[Passed<'_>]) -> Option<String> {
    let last = passed.first()?;
    if ![place.table, last.chain].into_iter().all(is_plain) {
        return None;
    }
    let reply = Reply::of(place, open);
    // What others write into these rules is gone, or in the way, when their owner writes them anew.
    if passed.iter().any(|way| of_ufws(way.chain).is_some()) {
        return of_ufw(open, last).filter(|_| reply.is_none());
    }
    if place.table == "firewalld" {
        return of_firewalld(open, passed).filter(|_| reply.is_none());
    }
    match iptables(place, last) {
        Some(program) => of_iptables(program, place, &open.header, passed, reply),
        None => of_nft(place, &open.header, last, reply),
    }
}

/// A command that puts into a set what was looked up in it.
pub(super) fn add_element(place: &Place<'_>, lookup: &Lookup) -> Option<String> {
    let (family, table, Lookup { set, element }) = (place.family.name(), place.table, lookup);
    let plain = is_plain(table) && is_plain(set) && is_plain_element(element);
    plain.then(|| format!("nft add element {family} {table} {set} {{ {element} }}"))
}

/// By what a reply is told from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reply {
    /// Conntrack's state.
    State,
    /// Whom it comes from: conntrack has not seen it there.
    Source,
}

impl Reply {
    fn of(place: &Place<'_>, open: &Open) -> Option<Self> {
        let reply = open.connection.as_ref().is_some_and(|c| c.direction == Some(Direction::Reply));
        (reply || place.answers).then_some(if place.early { Self::Source } else { Self::State })
    }
}

fn of_nft(place: &Place<'_>, packet: &Packet, last: &Passed<'_>, reply: Option<Reply>) -> Option<String> {
    let (family, table, chain) = (place.family.name(), place.table, last.chain);
    let matches = match reply {
        Some(Reply::State) => "ct state established,related".to_owned(),
        Some(Reply::Source) => like(packet, Side::Source)?,
        None => like(packet, Side::Destination)?,
    };
    Some(match last.left_at {
        Some(handle) => format!("nft insert rule {family} {table} {chain} handle {handle} {matches} accept"),
        None => format!("nft add rule {family} {table} {chain} {matches} accept"),
    })
}

/// The iptables that owns the chain, if one does.
pub(super) fn iptables(place: &Place<'_>, last: &Passed<'_>) -> Option<&'static str> {
    let ipv6 = match place.family {
        NfFamily::Ip => false,
        NfFamily::Ip6 => true,
        _ => return None,
    };
    if place.backend == Backend::Legacy {
        return Some(if ipv6 { "ip6tables-legacy" } else { "iptables-legacy" });
    }
    let rules = last.rules.as_deref()?;
    // Of an empty chain its name tells: nobody else writes them large.
    let built_in = matches!(last.chain, "INPUT" | "FORWARD" | "OUTPUT" | "PREROUTING" | "POSTROUTING");
    let owned = rules.iter().all(|rule| rule.dialect != Dialect::Nft);
    (owned && (built_in || !rules.is_empty())).then_some(if ipv6 { "ip6tables-nft" } else { "iptables-nft" })
}

fn of_iptables(
    program: &str,
    place: &Place<'_>,
    packet: &Packet,
    passed: &[Passed<'_>],
    reply: Option<Reply>,
) -> Option<String> {
    let last = passed.first()?;
    let table = if place.table == "filter" { String::new() } else { format!(" -t {}", place.table) };
    let matches = match reply {
        Some(Reply::State) => "-m conntrack --ctstate ESTABLISHED,RELATED".to_owned(),
        Some(Reply::Source) => like_in_iptables(packet, Side::Source)?,
        None => like_in_iptables(packet, Side::Destination)?,
    };
    // Docker leaves this chain to the administrator, and writes the others anew.
    let docker =
        passed.iter().filter_map(Passed::before).flatten().any(|rule| rule.text.ends_with("-j DOCKER-USER"));
    if docker {
        return Some(format!("{program}{table} -I DOCKER-USER {matches} -j ACCEPT"));
    }
    Some(match last.left_at {
        Some(handle) => {
            let number = last.rules.as_deref()?.iter().position(|rule| rule.handle == handle)? + 1;
            format!("{program}{table} -I {} {number} {matches} -j ACCEPT", last.chain)
        }
        None => format!("{program}{table} -A {} {matches} -j ACCEPT", last.chain),
    })
}

/// What a chain of ufw's is called without whose it is.
fn of_ufws(chain: &str) -> Option<&str> {
    chain.strip_prefix("ufw-").or_else(|| chain.strip_prefix("ufw6-"))
}

/// In ufw's words (0.36). What it drops before the user's rules, it would still.
fn of_ufw(open: &Open, last: &Passed<'_>) -> Option<String> {
    let behind_users = match of_ufws(last.chain) {
        Some(name) => ["user-", "reject-", "skip-to-policy-"].iter().any(|part| name.starts_with(part)),
        None => matches!(last.chain, "INPUT" | "FORWARD" | "OUTPUT"),
    };
    if !behind_users {
        return None;
    }
    let way = match open.visits.last()?.hook {
        HookPoint::Input => "ufw prepend allow in",
        HookPoint::Output => "ufw prepend allow out",
        HookPoint::Forward => "ufw route prepend allow",
        _ => return None,
    };
    let (name, destination, port) = service(&open.header)?;
    Some(format!("{way} proto {name} to {destination} port {port}"))
}

/// In firewalld's words (1.0), for what is for this host, where it came through one zone.
fn of_firewalld(open: &Open, passed: &[Passed<'_>]) -> Option<String> {
    if open.visits.last()?.hook != HookPoint::Input {
        return None;
    }
    // The chains of what it allows are behind these.
    let early = ["_pre", "_log", "_deny"];
    if passed.first().is_some_and(|last| early.iter().any(|end| last.chain.ends_with(end))) {
        return None;
    }
    let parts = ["_pre", "_log", "_deny", "_allow", "_post"];
    let mut zones = passed
        .iter()
        .filter_map(|way| way.chain.strip_prefix("filter_IN_"))
        .filter(|name| !name.starts_with("policy_") && parts.iter().all(|end| !name.ends_with(end)));
    let zone = zones.next().filter(|zone| is_plain(zone) && zones.next().is_none())?;
    let (name, _, port) = service(&open.header)?;
    Some(format!("firewall-cmd --zone={zone} --add-port={port}/{name}"))
}

/// Protocol, address and port that a packet is for, where these tools have words for it.
fn service(packet: &Packet) -> Option<(&'static str, IpAddr, u16)> {
    let destination = packet.destination?;
    let protocol = packet.protocol.filter(|protocol| matches!(*protocol, protocol::TCP | protocol::UDP))?;
    Some((protocol::name(protocol)?, destination.addr, destination.port?))
}

/// Which end says what a packet is: whom it is for, or, of an answer, whom it is from.
#[derive(Debug, Clone, Copy)]
enum Side {
    Source,
    Destination,
}

impl Side {
    fn letter(self) -> char {
        match self {
            Self::Source => 's',
            Self::Destination => 'd',
        }
    }

    fn of(self, packet: &Packet) -> Option<Endpoint> {
        match self {
            Self::Source => packet.source,
            Self::Destination => packet.destination,
        }
    }
}

/// What a rule of nft asks for that is for packets like this.
fn like(packet: &Packet, side: Side) -> Option<String> {
    let (end, letter) = (side.of(packet)?, side.letter());
    let ip = if end.addr.is_ipv4() { "ip" } else { "ip6" };
    let protocol = packet.protocol?;
    let what = match (protocol::name(protocol), end.port) {
        (Some(name), Some(port)) if protocol::has_ports(protocol) => format!("{name} {letter}port {port}"),
        _ => format!("meta l4proto {protocol}"),
    };
    Some(format!("{ip} {letter}addr {} {what}", end.addr))
}

/// The same for iptables.
fn like_in_iptables(packet: &Packet, side: Side) -> Option<String> {
    let (end, letter) = (side.of(packet)?, side.letter());
    let protocol = packet.protocol?;
    let what = match (protocol::name(protocol), end.port) {
        (Some(name), Some(port)) if protocol::has_ports(protocol) => {
            format!("-p {name} --{letter}port {port}")
        }
        _ => format!("-p {protocol}"),
    };
    Some(format!("-{letter} {} {what}", end.addr))
}
