//! The process that owns one session: its kernel, its journal, its subscribers.

pub mod kernel;
