//! A second session with this one's history and a copy of its kernel, which go on independently.
//!
//! Everything is made under the worker's lock of the new session, `meta.json` last: until then nobody
//! finds it. The copy waits to be let go until everything names it, and ends if this worker does before.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::Signal;
use serde_json::json;
use tithon_ipc::{
    client::{BranchWish, Connection, Frame},
    files::{self, KernelRecord, Meta, worker_lock},
    ids::SessionId,
    lock::Lock,
    naming::session_dir,
    paths::Home,
    process::ProcessHandle,
};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

use super::{Source, Wish};
use crate::{
    artifacts::{Unsettled, copy_for},
    journal::{self, Cut},
    kernel::{
        checkpoint::{Copy, CopyOrder, Seat},
        spool::{Record, SpoolPosition, SpoolReader},
    },
    session::{Place, endpoints},
};

/// How long the copy may take until it can be asked something.
const READY_PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks whether it can.
const LOOK: Duration = Duration::from_millis(10);
/// How long the supervisor may take to start a worker.
const WORKER_PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of spool read at once.
const READ_MAX: usize = 64 << 10;

/// A session that is about to branch off.
pub(super) struct Branching {
    pub(super) source: Source,
    /// The one that it branches off.
    pub(super) session: Place,
    pub(super) wish: BranchWish,
    /// Tells that this is under way: nobody has anything to say to it.
    pub(super) _gone: mpsc::UnboundedReceiver<Wish>,
}

/// Words for the person who asked.
type Why = String;

fn because(what: &'static str) -> impl Fn(io::Error) -> Why {
    move |err| format!("the session cannot be branched: {what}: {err}")
}

impl Branching {
    /// Makes the session; returns what to answer the client.
    pub(super) async fn run(self) -> String {
        let made = self.make().await;
        // The copy has its own memory by now, or there is none.
        self.source.is_used();
        match made {
            Ok((kernel_pid, executions)) => Frame::Branched {
                session: self.wish.name.as_str(),
                from: self.wish.from.as_deref(),
                kernel_pid,
                executions,
            }
            .to_text(),
            Err(message) => Frame::Error { message: &message }.to_text(),
        }
    }

    async fn make(&self) -> Result<(i32, u64), Why> {
        let site = Site::claim(&self.session, &self.wish.name)?;
        let made = self.fill(&site).await;
        if made.is_err() {
            site.remove();
        }
        let (process, executions) = made?;
        let pid = process.identity().pid;
        tracing::info!(pid, session = self.wish.name.as_str(), "branched");
        let Site { lock, .. } = site;
        drop(lock);
        if let Err(err) = start_worker(&self.session.home, &self.wish.name).await {
            // The next one who asks for the session starts it.
            tracing::warn!("failed to start the worker of a branch: {err}");
        }
        Ok((pid, executions))
    }

    async fn fill(&self, site: &Site) -> Result<(ProcessHandle, u64), Why> {
        let order = site
            .prepare(&self.session)
            .map_err(because("its directory"))?;
        let copy = Copy::of(&self.source.socket, &self.source.process, &order)
            .await
            .map_err(because("its kernel"))?;
        let process = copy.process().identity().clone();
        let executions = self.write_journal(site, process.pid).await?;
        files::write_atomic(
            &site.dir.join("kernel.pid"),
            process.pid.to_string().as_bytes(),
        )
        .and_then(|()| KernelRecord { process }.write(&site.dir))
        .and_then(|()| Meta::new(&self.wish.name, &self.session.workdir).write(&site.dir))
        .map_err(because("its directory"))?;
        let kernel = copy.let_go().await.map_err(because("its kernel"))?;
        if let Err(why) = hear(&order.seat.spool, &kernel).await {
            kernel.signal(Signal::KILL).ok();
            return Err(why);
        }
        Ok((kernel, executions))
    }

    /// Copies the history, which may take a while: not on the event loop.
    async fn write_journal(&self, site: &Site, pid: i32) -> Result<u64, Why> {
        let (from, to) = (
            self.session.dir.join("journal.db"),
            site.dir.join("journal.db"),
        );
        let cut = Cut {
            through: self.source.through,
            session_id: self.wish.name.as_str().to_owned(),
            event: json!({
                "status": "branched",
                "pid": pid,
                "session": self.session.id.as_str(),
                "from": self.wish.from,
                "deliberate": true,
            }),
        };
        let (workdir, key) = (self.session.workdir.clone(), self.wish.name.key());
        // What it names that the journal does not is removed, whoever finds it: we, a worker of the branch, or
        // whoever takes the name after we were killed.
        let mut images = Unsettled::load(&site.dir);
        let written = tokio::task::spawn_blocking(move || {
            journal::branch(&from, &to, &cut, &mut |image| {
                let (path, id) = (&image.rel_path, &image.artifact_id);
                copy_for(key.as_str(), &workdir, path, id, &mut images)
            })
        });
        match written.await {
            Ok(Ok(executions)) => Ok(executions),
            Ok(Err(err)) => Err(format!("the session cannot be branched: {err}")),
            Err(err) => Err(format!(
                "the session cannot be branched: its history: {err}"
            )),
        }
    }
}

/// Where the new session is to be.
struct Site {
    dir: PathBuf,
    /// The project that its images are in.
    workdir: PathBuf,
    /// The prefix of its kernel's sockets.
    endpoint: PathBuf,
    lock: Lock,
}

impl Site {
    /// Takes a name that no session has.
    fn claim(session: &Place, name: &SessionId) -> Result<Self, Why> {
        let dir = session_dir(&session.home.sessions(), name, None);
        let taken = || {
            format!(
                "there is a session '{0}' already\nhint: another name, or `tithon rm --session '{0}'`",
                name.as_str()
            )
        };
        let claimed = because("its directory");
        match fs::DirBuilder::new().mode(0o700).create(&dir) {
            Err(err) if err.kind() != io::ErrorKind::AlreadyExists => return Err(claimed(err)),
            _ => {}
        }
        let lock = Lock::try_acquire(&worker_lock(&dir)).map_err(&claimed)?;
        let lock = lock.ok_or_else(taken)?;
        // One without a name is what a worker left that was killed in the middle of this.
        if dir.join("meta.json").exists() {
            return Err(taken());
        }
        let site = Self {
            endpoint: session.home.kernel_endpoint(&name.key()),
            workdir: session.workdir.clone(),
            dir,
            lock,
        };
        site.empty().map_err(claimed)?;
        Ok(site)
    }

    /// Removes everything in it but the lock, which others may look at, and the images that were to be its.
    fn empty(&self) -> io::Result<()> {
        self.remove_images();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let path = entry.path();
            if path == worker_lock(&self.dir) {
                continue;
            }
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(path)?;
            } else {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// Makes what the kernel needs; returns what a checkpoint is told of it.
    fn prepare(&self, session: &Place) -> io::Result<CopyOrder> {
        let spool = self.dir.join("spool");
        fs::DirBuilder::new().mode(0o700).create(&spool)?;
        let launched = "launch.json";
        files::write_durable(
            &self.dir.join(launched),
            &fs::read(session.dir.join(launched))?,
        )?;
        let kernel = files::read_json::<tithon_ipc::jupyter::ConnectionFile>(
            &session.dir.join("kernel.json"),
        )?;
        let connection = self.dir.join("kernel.json");
        files::write_json(
            &connection,
            &endpoints::ipc(&self.endpoint, &kernel.kernel_name)?,
        )?;
        endpoints::remove(&self.endpoint);
        let name = self.endpoint.file_name().unwrap_or_default();
        let key = name.to_string_lossy();
        let key = key.strip_suffix(".k").unwrap_or(&key);
        let group = session.group.as_ref().and_then(|group| {
            let leaf = group.of_branch(key);
            leaf.make().is_ok().then(|| leaf.entrance())
        });
        Ok(CopyOrder {
            seat: Seat {
                connection,
                spool,
                log: self.dir.join("kernel.log"),
            },
            mark: self.dir.clone(),
            group,
            guarded: false,
            expendable: false,
        })
    }

    fn remove_images(&self) {
        Unsettled::load(&self.dir).remove_files(&self.workdir, |_| false);
    }

    fn remove(&self) {
        endpoints::remove(&self.endpoint);
        self.remove_images();
        if let Err(err) = fs::remove_dir_all(&self.dir) {
            tracing::warn!("failed to remove what there was of a branch: {err}");
        }
    }
}

/// Waits until the copy has said that it can be used.
async fn hear(spool: &Path, kernel: &ProcessHandle) -> Result<(), Why> {
    let mut reader = SpoolReader::open(spool, SpoolPosition::default())
        .map_err(|err| format!("the session cannot be branched: failed to {err}"))?;
    let heard = async {
        loop {
            let alive = kernel.is_alive();
            let records = reader
                .read(READ_MAX)
                .map_err(|err| format!("the session cannot be branched: failed to {err}"))?;
            if records.iter().any(|it| matches!(it, Record::Hello(_))) {
                return Ok(());
            }
            if !alive {
                return Err(
                    "the session cannot be branched: the copy of its kernel died".to_owned(),
                );
            }
            sleep(LOOK).await;
        }
    };
    timeout(READY_PATIENCE, heard).await.unwrap_or_else(|_| {
        Err(
            "the session cannot be branched: the copy of its kernel does not come to life"
                .to_owned(),
        )
    })
}

/// Has the supervisor start the session's worker, which takes the kernel over.
async fn start_worker(home: &Home, name: &SessionId) -> Result<(), String> {
    let attach = json!({
        "op": "attach", "session": name.as_str(), "last_seen_seq": -1, "start_kernel": false,
    });
    let started = async {
        let mut connection = Connection::open(home).await?;
        connection.send(&attach).await?;
        connection.next().await?;
        connection.close().await;
        Ok::<_, tithon_ipc::client::ConnectionError>(())
    };
    match timeout(WORKER_PATIENCE, started).await {
        Ok(started) => started.map_err(|err| err.to_string()),
        Err(_) => Err("the supervisor does not answer".to_owned()),
    }
}
