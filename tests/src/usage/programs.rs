//! The BPF programs that a process holds, as the kernel tells of them in its fdinfo.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

/// `BPF_PROG_TYPE_TRACING` of include/uapi/linux/bpf.h: fentry and fexit.
const TRACING: u64 = 26;

/// One program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Program {
    /// `BPF_PROG_TYPE_*`.
    kind: u64,
    /// How often it ran, where that is counted.
    runs: u64,
    /// Instructions that the verifier went through, over all paths; told from 5.16 on (kernel/bpf/syscall.c
    /// `bpf_prog_show_fdinfo`).
    pub(crate) verified: Option<u64>,
}

impl Program {
    /// Whether it hangs at a trampoline.
    pub(crate) fn is_trampoline(&self) -> bool {
        self.kind == TRACING
    }
}

/// All programs that process `pid` holds, by their ids.
pub(crate) fn of(pid: u32) -> Result<BTreeMap<u32, Program>> {
    let dir = format!("/proc/{pid}/fdinfo");
    let entries = std::fs::read_dir(&dir).with_context(|| format!("{dir} cannot be listed"))?;
    // A descriptor may be closed meanwhile.
    let texts = entries.flatten().map(|entry| std::fs::read_to_string(entry.path()).unwrap_or_default());
    Ok(texts.filter_map(|text| parse(&text)).collect())
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
    let field = |name: &str| {
        fdinfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse::<u64>().ok())
    };
    let program =
        Program { kind: field("prog_type")?, runs: field("run_cnt")?, verified: field("verified_insns") };
    Some((u32::try_from(field("prog_id")?).ok()?, program))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_told_from_links() {
        let fdinfo = "pos:\t0\nprog_type:\t26\nprog_id:\t42\nrun_time_ns:\t9\nrun_cnt:\t7\n";
        let old = Program { kind: 26, runs: 7, verified: None };
        assert_eq!(parse(fdinfo), Some((42, old)));
        assert!(old.is_trampoline());
        let new = Program { verified: Some(300), ..old };
        assert_eq!(parse(&format!("{fdinfo}recursion_misses:\t0\nverified_insns:\t300\n")), Some((42, new)));
        assert_eq!(parse("link_type:\tperf\nprog_id:\t42\n"), None);
    }
}
