//! What is wrong with the packet itself.

use crate::drops::evidence::Fact;
use crate::drops::{Cause, function, reason};

const DAMAGED: &str = "Something on the way here damaged it.";
const REWRITTEN: &str = "Something rewrote it without adjusting the checksum, or offloading on the sender's side left it unfinished: compare with `ethtool -K DEVICE tx off` there.";

pub(super) const CAUSES: &[Cause] = &[
    Cause {
        code: "ip-header",
        means: "Its IP header is malformed.",
        check: DAMAGED,
        looks: "The sender sees a timeout.",
        counter: "`nstat`: IpInHdrErrors, Ip6InHdrErrors",
        signs: &[reason("IP_INHDR"), function("ip_rcv_core"), function("ip6_rcv_core")],
    },
    Cause {
        code: "ip-checksum",
        means: "Its IP header checksum is wrong.",
        check: DAMAGED,
        looks: "The sender sees a timeout.",
        counter: "`nstat`: IpExtInCsumErrors",
        signs: &[reason("IP_CSUM"), function("ip_rcv_core").and(Fact::WrongHeaderChecksum)],
    },
    Cause {
        code: "truncated",
        means: "It is shorter than its headers say.",
        check: "Something on the way here cut it.",
        looks: "The sender sees a timeout.",
        counter: "`nstat`: IpInTruncatedPkts, or the protocol's InErrors",
        signs: &[reason("PKT_TOO_SMALL"), reason("HDR_TRUNC")],
    },
    Cause {
        code: "tcp-checksum",
        means: "Its TCP checksum is wrong.",
        check: REWRITTEN,
        looks: "The sender sees a timeout.",
        counter: "`nstat`: TcpInCsumErrors",
        signs: &[reason("TCP_CSUM")],
    },
    Cause {
        code: "udp-checksum",
        means: "Its UDP checksum is wrong.",
        check: REWRITTEN,
        looks: "The sender sees a timeout.",
        counter: "`nstat`: UdpInCsumErrors, Udp6InCsumErrors",
        signs: &[reason("UDP_CSUM")],
    },
    Cause {
        code: "icmp-checksum",
        means: "Its ICMP checksum is wrong.",
        check: DAMAGED,
        looks: "No answer to ping.",
        counter: "`nstat`: IcmpInCsumErrors, Icmp6InCsumErrors",
        signs: &[reason("ICMP_CSUM")],
    },
    Cause {
        code: "checksum",
        means: "A checksum could not be computed for it.",
        check: "",
        looks: "The sender sees a timeout.",
        counter: "",
        signs: &[reason("SKB_CSUM")],
    },
    Cause {
        code: "extension-header",
        means: "One of its IPv6 extension headers is malformed, or not allowed here.",
        check: "",
        looks: "The sender sees a timeout, or an ICMPv6 parameter problem.",
        counter: "`nstat`: Ip6InHdrErrors",
        signs: &[reason("IPV6_BAD_EXTHDR")],
    },
    Cause {
        code: "neighbour-discovery",
        means: "It is a neighbour discovery message that RFC 4861 forbids to take: its hop limit, code, options or target are wrong, or it is a fragment.",
        check: "The hop limit must be 255: something that is not on this link may have sent it.",
        looks: "Neighbours are not found.",
        counter: "`nstat`: Icmp6InErrors",
        signs: &[
            reason("IPV6_NDISC_FRAG"),
            reason("IPV6_NDISC_HOP_LIMIT"),
            reason("IPV6_NDISC_BAD_CODE"),
            reason("IPV6_NDISC_BAD_OPTIONS"),
            reason("IPV6_NDISC_NS_OTHERHOST"),
        ],
    },
    Cause {
        code: "fragment-overlap",
        means: "It is a fragment that overlaps or contradicts one that arrived before.",
        check: "Two senders that use one identification, or one that means harm.",
        looks: "Large packets are lost, small ones pass.",
        counter: "`nstat`: IpReasmFails, IpExtReasmOverlaps",
        signs: &[
            reason("DUP_FRAG"),
            function("ip_defrag").likely(),
            function("ip_frag_queue").likely(),
            function("ipv6_frag_rcv").likely(),
            function("ip6_frag_queue").likely(),
        ],
    },
    Cause {
        code: "fragment-timeout",
        means: "Not all of its fragments came in time.",
        check: "A fragment was lost or dropped before: later fragments have no ports for rules to match.",
        looks: "Large packets are lost, small ones pass.",
        counter: "`nstat`: IpReasmTimeout, Ip6ReasmTimeout",
        signs: &[reason("FRAG_REASM_TIMEOUT"), reason("FRAG_TOO_FAR"), function("ip_expire")],
    },
];
