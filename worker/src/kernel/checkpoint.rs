//! Frozen copies of a kernel (`launcher/tithon_checkpoint.py`): found by their socket, known by who
//! listens on it, woken, weighed, ended.

use std::{
    fs, io,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tithon_ipc::process::{ProcessHandle, ProcessIdentity};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    time::{sleep, timeout},
};

use super::process::signal_group;

/// How long a kernel may take to answer that it has forked, or not; a fork of a hundred gigabytes needs a second.
pub(crate) const ANSWER_PATIENCE: Duration = Duration::from_secs(30);
/// How long a copy may take from the fork to its socket.
pub(crate) const FREEZE_PATIENCE: Duration = Duration::from_secs(10);
/// How long a kernel may be busy with something that is no cell.
pub(crate) const REST_PATIENCE: Duration = Duration::from_secs(10);
/// Between two attempts of that time.
pub(crate) const REST_PAUSE: Duration = Duration::from_millis(100);
/// How long a checkpoint may take to fork; page tables of a hundred gigabytes need a second.
const WAKE_PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks for one that is about to listen.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// How long a copy, and what it started, may take to be killed.
const END_PATIENCE: Duration = Duration::from_secs(10);
/// How long a copy may take to say what its variables are.
const SHOW_PATIENCE: Duration = Duration::from_secs(8);
/// Bytes of what it says.
const VARIABLES_MAX: u64 = 8 << 20;
/// An answer is a process id.
const ANSWER_MAX: u64 = 1024;

/// A `tithon_checkpoint_reply`: what came of the request to fork.
#[derive(Debug, Deserialize)]
pub(crate) struct ForkReply {
    /// `ok`, `busy` or `refused`.
    pub(crate) status: String,
    /// Why it was refused.
    #[serde(default)]
    pub(crate) reason: String,
    /// What it cost the kernel, in seconds.
    #[serde(default)]
    pub(crate) seconds: f64,
}

/// The checkpoint that listens, or will within the time, on a socket.
///
/// # Errors
/// When nobody does.
pub async fn find(socket: &Path, within: Duration) -> io::Result<ProcessIdentity> {
    let deadline = Instant::now() + within;
    loop {
        match UnixStream::connect(socket).await {
            Ok(stream) => return listener(&stream),
            Err(err) if Instant::now() >= deadline => return Err(err),
            Err(_) => sleep(LOOK_INTERVAL).await,
        }
    }
}

/// Whoever listens at the other end.
fn listener(stream: &UnixStream) -> io::Result<ProcessIdentity> {
    let gone = || io::Error::from(io::ErrorKind::NotFound);
    let pid = stream.peer_cred()?.pid().ok_or_else(gone)?;
    ProcessIdentity::of(pid)?.ok_or_else(gone)
}

/// Lets a checkpoint become a kernel, which writes its spool from `spool_base` on, where `seat` says if that
/// is not where it was made. The checkpoint stays what it is.
///
/// # Errors
/// When it does not listen, is another process than it was, or cannot fork.
pub async fn wake(
    socket: &Path,
    checkpoint: &ProcessIdentity,
    spool_base: u64,
    seat: Option<Seat>,
) -> io::Result<ProcessHandle> {
    let order = Order::Wake { spool_base, seat };
    fork(socket, checkpoint, &order).await.map(|(pid, _)| pid)
}

/// What a checkpoint is asked for.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Order<'a> {
    Wake {
        spool_base: u64,
        #[serde(flatten)]
        seat: Option<Seat>,
    },
    Copy(&'a CopyOrder),
    Show {
        /// Most variables.
        most: u32,
    },
}

/// Where a kernel is reached and heard.
#[derive(Clone, Debug, Serialize)]
pub struct Seat {
    /// Its connection file.
    pub connection: PathBuf,
    /// Its spool.
    pub spool: PathBuf,
    /// Where what its programs write to neither spool nor terminal goes.
    pub log: PathBuf,
}

/// How a copy of a checkpoint is to live beside the session's kernel.
#[derive(Clone, Debug, Serialize)]
pub struct CopyOrder {
    /// Its own, with a spool that is empty.
    #[serde(flatten)]
    pub seat: Seat,
    /// The directory that it belongs to, instead of the session's.
    pub mark: PathBuf,
    /// Where it enters a control group, if it is to be in one.
    pub group: Option<PathBuf>,
    /// Whether it ends, with all it started, as soon as nobody holds it; else it waits to be let go.
    pub guarded: bool,
    /// Whether it is to leave no trace in IPython's history, and to be killed for memory before any kernel.
    pub expendable: bool,
}

/// A copy that lives as long as this is held.
#[derive(Debug)]
pub struct Copy {
    process: ProcessHandle,
    connection: BufReader<UnixStream>,
}

impl Copy {
    /// Lets a checkpoint fork a copy.
    ///
    /// # Errors
    /// Those of [`wake`]; a checkpoint that an earlier version of Tithon made knows no copies.
    pub async fn of(
        socket: &Path,
        checkpoint: &ProcessIdentity,
        order: &CopyOrder,
    ) -> io::Result<Self> {
        let (process, connection) = fork(socket, checkpoint, &Order::Copy(order)).await?;
        Ok(Self {
            process,
            connection,
        })
    }

    /// Its process.
    pub fn process(&self) -> &ProcessHandle {
        &self.process
    }

    /// Lets one that has no guard live on its own.
    ///
    /// # Errors
    /// When it has ended.
    pub async fn let_go(mut self) -> io::Result<ProcessHandle> {
        self.connection.get_mut().write_all(b"go\n").await?;
        Ok(self.process)
    }

    /// Returns once it has ended by itself, with how.
    pub async fn ended(&mut self) -> Option<ExitStatus> {
        #[derive(Deserialize)]
        struct Ended {
            ended: i32,
        }
        let mut line = String::new();
        self.connection.read_line(&mut line).await.ok()?;
        let Ended { ended } = serde_json::from_str(&line).ok()?;
        Some(ExitStatus::from_raw(ended))
    }

    /// Ends it and everything that it started, and returns once that is done.
    pub async fn end(mut self) {
        self.connection.get_mut().shutdown().await.ok();
        let mut rest = Vec::new();
        let gone = self.connection.read_to_end(&mut rest);
        if timeout(END_PATIENCE, gone).await.is_err() {
            self.process.signal(Signal::KILL).ok();
        }
    }
}

/// The variables of a frozen kernel.
#[derive(Debug, Default)]
pub struct Variables {
    /// Those that are shown: `{name: {"type", "repr"}}`.
    pub variables: serde_json::Map<String, serde_json::Value>,
    /// How many are not.
    pub left_out: u64,
}

/// A line of what a copy says of its variables.
#[derive(Deserialize)]
#[serde(untagged)]
enum Told {
    Of {
        of: u64,
    },
    Variable {
        name: String,
        #[serde(flatten)]
        described: serde_json::Map<String, serde_json::Value>,
    },
}

/// Asks a copy of a checkpoint, thrown away afterwards, what its variables are. What it does not come to say
/// within some seconds is left out.
///
/// # Errors
/// Those of [`wake`].
pub async fn variables(
    socket: &Path,
    checkpoint: &ProcessIdentity,
    most: u32,
) -> io::Result<Variables> {
    let (process, connection) = fork(socket, checkpoint, &Order::Show { most }).await?;
    let mut lines = connection.take(VARIABLES_MAX).lines();
    let mut found = Variables::default();
    let told = async {
        while let Ok(Some(line)) = lines.next_line().await {
            match serde_json::from_str(&line) {
                Ok(Told::Of { of }) => found.left_out = of,
                Ok(Told::Variable { name, described }) => {
                    found.left_out = found.left_out.saturating_sub(1);
                    found.variables.insert(name, described.into());
                }
                Err(err) => tracing::debug!("a copy's variable cannot be understood: {err}"),
            }
        }
    };
    timeout(SHOW_PATIENCE, told).await.ok();
    // It leads the group of what it has started.
    signal_group(&process, Signal::KILL);
    Ok(found)
}

/// Proves that a checkpoint forks.
///
/// # Errors
/// When it does not listen, is another process than it was, or does not fork in time.
pub async fn prove(socket: &Path, checkpoint: &ProcessIdentity) -> io::Result<()> {
    variables(socket, checkpoint, 0).await.map(drop)
}

/// Asks a checkpoint to fork; the connection over which it was asked goes on.
async fn fork(
    socket: &Path,
    checkpoint: &ProcessIdentity,
    order: &Order<'_>,
) -> io::Result<(ProcessHandle, BufReader<UnixStream>)> {
    let forked = timeout(WAKE_PATIENCE, async {
        let mut stream = UnixStream::connect(socket).await?;
        if listener(&stream)? != *checkpoint {
            return Err(io::Error::other("another process listens on its socket"));
        }
        let order = format!("{}\n", serde_json::to_string(order)?);
        stream.write_all(order.as_bytes()).await?;
        let mut connection = BufReader::new(stream);
        let mut answer = String::new();
        (&mut connection)
            .take(ANSWER_MAX)
            .read_line(&mut answer)
            .await?;
        if answer.is_empty() {
            // It says nothing to what it does not know.
            return Err(io::Error::other(
                "it could not fork, or an earlier version of Tithon made it",
            ));
        }
        let Forked { pid } = serde_json::from_str(&answer).map_err(io::Error::other)?;
        ProcessIdentity::of(pid)?
            .map(|process| process.open())
            .transpose()?
            .flatten()
            .map(|process| (process, connection))
            .ok_or_else(|| io::Error::other("the kernel ended at once"))
    });
    forked.await.unwrap_or_else(|_| {
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "it does not answer",
        ))
    })
}

#[derive(Deserialize)]
struct Forked {
    pid: i32,
}

/// Ends a checkpoint; one that has ended already is fine.
pub fn end(checkpoint: &ProcessIdentity, socket: &Path) {
    if let Ok(Some(process)) = checkpoint.open() {
        process.signal(Signal::KILL).ok();
    }
    fs::remove_file(socket).ok();
}

/// What checkpoints cost, and what the machine has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Weights {
    /// Of each checkpoint, in the order asked, the bytes that nobody shares; `None` for one that has ended.
    pub private: Vec<Option<u64>>,
    /// Bytes there would be more if there were no checkpoints: also what they share with each other only.
    pub together: u64,
    /// Whether the machine, or this control group, is short of memory.
    pub pressure: bool,
}

/// Weighs a kernel's checkpoints. Takes milliseconds for each gigabyte: not for an event loop.
pub fn weigh(kernel: Option<i32>, checkpoints: &[ProcessIdentity]) -> Weights {
    let rollup = |pid| Rollup::of(pid).ok();
    let kernel = kernel.and_then(rollup).unwrap_or_default();
    let each: Vec<_> = checkpoints
        .iter()
        .map(|process| {
            let alive = matches!(process.open(), Ok(Some(_)));
            alive.then(|| rollup(process.pid)).flatten()
        })
        .collect();
    // A page that n processes share counts 1/n in each: the sum is what there is.
    let shares: u64 = each.iter().flatten().map(|found| found.share).sum();
    Weights {
        private: each
            .iter()
            .map(|found| found.map(|found| found.private))
            .collect(),
        together: (kernel.share + shares).saturating_sub(kernel.mapped),
        pressure: under_pressure(),
    }
}

/// Anonymous memory of a process, in bytes (`/proc/PID/smaps_rollup`).
#[derive(Clone, Copy, Debug, Default)]
pub struct Rollup {
    /// Mapped, shared with other processes or not.
    pub mapped: u64,
    /// The same, each page divided by the processes that share it.
    pub share: u64,
    /// Dirty pages of its own.
    pub private: u64,
}

impl Rollup {
    /// What a process has now.
    ///
    /// # Errors
    /// When it has ended, or is another user's.
    pub fn of(pid: i32) -> io::Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
            Some(kib << 10)
        };
        let mapped = field("Anonymous:").unwrap_or(0);
        Ok(Self {
            mapped,
            // Linux before 5.0 does not tell it.
            share: field("Pss_Anon:").unwrap_or(mapped),
            private: field("Private_Dirty:").unwrap_or(0),
        })
    }
}

/// Per cent of the time in which somebody waited for memory, above which copies are a luxury.
const PRESSURE_MAX: f64 = 10.0;
/// Of the machine's memory, the part that must be left.
const AVAILABLE_MIN: u64 = 20;
/// With so much of it left, who waits for memory waits for files that are read again and again: giving up
/// copies would not help.
const AVAILABLE_AMPLE: u64 = 4;

fn under_pressure() -> bool {
    let stalled = fs::read_to_string("/proc/pressure/memory")
        .ok()
        .and_then(|text| stalled(&text))
        .is_some_and(|share| share > PRESSURE_MAX);
    let (total, available) = (memory("MemTotal:"), memory("MemAvailable:"));
    let below = |part: u64| {
        total
            .zip(available)
            .is_some_and(|(total, available)| available < total / part)
    };
    below(AVAILABLE_MIN) || (stalled && below(AVAILABLE_AMPLE))
}

fn stalled(pressure: &str) -> Option<f64> {
    let some = pressure.lines().find(|line| line.starts_with("some "))?;
    some.split_ascii_whitespace()
        .find_map(|word| word.strip_prefix("avg10="))?
        .parse()
        .ok()
}

/// The machine's memory, in bytes.
pub fn total_memory() -> u64 {
    memory("MemTotal:").unwrap_or(0)
}

fn memory(name: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_is_read() {
        let text = "some avg10=12.50 avg60=0.00 avg300=0.00 total=5\nfull avg10=99.00 avg60=0 avg300=0 total=0\n";
        assert_eq!(stalled(text), Some(12.5));
        assert_eq!(stalled("nothing"), None);
        assert!(total_memory() > 1 << 28);
    }

    #[test]
    fn what_has_ended_weighs_nothing() {
        let me = ProcessIdentity::current().unwrap();
        let gone = ProcessIdentity {
            start_time: me.start_time + 1,
            ..me.clone()
        };
        let weights = weigh(None, &[me, gone]);
        assert!(weights.private[0].is_some());
        assert_eq!(weights.private[1], None);
    }
}
