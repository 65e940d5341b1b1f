//! One session as the supervisor sees it: whether it has a worker, and getting it one.
//!
//! A task per session, so that a session which is slow to start holds up no other. Nothing here is
//! worth saving: a supervisor that starts anew finds all of it in the session's directory.

mod task;

use std::{os::fd::OwnedFd, path::PathBuf, sync::Arc, time::Duration};

use tithon_ipc::{
    control::{Reply, Request},
    files::WorkerRecord,
    ids::SessionId,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep},
};

use self::task::Task;
use crate::{
    living::{self, AskError},
    spawn::Spawner,
};

/// Questions waiting for a session's task; askers wait behind them.
const ASKS: usize = 16;
/// How long a worker that broke a connection may take to prove dead.
const DYING: Duration = Duration::from_secs(2);
/// Between two looks at a worker that may be dying.
const POLL: Duration = Duration::from_millis(20);

/// What an asker expects of a session.
#[derive(Clone, Debug)]
pub(crate) enum Demand {
    /// A worker, started if need be; a new session's kernel runs in this directory.
    Start(Option<PathBuf>),
    /// A worker if the kernel lives, even where too many have died.
    Revive,
    /// The worker that is there or on its way.
    Existing,
}

/// Why a session's worker does not serve.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Unavailable {
    /// It could not be started, or died too often.
    #[error("{0}")]
    Failed(String),
    /// It lives but does not answer.
    #[error("the session's worker (pid {pid}) does not serve: {reason}")]
    Mute { pid: i32, reason: String },
    /// The supervisor ends.
    #[error("the supervisor is shutting down")]
    Closing,
}

type Found = Result<Option<Arc<WorkerRecord>>, Unavailable>;

enum Ask {
    /// `suspect` is a worker that failed the asker and may be dead.
    Worker {
        demand: Demand,
        suspect: Option<Arc<WorkerRecord>>,
        answer: oneshot::Sender<Found>,
    },
    /// This worker ended its kernel and owns the session no more.
    Released(Arc<WorkerRecord>),
}

/// A way to ask a session's task.
#[derive(Clone)]
pub(crate) struct Session {
    id: SessionId,
    asks: mpsc::Sender<Ask>,
}

impl Session {
    /// A session that nothing is known of yet. The directory need not exist.
    pub(crate) fn spawn(id: SessionId, dir: PathBuf, spawner: Arc<Spawner>) -> Self {
        let (asks, mailbox) = mpsc::channel(ASKS);
        let task = Task::new(id.clone(), dir, spawner);
        tokio::spawn(task.run(mailbox));
        Self { id, asks }
    }

    /// Its name.
    pub(crate) fn id(&self) -> &SessionId {
        &self.id
    }

    /// Whether its task has ended; it then needs a new one.
    pub(crate) fn is_over(&self) -> bool {
        self.asks.is_closed()
    }

    /// The session's worker; `None` when the demand is met by having none.
    ///
    /// # Errors
    /// When there is to be one and cannot be.
    pub(crate) async fn worker(&self, demand: &Demand) -> Found {
        self.worker_instead(demand, None).await
    }

    async fn worker_instead(&self, demand: &Demand, suspect: Option<Arc<WorkerRecord>>) -> Found {
        let (answer, found) = oneshot::channel();
        let ask = Ask::Worker {
            demand: demand.clone(),
            suspect,
            answer,
        };
        if self.asks.send(ask).await.is_err() {
            return Err(Unavailable::Closing);
        }
        found.await.unwrap_or(Err(Unavailable::Closing))
    }

    /// Asks the session's worker, and its replacement if it dies over the question.
    ///
    /// A request that may have been acted on is repeated only once its worker is proved dead.
    ///
    /// # Errors
    /// When the session has no worker that answers within `limit`.
    pub(crate) async fn call(
        &self,
        demand: &Demand,
        request: &Request,
        fd: Option<&OwnedFd>,
        limit: Duration,
    ) -> Result<Option<Reply>, Unavailable> {
        let mut doubt: Option<Doubt> = None;
        loop {
            let suspect = doubt.as_ref().map(|doubt| Arc::clone(&doubt.worker));
            let Some(worker) = self.worker_instead(demand, suspect).await? else {
                return Ok(None);
            };
            if let Some(doubt) = doubt.as_ref().filter(|d| Arc::ptr_eq(&d.worker, &worker)) {
                if doubt.since.elapsed() > DYING {
                    return Err(doubt.resolved());
                }
                sleep(POLL).await;
                if matches!(doubt.error, AskError::Unanswered(_)) {
                    continue;
                }
            }
            let error = match living::ask(&worker, request, fd, limit).await {
                Ok(reply) => {
                    if matches!(request, Request::Kill | Request::Stop { .. })
                        && matches!(reply, Reply::Done(_))
                    {
                        drop(self.asks.send(Ask::Released(worker)).await);
                    }
                    return Ok(Some(reply));
                }
                Err(error) => error,
            };
            tracing::debug!(session = %self.id, pid = worker.process.pid, %error, "a worker failed us");
            let fresh = Doubt {
                since: doubt
                    .filter(|doubt| Arc::ptr_eq(&doubt.worker, &worker))
                    .map_or_else(Instant::now, |doubt| doubt.since),
                worker,
                error,
            };
            if matches!(fresh.error, AskError::Slow(_) | AskError::Incompatible(_)) {
                return Err(fresh.resolved());
            }
            doubt = Some(fresh);
        }
    }
}

/// A worker that failed a caller, and since when.
struct Doubt {
    worker: Arc<WorkerRecord>,
    error: AskError,
    since: Instant,
}

impl Doubt {
    fn resolved(&self) -> Unavailable {
        Unavailable::Mute {
            pid: self.worker.process.pid,
            reason: self.error.to_string(),
        }
    }
}
