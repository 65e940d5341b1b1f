//! The mark that every process of a session carries in its environment, and who carries it.
//!
//! A process is opened first and looked at afterwards (I7): what was found to be ours is what the
//! handle signals, whatever becomes of its pid.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use crate::{
    platform::process as processes,
    process::{ProcessHandle, ProcessIdentity},
};

/// The variable; its value is the session's directory.
pub const MARK: &str = "TITHON_SESSION";

/// A living process that carries the mark.
#[derive(Debug)]
pub struct Marked {
    /// The process itself.
    pub process: ProcessHandle,
    /// The directory of its session, which need not exist any more.
    pub session: PathBuf,
    /// Its command line, which it may have changed.
    pub command: Vec<OsString>,
}

impl Marked {
    /// Every marked process of this user's, this one apart.
    pub fn all() -> Vec<Self> {
        let me = rustix::process::getuid().as_raw();
        processes::all()
            .into_iter()
            .filter(|pid| u32::try_from(*pid) != Ok(std::process::id()))
            .filter(|pid| processes::owner(*pid).is_ok_and(|owner| owner == me))
            .filter_map(Self::of)
            .collect()
    }

    /// A process, if it lives and carries the mark.
    pub fn of(pid: i32) -> Option<Self> {
        let process = ProcessIdentity::of(pid).ok()??.open().ok()??;
        let session = processes::environment(pid)?
            .into_iter()
            .find_map(|variable| {
                let value = variable.as_bytes().strip_prefix(MARK.as_bytes())?;
                Some(PathBuf::from(OsStr::from_bytes(value.strip_prefix(b"=")?)))
            })?;
        let command = processes::command_line(pid).ok()?;
        // Alive still: so what was read is this process's, not that of a later one of its pid.
        process.is_alive().then_some(Self {
            process,
            session,
            command,
        })
    }

    /// Whether it is a worker of its session rather than something a kernel started.
    pub fn is_worker(&self) -> bool {
        is_worker(&self.command, &self.session)
    }
}

fn is_worker(command: &[OsString], session: &Path) -> bool {
    command.get(1).is_some_and(|word| word == "worker")
        && command.iter().any(|word| word == session.as_os_str())
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    fn sleeper(variable: &str, value: &Path) -> Child {
        Command::new("sleep")
            .arg("1000")
            .env(variable, value)
            .spawn()
            .unwrap()
    }

    #[test]
    fn the_variable_itself_is_the_mark() {
        let dir = tempfile::tempdir().unwrap();
        let mut ours = sleeper(MARK, dir.path());
        let mut others = [
            sleeper("MY_TITHON_SESSION", dir.path()),
            sleeper("TITHON_SESSION_ID", dir.path()),
            sleeper(
                "NOTE",
                Path::new(&format!("{MARK}={}", dir.path().display())),
            ),
        ];
        let marked: Vec<_> = Marked::all()
            .into_iter()
            .filter(|marked| marked.session.starts_with(dir.path()))
            .map(|marked| {
                (
                    marked.process.identity().pid,
                    marked.session,
                    marked.command,
                )
            })
            .collect();
        for child in others.iter_mut().chain([&mut ours]) {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let pid = i32::try_from(ours.id()).unwrap();
        let command = vec!["sleep".into(), "1000".into()];
        assert_eq!(marked, [(pid, dir.path().to_owned(), command)]);
        assert!(Marked::of(pid).is_none(), "it has ended");
    }

    #[test]
    fn a_worker_is_told_by_its_command_line() {
        let command = |words: &str| words.split(' ').map(OsString::from).collect::<Vec<_>>();
        let session = Path::new("/h/sessions/s");
        assert!(is_worker(
            &command("tithon worker --home /h --dir /h/sessions/s"),
            session
        ));
        assert!(!is_worker(
            &command("tithon worker --home /h --dir /h/sessions/x"),
            session
        ));
        assert!(!is_worker(
            &command("python worker.py /h/sessions/s"),
            session
        ));
    }
}
