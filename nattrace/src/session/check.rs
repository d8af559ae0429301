//! `nattrace check` and `--dry-run`: what could be done here, without doing it.

use std::os::fd::RawFd;

use anyhow::Result;
use nattrace_core::filter::Filter;

use super::namespace;
use super::trace::say;
use super::{kernel, output};
use crate::cli::ExitStatus;
use crate::cli::plan::{CheckPlan, NetnsChoice, TracePlan};
use crate::render::check::{Capability, State};
use crate::source::bpf::fields::KernelTypes;
use crate::source::bpf::filter::{Selection, kernel_filter};
use crate::source::bpf::load::{HookAttach, Programs, Wanted};
use crate::source::bpf::symbols::Symbols;
use crate::source::netlink::conntrack::ConntrackSocket;
use crate::source::netlink::ruleset_changes;
use crate::source::netlink::trace::TraceSocket;
use crate::source::netlink::trace_table::{Beside, FollowBy, TraceTable, TraceTableSpec, describe};
use crate::source::{netns, ruleset};

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

fn capabilities() -> Vec<Capability> {
    let types = KernelTypes::of_running_kernel().map_err(|error| error.to_string());
    // Asked first: it makes the kernel load nf_tables, whose functions are probed below.
    let nft = ruleset_changes::generation().map(|_| String::new()).map_err(|error| error.to_string());
    let tables = table_with_owner();
    let mut found = vec![capability(
        "btf",
        "layout of the kernel's structures",
        types.as_ref().map(|_| String::new()).map_err(Clone::clone),
        "no probes and no tracepoints: rules and their verdicts only",
    )];
    let (mut probes, mut tracepoints) = match &types {
        Ok(types) => (load(types, true), load(types, false)),
        Err(_) => (Err("no BTF".to_owned()), Err("no BTF".to_owned())),
    };
    found.push(capability(
        "probes",
        "hooks, rewrites, delivery, exact join of rules and packets",
        probes.as_ref().map(|p| hooks_by(p).to_owned()).map_err(Clone::clone),
        "hooks and rewrites are told from trace messages; rules are joined to packets by their headers",
    ));
    if let Ok(programs) = &probes {
        for (what, why) in &programs.missing {
            found.push(capability("probe", what, Err(why.clone()), "that is not told"));
        }
        if !programs.pending().is_empty() {
            let why = format!(
                "{}: its module is not loaded; tried again while tracing",
                programs.pending().join(", ")
            );
            found.push(capability(
                "probe",
                "functions of modules",
                Err(why),
                "nothing, until a rule needs the module",
            ));
        }
    }
    found.push(capability(
        "tracepoints",
        "devices, drops outside of rules, ends",
        tracepoints.as_ref().map(|_| String::new()).map_err(Clone::clone),
        "nothing past the last rule: no drops by the kernel, no devices",
    ));
    let asked = match (&mut probes, &mut tracepoints) {
        (Ok(programs), _) | (_, Ok(programs)) => table_that_asks(programs),
        (Err(_), Err(_)) => Err("no programs run".to_owned()),
    };
    let table = if tables.is_ok() { Ok(()) } else { Err("the trace table is missing".to_owned()) };
    let legacy_rules = match &probes {
        Ok(programs) if programs.tells_legacy_rules() => table.map(|()| String::new()),
        Ok(_) => Err("nf_log_trace cannot be probed".to_owned()),
        Err(_) => Err("that needs probes".to_owned()),
    };
    drop((probes, tracepoints));
    let reasons = match &types {
        Ok(types) => types.drop_reasons.as_ref().map(|r| format!("{} known", r.len())),
        Err(_) => None,
    };
    found.push(capability(
        "drop-reasons",
        "the kernel's own word for why it dropped a packet",
        reasons.ok_or_else(|| "this kernel has none (5.17 and later do)".to_owned()),
        "a drop is told by the function that did it",
    ));
    let symbols = Symbols::default();
    found.push(capability(
        "symbols",
        "names of kernel functions",
        if symbols.is_empty() {
            Err("/proc/kallsyms hides addresses (kernel.kptr_restrict)".to_owned())
        } else {
            Ok(String::new())
        },
        "a drop is told by its reason alone",
    ));
    found.push(capability(
        "nft",
        "rules that matched, with verdicts (nf_tables trace messages)",
        nft.and_then(|_| TraceSocket::open().map(|_| String::new()).map_err(|error| error.to_string())),
        "no rules are told",
    ));
    found.push(capability(
        "trace-table",
        "a table of our own that marks packets and vanishes with this program",
        tables,
        "rules are told only for packets that something else has traced",
    ));
    found.push(capability(
        "crossing",
        "rules in each namespace that a packet crosses (--netns a,b or all)",
        asked,
        "rules in further namespaces are told only for packets that still match the filter there",
    ));
    found.push(capability(
        "rule-text",
        "the text of rules (the nft program)",
        ruleset::version().map_err(|error| error.to_string()),
        "rules are told by their handles",
    ));
    found.push(capability(
        "legacy-rules",
        "rules of legacy iptables that matched (a probe at nf_log_trace)",
        legacy_rules,
        "rules of legacy iptables are not told; what they drop is, as a drop by the kernel",
    ));
    found.push(capability(
        "legacy-text",
        "the text of legacy iptables' rules, and with it what they decided (iptables-legacy-save)",
        ruleset::legacy::version().map_err(|error| error.to_string()),
        "rules of legacy iptables are told by number, without text and verdict",
    ));
    found.push(capability(
        "conntrack",
        "ids of connections, created and destroyed (ctnetlink)",
        ConntrackSocket::open().map(|_| String::new()).map_err(|error| error.to_string()),
        "connections are known from packets alone",
    ));
    found
}

fn hooks_by(programs: &Programs) -> &'static str {
    match programs.hooks {
        Some(HookAttach::Trampoline) => "by fentry and fexit",
        Some(HookAttach::Probe) => "by kprobe and kretprobe",
        None => "",
    }
}

fn load(types: &KernelTypes, probes: bool) -> Result<Programs, String> {
    if probes {
        kernel::probes_possible()?;
    }
    // Namespace 0 does not exist: nothing is selected.
    let nowhere = Selection { netns: vec![0], ..Selection::default() };
    let filter = kernel_filter(&Filter::default(), &nowhere);
    Programs::load(types, &filter, &nowhere.netns, Wanted { probes, tracepoints: true, hook_entries: true })
        .map_err(|error| error.to_string())
}

/// Tried in a namespace of its own, which vanishes with it.
fn table_with_owner() -> Result<String, String> {
    install_in_new(None)
}

fn table_that_asks(programs: &mut Programs) -> Result<String, String> {
    let program = programs.follows_packet().map_err(|error| error.to_string())?;
    install_in_new(Some(program))
}

fn install_in_new(follows: Option<RawFd>) -> Result<String, String> {
    let spec = TraceTableSpec {
        name: "nattrace_check".to_owned(),
        filter: Filter::default(),
        rate: None,
        follow: FollowBy::No,
        hook_observers: false,
        follows,
    };
    netns::run_in_new(|| TraceTable::install(&spec).map(|_| String::new()).map_err(|error| error.to_string()))
        .map_err(|error| error.to_string())?
}

/// `--dry-run`.
pub(super) fn dry_run(plan: &TracePlan) -> Result<ExitStatus> {
    use std::io::Write as _;
    let namespaces = namespace::choose(&plan.netns)?;
    namespace::check_devices(plan, &namespaces)?;
    let crossing = namespaces.len() > 1 || plan.netns == NetnsChoice::All;
    let mut text = String::new();
    let wants = |source| plan.sources.set.contains(&source);
    let probes = wants(nattrace_core::event::Source::Probes) && kernel::probes_possible().is_ok();
    if probes {
        text.push_str("attach probes: nf_hook_slow, nf_nat_manip_pkt, nft_trace_notify, nf_log_trace, ");
        text.push_str("xt_replace_table, skb_release_head_state, and where local protocols take packets\n");
    }
    if wants(nattrace_core::event::Source::Tracepoints) {
        text.push_str("attach tracepoints: netif_receive_skb, net_dev_start_xmit, kfree_skb");
        text.push_str(if probes { "\n" } else { ", consume_skb, tcp_probe, sk_data_ready\n" });
    }
    for netns in &namespaces {
        let place = netns.name.clone().unwrap_or_else(|| netns.inum.to_string());
        text.extend(["in namespace ", &place, ":\n"]);
        if wants(nattrace_core::event::Source::Conntrack) {
            text.push_str("  listen to conntrack events\n");
        }
        if wants(nattrace_core::event::Source::Nft) {
            text.push_str("  listen to nf_tables trace messages and ruleset changes\n");
            if plan.trace_table {
                let spec = TraceTableSpec {
                    name: format!("nattrace_{}", std::process::id()),
                    filter: plan.filter.clone(),
                    rate: plan.rate,
                    follow: if plan.follow { FollowBy::Conntrack } else { FollowBy::No },
                    hook_observers: !probes,
                    // No program is loaded, and the text does not name it.
                    follows: crossing.then_some(-1),
                };
                text.push_str("  install, until the end:\n");
                let listed = ruleset::list(netns).unwrap_or_default();
                text.push_str(&describe(&spec, &Beside::wanted(&listed.listing, &plan.filter)));
            }
        }
    }
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    say("dry run: nothing was attached or installed");
    Ok(ExitStatus::Clean)
}
