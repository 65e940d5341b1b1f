//! A process held by a kqueue that tells its end: attached to the process, not to its pid.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    process::ExitStatus,
    ptr,
};

use rustix::{
    buffer::spare_capacity,
    event::{
        PollFd, PollFlags, Timespec,
        kqueue::{Event, EventFilter, EventFlags, ProcessEvents, kevent, kqueue},
        poll,
    },
    io::Errno,
    process::{Pid, Signal, kill_process},
};

use super::process;

/// A process, alive or not waited for yet when it was taken hold of; readable once it has ended.
#[derive(Debug)]
pub(crate) struct Hold(OwnedFd);

impl Hold {
    /// `None` when there is no process of that pid that has not ended.
    pub(crate) fn of(pid: i32) -> io::Result<Option<Self>> {
        let Some(pid) = Pid::from_raw(pid) else {
            return Ok(None);
        };
        let queue = kqueue()?;
        let end = Event::new(
            EventFilter::Proc {
                pid,
                flags: ProcessEvents::EXIT,
            },
            EventFlags::ADD,
            ptr::null_mut(),
        );
        match register(&queue, end) {
            Ok(()) => Ok(Some(Self(queue))),
            Err(Errno::SRCH) => Ok(None),
            Err(err) => Err(err.into()),
        }
    }

    /// The same of a child that was not waited for: it is there, though it may have ended.
    pub(crate) fn of_child(pid: i32) -> io::Result<Self> {
        if let Some(hold) = Self::of(pid)? {
            return Ok(hold);
        }
        // A kqueue does not attach to a zombie. A pipe without a writer is readable for ever, as the
        // kqueue of a process that has ended is.
        let (reader, _) = rustix::pipe::pipe()?;
        Ok(Self(reader))
    }

    /// Signals this process. macOS signals by pid alone: the process is compared right before, and in the
    /// moment between its pid would have to be given up and used again.
    pub(crate) fn signal(&self, pid: i32, started: u64, signal: Signal) -> io::Result<()> {
        let same = process::start_time(pid)? == Some(started);
        let Some(pid) = Pid::from_raw(pid).filter(|_| same && !self.has_ended()) else {
            return Ok(());
        };
        match kill_process(pid, signal) {
            Err(Errno::SRCH) => Ok(()),
            sent => sent.map_err(io::Error::from),
        }
    }

    /// macOS tells it to parents only.
    pub(crate) fn exit_status(&self, _pid: i32, _started: u64) -> Option<ExitStatus> {
        None
    }

    fn has_ended(&self) -> bool {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        !matches!(poll(&mut fds, Some(&Timespec::default())), Ok(0))
    }
}

#[expect(
    unsafe_code,
    reason = "kevent's events may carry descriptors; that of a process carries none"
)]
fn register(queue: &OwnedFd, event: Event) -> rustix::io::Result<()> {
    let mut none = Vec::new();
    // SAFETY: the event names a pid, no descriptor that would have to stay open.
    unsafe { kevent(queue, &[event], spare_capacity(&mut none), None) }?;
    Ok(())
}

impl AsFd for Hold {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
