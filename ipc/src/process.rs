//! Who a process is, proved by pid, start time and boot, and signals that cannot reach another (I7).

use std::{
    fs, io,
    os::fd::{AsFd, OwnedFd},
    process::ExitStatus,
    sync::OnceLock,
    time::Duration,
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;

use crate::readiness::readable;

/// A process that no later process of the same pid is taken for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// Process id.
    pub pid: i32,
    /// Start time in clock ticks since boot (`/proc/PID/stat`, field 22).
    pub start_time: u64,
    /// `/proc/sys/kernel/random/boot_id`: start times are only comparable within one boot.
    pub boot_id: String,
}

impl ProcessIdentity {
    /// The identity of a living process, or `None` when there is none of that pid.
    ///
    /// # Errors
    /// When `/proc` cannot be read for another reason.
    pub fn of(pid: i32) -> io::Result<Option<Self>> {
        let stat = match fs::read_to_string(format!("/proc/{pid}/stat")) {
            Ok(stat) => stat,
            Err(err) if matches!(err.kind(), io::ErrorKind::NotFound) => return Ok(None),
            Err(err) if err.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
            Err(err) => return Err(err),
        };
        let Some(start_time) = start_time(&stat) else {
            return Err(io::Error::other(format!(
                "/proc/{pid}/stat has no start time"
            )));
        };
        Ok(Some(Self {
            pid,
            start_time,
            boot_id: boot_id().to_owned(),
        }))
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
    /// When the kernel refuses a pidfd for a reason other than the process being gone.
    pub fn open(&self) -> io::Result<Option<ProcessHandle>> {
        // Opened first, then compared: what is compared is what will be signalled.
        let Some(handle) = self.hold()? else {
            return Ok(None);
        };
        let same = Self::of(self.pid)?.as_ref() == Some(self);
        Ok((same && handle.is_alive()).then_some(handle))
    }

    /// A handle on a child of this process that was not waited for yet, though it may have ended:
    /// its pid is still its own.
    ///
    /// # Errors
    /// When the kernel refuses a pidfd.
    pub fn open_child(&self) -> io::Result<ProcessHandle> {
        self.hold()?
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn hold(&self) -> io::Result<Option<ProcessHandle>> {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return Ok(None);
        };
        match pidfd_open(pid, PidfdFlags::NONBLOCK) {
            Ok(pidfd) => Ok(Some(ProcessHandle {
                identity: self.clone(),
                pidfd,
            })),
            Err(rustix::io::Errno::SRCH) => Ok(None),
            Err(err) => Err(err.into()),
        }
    }
}

/// A living process, held by pidfd; readable (POLLIN) once it has ended.
#[derive(Debug)]
pub struct ProcessHandle {
    identity: ProcessIdentity,
    pidfd: OwnedFd,
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
        match pidfd_send_signal(&self.pidfd, signal) {
            Err(rustix::io::Errno::SRCH) => Ok(()),
            sent => sent.map_err(io::Error::from),
        }
    }

    /// How it ended, where Linux tells this of a process that is not our child: until its parent has
    /// waited for it, and afterwards from 6.15 on.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        let pid = self.identity.pid;
        crate::exit_info::of_zombie(pid, self.identity.start_time)
            .or_else(|| crate::exit_info::of_gone(self.pidfd.as_fd()))
    }

    /// Whether it still runs; a zombie does not.
    pub fn is_alive(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let now = Timespec::default();
        matches!(poll(&mut fds, Some(&now)), Ok(0))
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
        let end = readable(handle.pidfd.try_clone()?)?;
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
    BOOT.get_or_init(|| {
        fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map(|id| id.trim().to_owned())
            .unwrap_or_default()
    })
}

pub(crate) fn start_time(stat: &str) -> Option<u64> {
    // The command's name may hold anything, a closing bracket included: count from its last one.
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_time_is_found_behind_any_name() {
        let fields = "S 1 2 3 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4711 0";
        assert_eq!(start_time(&format!("7 (a) b (c)) {fields}")), Some(4711));
        assert_eq!(start_time("7 no name"), None);
    }

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
