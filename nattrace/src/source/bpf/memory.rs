//! What is needed once is given back.

/// Gives freed memory back to the system. Setting up parses megabytes of BTF and symbols into small pieces, which
/// the allocator would keep for as long as the program runs.
#[expect(unsafe_code, reason = "malloc_trim has no safe wrapper")]
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: glibc's malloc_trim may be called at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}
