//! The process of a copy: one that ends with whoever holds it, or one that goes on without.

use std::{io, process::ExitStatus, time::Duration};

use rustix::process::Signal;
use tithon_ipc::process::{ProcessHandle, ProcessIdentity, WatchedProcess};
use tokio::time::timeout;

use crate::kernel::{
    checkpoint::Copy,
    process::{exit_of, signal_group},
};

/// How long what is killed may take to end.
const KILL_WAIT: Duration = Duration::from_secs(5);

/// A copy's process.
pub(super) enum Body {
    /// Ends, with all that it started, when nobody holds this any more.
    Guarded(Copy),
    /// Goes on whoever ends.
    Free(WatchedProcess),
    /// Has ended while nobody was there.
    Gone,
}

impl Body {
    /// One that went on while there was no worker.
    ///
    /// # Errors
    /// When it cannot be watched.
    pub(super) fn found(process: &ProcessIdentity) -> io::Result<Self> {
        Ok(match process.open()? {
            Some(handle) => Self::Free(WatchedProcess::new(handle)?),
            None => Self::Gone,
        })
    }

    fn process(&self) -> Option<&ProcessHandle> {
        match self {
            Self::Guarded(copy) => Some(copy.process()),
            Self::Free(process) => Some(process.handle()),
            Self::Gone => None,
        }
    }

    /// Its process id; 0 for one that is gone.
    pub(super) fn pid(&self) -> i32 {
        self.process().map_or(0, |process| process.identity().pid)
    }

    /// Interrupts it; says whether it is there.
    pub(super) fn interrupt(&self) -> bool {
        self.process()
            .is_some_and(|process| process.signal(Signal::INT).is_ok())
    }

    /// Returns once it has ended by itself, with how.
    pub(super) async fn ended(&mut self) -> Option<ExitStatus> {
        match self {
            Self::Guarded(copy) => copy.ended().await,
            Self::Free(process) => {
                process.ended().await;
                exit_of(process.handle()).await
            }
            Self::Gone => None,
        }
    }

    /// Ends it; what it started is found by its mark where it has no guard.
    pub(super) async fn end(self) {
        match self {
            Self::Guarded(copy) => copy.end().await,
            Self::Free(process) => {
                if process.handle().is_alive() {
                    signal_group(process.handle(), Signal::KILL);
                }
                timeout(KILL_WAIT, process.ended()).await.ok();
            }
            Self::Gone => {}
        }
    }
}
