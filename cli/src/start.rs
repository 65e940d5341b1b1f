//! Reaches the supervisor, and starts one when a command needs it and nobody listens.
//!
//! Any number of commands may start one at the same time: the supervisor's lock lets one live, the
//! others exit, and every command is served by whoever listens in the end.

use std::{
    env,
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tithon_ipc::{
    client::{Connection, ConnectionError},
    lock::Lock,
    paths::{Home, HomeError},
};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

use crate::error::CliError;

/// How long a started supervisor may take to listen; a loaded machine needs seconds, not more.
const START_WITHIN: Duration = Duration::from_secs(20);
/// How long a supervisor that holds its lock, but does not listen, is waited for: it starts or ends.
const CHANGE_WITHIN: Duration = Duration::from_secs(5);
/// How long a supervisor may take over the handshake; behind a socket unit it is only being started.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(30);
/// How long after a started supervisor's exit another one may still turn out to listen.
const RACE_WITHIN: Duration = Duration::from_millis(500);
const POLL: Duration = Duration::from_millis(5);
/// As much of a failed supervisor's last words as a person reads.
const LAST_WORDS_MAX: usize = 2000;

/// Whether a command may start a supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// When nobody listens.
    IfNeeded,
    /// Never: the user said `--no-start`.
    Never,
}

/// Why a supervisor could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// Its home cannot be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// It cannot be run at all.
    #[error("failed to start a supervisor: {doing}: {source}")]
    Spawn {
        doing: &'static str,
        source: io::Error,
    },
    /// It exited, and nobody else listens.
    #[error("the supervisor did not start{}\nhint: its log is {log}", told(.words))]
    Exited { words: String, log: PathBuf },
    /// It runs but does not listen.
    #[error("the supervisor did not listen within {within:?}{}\nhint: its log is {log}", told(.words))]
    Silent {
        within: Duration,
        words: String,
        log: PathBuf,
    },
}

fn told(words: &str) -> String {
    if words.is_empty() {
        String::new()
    } else {
        format!("; it said:\n{words}")
    }
}

/// Connects to whoever listens, starting a supervisor if need and `start` say so.
///
/// # Errors
/// When nobody listens and none may be or could be started.
pub(crate) async fn open(home: &Home, start: Start) -> Result<Connection, CliError> {
    match (connect(home).await, start) {
        (Err(err @ ConnectionError::Unreachable { .. }), Start::Never) => {
            Err(CliError::NotStarted(err))
        }
        (Err(ConnectionError::Unreachable { .. }), Start::IfNeeded) => Ok(spawn(home).await?),
        (connected, _) => Ok(connected?),
    }
}

/// Connects to a supervisor that runs, or is just starting or being replaced.
///
/// # Errors
/// [`ConnectionError::Unreachable`] when none does.
pub(crate) async fn connect(home: &Home) -> Result<Connection, ConnectionError> {
    let until = Instant::now() + CHANGE_WITHIN;
    loop {
        match connect_once(home).await {
            Err(err) if !(is_changing(home, &err) && Instant::now() < until) => return Err(err),
            Err(_) => sleep(POLL).await,
            connected => return connected,
        }
    }
}

async fn connect_once(home: &Home) -> Result<Connection, ConnectionError> {
    let unanswered = |_| ConnectionError::Unreachable {
        path: home.public_socket(),
        source: io::ErrorKind::TimedOut.into(),
    };
    timeout(HANDSHAKE_WITHIN, Connection::open(home))
        .await
        .map_err(unanswered)?
}

/// Whether the failure is a moment's: somebody holds the supervisor's lock, has a full queue, or
/// went away in the middle of the handshake.
fn is_changing(home: &Home, err: &ConnectionError) -> bool {
    match err {
        ConnectionError::Unreachable { source, .. } => {
            source.kind() == io::ErrorKind::WouldBlock
                || (is_absent(source) && Lock::is_held(&home.lock_file()).unwrap_or(false))
        }
        ConnectionError::Closed(_) | ConnectionError::Broken(_) => true,
    }
}

fn is_absent(err: &io::Error) -> bool {
    matches!(
        err.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

async fn spawn(home: &Home) -> Result<Connection, StartError> {
    home.prepare()?;
    let (mut said, mut child) = detached(home)?;
    let until = Instant::now() + START_WITHIN;
    let mut exited: Option<Instant> = None;
    loop {
        if let Ok(connection) = connect_once(home).await {
            return Ok(connection);
        }
        if exited.is_none() && child.try_wait().is_ok_and(|status| status.is_some()) {
            exited = Some(Instant::now());
        }
        let lost = exited.is_some_and(|at| at.elapsed() > RACE_WITHIN)
            && !Lock::is_held(&home.lock_file()).unwrap_or(false);
        if lost || Instant::now() > until {
            let (words, log) = (last_words(&mut said), home.log());
            return Err(if lost {
                StartError::Exited { words, log }
            } else {
                let within = START_WITHIN;
                StartError::Silent { within, words, log }
            });
        }
        sleep(POLL).await;
    }
}

/// Runs `tithon daemon` apart from this terminal, and gives the file that has what it says.
fn detached(home: &Home) -> Result<(File, Child), StartError> {
    let failed = |doing| move |source| StartError::Spawn { doing, source };
    let path = home.root().join("daemon.autostart.log");
    let mut said = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(&path)
        .map_err(failed("its log cannot be opened"))?;
    // Also tells a full disk from everything else, which could not say so itself.
    said.write_all(b"starting a supervisor\n")
        .map_err(failed("its log cannot be written"))?;
    said.seek(SeekFrom::End(0))
        .map_err(failed("its log cannot be read"))?;
    let log = || said.try_clone().map(Stdio::from);
    // Not where we happen to be: that directory could never be unmounted.
    let directory = env::home_dir().filter(|dir| dir.is_dir());
    let child = Command::new(program().map_err(failed("this program is gone"))?)
        .args(["daemon", "--detached"])
        .env("TITHON_HOME", home.root())
        // The mark of what a session's kernel started: ours to be reaped with it, were we run in one.
        .env_remove("TITHON_SESSION")
        .current_dir(directory.unwrap_or_else(|| PathBuf::from("/")))
        .stdin(Stdio::null())
        .stdout(log().map_err(failed("its log cannot be shared"))?)
        .stderr(log().map_err(failed("its log cannot be shared"))?)
        .spawn()
        .map_err(failed("this program cannot be run"))?;
    Ok((said, child))
}

/// This program's file, also after it was replaced by a newer version.
///
/// # Errors
/// When there is no such file any more.
pub(crate) fn program() -> io::Result<PathBuf> {
    let path = env::current_exe()?;
    if path.exists() {
        return Ok(path);
    }
    let replaced = path
        .to_str()
        .and_then(|path| path.strip_suffix(" (deleted)"));
    replaced
        .map(Path::new)
        .filter(|path| path.exists())
        .map(Path::to_owned)
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn last_words(said: &mut File) -> String {
    let mut words = Vec::new();
    // Nothing to read is nothing to show: the error that matters is the supervisor's.
    drop(said.read_to_end(&mut words));
    let words = String::from_utf8_lossy(&words);
    let words = words.trim_end();
    let mut from = words.len().saturating_sub(LAST_WORDS_MAX);
    while !words.is_char_boundary(from) {
        from += 1;
    }
    words[from..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_begin_where_the_supervisor_did_and_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, "an older one\n").unwrap();
        let mut said = File::open(&path).unwrap();
        said.seek(SeekFrom::End(0)).unwrap();
        let mut log = OpenOptions::new().append(true).open(&path).unwrap();
        log.write_all("no space left\n".as_bytes()).unwrap();
        assert_eq!(last_words(&mut said), "no space left");
        log.write_all("ü".repeat(LAST_WORDS_MAX).as_bytes())
            .unwrap();
        let words = last_words(&mut said);
        assert!(words.len() <= LAST_WORDS_MAX && words.starts_with('ü'));
    }

    #[test]
    fn only_what_may_change_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path().join("home"));
        home.prepare().unwrap();
        let unreachable = |code| ConnectionError::Unreachable {
            path: home.public_socket(),
            source: io::Error::from_raw_os_error(code),
        };
        let (absent, forbidden, full) = (2, 13, 11);
        assert!(!is_changing(&home, &unreachable(absent)));
        assert!(is_changing(&home, &unreachable(full)));
        let lock = Lock::try_acquire(&home.lock_file()).unwrap().unwrap();
        assert!(is_changing(&home, &unreachable(absent)));
        assert!(!is_changing(&home, &unreachable(forbidden)));
        drop(lock);
    }
}
