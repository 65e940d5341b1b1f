//! macOS: libproc, sysctl and kqueue. Compiled, never run.

pub(crate) mod hold;
pub mod process;
pub(crate) mod sockets;
mod sysctl;
