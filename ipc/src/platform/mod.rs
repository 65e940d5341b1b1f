//! What Linux and macOS tell of a process, each in its own way, and what they let be done to one.
//!
//! Below this module each system has a file of the same functions; nothing else in this crate asks
//! which system it runs on. The macOS half is compiled but was never run (ARCHITECTURE.md, Platforms).

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub(crate) use linux::hold;
#[cfg(target_os = "linux")]
pub use linux::{memory, process, sockets};

#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "macos")]
pub(crate) use macos::hold;
#[cfg(target_os = "macos")]
pub use macos::{memory, process, sockets};

#[cfg(any(target_os = "macos", test))]
mod procargs;
