//! Plain words for the kernel's drop reasons, and for the functions that drop without giving one.
//!
//! Reasons: include/net/dropreason-core.h, v7.3, without the `SKB_DROP_REASON_` prefix. What is said holds
//! for every use of the reason in that tree; what to check is what an administrator can change.

/// A reason, what it means, and what to check.
const REASONS: [(&str, &str, &str); 62] = [
    (
        "NO_SOCKET",
        "No socket listens on that address and port.",
        "Check with `ss -lntup` that the service runs and on which address it listens.",
    ),
    ("SOCKET_CLOSE", "The socket was closed before the packet could be read.", ""),
    ("SOCKET_FILTER", "A BPF filter attached to the socket refused it.", ""),
    (
        "SOCKET_RCVBUFF",
        "The socket's receive buffer was full.",
        "The program reads too slowly, or net.core.rmem_max is too small; `ss -m` shows the buffers.",
    ),
    ("SOCKET_BACKLOG", "The socket's backlog was full: its program held it locked too long.", ""),
    ("PKT_TOO_SMALL", "It is shorter than its headers say.", "Something on the way here cut it."),
    (
        "PKT_TOO_BIG",
        "It is larger than the MTU of the way out, and must not be fragmented.",
        "Check the MTUs along the way, and that ICMP \"fragmentation needed\" reaches the sender.",
    ),
    (
        "TCP_CSUM",
        "Its TCP checksum is wrong.",
        "Something rewrote it without adjusting the checksum, or offloading on the sender's side left it unfinished: compare with `ethtool -K DEV tx off` there.",
    ),
    (
        "UDP_CSUM",
        "Its UDP checksum is wrong.",
        "Something rewrote it without adjusting the checksum, or offloading on the sender's side left it unfinished: compare with `ethtool -K DEV tx off` there.",
    ),
    ("ICMP_CSUM", "Its ICMP checksum is wrong.", "Something on the way here damaged it."),
    ("IP_CSUM", "Its IP header checksum is wrong.", "Something on the way here damaged it."),
    ("SKB_CSUM", "A checksum could not be computed for it.", ""),
    ("NETFILTER_DROP", "A netfilter hook dropped it.", ""),
    ("OTHERHOST", "Its link-layer address is another host's: it was never meant for this one.", ""),
    ("IP_INHDR", "Its IP header is malformed.", "Something on the way here damaged it."),
    (
        "IP_RPFILTER",
        "The reverse path filter refused it: a packet to its source would not leave by the device it came in by.",
        "Check the route back (`ip route get SOURCE`) and net.ipv4.conf.*.rp_filter, or the rule that uses `fib` or `rpfilter`.",
    ),
    ("UNICAST_IN_L2_MULTICAST", "It has a unicast address inside a broadcast or multicast frame.", ""),
    (
        "XFRM_POLICY",
        "An IPsec policy forbids it, or asks for protection that it does not have.",
        "`ip xfrm policy` lists the policies.",
    ),
    ("IP_NOPROTO", "No local protocol takes its protocol number.", ""),
    (
        "PROTO_MEM",
        "The protocol's memory limit was reached.",
        "`cat /proc/net/sockstat` against net.ipv4.tcp_mem or net.ipv4.udp_mem.",
    ),
    ("TCP_FLAGS", "Its TCP flags make no sense in the connection's state.", ""),
    (
        "TCP_ZEROWINDOW",
        "It has data while the receiver's window is closed.",
        "The receiving program does not read.",
    ),
    ("TCP_OLD_DATA", "All of its data had arrived before.", ""),
    ("TCP_OVERWINDOW", "Its data lies beyond the receiver's window.", ""),
    ("TCP_OFOMERGE", "Its data had arrived out of order before.", ""),
    (
        "TCP_RFC7323_PAWS",
        "Its TCP timestamp is older than the connection's last one.",
        "Several hosts behind one translated address can cause it.",
    ),
    ("TCP_OLD_SEQUENCE", "Its sequence number is older than the window.", ""),
    ("TCP_INVALID_SEQUENCE", "Its sequence number is outside the window.", ""),
    ("TCP_INVALID_ACK_SEQUENCE", "It acknowledges what was never sent.", ""),
    ("TCP_RESET", "It is a reset that fits no connection exactly, so TCP did not act on it.", ""),
    ("TCP_INVALID_SYN", "It is a SYN within an existing connection.", ""),
    ("TCP_CLOSE", "The TCP socket is closed.", ""),
    ("TCP_OLD_ACK", "It acknowledges what was acknowledged before.", ""),
    ("TCP_OFO_QUEUE_PRUNE", "The queue of segments out of order was pruned for want of memory.", ""),
    ("IP_OUTNOROUTES", "There is no route to its destination.", "`ip route get DESTINATION` from here."),
    (
        "IP_INNOROUTES",
        "There is no route to its destination.",
        "`ip route get DESTINATION from SOURCE iif DEVICE`.",
    ),
    ("IP_INADDRERRORS", "Its destination address cannot be used here.", ""),
    (
        "IP_LOCAL_SOURCE",
        "It came in with a source address of this host.",
        "Another host uses the same address, or it came back by a loop.",
    ),
    ("IP_INVALID_SOURCE", "Its source address cannot be one.", ""),
    ("IP_INVALID_DEST", "Its destination address cannot be one.", ""),
    (
        "IP_LOCALNET",
        "It has a 127.0.0.0/8 address and came from, or goes to, a device.",
        "net.ipv4.conf.*.route_localnet allows it where that is meant.",
    ),
    (
        "BPF_CGROUP_EGRESS",
        "A BPF program of the sender's cgroup refused it.",
        "`bpftool cgroup tree` lists them.",
    ),
    ("IPV6DISABLED", "IPv6 is disabled on the device.", "net.ipv6.conf.*.disable_ipv6."),
    ("NEIGH_CREATEFAIL", "The neighbour table is full.", "net.ipv4.neigh.default.gc_thresh3."),
    (
        "NEIGH_FAILED",
        "Nobody answered for the next hop's link-layer address.",
        "`ip neigh` shows it as FAILED: the next hop is down, or on another link.",
    ),
    (
        "NEIGH_QUEUEFULL",
        "Too many packets waited for the next hop's link-layer address.",
        "`ip neigh` shows whether the next hop answers.",
    ),
    ("NEIGH_DEAD", "The next hop's entry was removed while it waited for its link-layer address.", ""),
    ("TC_EGRESS", "A tc filter on the way out dropped it.", "`tc filter show dev DEV egress`."),
    ("TC_INGRESS", "A tc filter on the way in dropped it.", "`tc filter show dev DEV ingress`."),
    ("SECURITY_HOOK", "A security module refused it.", "Look for it in the audit log."),
    (
        "QDISC_DROP",
        "The queueing discipline of the way out dropped it.",
        "`tc -s qdisc show dev DEV` counts its drops.",
    ),
    (
        "CPU_BACKLOG",
        "The processor's input queue was full.",
        "net.core.netdev_max_backlog; the second column of /proc/net/softnet_stat counts it.",
    ),
    ("XDP", XDP, XDP_CHECK),
    ("UNHANDLED_PROTO", "No protocol handler takes its ethertype.", ""),
    ("DEV_READY", "The device was not ready.", "`ip link show DEV`: is it up, and its peer?"),
    ("FULL_RING", "The device's ring was full.", ""),
    ("NOMEM", "The kernel had no memory for it.", ""),
    ("DUP_FRAG", "It overlaps a fragment that arrived before.", ""),
    (
        "FRAG_REASM_TIMEOUT",
        "Not all of its fragments came in time.",
        "A fragment was lost or dropped before: later fragments have no ports for rules to match.",
    ),
    ("TCP_MINTTL", "Its TTL is lower than the socket asks for.", ""),
    ("QUEUE_PURGE", "The queue it waited in was purged, as when a socket is closed unread.", ""),
    ("IPV6_BAD_EXTHDR", "One of its IPv6 extension headers is malformed.", ""),
];

/// `nf_reinject`, which is nfnetlink_queue's own since 6.12 or so; a queue whose reader ends is emptied by it.
const REFUSED: &str = "The program that reads the NFQUEUE dropped it, or ended without an answer for it.";

/// An XDP program: reason `XDP`; the functions that run generic ones give none.
const XDP: &str = "An XDP program dropped it.";
const XDP_CHECK: &str = "`ip link show DEV` names the program.";

/// What `dst_discard` and its sister are for.
const DISCARDED: &str = "Its route discards packets: it is of type blackhole, or its device is going away.";

/// Reasons that one function uses for something of its own: (reason, function), what it means, what to check.
const PAIRS: [((&str, &str), &str, &str); 6] = [
    // `too_many_hops` in ip_forward; the hop limit is all that ip6_forward gives this reason for.
    (
        ("IP_INHDR", "ip_forward"),
        "Its TTL ran out here.",
        "Too many hops, a routing loop, or a sender that sets a low TTL (as traceroute does).",
    ),
    (
        ("IP_INHDR", "ip6_forward"),
        "Its hop limit ran out here.",
        "Too many hops, a routing loop, or a sender that sets a low hop limit (as traceroute does).",
    ),
    // ip_error gives it where the device does not forward, and nowhere else.
    (
        ("IP_INADDRERRORS", "ip_error"),
        "It is not for this host, and forwarding is off on the device it came in by.",
        "net.ipv4.ip_forward, and net.ipv4.conf.DEV.forwarding.",
    ),
    (
        ("IP_INADDRERRORS", "ip6_forward"),
        "It is not for this host, and forwarding is off, or addresses like its own are never forwarded.",
        "net.ipv6.conf.all.forwarding.",
    ),
    // No route and forwarding off have reasons of their own there.
    (
        ("NOT_SPECIFIED", "ip_error"),
        "The route to its destination refuses it: it is of type blackhole, unreachable or prohibit.",
        "`ip route get DESTINATION from SOURCE iif DEVICE`.",
    ),
    (
        ("NOT_SPECIFIED", "neigh_invalidate"),
        "Nobody answered for the next hop's link-layer address.",
        "`ip neigh` shows it as FAILED: the next hop is down, or on another link.",
    ),
];

/// Functions that drop without a telling reason (before 5.17 there is none at all), by what they do.
const FUNCTIONS: [(&str, &str, &str); 35] = [
    ("nft_do_chain", "A rule or a policy of nftables dropped it.", ""),
    ("ipt_do_table", "A rule of iptables dropped it.", ""),
    ("ip6t_do_table", "A rule of ip6tables dropped it.", ""),
    ("nf_hook_slow", "A netfilter hook dropped it.", ""),
    ("nf_hook_slow_list", "A netfilter hook dropped it.", ""),
    (
        "nf_queue",
        "It could not be queued to user space: nobody listens on that queue, or it is full.",
        "`cat /proc/net/netfilter/nfnetlink_queue`.",
    ),
    ("nf_reinject", REFUSED, ""),
    ("nfqnl_reinject", REFUSED, ""),
    ("do_xdp_generic", XDP, XDP_CHECK),
    ("netif_receive_generic_xdp", XDP, XDP_CHECK),
    ("ip_rcv_core", "Its IP header is malformed.", ""),
    ("ip6_rcv_core", "Its IPv6 header is malformed.", ""),
    (
        "ip_rcv_finish_core",
        "It could not be routed: no route, or the reverse path filter refused it.",
        "`ip route get DESTINATION from SOURCE iif DEVICE`, and net.ipv4.conf.*.rp_filter.",
    ),
    (
        "ip_rcv_finish",
        "It could not be routed: no route, or the reverse path filter refused it.",
        "`ip route get DESTINATION from SOURCE iif DEVICE`, and net.ipv4.conf.*.rp_filter.",
    ),
    (
        "ip_error",
        "There is no route to its destination, or forwarding is off.",
        "`ip route get DESTINATION from SOURCE iif DEVICE`, and net.ipv4.ip_forward.",
    ),
    ("dst_discard", DISCARDED, "`ip route get DESTINATION`."),
    ("dst_discard_out", DISCARDED, "`ip route get DESTINATION`."),
    (
        "ip6_pkt_drop",
        "There is no route to its destination, or a route forbids it.",
        "`ip -6 route get DESTINATION`.",
    ),
    ("ip6_pkt_discard", "There is no route to its destination.", "`ip -6 route get DESTINATION`."),
    ("ip6_pkt_discard_out", "There is no route to its destination.", "`ip -6 route get DESTINATION`."),
    (
        "ip_forward",
        "It could not be forwarded: its TTL ran out, or it is larger than the MTU of the way out.",
        "",
    ),
    (
        "ip6_forward",
        "It could not be forwarded: forwarding is off, its hop limit ran out, or it is larger than the MTU of the way out.",
        "net.ipv6.conf.*.forwarding.",
    ),
    (
        "ip_fragment",
        "It is larger than the MTU of the way out, and must not be fragmented.",
        "Check the MTUs along the way.",
    ),
    (
        "arp_error_report",
        "Nobody answered for the next hop's link-layer address.",
        "`ip neigh` shows it as FAILED: the next hop is down, or on another link.",
    ),
    (
        "ndisc_error_report",
        "Nobody answered for the next hop's link-layer address.",
        "`ip -6 neigh` shows it as FAILED: the next hop is down, or on another link.",
    ),
    (
        "__neigh_event_send",
        "The next hop's link-layer address could not be found.",
        "`ip neigh` shows whether the next hop answers.",
    ),
    (
        "tcp_v4_rcv",
        "TCP refused it: no socket listens there, or it fits no connection.",
        "Check with `ss -lnt` that the service runs and on which address it listens.",
    ),
    (
        "tcp_v6_rcv",
        "TCP refused it: no socket listens there, or it fits no connection.",
        "Check with `ss -lnt` that the service runs and on which address it listens.",
    ),
    (
        "__udp4_lib_rcv",
        "UDP refused it: no socket is bound there, or its checksum is wrong.",
        "Check with `ss -lnu` that the service runs and on which address it listens.",
    ),
    (
        "__udp6_lib_rcv",
        "UDP refused it: no socket is bound there, or its checksum is wrong.",
        "Check with `ss -lnu` that the service runs and on which address it listens.",
    ),
    (
        "udp_queue_rcv_one_skb",
        "The socket could not take it: its receive buffer is full, or a filter refused it.",
        "`ss -um` shows the buffers.",
    ),
    ("sk_filter_trim_cap", "A BPF filter attached to the socket refused it.", ""),
    (
        "__dev_queue_xmit",
        "The way out could not take it: its device is down, or its queue dropped it.",
        "`ip -s link show DEV` and `tc -s qdisc show dev DEV`.",
    ),
    ("validate_xmit_skb", "The way out could not take it: it could not be prepared for the device.", ""),
    ("veth_xmit", "The other end of the veth pair could not take it.", "`ip link show`: is the peer up?"),
];

/// Functions that drop on behalf of netfilter: a drop there happened in the hook the packet was in.
const IN_HOOK: [&str; 8] = [
    "nft_do_chain",
    "ipt_do_table",
    "ip6t_do_table",
    "nf_hook_slow",
    "nf_hook_slow_list",
    "nf_nat_inet_fn",
    "nf_conntrack_in",
    "nf_queue",
];

/// Sockets that watch (`tcpdump`) get a copy; its fate is not the packet's.
const CAPTURES: [&str; 5] =
    ["packet_rcv", "tpacket_rcv", "packet_rcv_spkt", "packet_rcv_fanout", "run_filter"];

/// Functions that free a packet after a local socket or protocol had it.
const DELIVERS: [&str; 22] = [
    "skb_free_datagram",
    "__skb_free_datagram_locked",
    "skb_consume_udp",
    "udp_recvmsg",
    "udpv6_recvmsg",
    "udp_read_skb",
    "raw_recvmsg",
    "ping_recvmsg",
    "icmp_rcv",
    "icmpv6_rcv",
    "ping_rcv",
    "tcp_recvmsg_locked",
    "tcp_eat_recv_skb",
    "tcp_rcv_established",
    "tcp_rcv_state_process",
    "tcp_data_queue",
    "tcp_v4_do_rcv",
    "tcp_v6_do_rcv",
    "tcp_v4_rcv",
    "tcp_v6_rcv",
    "igmp_rcv",
    "ndisc_rcv",
];

/// A function's name without what compilers append (`.isra.0`, `.constprop.0`) and without `+0x12`.
fn plain(function: &str) -> &str {
    function.split(['.', '+']).next().unwrap_or(function)
}

fn look_up<const N: usize>(
    table: &[(&str, &'static str, &'static str); N],
    name: &str,
) -> Option<(&'static str, &'static str)> {
    table.iter().find(|(known, _, _)| *known == name).map(|(_, means, check)| (*means, *check))
}

fn known(reason: Option<&str>, function: Option<&str>) -> Option<(&'static str, &'static str)> {
    if let (Some(reason), Some(function)) = (reason, function.map(plain))
        && let Some((_, means, check)) = PAIRS.iter().find(|(pair, _, _)| *pair == (reason, function))
    {
        return Some((means, check));
    }
    let by_function = function.and_then(|f| look_up(&FUNCTIONS, plain(f)));
    match reason {
        // Says nothing, or less than the function does.
        None | Some("NOT_SPECIFIED" | "NETFILTER_DROP") => {
            by_function.or_else(|| reason.and_then(|r| look_up(&REASONS, r)))
        }
        Some(reason) => look_up(&REASONS, reason).or(by_function),
    }
}

/// What happened, in one plain sentence.
#[must_use]
pub fn describe(reason: Option<&str>, function: Option<&str>) -> String {
    if let Some((means, _)) = known(reason, function) {
        return means.to_owned();
    }
    match (reason.filter(|r| *r != "NOT_SPECIFIED"), function) {
        (Some(reason), Some(function)) => {
            format!("The kernel dropped it in {function}, with the reason {reason}.")
        }
        (Some(reason), None) => format!("The kernel dropped it, with the reason {reason}."),
        (None, Some(function)) => format!("The kernel dropped it in {function}, without giving a reason."),
        (None, None) => "The kernel dropped it, without giving a reason.".to_owned(),
    }
}

/// What to check, where there is something to be said.
#[must_use]
pub fn check(reason: Option<&str>, function: Option<&str>) -> Option<&'static str> {
    known(reason, function).map(|(_, check)| check).filter(|check| !check.is_empty())
}

/// Whether the drop happened inside a netfilter hook.
pub(crate) fn is_in_hook(reason: Option<&str>, function: Option<&str>) -> bool {
    reason == Some("NETFILTER_DROP") || function.is_some_and(|f| IN_HOOK.contains(&plain(f)))
}

/// Whether the program that reads a queue refused it.
pub(crate) fn is_refusal(function: Option<&str>) -> bool {
    function.is_some_and(|f| look_up(&FUNCTIONS, plain(f)).is_some_and(|(means, _)| means == REFUSED))
}

/// Whether what was freed is the copy of a capturing socket.
pub(crate) fn is_capture(function: Option<&str>) -> bool {
    function.is_some_and(|f| CAPTURES.contains(&plain(f)))
}

/// Whether the kernel calls it a drop that a protocol is done with a packet it had taken. To be asked only of
/// packets that this host had taken in; what has a reason that tells of a refusal is never among them.
pub(crate) fn is_used(reason: Option<&str>, function: Option<&str>, echo_reply: bool) -> bool {
    let function = function.map_or("", plain);
    let unexplained = reason.is_none_or(|r| r == "NOT_SPECIFIED");
    match function {
        // A socket's queue is emptied when it is closed; the FIN that closes it waits there, too.
        "sk_stream_kill_queues" | "inet_sock_destruct" | "tcp_disconnect" => true,
        // The last acknowledgement of a connection, and others that only change TCP's state (`discard:`
        // without a reason in tcp_input.c, v6.12); the kernel gives a reason where it refuses.
        "tcp_rcv_state_process" | "tcp_rcv_synsent_state_process" | "tcp_v4_do_rcv" | "tcp_v6_do_rcv" => {
            unexplained
        }
        // For a connection in TIME_WAIT. Before there were reasons, it can be anything.
        "tcp_v4_rcv" | "tcp_v6_rcv" => reason == Some("NOT_SPECIFIED"),
        // "Until the v6 path can be better sorted assume failure": so all it has done with is freed (v6.1).
        "icmpv6_rcv" if reason == Some("NOT_SPECIFIED") => true,
        // Raw sockets had their copies before: `ping` mostly is one, and then no ping socket is found.
        "icmp_rcv" | "icmpv6_rcv" | "ping_rcv" => echo_reply && reason == Some("NO_SOCKET"),
        _ => reason == Some("QUEUE_PURGE"),
    }
}

/// Whether the reason says that the packet was used, not dropped.
pub(crate) fn is_consumption(reason: Option<&str>) -> bool {
    matches!(reason, Some("CONSUMED" | "SKB_CONSUMED" | "NOT_DROPPED_YET" | "SKB_NOT_DROPPED_YET"))
}

/// Whether a local socket or protocol had the packet when the function freed it.
pub(crate) fn is_delivered_by(function: &str) -> bool {
    DELIVERS.contains(&plain(function))
}

/// Whether the function frees a packet because the device got it in another form (segments).
pub(crate) fn is_handed_to_device(function: &str) -> bool {
    matches!(plain(function), "validate_xmit_skb" | "validate_xmit_skb_list" | "skb_mac_gso_segment")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_telling_of_reason_and_function_is_told() {
        let cases = [
            (Some("NO_SOCKET"), Some("tcp_v4_rcv"), "No socket listens"),
            (Some("NOT_SPECIFIED"), Some("tcp_v4_rcv"), "TCP refused it"),
            (None, Some("ip_rcv_finish_core.isra.0"), "It could not be routed"),
            (Some("NETFILTER_DROP"), Some("nft_do_chain"), "A rule or a policy"),
            (Some("NETFILTER_DROP"), Some("somewhere"), "A netfilter hook"),
            (Some("IP_INHDR"), Some("ip_rcv_core"), "Its IP header is malformed"),
            (Some("IP_INHDR"), Some("ip_forward"), "Its TTL ran out"),
            (Some("IP_INHDR"), Some("ip6_forward"), "Its hop limit ran out"),
            (Some("IP_INADDRERRORS"), Some("ip_error"), "It is not for this host, and forwarding is off"),
            (Some("NOT_SPECIFIED"), Some("ip_error"), "The route to its destination refuses it"),
            (None, Some("ip_error"), "There is no route to its destination, or forwarding is off"),
            (Some("NOT_SPECIFIED"), Some("dst_discard_out"), "Its route discards packets"),
            (Some("BRAND_NEW"), Some("f"), "The kernel dropped it in f, with the reason BRAND_NEW."),
            (Some("BRAND_NEW"), None, "The kernel dropped it, with the reason BRAND_NEW."),
            (Some("NOT_SPECIFIED"), Some("f"), "The kernel dropped it in f, without giving a reason."),
            (None, None, "The kernel dropped it, without giving a reason."),
        ];
        for (reason, function, expected) in cases {
            let text = describe(reason, function);
            assert!(text.starts_with(expected), "{reason:?} {function:?}: {text}");
        }
        assert!(check(Some("NEIGH_FAILED"), None).is_some_and(|c| c.contains("ip neigh")));
        assert_eq!(check(Some("BRAND_NEW"), None), None);
    }

    #[test]
    fn a_protocol_that_is_done_with_a_packet_did_not_drop_it() {
        let cases = [
            (Some("QUEUE_PURGE"), Some("sk_stream_kill_queues"), false, true),
            (None, Some("inet_sock_destruct"), false, true),
            (Some("NOT_SPECIFIED"), Some("tcp_rcv_state_process"), false, true),
            (None, Some("tcp_rcv_state_process.cold"), false, true),
            (Some("TCP_FLAGS"), Some("tcp_rcv_state_process"), false, false),
            (Some("NOT_SPECIFIED"), Some("tcp_v4_rcv"), false, true),
            (None, Some("tcp_v4_rcv"), false, false),
            (Some("NO_SOCKET"), Some("tcp_v4_rcv"), false, false),
            (Some("NO_SOCKET"), Some("icmp_rcv"), true, true),
            (Some("NOT_SPECIFIED"), Some("icmpv6_rcv"), false, true),
            (Some("ICMP_CSUM"), Some("icmpv6_rcv"), false, false),
            (Some("NO_SOCKET"), Some("icmp_rcv"), false, false),
            (Some("SOCKET_RCVBUFF"), Some("__udp_enqueue_schedule_skb"), false, false),
            (None, None, false, false),
        ];
        for (reason, function, echo_reply, expected) in cases {
            assert_eq!(is_used(reason, function, echo_reply), expected, "{reason:?} {function:?}");
        }
    }

    #[test]
    fn the_tables_name_nothing_twice() {
        let mut names: Vec<&str> = REASONS.iter().chain(&FUNCTIONS).map(|(name, _, _)| *name).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
