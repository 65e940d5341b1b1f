//! A process held by pidfd: its pid may be used again, what is held stays the one it was.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    process::ExitStatus,
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::exit_info;

/// A process, alive or not waited for yet when it was taken hold of; readable once it has ended.
#[derive(Debug)]
pub(crate) struct Hold(OwnedFd);

impl Hold {
    /// `None` when there is no process of that pid.
    pub(crate) fn of(pid: i32) -> io::Result<Option<Self>> {
        let Some(pid) = Pid::from_raw(pid) else {
            return Ok(None);
        };
        match pidfd_open(pid, PidfdFlags::NONBLOCK) {
            Ok(pidfd) => Ok(Some(Self(pidfd))),
            Err(rustix::io::Errno::SRCH) => Ok(None),
            Err(err) => Err(err.into()),
        }
    }

    /// The same of a child that was not waited for: it is there, though it may have ended.
    pub(crate) fn of_child(pid: i32) -> io::Result<Self> {
        Self::of(pid)?.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    /// Signals exactly this process; one that has ended is not reached, nor anybody else.
    pub(crate) fn signal(&self, _pid: i32, _started: u64, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.0, signal) {
            Err(rustix::io::Errno::SRCH) => Ok(()),
            sent => sent.map_err(io::Error::from),
        }
    }

    /// How it ended, where Linux tells this of a process that is not our child: until its parent has
    /// waited for it, and afterwards from 6.15 on.
    pub(crate) fn exit_status(&self, pid: i32, started: u64) -> Option<ExitStatus> {
        exit_info::of_zombie(pid, started).or_else(|| exit_info::of_gone(self.0.as_fd()))
    }
}

impl AsFd for Hold {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
