//! The kernel of a session: how it is started and what it says.

pub mod launcher;
pub mod spool;
