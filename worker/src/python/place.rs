//! The places of lent `ipykernel`s under `TITHON_HOME/envs`: whole or absent, made by one at a time.
//!
//! ```text
//! cpython-311-x86_64-linux-gnu-1f0c93ab/          complete, or not there at all
//!     site/                                       what TITHON_SITE names
//!     receipt.json                                what it holds, and for which Python
//! cpython-311-x86_64-linux-gnu-1f0c93ab.lock      held (flock) while it is being made
//! cpython-311-x86_64-linux-gnu-1f0c93ab.new-4711/ being made; swept by the next maker
//! ```
//!
//! A complete one is never changed, since living kernels import from it: whatever would make it
//! unfit (another base Python, another C library, another range of versions) is part of its name.

use std::fs::File;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::error::PythonError;

/// How often a lock somebody else holds is tried.
const RETRY: Duration = Duration::from_millis(100);

/// An `ipykernel` beside the user's packages.
pub(super) struct Lent {
    /// Directory to append to `sys.path`.
    pub(super) site: String,
    /// Its version.
    pub(super) ipykernel: String,
}

/// What was made, for those who look into the directory.
#[derive(Serialize, Deserialize)]
pub(super) struct Receipt {
    pub(super) ipykernel: String,
    pub(super) requirement: String,
    pub(super) python: String,
    pub(super) base_prefix: PathBuf,
    pub(super) platform: String,
    pub(super) libc: String,
}

/// Where one environment is, finished or not.
pub(super) struct Place<'a> {
    pub(super) envs: &'a Path,
    pub(super) name: String,
}

impl Place<'_> {
    fn path(&self, suffix: &str) -> PathBuf {
        self.envs.join(format!("{}{suffix}", self.name))
    }

    /// The environment, if it is there and whole (somebody may have tidied up inside it).
    pub(super) fn finished(&self) -> Option<Lent> {
        let dir = self.path("");
        let receipt: Receipt =
            serde_json::from_slice(&std::fs::read(dir.join("receipt.json")).ok()?).ok()?;
        let site = dir.join("site");
        if !site.join("ipykernel_launcher.py").is_file() || !site.join("ipykernel").is_dir() {
            return None;
        }
        Some(Lent {
            site: site.to_str()?.to_owned(),
            ipykernel: receipt.ipykernel,
        })
    }

    /// Waits for the right to make this environment, held until the answer is dropped.
    pub(super) fn lock(
        &self,
        limit: Duration,
        deadline: Instant,
        progress: &mut dyn FnMut(&str),
    ) -> Result<File, PythonError> {
        private_dir(self.envs).map_err(|source| io("create", self.envs, source))?;
        let path = self.path(".lock");
        let file = std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|source| io("open", &path, source))?;
        let mut announced = false;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(file),
                Err(Errno::WOULDBLOCK | Errno::INTR) => {}
                Err(errno) => return Err(io("lock", &path, errno.into())),
            }
            if Instant::now() >= deadline {
                return Err(PythonError::Busy {
                    lock: path,
                    waited: limit,
                });
            }
            if !announced {
                progress("another session is making a place for ipykernel; waiting for it …");
                announced = true;
            }
            std::thread::sleep(RETRY);
        }
    }

    /// A directory to make the environment in. The lock is held, so what other makers have left there
    /// is of those that were killed.
    pub(super) fn begin(&self) -> Result<New, PythonError> {
        self.sweep();
        // Named by process: the installer of a maker that was killed may go on for a while.
        let path = self.path(&format!(".new-{}", std::process::id()));
        private_dir(&path).map_err(|source| io("create", &path, source))?;
        Ok(New { path })
    }

    fn sweep(&self) {
        let stale = format!("{}.new-", self.name);
        let Ok(entries) = self.envs.read_dir() else {
            return;
        };
        for entry in entries.filter_map(Result::ok) {
            if entry
                .file_name()
                .to_str()
                .is_some_and(|name| name.starts_with(&stale))
            {
                let _swept_next_time = std::fs::remove_dir_all(entry.path());
            }
        }
    }

    /// Makes a tried environment the one everybody finds.
    pub(super) fn publish(&self, new: New, receipt: &Receipt) -> Result<Lent, PythonError> {
        let path = new.path.join("receipt.json");
        let text =
            serde_json::to_vec_pretty(receipt).map_err(|error| io("write", &path, error.into()))?;
        std::fs::write(&path, text).map_err(|source| io("write", &path, source))?;
        // Everything is on disk before the name is: a power cut must not leave a whole-looking site
        // of empty files.
        flush(&new.path);
        let finished = self.path("");
        if finished.symlink_metadata().is_ok() {
            std::fs::remove_dir_all(&finished)
                .map_err(|source| io("replace", &finished, source))?;
        }
        std::fs::rename(&new.path, &finished).map_err(|source| io("create", &finished, source))?;
        self.finished().ok_or_else(|| PythonError::Lend {
            python: receipt.python.clone(),
            words: "it was gone as soon as it was made".to_owned(),
            hint: format!("see who else tidies up in {}", self.envs.display()),
        })
    }
}

/// A directory that goes with its maker unless it is renamed away.
pub(super) struct New {
    pub(super) path: PathBuf,
}

impl Drop for New {
    fn drop(&mut self) {
        let _renamed_away = std::fs::remove_dir_all(&self.path);
    }
}

fn private_dir(path: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

fn flush(dir: &Path) {
    #[cfg(target_os = "linux")]
    if let Ok(dir) = File::open(dir) {
        let _as_good_as_it_gets = rustix::fs::syncfs(&dir);
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _unused = dir;
        rustix::fs::sync();
    }
}

pub(super) fn io(doing: &'static str, path: &Path, source: std::io::Error) -> PythonError {
    PythonError::Io {
        doing,
        path: path.to_owned(),
        source,
    }
}
