//! The small files of a session directory, written to a temporary name and renamed.
//!
//! Those that outlive a boot survive a power loss. The others name processes and sockets, which do not: they
//! may be lost or torn, and whoever reads them makes nothing of it.

use std::{
    ffi::OsStr,
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{ids::SessionId, process::ProcessIdentity};

/// Largest of these files that is read; all of ours are far smaller.
const FILE_MAX: u64 = 16 << 20;

/// Tells the temporary files of one process apart.
static WRITES: AtomicU64 = AtomicU64::new(0);

/// Writes a file so that a reader sees the old content or the new, mode 0600 from the first instant.
///
/// After a power loss it may hold anything; see [`write_durable`].
///
/// # Errors
/// Those of creating, writing or renaming; the temporary file is removed.
pub fn write_atomic(path: &Path, content: &[u8]) -> io::Result<()> {
    replace(path, content, |_| Ok(()))
}

/// The same, and also after a power loss a reader sees the old content or the new, and from this call's
/// return on the new.
///
/// # Errors
/// Those of [`write_atomic`] and of syncing.
pub fn write_durable(path: &Path, content: &[u8]) -> io::Result<()> {
    // Before the rename, or the name could reach the disk before the content does.
    replace(path, content, fs::File::sync_data)?;
    sync_directory(path.parent().unwrap_or(path))
}

/// Puts the names in a directory, and its own and those of its parents up to and including `top`, on the
/// disk: a file that is synced is of no use in a directory that is not.
///
/// # Errors
/// Where a directory of these cannot be opened or synced.
pub fn sync_names(dir: &Path, top: &Path) -> io::Result<()> {
    dir.ancestors()
        .take_while(|ancestor| ancestor.starts_with(top))
        .try_for_each(sync_directory)
}

fn sync_directory(dir: &Path) -> io::Result<()> {
    match fs::File::open(dir)?.sync_all() {
        // Some network file systems cannot, and promise nothing about names.
        Err(err) if err.kind() == io::ErrorKind::InvalidInput => Ok(()),
        synced => synced,
    }
}

fn replace(
    path: &Path,
    content: &[u8],
    settle: impl FnOnce(&fs::File) -> io::Result<()>,
) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    // Another thread or process may be writing the same file.
    let write = WRITES.fetch_add(1, Ordering::Relaxed);
    name.push(format!(".{}-{write}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| {
            file.write_all(content)?;
            settle(&file)
        })
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The write's own error is the one to report.
        drop(fs::remove_file(&temporary));
    }
    written
}

/// How old a file must be that nobody is taken to be writing any more.
const UNFINISHED_AFTER: Duration = Duration::from_secs(3600);

/// Removes from a directory what [`write_atomic`], or a link renamed in the same manner, left when its
/// process was killed before the rename; returns how many files that were. Younger ones than an hour are
/// left to whoever may be writing them, whatever host it is on.
pub fn sweep_unfinished(dir: &Path) -> usize {
    let Ok(entries) = fs::read_dir(dir) else {
        return 0;
    };
    entries
        .flatten()
        .filter(|entry| {
            // Of a link itself, not of what it leads to.
            entry.metadata().is_ok_and(|found| {
                let modified = found.modified();
                !found.is_dir() && modified.is_ok_and(|at| is_unfinished(&entry.file_name(), at))
            })
        })
        .filter(|entry| fs::remove_file(entry.path()).is_ok())
        .count()
}

/// Whether a file was left by a killed writer: its name is another's, a process id, perhaps a count, and
/// `tmp`, and nobody has written it for an hour.
pub fn is_unfinished(name: &OsStr, modified: SystemTime) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_temporary = name
        .to_str()
        .and_then(|name| name.strip_suffix(".tmp")?.rsplit_once('.'))
        .is_some_and(|(name, writer)| !name.is_empty() && writer.splitn(2, '-').all(is_number));
    is_temporary && modified.elapsed().is_ok_and(|age| age >= UNFINISHED_AFTER)
}

/// Writes a value as JSON with [`write_atomic`].
///
/// # Errors
/// Those of [`write_atomic`], or of a value that has no JSON form.
pub fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    write_atomic(path, &serde_json::to_vec_pretty(value)?)
}

/// Writes a value as JSON with [`write_durable`].
///
/// # Errors
/// Those of [`write_durable`], or of a value that has no JSON form.
pub fn write_json_durable(path: &Path, value: &impl Serialize) -> io::Result<()> {
    write_durable(path, &serde_json::to_vec_pretty(value)?)
}

/// Reads a JSON file of bounded size.
///
/// # Errors
/// Those of reading; `InvalidData` when it is too large or not the JSON that was expected.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    let content = read_bounded(path)?;
    serde_json::from_slice(&content).map_err(|err| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} is not what was expected: {err}", path.display()),
        )
    })
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    use io::Read as _;
    let mut content = Vec::new();
    let file = fs::File::open(path)?;
    file.take(FILE_MAX + 1).read_to_end(&mut content)?;
    if content.len() as u64 > FILE_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} is larger than {FILE_MAX} bytes", path.display()),
        ));
    }
    Ok(content)
}

/// `meta.json`: whose directory this is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Meta {
    /// The session's name.
    pub session_id: String,
    /// Where its kernel runs.
    pub workdir: PathBuf,
}

impl Meta {
    /// A new session's description.
    pub fn new(id: &SessionId, workdir: &Path) -> Self {
        Self {
            session_id: id.as_str().to_owned(),
            workdir: workdir.to_owned(),
        }
    }

    /// Reads `dir/meta.json`.
    ///
    /// # Errors
    /// Those of [`read_json`].
    pub fn read(dir: &Path) -> io::Result<Self> {
        read_json(&dir.join("meta.json"))
    }

    /// Writes `dir/meta.json`.
    ///
    /// # Errors
    /// Those of [`write_json_durable`].
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        write_json_durable(&dir.join("meta.json"), self)
    }
}

/// `worker.json`: which process owns the session, for tools and for people.
///
/// Liveness is never read from here: it is the lock on `worker.lock`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WorkerRecord {
    /// The worker's proof of identity.
    #[serde(flatten)]
    pub process: ProcessIdentity,
    /// Where it listens for the supervisor.
    pub control: PathBuf,
    /// The version of its executable.
    pub version: String,
    /// The unit of the service manager that it is the main process of, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
}

impl WorkerRecord {
    /// Reads `dir/worker.json`.
    ///
    /// # Errors
    /// Those of [`read_json`].
    pub fn read(dir: &Path) -> io::Result<Self> {
        read_json(&dir.join("worker.json"))
    }

    /// Writes `dir/worker.json`.
    ///
    /// # Errors
    /// Those of [`write_json`].
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        write_json(&dir.join("worker.json"), self)
    }
}

/// `checkpoints.json`: the frozen copies of a session's kernel, which outlive it and are spared when
/// what it forked is ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointRecord {
    /// Each one's proof of identity.
    pub processes: Vec<ProcessIdentity>,
}

impl CheckpointRecord {
    /// Reads `dir/checkpoints.json`; empty where there is none, or none that can be read.
    pub fn read(dir: &Path) -> Self {
        read_json(&dir.join("checkpoints.json")).unwrap_or_default()
    }

    /// Writes `dir/checkpoints.json`; an empty one is removed.
    ///
    /// # Errors
    /// Those of [`write_json`], or of removing it.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        let path = dir.join("checkpoints.json");
        if !self.processes.is_empty() {
            return write_json(&path, self);
        }
        match fs::remove_file(path) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
            _ => Ok(()),
        }
    }
}

/// The directory of a copy that lives beside a session's kernel and is not kept.
pub fn copy_dir(session: &Path, number: u64) -> PathBuf {
    copies_dir(session).join(number.to_string())
}

/// Where a session has those.
pub fn copies_dir(session: &Path) -> PathBuf {
    session.join(COPIES)
}

/// Whose copy has a directory, if that is what it is.
pub fn copy_owner(dir: &Path) -> Option<&Path> {
    let copies = dir.parent()?;
    copies.ends_with(COPIES).then(|| copies.parent()).flatten()
}

const COPIES: &str = "copies";

/// The lock a worker holds for life.
pub fn worker_lock(dir: &Path) -> PathBuf {
    dir.join("worker.lock")
}

/// What a worker that is a unit says of its start, a line each: `working`, then `ready` or `failed: …`.
/// Others say it on their standard output.
pub fn worker_said(dir: &Path) -> PathBuf {
    dir.join("worker.said")
}

/// Which process the session's kernel is; `kernel.pid` beside it is for other programs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KernelRecord {
    /// The kernel's proof of identity.
    #[serde(flatten)]
    pub process: ProcessIdentity,
}

impl KernelRecord {
    /// Reads `dir/kernel.process.json`.
    ///
    /// # Errors
    /// Those of [`read_json`].
    pub fn read(dir: &Path) -> io::Result<Self> {
        read_json(&dir.join("kernel.process.json"))
    }

    /// Writes `dir/kernel.process.json`. Durably: one that cannot be read is taken for a living kernel's, and
    /// keeps its session from being opened.
    ///
    /// # Errors
    /// Those of [`write_json_durable`].
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        write_json_durable(&dir.join("kernel.process.json"), self)
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn what_killed_writers_left_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str, hours: u64| {
            let path = dir.path().join(name);
            fs::write(&path, "{").unwrap();
            let then = SystemTime::now() - Duration::from_secs(hours * 3600);
            let file = fs::File::options().append(true).open(&path).unwrap();
            file.set_modified(then).unwrap();
        };
        for left in ["meta.json.4711-0.tmp", "program.99.tmp"] {
            make(left, 2);
        }
        let kept = [
            "meta.json",
            "meta.json.tmp",
            "notes.tmp",
            ".4711-0.tmp",
            "a.1-x.tmp",
            "a.-1.tmp",
        ];
        for other in kept {
            make(other, 2);
        }
        make("meta.json.4711-1.tmp", 0);
        fs::create_dir(dir.path().join("d.1-1.tmp")).unwrap();

        assert_eq!(sweep_unfinished(dir.path()), 2);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), kept.len() + 2);
        assert_eq!(sweep_unfinished(Path::new("/there/is/none")), 0);
    }
}
