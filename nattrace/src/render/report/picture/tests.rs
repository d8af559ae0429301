//! Pictures of the sample journeys, and of what stretches the walk.

use nattrace_core::event::{HookPoint, HookVerdict, NfFamily, Verdict};
use nattrace_core::journey::{
    Backend, DeviceStep, DropCause, Journey, JourneyId, KernelDrop, Outcome, RouteDecision, Step, StepKind,
};

use super::*;
use crate::render::samples::{self, RTR, bare, broken, fixed, hook, matched, rule, steps, tcp};

fn at(place: Place) -> Spot {
    Spot { netns: RTR, layer: Layer::Ip, place }
}

fn node(picture: &Picture, spot: Spot) -> &Node {
    let lane = picture.lanes.iter().find(|lane| (lane.netns, lane.layer) == (spot.netns, spot.layer));
    lane.and_then(|lane| lane.nodes.get(&spot.place)).unwrap_or_else(|| panic!("no {spot:?}"))
}

fn edges(picture: &Picture) -> Vec<(Place, Place, u64)> {
    picture.edges.iter().map(|((from, to), count)| (from.place, to.place, *count)).collect()
}

fn device(event: DeviceStep, name: &str) -> StepKind {
    StepKind::Device { event, name: name.into() }
}

fn route(decision: RouteDecision, oif: Option<&str>) -> StepKind {
    StepKind::Route { decision, oif: oif.map(Into::into), gateway: None, matched: None }
}

#[test]
fn a_port_forward_that_breaks_ends_in_forward() {
    let first = broken();
    let again = samples::again(2, &first, 1.0);
    let picture = Picture::of([&first, &again]);
    assert_eq!(picture.packets, 2);
    assert_eq!(
        edges(&picture),
        [
            (Place::DeviceIn, Place::Prerouting, 2),
            (Place::Prerouting, Place::Route, 2),
            (Place::Route, Place::Forward, 2),
        ]
    );
    let prerouting = node(&picture, at(Place::Prerouting));
    let (rewritten, count) = prerouting.rewrites.iter().next().expect("a rewrite");
    assert_eq!((rewritten.to.to_string().as_str(), count), ("192.168.70.10:22", 2));
    assert_eq!(rewritten.rule.as_ref().expect("the rule").in_chain.as_deref(), Some("handle 3"));
    assert_eq!(rewritten.by, "by a rule of inet nat prerouting");
    let forward = node(&picture, at(Place::Forward));
    let rules: Vec<_> =
        forward.rules.iter().map(|(rule, count)| (rule.text.as_str(), rule.drops, count)).collect();
    assert_eq!(rules, [("ct status dnat jump allowed_dnats", false, 2), ("drop", true, 2)]);
    let ends: Vec<_> =
        forward.ends.iter().map(|(end, count)| (end.text.as_str(), end.rule.as_deref(), count)).collect();
    assert_eq!(ends, [("dropped by inet filter allowed_dnats handle 8", Some("drop"), 2)]);
    assert_eq!(
        forward.findings.iter().map(|(finding, count)| (finding.code, count)).next(),
        Some(("set-element-missing", 2))
    );
    assert_eq!(node(&picture, at(Place::DeviceIn)).devices.iter().next(), Some((&"enp0".into(), 2)));
}

#[test]
fn what_comes_through_leaves_by_a_device() {
    let picture = Picture::of([&fixed()]);
    let out = node(&picture, at(Place::DeviceOut));
    assert_eq!(out.ended(), [(EndKind::Sent, 1)].into());
    assert_eq!(out.devices.iter().collect::<Vec<_>>(), [(&"veth21".into(), 1)], "told once");
    assert!(edges(&picture).contains(&(Place::Postrouting, Place::DeviceOut, 1)));
}

#[test]
fn a_rule_knows_its_hook_where_the_hook_was_not_seen() {
    let journey = Journey {
        iif: Some("enp0".into()),
        steps: steps(vec![
            matched(rule("inet nat prerouting", 3, "accept"), HookPoint::Prerouting, Verdict::Accept),
            matched(rule("inet filter forward", 4, "accept"), HookPoint::Forward, Verdict::Accept),
            matched(rule("inet filter forward", 5, "drop"), HookPoint::Forward, Verdict::Drop),
        ]),
        outcome: Outcome::Dropped(DropCause::Rule {
            rule: rule("inet filter forward", 5, "drop"),
            hook: Some(HookPoint::Forward),
        }),
        ..bare(tcp("10.0.0.1:1", "10.0.0.2:2", 2))
    };
    let picture = Picture::of([&journey]);
    assert_eq!(
        edges(&picture),
        [(Place::DeviceIn, Place::Prerouting, 1), (Place::Prerouting, Place::Forward, 1)]
    );
    assert_eq!(node(&picture, at(Place::Forward)).packets, 1);
    assert_eq!(node(&picture, at(Place::DeviceIn)).devices.iter().next(), Some((&"enp0".into(), 1)));
}

#[test]
fn a_packet_of_this_host_goes_round_by_loopback() {
    let journey = Journey {
        steps: steps(vec![
            route(RouteDecision::Local, Some("lo")),
            hook(HookPoint::Output, ("", "lo"), HookVerdict::Accept),
            hook(HookPoint::Postrouting, ("", "lo"), HookVerdict::Accept),
            device(DeviceStep::Transmit, "lo"),
            device(DeviceStep::Receive, "lo"),
            hook(HookPoint::Prerouting, ("lo", ""), HookVerdict::Accept),
            route(RouteDecision::Local, None),
            StepKind::Deliver {
                protocol: "tcp".into(),
                local: Some(samples::end("127.0.0.1:22")),
                function: None,
            },
        ]),
        outcome: Outcome::Delivered,
        ..bare(tcp("127.0.0.1:1", "127.0.0.1:22", 2))
    };
    let picture = Picture::of([&journey]);
    let all: Vec<_> = edges(&picture).into_iter().map(|(from, to, _)| (from, to)).collect();
    for way in [
        (Place::Local, Place::RouteOut),
        (Place::RouteOut, Place::Output),
        (Place::DeviceOut, Place::DeviceIn),
        (Place::Route, Place::Local),
    ] {
        assert!(all.contains(&way), "{way:?} is not in {all:?}");
    }
    let local = node(&picture, at(Place::Local));
    assert_eq!(local.packets, 2, "it left there and came there");
    assert_eq!(local.takers.iter().next(), Some((&"to tcp 127.0.0.1:22".to_owned(), 1)));
}

#[test]
fn a_bridge_has_hooks_of_its_own() {
    let bridged = |point, iif, oif| StepKind::Hook {
        hook: point,
        family: NfFamily::Bridge,
        iif: Some(Name::from(iif)),
        oif: Some(Name::from(oif)),
        verdict: Some(HookVerdict::Accept),
    };
    let journey = Journey {
        iif: Some("port1".into()),
        steps: steps(vec![
            device(DeviceStep::Receive, "port1"),
            bridged(HookPoint::Prerouting, "port1", ""),
            bridged(HookPoint::Input, "port1", ""),
            device(DeviceStep::Receive, "br0"),
            hook(HookPoint::Prerouting, ("br0", ""), HookVerdict::Accept),
        ]),
        ..bare(tcp("10.0.0.1:1", "10.0.0.2:2", 2))
    };
    let picture = Picture::of([&journey]);
    let lanes: Vec<_> = picture.lanes.iter().map(|lane| lane.layer).collect();
    assert_eq!(lanes, [Layer::Bridge, Layer::Ip]);
    let bridge = |place| Spot { netns: RTR, layer: Layer::Bridge, place };
    assert_eq!(picture.edges.get(&(bridge(Place::Input), at(Place::DeviceIn))), Some(&1));
    assert_eq!(node(&picture, bridge(Place::DeviceIn)).devices.iter().next(), Some((&"port1".into(), 1)));
}

#[test]
fn namespaces_are_lanes_and_there_are_so_many() {
    let mut kinds = Vec::new();
    for netns in 0..20 {
        let step = |kind| Step { time_ns: samples::T0, netns: RTR + netns, kind };
        kinds.push(step(device(DeviceStep::Receive, "in")));
        kinds.push(step(device(DeviceStep::Transmit, "out")));
    }
    let journey = Journey {
        steps: kinds,
        outcome: Outcome::Transmitted { device: Some("out".into()) },
        ..bare(tcp("10.0.0.1:1", "10.0.0.2:2", 2))
    };
    let picture = Picture::of([&journey]);
    assert_eq!(picture.lanes.len(), MAX_LANES);
    assert_eq!(picture.beyond, 1);
    let crossing = picture.edges.get(&(at(Place::DeviceOut), Spot { netns: RTR + 1, ..at(Place::DeviceIn) }));
    assert_eq!(crossing, Some(&1));
}

#[test]
fn a_kernel_s_drop_is_where_the_packet_was_last() {
    let drop = KernelDrop { text: "no route".into(), ..KernelDrop::default() };
    let journey = Journey {
        iif: Some("enp0".into()),
        steps: steps(vec![
            device(DeviceStep::Receive, "enp0"),
            hook(HookPoint::Prerouting, ("enp0", ""), HookVerdict::Accept),
            route(RouteDecision::Unreachable, None),
            StepKind::Drop(Box::new(drop.clone())),
        ]),
        outcome: Outcome::Dropped(DropCause::Kernel(Box::new(drop.clone()))),
        ..bare(tcp("10.0.0.1:1", "10.0.0.2:2", 2))
    };
    let picture = Picture::of([&journey]);
    assert_eq!(node(&picture, at(Place::Route)).ended(), [(EndKind::Dropped, 1)].into());
    // Nothing tells where: nothing is said of it.
    let nowhere = Journey { iif: None, steps: steps(vec![StepKind::Drop(Box::new(drop))]), ..journey };
    let picture = Picture::of([&nowhere]);
    assert_eq!(node(&picture, at(Place::Unknown)).ended(), [(EndKind::Dropped, 1)].into());
}

#[test]
fn near_rules_stand_at_their_own_hook() {
    let near = rule("inet nat prerouting", 4, "tcp dport 1223 dnat to 192.168.70.10:22");
    let mut journey = broken();
    let mut finding = journey.findings[0].clone();
    finding.near = Some(near);
    journey.findings = vec![finding];
    journey.steps.insert(
        2,
        Step {
            time_ns: samples::T0,
            netns: RTR,
            kind: StepKind::Policy {
                backend: Backend::Nft,
                family: NfFamily::Inet,
                table: "nat".into(),
                chain: "prerouting".into(),
                verdict: Verdict::Accept,
                hook: Some(HookPoint::Prerouting),
            },
        },
    );
    let picture = Picture::of([&journey]);
    let prerouting = node(&picture, at(Place::Prerouting));
    assert_eq!(prerouting.near.iter().next().expect("the rule").0.in_chain.as_deref(), Some("handle 4"));
    assert!(node(&picture, at(Place::Forward)).near.is_empty());
}

#[test]
fn a_picture_stays_of_one_size() {
    let mut picture = Picture::default();
    for port in 1..=1000_u16 {
        let mut journey = fixed();
        journey.id = JourneyId(port.into());
        for step in &mut journey.steps {
            if let StepKind::Rewrite { from, .. } = &mut step.kind {
                from.port = Some(port);
            }
        }
        picture.add(&journey);
    }
    let prerouting = node(&picture, at(Place::Prerouting));
    assert_eq!(prerouting.packets, 1000);
    assert_eq!(prerouting.rewrites.iter().len(), MAX_KINDS);
    assert_eq!(prerouting.rewrites.others(), 1000 - MAX_KINDS as u64);
}
