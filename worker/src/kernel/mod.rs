//! The kernel of a session: how it is started, as a process and as a peer on zmq, and what it says.

pub mod channels;
pub mod checkpoint;
pub mod death;
pub mod launcher;
pub mod memory;
pub mod numbering;
pub mod process;
pub mod spool;
pub mod tree;
pub(crate) mod words;
