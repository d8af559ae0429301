//! What is installed for a filter: a pure function of the specification.
//!
//! ```text
//! enter_H                     H is prerouting or output; before every other chain of the hook
//!   a program knows it        where several namespaces are watched ──▶ traced
//!   a program says no         neither the filter nor what is followed can be about it ──▶ out
//!   jump followed_H           a header of a followed connection, or its answer's ──▶ traced
//!   what has one alternative  ──goto──▶ select_H ──jump──▶ select_saddr_H … (return, or out)
//!                                          └──goto──▶ mark_H ──jump──▶ limit (return, or out)
//!                                                       └──▶ remembered, traced
//! ```
//! The first message that a packet causes is that of the rule which marks it. So that message's chain is to
//! say which hook it is: by the end of its name, in which all chains but the shared limit are of one hook.
//!
//! A criterion with several alternatives is a chain of its own that returns when one of them holds and ends
//! the evaluation when none does. So nothing multiplies: neither rules nor the paths that the kernel walks
//! when it checks the table for loops (net/netfilter/nf_tables_api.c `nft_chain_validate` follows every
//! `goto` anew, which makes a ladder of alternatives that each `goto` the next rung exponential).

use nattrace_core::filter::{Filter, PortRange, Prefix};
use nattrace_core::packet::protocol;

use super::expression::{Expression, Verdict};
use super::rule::{Device, End, IpVersion, PortKind, Rule, SetRef};
use super::{FollowBy, TraceTableSpec};
use crate::source::netlink::constants as c;

/// Protocols that a selected packet can have, when there are several.
const PROTOCOLS: SetRef = SetRef { name: "protocols", id: 1 };
/// Protocols whose header begins with ports: those of `nattrace_core::packet::protocol::has_ports`.
const WITH_PORTS: SetRef = SetRef { name: "with_ports", id: 2 };
/// Protocols whose tuples have something in the place of ports.
const WITH_IDS: SetRef = SetRef { name: "with_ids", id: 3 };
const FOLLOWED4: SetRef = SetRef { name: "followed4", id: 4 };
const FOLLOWED6: SetRef = SetRef { name: "followed6", id: 5 };
/// How long a connection is followed after its first packet was selected.
pub(super) const FOLLOW_MILLIS: u64 = 600_000;
/// How many connections are followed at most.
pub(super) const FOLLOW_SIZE: u32 = 65_535;
/// Just after conntrack has found the connection (`NF_IP_PRI_CONNTRACK` is -200).
const AFTER_CONNTRACK: i32 = -199;

/// `NF_INET_*` with the names nft uses.
const HOOKS: [(u32, &str); 5] =
    [(0, "prerouting"), (1, "input"), (2, "forward"), (3, "output"), (4, "postrouting")];

/// A set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Set {
    pub(super) reference: SetRef,
    /// nft's types of the key's parts.
    pub(super) types: Vec<u32>,
    pub(super) key_length: u32,
    /// Elements of a constant set; none for one that rules add to.
    pub(super) elements: Vec<Vec<u8>>,
}

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) name: String,
    /// Hook number and priority of a base chain.
    pub(super) base: Option<(u32, i32)>,
    /// Of a base chain at ingress: the devices it hangs at.
    pub(super) devices: Vec<String>,
    pub(super) rules: Vec<Rule>,
}

/// Everything in the table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) sets: Vec<Set>,
    pub(super) chains: Vec<Chain>,
}

/// What must hold of a packet: one of the alternatives.
struct Criterion {
    name: &'static str,
    alternatives: Vec<Rule>,
}

impl Plan {
    pub(super) fn new(spec: &TraceTableSpec) -> Self {
        let mut plan = Self::of(spec, &[(0, "prerouting", Device::In), (3, "output", Device::Out)]);
        if spec.hook_observers {
            for (hook, name) in HOOKS {
                if !matches!(hook, 0 | 3) {
                    plan.base(format!("enter_{name}"), hook, i32::MIN, Vec::new());
                }
            }
            for (hook, name) in HOOKS {
                plan.base(format!("leave_{name}"), hook, i32::MAX, Vec::new());
            }
        }
        plan
    }

    /// The selection in some hooks: their numbers, their names, and which device the filter is asked for there.
    pub(super) fn of(spec: &TraceTableSpec, hooks: &[(u32, &str, Device)]) -> Self {
        let mut plan = Self { sets: sets(spec), chains: Vec::new() };
        let mirrored = match spec.follow {
            FollowBy::MirroredHeaders => mirror(&spec.filter),
            FollowBy::No | FollowBy::Conntrack | FollowBy::Headers => None,
        };
        for (hook, name, device) in hooks {
            plan.selection(spec, mirrored.as_ref(), *hook, name, *device);
        }
        if let Some(rate) = spec.rate {
            // One for all ways in, so that there is one rate.
            plan.chain("limit".to_owned(), vec![Rule::new().over_rate(rate).verdict(Verdict::Accept)]);
        }
        plan.drop_unused();
        plan
    }

    /// The chains of one hook.
    fn selection(
        &mut self,
        spec: &TraceTableSpec,
        mirrored: Option<&Filter>,
        hook: u32,
        name: &str,
        device: Device,
    ) {
        let versions = versions(&spec.filter);
        let by_headers = remembers(spec.follow);
        let to = |chain: &str| Verdict::Goto(format!("{chain}_{name}"));
        let followed_already = spec
            .programs
            .follows
            .map(|program| Rule::new().program_says_so(program).trace().verdict(Verdict::Accept));
        // Nothing else in this chain returns: who hears of that verdict knows that it selects nothing.
        let others =
            spec.programs.others.map(|program| Rule::new().program_says_so(program).verdict(Verdict::Return));
        // Before the filter, which would select again, at the cost of the rate, what another namespace has selected.
        let mut enter: Vec<Rule> = followed_already.iter().cloned().collect();
        enter.extend(others);
        if by_headers {
            enter.push(Rule::new().verdict(Verdict::Jump(format!("followed_{name}"))));
        }
        if device == Device::In && spec.filter.iif.is_empty() {
            // What comes by loopback was judged when it was sent, and is marked if it is to be. Judging it
            // again would count it twice, and select by headers that were rewritten meanwhile.
            enter.push(Rule::new().came_by_loopback().verdict(Verdict::Accept));
        }
        enter.extend(entries(&spec.filter, device, &to("select"), &to("mark")));
        if mirrored.is_some() {
            enter.push(Rule::new().verdict(to("reply")));
        }
        self.base(format!("enter_{name}"), hook, i32::MIN, enter);
        if by_headers {
            self.chain(format!("followed_{name}"), followed_headers(&spec.filter, &versions));
        }
        if spec.follow == FollowBy::Conntrack {
            let follow = versions.iter().map(|version| {
                let rule = Rule::new().connection_followed(*version, followed(*version));
                rule.trace().verdict(Verdict::Accept)
            });
            // Now the program can see the connection, too.
            let follow = followed_already.into_iter().chain(follow).collect();
            self.base(format!("follow_{name}"), hook, AFTER_CONNTRACK, follow);
        }
        // What none of the alternatives fits may still be a reply.
        let otherwise = if mirrored.is_some() { to("reply") } else { Verdict::Accept };
        self.ladder(&spec.filter, "select", name, &otherwise);
        if let Some(mirrored) = mirrored {
            // The mirrored filter asks for no device.
            self.chain(format!("reply_{name}"), entries(mirrored, device, &to("mirror"), &to("mark")));
            self.ladder(mirrored, "mirror", name, &Verdict::Accept);
        }
        self.chain(format!("mark_{name}"), mark(spec, &versions));
    }

    /// Removes sets that no rule asks for and chains that no rule leads to.
    fn drop_unused(&mut self) {
        let mut reached: Vec<String> =
            self.chains.iter().filter(|c| c.base.is_some()).map(|c| c.name.clone()).collect();
        let mut at = 0;
        while let Some(name) = reached.get(at).cloned() {
            let rules = self.chains.iter().filter(|c| c.name == name).flat_map(|c| &c.rules);
            for expression in rules.flat_map(|r| &r.expressions) {
                if let Expression::Verdict(Verdict::Jump(to) | Verdict::Goto(to)) = expression
                    && !reached.contains(to)
                {
                    reached.push(to.clone());
                }
            }
            at += 1;
        }
        self.chains.retain(|chain| reached.contains(&chain.name));
        let expressions = || self.chains.iter().flat_map(|c| &c.rules).flat_map(|r| &r.expressions);
        self.sets.retain(|set| {
            expressions().any(|expression| match expression {
                Expression::Lookup { set_id, .. } | Expression::Add { set_id, .. } => {
                    *set_id == set.reference.id
                }
                _ => false,
            })
        });
    }

    fn chain(&mut self, name: String, rules: Vec<Rule>) {
        self.chains.push(Chain { name, base: None, devices: Vec::new(), rules });
    }

    pub(super) fn base(&mut self, name: String, hook: u32, priority: i32, rules: Vec<Rule>) {
        self.chains.push(Chain { name, base: Some((hook, priority)), devices: Vec::new(), rules });
    }

    /// The chains of the criteria that have several alternatives.
    fn ladder(&mut self, filter: &Filter, name: &str, hook: &str, otherwise: &Verdict) {
        let many: Vec<_> =
            criteria(filter).into_iter().flatten().filter(|c| c.alternatives.len() > 1).collect();
        let rung = |criterion: &Criterion| format!("{name}_{}_{hook}", criterion.name);
        let mut rules: Vec<_> =
            many.iter().map(|criterion| Rule::new().verdict(Verdict::Jump(rung(criterion)))).collect();
        rules.push(Rule::new().verdict(Verdict::Goto(format!("mark_{hook}"))));
        self.chain(format!("{name}_{hook}"), rules);
        for criterion in many {
            let name = rung(&criterion);
            let mut rules: Vec<_> =
                criterion.alternatives.into_iter().map(|rule| rule.verdict(Verdict::Return)).collect();
            rules.push(Rule::new().verdict(otherwise.clone()));
            self.chain(name, rules);
        }
    }
}

/// The rules of a base chain that lead into the selection: one per device asked for, each with everything
/// that has a single alternative.
fn entries(filter: &Filter, device: Device, many: &Verdict, one: &Verdict) -> Vec<Rule> {
    let Some(criteria) = criteria(filter) else { return Vec::new() };
    let target = if criteria.iter().any(|c| c.alternatives.len() > 1) { many } else { one };
    let single = criteria
        .iter()
        .filter_map(|c| match c.alternatives.as_slice() {
            [only] => Some(only),
            _ => None,
        })
        .fold(Rule::new(), Rule::and);
    let names = match device {
        Device::In => &filter.iif,
        // A packet made here came in by no device. One made here for which a device out is asked is judged
        // by it; for one that came in, the route is not known yet, and the device out not asked.
        Device::Out if !filter.iif.is_empty() => return Vec::new(),
        Device::Out => &filter.oif,
    };
    let mut entries: Vec<_> =
        names.iter().map(|name| Rule::new().device(device, name).and(&single)).collect();
    if names.is_empty() {
        entries.push(single);
    }
    entries.into_iter().map(|rule| rule.verdict(target.clone())).collect()
}

/// What the filter asks for, without devices. `None` when no packet can match.
fn criteria(filter: &Filter) -> Option<Vec<Criterion>> {
    let mut criteria = Vec::new();
    let mut add = |name, alternatives: Vec<Rule>| {
        if !alternatives.is_empty() {
            criteria.push(Criterion { name, alternatives });
        }
    };
    let possible = protocols(filter);
    match possible.as_slice() {
        [] if impossible(filter) => return None,
        [] => {}
        [one] => add("protocol", vec![Rule::new().protocol(*one)]),
        _ => add("protocol", vec![Rule::new().protocol_in(PROTOCOLS)]),
    }
    let both = [End::Source, End::Destination];
    let addresses = |ends: &[End], list: &[Prefix]| -> Vec<Rule> {
        list.iter().flat_map(|p| ends.iter().map(|end| Rule::new().address(*end, p))).collect()
    };
    let ports = |ends: &[End], list: &[PortRange]| -> Vec<Rule> {
        list.iter().flat_map(|r| ends.iter().map(|end| Rule::new().port(*end, *r))).collect()
    };
    add("saddr", addresses(&[End::Source], &filter.saddr));
    add("daddr", addresses(&[End::Destination], &filter.daddr));
    add("addr", addresses(&both, &filter.addr));
    add("sport", ports(&[End::Source], &filter.sport));
    add("dport", ports(&[End::Destination], &filter.dport));
    add("port", ports(&both, &filter.port));
    add("mark", filter.marks.iter().map(|mark| Rule::new().mark(*mark)).collect());
    add("flags", filter.tcp_flags.iter().map(|flags| Rule::new().tcp_flags(*flags)).collect());
    Some(criteria)
}

/// The protocols that can match, each once; empty for any.
fn protocols(filter: &Filter) -> Vec<u8> {
    let mut possible = filter.possible_protocols();
    possible.sort_unstable();
    possible.dedup();
    possible
}

/// Whether the protocols asked for exclude what the other criteria need.
fn impossible(filter: &Filter) -> bool {
    (filter.wants_ports() || filter.tcp_flags.is_some()) && filter.possible_protocols().is_empty()
}

/// The filter that replies match where no address is translated: ends swapped, devices and flags dropped.
/// `None` where that is the filter itself, or would select everything.
fn mirror(filter: &Filter) -> Option<Filter> {
    let mirrored = Filter {
        protocols: filter.possible_protocols(),
        saddr: filter.daddr.clone(),
        daddr: filter.saddr.clone(),
        addr: filter.addr.clone(),
        sport: filter.dport.clone(),
        dport: filter.sport.clone(),
        port: filter.port.clone(),
        iif: Vec::new(),
        oif: Vec::new(),
        marks: filter.marks.clone(),
        tcp_flags: None,
    };
    let same = Filter { protocols: filter.possible_protocols(), ..filter.clone() } == mirrored;
    let ends = !(mirrored.saddr.is_empty() && mirrored.daddr.is_empty() && mirrored.addr.is_empty())
        || mirrored.wants_ports();
    (!same && ends && !impossible(filter)).then_some(mirrored)
}

/// The IP versions in which the filter can match.
fn versions(filter: &Filter) -> Vec<IpVersion> {
    let of = |prefix: &Prefix| if prefix.addr.is_ipv4() { IpVersion::V4 } else { IpVersion::V6 };
    let lists = [&filter.saddr, &filter.daddr, &filter.addr];
    IpVersion::BOTH
        .into_iter()
        .filter(|version| lists.iter().all(|list| list.is_empty() || list.iter().any(|p| of(p) == *version)))
        .collect()
}

fn followed(version: IpVersion) -> SetRef {
    match version {
        IpVersion::V4 => FOLLOWED4,
        IpVersion::V6 => FOLLOWED6,
    }
}

/// The kinds of tuples that packets which the filter selects can have.
fn port_kinds(filter: &Filter, version: IpVersion) -> Vec<PortKind> {
    let possible = protocols(filter);
    let kind = |number: u8| match number {
        _ if protocol::has_ports(number) => PortKind::Ports,
        _ if number == version.icmp() => PortKind::Icmp,
        _ => PortKind::None,
    };
    [PortKind::Ports, PortKind::Icmp, PortKind::None]
        .into_iter()
        .filter(|wanted| possible.is_empty() || possible.iter().any(|number| kind(*number) == *wanted))
        .collect()
}

/// Asks for packets whose tuple is of this kind. Of ICMP that is echo alone: errors belong to the connection
/// that they tell about, and have no tuple of their own.
fn of_kind(kind: PortKind, version: IpVersion) -> Rule {
    match kind {
        PortKind::Ports => Rule::new().protocol_in(WITH_PORTS),
        PortKind::Icmp => Rule::new().echo(version),
        PortKind::None => Rule::new().protocol_not_in(WITH_IDS),
    }
}

/// Whether the headers of selected packets are kept.
fn remembers(follow: FollowBy) -> bool {
    matches!(follow, FollowBy::Conntrack | FollowBy::Headers)
}

/// Traces packets of the followed connections that look as the first one did, and what answers such a packet: a reply is
/// seen before conntrack knows it, or where that does not track it.
fn followed_headers(filter: &Filter, versions: &[IpVersion]) -> Vec<Rule> {
    let mut rules = Vec::new();
    for version in versions {
        for kind in port_kinds(filter, *version) {
            let rule = of_kind(kind, *version).header_followed(*version, kind, followed(*version));
            rules.push(rule.trace().verdict(Verdict::Accept));
            let answer = match kind {
                PortKind::Icmp => Rule::new().echo_reply(*version),
                kind => of_kind(kind, *version),
            };
            let rule = answer.answer_followed(*version, kind, followed(*version));
            rules.push(rule.trace().verdict(Verdict::Accept));
        }
    }
    rules
}

/// The end of the selection: rate, memory, mark.
fn mark(spec: &TraceTableSpec, versions: &[IpVersion]) -> Vec<Rule> {
    let mut rules = Vec::new();
    if spec.rate.is_some() {
        rules.push(Rule::new().verdict(Verdict::Jump("limit".to_owned())));
    }
    if remembers(spec.follow) {
        for version in versions {
            for kind in port_kinds(&spec.filter, *version) {
                let rule = of_kind(kind, *version).remember_header(*version, kind, followed(*version));
                rules.push(rule.trace().verdict(Verdict::Accept));
            }
        }
    }
    // Also for what could not be remembered: the set is full, or the header is cut short.
    rules.push(Rule::new().trace().verdict(Verdict::Accept));
    rules
}

fn sets(spec: &TraceTableSpec) -> Vec<Set> {
    let mut sets = Vec::new();
    let constant = |reference, numbers: &[u8]| Set {
        reference,
        types: vec![c::TYPE_INET_PROTOCOL],
        key_length: 1,
        elements: numbers.iter().map(|number| vec![*number]).collect(),
    };
    let possible = protocols(&spec.filter);
    if possible.len() > 1 {
        sets.push(constant(PROTOCOLS, &possible));
    }
    if remembers(spec.follow) {
        let mut numbers: Vec<u8> = (0..=u8::MAX).filter(|number| protocol::has_ports(*number)).collect();
        sets.push(constant(WITH_PORTS, &numbers));
        numbers.extend([protocol::ICMP, protocol::ICMPV6]);
        numbers.sort_unstable();
        sets.push(constant(WITH_IDS, &numbers));
        for version in versions(&spec.filter) {
            let (addr, key_length) = match version {
                IpVersion::V4 => (c::TYPE_IPADDR, 20),
                IpVersion::V6 => (c::TYPE_IP6ADDR, 44),
            };
            let types = vec![addr, addr, c::TYPE_INET_PROTOCOL, c::TYPE_INET_SERVICE, c::TYPE_INET_SERVICE];
            sets.push(Set { reference: followed(version), types, key_length, elements: Vec::new() });
        }
    }
    sets
}
