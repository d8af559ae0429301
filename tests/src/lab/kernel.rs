//! What the running kernel has by its version, as its sources say; nattrace is not asked.

/// From which on tables can have an owner (include/uapi/linux/netfilter/nf_tables.h `NFT_TABLE_F_OWNER`).
const OWNER_TABLES: (u32, u32) = (5, 12);

/// From which on it tells how many instructions the verifier went through (kernel/bpf/syscall.c
/// `bpf_prog_show_fdinfo`).
const VERIFIED_INSTRUCTIONS: (u32, u32) = (5, 16);

/// From which on it says why it drops (include/net/dropreason.h; in 5.17 include/linux/skbuff.h).
const DROP_REASONS: (u32, u32) = (5, 17);

/// Version and patch level: 6.12 is `(6, 12)`.
pub(crate) fn series() -> (u32, u32) {
    of_release(&rustix::system::uname().release().to_string_lossy())
}

/// `6.12.117+deb13-cloud-amd64` is of 6.12. What cannot be read is of no series.
fn of_release(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|digits| digits.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Whether it is none before `since`, and one before `until` (`6.12`).
pub(crate) fn is_within(since: Option<&str>, until: Option<&str>) -> bool {
    let now = series();
    since.is_none_or(|since| now >= of_release(since)) && until.is_none_or(|until| now < of_release(until))
}

/// Whether nattrace can have a trace table, without which nobody marks packets, and nf_tables has no trace messages of
/// any.
pub(crate) fn has_owner_tables() -> bool {
    series() >= OWNER_TABLES
}

/// Whether it is told how many instructions the verifier went through.
pub(crate) fn tells_verified_instructions() -> bool {
    series() >= VERIFIED_INSTRUCTIONS
}

/// Whether there are reasons for drops.
pub(crate) fn has_drop_reasons() -> bool {
    series() >= DROP_REASONS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert_eq!(of_release("6.12.117+deb13-cloud-amd64"), (6, 12));
        assert_eq!(of_release("7.0-rc1"), (7, 0));
        assert!(of_release("5.10.0-32-cloud-amd64") < OWNER_TABLES);
        assert!(of_release("5.12.1") >= OWNER_TABLES);
        assert!(of_release("7.3") > of_release("6.18.44"));
    }
}
