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
        // ip_error gives it where the device does not forward, and nowhere else.
        signs: &[pair("IP_INADDRERRORS", "ip_error")],
    },
    Cause {
        code: "forwarding-off-ipv6",
        means: "It is not for this host, and forwarding is off, or addresses like its own are never forwarded.",
        check: "`sysctl net.ipv6.conf.all.forwarding`.",
        looks: "The sender sees a timeout; no rule drops it.",
        counter: "`nstat`: Ip6InDiscards, Ip6InAddrErrors",
        signs: &[pair("IP_INADDRERRORS", "ip6_forward")],
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
        signs: &[reason("PKT_TOO_BIG"), function("ip_fragment"), function("ip6_fragment")],
    },
    Cause {
        code: "not-forwarded",
        means: "It could not be forwarded: it is larger than the MTU of the way out, or it asks for a source route.",
        check: "The MTUs along the way.",
        looks: "The sender sees a timeout, or gets an ICMP error.",
        counter: "`nstat`: IpFragFails, IpOutDiscards",
        signs: &[function("ip_forward")],
    },
    Cause {
        code: "not-forwarded-ipv6",
        means: "It could not be forwarded: forwarding is off, it is larger than the MTU of the way out, or addresses like its own are never forwarded.",
        check: "`sysctl net.ipv6.conf.all.forwarding`, and the MTUs along the way.",
        looks: "The sender sees a timeout, or gets an ICMPv6 error.",
        counter: "`nstat`: Ip6InTooBigErrors, Ip6InDiscards, Ip6InAddrErrors",
        signs: &[function("ip6_forward")],
    },
];
