//! What sockets and local protocols refuse.

use crate::drops::evidence::Fact;
use crate::drops::{Cause, function, pair, reason};
use crate::packet::protocol;

const LISTENERS: &str =
    "`ss -lntup 'sport = :PORT'`: does the service run, and on which address does it listen?";

pub(super) const CAUSES: &[Cause] = &[
    Cause {
        code: "no-socket",
        means: "No socket takes it: none is bound to that address and port, or only to another device or VRF.",
        check: LISTENERS,
        looks: "TCP: the sender gets a reset (\"connection refused\"). UDP: ICMP \"port unreachable\".",
        counter: "`nstat`: TcpOutRsts, UdpNoPorts, Udp6NoPorts",
        signs: &[reason("NO_SOCKET")],
    },
    Cause {
        code: "no-receiver",
        means: "It is for a group or for all, and no socket of this host takes it.",
        check: LISTENERS,
        looks: "Nobody is told: such packets are for whom they may concern.",
        counter: "`nstat`: UdpIgnoredMulti, Udp6IgnoredMulti",
        // Where `__udp4_lib_mcast_deliver` is inlined (net/ipv4/udp.c, v6.18).
        signs: &[
            pair("NOT_SPECIFIED", "__udp4_lib_rcv").and(Fact::ForMany),
            pair("NOT_SPECIFIED", "__udp6_lib_rcv").and(Fact::ForMany),
            pair("NOT_SPECIFIED", "udp_rcv").and(Fact::ForMany),
            pair("NOT_SPECIFIED", "udpv6_rcv").and(Fact::ForMany),
            function("__udp4_lib_mcast_deliver"),
            function("__udp6_lib_mcast_deliver"),
        ],
    },
    Cause {
        code: "socket-closed",
        means: "The socket was closed before the packet could be read.",
        check: "",
        looks: "TCP: the sender gets a reset.",
        counter: "",
        signs: &[reason("SOCKET_CLOSE"), reason("QUEUE_PURGE")],
    },
    Cause {
        code: "socket-filter",
        means: "A BPF filter attached to the socket refused it.",
        check: "`ss -lntup0b` shows filters.",
        looks: "The sender sees a timeout although the service listens.",
        counter: "`nstat`: UdpInErrors; TCP counts none",
        signs: &[reason("SOCKET_FILTER"), function("sk_filter_trim_cap")],
    },
    Cause {
        code: "receive-buffer-full",
        means: "The socket's receive buffer was full.",
        check: "The program reads too slowly, or net.core.rmem_max is too small; `ss -um` and `ss -tm` show the buffers.",
        looks: "Loss under load.",
        counter: "`nstat`: UdpRcvbufErrors, Udp6RcvbufErrors, TcpExtTCPRcvQDrop",
        signs: &[reason("SOCKET_RCVBUFF")],
    },
    Cause {
        code: "socket-backlog-full",
        means: "The socket's backlog was full: its program held it locked too long.",
        check: "",
        looks: "Loss under load.",
        counter: "`nstat`: TcpExtTCPBacklogDrop",
        signs: &[reason("SOCKET_BACKLOG")],
    },
    Cause {
        code: "protocol-memory",
        means: "The protocol's memory limit was reached.",
        check: "`cat /proc/net/sockstat` against net.ipv4.tcp_mem or net.ipv4.udp_mem.",
        looks: "Loss under load, on all sockets.",
        counter: "`nstat`: UdpMemErrors, TcpExtTCPMemoryPressures",
        signs: &[reason("PROTO_MEM")],
    },
    Cause {
        code: "no-protocol",
        means: "No local protocol takes its protocol number.",
        check: "",
        looks: "The sender gets ICMP \"protocol unreachable\".",
        counter: "`nstat`: IpInUnknownProtos, Ip6InUnknownProtos",
        signs: &[
            reason("IP_NOPROTO"),
            function("ip_protocol_deliver_rcu").likely(),
            function("ip_local_deliver_finish").likely(),
            function("ip6_protocol_deliver_rcu").likely(),
        ],
    },
    Cause {
        code: "udp-refused",
        means: "UDP refused it: no socket is bound there, its checksum is wrong, or an IPsec policy refuses it.",
        check: LISTENERS,
        looks: "The sender gets ICMP \"port unreachable\", or sees a timeout.",
        counter: "`nstat`: UdpNoPorts, UdpInCsumErrors",
        signs: &[
            function("__udp4_lib_rcv"),
            function("__udp6_lib_rcv"),
            function("udp_rcv"),
            function("udpv6_rcv"),
        ],
    },
    Cause {
        code: "udp-not-taken",
        means: "The socket could not take it: its receive buffer is full, or a filter refused it.",
        check: "`ss -um` shows the buffers.",
        looks: "Loss under load.",
        counter: "`nstat`: UdpRcvbufErrors, UdpInErrors",
        signs: &[
            function("udp_queue_rcv_one_skb"),
            function("udpv6_queue_rcv_one_skb"),
            function("__udp_enqueue_schedule_skb"),
        ],
    },
    Cause {
        code: "tcp-refused",
        means: "TCP refused it: no socket listens there, it fits no connection, or the socket asks for something that it lacks (a signature, a TTL).",
        check: LISTENERS,
        looks: "The sender gets a reset, or sees a timeout.",
        counter: "`nstat`: TcpOutRsts, TcpInErrs",
        signs: &[
            function("tcp_v4_rcv").and(Fact::Protocol(protocol::TCP)),
            function("tcp_v6_rcv").and(Fact::Protocol(protocol::TCP)),
        ],
    },
];
