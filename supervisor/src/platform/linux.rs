//! Linux: systemd's socket, another process's limits, sockets that never wait.

use std::{
    fs, io,
    os::{fd::OwnedFd, unix::net::UnixListener},
};

use listenfd::ListenFd;
use rustix::{
    net::{AddressFamily, SocketFlags, SocketType, socket_with},
    process::{Pid, Resource, Rlimit, prlimit},
};
use tokio::process::{Child, Command};

/// The listening socket that systemd bound for this process (`LISTEN_FDS`), if it did.
///
/// # Errors
/// When what was passed is no such socket.
pub(crate) fn inherited() -> io::Result<Option<UnixListener>> {
    ListenFd::from_env().take_unix_listener(0)
}

/// Gives a process that is about to be started a limit of open descriptors; here that is done once it
/// runs, by [`limit_started`].
pub(crate) fn limit(_command: &mut Command, _descriptors: Rlimit) {}

/// Gives a process that was just started a limit of open descriptors.
pub(crate) fn limit_started(child: &Child, descriptors: Rlimit) {
    let pid = child
        .id()
        .and_then(|pid| i32::try_from(pid).ok())
        .and_then(Pid::from_raw);
    if let Some(pid) = pid
        && let Err(err) = prlimit(Some(pid), Resource::Nofile, descriptors)
    {
        tracing::debug!(%err, "a worker keeps the raised limit of open descriptors");
    }
}

/// This process's file mode creation mask, in octal digits.
pub(crate) fn umask() -> Option<String> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Umask:"))?;
    Some(line.trim().to_owned())
}

/// A unix stream that does not wait for a peer that does not accept.
///
/// # Errors
/// When out of descriptors.
pub(crate) fn unwaiting() -> io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    Ok(socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        flags,
        None,
    )?)
}
