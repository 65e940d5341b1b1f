//! What `/proc` says of a process.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::{ffi::OsStringExt, fs::MetadataExt},
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// When a process started, in clock ticks since boot (`/proc/PID/stat`, field 22); `None` when there is
/// none of that pid.
///
/// # Errors
/// When `/proc` cannot be read for another reason.
pub fn start_time(pid: i32) -> io::Result<Option<u64>> {
    let stat = match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat,
        Err(err) if matches!(err.kind(), io::ErrorKind::NotFound) => return Ok(None),
        Err(err) if err.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
        Err(err) => return Err(err),
    };
    match start_in(&stat) {
        Some(started) => Ok(Some(started)),
        None => Err(io::Error::other(format!(
            "/proc/{pid}/stat has no start time"
        ))),
    }
}

/// The current boot's id; empty where it cannot be read.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}

/// A start time by the wall clock.
///
/// # Errors
/// When `/proc/stat` cannot be read.
pub fn began(start_time: u64) -> io::Result<SystemTime> {
    let stat = fs::read_to_string("/proc/stat")?;
    let boot = stat
        .lines()
        .find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
        .ok_or_else(|| io::Error::other("/proc/stat has no boot time"))?;
    let ticks = rustix::param::clock_ticks_per_second().max(1);
    Ok(UNIX_EPOCH + Duration::from_secs(boot) + Duration::from_secs(start_time / ticks))
}

/// The user whose process it is.
///
/// # Errors
/// When there is no such process.
pub fn owner(pid: i32) -> io::Result<u32> {
    Ok(fs::metadata(format!("/proc/{pid}"))?.uid())
}

/// Every process there is.
pub fn all() -> Vec<i32> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// The environment a process was started with, as `NAME=value`.
pub fn environment(pid: i32) -> Option<Vec<OsString>> {
    fs::read(format!("/proc/{pid}/environ")).ok().map(words)
}

/// A process's command line, which it may have changed.
///
/// # Errors
/// When there is no such process, or it is somebody else's and secret.
pub fn command_line(pid: i32) -> io::Result<Vec<OsString>> {
    fs::read(format!("/proc/{pid}/cmdline")).map(words)
}

/// Its parent.
pub fn parent(pid: i32) -> Option<i32> {
    field(pid, 1)?.parse().ok()
}

/// Its children.
pub fn children(pid: i32) -> Vec<i32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|pids| {
            pids.split_ascii_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Its resident set, in bytes.
pub fn resident(pid: i32) -> Option<u64> {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// User and system time in seconds, its own and that of children it has waited for.
#[expect(
    clippy::cast_precision_loss,
    reason = "a count of clock ticks, shown with one decimal"
)]
pub fn cpu_seconds(pid: i32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    // utime, stime, cutime, cstime: fields 14 to 17, counted from the one after the name.
    let ticks: u64 = after_name
        .split_ascii_whitespace()
        .skip(11)
        .take(4)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Some(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Whether it runs the file of this device and inode; a process that has ended runs none.
pub fn runs(pid: i32, file: (u64, u64)) -> bool {
    fs::metadata(format!("/proc/{pid}/exe")).is_ok_and(|exe| (exe.dev(), exe.ino()) == file)
}

/// Whether it has a file open that was at this path and was removed.
pub fn holds_deleted(pid: i32, path: &Path) -> bool {
    let mut deleted = path.as_os_str().to_owned();
    deleted.push(" (deleted)");
    fs::read_dir(format!("/proc/{pid}/fd")).is_ok_and(|fds| {
        fds.flatten()
            .any(|fd| fs::read_link(fd.path()).is_ok_and(|target| target.as_os_str() == deleted))
    })
}

/// A field of `/proc/PID/stat`, counted from the one behind the name.
fn field(pid: i32, nth: usize) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    Some(after_name.split_ascii_whitespace().nth(nth)?.to_owned())
}

pub(super) fn start_in(stat: &str) -> Option<u64> {
    // The command's name may hold anything, a closing bracket included: count from its last one.
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(19)?.parse().ok()
}

fn words(mut block: Vec<u8>) -> Vec<OsString> {
    if block.last() == Some(&0) {
        block.pop();
    }
    let words = block.split(|byte| *byte == 0);
    words
        .map(|word| OsString::from_vec(word.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_time_is_found_behind_any_name() {
        let fields = "S 1 2 3 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4711 0";
        assert_eq!(start_in(&format!("7 (a) b (c)) {fields}")), Some(4711));
        assert_eq!(start_in("7 no name"), None);
    }

    #[test]
    fn this_process_is_described() {
        let me = i32::try_from(std::process::id()).unwrap();
        assert!(all().contains(&me));
        assert_eq!(owner(me).unwrap(), rustix::process::geteuid().as_raw());
        assert!(children(parent(me).unwrap()).contains(&me));
        let began = began(start_time(me).unwrap().unwrap()).unwrap();
        let ago = SystemTime::now().duration_since(began).unwrap_or_default();
        assert!(ago < Duration::from_secs(24 * 3600), "{ago:?}");
        let exe = fs::metadata(std::env::current_exe().unwrap()).unwrap();
        assert!(runs(me, (exe.dev(), exe.ino())));
        assert!(!runs(me, (exe.dev(), exe.ino() + 1)));
        let command: Vec<_> = std::env::args_os().collect();
        assert_eq!(command_line(me).unwrap(), command);
        assert_eq!(start_time(i32::MAX).unwrap(), None);
    }

    #[test]
    fn a_removed_file_that_is_open_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let me = i32::try_from(std::process::id()).unwrap();
        let path = dir.path().join("lock");
        let _open = fs::File::create(&path).unwrap();
        assert!(!holds_deleted(me, &path));
        fs::remove_file(&path).unwrap();
        assert!(holds_deleted(me, &path));
    }
}
