//! Filters that no packet can match. Better refused than waited for.

use nattrace_core::filter::{Filter, PortRange, Prefix};
use nattrace_core::packet::protocol;

use super::mistake::Mistake;

/// Says why no packet can match, if none can.
pub(super) fn refuse(filter: &Filter) -> Result<(), Mistake> {
    protocols(filter)?;
    families(filter)?;
    ends(filter)
}

fn protocols(filter: &Filter) -> Result<(), Mistake> {
    if filter.protocols.is_empty() || !filter.possible_protocols().is_empty() {
        return Ok(());
    }
    let names = filter.protocols.iter().map(|p| name(*p)).collect::<Vec<_>>();
    let typed = format!("--proto {}", names.join(","));
    let (verb, subject) = if names.len() == 1 { ("has", "it") } else { ("have", "they") };
    let with_ports = [protocol::TCP, protocol::UDP, protocol::SCTP];
    if filter.wants_ports() && !filter.protocols.iter().any(|p| with_ports.contains(p)) {
        let flag = port_flag(filter);
        return Err(Mistake::new(
            format!("{typed} with {flag}"),
            format!("{} {verb} no ports to match, so no packet can match", names.join(" and ")),
            format!("leave out {flag}, or give tcp, udp or sctp"),
        ));
    }
    Err(Mistake::new(
        format!("{typed} with --tcp-flags"),
        format!("only tcp has such flags and {subject} {verb} none, so no packet can match"),
        "leave out --tcp-flags, or give --proto tcp",
    ))
}

fn port_flag(filter: &Filter) -> &'static str {
    match (filter.dport.is_empty(), filter.sport.is_empty()) {
        (false, _) => "--dport",
        (_, false) => "--sport",
        _ => "--port",
    }
}

fn name(number: u8) -> String {
    protocol::name_or_number(number).into_owned()
}

/// A packet is either v4 or v6, throughout.
fn families(filter: &Filter) -> Result<(), Mistake> {
    let v4 = |p: &Prefix| p.addr.is_ipv4();
    let mut seen: Vec<(String, bool, bool)> = Vec::new();
    for (flag, list) in [("--saddr", &filter.saddr), ("--daddr", &filter.daddr), ("--addr", &filter.addr)] {
        if !list.is_empty() {
            seen.push((flag.to_owned(), list.iter().any(v4), !list.iter().all(v4)));
        }
    }
    if !filter.protocols.is_empty() {
        let any = |barred: u8| filter.protocols.iter().any(|p| *p != barred);
        let names = filter.protocols.iter().map(|p| name(*p)).collect::<Vec<_>>().join(",");
        seen.push((format!("--proto {names}"), any(protocol::ICMPV6), any(protocol::ICMP)));
    }
    let barred = |family: &str, has: fn(&(String, bool, bool)) -> bool| {
        seen.iter().find(|s| !has(s)).map(|s| (s.0.clone(), family.to_owned()))
    };
    // Neither family is left: one flag bars the one, another flag the other.
    if let (Some((only_v6, _)), Some((only_v4, _))) = (barred("v4", |s| s.1), barred("v6", |s| s.2)) {
        let remedy = if only_v6.ends_with("icmpv6") || only_v4.ends_with("icmp") {
            "ICMP over IPv4 is icmp, over IPv6 icmpv6"
        } else {
            "give both of one family"
        };
        return Err(Mistake::new(
            format!("{only_v4} with {only_v6}"),
            format!("{only_v4} is IPv4 only and {only_v6} IPv6 only, so no packet can match"),
            remedy,
        ));
    }
    Ok(())
}

/// "Either end" must be compatible with what is asked of both ends.
fn ends(filter: &Filter) -> Result<(), Mistake> {
    let addr_fits = |ends: &[Prefix]| {
        ends.is_empty()
            || ends.iter().any(|a| filter.addr.iter().any(|b| a.contains(b.addr) || b.contains(a.addr)))
    };
    if !filter.addr.is_empty() && !addr_fits(&filter.saddr) && !addr_fits(&filter.daddr) {
        return Err(Mistake::new(
            "--addr with --saddr and --daddr",
            "neither end can have that address, so no packet can match",
            "leave one of the three out",
        ));
    }
    let port_fits = |ends: &[PortRange]| {
        ends.is_empty()
            || ends.iter().any(|a| filter.port.iter().any(|b| a.first <= b.last && b.first <= a.last))
    };
    if !filter.port.is_empty() && !port_fits(&filter.sport) && !port_fits(&filter.dport) {
        return Err(Mistake::new(
            "--port with --sport and --dport",
            "neither end can have that port, so no packet can match",
            "leave one of the three out",
        ));
    }
    Ok(())
}
