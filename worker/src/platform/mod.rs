//! What a worker asks of Linux and of macOS, each in its own way: to be told of a file that grew, to be
//! woken, to give space back. The macOS half is compiled but was never run (ARCHITECTURE.md, Platforms).

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub(crate) use linux::{Alarm, FULL_FSYNC, Timer, give_back, growth, names_came, read_all};

#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "macos")]
pub(crate) use macos::{Alarm, FULL_FSYNC, Timer, give_back, growth, names_came, read_all};

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        os::fd::{AsFd, BorrowedFd},
        os::unix::fs::MetadataExt,
    };

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    fn is_readable(fd: BorrowedFd<'_>, wait: i64) -> bool {
        let mut fds = [PollFd::new(&fd, PollFlags::IN)];
        let wait = Timespec {
            tv_sec: wait,
            tv_nsec: 0,
        };
        matches!(poll(&mut fds, Some(&wait)), Ok(1))
    }

    #[test]
    fn an_alarm_is_heard_once_however_often_it_rang() {
        let alarm = Alarm::new().unwrap();
        assert!(!is_readable(alarm.as_fd(), 0));
        for _ in 0..100_000 {
            alarm.ring();
        }
        assert!(is_readable(alarm.as_fd(), 60));
        alarm.heard();
        assert!(!is_readable(alarm.as_fd(), 0));
        alarm.ring();
        assert!(is_readable(alarm.as_fd(), 60));
    }

    #[test]
    fn a_timer_goes_off_again_and_again() {
        let mut timer = Timer::new(1_000_000).unwrap();
        for interval in [1_000_000, 2_000_000] {
            timer.every(interval).unwrap();
            for _ in 0..2 {
                assert!(is_readable(timer.as_fd(), 60));
                read_all(timer.as_fd()).unwrap();
            }
        }
    }

    #[test]
    fn space_is_given_back_and_the_length_stays() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![1; 1 << 20]).unwrap();
        file.sync_all().unwrap();
        let before = file.metadata().unwrap();
        give_back(&file, 1 << 19).unwrap();
        let after = file.metadata().unwrap();
        assert_eq!(after.len(), before.len());
        assert!(after.blocks() < before.blocks());
    }
}
