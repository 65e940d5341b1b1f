//! What the writers and the readers of logs must agree on: how large a log grows, what older ones are
//! called, and how a worker says when its kernel wrote.

use std::{
    env,
    path::{Path, PathBuf},
};

/// How many older files are kept beside a log.
pub const OLDER: usize = 2;

/// The message by which a worker dates what its kernel appended to `kernel.log`, with the fields
/// `inode`, `from`, `to` (bytes) and `at` (unix time of the last write).
pub const KERNEL_WROTE: &str = "the kernel wrote to kernel.log";

/// Bytes at which a log begins anew, unless `TITHON_LOG_SIZE` says otherwise.
const SIZE: u64 = 4 << 20;
/// A log below this would be all rotation.
const SIZE_MIN: u64 = 1 << 10;

/// `TITHON_LOG_SIZE`: bytes at which a log begins anew.
pub fn size() -> u64 {
    env::var("TITHON_LOG_SIZE")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .map_or(SIZE, |size: u64| size.max(SIZE_MIN))
}

/// The supervisor's log, in its home.
pub const SUPERVISOR: &str = "daemon.log";

/// A worker's log, in its session's directory.
pub fn worker(dir: &Path) -> PathBuf {
    dir.join("worker.log")
}

/// What a kernel's process wrote to its own stdout and stderr, in its session's directory.
pub fn kernel(dir: &Path) -> PathBuf {
    dir.join("kernel.log")
}

/// The name of a log's `n`th older file; 0 is the log itself.
pub fn older(log: &Path, n: usize) -> PathBuf {
    match n {
        0 => log.to_owned(),
        n => {
            let mut name = log.as_os_str().to_owned();
            name.push(format!(".{n}"));
            name.into()
        }
    }
}

/// Makes room for a new file under a log's name: every older one moves on, and the last one goes.
///
/// Renamed only: whoever has the file open goes on writing to it, and nothing is lost.
///
/// # Errors
/// When the log itself cannot be renamed.
pub fn shift(log: &Path) -> std::io::Result<()> {
    for n in (1..OLDER).rev() {
        // There may be none of that age yet.
        drop(std::fs::rename(older(log, n), older(log, n + 1)));
    }
    std::fs::rename(log, older(log, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_log_goes_when_a_new_one_comes() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("x.log");
        for text in ["1", "2", "3", "4"] {
            std::fs::write(&log, text).unwrap();
            shift(&log).unwrap();
        }
        let left = |n| std::fs::read_to_string(older(&log, n)).ok();
        assert_eq!(
            [left(0), left(1), left(2), left(3)],
            [None, Some("4".to_owned()), Some("3".to_owned()), None]
        );
        assert!(shift(&log).is_err());
    }
}
