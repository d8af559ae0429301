//! Setting up what is attached and installed, in an order that loses nothing: programs first, then the trace
//! table that makes nf_tables speak.

use std::os::fd::{AsFd as _, RawFd};

use anyhow::{Result, bail};
use nattrace_core::event::{Event, NfFamily, Source};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::CapabilitySet;

use super::legacy::LegacyListings;
use super::namespace::{self, States, Watched};
use super::{clock, legacy};
use crate::cli::plan::{NetnsChoice, TracePlan};
use crate::privileges;
use crate::source::bpf::decode::Decoder;
use crate::source::bpf::fields::{KernelTypes, Reading};
use crate::source::bpf::filter::{Selection, kernel_filter};
use crate::source::bpf::load::{Programs, Wanted};
use crate::source::bpf::loader::Loaders;
use crate::source::bpf::memory;
use crate::source::netlink::trace_table::{
    AskedPrograms, FollowBy, StaticKeyHolder, TraceTable, TraceTableError, TraceTableSpec,
};

/// What is said when trace tables cannot ask a program.
const ONLY_BY_FILTER: &str =
    "rules in further namespaces are shown only for packets that still match the filter there";

/// What is said when they cannot ask which packets are not their business.
const BY_RULES: &str = "packets that nobody asked for are judged by rules, which takes longer";

/// What all trace tables of a run have in common, beside the filter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tables {
    hook_observers: bool,
    /// Of [`Kernel::programs`].
    programs: AskedPrograms,
}

/// Everything that is attached. Dropping it leaves nothing behind.
pub(super) struct Kernel {
    pub(super) programs: Option<Programs>,
    pub(super) decoder: Option<Decoder>,
    pub(super) watched: Vec<Watched>,
    /// When the rules of legacy iptables are listed.
    pub(super) legacy: LegacyListings,
    pub(super) states: States,
    /// What is known before the first packet.
    pub(super) introduction: Vec<Event>,
    /// For standard error: what was installed, what is missing.
    pub(super) notes: Vec<String>,
    /// How tables are installed; `None` where none is.
    tables: Option<Tables>,
    /// Keeps nf_tables speaking where there is no trace table.
    _rules_probed: Option<StaticKeyHolder>,
}

/// Attaches and installs what the plan asks for and the kernel allows.
///
/// # Errors
/// When no source that shows packets is left.
pub(super) fn set_up(plan: &TracePlan, loaders: &mut Loaders) -> Result<Kernel> {
    let namespaces = namespace::choose(&plan.netns)?;
    namespace::check_devices(plan, &namespaces)?;
    require_privileges()?;
    memory::keep_no_large_buffers();
    // Read beside what follows, which waits for others.
    let reading = programs_wanted(plan).then(Reading::begin);
    raise_descriptor_limit(namespaces.len())?;
    let mut states = States::default();
    let mut notes = Vec::new();
    let mut watched: Vec<Watched> =
        namespaces.into_iter().map(|netns| Watched::open(netns, plan, &mut states)).collect();
    let can_trace = watched.iter().any(|w| w.trace.is_some());
    let wants_table = plan.trace_table && can_trace;
    // Where it is known beforehand that nothing will be marked, the programs need not be loaded twice.
    let owner_missing = wants_table
        && is_before_owner_tables()
        && matches!(install_in_new(None), Ok(Err(TraceTableError::NoOwnerSupport)));
    let follows: Vec<FollowBy> = watched.iter_mut().map(|w| w.follow_by(plan)).collect();

    let comes_and_goes = plan.netns == NetnsChoice::All;
    let selection = Selection {
        netns: if comes_and_goes { Vec::new() } else { watched.iter().map(|w| w.netns.inum).collect() },
        marked: wants_table && !owner_missing,
        follow: plan.follow,
        mirror: comes_and_goes || follows.contains(&FollowBy::Headers),
        rate: plan.rate,
        crossing: wants_table && !owner_missing && (comes_and_goes || watched.len() > 1),
        netfilter_drop: None,
    };
    let types = reading.map(|reading| reading.end().map_err(|error| error.to_string()));
    let mut load = |selection: &Selection, states: &mut States, notes: &mut Vec<String>| match &types {
        Some(types) => load(plan, loaders, types.as_ref(), selection, states, notes),
        None => (None, None),
    };
    let (mut programs, mut decoder) = load(&selection, &mut states, &mut notes);
    let probes = programs.as_ref().is_some_and(|p| p.hooks.is_some());
    // Before there is anything to tell, so that nothing is told twice or out of order.
    filter_sockets(&mut watched, programs.as_mut(), decoder.as_mut(), &mut notes);
    let mut rules_probed = None;
    let mut tables = None;
    if owner_missing {
        let error = TraceTableError::NoOwnerSupport;
        notes.push(format!("no trace table: {error}"));
        rules_probed = probe_rules(&error, programs.as_mut(), &mut notes);
    } else if wants_table {
        let asked = asked_programs(programs.as_mut(), plan, &selection, &mut notes);
        let template = Tables { hook_observers: !probes, programs: asked };
        let refused = install_tables(&mut watched, &follows, plan, template, &mut notes);
        tables = Some(template);
        if let Some(error) = refused
            && watched.iter().all(|w| w.table.is_none())
            && programs.is_some()
        {
            // Nothing will be marked, so the programs have to select by themselves.
            let selection = Selection { marked: false, ..selection };
            drop(programs.take());
            (programs, decoder) = load(&selection, &mut states, &mut notes);
            filter_sockets(&mut watched, programs.as_mut(), decoder.as_mut(), &mut notes);
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
    let installed = watched.iter().any(|w| w.table.is_some());
    if programs.is_none() && !installed {
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
    for watched in &mut watched {
        let (events, missing) = watched.introduction();
        introduction.extend(events);
        notes.extend(missing);
    }
    let (events, legacy) = legacy::introduction(&watched, programs.as_ref(), plan, &mut notes);
    introduction.extend(events);
    // The types of the kernel were needed until here.
    memory::trim();
    let tables = tables.filter(|_| installed);
    Ok(Kernel {
        programs,
        decoder,
        watched,
        legacy,
        states,
        introduction,
        notes,
        tables,
        _rules_probed: rules_probed,
    })
}

impl Kernel {
    /// Begins to trace in a namespace that came after the start; what is to be said of it.
    pub(super) fn add(&mut self, mut watched: Watched, follow: FollowBy, plan: &TracePlan) -> Vec<String> {
        let mut notes = Vec::new();
        let one = std::slice::from_mut(&mut watched);
        filter_sockets(one, self.programs.as_mut(), self.decoder.as_mut(), &mut notes);
        if let Some(tables) = self.tables
            && one.iter().any(|w| w.trace.is_some())
        {
            install_tables(one, &[follow], plan, tables, &mut notes);
        }
        self.watched.push(watched);
        notes
    }
}

/// Installs a trace table in each namespace; why one could not be.
fn install_tables(
    watched: &mut [Watched],
    follows: &[FollowBy],
    plan: &TracePlan,
    tables: Tables,
    notes: &mut Vec<String>,
) -> Option<TraceTableError> {
    let mut refused = None;
    for (watched, follow) in watched.iter_mut().zip(follows) {
        let spec = TraceTableSpec {
            name: format!("nattrace_{}", std::process::id()),
            filter: plan.filter.clone(),
            rate: plan.rate,
            follow: *follow,
            hook_observers: tables.hook_observers,
            programs: tables.programs,
        };
        let place = watched.netns.name.as_deref().map_or_else(String::new, |n| format!(" in namespace {n}"));
        let installed = match watched.install_table(&spec) {
            Err(error @ (TraceTableError::NoProgramMatch(_) | TraceTableError::Refused(_)))
                if tables.programs.any() =>
            {
                let missing = if tables.programs.follows.is_some() { ONLY_BY_FILTER } else { BY_RULES };
                let note = format!("{missing}: {error}");
                if !notes.contains(&note) {
                    notes.push(note);
                }
                watched.install_table(&TraceTableSpec { programs: AskedPrograms::default(), ..spec.clone() })
            }
            installed => installed,
        };
        match installed {
            Ok(refused) => {
                let families = watched.table.iter().flat_map(TraceTable::families).map(NfFamily::name);
                for family in families {
                    let name = &spec.name;
                    notes.push(format!("installed table {family} {name}{place}; it is gone when this ends"));
                }
                notes.extend(refused);
            }
            Err(error) => {
                notes.push(format!("no trace table{place}: {error}"));
                refused = Some(error);
            }
        }
    }
    refused
}

/// What trace tables ask: where there are several namespaces, so that a packet which crosses from one into another is
/// traced there too, whatever it looks like by then; and which packets are not their business.
fn asked_programs(
    programs: Option<&mut Programs>,
    plan: &TracePlan,
    selection: &Selection,
    notes: &mut Vec<String>,
) -> AskedPrograms {
    let mut asked = AskedPrograms::default();
    let Some(programs) = programs else {
        if selection.crossing {
            notes.push(format!("{ONLY_BY_FILTER}: no programs run"));
        }
        return asked;
    };
    if selection.crossing {
        let found = programs.follows_packet();
        asked.follows = found.map_err(|why| notes.push(format!("{ONLY_BY_FILTER}: {why}"))).ok();
    }
    if !plan.filter.is_by_ends() {
        return asked;
    }
    match programs.others() {
        Ok(program) => asked.others = Some(program),
        Err(why) => notes.push(format!("{BY_RULES}: {why}")),
    }
    asked
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

/// Installs a trace table in a namespace of its own, which vanishes with it.
pub(super) fn install_in_new(follows: Option<RawFd>) -> std::io::Result<Result<(), TraceTableError>> {
    let spec = TraceTableSpec {
        name: "nattrace_check".to_owned(),
        filter: nattrace_core::filter::Filter::default(),
        rate: None,
        follow: FollowBy::No,
        hook_observers: false,
        programs: AskedPrograms { follows, ..AskedPrograms::default() },
    };
    crate::source::netns::run_in_new(|| TraceTable::install(&spec).map(drop))
}

/// As many descriptors as are allowed: the usual limit, 1,024, is soon reached.
fn raise_descriptor_limit(namespaces: usize) -> Result<()> {
    /// What is open in each: it itself, the sockets, and what the runtime needs to wait for these.
    const EACH: u64 = 8;
    /// Programs, maps, files.
    const OTHERS: u64 = 100;
    let limit = getrlimit(Resource::Nofile);
    let needed = u64::try_from(namespaces)?.saturating_mul(EACH).saturating_add(OTHERS);
    if let Some(allowed) = limit.maximum.filter(|allowed| *allowed < needed) {
        bail!(
            "{namespaces} namespaces need some {needed} open files, and {allowed} are allowed (`ulimit -n`); name \
             those that matter with --netns"
        );
    }
    // Refused it is no harm as long as there are few.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    Ok(())
}

/// One line for the commonest mistake, before the kernel's many.
fn require_privileges() -> Result<()> {
    if !privileges::held().contains(CapabilitySet::NET_ADMIN) {
        bail!("tracing needs root (or at least CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON); run it with sudo");
    }
    Ok(())
}

/// Linux before 5.12, which has no `NFT_TABLE_F_OWNER`; backports are found out by trying.
fn is_before_owner_tables() -> bool {
    is_before((5, 12))
}

/// Whether this is an older kernel.
pub(super) fn is_before(version: (u32, u32)) -> bool {
    let kernel = rustix::system::uname();
    let release = kernel.release().to_string_lossy();
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < version
}

pub(super) fn programs_wanted(plan: &TracePlan) -> bool {
    [Source::Probes, Source::Tracepoints].iter().any(|source| plan.sources.set.contains(source))
}

/// Loads programs: all that are wanted, or without probes where those are refused.
fn load(
    plan: &TracePlan,
    loaders: &mut Loaders,
    types: Result<&KernelTypes, &String>,
    selection: &Selection,
    states: &mut States,
    notes: &mut Vec<String>,
) -> (Option<Programs>, Option<Decoder>) {
    let wanted = Wanted {
        probes: plan.sources.set.contains(&Source::Probes),
        tracepoints: plan.sources.set.contains(&Source::Tracepoints),
        hook_entries: true,
    };
    let both_off = |states: &mut States, why: &str| {
        for (source, wanted) in [(Source::Probes, wanted.probes), (Source::Tracepoints, wanted.tracepoints)] {
            if wanted {
                states.off(source, why);
            }
        }
    };
    let types = match types {
        Ok(types) => types,
        Err(error) => {
            both_off(states, &format!("no kernel BTF ({error})"));
            return (None, None);
        }
    };
    let selection =
        Selection { netfilter_drop: types.drop_reason_number("NETFILTER_DROP"), ..selection.clone() };
    let filter = kernel_filter(&plan.filter, &selection);
    // Of packets that are marked, without reasons, only the entry tells one that its first hook dropped from one that came
    // to none; where nothing is marked, it alone sees what this host sends before that is rewritten.
    let hook_entries = !selection.marked || selection.netfilter_drop.is_none();
    let wanted = Wanted { hook_entries, ..wanted };
    let mut programs = None;
    if wanted.probes {
        match probes_possible().and_then(|()| {
            Programs::load(loaders, types, &filter, &selection.netns, wanted).map_err(|e| e.to_string())
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
        match Programs::load(loaders, types, &filter, &selection.netns, tracepoints) {
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
    let decoder = programs.as_ref().map(|_| Decoder::new(types, clock::epoch_offset_ns()));
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
/// processor, and with their packet where a probe knows it; of ruleset changes the ring has the time. Of connections only
/// those are told that may be of interest.
fn filter_sockets(
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
        if programs.hooks.is_some()
            && let Some(socket) = &watched.conntrack
            && let Err(error) = programs.filter_conntrack_socket(socket.as_fd())
        {
            notes.push(format!("every connection is heard of: {error}"));
        }
    }
}
