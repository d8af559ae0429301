//! Loading and attaching. Each capability degrades alone, and says so.

use std::error::Error;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use aya::maps::{HashMap, MapData, PerCpuArray, ProgramArray, RingBuf};
use aya::programs::{
    BtfTracePoint, FEntry, FExit, KProbe, Program, ProgramError, RawTracePoint, SocketFilter,
};
use aya::{Btf, Ebpf, EbpfError};
use nattrace_common::filter::{KernelFilter, NAMESPACES, WATCHED_NAMESPACES};
use nattrace_common::record::{BODY_KFREE_SKB, HELD_BACK, LOST_COUNTERS, Lost};
use thiserror::Error;

use super::ahead;
use super::fields::KernelTypes;
use super::loader::{Loaders, types_of};
use super::memory;
use super::modules::{modules_of, waits_for_module};

/// The object that build.rs made; empty when it was built without the eBPF toolchain.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/nattrace-ebpf"));

/// Why no program could be loaded.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The binary holds no programs.
    #[error("this binary was built without the eBPF toolchain")]
    NotBuilt,
    /// The kernel lacks fields without which nothing can be read.
    #[error("this kernel's BTF lacks {0}")]
    MissingFields(String),
    /// Neither maps nor programs may be made.
    #[error("loading programs needs CAP_BPF and CAP_PERFMON, or root")]
    Permission,
    /// The object could not be loaded.
    #[error("{}", with_causes(.0))]
    Object(EbpfError),
    /// A map is not what it should be.
    #[error("{0}")]
    Map(#[from] aya::maps::MapError),
    /// A program was refused.
    #[error("{program}: {reason}")]
    Program {
        /// Its name.
        program: &'static str,
        /// The kernel's answer, in one line.
        reason: String,
    },
}

/// Which sets of programs are wanted.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Kprobes, fentry, fexit.
    pub probes: bool,
    /// Tracepoints.
    pub tracepoints: bool,
    /// Of `probes`: entries of hooks, too. A trace table makes nf_tables tell of those in which there are rules,
    /// and what else counts is told at the return, so that half the programs that every packet runs are saved.
    pub hook_entries: bool,
}

/// How `nf_hook_slow` is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookAttach {
    /// fentry and fexit.
    Trampoline,
    /// kprobe and kretprobe.
    Probe,
}

/// Loaded and attached programs. Dropping it detaches them.
pub struct Programs {
    ebpf: Ebpf,
    ring: RingBuf<MapData>,
    /// How hooks are watched; `None` when they are not.
    pub hooks: Option<HookAttach>,
    /// Capabilities that are missing although they were wanted, with the reason.
    pub missing: Vec<(&'static str, String)>,
    /// Optional probes that are attached.
    attached: Vec<&'static str>,
    /// Probes on modules that are not loaded yet.
    pending: Vec<&'static str>,
}

/// Kprobes that make journeys richer, each missed alone: program (named as the function it is for), what is
/// lost without it, and whether it may come later with a module.
const OPTIONAL: [(&str, &str); 22] = [
    ("nft_trace_notify", "exact join of rules to packets"),
    ("tcp_v4_do_rcv", "delivery to TCP sockets"),
    ("tcp_v6_do_rcv", "delivery to TCP sockets over IPv6"),
    ("tcp_child_process", "delivery to TCP sockets in the handshake"),
    ("__udp_enqueue_schedule_skb", "delivery to UDP sockets"),
    ("icmp_rcv", "delivery to ICMP"),
    ("icmpv6_rcv", "delivery to ICMPv6"),
    ("nf_nat_manip_pkt", "address rewrites as they happen"),
    ("early_drop", "that conntrack's table is full"),
    ("nf_flow_offload_ip_hook", "packets of the flowtable's fast path"),
    ("nf_flow_offload_ipv6_hook", "packets of the flowtable's fast path over IPv6"),
    ("do_xdp_generic", "that a generic XDP program rewrote an address"),
    ("tcf_nat_act", "that tc rewrote an address"),
    ("tcf_pedit_act", "that tc wrote into a header"),
    ("tcp_dnat_handler", "that IPVS rewrote an address (TCP)"),
    ("tcp_snat_handler", "that IPVS rewrote an address (TCP)"),
    ("udp_dnat_handler", "that IPVS rewrote an address (UDP)"),
    ("udp_snat_handler", "that IPVS rewrote an address (UDP)"),
    ("sctp_dnat_handler", "that IPVS rewrote an address (SCTP)"),
    ("sctp_snat_handler", "that IPVS rewrote an address (SCTP)"),
    (LEGACY_RULES, "rules of legacy iptables"),
    (LEGACY_CHANGES, "the text of legacy iptables' rules, as changes of it are not told"),
];

/// Packets a second from which the ring is as large as without a limit.
const BUSY: u32 = 1000;
/// Bytes of the ring: room for what a few packets at a time are told by, and for the processor to be elsewhere for a while.
const RING: u32 = 4 << 20;
/// Bytes of the ring, at most half of it, that are kept for what is still to be told of packets that are followed already.
const ROOM_FOR_FOLLOWED: u32 = 8 << 20;
/// Bytes of the ring where the rate of packets is not limited: room for a burst of 10,000 until it is read.
const UNLIMITED_RING: u32 = 64 << 20;

/// Where legacy iptables tells of rules.
const LEGACY_RULES: &str = "nf_log_trace";
/// Where its rules change.
const LEGACY_CHANGES: &str = "xt_replace_table";

impl Programs {
    /// Loads and attaches what is wanted and possible.
    ///
    /// # Errors
    /// When nothing can be loaded, or a set that was wanted is refused as a whole.
    pub fn load(
        loaders: &mut Loaders,
        types: &KernelTypes,
        filter: &KernelFilter,
        namespaces: &[u32],
        wanted: Wanted,
    ) -> Result<Self, LoadError> {
        if OBJECT.is_empty() {
            return Err(LoadError::NotBuilt);
        }
        if !types.missing_required.is_empty() {
            return Err(LoadError::MissingFields(types.missing_required.join(", ")));
        }
        memory::lift_lock_limit();
        let btf = types_of(&types.places);
        let mut loader = loaders.next();
        let mut filter = *filter;
        filter.ends_probed = u32::from(wanted.probes);
        let ring = if filter.rate == 0 || filter.rate > BUSY { UNLIMITED_RING } else { RING };
        filter.crowded = ring - (ring / 2).min(ROOM_FOR_FOLLOWED);
        if namespaces.len() > WATCHED_NAMESPACES as usize {
            filter.netns_len = 0;
        }
        let arguments = types.kfree_skb_arguments | (types.consume_skb_arguments << 8);
        loader.map_max_entries("EVENTS", ring);
        let mut ebpf = loader
            .btf(None)
            .override_global("FIELDS", &types.fields, true)
            .override_global("FILTER", &filter, true)
            .override_global("TRACEPOINT_ARGS", &arguments, true)
            .load(OBJECT)
            .map_err(refused)?;
        if filter.netns_len as usize > NAMESPACES
            && let Some(map) = ebpf.map_mut("WATCHED")
        {
            let mut map = HashMap::<_, u32, u8>::try_from(map)?;
            for inum in namespaces {
                map.insert(inum, 1, 0)?;
            }
        }
        let ring = ebpf.take_map("EVENTS").ok_or(LoadError::Program {
            program: "EVENTS",
            reason: "the object has no such map".to_owned(),
        })?;
        let ring = RingBuf::try_from(ring)?;
        let mut programs =
            Self { ebpf, ring, hooks: None, missing: Vec::new(), attached: Vec::new(), pending: Vec::new() };
        let tracepoints = if wanted.tracepoints { tracepoints(wanted, types) } else { Vec::new() };
        let optional: Vec<&str> = OPTIONAL.iter().map(|(function, _)| *function).collect();
        let (pending, present): (Vec<_>, Vec<_>) = optional
            .into_iter()
            .partition(|function| waits_for_module(function) && !types.built_in.contains(function));
        let trampolines = btf.as_ref().filter(|_| !probes_only());
        programs.load_ahead(btf.as_ref(), wanted, &tracepoints, &present, filter.marked == 1);
        // Ends first, so that nothing is followed whose end would be missed.
        if wanted.probes {
            programs.attach_ends(trampolines)?;
        }
        if wanted.tracepoints {
            programs.attach_tracepoints(btf.as_ref(), wanted.probes, &tracepoints)?;
        }
        if wanted.probes {
            programs.pending = pending;
            programs.attach_optional_probes(&present);
            programs.hooks = Some(programs.attach_hooks(trampolines, wanted.hook_entries)?);
        }
        Ok(programs)
    }

    /// Has all programs verified that are attached next.
    fn load_ahead(
        &mut self,
        btf: Option<&Btf>,
        wanted: Wanted,
        tracepoints: &[(&'static str, &'static str)],
        optional: &[&'static str],
        asked: bool,
    ) {
        let trampolines = btf.filter(|_| !probes_only());
        let mut names: Vec<ahead::Wanted> =
            tracepoints.iter().map(|(program, tracepoint)| (*program, Some(*tracepoint))).collect();
        if wanted.probes {
            for (function, trampoline, probe, _) in ENDS {
                let way = if trampolines.is_some() { (trampoline, Some(function)) } else { (probe, None) };
                names.push(way);
            }
            if trampolines.is_some() {
                names.push(("hook_leave", Some(HOOKS)));
                names.extend(wanted.hook_entries.then_some(("hook_enter", Some(HOOKS))));
            } else {
                names.extend(["hook_leave_kretprobe", "hook_enter_kprobe"].map(|name| (name, None)));
            }
            for function in optional {
                names.push((program_of(function), None));
                names.extend(rest_of(function).iter().map(|(name, _)| (program_of(name), None)));
            }
            names.extend(["nft_message", "conntrack_message"].map(|name| (name, None)));
        }
        if asked {
            names.push(("others_packet", None));
        }
        ahead::load(&mut self.ebpf, btf, &names);
    }

    fn attach_tracepoints(
        &mut self,
        btf: Option<&Btf>,
        ends_probed: bool,
        required: &[(&'static str, &'static str)],
    ) -> Result<(), LoadError> {
        for (program, tracepoint) in required {
            if *program == "kfree_skb_nested" {
                self.set_body(BODY_KFREE_SKB, "kfree_skb")?;
            }
            if TYPED_TRACEPOINTS.iter().any(|typed| typed.ends_with(tracepoint)) {
                self.attach_typed_tracepoint(program, tracepoint, btf)?;
            } else {
                self.attach_raw_tracepoint(program, tracepoint)?;
            }
        }
        if !ends_probed {
            for (tracepoint, lost) in
                [("tcp_probe", "delivery to TCP sockets"), ("sk_data_ready", "delivery to UDP sockets")]
            {
                if let Err(error) = self.attach_raw_tracepoint(tracepoint, tracepoint) {
                    self.missing.push((lost, error.to_string()));
                }
            }
        }
        Ok(())
    }

    /// Lets other programs go on as a loaded one.
    fn set_body(&mut self, index: u32, name: &'static str) -> Result<(), LoadError> {
        let refused = |error: ProgramError| LoadError::Program { program: name, reason: one_line(&error) };
        let body: &mut RawTracePoint = self.program(name)?;
        let body = body.fd().and_then(|fd| Ok(fd.try_clone()?)).map_err(refused)?;
        let bodies = self.ebpf.map_mut("BODIES").ok_or(LoadError::Program {
            program: "BODIES",
            reason: "the object has no such map".to_owned(),
        })?;
        Ok(ProgramArray::try_from(bodies)?.set(index, &body, 0)?)
    }

    fn attach_optional_probes(&mut self, present: &[&'static str]) {
        for (function, lost) in OPTIONAL.iter().filter(|(function, _)| present.contains(function)) {
            if let Err(error) = self.attach_optional(function) {
                self.missing.push((lost, error.to_string()));
            }
        }
    }

    /// The probe at a function, and what belongs to it.
    fn attach_optional(&mut self, function: &'static str) -> Result<(), LoadError> {
        self.attach_kprobe(function, function)?;
        for (name, function) in rest_of(function) {
            self.attach_kprobe(name, function)?;
        }
        self.attached.push(function);
        Ok(())
    }

    /// Whether rules of legacy iptables are told.
    #[must_use]
    pub fn tells_legacy_rules(&self) -> bool {
        self.attached.contains(&LEGACY_RULES)
    }

    /// Whether changes of legacy iptables' rules are told.
    #[must_use]
    pub fn tells_legacy_changes(&self) -> bool {
        self.attached.contains(&LEGACY_CHANGES)
    }

    /// Tries again what waits for its module: a ruleset with NAT may be loaded while tracing. Whether anything
    /// was attached.
    pub fn attach_pending(&mut self) -> bool {
        let waiting = self.pending.len();
        for function in std::mem::take(&mut self.pending) {
            // The kernel would search all its symbols for one that is not there.
            if waits_for_module(function) || self.attach_optional(function).is_err() {
                self.pending.push(function);
            }
        }
        self.pending.len() < waiting
    }

    /// Modules with functions to probe that were not loaded when last looked.
    #[must_use]
    pub fn modules_waited_for(&self) -> Vec<&'static str> {
        modules_of(&self.pending)
    }

    /// Where buffers end: by fentry, or by kprobe where that is refused.
    fn attach_ends(&mut self, trampolines: Option<&Btf>) -> Result<(), LoadError> {
        for (function, trampoline, probe, required) in ENDS {
            let attached = match trampolines {
                Some(btf) => self.attach_fentry(trampoline, function, btf).is_ok(),
                None => false,
            };
            if !attached {
                match self.attach_kprobe(probe, function) {
                    Err(error) if required => return Err(error),
                    // A kernel that has no such function frees these buffers as it does others.
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn attach_fentry(
        &mut self,
        name: &'static str,
        function: &'static str,
        btf: &Btf,
    ) -> Result<(), LoadError> {
        let refused = |error: ProgramError| LoadError::Program { program: name, reason: one_line(&error) };
        let program: &mut FEntry = self.program(name)?;
        unless_loaded(program.load(function, btf)).map_err(refused)?;
        program.attach().map_err(refused)?;
        Ok(())
    }

    fn attach_hooks(&mut self, trampolines: Option<&Btf>, entries: bool) -> Result<HookAttach, LoadError> {
        if let Some(btf) = trampolines
            && self.attach_trampolines(btf, entries).is_ok()
        {
            return Ok(HookAttach::Trampoline);
        }
        self.attach_kprobe("hook_leave_kprobe", HOOKS)?;
        self.attach_kprobe("hook_enter_kprobe", HOOKS)?;
        Ok(HookAttach::Probe)
    }

    fn attach_trampolines(&mut self, btf: &Btf, entries: bool) -> Result<(), LoadError> {
        let refused =
            |program| move |error: ProgramError| LoadError::Program { program, reason: one_line(&error) };
        let leave: &mut FExit = self.program("hook_leave")?;
        unless_loaded(leave.load(HOOKS, btf)).map_err(refused("hook_leave"))?;
        if entries {
            self.attach_fentry("hook_enter", HOOKS, btf)?;
        }
        let leave: &mut FExit = self.program("hook_leave")?;
        leave.attach().map_err(refused("hook_leave"))?;
        Ok(())
    }

    fn program<'a, P>(&'a mut self, name: &'static str) -> Result<&'a mut P, LoadError>
    where
        &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
    {
        let missing =
            || LoadError::Program { program: name, reason: "the object has no such program".to_owned() };
        let program = self.ebpf.program_mut(name).ok_or_else(missing)?;
        <&mut P>::try_from(program)
            .map_err(|error| LoadError::Program { program: name, reason: one_line(&error) })
    }

    fn attach_kprobe(&mut self, name: &'static str, function: &'static str) -> Result<(), LoadError> {
        let refused = |error: ProgramError| LoadError::Program { program: name, reason: one_line(&error) };
        let probe: &mut KProbe = self.program(program_of(name))?;
        unless_loaded(probe.load()).map_err(refused)?;
        probe.attach(function, 0).map_err(refused)?;
        Ok(())
    }

    fn attach_raw_tracepoint(
        &mut self,
        name: &'static str,
        tracepoint: &'static str,
    ) -> Result<(), LoadError> {
        let refused = |error: ProgramError| LoadError::Program { program: name, reason: one_line(&error) };
        let program: &mut RawTracePoint = self.program(name)?;
        unless_loaded(program.load()).map_err(refused)?;
        program.attach(tracepoint).map_err(refused)?;
        Ok(())
    }

    fn attach_typed_tracepoint(
        &mut self,
        name: &'static str,
        tracepoint: &'static str,
        btf: Option<&Btf>,
    ) -> Result<(), LoadError> {
        let refused = |error: ProgramError| LoadError::Program { program: name, reason: one_line(&error) };
        let unknown = || LoadError::Program { program: name, reason: "no such tracepoint in BTF".to_owned() };
        let program: &mut BtfTracePoint = self.program(name)?;
        unless_loaded(program.load(tracepoint, btf.ok_or_else(unknown)?)).map_err(refused)?;
        program.attach().map_err(refused)?;
        Ok(())
    }

    /// Has every result of every rule reported for followed packets, whoever is traced: for kernels on which no
    /// trace table can be had. Costs a probe hit for each rule that matches any packet.
    ///
    /// # Errors
    /// When the kernel refuses the probe.
    pub fn attach_rule_probe(&mut self) -> Result<(), LoadError> {
        self.attach_kprobe("__nft_trace_packet", "__nft_trace_packet")
    }

    /// Has the trace messages for a socket put into the ring, with processor, time and packet, and the time of
    /// ruleset changes.
    ///
    /// # Errors
    /// When the kernel refuses the filter; the socket then works as an ordinary one.
    pub fn filter_nft_socket(&mut self, socket: BorrowedFd<'_>) -> Result<(), LoadError> {
        self.filter_socket("nft_message", socket)
    }

    /// Has a socket for events of connections get those alone that were asked for, or belong to what is followed.
    ///
    /// # Errors
    /// When the kernel refuses the filter; the socket then gets all.
    pub fn filter_conntrack_socket(&mut self, socket: BorrowedFd<'_>) -> Result<(), LoadError> {
        self.filter_socket("conntrack_message", socket)
    }

    fn filter_socket(&mut self, name: &'static str, socket: BorrowedFd<'_>) -> Result<(), LoadError> {
        let refused = |error: ProgramError| LoadError::Program { program: name, reason: one_line(&error) };
        let filter: &mut SocketFilter = self.program(name)?;
        unless_loaded(filter.load()).map_err(refused)?;
        filter.attach(socket).map_err(refused)?;
        Ok(())
    }

    /// The program that says whether a packet is followed already, for trace tables to ask.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn follows_packet(&mut self) -> Result<RawFd, LoadError> {
        self.asked_program("follows_packet")
    }

    /// The program that says whether a packet is none that trace tables need judge.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn others(&mut self) -> Result<RawFd, LoadError> {
        self.asked_program("others_packet")
    }

    fn asked_program(&mut self, name: &'static str) -> Result<RawFd, LoadError> {
        let refused = |error: ProgramError| LoadError::Program { program: name, reason: one_line(&error) };
        let program: &mut SocketFilter = self.program(name)?;
        unless_loaded(program.load()).map_err(refused)?;
        Ok(program.fd().map_err(refused)?.as_fd().as_raw_fd())
    }

    /// Takes the next record, if there is one.
    pub fn next_record<T>(&mut self, take: impl FnOnce(&[u8]) -> T) -> Option<T> {
        self.ring.next().map(|record| take(&record))
    }

    /// The ring's descriptor, readable when there are records.
    #[must_use]
    pub fn ring_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }

    /// Detaches all programs. What they have told is still in the ring, and counted.
    pub fn detach(&mut self) {
        for (_, program) in self.ebpf.programs_mut() {
            // One that was never loaded has nothing to be detached. The filter of a socket is gone with the socket.
            let _ = match program {
                Program::KProbe(program) => program.unload(),
                Program::RawTracePoint(program) => program.unload(),
                Program::BtfTracePoint(program) => program.unload(),
                Program::FEntry(program) => program.unload(),
                Program::FExit(program) => program.unload(),
                _ => Ok(()),
            };
        }
    }

    /// Whether no more records than these have been put into the ring.
    #[must_use]
    pub fn has_told(&self, records: u64) -> bool {
        let sources = self.lost();
        let made = sources.iter().take(HELD_BACK as usize).map(|source| source.begun - source.count);
        made.sum::<u64>() <= records
    }

    /// Records that found no room so far, by `LOST_*`.
    #[must_use]
    pub fn lost(&self) -> Vec<Lost> {
        let Some(map) = self.ebpf.map("LOST") else { return Vec::new() };
        let Ok(counters) = PerCpuArray::<_, Lost>::try_from(map) else { return Vec::new() };
        (0..LOST_COUNTERS)
            .map(|index| {
                let mut sum = Lost::default();
                if let Ok(values) = counters.get(&index, 0) {
                    for value in values.iter() {
                        sum.begun += value.begun;
                        sum.count += value.count;
                        sum.last_ns = sum.last_ns.max(value.last_ns);
                    }
                }
                sum
            })
            .collect()
    }

    /// Names of what is attached, with the kernel's verified instruction count where it tells.
    #[must_use]
    pub fn loaded(&self) -> Vec<(String, Option<u32>)> {
        let mut loaded: Vec<_> = self
            .ebpf
            .programs()
            .filter_map(|(name, program)| {
                let info = program.info().ok()?;
                Some((name.to_owned(), info.verified_instruction_count()))
            })
            .collect();
        loaded.sort();
        loaded
    }
}

impl AsFd for Programs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

/// Where hooks are run.
const HOOKS: &str = "nf_hook_slow";

/// Functions that are watched by trampolines, where the kernel allows those.
pub(super) const TRAMPOLINES: [&str; 3] = [HOOKS, ENDS[0].0, ENDS[1].0];

/// Tracepoints whose programs know the types of their arguments.
pub(super) const TYPED_TRACEPOINTS: [&str; 2] =
    ["btf_trace_net_dev_start_xmit", "btf_trace_netif_receive_skb"];

/// Where a buffer ends: the function, its programs by fentry and by kprobe, and whether there is no identity without.
const ENDS: [(&str, &str, &str, bool); 2] = [
    ("skb_release_head_state", "end_fentry", "end_kprobe", true),
    ("__consume_stateless_skb", "end_stateless_fentry", "end_stateless_kprobe", false),
];

/// Programs that must be attached to tracepoints, and these.
fn tracepoints(wanted: Wanted, types: &KernelTypes) -> Vec<(&'static str, &'static str)> {
    let mut all = vec![("kfree_skb", "kfree_skb")];
    // The kernel skips a tracepoint's program that runs already on the processor (v6.1 and later; kernels with reasons
    // for drops are near enough).
    all.extend((types.kfree_skb_arguments >= 3).then_some(("kfree_skb_nested", "kfree_skb")));
    all.extend((!wanted.probes).then_some(("consume_skb", "consume_skb")));
    all.extend(["net_dev_start_xmit", "netif_receive_skb"].map(|name| (name, name)));
    all
}

/// The program of a probe that is named otherwise.
fn program_of(name: &'static str) -> &'static str {
    match name {
        "nf_nat_manip_pkt" => "manip_enter",
        "hook_leave_kprobe" => "hook_leave_kretprobe",
        other => other,
    }
}

/// What belongs to the probe at a function: program and function.
fn rest_of(function: &str) -> &'static [(&'static str, &'static str)] {
    match function {
        "do_xdp_generic" => &[("do_xdp_generic_return", "do_xdp_generic")],
        "nf_nat_manip_pkt" => &[("manip_leave", "nf_nat_manip_pkt")],
        // On newer kernels a table's first rules do not come by way of the other.
        LEGACY_CHANGES => &[
            ("xt_replace_table_return", LEGACY_CHANGES),
            (LEGACY_CHANGES, "xt_register_table"),
            ("xt_replace_table_return", "xt_register_table"),
        ],
        _ => &[],
    }
}

/// That it is loaded already is as good.
fn unless_loaded(loaded: Result<(), ProgramError>) -> Result<(), ProgramError> {
    match loaded {
        Err(ProgramError::AlreadyLoaded) => Ok(()),
        other => other,
    }
}

/// The way that kernels without trampolines take, on any: `NATTRACE_HOOKS=kprobe`, for tests.
fn probes_only() -> bool {
    std::env::var_os("NATTRACE_HOOKS").is_some_and(|value| value == "kprobe")
}

/// The kernel's answer without the verifier's log, unless that was asked for.
fn one_line(error: &ProgramError) -> String {
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            if std::env::var_os("NATTRACE_VERIFIER_LOG").is_some() {
                format!("{io_error}\n{verifier_log}")
            } else {
                io_error.to_string()
            }
        }
        ProgramError::SyscallError(error) => format!("{}: {}", error.call, error.io_error),
        other => with_causes(other),
    }
}

/// An error and all that led to it.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}

/// Why the object was refused: its maps are the first that the kernel is asked for.
fn refused(error: EbpfError) -> LoadError {
    let mut cause: Option<&dyn Error> = Some(&error);
    while let Some(inner) = cause {
        let errno = inner.downcast_ref::<io::Error>();
        if errno.is_some_and(|errno| errno.kind() == io::ErrorKind::PermissionDenied) {
            return LoadError::Permission;
        }
        cause = inner.source();
    }
    LoadError::Object(error)
}
