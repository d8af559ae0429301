//! `nattrace check`: what could be done here.

use anyhow::Result;
use nattrace_core::filter::Filter;

use super::{kernel, output};
use crate::cli::ExitStatus;
use crate::cli::plan::CheckPlan;
use crate::privileges::{self, Need};
use crate::render::check::{Capability, State};
use crate::source::bpf::fields::{KernelTypes, Reading};
use crate::source::bpf::filter::{Selection, kernel_filter};
use crate::source::bpf::load::{HookAttach, Programs, Wanted};
use crate::source::bpf::loader::Loaders;
use crate::source::bpf::symbols::Symbols;
use crate::source::netlink::conntrack::ConntrackSocket;
use crate::source::netlink::ruleset_changes;
use crate::source::netlink::trace::TraceSocket;
use crate::source::netlink::trace_table::TraceTableError;
use crate::source::ruleset;

/// Tries each capability for a moment, and says what a missing one costs.
pub(super) fn run(plan: &CheckPlan) -> Result<ExitStatus> {
    let mut renderer = output::open(&plan.output)?;
    renderer.check(&capabilities())?;
    Ok(ExitStatus::Clean)
}

fn capability(name: &str, what: &str, state: Result<String, String>, cost: &str) -> Capability {
    let state = match state {
        Ok(detail) => State::On(detail),
        Err(why) => State::Off(why),
    };
    Capability { name: name.to_owned(), what: what.to_owned(), state, cost: cost.to_owned() }
}

/// How rules can be told.
enum Rules {
    /// A trace table marks packets.
    Marked,
    /// No table can have an owner: a probe reads what each rule decides of each packet.
    Probed,
    /// A table was refused: only of packets that something else marks.
    Refused(String),
    /// Whether a table can be had could not be tried.
    NotTried(String),
}

fn capabilities() -> Vec<Capability> {
    let mut loaders = Loaders::make(2);
    let reading = Reading::begin();
    // Asked first: it makes the kernel load nf_tables, whose types are read and whose functions are probed below.
    let nft = ruleset_changes::generation().map(drop).map_err(|error| error.to_string());
    let types = reading.end().map_err(|error| error.to_string());
    let no_btf = || Err("no BTF".to_owned());
    let mut probes = types.as_ref().map_or_else(|_| no_btf(), |types| load(&mut loaders, types, true));
    let mut tracepoints = types.as_ref().map_or_else(|_| no_btf(), |types| load(&mut loaders, types, false));
    let rules = rules(nft.as_ref().err(), probes.as_mut().ok());

    let mut found = of_privileges();
    found.push(capability(
        "btf",
        "layout of the kernel's structures",
        types.as_ref().map(|types| layout_from(types).to_owned()).map_err(Clone::clone),
        "no probes and no tracepoints: rules and their verdicts only",
    ));
    found.extend(of_probes(&probes));
    found.extend(of_tracepoints(&tracepoints, types.as_ref().ok()));
    found.extend(of_rules(nft, &rules, [probes.as_mut().ok(), tracepoints.as_mut().ok()]));
    found.extend(of_legacy(&rules, probes.as_ref().ok()));
    found.push(capability(
        "conntrack",
        "ids of connections, created and destroyed (ctnetlink)",
        ConntrackSocket::open().map(|_| String::new()).map_err(|error| error.to_string()),
        "connections are known from packets alone",
    ));
    found
}

/// What this process may do, and each thing that it may not.
fn of_privileges() -> Vec<Capability> {
    let held = privileges::held();
    let names = privileges::names(held);
    let mut found = vec![capability(
        "privileges",
        "capabilities that are of use here",
        if names.is_empty() { Err("this process has none".to_owned()) } else { Ok(names.join(", ")) },
        "nothing is traced",
    )];
    let needed = |need: &&Need| need.until.is_none_or(kernel::is_before);
    for need in privileges::NEEDS.iter().filter(needed).filter(|need| !held.contains(need.capability)) {
        found.push(capability(
            need.name,
            need.what,
            Err("this process does not have it".to_owned()),
            need.cost,
        ));
    }
    found
}

fn of_probes(probes: &Result<Programs, String>) -> Vec<Capability> {
    let mut found = vec![capability(
        "probes",
        "hooks, rewrites, delivery, exact join of rules and packets",
        probes.as_ref().map(|p| hooks_by(p).to_owned()).map_err(Clone::clone),
        "hooks and rewrites are told from trace messages; rules are joined to packets by their headers",
    )];
    let Ok(programs) = probes else { return found };
    for (what, why) in &programs.missing {
        found.push(capability("probe", what, Err(why.clone()), "that is not told"));
    }
    let waited_for = programs.modules_waited_for();
    if !waited_for.is_empty() {
        found.push(capability(
            "modules",
            "probes on functions of kernel modules, as soon as these are there",
            Ok(format!("not loaded, and so not in use: {}", waited_for.join(", "))),
            "nothing, until a module is used",
        ));
    }
    found
}

fn of_tracepoints(tracepoints: &Result<Programs, String>, types: Option<&KernelTypes>) -> Vec<Capability> {
    let needs_them = || "that needs tracepoints".to_owned();
    let symbols = Symbols::open();
    let reasons = types.and_then(|types| types.drop_reasons.as_ref());
    let reasons = reasons.map(|reasons| format!("{} known", reasons.len()));
    vec![
        capability(
            "tracepoints",
            "devices, drops outside of rules, ends",
            tracepoints.as_ref().map(|_| String::new()).map_err(Clone::clone),
            "nothing past the last rule: no drops by the kernel, no devices",
        ),
        capability(
            "drop-reasons",
            "the kernel's own word for why it dropped a packet",
            match tracepoints {
                Ok(_) => reasons.ok_or_else(|| "this kernel has none (5.17 and later do)".to_owned()),
                Err(_) => Err(needs_them()),
            },
            "a drop is told by the function that did it",
        ),
        capability(
            "symbols",
            "names of kernel functions",
            match tracepoints {
                Ok(_) if symbols.is_empty() => {
                    Err("/proc/kallsyms hides addresses (kernel.kptr_restrict, or no CAP_SYSLOG)".to_owned())
                }
                Ok(_) => Ok(String::new()),
                Err(_) => Err(needs_them()),
            },
            "a drop is told by its reason alone",
        ),
    ]
}

fn of_rules(nft: Result<(), String>, rules: &Rules, programs: [Option<&mut Programs>; 2]) -> Vec<Capability> {
    const BY_FILTER: &str =
        "rules in further namespaces are told only for packets that still match the filter there";
    let messages = nft.and_then(|()| TraceSocket::open().map(drop).map_err(|error| error.to_string()));
    let without_table = match rules {
        Rules::Probed => {
            "rules are read by a probe, which runs at every rule that any packet matches; `--format nft` has no lines of \
             nft's own, and rules of legacy iptables are not told"
        }
        _ => "rules are told only for packets that something else has traced",
    };
    let asked = match rules {
        Rules::Probed => Ok("read by a probe, whatever the packet looks like".to_owned()),
        Rules::Marked => match programs.into_iter().flatten().next() {
            Some(programs) => table_that_asks(programs),
            None => Err("no programs run".to_owned()),
        },
        Rules::Refused(_) | Rules::NotTried(_) => Err("that needs the trace table".to_owned()),
    };
    let mut table = capability(
        "trace-table",
        "a table of our own that marks packets and vanishes with this program",
        match rules {
            Rules::Marked => Ok(String::new()),
            Rules::Probed => Err(TraceTableError::NoOwnerSupport.to_string()),
            Rules::Refused(why) | Rules::NotTried(why) => Err(why.clone()),
        },
        without_table,
    );
    if let Rules::NotTried(why) = rules {
        table.state = State::Unknown(why.clone());
    }
    vec![
        capability(
            "nft",
            "rules that matched, with verdicts (nf_tables trace messages)",
            messages.map(|()| match rules {
                Rules::Marked | Rules::NotTried(_) => String::new(),
                Rules::Probed | Rules::Refused(_) => "of packets that something else marks".to_owned(),
            }),
            if matches!(rules, Rules::Probed) { "nothing: a probe reads rules" } else { "no rules are told" },
        ),
        table,
        capability(
            "crossing",
            "rules in each namespace that a packet crosses (--netns a,b or all)",
            asked,
            BY_FILTER,
        ),
        capability(
            "rule-text",
            "the text of rules (the nft program)",
            ruleset::version().map_err(|error| error.to_string()),
            "rules are told by their handles",
        ),
    ]
}

fn of_legacy(rules: &Rules, probes: Option<&Programs>) -> Vec<Capability> {
    let told = match (probes, rules) {
        (None, _) => Err("that needs probes".to_owned()),
        (Some(programs), _) if !programs.tells_legacy_rules() => {
            Err("nf_log_trace cannot be probed".to_owned())
        }
        (Some(_), Rules::Marked) => Ok(String::new()),
        (Some(_), _) => Err("that needs the trace table".to_owned()),
    };
    vec![
        capability(
            "legacy-rules",
            "rules of legacy iptables that matched (a probe at nf_log_trace)",
            told,
            "rules of legacy iptables are not told; what they drop is, as a drop by the kernel",
        ),
        capability(
            "legacy-text",
            "the text of legacy iptables' rules, and with it what they decided (iptables-legacy-save)",
            ruleset::legacy::version().map_err(|error| error.to_string()),
            "rules of legacy iptables are told by number, without text and verdict",
        ),
    ]
}

/// Where a rule's structures are looked up.
fn layout_from(types: &KernelTypes) -> &'static str {
    if types.nf_tables_known_by_version {
        "nf_tables' are known by the kernel's version: before 5.11 modules have no BTF"
    } else {
        ""
    }
}

fn hooks_by(programs: &Programs) -> &'static str {
    match programs.hooks {
        Some(HookAttach::Trampoline) => "by fentry and fexit",
        Some(HookAttach::Probe) => "by kprobe and kretprobe",
        None => "",
    }
}

fn load(loaders: &mut Loaders, types: &KernelTypes, probes: bool) -> Result<Programs, String> {
    if probes {
        kernel::probes_possible()?;
    }
    // Namespace 0 does not exist: nothing is selected.
    let nowhere = Selection { netns: vec![0], ..Selection::default() };
    let filter = kernel_filter(&Filter::default(), &nowhere);
    let wanted = Wanted { probes, tracepoints: true, hook_entries: true };
    Programs::load(loaders, types, &filter, &nowhere.netns, wanted).map_err(|error| error.to_string())
}

/// Tries a trace table; `no_nft` is why the ruleset cannot even be read.
fn rules(no_nft: Option<&String>, probes: Option<&mut Programs>) -> Rules {
    if let Some(why) = no_nft {
        return Rules::Refused(why.clone());
    }
    match kernel::install_in_new(None) {
        Ok(Ok(())) => Rules::Marked,
        Ok(Err(TraceTableError::NoOwnerSupport))
            if probes.is_some_and(|programs| programs.attach_rule_probe().is_ok()) =>
        {
            Rules::Probed
        }
        Ok(Err(error)) => Rules::Refused(error.to_string()),
        Err(error) => {
            Rules::NotTried(format!("it is tried in a namespace of its own, which cannot be made: {error}"))
        }
    }
}

fn table_that_asks(programs: &mut Programs) -> Result<String, String> {
    let program = programs.follows_packet().map_err(|error| error.to_string())?;
    match kernel::install_in_new(Some(program)) {
        Ok(installed) => installed.map(|()| String::new()).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}
