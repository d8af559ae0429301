//! Waiting for descriptors that belong to sources.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A descriptor of our own for the source's open file: it can be waited for whatever the source does.
///
/// # Errors
/// When it cannot be duplicated or waited for.
#[expect(unsafe_code, reason = "tokio asks for a promise that the descriptor stays what it is")]
pub(super) fn readable(source: &impl AsFd) -> io::Result<AsyncFd<OwnedFd>> {
    let fd = source.as_fd().try_clone_to_owned()?;
    // SAFETY: the AsyncFd owns the descriptor, which nobody else can close or replace.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(io::Error::from)
}
