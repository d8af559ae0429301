//! The two clocks: events carry the kernel's monotonic one, users read the time of day.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since the epoch.
pub(super) fn now_ns() -> u64 {
    nanoseconds(ClockId::Realtime)
}

/// What to add to `bpf_ktime_get_ns` (CLOCK_MONOTONIC) for nanoseconds since the epoch, as of now.
pub(super) fn epoch_offset_ns() -> u64 {
    now_ns().wrapping_sub(nanoseconds(ClockId::Monotonic))
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}
