//! The two clocks: events carry the kernel's monotonic one, users read the time of day.

use std::sync::OnceLock;

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since the epoch: the monotonic clock as events carry it, so that a time of day which is set while
/// tracing neither ends journeys at once nor keeps them from ending.
pub(crate) fn now_ns() -> u64 {
    nanoseconds(ClockId::Monotonic).wrapping_add(epoch_offset_ns())
}

/// What to add to `bpf_ktime_get_ns` (CLOCK_MONOTONIC) for nanoseconds since the epoch, as of the start.
pub(super) fn epoch_offset_ns() -> u64 {
    static OFFSET: OnceLock<u64> = OnceLock::new();
    *OFFSET.get_or_init(|| nanoseconds(ClockId::Realtime).wrapping_sub(nanoseconds(ClockId::Monotonic)))
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn now_is_the_time_of_events_and_about_the_time_of_day() {
        let before = nanoseconds(ClockId::Monotonic).wrapping_add(epoch_offset_ns());
        assert!(now_ns() >= before);
        assert!(now_ns().abs_diff(nanoseconds(ClockId::Realtime)) < 1_000_000_000);
    }
}
