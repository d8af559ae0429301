//! The lines that nft prints for one trace message (nftables src/netlink.c `netlink_events_trace_cb`, in 1.1.x
//! src/trace.c).

use std::fmt::Write as _;

use nattrace_core::conntrack::Direction;
use nattrace_core::event::{TraceMessage, TraceType, Verdict};
use nattrace_core::journey::Traced;

use super::super::escape::escape;
use super::dialect::{Dialect, WITH_CONNTRACK};
use super::{payload, value};

/// The lines, each with its end; none for the end of a chain that nothing is told of. `begin` is the trace id.
pub(super) fn lines(begin: &str, traced: &Traced, dialect: &Dialect) -> String {
    let message = &traced.message;
    let begin =
        format!("{begin}{} {} {} ", message.family.name(), escape(&message.table), escape(&message.chain));
    let mut out = String::new();
    if !message.link_header.is_empty() || !message.network_header.is_empty() {
        if dialect.at_least(WITH_CONNTRACK)
            && let Some(state) = message.ct_state
        {
            let _ = writeln!(out, "{begin}conntrack: {}", connection(message, state));
        }
        let _ = write!(out, "{begin}packet: ");
        for (key, device) in [("iif", &traced.iif), ("oif", &traced.oif)] {
            if let Some(device) = device {
                let _ = write!(out, "{key} {} ", device_name(device));
            }
        }
        let _ = writeln!(out, "{}", payload::headers(message, dialect));
    }
    match (message.kind, &message.verdict, message.rule_handle) {
        (TraceType::Rule, Some(verdict), Some(handle)) => {
            let _ = match &traced.text {
                Some(text) => write!(out, "{begin}rule {}", escape(text)),
                None => write!(out, "{begin}unknown rule handle {handle}"),
            };
            let _ = writeln!(out, " (verdict {})", words(verdict));
        }
        (TraceType::Rule, ..) => {}
        (kind, verdict, _) => {
            let what = if kind == TraceType::Policy { "policy" } else { "verdict" };
            ending(&mut out, &begin, what, verdict.as_ref(), message.mark);
        }
    }
    out
}

/// The line of a policy, or of a chain's end before Linux 6.7.
fn ending(out: &mut String, begin: &str, what: &str, verdict: Option<&Verdict>, mark: Option<u32>) {
    out.push_str(begin);
    if let Some(verdict) = verdict {
        let _ = write!(out, "{what} {} ", words(verdict));
    }
    if let Some(mark) = mark {
        let _ = write!(out, "meta mark {mark:#010x} ");
    }
    out.push('\n');
}

fn words(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Unknown(code) => format!("unknown verdict value {}", code.cast_unsigned()),
        verdict => escape(&verdict.to_string()).into_owned(),
    }
}

fn connection(message: &TraceMessage, state: u32) -> String {
    let mut line = String::new();
    if let Some(direction) = message.ct_direction {
        let name = match direction {
            Direction::Original => "original",
            Direction::Reply => "reply",
        };
        let _ = write!(line, "ct direction {name} ");
    }
    let _ = write!(line, "ct state {} ", value::ct_state(state));
    if let Some(status) = message.ct_status.filter(|status| *status != 0) {
        let _ = write!(line, "ct status {} ", value::ct_status(status));
    }
    if let Some(id) = message.ct_id {
        let _ = write!(line, "ct id {id} ");
    }
    line
}

/// A name between quotes; a device that has none is known by its number.
fn device_name(name: &str) -> String {
    match name.strip_prefix("ifindex ") {
        Some(index) => index.to_owned(),
        None => format!("\"{}\"", escape(name)),
    }
}
