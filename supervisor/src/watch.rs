//! Waiting for the end of a process that need not be a child of ours.

#![expect(
    unsafe_code,
    reason = "tokio cannot know that a descriptor stays what it is; here it does"
)]

use std::{io, time::Duration};

use tithon_ipc::process::ProcessHandle;
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::sleep,
};

/// Between two looks at a process that cannot be waited for.
const POLL: Duration = Duration::from_secs(1);

/// A process whose end can be waited for.
#[derive(Debug)]
pub(crate) struct Watched(AsyncFd<ProcessHandle>);

impl Watched {
    /// Begins to watch.
    ///
    /// # Errors
    /// When the event loop takes no more descriptors.
    pub(crate) fn new(process: ProcessHandle) -> io::Result<Self> {
        // SAFETY: a handle owns one pidfd for as long as it lives and never replaces it, and the
        // `AsyncFd` owns the handle and gives out shared references only.
        let watched = unsafe { AsyncFd::register_with_interest(process, Interest::READABLE) };
        Ok(Self(watched?))
    }

    /// Whether it still runs.
    pub(crate) fn is_alive(&self) -> bool {
        self.0.get_ref().is_alive()
    }

    /// Returns once it has ended.
    pub(crate) async fn ended(&self) {
        while self.is_alive() {
            match self.0.readable().await {
                Ok(mut ready) => {
                    if self.is_alive() {
                        ready.clear_ready();
                    }
                }
                Err(_) => sleep(POLL).await,
            }
        }
    }
}
