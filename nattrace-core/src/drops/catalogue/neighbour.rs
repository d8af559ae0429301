//! What waits in vain for a link-layer address.

use crate::drops::{Cause, function, pair, reason};

const NO_ANSWER: &str =
    "`ip neigh show NEXTHOP` shows it as FAILED: the next hop is down, or on another link.";

pub(super) const CAUSES: &[Cause] = &[
    Cause {
        code: "neighbour-failed",
        means: "It waited WAITED for the link-layer address of NEXTHOP on DEVICE: no answer.",
        check: NO_ANSWER,
        looks: "After some three seconds the sender gets ICMP \"host unreachable\".",
        counter: "/proc/net/stat/arp_cache, ndisc_cache: res_failed",
        signs: &[
            reason("NEIGH_FAILED"),
            pair("NOT_SPECIFIED", "neigh_invalidate"),
            function("neigh_invalidate"),
            function("arp_error_report"),
            function("ndisc_error_report"),
        ],
    },
    Cause {
        code: "neighbour-unresolved",
        means: "The link-layer address of NEXTHOP on DEVICE could not be found.",
        check: "`ip neigh` shows whether the next hop answers.",
        looks: "The sender sees a timeout, or gets ICMP \"host unreachable\".",
        counter: "/proc/net/stat/arp_cache, ndisc_cache: res_failed, unresolved_discards",
        signs: &[function("__neigh_event_send"), reason("NEIGH_HH_FILLFAIL")],
    },
    Cause {
        code: "neighbour-queue-full",
        means: "Too many packets waited for the link-layer address of NEXTHOP on DEVICE.",
        check: "`ip neigh` shows whether the next hop answers; net.ipv4.neigh.DEVICE.unres_qlen_bytes is how many may wait.",
        looks: "The first packets of a burst are lost.",
        counter: "/proc/net/stat/arp_cache, ndisc_cache: unresolved_discards",
        signs: &[reason("NEIGH_QUEUEFULL")],
    },
    Cause {
        code: "neighbour-gone",
        means: "The neighbour entry of NEXTHOP on DEVICE was removed while it waited for the link-layer address.",
        check: "",
        looks: "Single packets are lost while an interface or an address goes away.",
        counter: "",
        signs: &[reason("NEIGH_DEAD")],
    },
    Cause {
        code: "neighbour-table-full",
        means: "The neighbour table is full.",
        check: "`ip neigh | wc -l` against net.ipv4.neigh.default.gc_thresh3.",
        looks: "New hosts cannot be reached, known ones can; \"neighbour table overflow\" in the kernel's log.",
        counter: "/proc/net/stat/arp_cache, ndisc_cache: table_fulls",
        signs: &[reason("NEIGH_CREATEFAIL")],
    },
];
