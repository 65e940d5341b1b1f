//! Linux: inotify, timerfd, eventfd, holes in files.

use std::{
    fs::File,
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    event::{EventfdFlags, eventfd},
    fs::{
        FallocateFlags, fallocate,
        inotify::{self, CreateFlags, ReadFlags, WatchFlags},
    },
    io::Errno,
    time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    },
};

/// Whether SQLite is to ask for more than fsync: on Linux that reaches the disk.
pub(crate) const FULL_FSYNC: bool = false;

/// A descriptor that is readable when a file in `dir` grew or came; `None` where there is no such to be
/// had, and a [`Timer`] must do.
///
/// Many sessions meet that limit: by default Linux gives 128 instances to all processes of a user
/// together, and editors take some of them.
///
/// # Errors
/// When `dir` is no directory, for one.
pub(crate) fn growth(dir: &Path) -> io::Result<Option<OwnedFd>> {
    match watch(dir) {
        Ok(inotify) => Ok(Some(inotify)),
        Err(Errno::MFILE | Errno::NFILE | Errno::NOSPC | Errno::NOMEM | Errno::NOSYS) => {
            tracing::warn!(
                "fs.inotify.max_user_instances is used up: the spool is looked at up to 20 times a second"
            );
            Ok(None)
        }
        Err(err) => Err(err.into()),
    }
}

fn watch(dir: &Path) -> rustix::io::Result<OwnedFd> {
    let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    inotify::add_watch(
        &inotify,
        dir,
        WatchFlags::MODIFY
            | WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::ONLYDIR
            | WatchFlags::DONT_FOLLOW,
    )?;
    Ok(inotify)
}

/// Readable again and again.
#[derive(Debug)]
pub(crate) struct Timer(OwnedFd);

impl Timer {
    /// One that goes off at intervals of so many nanoseconds, less than a second.
    ///
    /// # Errors
    /// When out of descriptors.
    pub(crate) fn new(interval: i64) -> io::Result<Self> {
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
        )?;
        let mut timer = Self(timer);
        timer.every(interval)?;
        Ok(timer)
    }

    /// Changes the interval.
    ///
    /// # Errors
    /// When it is a second or more.
    pub(crate) fn every(&mut self, interval: i64) -> io::Result<()> {
        let interval = Timespec {
            tv_sec: 0,
            tv_nsec: interval,
        };
        let every = Itimerspec {
            it_interval: interval,
            it_value: interval,
        };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &every)?;
        Ok(())
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Forgets what a descriptor of [`growth`] or a [`Timer`] has told so far.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn read_all(fd: BorrowedFd<'_>) -> io::Result<()> {
    let mut events = [0; 4096];
    loop {
        match rustix::io::read(fd, &mut events) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Takes what a descriptor of [`growth`] reported: whether that was more than that files grew.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn names_came(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reported = inotify::Reader::new(fd, &mut buffer);
    let mut came = false;
    loop {
        match reported.next() {
            // Also that there was too much to report.
            Ok(event) => came |= event.events() != ReadFlags::MODIFY,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(came),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Wakes a thread that polls it.
#[derive(Debug)]
pub(crate) struct Alarm(OwnedFd);

impl Alarm {
    /// A silent one.
    ///
    /// # Errors
    /// When out of descriptors.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(eventfd(
            0,
            EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK,
        )?))
    }

    /// Makes it readable.
    pub(crate) fn ring(&self) {
        // Full means it has rung often enough already.
        rustix::io::write(&self.0, &1_u64.to_ne_bytes()).ok();
    }

    /// Makes it silent.
    pub(crate) fn heard(&self) {
        rustix::io::read(&self.0, &mut [0; 8]).ok();
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Gives the space of a file's first bytes back; they read as zeros then.
///
/// # Errors
/// Where the file system cannot: NFS, for one.
pub(crate) fn give_back(file: &File, length: u64) -> io::Result<()> {
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    Ok(fallocate(file, punch, 0, length)?)
}
