//! `kernel.log`: what the kernel's process writes to its own stdout and stderr.
//!
//! The kernel writes by itself, through descriptors it had from the start: nothing can be stamped on
//! the way, and nothing is lost when the worker dies. So it is looked at now and then: how far it has
//! grown goes into the worker's log, which dates the words, and the space of all but the newest is
//! given back. A hole is punched for that, because a file that was copied and truncated instead would
//! lose what the kernel writes in between.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use tithon_ipc::logs;

use crate::platform;

/// Holes begin and end with blocks; no file system has larger ones.
const BLOCK: u64 = 64 << 10;

/// Opens a session's `kernel.log` for a kernel that is about to start; one that has grown is put aside.
///
/// # Errors
/// When it cannot be opened, or is a symbolic link.
pub(crate) fn open(dir: &Path) -> io::Result<File> {
    let path = logs::kernel(dir);
    if fs::symlink_metadata(&path).is_ok_and(|found| found.is_file() && found.len() >= logs::size())
    {
        logs::shift(&path)?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
}

/// Keeps an eye on a session's `kernel.log`.
#[derive(Debug)]
pub(crate) struct KernelLog {
    path: PathBuf,
    /// The file, by device and inode, and how far it is dated.
    told: Option<((u64, u64), u64)>,
    limit: u64,
    is_bounded: bool,
}

impl KernelLog {
    /// The log of the session in `dir`; what is in it was dated by an earlier worker, or never is.
    pub(crate) fn of(dir: &Path) -> Self {
        let path = logs::kernel(dir);
        let told = fs::metadata(&path).ok();
        Self {
            told: told.map(|found| ((found.dev(), found.ino()), found.len())),
            path,
            limit: logs::size(),
            is_bounded: true,
        }
    }

    /// Dates what was written since the last look, and gives back the space of what is old.
    pub(crate) fn look(&mut self) {
        // No kernel has started yet, or somebody cleaned up.
        let Ok(found) = fs::metadata(&self.path) else {
            return;
        };
        let (file, to) = ((found.dev(), found.ino()), found.len());
        let from = match self.told {
            Some((told, from)) if told == file => from,
            _ => 0,
        };
        self.told = Some((file, to));
        if to > from {
            let at = found
                .modified()
                .ok()
                .and_then(|at| at.duration_since(UNIX_EPOCH).ok())
                .map_or(0.0, |at| at.as_secs_f64());
            let inode = file.1;
            tracing::info!(inode, from, to, at, "{}", logs::KERNEL_WROTE);
        }
        // In units of 512 bytes whatever the file system.
        let taken = found.blocks().saturating_mul(512);
        if self.is_bounded && taken > self.limit.saturating_mul(2) {
            self.give_back(to);
        }
    }

    fn give_back(&mut self, length: u64) {
        let old = length.saturating_sub(self.limit) / BLOCK * BLOCK;
        if old == 0 {
            return;
        }
        let punched = OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&self.path)
            .and_then(|file| platform::give_back(&file, old));
        if let Err(err) = punched {
            // NFS, for one. A restart of the kernel begins a new file.
            self.is_bounded = false;
            tracing::warn!("kernel.log grows until the kernel is restarted: {err}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn old_words_give_their_space_back_and_new_ones_stay() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = open(dir.path()).unwrap();
        let mut log = KernelLog::of(dir.path());
        log.limit = 1 << 20;
        let chunk = [b'x'; 1 << 16];
        for _ in 0..100 {
            file.write_all(&chunk).unwrap();
            log.look();
            let found = file.metadata().unwrap();
            assert!(found.blocks() * 512 <= (2 << 20) + chunk.len() as u64);
        }
        file.write_all(b"last\n").unwrap();
        log.look();
        let words = fs::read(logs::kernel(dir.path())).unwrap();
        assert_eq!(words.len(), 100 * chunk.len() + 5);
        assert!(words.ends_with(b"xlast\n"));
        let kept = &words[words.len() - (1 << 20)..];
        assert!(!kept.contains(&0));
    }

    #[test]
    fn a_kernel_begins_a_new_file_when_the_old_one_has_grown() {
        let dir = tempfile::tempdir().unwrap();
        let path = logs::kernel(dir.path());
        fs::write(&path, "little\n").unwrap();
        drop(open(dir.path()).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "little\n");
        File::create(&path).unwrap().set_len(logs::size()).unwrap();
        drop(open(dir.path()).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
        assert_eq!(
            fs::metadata(logs::older(&path, 1)).unwrap().len(),
            logs::size()
        );
    }
}
