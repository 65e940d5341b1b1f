//! macOS: libproc, sysctl and kqueue. Compiled, never run.

pub(crate) mod hold;
pub mod memory;
pub mod process;
pub mod sockets;
mod sysctl;
