//! What is refused between the way in and the way out.

use crate::drops::evidence::Fact;
use crate::drops::{Cause, function, pair, reason};

pub(super) const CAUSES: &[Cause] = &[
    Cause {
        code: "forwarding-off",
        means: "It is not for this host, and forwarding is off on the device it came in by.",
        check: "`sysctl net.ipv4.ip_forward net.ipv4.conf.DEVICE.forwarding`.",
        looks: "The sender sees a timeout; no rule drops it.",
        counter: "`nstat`: IpInAddrErrors",
        // ip_error gives that reason where the device does not forward, and nowhere else.
        signs: &[pair("IP_INADDRERRORS", "ip_error"), function("ip_error").and(Fact::ForwardingOff)],
    },
    Cause {
        code: "forwarding-off-ipv6",
        means: "It is not for this host, and forwarding is off.",
        check: "`sysctl net.ipv6.conf.all.forwarding`.",
        looks: "The sender sees a timeout; no rule drops it.",
        counter: "",
        signs: &[
            pair("IP_INADDRERRORS", "ip6_forward").and(Fact::ForwardingOff),
            function("ip6_forward").and(Fact::ForwardingOff),
        ],
    },
    Cause {
        code: "never-forwarded",
        means: "Addresses like its own are never forwarded: a link-local, loopback or unspecified one, or a multicast source.",
        check: "Which host sends from SOURCE to DESTINATION by way of this one.",
        looks: "The sender sees a timeout, or gets ICMPv6 \"beyond scope of source address\".",
        counter: "`nstat`: Ip6InAddrErrors",
        signs: &[pair("IP_INADDRERRORS", "ip6_forward")],
    },
    Cause {
        code: "not-for-this-host",
        means: "It came in a frame for all, for a group or for another host, and such are not forwarded.",
        check: "The sender's neighbour entry for this host (`ip neigh` there), and what else the switch floods.",
        looks: "tcpdump shows it, and nothing answers.",
        counter: "",
        signs: &[
            function("ip_forward").and(Fact::FrameForMany),
            function("ip_forward").and(Fact::FrameForAnother),
            function("ip6_forward").and(Fact::FrameForMany),
            function("ip6_forward").and(Fact::FrameForAnother),
        ],
    },
    Cause {
        code: "ttl-exceeded",
        means: "Its TTL ran out here.",
        check: "Too many hops, a routing loop, or a sender that sets a low TTL (as traceroute does).",
        looks: "The sender gets ICMP \"time exceeded\".",
        counter: "`nstat`: IpInHdrErrors",
        signs: &[pair("IP_INHDR", "ip_forward"), function("ip_forward").and(Fact::LastHop)],
    },
    Cause {
        code: "hop-limit-exceeded",
        means: "Its hop limit ran out here.",
        check: "Too many hops, a routing loop, or a sender that sets a low hop limit (as traceroute does).",
        looks: "The sender gets ICMPv6 \"time exceeded\".",
        counter: "`nstat`: Ip6InHdrErrors",
        signs: &[pair("IP_INHDR", "ip6_forward"), function("ip6_forward").and(Fact::LastHop)],
    },
    Cause {
        code: "too-big",
        means: "It is larger than the MTU of the way out, and must not be fragmented.",
        check: "The MTUs along the way (`ip route get DESTINATION`, `ip link show DEVICE`), and that ICMP \"fragmentation needed\" or \"packet too big\" reaches the sender.",
        looks: "Connections open, and hang as soon as much is sent; the sender gets an ICMP error that tells the MTU.",
        counter: "`nstat`: IpFragFails, Ip6InTooBigErrors",
        signs: &[
            reason("PKT_TOO_BIG"),
            function("ip_fragment"),
            function("ip6_fragment"),
            function("ip_forward").and(Fact::OverMtu),
            function("ip6_forward").and(Fact::OverMtu),
        ],
    },
    Cause {
        code: "not-forwarded",
        means: "It could not be forwarded: it came in a frame that was not for this host, it is larger than the MTU of the way out, it asks for a source route, or an IPsec policy refuses it.",
        check: "The sender's neighbour entry for this host, the MTUs along the way, and `ip xfrm policy`.",
        looks: "The sender sees a timeout, or gets an ICMP error.",
        counter: "`nstat`: IpFragFails, IpOutDiscards",
        signs: &[function("ip_forward")],
    },
    Cause {
        code: "not-forwarded-ipv6",
        means: "It could not be forwarded: forwarding is off, it came in a frame that was not for this host, it is larger than the MTU of the way out, addresses like its own are never forwarded, or an IPsec policy refuses it.",
        check: "`sysctl net.ipv6.conf.all.forwarding`, the MTUs along the way, and `ip xfrm policy`.",
        looks: "The sender sees a timeout, or gets an ICMPv6 error.",
        counter: "`nstat`: Ip6InTooBigErrors, Ip6InDiscards, Ip6InAddrErrors",
        signs: &[function("ip6_forward")],
    },
];
