use super::evidence::{EACCES, EHOSTUNREACH, EINVAL, ENETUNREACH};
use super::*;
use crate::event::{Attached, Circumstances, FrameTo, HookPoint};
use crate::packet::{Endpoint, Packet, datagram};

fn packet() -> Packet {
    let end = |last: u8, port| Endpoint { addr: [10, 0, 0, last].into(), port: Some(port) };
    datagram(end(1, 5000), end(2, 53))
}

fn drop<'a>(packet: &'a Packet, reason: Option<&'a str>, function: Option<&'a str>) -> Evidence<'a> {
    Evidence { reason, function, ..Evidence::of(packet) }
}

#[test]
fn a_reason_that_nobody_knows_is_shown_as_the_kernel_gives_it() {
    let packet = packet();
    // A number that BTF does not name, a name that the catalogue does not have, and neither.
    for (reason, function, told) in [
        (Some("0x30007"), Some("odd"), "The kernel dropped it in odd, with the reason 0x30007."),
        (Some("NEW_REASON"), None, "The kernel dropped it, with the reason NEW_REASON."),
        (None, None, "The kernel dropped it, without giving a reason."),
    ] {
        let drop = drop(&packet, reason, function);
        assert!(cause_of(&drop).is_none());
        assert_eq!(describe(&drop), told);
    }
}

#[test]
fn the_more_telling_of_reason_and_function_is_told() {
    let cases = [
        (Some("NO_SOCKET"), Some("tcp_v4_rcv"), "No socket takes it"),
        (Some("NOT_SPECIFIED"), Some("udp_queue_rcv_one_skb"), "The socket could not take it"),
        (None, Some("ip_rcv_finish_core.isra.0"), "The kernel refused its addresses"),
        (Some("NETFILTER_DROP"), Some("nft_do_chain"), "A rule or a policy"),
        (Some("NETFILTER_DROP"), Some("somewhere"), "A netfilter hook"),
        (Some("NETFILTER_DROP"), Some("nf_conntrack_in"), "Conntrack dropped it"),
        (Some("IP_INHDR"), Some("ip_rcv_core"), "Its IP header is malformed"),
        (Some("IP_INHDR"), Some("ip_forward"), "Its TTL ran out"),
        (Some("IP_INHDR"), Some("ip6_forward"), "Its hop limit ran out"),
        (Some("IP_INADDRERRORS"), Some("ip_error"), "It is not for this host, and forwarding is off"),
        (Some("NOT_SPECIFIED"), Some("neigh_invalidate"), "It waited"),
        (None, Some("ip_error"), "There is no route to its destination, a route of type"),
        (Some("NOT_SPECIFIED"), Some("dst_discard_out"), "Its route discards packets"),
        (Some("BRAND_NEW"), Some("ip_rcv_core"), "Its IP header is malformed"),
        (Some("BRAND_NEW"), Some("f"), "The kernel dropped it in f, with the reason BRAND_NEW."),
        (Some("BRAND_NEW"), None, "The kernel dropped it, with the reason BRAND_NEW."),
        (Some("NOT_SPECIFIED"), Some("f"), "The kernel dropped it in f, without giving a reason."),
        (None, None, "The kernel dropped it, without giving a reason."),
    ];
    let packet = packet();
    for (reason, function, expected) in cases {
        let text = describe(&drop(&packet, reason, function));
        assert!(text.starts_with(expected), "{reason:?} {function:?}: {text}");
    }
}

#[test]
fn what_the_packet_carried_tells_more() {
    let packet = packet();
    let route = |function, reason, errno| {
        cause_of(&Evidence { route_error: Some(errno), ..drop(&packet, reason, Some(function)) })
            .map(|cause| cause.code)
    };
    let vague = Some("NOT_SPECIFIED");
    assert_eq!(route("ip_error", vague, EINVAL), Some("route-blackhole"));
    assert_eq!(route("ip_error", vague, EACCES), Some("route-prohibit"));
    assert_eq!(route("ip_error", vague, EHOSTUNREACH), Some("route-unreachable"));
    assert_eq!(route("ip_error", None, ENETUNREACH), Some("no-route"));
    assert_eq!(route("ip_error", None, EHOSTUNREACH), Some("route-refuses"), "or forwarding is off");
    let last = Packet { ttl: Some(1), ..packet.clone() };
    let code = |packet, function| cause_of(&drop(packet, None, Some(function))).map(|cause| cause.code);
    assert_eq!(code(&last, "ip_forward"), Some("ttl-exceeded"));
    assert_eq!(code(&packet, "ip_forward"), Some("not-forwarded"));
}

#[test]
fn what_to_check_has_the_packets_own_names() {
    let packet = packet();
    let known = Evidence { device: Some("eth7"), ..drop(&packet, Some("IP_INNOROUTES"), None) };
    let check = cause_of(&known).and_then(|cause| cause.check_of(&known));
    assert_eq!(check.as_deref(), Some("`ip route get 10.0.0.2 from 10.0.0.1 iif eth7`, and `ip rule`."));
    let unknown = drop(&packet, Some("NO_SOCKET"), None);
    let check = cause_of(&unknown).and_then(|cause| cause.check_of(&unknown)).unwrap_or_default();
    assert!(check.contains("sport = :53"), "{check}");
}

#[test]
fn no_code_and_no_sign_is_that_of_two_causes() {
    let signs = all()
        .flat_map(|cause| cause.signs)
        .map(|sign| format!("{:?} {:?} {:?}", sign.reason, sign.function, sign.fact));
    let codes = all().map(|cause| cause.code.to_owned());
    let mut names: Vec<String> = signs.chain(codes).collect();
    names.sort_unstable();
    let twice: Vec<_> = names.windows(2).filter(|pair| pair[0] == pair[1]).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

#[test]
fn the_document_is_that_of_this_catalogue() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/drops.md");
    let expected = document();
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::write(path, &expected).expect("docs/drops.md can be written");
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(found == expected, "docs/drops.md is not what the catalogue says: UPDATE_EXPECTED=1 writes it");
}

#[test]
fn what_held_names_a_drop_where_the_kernel_gives_no_reason() {
    let packet = packet();
    let named = |function, circumstances| {
        cause_of(&Evidence { circumstances, ..drop(&packet, None, Some(function)) }).map(|cause| cause.code)
    };
    let none = Circumstances::default();
    let no_forwarding = Circumstances { forwarding: Some(false), ..none };
    assert_eq!(named("ip_error", no_forwarding), Some("forwarding-off"));
    assert_eq!(named("ip_error", none), Some("route-refuses"));
    assert_eq!(named("ip6_forward", no_forwarding), Some("forwarding-off-ipv6"));
    let small = |mtu| Circumstances { mtu: Some(mtu), ..none };
    assert_eq!(named("ip_forward", small(packet.length - 1)), Some("too-big"));
    assert_eq!(named("ip_forward", small(packet.length)), Some("not-forwarded"));
    let frame = |frame| Circumstances { frame: Some(frame), ..none };
    assert_eq!(named("ip_forward", frame(FrameTo::Broadcast)), Some("not-for-this-host"));
    assert_eq!(named("ip_rcv_core", frame(FrameTo::Other)), Some("other-host"));
    let carrier = |on| Circumstances { carrier: Some(on), ..none };
    let queue = |circumstances| {
        cause_of(&Evidence { circumstances, leaving: true, ..drop(&packet, Some("QDISC_DROP"), None) })
            .map(|cause| cause.code)
    };
    assert_eq!(queue(carrier(false)), Some("no-carrier"));
    assert_eq!(queue(carrier(true)), Some("qdisc"));
}

#[test]
fn the_same_holds_after_an_unreachable_route() {
    let packet = packet();
    let unreachable = |forwarding| {
        let circumstances = Circumstances { forwarding: Some(forwarding), ..Circumstances::default() };
        cause_of(&Evidence {
            route_error: Some(EHOSTUNREACH),
            circumstances,
            ..drop(&packet, None, Some("ip_error"))
        })
        .map(|cause| cause.code)
    };
    assert_eq!(unreachable(false), Some("forwarding-off"));
    assert_eq!(unreachable(true), Some("route-unreachable"));
}

#[test]
fn what_conntrack_refuses_is_told_from_what_it_has_no_room_for() {
    let packet = packet();
    let named = |hook, conntrack, table_full| {
        let circumstances =
            Circumstances { conntrack: Some(conntrack), table_full, ..Circumstances::default() };
        let drop = Evidence {
            hook: Some(hook),
            circumstances,
            ..drop(&packet, Some("NETFILTER_DROP"), Some("nf_hook_slow"))
        };
        (cause_of(&drop).map(|cause| cause.code), is_certain(&drop))
    };
    let nothing = Attached::Nothing;
    assert_eq!(named(HookPoint::Prerouting, nothing, true), (Some("conntrack-full"), true));
    assert_eq!(named(HookPoint::Prerouting, nothing, false), (Some("conntrack"), false));
    assert_eq!(named(HookPoint::Forward, nothing, true), (Some("netfilter"), true));
    assert_eq!(named(HookPoint::Prerouting, Attached::Untracked, true), (Some("netfilter"), true));
    let snat = 1 << 4;
    assert_eq!(named(HookPoint::Postrouting, Attached::Entry(snat), false), (Some("nat-exhausted"), false));
    assert_eq!(named(HookPoint::Postrouting, Attached::Entry(0), false), (Some("conntrack-clash"), false));
    let confirmed = Attached::Entry(snat | 1 << 3);
    assert_eq!(named(HookPoint::Postrouting, confirmed, false), (Some("netfilter"), true));
}

#[test]
fn what_waited_in_vain_says_how_long_and_for_whom() {
    let packet = packet();
    let drop = Evidence {
        next_hop: Some([10, 0, 0, 9].into()),
        waited_ns: Some(3_049_000_000),
        device: Some("eth7"),
        ..drop(&packet, Some("NEIGH_FAILED"), None)
    };
    assert_eq!(describe(&drop), "It waited 3.0 s for the link-layer address of 10.0.0.9 on eth7: no answer.");
    let vague = Evidence { next_hop: None, waited_ns: Some(12_900_000), ..drop };
    assert_eq!(
        describe(&vague),
        "It waited 12 ms for the link-layer address of the next hop on eth7: no answer."
    );
}

#[test]
fn what_was_routed_had_passed_the_checks_of_addresses() {
    let packet = packet();
    let named = |routed, frame| {
        let circumstances = Circumstances { frame, ..Circumstances::default() };
        let function = Some("ip_rcv_finish_core.isra.0");
        let drop = Evidence { routed, circumstances, ..drop(&packet, Some("NOT_SPECIFIED"), function) };
        (cause_of(&drop).map(|cause| cause.code), is_certain(&drop))
    };
    assert_eq!(named(false, Some(FrameTo::Host)), (Some("address-check"), true));
    assert_eq!(named(true, Some(FrameTo::Host)), (Some("ip-options"), false));
    assert_eq!(named(true, None), (Some("ip-options"), false));
    assert_eq!(named(true, Some(FrameTo::Broadcast)), (Some("unicast-in-multicast-frame"), false));
}
