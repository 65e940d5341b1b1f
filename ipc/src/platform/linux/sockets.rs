//! Unix sockets: how long their paths may be, descriptors that come over them, writing to one that was
//! closed.

use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{RecvFlags, SendFlags};

/// Bytes of a path that `sun_path` can hold beside its terminating NUL.
pub const SUN_PATH_MAX: usize = 107;
/// Without a SIGPIPE.
pub const SEND: SendFlags = SendFlags::NOSIGNAL;
/// Close-on-exec from the first moment.
pub const RECEIVE: RecvFlags = RecvFlags::CMSG_CLOEXEC;

/// Prepares a socket to be sent to; nothing to do.
pub fn prepare(_socket: impl AsFd) {}

/// Keeps descriptors that just came from programs that are started; nothing to do.
pub fn keep(_came: &[OwnedFd]) {}
