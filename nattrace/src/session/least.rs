//! What a run can do without once everything is attached and installed.

use rustix::thread::CapabilitySet;

use super::kernel::Kernel;
use super::voice::say;
use crate::cli::plan::{NetnsChoice, TracePlan};
use crate::privileges;
use crate::source::bpf::load::Programs;
use crate::source::netns;

/// Before anything is started: no program that is run may gain privileges.
pub(super) fn begin() {
    if let Err(error) = privileges::begin() {
        say(&format!("programs that are run may have more privileges than they need: {error}"));
    }
}

/// Lets go of what is not needed any more, on this thread and those that it starts.
pub(super) fn keep_needed(kernel: &Kernel, plan: &TracePlan) {
    if let Err(error) = privileges::keep(needed(kernel, plan)) {
        say(&format!("privileges that are not needed any more are not let go of: {error}"));
    }
}

fn needed(kernel: &Kernel, plan: &TracePlan) -> CapabilitySet {
    let mut needed = CapabilitySet::empty();
    let comes_and_goes = plan.netns == NetnsChoice::All;
    let mut need = |capability: CapabilitySet, when: bool| {
        if when {
            needed |= capability;
        }
    };
    // Rules are listed again, and at the end the trace table is removed.
    let rules = kernel.watched.iter().any(|watched| watched.ruleset.is_some() || watched.table.is_some());
    need(CapabilitySet::NET_ADMIN, rules || comes_and_goes);
    let programs = kernel.programs.as_ref();
    need(CapabilitySet::NET_RAW, programs.is_some_and(Programs::tells_legacy_rules));
    // Losses are read by bpf(2), which before 5.19 is for nobody else where programs are not for all.
    need(CapabilitySet::BPF, programs.is_some());
    // Probes on what comes with a module.
    need(CapabilitySet::PERFMON, programs.is_some_and(|programs| !programs.modules_waited_for().is_empty()));
    let here = netns::current().map(|netns| netns.inum).ok();
    let elsewhere = kernel.watched.iter().any(|watched| Some(watched.netns.inum) != here);
    need(CapabilitySet::SYS_ADMIN, elsewhere || comes_and_goes);
    // The namespaces of processes that may do more than this one (`ptrace_may_access`).
    need(CapabilitySet::SYS_PTRACE, comes_and_goes);
    needed
}
