//! A home of its own for each test: a supervisor, clients, and an end to everything it started.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tithon_ipc::{client::Connection, naming, paths::Home as Paths};
use tokio::runtime::Runtime;

use crate::python::{Environment, RICH};

/// How long anything may take before a test fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A home with a supervisor.
pub(crate) struct Home {
    pub(crate) dir: TempDir,
    pub(crate) supervisor: Option<Child>,
    programs: PathBuf,
    variables: Vec<(String, String)>,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self::with(&[])
    }

    /// A home whose supervisor, and so its workers, have these variables.
    pub(crate) fn with(variables: &[(&str, &str)]) -> Self {
        Self::among(RICH, variables)
    }

    /// A home whose kernels come from another environment.
    pub(crate) fn among(environment: Environment, variables: &[(&str, &str)]) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("tsv")
            .tempdir_in("/tmp")
            .unwrap();
        let mut home = Self {
            dir,
            supervisor: None,
            programs: environment.programs(),
            variables: variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        };
        home.start(&[]);
        home
    }

    /// Starts the supervisor.
    pub(crate) fn start(&mut self, arguments: &[&str]) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("supervisor.stderr"))
            .unwrap();
        let child = self
            .tithon()
            .arg("daemon")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.supervisor = Some(child);
        let socket = self.paths().socket();
        until("the supervisor listens", || {
            std::os::unix::net::UnixStream::connect(&socket).ok()
        });
    }

    /// The command line, in this home.
    pub(crate) fn tithon(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tithon"));
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .env("TITHON_HOME", self.dir.path())
            .env("TITHON_DETACHED_WORKERS", "1")
            .env("PATH", format!("{}:{path}", self.programs.display()))
            .env("JUPYTER_RUNTIME_DIR", self.dir.path().join("jupyter"))
            .env("IPYTHONDIR", self.dir.path().join("ipython"))
            .env_remove("VIRTUAL_ENV")
            .env_remove("CONDA_PREFIX")
            .current_dir(self.dir.path())
            .envs(
                self.variables
                    .iter()
                    .map(|(name, value)| (name.as_str(), value.as_str())),
            );
        command
    }

    /// A program of the environment, in this home.
    pub(crate) fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command
            .env("JUPYTER_RUNTIME_DIR", self.dir.path().join("jupyter"))
            .env("IPYTHONDIR", self.dir.path().join("ipython"));
        command
    }

    pub(crate) fn paths(&self) -> Paths {
        Paths::at(self.dir.path().to_owned())
    }

    /// A connection that is bound to nothing yet.
    pub(crate) fn client(&self) -> Client {
        Client::open(&self.paths())
    }

    /// A client attached to the default session from a fresh snapshot, and that snapshot.
    pub(crate) fn attached(&self) -> (Client, Value) {
        let mut client = self.client();
        let snapshot = client.attach(0).unwrap();
        (client, snapshot)
    }

    /// The default session's directory.
    pub(crate) fn session(&self) -> PathBuf {
        naming::session_dir(
            &self.paths().sessions(),
            &tithon_ipc::ids::SessionId::default(),
            None,
        )
    }

    /// Kills the default session's worker outright, and waits until its successor serves.
    pub(crate) fn replace_worker(&self) {
        let pid = self.worker_pid();
        kill(pid);
        until("another worker serves", || {
            Some(self.worker_pid_now()?).filter(|now| *now != pid)
        });
    }

    pub(crate) fn worker_pid(&self) -> i32 {
        until("there is a worker", || self.worker_pid_now())
    }

    fn worker_pid_now(&self) -> Option<i32> {
        let record: Value =
            serde_json::from_slice(&fs::read(self.session().join("worker.json")).ok()?).ok()?;
        i32::try_from(record["pid"].as_i64()?).ok()
    }

    pub(crate) fn kernel_pid(&self) -> i32 {
        fs::read_to_string(self.session().join("kernel.pid"))
            .unwrap()
            .trim()
            .parse()
            .unwrap()
    }

    /// Kills the supervisor outright.
    pub(crate) fn kill_supervisor(&mut self) {
        if let Some(mut supervisor) = self.supervisor.take() {
            supervisor.kill().unwrap();
            supervisor.wait().unwrap();
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for log in ["daemon.log", "supervisor.stderr"] {
                self.show(&self.dir.path().join(log));
            }
            for log in ["worker.log", "kernel.log"] {
                self.show(&self.session().join(log));
            }
        }
        let mut shutdown = self.tithon();
        shutdown.args(["--no-start", "shutdown", "--kill-kernels"]);
        drop(shutdown.output());
        if let Some(mut supervisor) = self.supervisor.take() {
            supervisor.kill().ok();
            supervisor.wait().ok();
        }
        // Whatever a failed test left: both carry the session's mark, and are ours by their records.
        for record in ["worker.json", "kernel.process.json"] {
            if let Ok(text) = fs::read(self.session().join(record))
                && let Ok(identity) =
                    serde_json::from_slice::<tithon_ipc::process::ProcessIdentity>(&text)
                && let Ok(Some(process)) = identity.open()
            {
                process.signal(Signal::KILL).ok();
            }
        }
    }
}

impl Home {
    fn show(&self, path: &Path) {
        let text = fs::read_to_string(path).unwrap_or_default();
        let tail: Vec<_> = text.lines().rev().take(15).collect();
        eprintln!("--- {}", path.display());
        tail.iter().rev().for_each(|line| eprintln!("{line}"));
    }
}

/// Kills a process outright.
pub(crate) fn kill(pid: i32) {
    signal(pid, Signal::KILL);
}

pub(crate) fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// Waits for something to be there.
pub(crate) fn until<T>(what: &str, mut there: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = there() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A client, one operation after the other.
pub(crate) struct Client {
    runtime: Runtime,
    connection: Connection,
    /// Every frame that was read.
    pub(crate) seen: Vec<Value>,
}

impl Client {
    fn open(paths: &Paths) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let connection = runtime.block_on(Connection::open(paths)).unwrap();
        Self {
            runtime,
            connection,
            seen: Vec::new(),
        }
    }

    pub(crate) fn send(&mut self, op: &Value) {
        self.runtime.block_on(self.connection.send(op)).unwrap();
    }

    /// The next frame; `None` once the connection is closed.
    pub(crate) fn next(&mut self) -> Option<Value> {
        let next = tokio_timeout(&self.runtime, self.connection.next());
        let frame = next.ok()??;
        let frame: Value = serde_json::from_str(&frame).unwrap();
        self.seen.push(frame.clone());
        Some(frame)
    }

    /// Reads until a frame is the one.
    pub(crate) fn wait(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        loop {
            let Some(frame) = self.next() else {
                panic!("{what}: the connection ended after {:#?}", self.tail());
            };
            if is_it(&frame) {
                return frame;
            }
        }
    }

    fn tail(&self) -> &[Value] {
        &self.seen[self.seen.len().saturating_sub(10)..]
    }

    /// Asks, and reads until the answer.
    pub(crate) fn ask(&mut self, op: &Value, answer: &str) -> Value {
        self.send(op);
        self.wait(answer, |frame| {
            frame["op"] == answer || frame["op"] == "error"
        })
    }

    /// Attaches and reads the backlog; the snapshot, if that is what it was.
    pub(crate) fn attach(&mut self, last_seen: i64) -> Option<Value> {
        self.send(&json!({"op": "attach", "last_seen_seq": last_seen}));
        let before = self.seen.len();
        let end = self.wait("sync", |frame| {
            frame["op"] == "sync" || frame["op"] == "error"
        });
        assert_eq!(end["op"], "sync", "{end}");
        self.seen[before..]
            .iter()
            .find(|frame| frame["op"] == "snapshot")
            .cloned()
    }

    /// Attaches from a fresh snapshot; `None` while the session has no worker that stays.
    pub(crate) fn try_attach(&mut self) -> Option<Value> {
        self.runtime
            .block_on(self.connection.send(&json!({"op": "attach"})))
            .ok()?;
        loop {
            let frame = self.next()?;
            match frame["op"].as_str()? {
                "snapshot" => return Some(frame),
                "error" => return None,
                _ => {}
            }
        }
    }

    /// Queues a cell and gives its name.
    pub(crate) fn submit(&mut self, code: &str) -> String {
        self.submit_as(json!({"op": "execute", "code": code, "allow_stdin": true}))
    }

    fn submit_as(&mut self, op: Value) -> String {
        let ack = self.ask(&op, "execute_ack");
        ack["exec_id"]
            .as_str()
            .unwrap_or_else(|| panic!("{ack}"))
            .to_owned()
    }

    /// Runs a cell to its end and gives its name and its `done` payload.
    pub(crate) fn run(&mut self, code: &str) -> (String, Value) {
        let exec = self.submit(code);
        let done = self.done(&exec);
        (exec, done)
    }

    /// Waits for a cell's end.
    pub(crate) fn done(&mut self, exec: &str) -> Value {
        self.event("done", exec)["payload"].clone()
    }

    /// Waits for an event of a cell, also one that came already.
    pub(crate) fn event(&mut self, kind: &str, exec: &str) -> Value {
        let is_it = |frame: &Value| {
            frame["op"] == "event" && frame["kind"] == kind && frame["exec_id"] == exec
        };
        self.find(&format!("{kind} of {exec}"), is_it)
    }

    /// The first frame that is the one, whether it was read already or comes yet.
    pub(crate) fn find(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        match self.seen.iter().find(|frame| is_it(frame)) {
            Some(seen) => seen.clone(),
            None => self.wait(what, is_it),
        }
    }

    /// Waits for text that a cell prints, and gives all of what came so far.
    pub(crate) fn printed(&mut self, exec: &str, text: &str) -> String {
        let mut all: String = String::new();
        let text_of = |frame: &Value| {
            (frame["exec_id"] == exec && frame["payload"]["msg_type"] == "stream").then(|| {
                frame["payload"]["content"]["text"]
                    .as_str()
                    .unwrap_or("")
                    .to_owned()
            })
        };
        all.extend(self.seen.iter().filter_map(text_of));
        while !all.contains(text) {
            let frame = self.wait("output", |frame| frame["op"] == "event");
            all.extend(text_of(&frame));
        }
        all
    }
}

fn tokio_timeout<F: Future>(runtime: &Runtime, future: F) -> F::Output {
    runtime
        .block_on(async { tokio::time::timeout(DEADLINE, future).await })
        .unwrap_or_else(|_| panic!("nothing came for {DEADLINE:?}"))
}

/// What a snapshot shows of an execution.
pub(crate) fn shown<'a>(snapshot: &'a Value, exec: &str) -> &'a Value {
    snapshot["executions"]
        .as_array()
        .unwrap()
        .iter()
        .find(|execution| execution["exec_id"] == exec)
        .unwrap_or_else(|| panic!("{exec} is not in {snapshot}"))
}
