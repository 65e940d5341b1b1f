//! macOS: a kqueue's timer, a pipe, holes in files. Compiled, never run.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
    ptr,
    time::Duration,
};

use rustix::{
    event::kqueue::{Event, EventFilter, EventFlags, kevent, kqueue},
    fs::{OFlags, fcntl_setfl},
    io::{Errno, FdFlags, fcntl_setfd},
};

/// Whether SQLite is to ask for more than fsync: on macOS that reaches the disk's own memory only.
pub(crate) const FULL_FSYNC: bool = true;

/// A descriptor that is readable when a file in `dir` grew or came; `None` where a [`Timer`] must do. A
/// kqueue tells of files it holds open, not of those that come: so always.
///
/// # Errors
/// None; Linux has some.
pub(crate) fn growth(_dir: &Path) -> io::Result<Option<OwnedFd>> {
    Ok(None)
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
        let mut timer = Self(kqueue()?);
        timer.every(interval)?;
        Ok(timer)
    }

    /// Changes the interval.
    ///
    /// # Errors
    /// When it is negative.
    pub(crate) fn every(&mut self, interval: i64) -> io::Result<()> {
        let nanoseconds = u64::try_from(interval).map_err(io::Error::other)?;
        let timer = EventFilter::Timer {
            ident: 0,
            // Added again it takes the place of the one before. Not a whole number of seconds: rustix
            // takes those that are for a count of seconds.
            timer: Some(Duration::from_nanos(nanoseconds | 1)),
        };
        let event = Event::new(timer, EventFlags::ADD, ptr::null_mut());
        call(self.0.as_fd(), &[event], &mut [], None)?;
        Ok(())
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Forgets what a [`Timer`] has told so far.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn read_all(fd: BorrowedFd<'_>) -> io::Result<()> {
    let none = EventFilter::Timer {
        ident: 0,
        timer: None,
    };
    let mut told = [Event::new(none, EventFlags::empty(), ptr::null_mut())];
    loop {
        match call(fd, &[], &mut told, Some(Duration::ZERO)) {
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(err) => return Err(err.into()),
        }
    }
}

/// Whether there may be new files: always, as nothing tells.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn names_came(fd: BorrowedFd<'_>) -> io::Result<bool> {
    read_all(fd).map(|()| true)
}

#[expect(
    unsafe_code,
    reason = "kevent's events may carry descriptors; those of a timer carry none"
)]
fn call(
    queue: BorrowedFd<'_>,
    changes: &[Event],
    told: &mut [Event],
    wait: Option<Duration>,
) -> rustix::io::Result<usize> {
    // SAFETY: only timers are ever added, which name no descriptor that would have to stay open.
    unsafe { kevent(queue, changes, told, wait) }
}

/// Wakes a thread that polls it.
#[derive(Debug)]
pub(crate) struct Alarm {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl Alarm {
    /// A silent one.
    ///
    /// # Errors
    /// When out of descriptors.
    pub(crate) fn new() -> io::Result<Self> {
        let (reader, writer) = rustix::pipe::pipe()?;
        for end in [&reader, &writer] {
            fcntl_setfd(end, FdFlags::CLOEXEC)?;
            fcntl_setfl(end, OFlags::NONBLOCK)?;
        }
        Ok(Self { reader, writer })
    }

    /// Makes it readable.
    pub(crate) fn ring(&self) {
        // Full means it has rung often enough already.
        rustix::io::write(&self.writer, &[1]).ok();
    }

    /// Makes it silent.
    pub(crate) fn heard(&self) {
        let mut rung = [0; 4096];
        while matches!(rustix::io::read(&self.reader, &mut rung), Ok(length) if length == rung.len())
        {
        }
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

/// Gives the space of a file's first bytes back; they read as zeros then.
///
/// # Errors
/// Where the file system cannot; APFS can.
#[expect(unsafe_code, reason = "rustix has no call for F_PUNCHHOLE")]
pub(crate) fn give_back(file: &File, length: u64) -> io::Result<()> {
    let hole = libc::fpunchhole_t {
        fp_flags: 0,
        reserved: 0,
        fp_offset: 0,
        fp_length: i64::try_from(length).map_err(io::Error::other)?,
    };
    // SAFETY: the command takes a pointer to such a structure, and keeps nothing of it.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_PUNCHHOLE, &raw const hole) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
