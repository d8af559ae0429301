//! The floor: empty programs at the points where a running nattrace has its own, as the kernel tells of them.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::{Context, Result, bail};

use crate::bpf::{self, Instruction, Load, program};

/// `return 0`
const EMPTY: [Instruction; 2] = [(0xb7, 0, 0, 0), (0x95, 0, 0, 0)];

/// Where the kernel lists the kprobes of all programs.
const KPROBES: &str = "/sys/kernel/debug/kprobes/list";
/// The kernel's source of kprobes.
const SOURCE: &str = "/sys/bus/event_source/devices/kprobe";

/// Where a program is attached.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Point {
    /// A raw tracepoint.
    Tracepoint(String),
    /// The entry or the return of a function, by a trampoline.
    Trampoline {
        /// `BPF_TRACE_FENTRY`, `BPF_TRACE_FEXIT`.
        attach_type: u32,
        /// The number of the BTF that has the function, and the function's in it.
        btf: (u32, u32),
    },
    /// A kprobe, or a kretprobe.
    Probe {
        /// The function.
        function: String,
        /// At its return.
        at_return: bool,
    },
}

/// What there is before a program is started, to tell what is the program's.
#[derive(Debug)]
pub(super) struct Before {
    probes: Vec<Point>,
}

impl Before {
    /// Looks.
    pub(super) fn now() -> Result<Self> {
        Ok(Self { probes: probes()? })
    }

    /// All points where process `id`, started since, has programs attached.
    pub(super) fn points_of(self, id: u32) -> Result<Vec<Point>> {
        let dir = format!("/proc/{id}/fdinfo");
        let entries = std::fs::read_dir(&dir).with_context(|| format!("{dir} cannot be listed"))?;
        let mut points = Vec::new();
        for entry in entries.flatten() {
            // A descriptor may be closed meanwhile.
            points.extend(linked(&std::fs::read_to_string(entry.path()).unwrap_or_default())?);
        }
        let mut probes = probes()?;
        for known in self.probes {
            if let Some(at) = probes.iter().position(|probe| *probe == known) {
                probes.swap_remove(at);
            }
        }
        points.extend(probes);
        points.sort();
        Ok(points)
    }
}

/// Where the link is attached that a descriptor's fdinfo tells of; probes are told elsewhere.
fn linked(fdinfo: &str) -> Result<Option<Point>> {
    let field = |name: &str| fdinfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
    let number = |name: &str| {
        let text = field(name).with_context(|| format!("the kernel does not tell a link's {name}"))?;
        text.trim().parse::<u32>().with_context(|| format!("{name} {text}"))
    };
    Ok(match field("link_type") {
        None | Some("perf" | "perf_event") => None,
        Some("raw_tracepoint") => {
            let name = field("tp_name").context("the kernel does not tell a link's tracepoint")?;
            Some(Point::Tracepoint(name.to_owned()))
        }
        Some("tracing") => Some(Point::Trampoline {
            attach_type: number("attach_type")?,
            btf: (number("target_obj_id")?, number("target_btf_id")?),
        }),
        Some(other) => bail!("a program is attached by a link that is not known here: {other}"),
    })
}

/// All kprobes of this machine.
fn probes() -> Result<Vec<Point>> {
    let text = std::fs::read_to_string(KPROBES).with_context(|| format!("{KPROBES} cannot be read"))?;
    Ok(text.lines().filter_map(probe).collect())
}

/// `ffffffffc07a1234  k  nf_nat_manip_pkt+0x0  [nf_nat] [FTRACE]`
fn probe(line: &str) -> Option<Point> {
    let mut words = line.split_whitespace().skip(1);
    let at_return = words.next()? == "r";
    let function = words.next()?.split('+').next()?.to_owned();
    Some(Point::Probe { function, at_return })
}

/// Empty programs, attached as long as this lives.
#[derive(Debug)]
pub(super) struct Floor {
    _attached: Vec<OwnedFd>,
}

impl Floor {
    /// Attaches one at each point.
    pub(super) fn attach(points: &[Point]) -> Result<Self> {
        let mut attached = Vec::new();
        for point in points {
            let both = attach(point).with_context(|| format!("no empty program can be had at {point:?}"))?;
            attached.extend(both);
        }
        Ok(Self { _attached: attached })
    }
}

/// A program and what keeps it attached.
fn attach(point: &Point) -> Result<[OwnedFd; 2]> {
    let load = |load| bpf::load(&EMPTY, load).context("it is not loaded");
    let (program, link) = match point {
        Point::Tracepoint(name) => {
            let program = load(Load { kind: program::RAW_TRACEPOINT, ..Load::default() })?;
            let link = bpf::open_tracepoint(program.as_raw_fd(), Some(&CString::new(name.as_str())?));
            (program, link)
        }
        Point::Trampoline { attach_type, btf: (object, function) } => {
            let object = bpf::btf(*object).context("its BTF cannot be opened")?;
            let program = load(Load {
                kind: program::TRACING,
                attach_type: *attach_type,
                attach_btf_id: *function,
                attach_btf: Some(object.as_raw_fd()),
                ..Load::default()
            })?;
            let link = bpf::open_tracepoint(program.as_raw_fd(), None);
            (program, link)
        }
        Point::Probe { function, at_return } => {
            let program = load(Load { kind: program::KPROBE, ..Load::default() })?;
            let source = |file: &str| {
                let path = format!("{SOURCE}/{file}");
                std::fs::read_to_string(&path).with_context(|| format!("{path} cannot be read"))
            };
            let kind = source("type")?.trim().parse()?;
            let bit = source("format/retprobe")?;
            let bit: u32 = bit.trim().trim_start_matches("config:").parse()?;
            let config = if *at_return { 1 << bit } else { 0 };
            let function = CString::new(function.as_str())?;
            let link = bpf::attach_probe(program.as_raw_fd(), kind, config, &function);
            (program, link)
        }
    };
    Ok([program, link.context("it is not attached")?])
}

/// How many points of which kind, for people: `2 trampolines, 4 tracepoints, 9 kprobes`.
pub(super) fn described(points: &[Point]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for point in points {
        *counts
            .entry(match point {
                Point::Tracepoint(_) => "tracepoints",
                Point::Trampoline { .. } => "trampolines",
                Point::Probe { .. } => "kprobes",
            })
            .or_default() += 1;
    }
    counts.iter().map(|(what, count)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_tell_where_they_are() {
        let raw = "pos:\t0\nlink_type:\traw_tracepoint\nlink_id:\t3\nprog_id:\t41\ntp_name:\tkfree_skb\n";
        assert_eq!(linked(raw).expect("a link"), Some(Point::Tracepoint("kfree_skb".to_owned())));
        let fexit = "link_type:\ttracing\nprog_id:\t42\nattach_type:\t25\ntarget_obj_id:\t1\n\
                     target_btf_id:\t67890\n";
        let point = Point::Trampoline { attach_type: 25, btf: (1, 67890) };
        assert_eq!(linked(fexit).expect("a link"), Some(point));
        assert_eq!(linked("link_type:\tperf\n").expect("a probe's"), None);
        assert_eq!(linked("prog_type:\t26\nprog_id:\t42\n").expect("no link"), None);
        assert!(linked("link_type:\tkprobe_multi\n").is_err());
    }

    #[test]
    fn probes_are_read_from_the_kernels_list() {
        let entry = probe("ffffffffc07a1234  k  nf_nat_manip_pkt+0x0  [nf_nat] [FTRACE]");
        assert_eq!(entry, Some(Point::Probe { function: "nf_nat_manip_pkt".to_owned(), at_return: false }));
        let at_return = probe("ffffffff81234567  r  early_drop+0x0    ");
        assert_eq!(at_return, Some(Point::Probe { function: "early_drop".to_owned(), at_return: true }));
    }
}
