//! What netfilter's hooks drop.

use crate::drops::evidence::Fact;
use crate::drops::{Cause, function, pair, reason};

pub(super) const CAUSES: &[Cause] = &[
    Cause {
        code: "dropped-by-rule",
        means: "A rule dropped it.",
        check: "Why it came to that rule: the rules before it that could have accepted it, and what they ask for.",
        looks: "The sender sees a timeout; after `reject`, an ICMP error or a TCP reset that this host sent.",
        counter: "the rule's own counter, where it has one",
        signs: &[],
    },
    Cause {
        code: "dropped-by-policy",
        means: "No rule accepted it, and the policy of the base chain is drop.",
        check: "Which rule was meant to accept it, and what it asks for.",
        looks: "The sender sees a timeout.",
        counter: "",
        signs: &[],
    },
    Cause {
        code: "nftables",
        means: "A rule or a policy of nftables dropped it.",
        check: "`nft list ruleset`; which rule it was, was not seen.",
        looks: "The sender sees a timeout.",
        counter: "",
        signs: &[function("nft_do_chain"), pair("NETFILTER_DROP", "nft_do_chain")],
    },
    Cause {
        code: "legacy-iptables",
        means: "A rule of iptables dropped it.",
        check: "`iptables-legacy-save -c` and `ip6tables-legacy-save -c`; which rule it was, was not seen.",
        looks: "The sender sees a timeout.",
        counter: "the rule's own counter",
        signs: &[function("ipt_do_table"), function("ip6t_do_table")],
    },
    Cause {
        code: "conntrack-full",
        means: "Conntrack's table is full: it had no room for a new connection, and dropped the packet that would begin one.",
        check: "`sysctl net.netfilter.nf_conntrack_count net.netfilter.nf_conntrack_max`; `conntrack -L` shows what fills it. `sysctl -w net.netfilter.nf_conntrack_max=N` makes room, shorter timeouts (net.netfilter.nf_conntrack_*_timeout*) free it earlier.",
        looks: "New connections time out, those that exist go on; \"table full, dropping packet\" in the kernel's log.",
        counter: "`conntrack -S`: drop",
        signs: &[
            pair("NETFILTER_DROP", "nf_hook_slow").and(Fact::TableFull),
            function("nf_hook_slow").and(Fact::TableFull),
        ],
    },
    Cause {
        code: "conntrack",
        means: "Conntrack dropped it: its table is full, or the packet cannot begin a connection.",
        check: "`conntrack -S` (drop, early_drop), `sysctl net.netfilter.nf_conntrack_count net.netfilter.nf_conntrack_max`, and \"table full\" in the kernel's log.",
        looks: "New connections time out, those that exist go on.",
        counter: "`conntrack -S`: drop",
        signs: &[
            function("nf_conntrack_in"),
            function("resolve_normal_ct"),
            function("init_conntrack"),
            pair("NETFILTER_DROP", "nf_hook_slow").and(Fact::NotTaken).likely(),
            function("nf_hook_slow").and(Fact::NotTaken).likely(),
        ],
    },
    Cause {
        code: "rerouted-nowhere",
        means: "In OUTPUT its mark or an address was changed, so that it is routed again, and there is no way for what it is now.",
        check: "`ip route get DESTINATION mark MARK`, and `ip rule`.",
        looks: "The program that sends gets an error: no route to host, or network unreachable.",
        counter: "",
        // ip_route_me_harder, ip6_route_me_harder (net/ipv4/netfilter.c, v6.12), called by chains of type route and nat.
        signs: &[
            pair("NETFILTER_DROP", "nf_hook_slow").and(Fact::Rerouted).likely(),
            function("nf_hook_slow").and(Fact::Rerouted).likely(),
        ],
    },
    Cause {
        code: "conntrack-clash",
        means: "Another packet of the same connection, or of one that uses the same addresses and ports, was confirmed while it was under way.",
        check: "`conntrack -S` (insert_failed, drop): frequent with DNS over UDP, where two queries leave one socket at once.",
        looks: "One of two packets that a program sent at once is lost.",
        counter: "`conntrack -S`: insert_failed, drop",
        signs: &[
            function("nf_confirm"),
            function("__nf_conntrack_confirm"),
            function("nf_conntrack_confirm"),
            pair("NETFILTER_DROP", "nf_hook_slow").and(Fact::NotConfirmed).likely(),
            function("nf_hook_slow").and(Fact::NotConfirmed).likely(),
        ],
    },
    Cause {
        code: "nat-exhausted",
        means: "Its connection could not be entered as it was translated: another connection has these addresses and ports, and no others were left to choose.",
        check: "The range of the NAT rule's addresses and ports against the connections that use it: `conntrack -L --dst-nat` and `--src-nat`. Two packets of one connection at the same moment end alike.",
        looks: "New connections to the same destination time out, those that exist go on.",
        counter: "`conntrack -S`: insert_failed, drop",
        signs: &[
            pair("NETFILTER_DROP", "nf_hook_slow").and(Fact::NotConfirmedNat).likely(),
            function("nf_hook_slow").and(Fact::NotConfirmedNat).likely(),
        ],
    },
    Cause {
        code: "nat",
        means: "No free port or address was left to translate it to, or the mapping could not be made.",
        check: "The range of the rule against the number of connections to that destination (`conntrack -C`).",
        looks: "New connections time out, those that exist go on.",
        counter: "",
        signs: &[function("nf_nat_inet_fn"), function("nf_nat_manip_pkt"), function("nf_nat_packet")],
    },
    Cause {
        code: "nfqueue-unavailable",
        means: "It could not be queued to user space: nobody listens on that queue, or it is full.",
        check: "`cat /proc/net/netfilter/nfnetlink_queue`: is the queue there, and how many did it drop? `queue … bypass` lets packets pass while nobody listens.",
        looks: "Everything that the rule matches is lost while the program is down.",
        counter: "/proc/net/netfilter/nfnetlink_queue: queue_dropped",
        signs: &[
            function("nf_queue"),
            function("__nf_queue"),
            function("nfqnl_enqueue_packet"),
            function("__nfqnl_enqueue_packet"),
            function("nf_queue_nf_hook_drop"),
        ],
    },
    Cause {
        code: "nfqueue-verdict",
        means: "The program that reads the NFQUEUE dropped it, or ended without an answer for it.",
        check: "That program's own log tells why.",
        looks: "The sender sees a timeout.",
        counter: "",
        signs: &[function("nf_reinject"), function("nfqnl_reinject"), function("nfqnl_flush")],
    },
    Cause {
        code: "netfilter",
        means: "A netfilter hook dropped it.",
        check: "`nft list hooks` shows what is hooked in there: conntrack, a security module, IPVS, synproxy, a BPF program.",
        looks: "The sender sees a timeout.",
        counter: "",
        signs: &[reason("NETFILTER_DROP"), function("nf_hook_slow"), function("nf_hook_slow_list")],
    },
];
