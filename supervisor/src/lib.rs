//! The process that holds the public socket, finds and starts workers and hands clients over.
//!
//! It is a switchboard, not a pipe: a client that belongs to a session is given to that session's
//! worker, descriptor and all. Nothing of a session is kept here alone, so this process can be
//! killed at any instruction; the next one finds everything on disk (I8).
//!
//! ```text
//! run ── doorstep ── handshake ── conversation ── handover ──► worker
//!  │                                 │  status     │
//!  └──── registry ◄──────────────────┴─────────────┘
//!           └── session (a task each) ── spawn (unit), living, deaths
//! ```

mod claim;
mod client;
mod conversation;
mod deaths;
mod discover;
mod doorstep;
mod exchange;
mod framewise;
mod handover;
mod handshake;
mod listen;
mod living;
pub mod orphans;
mod parting;
mod platform;
mod registry;
mod run;
mod service;
mod session;
mod spawn;
mod status;
mod sweep;
mod unit;

use std::{io, path::PathBuf, time::Duration};

use tithon_ipc::paths::HomeError;

pub use discover::directories;
pub use run::run;
use run::{House, Shutdown};

/// What a supervisor is told by its command line.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long a kernel may be idle before it is ended; workers keep their own default otherwise.
    pub idle_timeout: Option<Duration>,
    /// How many days of raw output are kept.
    pub retention_days: Option<f64>,
    /// How large a session's history should stay, in MiB.
    pub history_target_mib: Option<f64>,
    /// Whether this process's log goes to systemd's journal too; then that of its workers does.
    pub journaled: bool,
    /// Whether workers are never units of a service manager.
    pub detached_workers: bool,
    /// The executable that is a worker when called with `worker`.
    pub worker_program: PathBuf,
}

/// Why a supervisor does not run. Messages follow "failed to ".
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// The home has a supervisor already.
    #[error(
        "start a second supervisor: one is running{}",
        .pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    AlreadyRunning {
        /// Its pid, if it has said so.
        pid: Option<i32>,
    },
    /// The home cannot be used at all.
    #[error("use the home directory: {0}")]
    Unusable(#[from] HomeError),
    /// A file of the home cannot be used.
    #[error("use {path}: {source}")]
    Home { path: PathBuf, source: io::Error },
    /// The public socket cannot be bound.
    #[error("listen on {path}: {source}")]
    Listen { path: PathBuf, source: io::Error },
    /// The system gives this process no event loop or no signals.
    #[error("start an event loop: {0}")]
    Runtime(#[source] io::Error),
}
