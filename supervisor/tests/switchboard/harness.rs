//! A home of its own for each test, the supervisors in it, and clients.

use std::{
    fs,
    io::Read,
    os::{fd::OwnedFd, unix::net::UnixListener},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use futures_util::{SinkExt, StreamExt};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tithon_ipc::{
    files::{KernelRecord, WorkerRecord},
    ids::SessionId,
    naming::session_dir,
    paths::Home,
    process::ProcessIdentity,
};
use tokio::net::UnixStream;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};

/// Nothing here takes a tenth of this, on any machine that is still usable.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `look` finds something.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "never saw {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A home and everything that runs in it; all of it ends with the test.
pub(crate) struct Rig {
    dir: tempfile::TempDir,
    pub(crate) home: Home,
    supervisors: Vec<Child>,
}

impl Rig {
    /// A home without a supervisor.
    pub(crate) fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path().join("h"));
        Self {
            dir,
            home,
            supervisors: Vec::new(),
        }
    }

    /// A home with a supervisor.
    pub(crate) fn new() -> Self {
        let mut rig = Self::empty();
        rig.start();
        rig
    }

    /// A supervisor that may or may not come to serve.
    pub(crate) fn spawn(&self) -> Child {
        let mut command = Command::new(program());
        command.stdin(Stdio::null());
        self.run(&mut command)
    }

    fn run(&self, command: &mut Command) -> Child {
        command
            .arg("daemon")
            .arg(self.home.root())
            .env("NOTIFY_SOCKET", self.notify_socket())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|err| {
                panic!("{err}: `cargo test -p tithon-supervisor` builds the example `rig`")
            })
    }

    /// Starts a supervisor and waits until it serves.
    pub(crate) fn start(&mut self) {
        let supervisor = self.spawn();
        self.serves(supervisor);
    }

    /// Starts a supervisor the way a service manager does that owns the socket.
    pub(crate) fn start_on(&mut self, listener: &UnixListener) {
        let mut command = Command::new("sh");
        command
            .args([
                "-c",
                "exec 3<&0; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\"",
            ])
            .arg(program())
            .stdin(OwnedFd::from(listener.try_clone().unwrap()));
        let supervisor = self.run(&mut command);
        self.serves(supervisor);
    }

    fn serves(&mut self, supervisor: Child) {
        let pid = supervisor.id().to_string();
        self.supervisors.push(supervisor);
        eventually("the supervisor's pid file", || {
            (fs::read_to_string(self.home.pid_file()).ok()? == pid).then_some(())
        });
    }

    /// Where supervisors say how they are, if anybody listens.
    pub(crate) fn notify_socket(&self) -> PathBuf {
        self.dir.path().join("notify")
    }

    pub(crate) fn supervisor(&self) -> u32 {
        self.supervisors.last().unwrap().id()
    }

    /// `kill -9` to the supervisor.
    pub(crate) fn crash(&mut self) {
        let supervisor = self.supervisors.last_mut().unwrap();
        supervisor.kill().unwrap();
        supervisor.wait().unwrap();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.supervisors.last().unwrap()), signal).unwrap();
    }

    /// Waits for the supervisor's end.
    pub(crate) fn ended(&mut self) -> Output {
        finish(self.supervisors.pop().unwrap())
    }

    pub(crate) fn session(&self, name: &str) -> PathBuf {
        session_dir(
            &self.home.sessions(),
            &SessionId::parse(name).unwrap(),
            None,
        )
    }

    /// Makes the session's workers misbehave from now on.
    pub(crate) fn tempt(&self, name: &str, vice: &str) {
        fs::write(self.session(name).join(vice), "").unwrap();
    }

    pub(crate) fn reform(&self, name: &str, vice: &str) {
        fs::remove_file(self.session(name).join(vice)).unwrap();
    }

    /// The living worker that the session's directory names.
    pub(crate) fn worker(&self, name: &str) -> Option<ProcessIdentity> {
        let record = WorkerRecord::read(&self.session(name)).ok()?;
        record.process.open().unwrap().map(|_| record.process)
    }

    /// The living kernel that the session's directory names.
    pub(crate) fn kernel(&self, name: &str) -> Option<ProcessIdentity> {
        let record = KernelRecord::read(&self.session(name)).ok()?;
        record.process.open().unwrap().map(|_| record.process)
    }

    /// `kill -9` to the session's worker.
    pub(crate) fn crash_worker(&self, name: &str) {
        kill(&self.worker(name).unwrap());
    }

    /// `kill -9` to the session's kernel.
    pub(crate) fn crash_kernel(&self, name: &str) {
        kill(&self.kernel(name).unwrap());
    }

    pub(crate) async fn client(&self) -> Client {
        let stream = UnixStream::connect(self.home.socket()).await.unwrap();
        let config = WebSocketConfig::default();
        let (socket, _) = client_async_with_config("ws://localhost/", stream, Some(config))
            .await
            .unwrap();
        Client(socket)
    }

    /// A client of the session, and the pid of the worker that serves it.
    pub(crate) async fn attach(&self, name: &str) -> (Client, u64) {
        let mut client = self.client().await;
        let worker = client.echo(&json!({"op": "attach", "session": name})).await;
        (client, worker)
    }

    /// The answer to a global `status`, by session.
    pub(crate) async fn status(&self, all: bool) -> Vec<Value> {
        let mut client = self.client().await;
        let reply = client.ask(&json!({"op": "status", "all": all})).await;
        assert_eq!(reply["op"], "status_reply");
        assert_eq!(reply["daemon_pid"], self.supervisor());
        reply["sessions"].as_array().unwrap().clone()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for mut supervisor in self.supervisors.drain(..) {
            drop(supervisor.kill());
            drop(supervisor.wait());
            let mut words = String::new();
            if let Some(mut stderr) = supervisor.stderr.take()
                && std::thread::panicking()
            {
                drop(stderr.read_to_string(&mut words));
                eprintln!("the supervisor said: {words}");
            }
        }
        let Ok(sessions) = fs::read_dir(self.home.sessions()) else {
            return;
        };
        for dir in sessions.flatten().map(|entry| entry.path()) {
            // Workers first: one of them would start another kernel.
            for process in [
                WorkerRecord::read(&dir).map(|record| record.process),
                KernelRecord::read(&dir).map(|record| record.process),
            ]
            .into_iter()
            .flatten()
            {
                kill(&process);
            }
        }
    }
}

fn kill(process: &ProcessIdentity) {
    if let Some(handle) = process.open().unwrap() {
        handle.signal(Signal::KILL).unwrap();
    }
}

fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    profile.join("examples").join("rig")
}

/// Waits for a supervisor to end by itself.
pub(crate) fn finish(mut supervisor: Child) -> Output {
    eventually("the supervisor's end", || {
        supervisor.try_wait().unwrap().map(drop)
    });
    supervisor.wait_with_output().unwrap()
}

/// A client that keeps to the protocol as far as it likes.
pub(crate) struct Client(pub(crate) WebSocketStream<UnixStream>);

impl Client {
    pub(crate) async fn send(&mut self, message: impl Into<Message>) {
        self.0.send(message.into()).await.unwrap();
    }

    /// The next frame, or the close code.
    pub(crate) async fn next(&mut self) -> Result<Value, u16> {
        let next = async {
            loop {
                match self.0.next().await {
                    Some(Ok(Message::Text(text))) => {
                        return Ok(serde_json::from_str(&text).unwrap());
                    }
                    Some(Ok(Message::Close(close))) => {
                        return Err(close.map_or(1005, |close| close.code.into()));
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Err(1006),
                }
            }
        };
        tokio::time::timeout(PATIENCE, next).await.unwrap()
    }

    pub(crate) async fn ask(&mut self, op: &Value) -> Value {
        self.send(op.to_string()).await;
        self.next().await.unwrap()
    }

    /// Sends an operation that a worker echoes, and returns that worker's pid.
    pub(crate) async fn echo(&mut self, op: &Value) -> u64 {
        let text = op.to_string();
        let reply = self.ask(op).await;
        assert_eq!(reply["op"], "echo", "{reply}");
        assert_eq!(reply["text"], text);
        reply["worker"].as_u64().unwrap()
    }

    /// Expects an `error` and then the end; returns the reason.
    pub(crate) async fn dismissed(&mut self, code: u16) -> String {
        let error = self.next().await.unwrap();
        assert_eq!(error["op"], "error");
        assert_eq!(self.next().await, Err(code));
        error["message"].as_str().unwrap().to_owned()
    }
}
