//! `tithon rm`: forgets a stopped session.
//!
//! Only what Tithon itself put into the session's directory is deleted, one known name at a time and
//! with the worker's lock held: nothing alive loses its files, and a directory that another session
//! lies in stays.

use std::{ffi::OsStr, io, path::Path};

use clap::Args;
use tithon_ipc::files::copies_dir;

use super::agreed;
use crate::{
    arguments::session,
    error::CliError,
    exit::Exit,
    link::Link,
    render::{notice::Progress, units, words},
    stopped::Stopped,
};

const EXAMPLES: &str = "\
Examples:
  tithon rm --session old
  tithon rm --session old --yes

The session's code, outputs and times are lost for good. Files in its project,
pictures under .tithon/ among them, stay. A session that runs is not removed.";

/// What a session's directory holds. `meta.json` goes first: from then on nothing finds the session;
/// the lock goes last: until then nobody moves in.
const FILES: [&str; 18] = [
    "meta.json",
    "launch.json",
    "checkpoints.json",
    "kernel.json",
    "kernel.pid",
    "kernel.process.json",
    "worker.json",
    "journal.db",
    "journal.db-wal",
    "journal.db-shm",
    "kernel.log",
    "kernel.log.1",
    "kernel.log.2",
    "worker.log",
    "worker.log.1",
    "worker.log.2",
    "faults.log",
    "worker.lock",
];

/// Remove a stopped session and its history
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RmArgs {
    /// The session: a file URI or any name
    #[arg(long, value_name = "NAME", value_parser = session)]
    session: String,

    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

/// Removes the session, or leaves it when the user thinks better of it.
///
/// # Errors
/// When there is no such session, it is in use, or its files cannot be deleted.
pub(crate) async fn run(args: &RmArgs, link: &Link) -> Result<Exit, CliError> {
    let Stopped { dir, lock: _lock } = Stopped::take(link, &args.session).await?;
    let without = "--yes removes without a question";
    if !args.yes && !agreed(&question(&args.session, &dir), without)? {
        words::say("nothing was removed");
        return Ok(Exit::Failure);
    }
    {
        let _progress = Progress::of("removing the session");
        remove(&dir).map_err(failed)?;
    }
    words::say(&format!("session '{}' was removed", args.session));
    Ok(Exit::Success)
}

fn failed(source: io::Error) -> CliError {
    CliError::System {
        doing: "remove the session",
        source,
    }
}

fn question(session: &str, dir: &Path) -> String {
    let bytes = FILES
        .iter()
        .filter_map(|name| dir.join(name).symlink_metadata().ok())
        .map(|file| file.len())
        .sum();
    format!(
        "Remove session '{session}' and its whole history ({})?",
        units::bytes(bytes)
    )
}

fn remove(dir: &Path) -> io::Result<()> {
    remove_file(&dir.join(FILES[0]))?;
    let spool = dir.join("spool");
    if spool.symlink_metadata().is_ok_and(|it| it.is_dir()) {
        for entry in std::fs::read_dir(&spool)? {
            remove_file(&entry?.path())?;
        }
        std::fs::remove_dir(&spool)?;
    }
    remove_copies(dir)?;
    for name in &FILES[1..] {
        remove_file(&dir.join(name))?;
    }
    match std::fs::remove_dir(dir) {
        // Something of somebody else's is in it.
        Err(err) if err.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        removed => removed,
    }
}

/// What a worker that was killed left of the copies of its kernel.
fn remove_copies(dir: &Path) -> io::Result<()> {
    let copies = copies_dir(dir);
    let entries = match std::fs::read_dir(&copies) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let copy = entry?.path();
        // Of another session's directory of that name nothing is touched.
        if copy.file_name().is_some_and(is_number) {
            std::fs::remove_dir_all(&copy)?;
        }
    }
    match std::fs::remove_dir(&copies) {
        Err(err) if err.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        removed => removed,
    }
}

fn is_number(name: &OsStr) -> bool {
    name.as_encoded_bytes().iter().all(u8::is_ascii_digit)
}

fn remove_file(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use tithon_ipc::{files::Meta, ids::SessionId};

    use super::*;

    fn session_in(sessions: &Path, dir: &str, name: &str) -> PathBuf {
        let dir = sessions.join(dir);
        std::fs::create_dir_all(dir.join("spool")).unwrap();
        let id = SessionId::parse(name).unwrap();
        Meta::new(&id, Path::new("/")).write(&dir).unwrap();
        std::fs::create_dir_all(dir.join("copies/1/spool")).unwrap();
        for file in [
            "journal.db",
            "worker.lock",
            "spool/0.seg",
            "copies/1/spool/0.seg",
        ] {
            std::fs::write(dir.join(file), "x").unwrap();
        }
        dir
    }

    #[test]
    fn only_what_is_ours_is_removed() {
        let sessions = tempfile::tempdir().unwrap();
        let dir = session_in(sessions.path(), "default", "default");
        remove(&dir).unwrap();
        assert!(!dir.exists());

        let outer = session_in(sessions.path(), "default", "default");
        let inner = session_in(sessions.path(), "default/inner", "inner");
        std::fs::write(outer.join("notes.txt"), "mine").unwrap();
        remove(&outer).unwrap();
        assert!(inner.join("journal.db").exists() && outer.join("notes.txt").exists());
        assert!(!outer.join("journal.db").exists() && !outer.join("spool").exists());
    }
}
