//! A filter in the words of the command line.

use nattrace_core::filter::{Filter, Masked, PortRange, Prefix};
use nattrace_core::packet::{TCP_FLAG_NAMES, protocol};

/// Each kind that is asked for, as its flag without dashes and its values; typing them again gives the
/// same filter.
#[must_use]
pub fn filter_flags(filter: &Filter) -> Vec<(&'static str, Vec<String>)> {
    let mut flags: Vec<(&'static str, Vec<String>)> = Vec::new();
    let protocols = filter.protocols.iter().map(|p| protocol::name_or_number(*p).into_owned());
    flags.push(("proto", protocols.collect()));
    for (flag, list) in [("saddr", &filter.saddr), ("daddr", &filter.daddr), ("addr", &filter.addr)] {
        flags.push((flag, list.iter().map(prefix).collect()));
    }
    for (flag, list) in [("sport", &filter.sport), ("dport", &filter.dport), ("port", &filter.port)] {
        flags.push((flag, list.iter().copied().map(ports).collect()));
    }
    flags.push(("iif", filter.iif.clone()));
    flags.push(("oif", filter.oif.clone()));
    flags.push(("mark", filter.marks.iter().copied().map(mark).collect()));
    flags.push(("tcp-flags", filter.tcp_flags.map(tcp_flags).unwrap_or_default()));
    flags.retain(|(_, values)| !values.is_empty());
    flags
}

/// The filter as it could be typed.
#[must_use]
pub fn filter_in_words(filter: &Filter) -> String {
    let flags = filter_flags(filter);
    if flags.is_empty() {
        return "every packet".to_owned();
    }
    let words: Vec<String> =
        flags.iter().map(|(flag, values)| format!("--{flag} {}", values.join(","))).collect();
    words.join(" ")
}

fn prefix(prefix: &Prefix) -> String {
    let whole = if prefix.addr.is_ipv4() { 32 } else { 128 };
    if prefix.len == whole { prefix.addr.to_string() } else { format!("{}/{}", prefix.addr, prefix.len) }
}

fn ports(range: PortRange) -> String {
    if range.first == range.last {
        range.first.to_string()
    } else {
        format!("{}-{}", range.first, range.last)
    }
}

fn mark(mark: Masked) -> String {
    if mark.mask == u32::MAX {
        format!("{:#x}", mark.value)
    } else {
        format!("{:#x}/{:#x}", mark.value, mark.mask)
    }
}

fn tcp_flags(flags: Masked) -> Vec<String> {
    let asked = TCP_FLAG_NAMES.iter().enumerate().filter(|(bit, _)| flags.mask & (1 << bit) != 0);
    asked
        .map(
            |(bit, name)| if flags.value & (1 << bit) != 0 { (*name).to_owned() } else { format!("!{name}") },
        )
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Plan, Terminal, parse};

    #[test]
    fn what_is_shown_can_be_typed() {
        let typed = [
            "nattrace",
            "--proto",
            "tcp,253",
            "--saddr",
            "10.2.0.0/16,::1",
            "--dport",
            "22,8000-8100",
            "--iif",
            "enp0",
            "--mark",
            "0x1,0x10/0xf0",
            "--tcp-flags",
            "syn,!ack",
        ];
        let plan = |line: &[String]| match parse(line.iter().map(Into::into), &Terminal::default()) {
            Ok(Plan::Trace(plan)) => plan.filter,
            other => panic!("{other:?}"),
        };
        let filter = plan(&typed.map(str::to_owned));
        let mut again = vec!["nattrace".to_owned()];
        for (flag, values) in filter_flags(&filter) {
            again.extend([format!("--{flag}"), values.join(",")]);
        }
        assert_eq!(plan(&again), filter);
    }
}
