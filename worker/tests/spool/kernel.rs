//! Real kernels under the launcher, and a Jupyter client beside them.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;
use tithon_worker::kernel::launcher;
use tithon_worker::kernel::spool::{Record, SpoolPosition, SpoolReader};

use crate::python::{Environment, IPYKERNEL_6, PYTHON};

const DEADLINE: Duration = Duration::from_secs(60);

/// Which ipykernel a test runs.
#[derive(Clone, Copy)]
pub(crate) enum Ipykernel {
    V7,
    V6,
    /// None of its own: 7 is lent to a bare interpreter.
    Lent,
}

impl Ipykernel {
    fn environment(self) -> Environment {
        match self {
            Self::V7 | Self::Lent => PYTHON,
            Self::V6 => IPYKERNEL_6,
        }
    }
}

/// A kernel with a spool and a client; both end with it.
pub(crate) struct Kernel {
    dir: TempDir,
    spool: PathBuf,
    child: Child,
    client: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Kernel {
    pub(crate) fn start(ipykernel: Ipykernel) -> Self {
        Self::with(ipykernel, |_, _| {})
    }

    /// Starts a kernel whose command was changed; the closure also gets the directory it runs in, and the
    /// spool is wherever it leaves `TITHON_SPOOL`.
    pub(crate) fn with(ipykernel: Ipykernel, change: impl FnOnce(&mut Command, &Path)) -> Self {
        let dir = tempfile::Builder::new().prefix("spool").tempdir().unwrap();
        let python = ipykernel.environment().interpreter();
        let connection = dir.path().join("kernel.json");
        let socket = dir.path().join("k");
        fs::write(
            &connection,
            json!({"transport": "ipc", "ip": socket, "key": "secret", "signature_scheme": "hmac-sha256",
                "shell_port": 1, "iopub_port": 2, "stdin_port": 3, "control_port": 4, "hb_port": 5})
            .to_string(),
        )
        .unwrap();
        let launcher = launcher::install(&dir.path().join("launcher")).unwrap();
        let mut command = Command::new(&python);
        let mut lent = None;
        if matches!(ipykernel, Ipykernel::Lent) {
            let bare = dir.path().join("bare");
            let mut make = Command::new("python3");
            assert!(
                make.args(["-m", "venv", "--without-pip"])
                    .arg(&bare)
                    .status()
                    .unwrap()
                    .success()
            );
            command = Command::new(bare.join("bin/python"));
            let lib = python.with_file_name("").join("../lib");
            let site = fs::read_dir(lib)
                .unwrap()
                .next()
                .unwrap()
                .unwrap()
                .path()
                .join("site-packages");
            lent = Some(site);
        }
        // What steers Tithon where the tests run is nothing that a kernel would be given.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TITHON_") {
                command.env_remove(name);
            }
        }
        command
            .args([&launcher, Path::new("-f"), &connection])
            .env("TITHON_SPOOL", dir.path().join("spool"))
            .env("TITHON_SESSION", "tests")
            .envs(lent.map(|site| ("TITHON_SITE", site)))
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(File::create(dir.path().join("kernel.log")).unwrap())
            .stderr(File::create(dir.path().join("kernel.err")).unwrap())
            .process_group(0);
        change(&mut command, dir.path());
        let spool = command
            .get_envs()
            .find(|(name, _)| *name == "TITHON_SPOOL")
            .unwrap()
            .1
            .unwrap()
            .into();
        let child = command.spawn().unwrap();
        let mut client = Command::new(&python)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/spool/client.py"))
            .arg(&connection)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let commands = client.stdin.take().unwrap();
        let answers = BufReader::new(client.stdout.take().unwrap());
        Self {
            dir,
            spool,
            child,
            client,
            commands,
            answers,
        }
    }

    pub(crate) fn spool(&self) -> &Path {
        &self.spool
    }

    pub(crate) fn tell(&mut self, command: &Value) {
        writeln!(self.commands, "{command}").unwrap();
    }

    pub(crate) fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("{error}: {line:?}; {}", self.log()))
    }

    pub(crate) fn ask(&mut self, command: &Value) -> Value {
        self.tell(command);
        self.answer()
    }

    /// Executes code to its end, which must be a good one.
    pub(crate) fn run(&mut self, code: &str) {
        let reply = self.ask(&json!({"do": "run", "code": code}));
        assert_eq!(reply["status"], "ok", "{reply}");
    }

    /// Has code executed that the kernel does not survive; returns what the spool holds in the end.
    pub(crate) fn run_to_death(&mut self, code: &str) -> (Vec<Record>, ExitStatus) {
        self.ask(&json!({"do": "send", "code": code}));
        let status = self.wait();
        let mut reader = self.reader();
        let mut records = read_all(&mut reader);
        reader.finish("last").unwrap();
        records.extend(read_all(&mut reader));
        (records, status)
    }

    pub(crate) fn reader(&self) -> SpoolReader {
        SpoolReader::open(&self.spool, SpoolPosition::default()).unwrap()
    }

    /// Waits for the kernel's death.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "the kernel lives; {}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("kernel.err")).unwrap_or_default()
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        let _gone = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _gone = self.client.kill();
        let _reaped = (self.child.wait(), self.client.wait());
    }
}

/// What is there now.
pub(crate) fn read_all(reader: &mut SpoolReader) -> Vec<Record> {
    let mut records = Vec::new();
    loop {
        let more = reader.read(1 << 20).unwrap();
        if more.is_empty() {
            return records;
        }
        records.extend(more);
    }
}

/// Reads and releases until the records satisfy a condition.
pub(crate) fn read_until(
    reader: &mut SpoolReader,
    enough: impl Fn(&[Record]) -> bool,
) -> Vec<Record> {
    let deadline = Instant::now() + DEADLINE;
    let mut records = Vec::new();
    loop {
        let more = read_all(reader);
        reader.release(&reader.position()).unwrap();
        records.extend(more);
        if enough(&records) {
            return records;
        }
        assert!(Instant::now() < deadline, "the records do not come");
        wait_for_more(reader);
    }
}

/// Waits for the reader's descriptor, a while at most.
pub(crate) fn wait_for_more(reader: &SpoolReader) {
    let mut fds = [PollFd::new(reader, PollFlags::IN)];
    let limit = Timespec {
        tv_sec: 5,
        tv_nsec: 0,
    };
    poll(&mut fds, Some(&limit)).unwrap();
}
