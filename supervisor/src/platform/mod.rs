//! What a supervisor asks of Linux and of macOS, each in its own way. The macOS half is compiled but was
//! never run (ARCHITECTURE.md, Platforms).

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub(crate) use linux::{inherited, limit, limit_started, umask, unwaiting};

#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "macos")]
pub(crate) use macos::{inherited, limit, limit_started, umask, unwaiting};
