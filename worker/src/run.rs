//! A worker's life: take the lock, open the journal, listen, serve, leave in order.

use std::{
    collections::HashMap,
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
    rc::Rc,
    sync::mpsc::RecvTimeoutError,
    time::Duration,
};

use rustix::{fs::Mode, process::umask};
use sd_notify::NotifyState;
use tithon_ipc::{
    files::{Meta, WorkerRecord, sweep_unfinished, sync_names, worker_lock, worker_said},
    ids::SessionId,
    lock::Lock,
    paths::Home,
    process::ProcessIdentity,
    systemd::NOT_STARTED,
};
use tokio::{
    net::UnixListener,
    sync::mpsc,
    task::LocalSet,
    time::{Instant, timeout_at},
};

use crate::{
    client::{Answer, ClientId, Door, Link},
    control,
    feed::Feed,
    journal::{Journal, JournalError, JournalEvent, Loaded},
    session::{Command, Ending, Parting, Place, Session},
    settings::Settings,
    standing::{Group, Standing},
};

/// Operations on their way to the session. Full means the session is behind: its clients wait.
const COMMANDS_MAX: usize = 64;
/// How long clients have to hear that the worker ends.
const FAREWELL: Duration = Duration::from_secs(3);

/// How much longer a service manager waits for a worker that says that it is at work.
const EXTENSION: Duration = Duration::from_secs(30);
/// How often a worker that is not ready says that it is at work.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

/// How long somebody may look at the lock.
const LOCK_PATIENCE: Duration = Duration::from_millis(200);

/// Why a worker could not begin.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("another worker owns this session")]
    Taken,
    #[error("{0}: {1}")]
    Io(&'static str, io::Error),
    #[error("its meta.json: {0}")]
    Meta(String),
    #[error("{0}")]
    Kernel(String),
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Runs the worker of the session in `dir` until the session ends.
///
/// Says `working` at once and now and then, should the journal take its time; then `ready` once its
/// control socket listens, or `failed: …`. A unit says it in `worker.said` and to its manager, others
/// on stdout.
pub fn run(home: Home, dir: PathBuf, standing: Standing) -> ExitCode {
    let reporter = Reporter::of(&standing, &dir);
    reporter.say("working");
    // A session of its own: no terminal, service manager or supervisor takes this process down
    // with itself. It is already one where a service manager made it so.
    rustix::process::setsid().ok();
    match start(home, dir, standing, reporter.clone()).and_then(Worker::serve) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            tracing::error!("failed to start: {err}");
            reporter.say(&format!("failed: {err}"));
            ExitCode::from(NOT_STARTED)
        }
    }
}

/// Says a line at a time to whoever started the worker, who may be gone.
#[derive(Clone, Debug)]
struct Reporter {
    /// Where a unit says it: its standard output is the journal's.
    file: Option<PathBuf>,
}

impl Reporter {
    fn of(standing: &Standing, dir: &Path) -> Self {
        Self {
            file: standing.unit().map(|_| worker_said(dir)),
        }
    }

    fn say(&self, line: &str) {
        let text = format!("{}\n", line.replace('\n', " "));
        let Some(file) = &self.file else {
            let mut stdout = io::stdout().lock();
            stdout
                .write_all(text.as_bytes())
                .and_then(|()| stdout.flush())
                .ok();
            return;
        };
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(file)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .ok();
        let extension = u32::try_from(EXTENSION.as_micros()).unwrap_or(u32::MAX);
        let told = match line {
            "ready" => sd_notify::notify(&[NotifyState::Ready]),
            "working" => sd_notify::notify(&[NotifyState::ExtendTimeoutUsec(extension)]),
            reason => sd_notify::notify(&[NotifyState::Status(reason)]),
        };
        if let Err(err) = told {
            tracing::warn!(%err, "the service manager cannot be told");
        }
    }

    /// Does what may take minutes, as copying a large journal of the Python program does, and lets
    /// whoever started the worker know that it has not hung.
    fn at_work<T>(&self, work: impl FnOnce() -> T) -> T {
        std::thread::scope(|scope| {
            let (working, done) = std::sync::mpsc::channel::<()>();
            scope.spawn(move || {
                while done.recv_timeout(SIGN_OF_LIFE) == Err(RecvTimeoutError::Timeout) {
                    self.say("working");
                }
            });
            let result = work();
            drop(working);
            result
        })
    }
}

struct Worker {
    place: Place,
    journal: Journal,
    loaded: Loaded,
    events: mpsc::UnboundedReceiver<JournalEvent>,
    lock: Lock,
    reporter: Reporter,
}

fn start(
    home: Home,
    dir: PathBuf,
    standing: Standing,
    reporter: Reporter,
) -> Result<Worker, StartError> {
    let lock = take_lock(&dir)?;
    let unfinished = sweep_unfinished(&dir);
    if unfinished > 0 {
        tracing::info!(
            unfinished,
            "removed files that somebody was killed while writing"
        );
    }
    let meta = Meta::read(&dir).map_err(|err| StartError::Meta(err.to_string()))?;
    let id = SessionId::parse(&meta.session_id).map_err(|err| StartError::Meta(err.to_string()))?;
    let (journal, loaded, events) =
        reporter.at_work(|| Journal::open(&dir.join("journal.db"), id.as_str()))?;
    // I1: what is acknowledged is durable only in a directory that is.
    if let Err(err) = sync_names(&dir, home.root()) {
        tracing::warn!("failed to make the session's directory survive a power loss: {err}");
    }
    // Where the home stands is the user's; it may be closed to us.
    home.root().parent().map(|above| sync_names(above, above));
    let key = id.key();
    let group = Group::settle(&standing, &dir);
    let place = Place {
        home,
        dir,
        id,
        key,
        workdir: meta.workdir,
        standing,
        group,
    };
    Ok(Worker {
        place,
        journal,
        loaded,
        events,
        lock,
        reporter,
    })
}

/// Takes the session's lock; somebody who only looks whether it is held holds it for a moment too.
fn take_lock(dir: &Path) -> Result<Lock, StartError> {
    let path = worker_lock(dir);
    let deadline = std::time::Instant::now() + LOCK_PATIENCE;
    loop {
        match Lock::try_acquire(&path).map_err(|err| StartError::Io("its lock", err))? {
            Some(lock) => return Ok(lock),
            None if std::time::Instant::now() >= deadline => return Err(StartError::Taken),
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

impl Worker {
    fn serve(self) -> Result<(), StartError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|err| StartError::Io("its event loop", err))?;
        LocalSet::new().block_on(&runtime, self.live())
    }

    async fn live(self) -> Result<(), StartError> {
        let Self {
            place,
            journal,
            loaded,
            mut events,
            lock,
            reporter,
        } = self;
        let group = place.group.clone();
        let socket = place.home.control_socket(&place.key);
        let dir = place.dir.clone();
        let listener = listen(&socket, &place)?;
        let settings = Settings::from_env();
        let feed = Rc::new(Feed::new(loaded.max_seq, settings.events_max));
        let (commands, mut inbox) = mpsc::channel(COMMANDS_MAX);
        let door = Door {
            commands,
            journal: journal.clone(),
            home: place.home.clone(),
            session: place.id.clone(),
            settings: settings.clone(),
        };
        let mut session = Session::new(place, settings, journal, loaded, feed);
        session.take_over().await.map_err(StartError::Kernel)?;
        let listening = tokio::task::spawn_local(control::listen(listener, door));
        reporter.say("ready");
        let (ending, session) = session.run(&mut inbox, &mut events).await;

        // I11: from here on the session can have another worker; the lock goes last, the promises after it.
        listening.abort();
        std::fs::remove_file(&socket).ok();
        std::fs::remove_file(dir.join("worker.json")).ok();
        let (journal, clients, partings) = session.into_parts();
        journal.close().await;
        if let Some(group) = group {
            group.dissolve();
        }
        drop(lock);
        keep_promises(partings, &clients);
        part(ending, inbox, clients).await;
        Ok(())
    }
}

fn keep_promises(partings: Vec<Parting>, clients: &HashMap<ClientId, Link>) {
    for parting in partings {
        match parting {
            // Whoever asked may have gone meanwhile.
            Parting::Control(reply, answer) => drop(reply.send(answer)),
            Parting::Client(client, answer) => {
                if let Some(link) = clients.get(&client) {
                    link.answers.try_send(answer).ok();
                }
            }
        }
    }
}

fn listen(socket: &Path, place: &Place) -> Result<UnixListener, StartError> {
    // The lock is ours: whoever left a socket here is gone.
    std::fs::remove_file(socket).ok();
    // 0600 from the first instant, though the directory already keeps others out.
    let mask = umask(Mode::from_raw_mode(0o177));
    let bound = UnixListener::bind(socket);
    umask(mask);
    let listener = bound.map_err(|err| StartError::Io("its control socket", err))?;
    let record = ProcessIdentity::current().and_then(|process| {
        WorkerRecord {
            process,
            control: socket.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            unit: place.standing.unit().map(str::to_owned),
        }
        .write(&place.dir)
    });
    record.map_err(|err| StartError::Io("its worker.json", err))?;
    Ok(listener)
}

/// Takes leave of the clients, and waits until whoever still talks to one of our tasks has heard
/// the end. Those of a session that was killed stay connected until they go: an editor that
/// reconnects by itself would bring the kernel back to life.
async fn part(
    ending: Ending,
    mut inbox: mpsc::Receiver<Command>,
    mut clients: HashMap<ClientId, Link>,
) {
    let retired = ending == Ending::Retired;
    if !retired {
        for link in clients.values() {
            link.answers.try_send(Answer::GoingAway).ok();
        }
    }
    let deadline = Instant::now() + FAREWELL;
    loop {
        let patient = retired && !clients.is_empty();
        let command = if patient {
            inbox.recv().await
        } else {
            timeout_at(deadline, inbox.recv()).await.ok().flatten()
        };
        // The channel closes once every task that could send has ended.
        let Some(command) = command else {
            return;
        };
        match command {
            // Handed over in the last moment: it is sent on to the next worker.
            Command::Connect(link) => drop(link.answers.try_send(Answer::GoingAway)),
            Command::Gone(client) => drop(clients.remove(&client)),
            Command::Op { client, op, .. } => {
                let answer = crate::session::killed(&op);
                if let Some(link) = clients.get(&client).filter(|_| retired) {
                    link.answers.try_send(answer).ok();
                }
            }
            Command::Control(..) => {}
        }
    }
}
