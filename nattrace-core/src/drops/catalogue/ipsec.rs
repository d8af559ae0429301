//! What IPsec and security modules refuse.

use crate::drops::evidence::Fact;
use crate::drops::{Cause, pair, reason};

pub(super) const CAUSES: &[Cause] = &[
    Cause {
        code: "xfrm-policy",
        means: "An IPsec policy forbids it, or asks for protection that it does not have.",
        check: "`ip xfrm policy` lists the policies.",
        looks: "The sender sees a timeout.",
        counter: "`cat /proc/net/xfrm_stat`: XfrmInNoPols, XfrmInPolBlock, XfrmOutPolBlock",
        signs: &[
            reason("XFRM_POLICY"),
            // Of what has no socket, the policies are asked before that is said (`__udp4_lib_rcv`, net/ipv4/udp.c, v6.12).
            pair("NOT_SPECIFIED", "__udp4_lib_rcv").and(Fact::ForOne).likely(),
            pair("NOT_SPECIFIED", "__udp6_lib_rcv").and(Fact::ForOne).likely(),
            // v7.3
            pair("NOT_SPECIFIED", "udp_rcv").and(Fact::ForOne).likely(),
            pair("NOT_SPECIFIED", "udpv6_rcv").and(Fact::ForOne).likely(),
        ],
    },
    Cause {
        code: "psp",
        means: "It is not protected by PSP as its socket asks.",
        check: "The keys of both ends.",
        looks: "The sender sees a timeout.",
        counter: "",
        signs: &[reason("PSP_INPUT"), reason("PSP_OUTPUT")],
    },
    Cause {
        code: "security-module",
        means: "A security module refused it.",
        check: "The audit log (`ausearch -m avc`).",
        looks: "The sender sees a timeout.",
        counter: "",
        signs: &[reason("SECURITY_HOOK")],
    },
    Cause {
        code: "cgroup-egress",
        means: "A BPF program of the sender's cgroup refused it.",
        check: "`bpftool cgroup tree` lists them.",
        looks: "The program that sends gets the error EPERM.",
        counter: "",
        signs: &[reason("BPF_CGROUP_EGRESS")],
    },
];
