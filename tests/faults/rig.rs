//! A home of its own with a real supervisor, and the means to hurt what runs in it. Whatever carries the
//! home in its environment ends with it.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::Write as _,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

#[path = "../harness/python.rs"]
pub(crate) mod python;

use python::{Environment, PYTHON};
use rusqlite::{Connection, OpenFlags};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tithon_ipc::{client::Connection as Client, paths};

/// Everything a test waits for comes within this time, or never.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) struct Home {
    /// Logs and side logs: never on the disk that is filled.
    pub(crate) scratch: PathBuf,
    root: PathBuf,
    path: String,
    environment: Vec<(String, PathBuf)>,
    mounted: bool,
    keep: bool,
    supervisor: Option<Child>,
}

impl Home {
    /// A home below `scratch` with a supervisor; on a small disk of its own if that is wanted and allowed.
    pub(crate) fn new(scratch: &Path, small_disk: bool) -> Self {
        Self::make(scratch, small_disk, PYTHON, &[])
    }

    /// The same with more in the environment of everything that runs in it.
    pub(crate) fn with_environment(scratch: &Path, environment: &[(&str, &Path)]) -> Self {
        Self::make(scratch, false, PYTHON, environment)
    }

    /// The same with the kernels of another environment.
    pub(crate) fn with_kernels_of(scratch: &Path, small_disk: bool, python: Environment) -> Self {
        Self::make(scratch, small_disk, python, &[])
    }

    fn make(
        scratch: &Path,
        small_disk: bool,
        python: Environment,
        environment: &[(&str, &Path)],
    ) -> Self {
        fs::create_dir_all(scratch).unwrap();
        let disk = scratch.join("d");
        fs::create_dir_all(&disk).unwrap();
        let mount = || {
            let mut mount = Command::new("mount");
            mount.args(["-t", "tmpfs", "-o", "size=48m", "tmpfs"]);
            mount.arg(&disk).stderr(Stdio::null()).status()
        };
        let mounted = small_disk && mount().is_ok_and(|status| status.success());
        let programs = python.programs();
        let mut home = Self {
            scratch: scratch.to_owned(),
            root: disk.join("h"),
            path: format!("{}:{}", programs.display(), std::env::var("PATH").unwrap()),
            environment: environment
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            mounted,
            keep: false,
            supervisor: None,
        };
        home.start_supervisor();
        home
    }

    /// Whether its disk can be filled.
    pub(crate) fn has_small_disk(&self) -> bool {
        self.mounted
    }

    /// Leaves everything for a person to look at.
    pub(crate) fn keep(&mut self) {
        self.keep = true;
    }

    pub(crate) fn start_supervisor(&mut self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.scratch.join("daemon.log"))
            .unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_tithon"))
            .arg("daemon")
            .env("TITHON_HOME", &self.root)
            .env("TITHON_DETACHED_WORKERS", "1")
            .env("PATH", &self.path)
            .env_remove("VIRTUAL_ENV")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.scratch)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.supervisor = Some(child);
    }

    pub(crate) fn kill_supervisor(&mut self) {
        if let Some(mut child) = self.supervisor.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub(crate) fn supervisor_pid(&self) -> Option<i32> {
        let child = self.supervisor.as_ref()?;
        i32::try_from(child.id()).ok()
    }

    pub(crate) fn session(&self) -> PathBuf {
        self.root.join("sessions/default")
    }

    pub(crate) fn worker_pid(&self) -> Option<i32> {
        let record = fs::read(self.session().join("worker.json")).ok()?;
        let record: Value = serde_json::from_slice(&record).ok()?;
        let pid = i32::try_from(record["pid"].as_i64()?).ok()?;
        self.is_ours(pid).then_some(pid)
    }

    pub(crate) fn kernel_pid(&self) -> Option<i32> {
        let pid = fs::read_to_string(self.session().join("kernel.pid")).ok()?;
        pid.parse().ok().filter(|pid| self.is_ours(*pid))
    }

    /// Whether a living process was started in this home.
    fn is_ours(&self, pid: i32) -> bool {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        // A kernel of a copied home has the TITHON_HOME of whoever first asked for it.
        environment.split(|byte| *byte == 0).any(|variable| {
            let home = variable
                .strip_prefix(b"TITHON_HOME=")
                .or_else(|| variable.strip_prefix(b"TITHON_SESSION="));
            home.is_some_and(|home| Path::new(OsStr::from_bytes(home)).starts_with(&self.root))
        })
    }

    pub(crate) fn journal(&self) -> rusqlite::Result<Connection> {
        let journal = Connection::open_with_flags(
            self.session().join("journal.db"),
            OpenFlags::SQLITE_OPEN_READ_WRITE,
        )?;
        journal.busy_timeout(Duration::from_secs(5))?;
        Ok(journal)
    }

    /// Takes all the space there is.
    pub(crate) fn fill_disk(&self) {
        let mut ballast = File::create(self.root.join("ballast")).unwrap();
        while ballast.write_all(&[0; 4096]).is_ok() {}
    }

    pub(crate) fn free_disk(&self) {
        fs::remove_file(self.root.join("ballast")).ok();
    }

    /// One attempt to reach the supervisor.
    pub(crate) async fn connect(&self) -> Option<Client> {
        connect(&self.root).await
    }

    /// `PATH` as everything in it has it.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }
}

/// One attempt to reach the supervisor of a home.
pub(crate) async fn connect(root: &Path) -> Option<Client> {
    let home = paths::Home::at(root.to_owned());
    let limit = Duration::from_secs(5);
    tokio::time::timeout(limit, Client::open(&home))
        .await
        .ok()?
        .ok()
}

impl Drop for Home {
    fn drop(&mut self) {
        // Again until nobody is left: a supervisor or worker may be starting another process.
        let deadline = Instant::now() + Duration::from_secs(10);
        self.kill_supervisor();
        loop {
            let left: Vec<i32> = fs::read_dir("/proc")
                .unwrap()
                .flatten()
                .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
                .filter(|pid| self.is_ours(*pid))
                .collect();
            if left.is_empty() || Instant::now() > deadline {
                break;
            }
            for pid in left {
                signal(pid, Signal::KILL);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        if std::thread::panicking() {
            eprintln!("kept: {}", self.scratch.display());
            return;
        }
        if self.keep {
            return;
        }
        if self.mounted {
            // Lazily: whoever still has a file open there is about to be ended.
            Command::new("umount")
                .arg("-l")
                .arg(self.scratch.join("d"))
                .status()
                .ok();
        }
        fs::remove_dir_all(&self.scratch).ok();
    }
}

pub(crate) fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        kill_process(pid, signal).ok();
    }
}

/// Reads frames until one satisfies the condition; `None` when the connection ends or time is up.
pub(crate) async fn until(
    client: &mut Client,
    limit: Duration,
    wanted: impl Fn(&Value) -> bool,
) -> Option<Value> {
    let search = async {
        loop {
            let text = client.next().await.ok()??;
            let frame = serde_json::from_str(&text).ok()?;
            if wanted(&frame) {
                return Some(frame);
            }
        }
    };
    tokio::time::timeout(limit, search).await.ok()?
}

/// Asks, on a connection of its own, until somebody answers.
pub(crate) async fn ask(root: &Path, op: &Value, answer: &str) -> Value {
    let deadline = Instant::now() + DEADLINE;
    while Instant::now() < deadline {
        if let Some(mut client) = connect(root).await
            && client.send(op).await.is_ok()
            && let Some(frame) = until(&mut client, Duration::from_secs(20), |frame| {
                frame["op"] == answer
            })
            .await
        {
            return frame;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no {answer} came for {op}");
}

/// The session as a client sees it that attaches now.
pub(crate) async fn snapshot(root: &Path) -> Value {
    ask(root, &json!({"op": "attach"}), "snapshot").await
}
