//! A TITHON_HOME for one test, the supervisors in it, and the end of everything that it started.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use rustix::process::Signal;
use tempfile::TempDir;
use tithon_ipc::{
    files::{KernelRecord, WorkerRecord},
    ids::SessionId,
    naming::session_dir,
    paths,
};

use super::{Client, Environment, Journal, Output, PYTHON, Running, processes, until};

/// Variables that choose a Python or steer Tithon; what is left (proxies, package indexes) is the
/// machine's.
const PERSONAL: [&str; 9] = [
    "PYTHON",
    "JUPYTER",
    "CONDA",
    "VIRTUAL_ENV",
    "XDG_",
    "IPYTHON",
    "TITHON_",
    "NOTIFY_SOCKET",
    "LISTEN_",
];

/// What a supervisor is started with.
const DAEMON: [&str; 3] = ["daemon", "--log-level", "DEBUG"];

/// How much of a log is shown when a test fails, in bytes.
const LOG_SHOWN: usize = 2000;

/// A home and everything that runs in it; all of it ends with the test.
#[derive(Debug)]
pub(crate) struct Home {
    dir: TempDir,
    root: PathBuf,
    /// Whose Python is first on PATH.
    python: Environment,
    environment: Vec<(String, String)>,
    supervisor: Option<Child>,
}

impl Home {
    /// A home nobody has used yet.
    pub(crate) fn empty() -> Self {
        // Short, and not below a TMPDIR of any length: sockets live in it.
        let dir = tempfile::Builder::new()
            .prefix("t")
            .tempdir_in("/tmp")
            .unwrap();
        let root = dir.path().join("h");
        fs::create_dir(dir.path().join("work")).unwrap();
        Self {
            root,
            dir,
            python: PYTHON,
            environment: Vec::new(),
            supervisor: None,
        }
    }

    /// A home with a supervisor.
    pub(crate) fn new() -> Self {
        let mut home = Self::empty();
        home.start();
        home
    }

    /// A home whose supervisor, and workers, have these variables too.
    pub(crate) fn with(environment: &[(&str, &str)]) -> Self {
        let mut home = Self::empty();
        for (name, value) in environment {
            home.set(name, value);
        }
        home.start();
        home
    }

    /// Has kernels of another environment; only before anything is started.
    pub(crate) fn with_python(mut self, python: Environment) -> Self {
        self.python = python;
        self
    }

    /// Uses another directory as TITHON_HOME; only before anything is started.
    pub(crate) fn at(mut self, root: PathBuf) -> Self {
        self.root = root;
        self
    }

    /// Sets a variable for everything started from now on.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// TITHON_HOME.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where its paths are.
    pub(crate) fn paths(&self) -> paths::Home {
        paths::Home::at(self.root.clone())
    }

    /// A directory of the test's own, in which commands run.
    pub(crate) fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    /// A command with the test's environment; the shared Python is first on PATH.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tithon"));
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if PERSONAL.iter().any(|personal| name.starts_with(personal)) {
                command.env_remove(name);
            }
        }
        let path = std::env::var("PATH").unwrap();
        command
            .args(arguments)
            .current_dir(self.work())
            .env(
                "PATH",
                format!("{}:{path}", self.python.programs().display()),
            )
            .env("HOME", self.dir.path())
            .env("TITHON_HOME", &self.root)
            // What a test leaves behind must not be a unit of whoever runs the tests.
            .env("TITHON_DETACHED_WORKERS", "1")
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// The same by another file with the same program, as there are two around an upgrade.
    pub(crate) fn command_of_another_file(&self, arguments: &[&str]) -> Command {
        let other = self.dir.path().join("tithon");
        if !other.exists() {
            // By another process: were it open for writing here, a child being forked would keep it open.
            let copied = Command::new("cp")
                .arg(env!("CARGO_BIN_EXE_tithon"))
                .arg(&other)
                .status();
            assert!(copied.unwrap().success());
        }
        let ours = self.command(arguments);
        let mut command = Command::new(other);
        command.args(ours.get_args()).current_dir(self.work());
        for (name, value) in ours.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }

    /// Runs the program to its end.
    pub(crate) fn tithon(&self, arguments: &[&str]) -> Output {
        self.tithon_reading(arguments, b"")
    }

    /// Runs the program to its end with something to read.
    pub(crate) fn tithon_reading(&self, arguments: &[&str], stdin: &[u8]) -> Output {
        Running::start(self.command(arguments), stdin).finish()
    }

    /// Runs the program beside the test.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Running {
        Running::start(self.command(arguments), b"")
    }

    /// Starts a supervisor and waits until it serves.
    pub(crate) fn start(&mut self) {
        self.start_as(self.command(&DAEMON));
    }

    /// Starts a supervisor in which, as in its workers and kernels, nothing may watch files: what a
    /// user's limit of inotify instances comes to when it is used up. `false` where it cannot be had.
    pub(crate) fn start_without_watches(&mut self) -> bool {
        let limited = "echo 0 >/proc/sys/user/max_inotify_instances";
        let namespace = |script: &str| {
            let mut command = Command::new("unshare");
            command.args(["--user", "--map-root-user", "sh", "-c", script]);
            command
        };
        let possible = namespace(limited).stderr(Stdio::null()).status();
        if !possible.is_ok_and(|status| status.success()) {
            return false;
        }
        let daemon = self.command(&DAEMON);
        let mut command = namespace(&format!("{limited} && exec \"$0\" \"$@\""));
        command
            .arg(daemon.get_program())
            .args(daemon.get_args())
            .current_dir(self.work());
        for (name, value) in daemon.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        self.start_as(command);
        true
    }

    fn start_as(&mut self, mut daemon: Command) {
        let mut supervisor = daemon
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let paths = self.paths();
        until("the supervisor", || {
            assert_eq!(supervisor.try_wait().unwrap(), None, "the supervisor ended");
            let named = fs::read_to_string(paths.pid_file()).ok()?;
            // The pid file comes after the socket: whoever reads it finds one that serves.
            (named == supervisor.id().to_string()).then_some(())
        });
        self.supervisor = Some(supervisor);
    }

    /// The supervisor that the pid file names.
    pub(crate) fn supervisor(&self) -> Option<i32> {
        let pid = fs::read_to_string(self.paths().pid_file()).ok()?;
        pid.parse().ok().filter(|pid| processes::is_alive(*pid))
    }

    /// `kill -9` to the supervisor, whoever started it.
    pub(crate) fn kill_supervisor(&mut self) {
        let pid = self.supervisor().unwrap();
        assert!(processes::signal(pid, &self.root, Signal::KILL));
        if let Some(mut started) = self.supervisor.take() {
            started.wait().unwrap();
        }
        processes::await_end(pid);
    }

    /// A session's directory.
    pub(crate) fn session(&self, name: &str) -> PathBuf {
        let id = SessionId::parse(name).unwrap();
        session_dir(&self.paths().sessions(), &id, None)
    }

    /// A session's journal.
    pub(crate) fn journal(&self, name: &str) -> Journal {
        Journal::open(&self.session(name))
    }

    /// The living worker of a session.
    pub(crate) fn worker(&self, name: &str) -> Option<i32> {
        let process = WorkerRecord::read(&self.session(name)).ok()?.process;
        process.open().unwrap().map(|_| process.pid)
    }

    /// The living kernel of a session.
    pub(crate) fn kernel(&self, name: &str) -> Option<i32> {
        let process = KernelRecord::read(&self.session(name)).ok()?.process;
        process.open().unwrap().map(|_| process.pid)
    }

    /// `kill -9` to a worker or kernel of this home; returns once it is gone.
    pub(crate) fn kill(&self, pid: i32) {
        assert!(self.signal(pid, Signal::KILL), "{pid} is not ours");
        processes::await_end(pid);
    }

    /// Sends a signal to a process of this home; `false` if there is none.
    pub(crate) fn signal(&self, pid: i32, signal: Signal) -> bool {
        processes::signal(pid, &self.root, signal)
    }

    /// Every living process of this home.
    pub(crate) fn processes(&self) -> Vec<i32> {
        processes::all(&self.root)
    }

    /// A connection to the supervisor.
    pub(crate) fn client(&self) -> Client {
        Client::open(&self.paths().socket())
    }

    /// A connection attached to a session, and the snapshot or not.
    pub(crate) fn attached(&self, session: &str, since: i64) -> Client {
        let mut client = self.client();
        client.attach(session, since);
        client
    }

    /// A connection attached to a session, whose kernel is not started by that.
    pub(crate) fn observing(&self, session: &str) -> Client {
        let mut client = self.client();
        let attach = serde_json::json!({
            "op": "attach", "session": session, "last_seen_seq": 0, "start_kernel": false,
        });
        client.attach_by(&attach);
        client
    }

    fn show_logs(&self) {
        let mut logs = vec![self.paths().log(), self.root.join("daemon.autostart.log")];
        for entry in fs::read_dir(self.paths().sessions())
            .into_iter()
            .flatten()
            .flatten()
        {
            logs.extend(["worker.log", "kernel.log"].map(|name| entry.path().join(name)));
        }
        for log in logs {
            let Ok(words) = fs::read(&log) else { continue };
            let shown = &words[words.len().saturating_sub(LOG_SHOWN)..];
            if !shown.is_empty() {
                eprintln!("--- {}\n{}", log.display(), String::from_utf8_lossy(shown));
            }
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // First: others would be started anew by it.
        if let Some(mut supervisor) = self.supervisor.take() {
            drop(supervisor.kill());
            drop(supervisor.wait());
        }
        processes::end_all(&self.root);
        if std::thread::panicking() {
            self.show_logs();
        }
        let paths = self.paths();
        if !paths.run().starts_with(&self.root) {
            drop(fs::remove_dir_all(paths.run()));
        }
    }
}
