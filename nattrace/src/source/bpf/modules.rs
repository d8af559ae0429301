//! Functions that live in modules on distribution kernels, so that they may appear while a trace runs.

use std::path::Path;

/// Each function that is probed and may be in a module, and that module.
pub const FUNCTIONS: [(&str, &str); 14] = [
    ("nf_nat_manip_pkt", "nf_nat"),
    ("nft_trace_notify", "nf_tables"),
    ("early_drop", "nf_conntrack"),
    ("nf_flow_offload_ip_hook", "nf_flow_table"),
    ("nf_flow_offload_ipv6_hook", "nf_flow_table"),
    ("tcf_nat_act", "act_nat"),
    ("tcf_pedit_act", "act_pedit"),
    ("tcp_dnat_handler", "ip_vs"),
    ("tcp_snat_handler", "ip_vs"),
    ("udp_dnat_handler", "ip_vs"),
    ("udp_snat_handler", "ip_vs"),
    ("sctp_dnat_handler", "ip_vs"),
    ("sctp_snat_handler", "ip_vs"),
    ("xt_replace_table", "x_tables"),
];

/// Whether a function is one of a module that is not loaded (or has no parameters, and is built in).
#[must_use]
pub fn waits_for_module(function: &str) -> bool {
    let module = FUNCTIONS.iter().find(|(name, _)| *name == function);
    module.is_some_and(|(_, module)| !Path::new("/sys/module").join(module).exists())
}

/// The modules that functions are in, each once.
#[must_use]
pub fn modules_of(functions: &[&str]) -> Vec<&'static str> {
    let mut modules: Vec<_> = FUNCTIONS
        .iter()
        .filter(|(function, _)| functions.contains(function))
        .map(|(_, module)| *module)
        .collect();
    modules.dedup();
    modules
}
