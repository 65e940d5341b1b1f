//! Linux: `/proc`, pidfds, and flags that make a descriptor private as it comes, memory given back.

mod exit_info;
pub(crate) mod hold;
pub mod memory;
pub mod process;
pub mod sockets;
