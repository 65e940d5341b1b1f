//! Starting workers: the directory, the process, and the one line it says when it is ready.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tithon_ipc::{control::Request, files::Meta, ids::SessionId, logs, marks::MARK, paths::Home};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

use crate::{
    Options,
    living::{FindError, Living},
    platform,
    unit::{self, Recipe, Verdict},
};

/// How long a worker may take until its control socket listens, counted anew from every word that
/// it is at work; its kernel is no part of that.
pub(crate) const READY_LIMIT: Duration = Duration::from_secs(30);
/// The longest line a worker may say, in bytes.
const LINE_MAX: u64 = 8 << 10;
/// How long systemd may take to replace a worker; it begins after 100 ms.
const REPLACED_WITHIN: Duration = Duration::from_secs(30);
/// Between two questions to systemd.
const ASK_INTERVAL: Duration = Duration::from_millis(50);
/// How much of a worker's log is quoted as its last words, in bytes.
const LAST_WORDS: u64 = 1 << 10;
/// What a service manager gave to this process alone.
const OURS_ALONE: [&str; 6] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
];

/// Why a session has no worker. Clients are shown the message.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The session's directory cannot be used.
    #[error("the session's directory {path} cannot be used: {source}")]
    Directory { path: PathBuf, source: io::Error },
    /// There is no process to be had.
    #[error("the worker {program} cannot be started: {source}")]
    Spawn { program: PathBuf, source: io::Error },
    /// The worker said why it cannot work.
    #[error("{0}")]
    Failed(String),
    /// The worker ended without a word, or with these last ones.
    #[error("the worker ended before it was ready{}", quoted(.0))]
    Ended(String),
    /// The worker took too long.
    #[error("the worker was not ready within {} seconds", READY_LIMIT.as_secs())]
    Slow,
    /// The session has an owner that cannot be used.
    #[error("{0}")]
    Find(#[from] FindError),
    /// Its unit ended for good, or systemd is gone or takes too long.
    #[error("systemd puts no other worker in its place")]
    NotReplaced,
}

/// Everything that starting a worker takes, for every session alike.
#[derive(Debug)]
pub(crate) struct Spawner {
    program: PathBuf,
    root: PathBuf,
    journaled: bool,
    environment: Vec<(&'static str, OsString)>,
    /// What every worker is to know of the command line, also one that an earlier supervisor started.
    policy: Request,
    /// What workers and kernels get, before this process took more for itself.
    descriptors: Rlimit,
    /// The program as units are to name it, or why there are to be none.
    units: Result<PathBuf, String>,
}

impl Spawner {
    /// A spawner, and this process's limit of open descriptors raised as far as it goes.
    pub(crate) fn new(home: &Home, options: &Options) -> Self {
        let mut environment = vec![("TITHON_HOME", home.root().as_os_str().to_owned())];
        let mut option = |name, value: Option<f64>| {
            environment.extend(value.map(|value| (name, OsString::from(value.to_string()))));
        };
        option(
            "TITHON_KERNEL_IDLE_TIMEOUT",
            options.idle_timeout.map(|timeout| timeout.as_secs_f64()),
        );
        option("TITHON_HISTORY_RETENTION_DAYS", options.retention_days);
        option("TITHON_HISTORY_TARGET_MIB", options.history_target_mib);
        let descriptors = getrlimit(Resource::Nofile);
        let raised = Rlimit {
            current: descriptors.maximum,
            maximum: descriptors.maximum,
        };
        if let Err(err) = setrlimit(Resource::Nofile, raised) {
            tracing::debug!(%err, "the limit of open descriptors stays as it is");
        }
        let units = if options.detached_workers {
            Err("tithon daemon was started with --detached-workers".to_owned())
        } else {
            unit::link_program(&home.root().join("program"), &options.worker_program)
                .map_err(|err| format!("{} cannot be written: {err}", home.root().display()))
        };
        Self {
            units,
            program: options.worker_program.clone(),
            root: home.root().to_owned(),
            journaled: options.journaled,
            environment,
            policy: Request::Policy {
                idle_timeout_ms: options
                    .idle_timeout
                    .map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
            },
            descriptors,
        }
    }

    /// What to tell a worker when it is found or started.
    pub(crate) fn policy(&self) -> &Request {
        &self.policy
    }

    /// The session's worker: the one it has, else a new one.
    ///
    /// # Errors
    /// Any [`StartError`].
    pub(crate) async fn start(
        &self,
        id: &SessionId,
        dir: &Path,
        workdir: Option<PathBuf>,
    ) -> Result<Living, StartError> {
        // One that an earlier supervisor started may have become ready meanwhile.
        if let Some(living) = Living::find(dir).await? {
            return Ok(living);
        }
        prepare(id, dir, workdir).map_err(|source| StartError::Directory {
            path: dir.to_owned(),
            source,
        })?;
        let spawned = self.spawn(id, dir).await;
        // Whoever holds the lock is the worker, even if ours lost a race for it.
        match (Living::find(dir).await?, spawned) {
            (Some(living), _) => Ok(living),
            (None, Ok(())) => Err(StartError::Ended(last_words(dir, 0))),
            (None, Err(err)) => Err(err),
        }
    }

    /// Waits for the worker that systemd puts in the place of one that was `unit` and died.
    ///
    /// # Errors
    /// [`StartError::NotReplaced`] when the next one is ours to start.
    pub(crate) async fn succeed(&self, unit: &str, dir: &Path) -> Result<Living, StartError> {
        let deadline = Instant::now() + REPLACED_WITHIN;
        loop {
            if let Some(living) = Living::find(dir).await? {
                return Ok(living);
            }
            match unit::is_replaced(unit).await {
                Ok(true) if Instant::now() < deadline => sleep(ASK_INTERVAL).await,
                Ok(true) => {
                    unit::give_up(dir, unit).await;
                    return Err(StartError::NotReplaced);
                }
                Ok(false) => return Err(StartError::NotReplaced),
                Err(err) => {
                    tracing::warn!(unit, %err, "systemd does not say what becomes of a worker");
                    return Err(StartError::NotReplaced);
                }
            }
        }
    }

    /// Runs a worker until it says that it is ready, and leaves it running: as a unit where there is
    /// a user manager, else as a process of its own.
    async fn spawn(&self, id: &SessionId, dir: &Path) -> Result<(), StartError> {
        let said_before = fs::metadata(log_of(dir)).map_or(0, |log| log.len());
        let started = match &self.units {
            Ok(program) => {
                let recipe = Recipe {
                    program,
                    home: &self.root,
                    dir,
                    description: &format!("Tithon session {id}"),
                    environment: self.environment(dir),
                };
                unit::start(&recipe).await
            }
            Err(why) => Err(why.clone()),
        };
        match started {
            Ok(Verdict::Ready) => Ok(()),
            Ok(Verdict::Failed(reason)) => Err(StartError::Failed(reason)),
            Ok(Verdict::Ended) => Err(StartError::Ended(last_words(dir, said_before))),
            Ok(Verdict::Slow) => Err(StartError::Slow),
            Err(why) => {
                tracing::debug!(session = %id, why, "a worker is a detached process");
                self.spawn_detached(dir, &why).await
            }
        }
    }

    /// The environment of workers: ours, but for what a service manager gave to us alone.
    fn environment(&self, dir: &Path) -> BTreeMap<OsString, OsString> {
        let mut all: BTreeMap<_, _> = std::env::vars_os()
            .filter(|(name, _)| !OURS_ALONE.iter().any(|ours| name == ours))
            // Inherited from a terminal that is itself a service: a stream of somebody else's.
            .filter(|(name, _)| self.journaled || name != "JOURNAL_STREAM")
            .collect();
        all.extend(
            self.environment
                .iter()
                .map(|(name, value)| (OsString::from(name), value.clone())),
        );
        all.insert(MARK.into(), dir.into());
        all
    }

    async fn spawn_detached(&self, dir: &Path, why: &str) -> Result<(), StartError> {
        let failed = |source| StartError::Spawn {
            program: self.program.clone(),
            source,
        };
        let log = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(log_of(dir))
            .map_err(failed)?;
        let said_before = log.metadata().map_err(failed)?.len();
        let mut command = Command::new(&self.program);
        command
            .arg("worker")
            .arg("--home")
            .arg(&self.root)
            .arg("--dir")
            .arg(dir)
            .arg("--detached-because")
            .arg(why)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .env_clear()
            .envs(self.environment(dir));
        // A program that calls `select()` breaks above the usual limit: ours is not for others.
        platform::limit(&mut command, self.descriptors);
        let mut child = command.spawn().map_err(failed)?;
        platform::limit_started(&child, self.descriptors);
        let said = last_line(&mut child).await;
        let verdict = match said.as_deref().map(str::trim_end) {
            Some("ready") => Ok(()),
            Some(line) => match line.strip_prefix("failed: ") {
                Some(reason) => Err(StartError::Failed(reason.to_owned())),
                None => Err(StartError::Ended(last_words(dir, said_before))),
            },
            None => {
                // Else it might take the session long after its clients were told otherwise.
                drop(child.start_kill());
                Err(StartError::Slow)
            }
        };
        tracing::debug!(pid = child.id(), ready = verdict.is_ok(), dir = %dir.display(), "started a worker");
        // Waited for as long as we are its parent, so that no zombie stays.
        tokio::spawn(async move { child.wait().await });
        verdict
    }
}

/// The first line that is not about being at work, or as much of one as came before the end;
/// `None` when the worker took too long.
async fn last_line(child: &mut Child) -> Option<String> {
    let Some(stdout) = child.stdout.take() else {
        return Some(String::new());
    };
    let mut stdout = BufReader::with_capacity(256, stdout);
    loop {
        let mut line = Vec::new();
        let mut bounded = (&mut stdout).take(LINE_MAX);
        let read = timeout(READY_LIMIT, bounded.read_until(b'\n', &mut line));
        if let Err(err) = read.await.ok()? {
            tracing::debug!(%err, "a worker's first line cannot be read");
        }
        if line != b"working\n" {
            return Some(String::from_utf8_lossy(&line).into_owned());
        }
    }
}

/// Makes the directory private and says whose it is.
fn prepare(id: &SessionId, dir: &Path, workdir: Option<PathBuf>) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)?;
    let found = fs::symlink_metadata(dir)?;
    if !found.is_dir() {
        return Err(io::Error::new(
            io::ErrorKind::NotADirectory,
            "it is a symbolic link",
        ));
    }
    if found.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(dir, Permissions::from_mode(0o700))?;
    }
    if Meta::read(dir).is_ok() {
        return Ok(());
    }
    let workdir = std::path::absolute(workdir.unwrap_or_else(|| PathBuf::from(".")))?;
    Meta::new(id, &workdir).write(dir)
}

fn log_of(dir: &Path) -> PathBuf {
    logs::worker(dir)
}

/// The end of the worker's log behind the byte `since`, for whoever wants to know why it died.
pub(crate) fn last_words(dir: &Path, since: u64) -> String {
    let read = || {
        let mut log = File::open(log_of(dir))?;
        let from = log.metadata()?.len().saturating_sub(LAST_WORDS).max(since);
        log.seek(SeekFrom::Start(from))?;
        let mut words = Vec::new();
        log.take(LAST_WORDS).read_to_end(&mut words)?;
        Ok::<_, io::Error>(String::from_utf8_lossy(&words).trim().to_owned())
    };
    read().unwrap_or_default()
}

/// A colon and the words, or nothing.
pub(crate) fn quoted(words: &str) -> String {
    if words.is_empty() {
        String::new()
    } else {
        format!(": {words}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_made_private_and_keeps_its_first_owner() {
        let sessions = tempfile::tempdir().unwrap();
        let dir = sessions.path().join("a/b");
        let id = SessionId::default();
        prepare(&id, &dir, Some("/somewhere".into())).unwrap();
        assert_eq!(dir.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        prepare(&id, &dir, Some("/elsewhere".into())).unwrap();
        assert_eq!(Meta::read(&dir).unwrap().workdir, Path::new("/somewhere"));

        fs::write(dir.join("meta.json"), "{").unwrap();
        prepare(&id, &dir, None).unwrap();
        assert_eq!(
            Meta::read(&dir).unwrap().workdir,
            std::env::current_dir().unwrap()
        );
    }

    #[tokio::test]
    async fn a_worker_at_work_is_waited_for() {
        let says = async |script: &str| {
            let mut shell = Command::new("sh");
            let mut child = shell
                .args(["-c", script])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let said = last_line(&mut child).await;
            child.wait().await.unwrap();
            said.unwrap()
        };
        assert_eq!(
            says("echo working; echo working; echo ready").await,
            "ready\n"
        );
        assert_eq!(says("echo working; echo failed: so").await, "failed: so\n");
        assert_eq!(says("echo working").await, "", "it ended");
    }

    #[test]
    fn a_directory_behind_a_link_is_refused() {
        let sessions = tempfile::tempdir().unwrap();
        let link = sessions.path().join("link");
        std::os::unix::fs::symlink("/tmp", &link).unwrap();
        assert!(prepare(&SessionId::default(), &link, None).is_err());
    }
}
