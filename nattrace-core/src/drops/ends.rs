//! Which ends of buffers are drops, and of what.

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

/// Functions that free a queued packet by its reader's verdict; `nf_reinject` is nfnetlink_queue's own since 6.12 or so.
const REFUSALS: [&str; 2] = ["nf_reinject", "nfqnl_reinject"];

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
pub(super) fn plain(function: &str) -> &str {
    function.split(['.', '+']).next().unwrap_or(function)
}

/// Whether the drop happened inside a netfilter hook.
pub(crate) fn is_in_hook(reason: Option<&str>, function: Option<&str>) -> bool {
    reason == Some("NETFILTER_DROP") || function.is_some_and(|f| IN_HOOK.contains(&plain(f)))
}

/// Whether the program that reads a queue refused it.
pub(crate) fn is_refusal(function: Option<&str>) -> bool {
    function.is_some_and(|f| REFUSALS.contains(&plain(f)))
}

/// Whether it was no packet: the kernel makes a buffer to answer how one would be routed (`ip route get`).
pub(crate) fn is_made_up(function: Option<&str>) -> bool {
    function.is_some_and(|f| matches!(plain(f), "inet_rtm_getroute" | "inet6_rtm_getroute"))
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
}
