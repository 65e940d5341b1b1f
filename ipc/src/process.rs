//! Who a process is, proved by pid, start time and boot, and signals that cannot reach another (I7).

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    process::ExitStatus,
    sync::OnceLock,
    time::Duration,
};

use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;

use crate::{
    platform::{hold::Hold, process as platform},
    readiness::readable,
};

/// A process that no later process of the same pid is taken for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// Process id.
    pub pid: i32,
    /// Start time in the system's own unit: on Linux clock ticks since boot.
    pub start_time: u64,
    /// The boot's id: start times are only comparable within one boot.
    pub boot_id: String,
}

impl ProcessIdentity {
    /// The identity of a living process, or `None` when there is none of that pid.
    ///
    /// # Errors
    /// When the system does not tell for another reason.
    pub fn of(pid: i32) -> io::Result<Option<Self>> {
        let identity = |start_time| Self {
            pid,
            start_time,
            boot_id: boot_id().to_owned(),
        };
        Ok(platform::start_time(pid)?.map(identity))
    }

    /// This process.
    ///
    /// # Errors
    /// When `/proc` is not mounted.
    pub fn current() -> io::Result<Self> {
        let pid = i32::try_from(std::process::id()).map_err(io::Error::other)?;
        Self::of(pid)?.ok_or_else(|| io::Error::other("/proc does not list this process"))
    }

    /// A handle on the process, or `None` when it has ended.
    ///
    /// # Errors
    /// When the system refuses to hold it for a reason other than its being gone.
    pub fn open(&self) -> io::Result<Option<ProcessHandle>> {
        // Opened first, then compared: what is compared is what will be signalled.
        let Some(hold) = Hold::of(self.pid)? else {
            return Ok(None);
        };
        let handle = ProcessHandle {
            identity: self.clone(),
            hold,
        };
        let same = Self::of(self.pid)?.as_ref() == Some(self);
        Ok((same && handle.is_alive()).then_some(handle))
    }

    /// A handle on a child of this process that was not waited for yet, though it may have ended:
    /// its pid is still its own.
    ///
    /// # Errors
    /// When the system refuses to hold it.
    pub fn open_child(&self) -> io::Result<ProcessHandle> {
        Ok(ProcessHandle {
            identity: self.clone(),
            hold: Hold::of_child(self.pid)?,
        })
    }
}

/// A living process, held fast; readable (POLLIN) once it has ended.
#[derive(Debug)]
pub struct ProcessHandle {
    identity: ProcessIdentity,
    hold: Hold,
}

impl ProcessHandle {
    /// Who it is.
    pub fn identity(&self) -> &ProcessIdentity {
        &self.identity
    }

    /// Sends a signal to exactly this process; to one that has ended it does nothing.
    ///
    /// # Errors
    /// When the signal is not permitted.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let ProcessIdentity {
            pid, start_time, ..
        } = self.identity;
        self.hold.signal(pid, start_time, signal)
    }

    /// How it ended, where the system tells this of a process that is not our child.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        let ProcessIdentity {
            pid, start_time, ..
        } = self.identity;
        self.hold.exit_status(pid, start_time)
    }

    /// Whether it still runs; a zombie does not.
    pub fn is_alive(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut fds = [PollFd::new(&self.hold, PollFlags::IN)];
        let now = Timespec::default();
        matches!(poll(&mut fds, Some(&now)), Ok(0))
    }
}

impl AsFd for ProcessHandle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.hold.as_fd()
    }
}

/// Between two looks at a process that cannot be waited for.
const POLL: Duration = Duration::from_secs(1);

/// A process whose end can be awaited.
#[derive(Debug)]
pub struct WatchedProcess {
    handle: ProcessHandle,
    end: AsyncFd<OwnedFd>,
}

impl WatchedProcess {
    /// Watches a process; call within a tokio runtime.
    ///
    /// # Errors
    /// When out of descriptors.
    pub fn new(handle: ProcessHandle) -> io::Result<Self> {
        let end = readable(handle.as_fd().try_clone_to_owned()?)?;
        Ok(Self { handle, end })
    }

    /// The process.
    pub fn handle(&self) -> &ProcessHandle {
        &self.handle
    }

    /// Returns once the process has ended.
    pub async fn ended(&self) {
        while self.handle.is_alive() {
            match self.end.readable().await {
                Ok(mut ready) => {
                    if self.handle.is_alive() {
                        ready.clear_ready();
                    }
                }
                // The event loop watches no longer; the process still ends some time.
                Err(_) => tokio::time::sleep(POLL).await,
            }
        }
    }
}

/// The current boot's id.
pub fn boot_id() -> &'static str {
    static BOOT: OnceLock<String> = OnceLock::new();
    BOOT.get_or_init(platform::boot_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_follows_its_process_only() {
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let identity = ProcessIdentity::of(pid).unwrap().unwrap();
        let handle = identity.open().unwrap().unwrap();
        assert!(handle.is_alive());
        let other = ProcessIdentity {
            start_time: identity.start_time + 1,
            ..identity.clone()
        };
        assert!(
            other.open().unwrap().is_none(),
            "a reused pid is another process"
        );
        handle.signal(Signal::KILL).unwrap();
        child.wait().unwrap();
        assert!(!handle.is_alive());
        handle.signal(Signal::TERM).unwrap();
        assert!(identity.open().unwrap().is_none());
    }
}
