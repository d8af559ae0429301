//! `--dry-run`: what a trace would attach and install, without doing it.

use anyhow::Result;

use super::voice::say;
use super::{kernel, namespace};
use crate::cli::ExitStatus;
use crate::cli::plan::{NetnsChoice, TracePlan};
use crate::source::netlink::trace_table::{AskedPrograms, Beside, FollowBy, TraceTableSpec, describe};
use crate::source::ruleset;

/// Says what would be attached and installed.
pub(super) fn run(plan: &TracePlan) -> Result<ExitStatus> {
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
    let asks = kernel::programs_wanted(plan) && plan.filter.is_by_ends();
    for netns in &namespaces {
        let place = netns.name.clone().unwrap_or_else(|| netns.inum.to_string());
        text.extend(["in namespace ", &place, ":\n"]);
        if wants(nattrace_core::event::Source::Conntrack) {
            text.push_str("  listen to conntrack events\n");
        }
        if wants(nattrace_core::event::Source::Nft) {
            text.push_str("  listen to nf_tables trace messages and ruleset changes\n");
            if plan.trace_table && !tables_have_owners() {
                text.push_str(if probes {
                    "  no table, as tables cannot have an owner before Linux 5.12: a probe reads rules\n"
                } else {
                    "  no table, as tables cannot have an owner before Linux 5.12\n"
                });
            } else if plan.trace_table {
                let spec = TraceTableSpec {
                    name: format!("nattrace_{}", std::process::id()),
                    filter: plan.filter.clone(),
                    rate: plan.rate,
                    follow: if plan.follow { FollowBy::Conntrack } else { FollowBy::No },
                    hook_observers: !probes,
                    // No program is loaded, and the text does not name one.
                    programs: AskedPrograms { follows: crossing.then_some(-1), others: asks.then_some(-1) },
                };
                text.push_str("  install, until the end:\n");
                let listed = ruleset::list(netns).unwrap_or_default();
                text.push_str(&describe(&spec, &Beside::wanted(&listed.listing, &plan.filter)));
            }
        }
    }
    if let Some(otlp) = &plan.otlp {
        text.extend(["send journeys to ", &otlp.url, "\n"]);
    }
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    say("dry run: nothing was attached or installed");
    Ok(ExitStatus::Clean)
}

/// Whether this kernel knows `NFT_TABLE_F_OWNER`. By its version: to try is to install a table.
fn tables_have_owners() -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split('.').map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(5), Some(12))
}
