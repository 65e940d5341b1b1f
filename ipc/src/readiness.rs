//! Waiting in tokio for a descriptor that tokio has no type of its own for.

use std::{io, os::fd::OwnedFd};

use tokio::io::{Interest, unix::AsyncFd};

/// Registers an owned descriptor for reading; call within a runtime.
///
/// # Errors
/// When the descriptor cannot be polled, e.g. that of a regular file.
pub fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    register(fd, Interest::READABLE)
}

/// Registers an owned descriptor for what ends it, such as a pipe's that nobody reads any more; call
/// within a runtime.
///
/// # Errors
/// When the descriptor cannot be polled, e.g. that of a regular file.
pub fn ending(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    register(fd, Interest::ERROR)
}

#[expect(
    unsafe_code,
    reason = "tokio's only safe constructor is deprecated: it takes types that may lie about their descriptor"
)]
fn register(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open, stays the same and is closed only when dropped, by the AsyncFd.
    unsafe { AsyncFd::register_with_interest(fd, interest) }.map_err(Into::into)
}
