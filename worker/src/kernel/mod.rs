//! The kernel as a process and as a peer on zmq.

pub mod channels;
pub mod process;
pub mod tree;
