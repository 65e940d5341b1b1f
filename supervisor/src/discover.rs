//! Which sessions the disk knows: ours lie directly below `sessions/`, those that the Python program
//! made may lie deeper.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use tithon_ipc::{
    files::{self, Meta},
    ids::SessionId,
    lock::Lock,
};

use crate::living::kernel_lives;

/// How deep directories are looked into; a path has no more components than this.
const DEPTH_MAX: usize = 64;

/// Every session directory, in no particular order. Links are not followed.
pub fn directories(sessions: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![(sessions.to_owned(), 0)];
    while let Some((dir, depth)) = open.pop() {
        if let Err(err) = look_into(&dir, depth, &mut open, &mut found) {
            tracing::warn!(dir = %dir.display(), %err, "a directory cannot be read");
        }
    }
    found
}

fn look_into(
    dir: &Path,
    depth: usize,
    open: &mut Vec<(PathBuf, usize)>,
    found: &mut Vec<PathBuf>,
) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() && depth < DEPTH_MAX && entry.file_name() != "spool" {
            open.push((entry.path(), depth + 1));
        } else if kind.is_file() && depth > 0 && entry.file_name() == "meta.json" {
            found.push(dir.to_owned());
        }
    }
    Ok(())
}

/// The sessions that need a supervisor: their worker or their kernel lives.
pub(crate) fn inhabited(sessions: &Path) -> Vec<(SessionId, PathBuf)> {
    directories(sessions)
        .into_iter()
        .filter(|dir| is_owned(dir) || kernel_lives(dir))
        .filter_map(|dir| Some((meta(&dir)?.0, dir)))
        .collect()
}

/// Whose directory it is, and where its kernel runs.
pub(crate) fn meta(dir: &Path) -> Option<(SessionId, PathBuf)> {
    let meta = Meta::read(dir)
        .map_err(|err| tracing::warn!(dir = %dir.display(), %err, "a session without its name"))
        .ok()?;
    let id = SessionId::parse(&meta.session_id)
        .map_err(|err| tracing::warn!(dir = %dir.display(), %err, "a session without its name"))
        .ok()?;
    Some((id, meta.workdir))
}

fn is_owned(dir: &Path) -> bool {
    match Lock::is_held(&files::worker_lock(dir)) {
        Ok(held) => held,
        Err(err) => {
            tracing::warn!(dir = %dir.display(), %err, "a worker's lock cannot be tried");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use tithon_ipc::{files::KernelRecord, process::ProcessIdentity};

    use super::*;

    fn session(sessions: &Path, dir: &str, name: &str) -> PathBuf {
        let dir = sessions.join(dir);
        fs::create_dir_all(&dir).unwrap();
        Meta::new(&SessionId::parse(name).unwrap(), Path::new("/"))
            .write(&dir)
            .unwrap();
        dir
    }

    #[test]
    fn sessions_are_found_at_every_depth_and_behind_no_link() {
        let home = tempfile::tempdir().unwrap();
        let sessions = home.path().join("sessions");
        let mut expected = vec![
            session(&sessions, "default", "default"),
            session(&sessions, "lab-0123/sub/a.py", "file:///lab/sub/a.py"),
            session(&sessions, "lab-0123/sub", "file:///lab/sub"),
        ];
        session(home.path(), "outside/x", "x");
        std::os::unix::fs::symlink(home.path().join("outside"), sessions.join("link")).unwrap();
        std::os::unix::fs::symlink(&sessions, sessions.join("loop")).unwrap();
        fs::write(sessions.join("meta.json"), "{}").unwrap();
        fs::create_dir_all(sessions.join("empty/deeper")).unwrap();

        let mut found = directories(&sessions);
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
        assert_eq!(directories(Path::new("/nowhere")), [] as [PathBuf; 0]);
    }

    #[test]
    fn a_session_is_inhabited_by_a_worker_or_a_kernel() {
        let sessions = tempfile::tempdir().unwrap();
        let sessions = sessions.path();
        session(sessions, "nobody", "nobody");
        let owned = session(sessions, "owned", "owned");
        let lock = Lock::try_acquire(&files::worker_lock(&owned))
            .unwrap()
            .unwrap();
        let orphan = session(sessions, "orphan", "orphan");
        let myself = ProcessIdentity::current().unwrap();
        let kernel = |process| KernelRecord { process };
        kernel(myself.clone()).write(&orphan).unwrap();
        let reused = session(sessions, "reused", "reused");
        kernel(ProcessIdentity {
            start_time: 1,
            ..myself
        })
        .write(&reused)
        .unwrap();
        let nameless = session(sessions, "nameless", "nameless");
        fs::write(nameless.join("meta.json"), "{\"session_id\": \"\"}").unwrap();
        let nameless = Lock::try_acquire(&files::worker_lock(&nameless))
            .unwrap()
            .unwrap();

        let mut found = inhabited(sessions);
        found.sort();
        let names: Vec<_> = found.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(names, ["orphan", "owned"]);
        drop((lock, nameless));
        assert_eq!(inhabited(sessions).len(), 1);
    }
}
