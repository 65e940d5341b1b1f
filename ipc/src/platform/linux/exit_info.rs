//! How a process ended that is not our child. While it is a zombie `/proc` says so; from Linux 6.15 on
//! its pidfd does afterwards.

use std::{
    fs,
    os::{fd::BorrowedFd, unix::process::ExitStatusExt},
    process::ExitStatus,
};

use rustix::ioctl::{Opcode, Updater, ioctl, opcode};

use super::process::start_in;

/// `struct pidfd_info` of `linux/pidfd.h`, as far as its first version goes.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    /// In: what is asked for. Out: what is told.
    mask: u64,
    cgroup_id: u64,
    ids: [u32; 11],
    exit_code: i32,
}

const GET_INFO: Opcode = opcode::read_write::<PidfdInfo>(0xff, 11);
const INFO_EXIT: u64 = 1 << 3;

/// The exit status of a process that its parent has not waited for yet.
pub(crate) fn of_zombie(pid: i32, started: u64) -> Option<ExitStatus> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    let zombie = start_in(&stat) == Some(started) && after_name.trim_start().starts_with('Z');
    let code = after_name.split_ascii_whitespace().last()?.parse().ok()?;
    zombie.then(|| ExitStatus::from_raw(code))
}

/// The exit status of a process that its parent has waited for; `None` before, and always on an
/// older Linux.
pub(crate) fn of_gone(pidfd: BorrowedFd<'_>) -> Option<ExitStatus> {
    let mut info = PidfdInfo {
        mask: INFO_EXIT,
        ..PidfdInfo::default()
    };
    get(pidfd, &mut info).ok()?;
    (info.mask & INFO_EXIT != 0).then(|| ExitStatus::from_raw(info.exit_code))
}

#[expect(unsafe_code, reason = "rustix has no call for this ioctl yet")]
fn get(pidfd: BorrowedFd<'_>, info: &mut PidfdInfo) -> rustix::io::Result<()> {
    // SAFETY: the opcode is made of the type it goes with, which has the layout the kernel knows as
    // PIDFD_INFO_SIZE_VER0; the kernel writes no more than the size in the opcode.
    unsafe { ioctl(pidfd, Updater::<{ GET_INFO }, PidfdInfo>::new(info)) }
}

#[cfg(test)]
mod tests {
    use std::{os::fd::AsFd, process::Command};

    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    use super::*;
    use crate::process::ProcessIdentity;

    #[test]
    fn an_exit_status_is_known_before_its_parent_asks_and_on_a_recent_linux_after() {
        let mut child = Command::new("sh").args(["-c", "exit 3"]).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let identity = ProcessIdentity::of(pid).unwrap().unwrap();
        let pidfd = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap();
        let ended = rustix::event::PollFlags::IN;
        let mut fds = [rustix::event::PollFd::new(&pidfd, ended)];
        rustix::event::poll(&mut fds, None).unwrap();
        assert_eq!(
            of_zombie(pid, identity.start_time).and_then(|status| status.code()),
            Some(3)
        );
        assert_eq!(of_zombie(pid, identity.start_time + 1), None);
        assert_eq!(of_gone(pidfd.as_fd()), None);
        child.wait().unwrap();
        assert_eq!(of_zombie(pid, identity.start_time), None);
        assert!(matches!(
            of_gone(pidfd.as_fd()).map(|status| status.code()),
            Some(Some(3)) | None
        ));
    }
}
