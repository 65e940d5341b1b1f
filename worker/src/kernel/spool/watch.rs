//! Tells when a spool directory may hold more: inotify on its segments' names and sizes, or, where a
//! user has no more instances of it, a timer.
//!
//! Many sessions meet that limit: by default Linux gives 128 instances to all processes of a user
//! together, and editors take some of them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

/// How often is looked where nobody says when, in nanoseconds: short enough for eyes while a kernel
/// says something, and longer the longer it does not, for there may be hundreds of them.
const SHORTEST: i64 = 50_000_000;
const LONGEST: i64 = 200_000_000;

/// A descriptor that is readable when it is time to look.
pub(super) struct Watch {
    fd: OwnedFd,
    /// Between two looks, for a timer.
    interval: Option<i64>,
}

impl Watch {
    pub(super) fn new(dir: &Path) -> io::Result<Self> {
        match Self::notified(dir) {
            Err(Errno::MFILE | Errno::NFILE | Errno::NOSPC | Errno::NOMEM | Errno::NOSYS) => {
                tracing::warn!(
                    "fs.inotify.max_user_instances is used up: the spool is looked at up to 20 times a second"
                );
                Ok(Self::timed()?)
            }
            watch => Ok(watch?),
        }
    }

    fn notified(dir: &Path) -> rustix::io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        inotify::add_watch(
            &inotify,
            dir,
            WatchFlags::MODIFY
                | WatchFlags::MOVED_TO
                | WatchFlags::ONLYDIR
                | WatchFlags::DONT_FOLLOW,
        )?;
        Ok(Self {
            fd: inotify,
            interval: None,
        })
    }

    fn timed() -> rustix::io::Result<Self> {
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
        )?;
        every(&timer, SHORTEST)?;
        Ok(Self {
            fd: timer,
            interval: Some(SHORTEST),
        })
    }

    /// Takes note of whether the last look found anything.
    pub(super) fn looked(&mut self, found: bool) -> io::Result<()> {
        let Some(interval) = self.interval else {
            return Ok(());
        };
        let next = if found {
            SHORTEST
        } else {
            LONGEST.min(interval * 2)
        };
        if next != interval {
            every(&self.fd, next)?;
            self.interval = Some(next);
        }
        Ok(())
    }

    /// Forgets what was reported so far; to be called before looking, never after.
    pub(super) fn drain(&self) -> io::Result<()> {
        let mut events = [0; 4096];
        loop {
            match rustix::io::read(&self.fd, &mut events) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn every(timer: &OwnedFd, nanoseconds: i64) -> rustix::io::Result<()> {
    let interval = Timespec {
        tv_sec: 0,
        tv_nsec: nanoseconds,
    };
    let every = Itimerspec {
        it_interval: interval,
        it_value: interval,
    };
    timerfd_settime(timer, TimerfdTimerFlags::empty(), &every)?;
    Ok(())
}
