//! What many journeys have in common, as a picture: the places along netfilter's path, how many packets came by each
//! and went from one to the next, what was rewritten there and by whom, which rules matched, and who ended there.
//!
//! Journeys go in one by one, and the picture stays of one size: what has no room is counted. It says nothing that its
//! journeys do not show.

mod counted;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::{BTreeMap, BTreeSet};

use nattrace_core::event::{HookPoint, Manip, NetnsId, Verdict};
use nattrace_core::findings::Finding;
use nattrace_core::journey::{DropCause, Journey, Outcome, RuleRef, Step, StepKind};
use nattrace_core::name::Name;
use nattrace_core::packet::Endpoint;

pub(super) use counted::Counted;
use walk::Walk;

use crate::render::chains::beside_chain;
use crate::render::text::words;

/// Lanes of one picture; what happens in others is counted.
const MAX_LANES: usize = 12;
/// Rules of one hook.
const MAX_RULES: usize = 100;
/// Rewrites at one place, and ends.
const MAX_KINDS: usize = 40;

/// What the netfilter path is made of: the hooks, and what lies before, between and behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// The device that gives the packet.
    DeviceIn,
    /// `NF_NETDEV_INGRESS`, or the ingress of inet.
    Ingress,
    /// `NF_INET_PRE_ROUTING`.
    Prerouting,
    /// The routing decision for what came in.
    Route,
    /// `NF_INET_LOCAL_IN`.
    Input,
    /// A socket, or another part of this host.
    Local,
    /// The routing decision for what this host sends.
    RouteOut,
    /// `NF_INET_LOCAL_OUT`.
    Output,
    /// `NF_INET_FORWARD`.
    Forward,
    /// `NF_INET_POST_ROUTING`.
    Postrouting,
    /// `NF_NETDEV_EGRESS`.
    Egress,
    /// The device that takes the packet.
    DeviceOut,
    /// Somewhere in the kernel: nothing told where.
    Unknown,
}

impl Place {
    /// Where a hook lies.
    fn of(hook: HookPoint) -> Self {
        match hook {
            HookPoint::Ingress => Self::Ingress,
            HookPoint::Prerouting => Self::Prerouting,
            HookPoint::Input => Self::Input,
            HookPoint::Forward => Self::Forward,
            HookPoint::Output => Self::Output,
            HookPoint::Postrouting => Self::Postrouting,
            HookPoint::Egress => Self::Egress,
        }
    }

    /// What it is called in pictures: a hook by its own name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::DeviceIn => "device in",
            Self::Ingress => "ingress",
            Self::Prerouting => "prerouting",
            Self::Route | Self::RouteOut => "route",
            Self::Input => "input",
            Self::Local => "local process",
            Self::Output => "output",
            Self::Forward => "forward",
            Self::Postrouting => "postrouting",
            Self::Egress => "egress",
            Self::DeviceOut => "device out",
            Self::Unknown => "kernel",
        }
    }

    /// Unique within a lane, for programs.
    pub(super) fn id(self) -> &'static str {
        match self {
            Self::DeviceIn => "in",
            Self::RouteOut => "route-out",
            Self::Local => "local",
            Self::DeviceOut => "out",
            other => other.name(),
        }
    }

    /// Whether rules hang there.
    pub(super) fn is_hook(self) -> bool {
        matches!(
            self,
            Self::Ingress
                | Self::Prerouting
                | Self::Input
                | Self::Forward
                | Self::Output
                | Self::Postrouting
                | Self::Egress
        )
    }
}

/// Each layer has hooks of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Layer {
    /// IPv4 and IPv6.
    Ip,
    /// A bridge.
    Bridge,
    /// ARP.
    Arp,
}

impl Layer {
    /// As lanes are named; nothing of the layer that most are of.
    pub(super) fn name(self) -> Option<&'static str> {
        match self {
            Self::Ip => None,
            Self::Bridge => Some("bridge"),
            Self::Arp => Some("arp"),
        }
    }
}

/// A place of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Spot {
    pub(super) netns: NetnsId,
    pub(super) layer: Layer,
    pub(super) place: Place,
}

/// A rule that matched, or a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RuleLine {
    /// `inet filter forward`
    pub(super) chain: String,
    /// `handle 7`; nothing of a policy.
    pub(super) in_chain: Option<String>,
    /// As its owner wrote it.
    pub(super) text: String,
    /// What it decided, where known.
    pub(super) verdict: Option<String>,
    /// It threw the packet away.
    pub(super) drops: bool,
}

/// A rewrite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rewritten {
    pub(super) nat: Manip,
    pub(super) from: Endpoint,
    pub(super) to: Endpoint,
    /// In the packet that an ICMP error quotes.
    pub(super) inner: bool,
    /// Who decided, in words.
    pub(super) by: String,
    /// The rule that decided.
    pub(super) rule: Option<RuleLine>,
}

/// How packets ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum EndKind {
    Dropped,
    Delivered,
    Sent,
    Queued,
    Consumed,
    Unfinished,
}

impl EndKind {
    /// Of a journey.
    pub(super) fn of(journey: &Journey) -> Self {
        match journey.outcome {
            Outcome::Dropped(_) => Self::Dropped,
            Outcome::Delivered => Self::Delivered,
            Outcome::Transmitted { .. } => Self::Sent,
            Outcome::Queued => Self::Queued,
            Outcome::Consumed => Self::Consumed,
            Outcome::Unfinished { .. } => Self::Unfinished,
        }
    }

    /// As sums say it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Dropped => "dropped",
            Self::Delivered => "delivered",
            Self::Sent => "sent",
            Self::Queued => "queued",
            Self::Consumed => "consumed",
            Self::Unfinished => "unfinished",
        }
    }

    /// The sign that texts have for it.
    pub(super) fn sign(self) -> &'static str {
        match self {
            Self::Dropped => "✗",
            Self::Delivered => "✓",
            Self::Sent => "→",
            Self::Queued => "»",
            Self::Consumed => "•",
            Self::Unfinished => "?",
        }
    }
}

/// An end, and what is to be said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    pub(super) kind: EndKind,
    /// In a few words.
    pub(super) text: String,
    /// The text of the rule that dropped it.
    pub(super) rule: Option<String>,
}

/// A place that packets came by.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// How often.
    pub(super) packets: u64,
    /// Devices that gave or took them.
    pub(super) devices: Counted<Name>,
    /// What the routing decisions were.
    pub(super) routes: Counted<String>,
    /// Who took them.
    pub(super) takers: Counted<String>,
    /// Rules that matched, and policies that decided.
    pub(super) rules: Counted<RuleLine>,
    /// Rules that findings name: they nearly matched, or were not come to.
    pub(super) near: Counted<RuleLine>,
    /// Rewrites.
    pub(super) rewrites: Counted<Rewritten>,
    /// How packets ended here.
    pub(super) ends: Counted<End>,
    /// What findings say of steps here.
    pub(super) findings: Counted<Finding>,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            packets: 0,
            devices: Counted::new(MAX_KINDS),
            routes: Counted::new(MAX_KINDS),
            takers: Counted::new(MAX_KINDS),
            rules: Counted::new(MAX_RULES),
            near: Counted::new(MAX_KINDS),
            rewrites: Counted::new(MAX_KINDS),
            ends: Counted::new(MAX_KINDS),
            findings: Counted::new(MAX_KINDS),
        }
    }
}

impl Node {
    /// How many packets ended here how, kinds in their order.
    pub(super) fn ended(&self) -> BTreeMap<EndKind, u64> {
        let mut sums = BTreeMap::new();
        for (end, count) in self.ends.iter() {
            *sums.entry(end.kind).or_default() += count;
        }
        sums
    }
}

/// The places of one layer of one namespace.
#[derive(Debug, Clone)]
pub(super) struct Lane {
    pub(super) netns: NetnsId,
    pub(super) layer: Layer,
    pub(super) nodes: BTreeMap<Place, Node>,
}

/// Where the packets of some journeys went.
#[derive(Debug, Clone, Default)]
pub(super) struct Picture {
    /// How many journeys.
    pub(super) packets: u64,
    /// In the order the first packets came by them.
    pub(super) lanes: Vec<Lane>,
    /// How often a packet went from one place to another.
    pub(super) edges: BTreeMap<(Spot, Spot), u64>,
    /// Journeys that went through lanes, too, that have no room.
    pub(super) beyond: u64,
}

impl Picture {
    /// The picture of these journeys.
    pub(super) fn of<'a>(journeys: impl IntoIterator<Item = &'a Journey>) -> Self {
        let mut picture = Self::default();
        journeys.into_iter().for_each(|journey| picture.add(journey));
        picture
    }

    /// Adds a journey.
    pub(super) fn add(&mut self, journey: &Journey) {
        let walk = Walk::new(journey);
        self.packets += 1;
        let mut beyond = false;
        for spot in &walk.spots {
            match self.node(*spot) {
                Some(node) => node.packets += 1,
                None => beyond = true,
            }
        }
        self.beyond += u64::from(beyond);
        for pair in walk.spots.windows(2) {
            if pair.iter().all(|spot| self.node(*spot).is_some()) {
                *self.edges.entry((pair[0], pair[1])).or_default() += 1;
            }
        }
        if let (Some(device), Some(first)) = (&journey.iif, walk.spots.first())
            && first.place == Place::DeviceIn
            && !tells_device(journey.steps.first())
            && let Some(node) = self.node(*first)
        {
            node.devices.add(device.clone());
        }
        for (step, at) in journey.steps.iter().zip(&walk.of_step) {
            let spot = walk.spots[*at];
            if let Some(node) = self.node(spot) {
                node.step(step, spot.place);
            }
        }
        if let (Outcome::Transmitted { device: Some(device) }, Some(node)) =
            (&journey.outcome, self.node(walk.spots[walk.end]))
            && !tells_device(journey.steps.last())
        {
            node.devices.add(device.clone());
        }
        for finding in &journey.findings {
            // A finding belongs where the last step that proves it happened.
            let at = finding.steps.iter().filter_map(|step| walk.of_step.get(*step)).max();
            if let Some(node) = at.and_then(|at| self.node(walk.spots[*at])) {
                // Steps are numbered within their journey: other packets' are others.
                node.findings.add(Finding { steps: Vec::new(), ..finding.clone() });
            }
            let Some(near) = &finding.near else { continue };
            // Where several namespaces have such a chain, it is that of the proof.
            let proof = finding.steps.iter().filter_map(|step| journey.steps.get(*step));
            let netns: BTreeSet<NetnsId> = proof.map(|step| step.netns).collect();
            let here = |step: &Step| netns.contains(&step.netns) && is_of_chain(step, near);
            let beside = journey.steps.iter().position(here);
            let at = beside.and_then(|step| walk.of_step.get(step)).or(at);
            if let Some(node) = at.and_then(|at| self.node(walk.spots[*at])) {
                node.near.add(line_of(near));
            }
        }
        if let Some(node) = self.node(walk.spots[walk.end]) {
            node.ends.add(End {
                kind: EndKind::of(journey),
                text: words::end(journey),
                rule: dropping(journey),
            });
        }
    }

    /// The place, made where it is new; `None` where there is no room for its lane.
    fn node(&mut self, spot: Spot) -> Option<&mut Node> {
        let known = self.lanes.iter().position(|lane| (lane.netns, lane.layer) == (spot.netns, spot.layer));
        let at = match known {
            Some(at) => at,
            None if self.lanes.len() < MAX_LANES => {
                self.lanes.push(Lane { netns: spot.netns, layer: spot.layer, nodes: BTreeMap::new() });
                self.lanes.len() - 1
            }
            None => return None,
        };
        Some(self.lanes[at].nodes.entry(spot.place).or_default())
    }
}

impl Node {
    fn step(&mut self, step: &Step, place: Place) {
        match &step.kind {
            StepKind::Rule(rule) => {
                let verdict = rule.verdict.as_ref();
                self.rules.add(RuleLine {
                    text: match &rule.rule.text {
                        Some(text) => beside_chain(&rule.rule, text).to_owned(),
                        None => words::unknown_rule(rule),
                    },
                    verdict: verdict.map(ToString::to_string),
                    drops: verdict == Some(&Verdict::Drop),
                    ..line_of(&rule.rule)
                });
            }
            StepKind::Policy { backend, family, table, chain, verdict, .. } => self.rules.add(RuleLine {
                chain: format!("{} {table} {chain}", backend.owner(*family)),
                in_chain: None,
                text: format!("policy {verdict}"),
                verdict: Some(verdict.to_string()),
                drops: *verdict == Verdict::Drop,
            }),
            StepKind::Rewrite { nat, from, to, rule, by, inner, older, function, port_unasked, .. } => {
                let unasked = port_unasked.then(|| words::unasked(*from));
                let written = words::written(function.as_deref(), *by);
                self.rewrites.add(Rewritten {
                    nat: *nat,
                    from: *from,
                    to: *to,
                    inner: *inner,
                    // For which packet it was decided is another one for each connection.
                    by: unasked
                        .or(written)
                        .unwrap_or_else(|| words::rewritten_by(rule.as_deref(), *by, None, *older)),
                    rule: rule.as_deref().map(line_of),
                });
            }
            StepKind::Route { decision, oif, gateway, matched } => {
                let from_here = place == Place::RouteOut;
                let told = words::route(*decision, oif.as_deref(), *gateway, matched.as_ref(), from_here);
                self.routes.add(told);
            }
            StepKind::Device { name, .. } => self.devices.add(name.clone()),
            StepKind::Deliver { protocol, local, function } => {
                self.takers.add(words::delivered(protocol, *local, function.as_deref()));
            }
            StepKind::Hook { .. } | StepKind::Connection { .. } | StepKind::Drop(_) => {}
        }
    }
}

fn tells_device(step: Option<&Step>) -> bool {
    matches!(step.map(|step| &step.kind), Some(StepKind::Device { .. }))
}

/// Whether a step is of the chain that this rule is in.
fn is_of_chain(step: &Step, near: &RuleRef) -> bool {
    match &step.kind {
        StepKind::Rule(step) => {
            let rule = &step.rule;
            (rule.backend, rule.family, &rule.table, &rule.chain)
                == (near.backend, near.family, &near.table, &near.chain)
        }
        StepKind::Policy { backend, family, table, chain, .. } => {
            (*backend, *family, table, chain) == (near.backend, near.family, &near.table, &near.chain)
        }
        _ => false,
    }
}

/// A rule without what it decided.
fn line_of(rule: &RuleRef) -> RuleLine {
    RuleLine {
        chain: rule.chain_of(),
        in_chain: Some(rule.in_chain()),
        text: rule.text.as_deref().map(|text| beside_chain(rule, text)).unwrap_or_default().to_owned(),
        verdict: None,
        drops: false,
    }
}

fn dropping(journey: &Journey) -> Option<String> {
    match &journey.outcome {
        Outcome::Dropped(DropCause::Rule { rule, .. }) => {
            rule.text.as_deref().map(|text| beside_chain(rule, text).to_owned())
        }
        _ => None,
    }
}
