//! What IPsec and security modules refuse.

use crate::drops::{Cause, reason};

pub(super) const CAUSES: &[Cause] = &[
    Cause {
        code: "xfrm-policy",
        means: "An IPsec policy forbids it, or asks for protection that it does not have.",
        check: "`ip xfrm policy` lists the policies.",
        looks: "The sender sees a timeout.",
        counter: "`cat /proc/net/xfrm_stat`: XfrmInNoPols, XfrmInPolBlock, XfrmOutPolBlock",
        signs: &[reason("XFRM_POLICY")],
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
