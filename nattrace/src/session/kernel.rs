//! Setting up what is attached and installed, in an order that loses nothing: programs first, then the trace
//! table that makes nf_tables speak.

use std::os::fd::AsFd as _;

use anyhow::{Result, bail};
use nattrace_core::event::{Event, Source};

use super::clock;
use super::namespace::{self, States, Watched};
use crate::cli::plan::{NetnsChoice, TracePlan};
use crate::source::bpf::decode::Decoder;
use crate::source::bpf::fields::KernelTypes;
use crate::source::bpf::filter::{Selection, kernel_filter};
use crate::source::bpf::load::{Programs, Wanted};
use crate::source::bpf::memory;
use crate::source::netlink::trace_table::{FollowBy, StaticKeyHolder, TraceTableError, TraceTableSpec};

/// Everything that is attached. Dropping it leaves nothing behind.
pub(super) struct Kernel {
    pub(super) programs: Option<Programs>,
    pub(super) decoder: Option<Decoder>,
    pub(super) watched: Vec<Watched>,
    pub(super) states: States,
    /// What is known before the first packet.
    pub(super) introduction: Vec<Event>,
    /// For standard error: what was installed, what is missing.
    pub(super) notes: Vec<String>,
    /// Keeps nf_tables speaking where there is no trace table.
    _rules_probed: Option<StaticKeyHolder>,
}

/// Attaches and installs what the plan asks for and the kernel allows.
///
/// # Errors
/// When no source that shows packets is left.
pub(super) fn set_up(plan: &TracePlan) -> Result<Kernel> {
    let namespaces = namespace::choose(&plan.netns)?;
    namespace::check_devices(plan, &namespaces)?;
    require_privileges()?;
    memory::keep_no_large_buffers();
    let mut states = States::default();
    let mut notes = Vec::new();
    let mut watched: Vec<Watched> =
        namespaces.into_iter().map(|netns| Watched::open(netns, plan, &mut states)).collect();
    let can_trace = watched.iter().any(|w| w.trace.is_some());
    let wants_table = plan.trace_table && can_trace;
    let follows: Vec<FollowBy> = watched.iter().map(|w| w.follow_by(plan)).collect();

    let selection = Selection {
        netns: if plan.netns == NetnsChoice::All {
            Vec::new()
        } else {
            watched.iter().map(|w| w.netns.inum).collect()
        },
        marked: wants_table,
        follow: plan.follow,
        mirror: follows.contains(&FollowBy::MirroredHeaders),
        rate: plan.rate,
        netfilter_drop: None,
    };
    let (mut programs, mut decoder) = load(plan, &selection, &mut states, &mut notes);
    let probes = programs.as_ref().is_some_and(|p| p.hooks.is_some());
    // Before there is anything to tell, so that nothing is told twice or out of order.
    filter_nft_sockets(&mut watched, programs.as_mut(), decoder.as_mut(), &mut notes);
    let mut rules_probed = None;
    if wants_table {
        let refused = install_tables(&mut watched, &follows, plan, !probes, &mut notes);
        if let Some(error) = refused
            && watched.iter().all(|w| w.table.is_none())
            && programs.is_some()
        {
            // Nothing will be marked, so the programs have to select by themselves.
            let selection = Selection { marked: false, ..selection };
            drop(programs.take());
            (programs, decoder) = load(plan, &selection, &mut states, &mut notes);
            filter_nft_sockets(&mut watched, programs.as_mut(), decoder.as_mut(), &mut notes);
            rules_probed = probe_rules(&error, programs.as_mut(), &mut notes);
        }
    }
    for watched in &watched {
        if watched.trace.is_some() {
            states.on(Source::Nft);
        }
        if watched.conntrack.is_some() {
            states.on(Source::Conntrack);
        }
    }
    for (source, why) in states.refused() {
        notes.push(format!("without {}: {why}", source.name()));
    }
    if !plan.trace_table && states.is_on(Source::Nft) {
        notes.push(
            "--no-trace-table: rules are shown only for packets that something else has traced".to_owned(),
        );
    }
    let tables = watched.iter().any(|w| w.table.is_some());
    if programs.is_none() && !tables {
        let why: Vec<String> = states
            .finish()
            .into_iter()
            .filter_map(|(source, state)| match state {
                crate::render::SourceState::Off(why) => Some(format!("{}: {why}", source.name())),
                crate::render::SourceState::On => None,
            })
            .collect();
        bail!("nothing here shows packets ({}); see `nattrace check`", why.join("; "));
    }
    let mut introduction = Vec::new();
    for watched in &watched {
        let (events, warning) = watched.introduction(super::trace::counted(plan));
        introduction.extend(events);
        if let Some(warning) = warning {
            notes.push(format!("no rule text: {warning}"));
        }
    }
    // The types of the kernel were needed until here.
    memory::trim();
    Ok(Kernel { programs, decoder, watched, states, introduction, notes, _rules_probed: rules_probed })
}

/// Installs a trace table in each namespace; why one could not be.
fn install_tables(
    watched: &mut [Watched],
    follows: &[FollowBy],
    plan: &TracePlan,
    hook_observers: bool,
    notes: &mut Vec<String>,
) -> Option<TraceTableError> {
    let mut refused = None;
    for (watched, follow) in watched.iter_mut().zip(follows) {
        let spec = TraceTableSpec {
            name: format!("nattrace_{}", std::process::id()),
            filter: plan.filter.clone(),
            rate: plan.rate,
            follow: *follow,
            hook_observers,
        };
        let place = watched.netns.name.as_deref().map_or_else(String::new, |n| format!(" in namespace {n}"));
        match watched.install_table(&spec) {
            Ok(()) => {
                notes.push(format!("installed table inet {}{place}; it is gone when this ends", spec.name));
            }
            Err(error) => {
                notes.push(format!("no trace table{place}: {error}"));
                refused = Some(error);
            }
        }
    }
    refused
}

/// Where tables cannot have an owner, nothing is put into any ruleset: tracing is switched on from a namespace of
/// our own, and a probe reads what nf_tables decides.
fn probe_rules(
    refused: &TraceTableError,
    programs: Option<&mut Programs>,
    notes: &mut Vec<String>,
) -> Option<StaticKeyHolder> {
    let programs = programs.filter(|p| p.hooks.is_some())?;
    if !matches!(refused, TraceTableError::NoOwnerSupport) {
        return None;
    }
    let attached = programs.attach_rule_probe().map_err(|error| error.to_string());
    match attached.and_then(|()| StaticKeyHolder::install().map_err(|error| error.to_string())) {
        Ok(holder) => {
            notes.push("rules are read by a probe instead; no ruleset is touched".to_owned());
            Some(holder)
        }
        Err(why) => {
            notes.push(format!("no rules are shown: {why}"));
            None
        }
    }
}

/// One line for the commonest mistake, before the kernel's many.
fn require_privileges() -> Result<()> {
    const CAP_NET_ADMIN: u64 = 1 << 12;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|caps| u64::from_str_radix(caps.trim(), 16).ok());
    if effective.is_some_and(|caps| caps & CAP_NET_ADMIN == 0) {
        bail!("tracing needs root (or at least CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON); run it with sudo");
    }
    Ok(())
}

/// Loads programs: all that are wanted, or without probes where those are refused.
fn load(
    plan: &TracePlan,
    selection: &Selection,
    states: &mut States,
    notes: &mut Vec<String>,
) -> (Option<Programs>, Option<Decoder>) {
    let wanted = Wanted {
        probes: plan.sources.set.contains(&Source::Probes),
        tracepoints: plan.sources.set.contains(&Source::Tracepoints),
        hook_entries: true,
    };
    if !wanted.probes && !wanted.tracepoints {
        return (None, None);
    }
    let both_off = |states: &mut States, why: &str| {
        for (source, wanted) in [(Source::Probes, wanted.probes), (Source::Tracepoints, wanted.tracepoints)] {
            if wanted {
                states.off(source, why);
            }
        }
    };
    let types = match KernelTypes::of_running_kernel() {
        Ok(types) => types,
        Err(error) => {
            both_off(states, &format!("no kernel BTF ({error})"));
            return (None, None);
        }
    };
    let selection =
        Selection { netfilter_drop: types.drop_reason_number("NETFILTER_DROP"), ..selection.clone() };
    let filter = kernel_filter(&plan.filter, &selection);
    // Without reasons, only the entry tells a packet that its first hook dropped from one that came to none.
    let wanted = Wanted { hook_entries: !selection.marked || selection.netfilter_drop.is_none(), ..wanted };
    let mut programs = None;
    if wanted.probes {
        match probes_possible().and_then(|()| {
            Programs::load(&types, &filter, &selection.netns, wanted).map_err(|e| e.to_string())
        }) {
            Ok(loaded) => {
                states.on(Source::Probes);
                programs = Some(loaded);
            }
            Err(why) => states.off(Source::Probes, &why),
        }
    }
    if programs.is_none() && wanted.tracepoints {
        let tracepoints = Wanted { probes: false, ..wanted };
        match Programs::load(&types, &filter, &selection.netns, tracepoints) {
            Ok(loaded) => programs = Some(loaded),
            Err(error) => states.off(Source::Tracepoints, &error.to_string()),
        }
    }
    if let Some(programs) = &programs {
        if wanted.tracepoints {
            states.on(Source::Tracepoints);
        }
        for (what, why) in &programs.missing {
            notes.push(format!("without {what}: {why}"));
        }
    }
    let decoder = programs.as_ref().map(|_| Decoder::new(&types, clock::epoch_offset_ns()));
    (programs, decoder)
}

/// A kernel without kprobes says so here, in words, instead of by an errno from the middle of loading.
pub(super) fn probes_possible() -> Result<(), String> {
    if std::path::Path::new("/sys/bus/event_source/devices/kprobe/type").exists() {
        return Ok(());
    }
    Err("this kernel has no kprobes (CONFIG_KPROBES or CONFIG_KPROBE_EVENTS is off)".to_owned())
}

/// Where programs run, trace messages come through the ring: in order with everything else, with time and
/// processor, and with their packet where a probe knows it; of ruleset changes the ring has the time.
fn filter_nft_sockets(
    watched: &mut [Watched],
    programs: Option<&mut Programs>,
    decoder: Option<&mut Decoder>,
    notes: &mut Vec<String>,
) {
    let (Some(programs), Some(decoder)) = (programs, decoder) else { return };
    for watched in watched {
        let sockets =
            [watched.trace.as_ref().map(|s| s.as_fd()), watched.ruleset.as_ref().map(|s| s.as_fd())];
        for socket in sockets.into_iter().flatten() {
            let Ok(cookie) = rustix::net::sockopt::socket_cookie(socket) else { continue };
            decoder.socket_netns.insert(cookie, watched.netns.inum);
            if let Err(error) = programs.filter_nft_socket(socket) {
                notes.push(format!("trace messages come without their packet: {error}"));
            }
        }
    }
}
