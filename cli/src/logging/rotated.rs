//! A file that lines are appended to and that begins anew when it has grown.
//!
//! Rotation renames, and a line is written before it is looked at the size: no line is lost by it,
//! whoever else has the file open. Where it cannot be done the file grows on.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use tithon_ipc::logs;

pub(super) struct Rotated {
    path: PathBuf,
    file: File,
    limit: u64,
    /// How large the file is, as far as we know: others may append to it.
    size: u64,
    /// Whether the last line was not written to its end.
    torn: bool,
}

impl Rotated {
    /// Opens a log, new or to be continued, that begins anew at `limit` bytes.
    ///
    /// # Errors
    /// When it cannot be opened for writing, or is a symbolic link.
    pub(super) fn open(path: &Path, limit: u64) -> io::Result<Self> {
        let file = open(path)?;
        let size = file.metadata()?.len();
        Ok(Self {
            path: path.to_owned(),
            file,
            limit,
            size,
            torn: false,
        })
    }

    /// Appends a whole line, its end included. On a full disk it is lost, and the next one that fits
    /// begins a line of its own.
    pub(super) fn append(&mut self, line: &[u8]) {
        // O_APPEND and one write keep the lines of several threads and processes apart.
        let written = if self.torn {
            let mut whole = Vec::with_capacity(line.len() + 1);
            whole.push(b'\n');
            whole.extend_from_slice(line);
            self.file.write_all(&whole)
        } else {
            self.file.write_all(line)
        };
        self.torn = written.is_err();
        self.size += line.len() as u64;
        if self.size >= self.limit {
            self.size = match self.rotate() {
                Ok(size) => size,
                // Not with every line: it failed, and is likely to fail again.
                Err(_) => self.limit / 2,
            };
        }
    }

    /// Begins a new file; returns the size of the one that is now written to.
    fn rotate(&mut self) -> io::Result<u64> {
        // Another process may have the log open and be about to do the same.
        flock(&self.file, FlockOperation::NonBlockingLockExclusive)?;
        let old = identity(&self.file)?;
        if std::fs::metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == old) {
            if self.file.metadata()?.len() < self.limit {
                flock(&self.file, FlockOperation::Unlock)?;
                return Ok(self.file.metadata()?.len());
            }
            logs::shift(&self.path)?;
        }
        // Renamed away by whoever was first, or by us.
        let new = open(&self.path)?;
        // A panic's words go where the log goes.
        if identity(io::stderr()).is_ok_and(|stderr| stderr == old) {
            rustix::stdio::dup2_stderr(&new)?;
        }
        self.file = new;
        Ok(self.file.metadata()?.len())
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
}

/// Device and inode.
fn identity(file: impl std::os::fd::AsFd) -> io::Result<(u64, u64)> {
    let found = File::from(file.as_fd().try_clone_to_owned()?).metadata()?;
    Ok((found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that was written and not yet thrown away, oldest first.
    fn left(path: &Path) -> String {
        (0..=logs::OLDER)
            .rev()
            .filter_map(|n| std::fs::read_to_string(logs::older(path, n)).ok())
            .collect()
    }

    #[test]
    fn what_is_left_is_bounded_and_without_a_gap() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let mut lines = String::new();
        for round in 0..4 {
            // A process that starts anew goes on where the last one was.
            let mut log = Rotated::open(&path, 1000).unwrap();
            for n in 0..100 {
                let line = format!("line {round} {n}\n");
                log.append(line.as_bytes());
                lines.push_str(&line);
                let size = std::fs::metadata(&path).unwrap().len();
                assert!(size < 1000, "{size}");
            }
        }
        let left = left(&path);
        assert!(lines.ends_with(&left), "{left}");
        assert!((2000..3100).contains(&left.len()), "{}", left.len());
    }

    #[test]
    fn two_writers_rotate_once_and_lose_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let mut writers = [
            Rotated::open(&path, 2000).unwrap(),
            Rotated::open(&path, 2000).unwrap(),
        ];
        for n in 0..300 {
            writers[n % 2].append(format!("{n:04}\n").as_bytes());
        }
        let left = left(&path);
        let mut numbers: Vec<usize> = left.lines().map(|line| line.parse().unwrap()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..300).collect::<Vec<_>>());
    }

    #[test]
    fn a_link_in_the_logs_place_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("x.log");
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), &link).unwrap();
        assert!(Rotated::open(&link, 1000).is_err());
    }
}
