//! Who runs where: the traffic on the first processor, the tools on the others, where there are others.

use anyhow::{Context, Result};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The traffic's.
const TRAFFIC: usize = 0;

/// Does `work` on the traffic's processor.
pub(super) fn alone<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let all = sched_getaffinity(None).context("the kernel does not tell the processors")?;
    let mut one = CpuSet::new();
    one.set(TRAFFIC);
    sched_setaffinity(None, &one).context("the traffic gets no processor of its own")?;
    let done = work();
    sched_setaffinity(None, &all).context("the other processors are not given back")?;
    done
}

/// Keeps all threads of a process off the traffic's processor, where there is another.
pub(super) fn keep_off(id: u32) -> Result<()> {
    let mut others = sched_getaffinity(None).context("the kernel does not tell the processors")?;
    if others.count() < 2 {
        return Ok(());
    }
    others.unset(TRAFFIC);
    let tasks = format!("/proc/{id}/task");
    for task in std::fs::read_dir(&tasks).with_context(|| format!("{tasks} cannot be listed"))?.flatten() {
        let id = task.file_name().to_string_lossy().parse().ok().and_then(Pid::from_raw);
        // A thread may end meanwhile.
        let _ = sched_setaffinity(id, &others);
    }
    Ok(())
}
