//! The process that owns one session: its kernel, its journal, its subscribers.
//!
//! A worker outlives everything but its session, and its kernel outlives it (DESIGN §2). Nothing
//! here knows of other sessions.

pub mod artifacts;
mod client;
mod control;
mod feed;
pub mod fold;
pub mod journal;
pub mod kernel;
mod platform;
mod project;
pub mod python;
mod run;
mod session;
mod settings;
pub mod sidecar;
pub mod standing;
pub mod widgets;

pub use run::run;
