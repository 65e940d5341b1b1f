//! Unix sockets: how long their paths may be, descriptors that come over them, writing to one that was
//! closed.

use std::os::fd::{AsFd, OwnedFd};

use rustix::{
    io::{FdFlags, fcntl_setfd},
    net::{RecvFlags, SendFlags, sockopt::set_socket_nosigpipe},
};

/// Bytes of a path that `sun_path` can hold beside its terminating NUL.
pub const SUN_PATH_MAX: usize = 103;
/// There is no flag against SIGPIPE: the socket has an option ([`prepare`]).
pub const SEND: SendFlags = SendFlags::empty();
/// There is no flag for close-on-exec: what came is marked afterwards ([`keep`]).
pub const RECEIVE: RecvFlags = RecvFlags::empty();

/// Prepares a socket to be sent to.
pub fn prepare(socket: impl AsFd) {
    set_socket_nosigpipe(socket, true).ok();
}

/// Keeps descriptors that just came from programs that are started. One that is forked and executed by
/// another thread in between has them nevertheless.
pub fn keep(came: &[OwnedFd]) {
    for descriptor in came {
        fcntl_setfd(descriptor, FdFlags::CLOEXEC).ok();
    }
}
