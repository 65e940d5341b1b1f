//! What libproc and sysctl say of a process.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{super::procargs, sysctl};

/// When a process started, in microseconds of the wall clock; `None` when there is none of that pid.
///
/// # Errors
/// When the system does not tell for another reason.
pub fn start_time(pid: i32) -> io::Result<Option<u64>> {
    Ok(sysctl::bsd_info(pid)?.map(|info| {
        info.pbi_start_tvsec
            .saturating_mul(1_000_000)
            .saturating_add(info.pbi_start_tvusec)
    }))
}

/// The current boot's id; empty where it cannot be read.
pub fn boot_id() -> String {
    sysctl::text(c"kern.bootsessionuuid").unwrap_or_default()
}

/// A start time by the wall clock.
///
/// # Errors
/// None; Linux has some.
pub fn began(start_time: u64) -> io::Result<SystemTime> {
    Ok(UNIX_EPOCH + Duration::from_micros(start_time))
}

/// The user whose process it is.
///
/// # Errors
/// When there is no such process.
pub fn owner(pid: i32) -> io::Result<u32> {
    let info = sysctl::bsd_info(pid)?.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    Ok(info.pbi_uid)
}

/// Every process there is.
pub fn all() -> Vec<i32> {
    sysctl::all_pids()
}

/// The environment a process was started with, as `NAME=value`; `None` of those of other users and of
/// programs that macOS protects.
pub fn environment(pid: i32) -> Option<Vec<OsString>> {
    Some(procargs::parse(&sysctl::arguments(pid).ok()?)?.1)
}

/// A process's command line, as it was started.
///
/// # Errors
/// When there is no such process, or it is somebody else's.
pub fn command_line(pid: i32) -> io::Result<Vec<OsString>> {
    procargs::parse(&sysctl::arguments(pid)?)
        .map(|(arguments, _)| arguments)
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// Its parent.
pub fn parent(pid: i32) -> Option<i32> {
    i32::try_from(sysctl::bsd_info(pid).ok()??.pbi_ppid).ok()
}

/// Its children.
pub fn children(pid: i32) -> Vec<i32> {
    sysctl::child_pids(pid)
}

/// Its resident set, in bytes.
pub fn resident(pid: i32) -> Option<u64> {
    Some(sysctl::usage(pid)?.ri_resident_size)
}

/// User and system time in seconds, its own and that of children it has waited for.
#[expect(clippy::cast_precision_loss, reason = "a time, shown with one decimal")]
pub fn cpu_seconds(pid: i32) -> Option<f64> {
    let used = sysctl::usage(pid)?;
    let units = [
        used.ri_user_time,
        used.ri_system_time,
        used.ri_child_user_time,
        used.ri_child_system_time,
    ];
    let units = units.into_iter().fold(0, u64::saturating_add);
    Some(units as f64 * sysctl::nanoseconds_per_unit() / 1e9)
}

/// Whether it runs the file of this device and inode; a process that has ended runs none. macOS tells the
/// path of the file: one that was replaced there counts as run.
pub fn runs(pid: i32, file: (u64, u64)) -> bool {
    sysctl::program(pid)
        .and_then(|path| fs::metadata(path).ok())
        .is_some_and(|exe| (exe.dev(), exe.ino()) == file)
}

/// Whether it has a file open that was at this path and was removed; macOS does not tell, so it does not.
pub fn holds_deleted(_pid: i32, _path: &Path) -> bool {
    false
}
