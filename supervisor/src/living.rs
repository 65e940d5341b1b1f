//! Living workers: found, proved to be who they say, watched until they end, and asked.
//!
//! A worker is dead on a definite answer only: its lock is free, or its pidfd says so. That it does
//! not answer proves nothing (I7).

use std::{
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tithon_ipc::{
    control::{Client, ControlError, Reply, Request},
    files::{self, KernelRecord, WorkerRecord},
    lock::Lock,
    process::WatchedProcess,
    python_kernel::PythonKernel,
};
use tokio::{
    net::UnixStream,
    time::{Instant, sleep, timeout},
};

/// How long a process that holds a worker's lock may take to listen.
const SETTLE: Duration = Duration::from_secs(5);
/// How long a worker may take to accept a connection and say hello, which costs it nothing.
const HELLO: Duration = Duration::from_secs(10);
/// Between two looks at something that cannot be waited for.
const POLL: Duration = Duration::from_millis(20);

/// Why the holder of a worker's lock cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FindError {
    /// The directory cannot be read.
    #[error("{path} cannot be read: {source}")]
    Io { path: PathBuf, source: io::Error },
    /// The lock is held, but no worker listens.
    #[error("a process holds {0}, but no worker listens for it")]
    Silent(PathBuf),
}

/// Whether the session's kernel lives.
pub(crate) fn kernel_lives(dir: &Path) -> bool {
    KernelRecord::read(dir)
        .ok()
        .and_then(|record| record.process.open().ok().flatten())
        .is_some()
        || matches!(PythonKernel::find(dir), Ok(PythonKernel::Proven(_)))
}

/// A worker that was alive when it was found.
pub(crate) struct Living {
    record: Arc<WorkerRecord>,
    process: WatchedProcess,
}

impl Living {
    /// The worker that owns the session; `None` when nobody does.
    ///
    /// # Errors
    /// When somebody holds the lock but does not listen within some seconds.
    pub(crate) async fn find(dir: &Path) -> Result<Option<Self>, FindError> {
        let lock = files::worker_lock(dir);
        let deadline = Instant::now() + SETTLE;
        loop {
            match Lock::is_held(&lock) {
                Ok(false) => return Ok(None),
                Ok(true) => {}
                Err(source) => return Err(FindError::Io { path: lock, source }),
            }
            // Between lock and record a worker is starting; the record is then of an earlier one.
            if let Some(living) = Self::named(dir).await {
                return Ok(Some(living));
            }
            if Instant::now() > deadline {
                return Err(FindError::Silent(lock));
            }
            sleep(POLL).await;
        }
    }

    /// The process that `worker.json` names, if it lives and is the one behind its socket.
    async fn named(dir: &Path) -> Option<Self> {
        let record = WorkerRecord::read(dir).ok()?;
        let handle = record.process.open().ok()??;
        match UnixStream::connect(&record.control).await {
            Ok(stream) if stream.peer_cred().ok()?.pid() == Some(record.process.pid) => {}
            // Its queue is full: busy, not gone.
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
            Ok(_) | Err(_) => return None,
        }
        Some(Self {
            record: Arc::new(record),
            process: WatchedProcess::new(handle).ok()?,
        })
    }

    /// Who it is and where it listens.
    pub(crate) fn record(&self) -> &Arc<WorkerRecord> {
        &self.record
    }

    /// Waits until the process has ended.
    pub(crate) async fn ended(&self) {
        self.process.ended().await;
    }

    /// Whether its process has ended, rather than given the session up.
    pub(crate) fn has_ended(&self) -> bool {
        !self.process.handle().is_alive()
    }

    /// Whether it definitely owns the session no more.
    pub(crate) fn is_gone(&self, dir: &Path) -> bool {
        self.has_ended() || matches!(Lock::is_held(&files::worker_lock(dir)), Ok(false))
    }
}

/// Why a worker did not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// It was not reached: it cannot have acted.
    #[error("it cannot be reached: {0}")]
    Unreached(#[source] ControlError),
    /// It was reached and cannot be understood, now or later.
    #[error("{0}")]
    Incompatible(#[source] ControlError),
    /// The connection ended before the answer: it may have acted.
    #[error("it left without an answer: {0}")]
    Unanswered(#[source] ControlError),
    /// It took longer than it may.
    #[error("it did not answer within {} seconds", .0.as_secs())]
    Slow(Duration),
}

/// Asks a worker over a connection of its own. `limit` bounds the answer, not the hello.
///
/// # Errors
/// Any [`AskError`]; which one says whether it may have acted.
pub(crate) async fn ask(
    worker: &WorkerRecord,
    request: &Request,
    fd: Option<&OwnedFd>,
    limit: Duration,
) -> Result<Reply, AskError> {
    let mut client = timeout(HELLO, reach(worker))
        .await
        .map_err(|_| AskError::Slow(HELLO))??;
    match timeout(limit, client.call(request, fd)).await {
        Err(_) => Err(AskError::Slow(limit)),
        Ok(Err(err)) => Err(AskError::Unanswered(err)),
        Ok(Ok(reply)) => Ok(reply),
    }
}

async fn reach(worker: &WorkerRecord) -> Result<Client, AskError> {
    loop {
        match Client::connect(&worker.control).await {
            Ok(client) => return Ok(client),
            // A unix socket whose queue is full says so instead of waiting.
            Err(ControlError::Io(err)) if err.kind() == io::ErrorKind::WouldBlock => {
                sleep(POLL).await;
            }
            Err(err @ ControlError::Io(_)) => return Err(AskError::Unreached(err)),
            Err(err) => return Err(AskError::Incompatible(err)),
        }
    }
}
