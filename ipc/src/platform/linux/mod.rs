//! Linux: `/proc`, pidfds, and flags that make a descriptor private as it comes.

mod exit_info;
pub(crate) mod hold;
pub mod process;
pub mod sockets;
