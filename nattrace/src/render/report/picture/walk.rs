//! One journey as a walk: the places it came by, and at which of them each step happened.

use nattrace_core::event::{HookPoint, NetnsId, NfFamily};
use nattrace_core::journey::{DeviceStep, DropCause, Journey, Outcome, Step, StepKind};

use super::{Layer, Place, Spot};

/// The places that a packet came by, in order, and what happened where.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    journey: &'a Journey,
    /// The places, each as often as it was come by.
    pub(super) spots: Vec<Spot>,
    /// For each step the place in `spots` where it happened.
    pub(super) of_step: Vec<usize>,
    /// Where in `spots` the packet ended.
    pub(super) end: usize,
}

impl<'a> Walk<'a> {
    /// Walks along a journey.
    pub(super) fn new(journey: &'a Journey) -> Self {
        let mut walk = Self { journey, spots: Vec::new(), of_step: Vec::new(), end: 0 };
        walk.begin();
        for (index, step) in journey.steps.iter().enumerate() {
            walk.step(index, step);
            if walk.spots.is_empty() {
                walk.visit(step.netns, Layer::Ip, Place::Unknown);
            }
            walk.of_step.push(walk.spots.len() - 1);
        }
        walk.finish();
        walk
    }

    /// Where it comes from: a device that is known though it was not seen to give the packet, or this host.
    fn begin(&mut self) {
        let Self { journey, .. } = self;
        let netns = journey.netns.inum;
        let first_is_device = matches!(
            journey.steps.first().map(|step| &step.kind),
            Some(StepKind::Device { event: DeviceStep::Receive, .. })
        );
        if journey.iif.is_some() && !first_is_device {
            self.visit(netns, self.layer_ahead(0, netns), Place::DeviceIn);
        } else if !first_is_device && journey.is_from_this_host() {
            self.visit(netns, Layer::Ip, Place::Local);
        }
    }

    fn step(&mut self, index: usize, step: &Step) {
        let netns = step.netns;
        match &step.kind {
            StepKind::Device { event: DeviceStep::Receive, .. } => {
                self.visit_once(netns, self.layer_ahead(index, netns), Place::DeviceIn);
            }
            StepKind::Device { event: DeviceStep::Transmit, .. } => {
                self.visit_once(netns, self.layer_here(netns), Place::DeviceOut);
            }
            StepKind::Hook { hook, family, .. } => {
                let layer = self.layer_of(index, netns, *family);
                self.visit(netns, layer, Place::of(*hook));
            }
            StepKind::Rule(rule) => self.rules(index, netns, rule.rule.family, rule.hook),
            StepKind::Policy { family, hook, .. } => self.rules(index, netns, *family, *hook),
            StepKind::Route { .. } => {
                let place = if self.is_from_here(index, netns) { Place::RouteOut } else { Place::Route };
                self.visit(netns, Layer::Ip, place);
            }
            StepKind::Deliver { .. } => self.visit_once(netns, Layer::Ip, Place::Local),
            StepKind::Rewrite { .. } | StepKind::Connection { .. } | StepKind::Drop(_) => {}
        }
    }

    /// A rule knows its hook even where the hook itself was not seen.
    fn rules(&mut self, index: usize, netns: NetnsId, family: NfFamily, hook: Option<HookPoint>) {
        if let Some(hook) = hook {
            let layer = self.layer_of(index, netns, family);
            self.visit_once(netns, layer, Place::of(hook));
        }
    }

    fn finish(&mut self) {
        let netns = self.spots.last().map_or(self.journey.netns.inum, |spot| spot.netns);
        let in_hook = match &self.journey.outcome {
            Outcome::Delivered => {
                self.visit_once(netns, Layer::Ip, Place::Local);
                None
            }
            Outcome::Transmitted { .. } => {
                self.visit_once(netns, self.layer_here(netns), Place::DeviceOut);
                None
            }
            Outcome::Dropped(DropCause::Rule { hook, .. } | DropCause::Policy { hook, .. }) => *hook,
            Outcome::Dropped(DropCause::Kernel(drop)) => drop.hook,
            Outcome::Queued | Outcome::Consumed | Outcome::Unfinished { .. } => None,
        };
        if self.spots.is_empty() {
            self.visit(netns, Layer::Ip, Place::Unknown);
        }
        let last = self.spots.len() - 1;
        let in_hook = in_hook.map(Place::of);
        self.end = self.spots.iter().rposition(|spot| Some(spot.place) == in_hook).unwrap_or(last);
    }

    fn visit(&mut self, netns: NetnsId, layer: Layer, place: Place) {
        self.spots.push(Spot { netns, layer, place });
    }

    /// What tells of a place where the packet is already does not make it come there again.
    fn visit_once(&mut self, netns: NetnsId, layer: Layer, place: Place) {
        let spot = Spot { netns, layer, place };
        if self.spots.last() != Some(&spot) {
            self.spots.push(spot);
        }
    }

    /// A route for what this host sends is found before its output hook, and again behind it.
    fn is_from_here(&self, index: usize, netns: NetnsId) -> bool {
        let next_is_output = self.journey.steps.get(index + 1).is_some_and(|next| {
            next.netns == netns && matches!(next.kind, StepKind::Hook { hook: HookPoint::Output, .. })
        });
        match self.spots.last() {
            Some(last) => {
                next_is_output || matches!(last.place, Place::Local | Place::RouteOut | Place::Output)
            }
            None => next_is_output || self.journey.iif.is_none(),
        }
    }

    fn layer_of(&self, index: usize, netns: NetnsId, family: NfFamily) -> Layer {
        match family {
            NfFamily::Inet | NfFamily::Ip | NfFamily::Ip6 => Layer::Ip,
            NfFamily::Bridge => Layer::Bridge,
            NfFamily::Arp => Layer::Arp,
            // A device's own hooks belong to whatever takes the packet from it, or gives it.
            NfFamily::Netdev => match self.spots.last().filter(|spot| spot.netns == netns) {
                Some(spot) => spot.layer,
                None => self.layer_ahead(index, netns),
            },
        }
    }

    /// The layer that the packet is in.
    fn layer_here(&self, netns: NetnsId) -> Layer {
        self.spots.last().filter(|spot| spot.netns == netns).map_or(Layer::Ip, |spot| spot.layer)
    }

    /// The layer that takes the packet next.
    fn layer_ahead(&self, index: usize, netns: NetnsId) -> Layer {
        let ahead = self.journey.steps[index..].iter().take_while(|step| step.netns == netns);
        let family = ahead.into_iter().find_map(|step| match &step.kind {
            StepKind::Hook { family, .. } | StepKind::Policy { family, .. } => {
                (*family != NfFamily::Netdev).then_some(*family)
            }
            StepKind::Rule(rule) => (rule.rule.family != NfFamily::Netdev).then_some(rule.rule.family),
            _ => None,
        });
        match family {
            Some(NfFamily::Bridge) => Layer::Bridge,
            Some(NfFamily::Arp) => Layer::Arp,
            _ => Layer::Ip,
        }
    }
}
