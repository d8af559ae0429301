//! Which capabilities (capabilities(7)) this process has, which of them each part of it needs, and letting go of the rest.
//!
//! Capabilities are a thread's own, and a thread begins with those of the one that starts it. So each long-lived thread lets
//! go for itself; those that it starts later cannot have more.

use std::io;

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
    set_no_new_privs,
};

/// What other programs that are run (nft and the like) may have: legacy iptables asks its questions through a raw socket.
pub const OF_HELPERS: CapabilitySet = CapabilitySet::NET_ADMIN.union(CapabilitySet::NET_RAW);

/// A capability that something here needs.
#[derive(Debug, Clone, Copy)]
pub struct Need {
    /// It.
    pub capability: CapabilitySet,
    /// `CAP_NET_ADMIN`.
    pub name: &'static str,
    /// What it is good for.
    pub what: &'static str,
    /// What is lost without it.
    pub cost: &'static str,
    /// From this kernel on it is needed for nothing.
    pub until: Option<(u32, u32)>,
}

/// All that anything here needs.
pub const NEEDS: [Need; 8] = [
    Need {
        capability: CapabilitySet::NET_ADMIN,
        name: "CAP_NET_ADMIN",
        what: "the trace table, trace messages, listing rules",
        cost: "nothing is traced",
        until: None,
    },
    Need {
        capability: CapabilitySet::BPF,
        name: "CAP_BPF",
        what: "loading programs",
        cost: "no probes and no tracepoints: rules and their verdicts only",
        until: None,
    },
    Need {
        capability: CapabilitySet::PERFMON,
        name: "CAP_PERFMON",
        what: "programs that read the kernel's memory, probes",
        cost: "no probes and no tracepoints: rules and their verdicts only",
        until: None,
    },
    Need {
        capability: CapabilitySet::SYS_ADMIN,
        name: "CAP_SYS_ADMIN",
        what: "entering other network namespaces; before Linux 5.12, and for `check`, one of its own",
        cost: "only the namespace in which it is started is traced; before Linux 5.12 no rules are told",
        until: None,
    },
    Need {
        capability: CapabilitySet::SYS_PTRACE,
        name: "CAP_SYS_PTRACE",
        what: "finding namespaces that only processes are in (--netns all, --netns PID)",
        cost: "with --netns all, of namespaces without a name only those are found whose processes may do no more",
        until: None,
    },
    Need {
        capability: CapabilitySet::SYSLOG,
        name: "CAP_SYSLOG",
        what: "addresses of kernel functions, where the kernel hides them",
        cost: "a drop is told by its reason alone",
        until: None,
    },
    Need {
        capability: CapabilitySet::NET_RAW,
        name: "CAP_NET_RAW",
        what: "listing legacy iptables' rules",
        cost: "rules of legacy iptables are told by number, without text and verdict",
        until: None,
    },
    Need {
        capability: CapabilitySet::SYS_RESOURCE,
        name: "CAP_SYS_RESOURCE",
        what: "memory for programs beyond `ulimit -l`",
        cost: "no probes and no tracepoints, unless as much memory may be locked",
        until: Some((5, 11)),
    },
];

/// What the calling thread may use. Empty where it cannot be asked.
#[must_use]
pub fn held() -> CapabilitySet {
    capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective)
}

/// Names as in capabilities(7), of those that are needed for anything here.
#[must_use]
pub fn names(set: CapabilitySet) -> Vec<&'static str> {
    NEEDS.iter().filter(|need| set.contains(need.capability)).map(|need| need.name).collect()
}

/// For the calling thread, all that it starts, and all programs that these run: nothing that is executed gains a
/// privilege, and of those that are there they hand on what [`OF_HELPERS`] has, also where they are not root.
///
/// # Errors
/// When the kernel refuses.
pub fn begin() -> io::Result<()> {
    set_no_new_privs(true)?;
    let sets = capabilities(None)?;
    let inheritable = sets.permitted & OF_HELPERS;
    set_capabilities(None, CapabilitySets { inheritable, ..sets })?;
    clear_ambient_capability_set()?;
    for capability in inheritable.iter() {
        configure_capability_in_ambient_set(capability, true)?;
    }
    Ok(())
}

/// Lets go of all but these, for good: the calling thread, what it starts from now on, and what these run.
///
/// # Errors
/// When the kernel refuses.
pub fn keep(wanted: CapabilitySet) -> io::Result<()> {
    let sets = capabilities(None)?;
    if sets.effective.contains(CapabilitySet::SETPCAP) {
        // Without it the bounding set stays, of which nothing can be had under `no_new_privs`.
        for capability in (0..u64::BITS).map(|bit| CapabilitySet::from_bits_retain(1 << bit)) {
            if !wanted.contains(capability) && capability_is_in_bounding_set(capability).unwrap_or(false) {
                remove_capability_from_bounding_set(capability)?;
            }
        }
    }
    let permitted = sets.permitted & wanted;
    let kept = CapabilitySets {
        effective: sets.effective & wanted,
        permitted,
        inheritable: sets.inheritable & permitted & OF_HELPERS,
    };
    Ok(set_capabilities(None, kept)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_let_go_of_is_gone_for_a_thread_and_what_it_runs() {
        let status = || {
            let text = std::fs::read_to_string("/proc/thread-self/status").expect("a status");
            let child = std::process::Command::new("cat").arg("/proc/self/status").output().expect("cat");
            [text, String::from_utf8(child.stdout).expect("text")]
        };
        let sets = |text: &str, name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name)).expect("a set").trim();
            CapabilitySet::from_bits_retain(u64::from_str_radix(value, 16).expect("hexadecimal"))
        };
        std::thread::spawn(move || {
            begin().expect("begin");
            let before = held();
            keep(CapabilitySet::NET_ADMIN).expect("keep");
            assert_eq!(held(), before & CapabilitySet::NET_ADMIN);
            for text in status() {
                for name in ["CapPrm:", "CapEff:", "CapInh:", "CapAmb:"] {
                    assert_eq!(sets(&text, name), before & CapabilitySet::NET_ADMIN, "{name}");
                }
                assert!(text.contains("NoNewPrivs:\t1"));
            }
        })
        .join()
        .expect("what the thread asserts");
    }

    #[test]
    fn names_are_those_of_the_manual() {
        let all = NEEDS.iter().fold(CapabilitySet::empty(), |all, need| all | need.capability);
        assert_eq!(names(all).len(), NEEDS.len());
        assert_eq!(names(CapabilitySet::BPF | CapabilitySet::CHOWN), ["CAP_BPF"]);
    }
}
