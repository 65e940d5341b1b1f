//! The supervisor's life: claim the home, open the door, find what lives, and end cleanly.

use std::{path::PathBuf, sync::Arc, time::Duration};

use futures_util::future::join_all;
use tithon_ipc::{control::Request, files::sweep_unfinished, paths::Home};
use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{
    Options, SupervisorError,
    claim::Claim,
    conversation::{KILL_LIMIT, end_checkpoints},
    doorstep,
    listen::PublicSocket,
    registry::Registry,
    service,
    session::{Demand, Session},
    spawn::Spawner,
    sweep::sweep,
};

/// How long the sessions found at the start may delay readiness. One that hangs is served late.
const READY_LIMIT: Duration = Duration::from_secs(2);
/// When to look once more for workers that a killed predecessor had only begun to start.
const SECOND_LOOK: Duration = Duration::from_secs(5);
/// How long workers that are being started may delay a shutdown that ends all kernels.
const STARTING_LIMIT: Duration = Duration::from_secs(30);

/// What ends with the supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shutdown {
    /// Nothing: workers and kernels stay and go on serving the clients they have.
    Alone,
    /// Every kernel and its worker.
    WithKernels,
}

/// What every conversation may use.
#[derive(Clone)]
pub(crate) struct House {
    pub(crate) registry: Registry,
    pub(crate) home: Home,
    pub(crate) sessions: PathBuf,
    pub(crate) closing: Closing,
    pub(crate) shutdown: mpsc::Sender<Shutdown>,
}

/// Whether the supervisor ends.
#[derive(Clone, Debug)]
pub(crate) struct Closing(watch::Receiver<bool>);

impl Closing {
    /// Returns once it does.
    pub(crate) async fn wait(&self) {
        // A sender that is gone is an end as well.
        drop(self.0.clone().wait_for(|closing| *closing).await);
    }
}

/// Supervises a home until a signal or a client ends it. Blocks the calling thread.
///
/// Returns after a clean shutdown: the socket is gone, and the pid file went last.
///
/// # Errors
/// [`SupervisorError::AlreadyRunning`] when the home has a supervisor, others when it cannot be used.
pub fn run(home: Home, options: Options) -> Result<(), SupervisorError> {
    home.prepare()?;
    let claim = Claim::stake(&home)?;
    sweep(home.run());
    for dir in [home.root(), home.run()] {
        sweep_unfinished(dir);
    }
    runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(SupervisorError::Runtime)?
        .block_on(supervise(home, options, claim))
}

async fn supervise(home: Home, options: Options, claim: Claim) -> Result<(), SupervisorError> {
    let signals = Signals::catch().map_err(SupervisorError::Runtime)?;
    let (listener, paths) = PublicSocket::open(&home).await?.into_parts();
    claim.announce()?;

    tokio::spawn(service::beat());
    let spawner = Arc::new(Spawner::new(&home, &options));
    let registry = Registry::spawn(home.sessions(), spawner);
    let (shutdown, wishes) = mpsc::channel(1);
    let (close, closing) = watch::channel(false);
    let found = registry.discover().await;
    let settling = tokio::spawn(settle(found));
    let house = House {
        registry: registry.clone(),
        home: home.clone(),
        sessions: home.sessions(),
        closing: Closing(closing),
        shutdown,
    };
    let door = tokio::spawn(doorstep::attend(listener, Arc::new(house)));

    let shutdown = stand_by(&registry, signals, wishes, settling).await;
    tracing::info!(?shutdown, "shutting down");
    service::stopping();
    // The path first: a client is refused rather than accepted and forgotten.
    for path in paths {
        if let Err(err) = std::fs::remove_file(&path) {
            tracing::warn!(path = %path.display(), %err, "the socket cannot be removed");
        }
    }
    let _ = close.send(true);
    if let Err(err) = door.await {
        tracing::error!(%err, "the door failed");
    }
    if shutdown == Shutdown::WithKernels {
        join_all(registry.all().await.iter().map(stop)).await;
        // Of sessions that have neither worker nor kernel any more.
        let sessions = std::fs::read_dir(home.sessions()).into_iter().flatten();
        for session in sessions.flatten() {
            end_checkpoints(&session.path());
        }
    }
    claim.withdraw();
    Ok(())
}

/// Serves until somebody wishes the end.
async fn stand_by(
    registry: &Registry,
    mut signals: Signals,
    mut wishes: mpsc::Receiver<Shutdown>,
    mut settling: JoinHandle<usize>,
) -> Shutdown {
    let mut ready = false;
    let second_look = sleep(SECOND_LOOK);
    tokio::pin!(second_look);
    let mut looked_twice = false;
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => return Shutdown::Alone,
            _ = signals.interrupt.recv() => return Shutdown::Alone,
            // The door keeps a sender: there is always a next wish, or none ever.
            Some(wish) = wishes.recv() => return wish,
            settled = &mut settling, if !ready => {
                ready = true;
                let sessions = settled.unwrap_or(0);
                tracing::info!(sessions, "ready");
                service::ready(sessions);
            }
            _ = signals.hangup.recv() => {
                service::reloading();
                settle(registry.discover().await).await;
                service::ready(registry.all().await.len());
            }
            () = &mut second_look, if !looked_twice => {
                looked_twice = true;
                tokio::spawn(settle(registry.discover().await));
            }
        }
    }
}

/// Connects to the workers of these sessions and replaces those that are missing, all at once.
async fn settle(sessions: Vec<Session>) -> usize {
    let settled = join_all(
        sessions
            .iter()
            .map(|session| session.worker(&Demand::Revive)),
    );
    if timeout(READY_LIMIT, settled).await.is_err() {
        tracing::warn!("some sessions are not served yet");
    }
    sessions.len()
}

/// Ends a session's kernel and worker, also one that is only starting.
async fn stop(session: &Session) {
    let request = Request::Stop { kill_kernel: true };
    let asked = session.call(&Demand::Revive, &request, None, KILL_LIMIT);
    match timeout(STARTING_LIMIT, asked).await {
        Ok(Ok(_)) => {}
        Ok(Err(err)) => tracing::error!(session = %session.id(), %err, "the kernel may live on"),
        Err(_) => tracing::error!(session = %session.id(), "the kernel may live on"),
    }
}

/// The signals that mean something to a supervisor.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn catch() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}
