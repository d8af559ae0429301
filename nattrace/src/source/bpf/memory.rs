//! What is needed once is given back, and what is needed is allowed.

use rustix::process::{Resource, Rlimit, setrlimit};

/// Allows maps and programs to take more than the 64 KiB that a login is given: before 5.11 they count as locked memory
/// (kernel/bpf/syscall.c `bpf_charge_memlock`, v5.10).
pub fn lift_lock_limit() {
    // Refused it is no harm where they do not count, and the kernel says so where they do.
    let _ = setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None });
}

/// Has every large buffer come from the system and go back to it as soon as it is freed. glibc would learn from the
/// first that is freed to keep the next ones, and grow them by copying.
#[expect(unsafe_code, reason = "mallopt has no safe wrapper")]
pub fn keep_no_large_buffers() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt may be called at any time; a value it refuses changes nothing.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 128 << 10);
    }
}

/// Gives freed memory back to the system. Megabytes of BTF, at the start, and of symbols are parsed into small pieces, which
/// the allocator would keep for as long as the program runs.
#[expect(unsafe_code, reason = "malloc_trim has no safe wrapper")]
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: glibc's malloc_trim may be called at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}
