//! The BPF programs that a process holds, as the kernel tells of them in its fdinfo.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

/// One program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Program {
    /// It hangs at a trampoline: fentry or fexit.
    pub(crate) trampoline: bool,
    /// How often it ran, where that is counted.
    runs: u64,
    /// Instructions that the verifier went through, over all paths; told from 5.16 on (kernel/bpf/syscall.c
    /// `bpf_prog_show_fdinfo`).
    pub(crate) verified: Option<u64>,
}

/// All programs that process `pid` holds, by their ids.
pub(crate) fn of(pid: u32) -> Result<BTreeMap<u32, Program>> {
    let dir = format!("/proc/{pid}/fdinfo");
    let entries = std::fs::read_dir(&dir).with_context(|| format!("{dir} cannot be listed"))?;
    // A descriptor may be closed meanwhile.
    let texts: Vec<_> =
        entries.flatten().map(|entry| std::fs::read_to_string(entry.path()).unwrap_or_default()).collect();
    let mut programs: BTreeMap<u32, Program> = texts.iter().filter_map(|text| parse(text)).collect();
    for id in texts.iter().filter_map(|text| at_trampoline(text)) {
        if let Some(program) = programs.get_mut(&id) {
            program.trampoline = true;
        }
    }
    Ok(programs)
}

/// Program id to runs, of all programs that process `pid` holds.
pub(crate) fn runs(pid: u32) -> Result<BTreeMap<u32, u64>> {
    Ok(of(pid)?.into_iter().map(|(id, program)| (id, program.runs)).collect())
}

/// The names of all programs of this machine, by their ids; the kernel keeps 15 characters.
pub(crate) fn names() -> BTreeMap<u32, String> {
    // One that others have unloaded meanwhile is none of ours.
    let programs = aya::programs::loaded_programs().flatten();
    programs.map(|program| (program.id(), String::from_utf8_lossy(program.name()).into_owned())).collect()
}

/// A program's fdinfo. (Links have a `prog_id` too, and no `run_cnt`.)
fn parse(fdinfo: &str) -> Option<(u32, Program)> {
    let number = |name: &str| field(fdinfo, name)?.parse::<u64>().ok();
    let program = Program { trampoline: false, runs: number("run_cnt")?, verified: number("verified_insns") };
    Some((u32::try_from(number("prog_id")?).ok()?, program))
}

/// The program of a link to a trampoline. (BTF tracepoints are of the same type of program, and no such link.)
fn at_trampoline(fdinfo: &str) -> Option<u32> {
    field(fdinfo, "link_type").filter(|kind| *kind == "tracing")?;
    field(fdinfo, "prog_id")?.parse().ok()
}

fn field<'a>(fdinfo: &'a str, name: &str) -> Option<&'a str> {
    fdinfo.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_told_from_links() {
        let fdinfo = "pos:\t0\nprog_type:\t26\nprog_id:\t42\nrun_time_ns:\t9\nrun_cnt:\t7\n";
        let old = Program { trampoline: false, runs: 7, verified: None };
        assert_eq!(parse(fdinfo), Some((42, old)));
        let new = Program { verified: Some(300), ..old };
        assert_eq!(parse(&format!("{fdinfo}recursion_misses:\t0\nverified_insns:\t300\n")), Some((42, new)));
        assert_eq!(parse("link_type:\tperf\nprog_id:\t42\n"), None);
        assert_eq!(at_trampoline("link_type:\traw_tracepoint\nprog_id:\t42\n"), None);
        assert_eq!(at_trampoline("link_type:\ttracing\nlink_id:\t1\nprog_id:\t42\n"), Some(42));
    }
}
