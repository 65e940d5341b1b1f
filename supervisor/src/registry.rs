//! Which sessions there are: a map from names to tasks, and nothing that takes time.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use tithon_ipc::{ids::SessionId, naming::session_dir};
use tokio::sync::{mpsc, oneshot};

use crate::{
    discover,
    session::{Session, Unavailable},
    spawn::Spawner,
};

/// Questions waiting for the registry; askers wait behind them, and not for long.
const ASKS: usize = 64;

enum Ask {
    Open {
        id: SessionId,
        workdir: Option<PathBuf>,
        answer: oneshot::Sender<Session>,
    },
    Find {
        id: SessionId,
        answer: oneshot::Sender<Option<Session>>,
    },
    All {
        answer: oneshot::Sender<Vec<Session>>,
    },
    Discover {
        answer: oneshot::Sender<Vec<Session>>,
    },
}

/// A way to ask the registry.
#[derive(Clone)]
pub(crate) struct Registry(mpsc::Sender<Ask>);

impl Registry {
    /// An empty registry over `sessions/`.
    pub(crate) fn spawn(sessions: PathBuf, spawner: Arc<Spawner>) -> Self {
        let (asks, mailbox) = mpsc::channel(ASKS);
        let task = Task {
            sessions,
            spawner,
            known: HashMap::new(),
        };
        tokio::spawn(task.run(mailbox));
        Self(asks)
    }

    /// The session of a name, known or new. Nothing is started yet.
    ///
    /// # Errors
    /// When the supervisor ends.
    pub(crate) async fn open(
        &self,
        id: SessionId,
        workdir: Option<PathBuf>,
    ) -> Result<Session, Unavailable> {
        self.ask(|answer| Ask::Open {
            id,
            workdir,
            answer,
        })
        .await
        .ok_or(Unavailable::Closing)
    }

    /// The session of a name, if it has been used or discovered.
    pub(crate) async fn find(&self, id: SessionId) -> Option<Session> {
        self.ask(|answer| Ask::Find { id, answer }).await.flatten()
    }

    /// Every session that has been used or discovered.
    pub(crate) async fn all(&self) -> Vec<Session> {
        self.ask(|answer| Ask::All { answer })
            .await
            .unwrap_or_default()
    }

    /// Looks for sessions whose worker or kernel lives, and returns those that were not known.
    pub(crate) async fn discover(&self) -> Vec<Session> {
        self.ask(|answer| Ask::Discover { answer })
            .await
            .unwrap_or_default()
    }

    async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.0.send(ask(answer)).await.ok()?;
        answered.await.ok()
    }
}

struct Task {
    sessions: PathBuf,
    spawner: Arc<Spawner>,
    known: HashMap<SessionId, Session>,
}

impl Task {
    async fn run(mut self, mut mailbox: mpsc::Receiver<Ask>) {
        while let Some(ask) = mailbox.recv().await {
            // An asker that has left wants nothing.
            match ask {
                Ask::Open {
                    id,
                    workdir,
                    answer,
                } => drop(answer.send(self.open(id, workdir))),
                Ask::Find { id, answer } => drop(answer.send(self.find(&id))),
                Ask::All { answer } => drop(answer.send(self.all())),
                Ask::Discover { answer } => drop(answer.send(self.discover())),
            }
        }
    }

    /// A session whose task is over is no longer known: its directory holds all that matters.
    fn find(&self, id: &SessionId) -> Option<Session> {
        self.known
            .get(id)
            .filter(|session| !session.is_over())
            .cloned()
    }

    fn all(&self) -> Vec<Session> {
        let living = self.known.values().filter(|session| !session.is_over());
        living.cloned().collect()
    }

    fn open(&mut self, id: SessionId, workdir: Option<PathBuf>) -> Session {
        self.find(&id).unwrap_or_else(|| {
            let dir = session_dir(&self.sessions, &id, workdir.as_deref());
            self.add(id, dir)
        })
    }

    fn discover(&mut self) -> Vec<Session> {
        let mut fresh = Vec::new();
        for (id, dir) in discover::inhabited(&self.sessions) {
            if self.find(&id).is_none() {
                fresh.push(self.add(id, dir));
            }
        }
        fresh
    }

    fn add(&mut self, id: SessionId, dir: PathBuf) -> Session {
        self.known.retain(|_, session| !session.is_over());
        let session = Session::spawn(id.clone(), dir, Arc::clone(&self.spawner));
        self.known.insert(id, session.clone());
        session
    }
}
