//! A stopped session's directory: proved to be its own, and held so that nobody moves in.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use tithon_ipc::{
    files::{self, CheckpointRecord, KernelRecord, Meta},
    ids::SessionId,
    lock::Lock,
    naming::session_dir,
};
use tokio::time::{Instant, sleep};

use crate::{error::CliError, history, link::Link};

/// How long a worker without a kernel may take to leave.
const LEAVES_WITHIN: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(10);

/// A session that nothing runs in as long as this lives.
#[derive(Debug)]
pub(crate) struct Stopped {
    pub(crate) dir: PathBuf,
    /// The worker's, which goes where the directory goes.
    pub(crate) lock: Lock,
}

impl Stopped {
    /// Takes hold of a session.
    ///
    /// # Errors
    /// When there is no such session, or it is in use.
    pub(crate) async fn take(link: &Link, session: &str) -> Result<Self, CliError> {
        let entry = history::entry(link, session).await?;
        let dir = directory(&link.home().sessions(), session, entry.workdir.as_deref())?;
        let lock = hold(&dir, session).await?;
        Ok(Self { dir, lock })
    }
}

/// Takes hold of the directory of a session that nothing runs in.
///
/// # Errors
/// When it is in use.
pub(crate) async fn hold(dir: &Path, session: &str) -> Result<Lock, CliError> {
    let in_use = |why| CliError::InUse {
        session: session.to_owned(),
        why,
    };
    if kernel_lives(dir) {
        return Err(in_use("its kernel runs"));
    }
    if checkpoints_live(dir) {
        // They hold the session's name in their sockets, and its variables.
        return Err(in_use("its checkpoints are there"));
    }
    owned(dir).await?.ok_or_else(|| in_use("its worker runs"))
}

/// The worker's lock; a worker that only showed the history is just leaving.
async fn owned(dir: &Path) -> Result<Option<Lock>, CliError> {
    let until = Instant::now() + LEAVES_WITHIN;
    loop {
        let lock = Lock::try_acquire(&files::worker_lock(dir)).map_err(failed)?;
        if lock.is_some() || Instant::now() > until {
            return Ok(lock);
        }
        sleep(POLL).await;
    }
}

fn failed(source: io::Error) -> CliError {
    CliError::System {
        doing: "take hold of the session",
        source,
    }
}

/// The session's directory, proved to be its own and to lie in the home.
fn directory(sessions: &Path, name: &str, workdir: Option<&Path>) -> Result<PathBuf, CliError> {
    let id = SessionId::parse(name).map_err(|err| CliError::Usage(err.to_string()))?;
    let dir = session_dir(sessions, &id, workdir);
    let proved = || -> io::Result<bool> {
        let real = dir.canonicalize()?;
        let inside = real.starts_with(sessions.canonicalize()?) && !dir.is_symlink();
        Ok(inside && Meta::read(&dir)?.session_id == name)
    };
    match proved().map_err(failed)? {
        true => Ok(dir),
        false => Err(CliError::Usage(format!(
            "{} is not the directory of session '{name}'; nothing was changed",
            dir.display()
        ))),
    }
}

fn checkpoints_live(dir: &Path) -> bool {
    let kept = CheckpointRecord::read(dir).processes;
    kept.iter()
        .any(|process| matches!(process.open(), Ok(Some(_))))
}

fn kernel_lives(dir: &Path) -> bool {
    KernelRecord::read(dir)
        .ok()
        .and_then(|record| record.process.open().ok().flatten())
        .is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session_in(sessions: &Path, dir: &str, name: &str) -> PathBuf {
        let dir = sessions.join(dir);
        std::fs::create_dir_all(&dir).unwrap();
        let id = SessionId::parse(name).unwrap();
        Meta::new(&id, Path::new("/")).write(&dir).unwrap();
        dir
    }

    #[test]
    fn a_directory_that_is_not_the_sessions_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let sessions = home.path().join("sessions");
        session_in(&sessions, "default", "another");
        assert!(directory(&sessions, "default", None).is_err());
        std::fs::remove_dir_all(sessions.join("default")).unwrap();
        let outside = session_in(home.path(), "outside", "default");
        std::os::unix::fs::symlink(&outside, sessions.join("default")).unwrap();
        assert!(directory(&sessions, "default", None).is_err());
    }
}
