//! The process that owns one session: its kernel, its journal, its subscribers.

pub mod fold;
pub mod journal;
pub mod kernel;
pub mod python;
pub mod widgets;
