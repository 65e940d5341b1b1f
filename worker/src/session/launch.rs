//! Starting kernels and taking them over.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::json;
use tithon_ipc::{
    client::{Frame, LaunchWish, Op},
    files::{self, KernelRecord},
    ids::{ExecId, SessionId},
    jupyter::{ConnectionFile, Signer},
    logs,
    naming::session_dir,
    process::{ProcessHandle, ProcessIdentity, boot_id},
};
use tokio::time::Instant;

use super::{
    Ending, Session,
    copies::CopyEvent,
    death::Remains,
    endpoints, inherited,
    kernel::{Capture, Kernel, KernelSlot, Origin},
    restore::Waking,
    spool::Spool,
};
use crate::{
    client::{Answer, ClientId},
    kernel::{
        channels::Channels,
        checkpoint::Weights,
        launcher,
        process::{self, KernelProcess, Spawn},
        spool::SpoolError,
        words,
    },
    python::{self, Launch, Wish},
    standing::limit_memory,
};

/// How much of `kernel.log` an error quotes.
const LAST_WORDS: usize = 2000;

/// What a launch under way says.
#[derive(Debug)]
pub(super) enum LaunchEvent {
    /// Progress, for people.
    Progress(String),
    /// A kernel was found, or not.
    Chosen(Box<Result<Launch, String>>),
    /// A checkpoint waits, or did not come that far.
    Frozen {
        exec: ExecId,
        epoch: u64,
        found: io::Result<ProcessIdentity>,
    },
    /// About a copy that lives beside the kernel.
    Copy(CopyEvent),
    /// What checkpoints cost.
    Weighed {
        processes: Vec<ProcessIdentity>,
        weights: Weights,
    },
    /// A checkpoint became a kernel, or could not.
    Woken {
        waking: Box<Waking>,
        woken: io::Result<ProcessHandle>,
    },
}

/// `launch.json`: what the kernel was started from, for later restarts. 0600: it holds an environment.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LaunchFile {
    wish: LaunchWish,
    #[serde(default)]
    pub(super) launch: Option<Launch>,
}

impl Session {
    /// Begins to start a kernel; what a client does not wish is as it was before.
    pub(super) fn start_kernel(&mut self, wish: Option<LaunchWish>, restart: Option<ClientId>) {
        let stored = files::read_json::<LaunchFile>(&self.place.dir.join("launch.json")).ok();
        let mut wish = wish.unwrap_or_default();
        if let Some(like) = wish.like.take()
            && wish.python.is_none()
            && wish.kernel.is_none()
        {
            (wish.python, wish.kernel) = self.recorded(&like);
        }
        if let Some(before) = stored.map(|stored| stored.wish) {
            if wish.python.is_none() && wish.kernel.is_none() {
                wish.python = before.python;
                wish.kernel = before.kernel;
            }
            wish.memory_max = wish.memory_max.or(before.memory_max);
            if wish.env.is_empty() {
                wish.env = before.env;
            }
        }
        if wish.env.is_empty() {
            wish.env = std::env::vars_os()
                .filter_map(|(name, value)| {
                    Some((name.into_string().ok()?, value.into_string().ok()?))
                })
                // The manager's word with this process alone.
                .filter(|(name, _)| name != "NOTIFY_SOCKET")
                .collect();
        }
        self.store_launch(&wish, None);
        self.kernel = KernelSlot::Choosing { restart };
        let (memory_max, standing) = (wish.memory_max, self.place.standing.clone());
        let wish = Wish {
            python: wish.python,
            kernel: wish.kernel,
            workdir: self.place.workdir.clone(),
            env: wish.env,
        };
        let envs = self.place.home.envs();
        let events = self.launch_sender.clone();
        // Looking for interpreters runs them: seconds on a cold network disk, minutes where an
        // environment is made. The session answers meanwhile.
        std::thread::spawn(move || {
            let progress = events.clone();
            let mut tell = |line: &str| drop(progress.send(LaunchEvent::Progress(line.to_owned())));
            let chosen = python::choose(&wish, &envs, &mut tell)
                .map_err(|err| format!("failed to {err}"))
                .and_then(|launch| {
                    memory_max.map_or(Ok(()), |bytes| limit_memory(&standing, bytes))?;
                    Ok(launch)
                });
            drop(events.send(LaunchEvent::Chosen(Box::new(chosen))));
        });
    }

    /// The Python or kernelspec that a session's kernel was last started from.
    fn recorded(&self, session: &str) -> (Option<String>, Option<String>) {
        let Ok(id) = SessionId::parse(session) else {
            return (None, None);
        };
        let dir = session_dir(&self.place.home.sessions(), &id, None);
        let Ok(recorded) = files::read_json::<LaunchFile>(&dir.join("launch.json")) else {
            return (None, None);
        };
        let LaunchFile { wish, launch } = recorded;
        match launch.and_then(|launch| launch.interpreter) {
            // Not the command that led to it: what it leads to depends on where it is given.
            Some(interpreter) if wish.kernel.is_none() => (Some(interpreter), None),
            _ => (wish.python, wish.kernel),
        }
    }

    /// The environment that the kernel was started from.
    pub(super) fn launch_env(&self) -> BTreeMap<String, String> {
        files::read_json::<LaunchFile>(&self.place.dir.join("launch.json"))
            .map(|stored| stored.wish.env)
            .unwrap_or_default()
    }

    /// How much memory the session is to have, in bytes.
    pub(super) fn memory_max(&self) -> Option<u64> {
        files::read_json::<LaunchFile>(&self.place.dir.join("launch.json"))
            .ok()?
            .wish
            .memory_max
    }

    /// Says that a kernel that runs is not the one that somebody asks for.
    pub(super) fn tell_unmet(&self, wish: &LaunchWish) {
        if wish.python.is_none() && wish.kernel.is_none() {
            return;
        }
        let file = self.place.dir.join("launch.json");
        let stored = files::read_json::<LaunchFile>(&file).map(|stored| stored.wish);
        if stored.is_ok_and(|met| met.python != wish.python || met.kernel != wish.kernel) {
            self.notice(
                "the session's kernel runs already and was not asked for so: a --python or --kernel is for a session without one (tithon kill)",
            );
        }
    }

    /// Notes a limit for the next kernel, and says that the one that runs has another.
    pub(super) fn limit_later(&mut self, bytes: u64) {
        let file = self.place.dir.join("launch.json");
        let stored = files::read_json::<LaunchFile>(&file);
        match stored {
            Ok(stored) if stored.wish.memory_max == Some(bytes) => {}
            Ok(mut stored) => {
                stored.wish.memory_max = Some(bytes);
                self.store_launch(&stored.wish, stored.launch.as_ref());
                self.notice(
                    "the session's kernel runs already: the limit of memory applies from its next start on (tithon restart)",
                );
            }
            Err(err) => {
                tracing::warn!("failed to note a limit of memory: {err}");
                self.notice(
                    "the session's kernel runs already, and its limit of memory stays as it is",
                );
            }
        }
    }

    fn store_launch(&self, wish: &LaunchWish, launch: Option<&Launch>) {
        let file = LaunchFile {
            wish: wish.clone(),
            launch: launch.cloned(),
        };
        let path = self.place.dir.join("launch.json");
        // A wish alone lasts until the kernel is found; clients are not answered before.
        let written = match launch {
            Some(_) => files::write_json_durable(&path, &file),
            None => files::write_json(&path, &file),
        };
        if let Err(err) = written {
            tracing::warn!("failed to note how the kernel is started: {err}");
        }
    }

    pub(super) fn launch_event(&mut self, event: LaunchEvent) {
        match event {
            LaunchEvent::Progress(line) => self.notice(&line),
            LaunchEvent::Frozen { exec, epoch, found } => self.frozen(exec, epoch, found),
            LaunchEvent::Weighed { processes, weights } => {
                self.checkpoints_weighed(&processes, &weights);
            }
            LaunchEvent::Copy(event) => self.copy_event(event),
            LaunchEvent::Woken { waking, woken } => self.woken(*waking, woken),
            LaunchEvent::Chosen(chosen) => {
                let KernelSlot::Choosing { restart } = self.kernel else {
                    return;
                };
                let launched = chosen.and_then(|launch| {
                    self.launch(launch, restart)
                        .map_err(|err| format!("the kernel cannot be started: {err}"))
                });
                if let Err(reason) = launched {
                    self.start_failed(&reason, restart);
                }
            }
        }
    }

    fn launch(&mut self, launch: Launch, restart: Option<ClientId>) -> io::Result<()> {
        let stored = files::read_json::<LaunchFile>(&self.place.dir.join("launch.json"))?;
        self.store_launch(&stored.wish, Some(&launch));
        let file = self.place.dir.join("kernel.json");
        let connection = self.new_connection(&launch, &stored.wish.env)?;
        files::write_json(&file, &connection)?;
        let launcher = if launch.under_launcher() {
            Some(launcher::install(&self.place.home.launchers())?)
        } else {
            None
        };
        let argv = command_line(&launch, launcher.as_deref(), &file);
        let mut env: BTreeMap<String, String> = stored.wish.env;
        env.retain(|name, _| !launch.env_remove.contains(name));
        env.extend(launch.env.clone());
        let capture = self
            .new_capture(&launch, &mut env)
            .map_err(io::Error::other)?;
        // Opened before the kernel exists: from its first moment there is no way to lose it.
        let (channels, incoming) =
            Channels::open(&connection, &self.identity()).map_err(io::Error::other)?;
        let log = words::open(&self.place.dir)?;
        let log_start = log.metadata()?.len();
        let process = KernelProcess::spawn(&Spawn {
            argv: &argv,
            env: &env,
            workdir: &self.place.workdir,
            dir: &self.place.dir,
            log: &log,
            leaf: self.place.leaf().as_ref(),
        })?;
        tracing::info!(pid = process.pid(), why = launch.why, "started a kernel");
        let signer = Signer::new(&connection.key, self.identity());
        let origin = Origin::Started { restart, log_start };
        let kernel = Kernel::new(process, channels, signer, launch, capture, origin);
        self.kernel_events = incoming;
        self.numbering = Default::default();
        self.kernel = KernelSlot::Running(Box::new(kernel));
        Ok(())
    }

    /// Removes the sockets that a kernel left behind.
    pub(super) fn remove_endpoints(&self) {
        endpoints::remove(&self.place.home.kernel_endpoint(&self.place.key));
    }

    /// Where a kernel that is about to start is to be read.
    fn new_capture(
        &self,
        launch: &Launch,
        env: &mut BTreeMap<String, String>,
    ) -> Result<Capture, SpoolError> {
        if !launch.under_launcher() {
            return Ok(Capture::Zmq);
        }
        let dir = self.spool_dir();
        let spool = Spool::open(&dir, self.spool_position.as_deref(), false)?;
        env.insert(
            launcher::SPOOL.to_owned(),
            dir.to_string_lossy().into_owned(),
        );
        env.insert(launcher::SPOOL_BASE.to_owned(), spool.offset().to_string());
        Ok(Capture::Spool(Box::new(spool)))
    }

    /// Where a kernel that an earlier worker started is to be read.
    fn old_capture(&self, launch: &Launch, pid: i32) -> Capture {
        if !launch.under_launcher() {
            return Capture::Zmq;
        }
        let greeted = self.greeted == Some(pid.to_string());
        match Spool::open(&self.spool_dir(), self.spool_position.as_deref(), greeted) {
            Ok(spool) => Capture::Spool(Box::new(spool)),
            Err(err) => {
                tracing::error!("failed to {err}: the kernel's output is read over zmq");
                Capture::Zmq
            }
        }
    }

    pub(super) fn spool_dir(&self) -> PathBuf {
        self.place.dir.join("spool")
    }

    /// The routing id on the kernel's sockets, the same for every worker of the session.
    pub(super) fn identity(&self) -> String {
        format!("tithon-{}", self.place.key)
    }

    /// Takes over the kernel that an earlier worker left, if it lives; ends its cells if it does not.
    /// Never starts one (I9): perhaps worker and kernel were killed together on purpose.
    pub(super) async fn adopt_kernel(&mut self) -> Result<(), String> {
        let failed = |what: &str, err: &dyn std::fmt::Display| {
            format!("the kernel cannot be taken over: {what}: {err}")
        };
        let Some(process) =
            KernelProcess::adopt(&self.place.dir).map_err(|err| failed("its process", &err))?
        else {
            // Also a kernel whose worker died before it could note it.
            process::sweep(&self.place.dir, self.place.leaf().as_ref()).await;
            self.open_remains();
            return Ok(());
        };
        let file = self.place.dir.join("kernel.json");
        let connection: ConnectionFile = files::read_json(&file).map_err(|err| {
            // Nobody can talk to it any more: ending it is the user's decision.
            let way_out = format!(
                "{err}; restore the file, or `kill {}` ends the kernel and leaves its history",
                process.pid()
            );
            failed("its connection file", &way_out)
        })?;
        let launch = files::read_json::<LaunchFile>(&self.place.dir.join("launch.json"))
            .ok()
            .and_then(|stored| stored.launch);
        let launch = match launch {
            Some(launch) if !inherited::is_inherited(&connection) => launch,
            _ => inherited::launch(),
        };
        let pid = process.pid();
        if let Some(leaf) = self.place.leaf() {
            leaf.take_in_branch(pid, &self.place.key);
        }
        let capture = self.old_capture(&launch, pid);
        let identity = match &self.inherited_identity {
            Some(identity) if inherited::is_inherited(&connection) => identity.clone(),
            _ => self.identity(),
        };
        let (channels, incoming) =
            Channels::open(&connection, &identity).map_err(|err| failed("its channels", &err))?;
        let signer = Signer::new(&connection.key, identity);
        let kernel = Kernel::new(process, channels, signer, launch, capture, Origin::Adopted);
        self.kernel_events = incoming;
        self.kernel = KernelSlot::Running(Box::new(kernel));
        self.kernel_adopted(pid);
        tracing::info!(pid, "took over a kernel");
        Ok(())
    }

    /// Begins to read what a kernel left that ended while no worker was there.
    fn open_remains(&mut self) {
        let record = KernelRecord::read(&self.place.dir).ok();
        let spool = record
            .as_ref()
            .filter(|record| self.greeted == Some(record.process.pid.to_string()))
            .map(|_| Spool::open(&self.spool_dir(), self.spool_position.as_deref(), true));
        match (record, spool) {
            (Some(record), Some(Ok(spool))) => {
                self.kernel = KernelSlot::Remains(Box::new(Remains {
                    pid: record.process.pid,
                    spool,
                    complete: record.process.boot_id == boot_id(),
                    wish: None,
                }));
            }
            (_, spool) => {
                if let Some(Err(err)) = spool {
                    tracing::error!("failed to {err}: what the last kernel said last is not known");
                }
                self.orphan_all();
            }
        }
    }

    /// What to say of a kernel that ended before it was ready.
    pub(super) fn died_at_start(&self, log_start: u64) -> String {
        let log = logs::kernel(&self.place.dir);
        let words = last_words(&log, log_start).unwrap_or_default();
        let said = if words.is_empty() {
            String::new()
        } else {
            format!("\nits last words:\n{words}")
        };
        format!(
            "kernel process exited during startup — is ipykernel installed for this interpreter? (see {}){said}",
            log.display()
        )
    }

    /// No kernel could be started: whoever waits for one is told why.
    pub(super) fn start_failed(&mut self, reason: &str, restart: Option<ClientId>) {
        tracing::warn!(
            "failed to start a kernel: {}",
            reason.lines().next().unwrap_or_default()
        );
        let error: tokio_tungstenite::tungstenite::Utf8Bytes =
            Frame::Error { message: reason }.to_text().into();
        let pid = self.kernel.pid().unwrap_or(0);
        if let Some(client) = restart {
            self.kernel = KernelSlot::Dead { pid };
            self.journal_kernel(&json!({"status": "dead", "pid": pid, "deliberate": false}));
            self.answer(client, Answer::Frame(error.clone()));
            let others = self
                .waiting
                .extract_if(.., |(_, op)| matches!(op, Op::RestartKernel));
            for (other, _) in others.collect::<Vec<_>>() {
                self.answer(other, Answer::Frame(error.clone()));
            }
            self.answer_waiting();
            return self.start_next();
        }
        for (client, _) in std::mem::take(&mut self.waiting) {
            self.answer(client, Answer::Close(error.clone()));
        }
        self.orphan_all();
        self.kernel = KernelSlot::Absent;
        self.ending = Some(Ending::Unused);
        self.last_touch = Instant::now();
    }
}

fn command_line(launch: &Launch, launcher: Option<&Path>, connection_file: &Path) -> Vec<String> {
    let mut argv = Vec::with_capacity(launch.argv.len() + 1);
    for argument in &launch.argv {
        match launcher {
            Some(launcher) if argument == python::LAUNCHER => {
                // As Jupyter's own kernelspec has it: debuggers cannot step through frozen modules.
                argv.push("-Xfrozen_modules=off".to_owned());
                argv.push(launcher.to_string_lossy().into_owned());
            }
            _ => argv.push(
                argument.replace(python::CONNECTION_FILE, &connection_file.to_string_lossy()),
            ),
        }
    }
    argv
}

fn last_words(log: &Path, from: u64) -> io::Result<String> {
    use io::{Read as _, Seek as _};
    let mut file = fs::File::open(log)?;
    let end = file.metadata()?.len();
    let start = from.max(end.saturating_sub(LAST_WORDS as u64));
    file.seek(io::SeekFrom::Start(start))?;
    let mut words = Vec::new();
    file.take(LAST_WORDS as u64).read_to_end(&mut words)?;
    Ok(String::from_utf8_lossy(&words).trim().to_owned())
}
