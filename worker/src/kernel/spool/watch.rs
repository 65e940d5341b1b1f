//! Tells when a spool directory may hold more: by the system's word on its segments' names and sizes, or,
//! where there is none to be had, by a timer.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use crate::platform::{Timer, growth, names_came, read_all};

/// How often is looked where nobody says when, in nanoseconds: short enough for eyes while a kernel
/// says something, and longer the longer it does not, for there may be hundreds of them.
const SHORTEST: i64 = 50_000_000;
const LONGEST: i64 = 200_000_000;

/// A descriptor that is readable when it is time to look.
pub(super) enum Watch {
    Told(OwnedFd),
    Timed { timer: Timer, interval: i64 },
}

impl Watch {
    pub(super) fn new(dir: &Path) -> io::Result<Self> {
        Ok(match growth(dir)? {
            Some(told) => Self::Told(told),
            None => Self::Timed {
                timer: Timer::new(SHORTEST)?,
                interval: SHORTEST,
            },
        })
    }

    /// Takes note of whether the last look found anything.
    pub(super) fn looked(&mut self, found: bool) -> io::Result<()> {
        let Self::Timed { timer, interval } = self else {
            return Ok(());
        };
        let next = if found {
            SHORTEST
        } else {
            LONGEST.min(*interval * 2)
        };
        if next != *interval {
            timer.every(next)?;
            *interval = next;
        }
        Ok(())
    }

    /// Forgets what was reported so far; to be called before looking, never after. Whether there may be
    /// files that were not there before.
    pub(super) fn drain(&self) -> io::Result<bool> {
        match self {
            Self::Told(told) => names_came(told.as_fd()),
            Self::Timed { timer, .. } => read_all(timer.as_fd()).map(|()| true),
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Told(told) => told.as_fd(),
            Self::Timed { timer, .. } => timer.as_fd(),
        }
    }
}
