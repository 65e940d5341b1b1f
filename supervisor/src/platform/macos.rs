//! macOS: launchd's socket, limits that a child sets itself, sockets that never wait. Compiled, never run.

#![expect(
    unsafe_code,
    reason = "launchd passes descriptors by a call of C, and only a child can lower its limits"
)]

use std::{
    ffi::{c_char, c_int},
    io,
    os::{
        fd::{FromRawFd, OwnedFd},
        unix::net::UnixListener,
    },
    ptr,
};

use rustix::{
    fs::{OFlags, fcntl_setfl},
    io::{FdFlags, fcntl_setfd},
    net::{AddressFamily, SocketType, socket},
    process::{Resource, Rlimit, setrlimit},
};
use tokio::process::{Child, Command};

unsafe extern "C" {
    /// `launch.h`: the descriptors of a job's sockets, in an array to be freed; errors are returned.
    fn launch_activate_socket(
        name: *const c_char,
        descriptors: *mut *mut c_int,
        count: *mut usize,
    ) -> c_int;
}

/// The listening socket that launchd bound for this process: `control` among the job's `Sockets`.
///
/// # Errors
/// When launchd passed something else than one socket.
pub(crate) fn inherited() -> io::Result<Option<UnixListener>> {
    let mut descriptors: *mut c_int = ptr::null_mut();
    let mut count = 0;
    // SAFETY: the name ends in NUL; launchd fills pointer and count, or returns an error.
    let err = unsafe {
        launch_activate_socket(c"control".as_ptr(), &raw mut descriptors, &raw mut count)
    };
    match err {
        0 => {}
        // Not a job of launchd's, or a job without this socket.
        libc::ESRCH | libc::ENOENT => return Ok(None),
        err => return Err(io::Error::from_raw_os_error(err)),
    }
    let mut sockets = Vec::new();
    for nth in 0..count {
        // SAFETY: the array has `count` descriptors, which are open and from here on ours alone.
        sockets.push(unsafe { OwnedFd::from_raw_fd(*descriptors.add(nth)) });
    }
    // SAFETY: it was allocated for us by malloc, and is not used any more.
    unsafe { libc::free(descriptors.cast()) };
    match <[OwnedFd; 1]>::try_from(sockets) {
        Ok([socket]) => {
            fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
            Ok(Some(UnixListener::from(socket)))
        }
        Err(sockets) => Err(io::Error::other(format!(
            "launchd passed {} sockets named control",
            sockets.len()
        ))),
    }
}

/// Gives a process that is about to be started a limit of open descriptors.
pub(crate) fn limit(command: &mut Command, descriptors: Rlimit) {
    let child = move || {
        let lowered = Rlimit {
            current: descriptors.current,
            maximum: descriptors.maximum,
        };
        setrlimit(Resource::Nofile, lowered).ok();
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes a system call only.
    unsafe { command.pre_exec(child) };
}

/// Gives a process that was just started a limit of open descriptors; it has it already ([`limit`]).
pub(crate) fn limit_started(_child: &Child, _descriptors: Rlimit) {}

/// This process's file mode creation mask, for units; there are none here.
pub(crate) fn umask() -> Option<String> {
    None
}

/// A unix stream that does not wait for a peer that does not accept.
///
/// # Errors
/// When out of descriptors.
pub(crate) fn unwaiting() -> io::Result<OwnedFd> {
    let stream = socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    fcntl_setfd(&stream, FdFlags::CLOEXEC)?;
    fcntl_setfl(&stream, OFlags::NONBLOCK)?;
    Ok(stream)
}
