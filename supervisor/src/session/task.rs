//! The task behind a session: absent, starting, live, or failed.

use std::{path::PathBuf, pin::Pin, sync::Arc, time::Duration};

use tithon_ipc::{files::WorkerRecord, ids::SessionId};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, sleep_until},
};

use super::{Ask, Demand, Found, Unavailable};
use crate::{
    deaths::{Deaths, Verdict},
    living::{Living, ask, kernel_lives},
    spawn::{Spawner, StartError, last_words, quoted},
    unit,
};

/// How long a worker may take to hear of the supervisor's policy.
const POLICY_LIMIT: Duration = Duration::from_secs(10);

/// How long a session whose workers keep ending is left alone. What ended them may be over by itself:
/// a full disk has space again, and its kernel has more to say.
const REST: Duration = Duration::from_secs(10);

/// How long until a worker that owns its session but does not listen is looked for again.
const NOT_YET: Duration = Duration::from_secs(1);

/// How long a session without worker and kernel keeps its task, in case somebody asks again. What there
/// is to know of it is on disk: a supervisor that has seen ten thousand sessions keeps those that live.
const UNNEEDED: Duration = Duration::from_secs(5);

type Start = Pin<Box<dyn Future<Output = Result<Living, StartError>> + Send>>;

enum State {
    /// No worker, and no kernel that needs one; until then somebody may ask again.
    Absent(Instant),
    /// A worker is being looked for or started.
    Starting(Start),
    /// A worker that is watched.
    Live(Living),
    /// Too many died, or one that may live is not to be found. The kernel may live; the next use tries
    /// again, and so do we after a while.
    Failed(String, Instant),
}

enum Change {
    Started(Result<Living, StartError>),
    Ended,
    Rested,
    Idle,
}

impl State {
    fn absent() -> Self {
        Self::Absent(Instant::now() + UNNEEDED)
    }

    /// What happens next by itself. Dropped half-way it loses nothing.
    async fn change(&mut self) -> Change {
        match self {
            Self::Absent(until) => {
                sleep_until(*until).await;
                Change::Idle
            }
            Self::Failed(_, until) => {
                sleep_until(*until).await;
                Change::Rested
            }
            Self::Starting(start) => Change::Started(start.as_mut().await),
            Self::Live(living) => {
                living.ended().await;
                Change::Ended
            }
        }
    }
}

/// What a session's task keeps.
pub(super) struct Task {
    id: SessionId,
    dir: PathBuf,
    spawner: Arc<Spawner>,
    state: State,
    deaths: Deaths,
    waiting: Vec<oneshot::Sender<Found>>,
    /// Whether the worker that is awaited is systemd's to start.
    succession: bool,
    /// What whoever waits for that needs all the same: a worker, its kernel to run in this directory.
    wanted: Option<Option<PathBuf>>,
}

impl Task {
    /// A session that nothing is known of yet.
    pub(super) fn new(id: SessionId, dir: PathBuf, spawner: Arc<Spawner>) -> Self {
        Self {
            id,
            dir,
            spawner,
            state: State::absent(),
            deaths: Deaths::default(),
            waiting: Vec::new(),
            succession: false,
            wanted: None,
        }
    }

    /// Answers until nobody can ask any more, or nobody is likely to.
    pub(super) async fn run(mut self, mut mailbox: mpsc::Receiver<Ask>) {
        loop {
            tokio::select! {
                ask = mailbox.recv() => match ask {
                    Some(ask) => self.asked(ask),
                    None => return,
                },
                change = self.state.change() => match change {
                    // One handle is the registry's own, and it gives no other away meanwhile: both
                    // run on one thread. It replaces a session whose task is over.
                    Change::Idle if mailbox.is_empty() && mailbox.sender_strong_count() <= 1 => return,
                    change => self.changed(change),
                },
            }
        }
    }

    fn asked(&mut self, ask: Ask) {
        match ask {
            Ask::Worker {
                demand,
                suspect,
                answer,
            } => {
                if suspect.is_some_and(|suspect| self.is_served_by(&suspect)) {
                    self.look_again();
                }
                self.demanded(demand, answer);
            }
            Ask::Released(worker) => {
                if self.is_served_by(&worker) {
                    tracing::info!(session = %self.id, "the kernel was ended");
                    self.state = State::absent();
                }
            }
        }
    }

    fn demanded(&mut self, demand: Demand, answer: oneshot::Sender<Found>) {
        let workdir = match (&self.state, demand) {
            (State::Live(living), _) => {
                return reply(answer, Ok(Some(Arc::clone(living.record()))));
            }
            (State::Starting(_), demand) => {
                if let Demand::Start(workdir) = demand {
                    self.wanted = Some(workdir);
                }
                return self.waiting.push(answer);
            }
            (State::Failed(reason, _), Demand::Existing) => {
                return reply(answer, Err(Unavailable::Failed(reason.clone())));
            }
            (_, Demand::Start(workdir)) => workdir,
            (_, Demand::Revive) if kernel_lives(&self.dir) => None,
            (_, Demand::Revive | Demand::Existing) => {
                // Not anew: whoever asks for the status of all again and again keeps none of them.
                if !matches!(self.state, State::Absent(_)) {
                    self.state = State::absent();
                }
                return reply(answer, Ok(None));
            }
        };
        self.waiting.push(answer);
        self.start(Duration::ZERO, workdir);
    }

    fn start(&mut self, delay: Duration, workdir: Option<PathBuf>) {
        let (id, dir, spawner) = (self.id.clone(), self.dir.clone(), Arc::clone(&self.spawner));
        self.state = State::Starting(Box::pin(async move {
            sleep(delay).await;
            spawner.start(&id, &dir, workdir).await
        }));
    }

    fn changed(&mut self, change: Change) {
        match change {
            Change::Started(Ok(living)) => {
                self.count_succession();
                tracing::info!(session = %self.id, pid = living.record().process.pid, "a worker serves");
                for answer in self.waiting.drain(..) {
                    reply(answer, Ok(Some(Arc::clone(living.record()))));
                }
                self.tell_policy(Arc::clone(living.record()));
                self.state = State::Live(living);
            }
            Change::Started(Err(StartError::NotReplaced)) if self.wanted.is_some() => {
                // It had ended in good order, and somebody came meanwhile.
                self.succession = false;
                let workdir = self.wanted.take().flatten();
                self.start(Duration::ZERO, workdir);
            }
            Change::Started(Err(StartError::Find(err))) => {
                // Somebody may own the session: whoever asks is told, and nothing counts as a death (I7).
                self.count_succession();
                tracing::warn!(session = %self.id, %err, "no worker yet");
                let reason = err.to_string();
                self.disappoint(&reason);
                self.state = State::Failed(reason, Instant::now() + NOT_YET);
            }
            Change::Started(Err(err)) => {
                self.succession = false;
                self.lost(err.to_string());
            }
            Change::Ended => self.look_again(),
            Change::Rested if kernel_lives(&self.dir) => self.start(Duration::ZERO, None),
            Change::Rested => self.state = State::absent(),
            Change::Idle => self.state = State::absent(),
        }
    }

    /// Tells a worker what this supervisor's command line says; one that is older goes on as it is.
    fn tell_policy(&self, worker: Arc<WorkerRecord>) {
        let (id, spawner) = (self.id.clone(), Arc::clone(&self.spawner));
        tokio::spawn(async move {
            if let Err(err) = ask(&worker, spawner.policy(), None, POLICY_LIMIT).await {
                tracing::warn!(session = %id, %err, "a worker keeps its idle timeout");
            }
        });
    }

    /// Draws the consequence if the worker is definitely gone.
    fn look_again(&mut self) {
        if let State::Live(living) = &self.state
            && living.is_gone(&self.dir)
        {
            let pid = living.record().process.pid;
            match living.record().unit.clone().filter(|_| living.has_ended()) {
                Some(unit) => self.await_successor(unit),
                None => self.lost(format!(
                    "the worker (pid {pid}) ended{}",
                    quoted(last_words(&self.dir, 0).lines().last().unwrap_or_default())
                )),
            }
        }
    }

    /// A worker that was a unit died: systemd replaces it, and only if it does not, we do.
    fn await_successor(&mut self, unit: String) {
        let (dir, spawner) = (self.dir.clone(), Arc::clone(&self.spawner));
        let too_many = self.deaths.are_too_many(Instant::now());
        self.succession = true;
        self.wanted = None;
        self.state = State::Starting(Box::pin(async move {
            if too_many {
                unit::give_up(&dir, &unit).await;
            }
            spawner.succeed(&unit, &dir).await
        }));
    }

    /// Counts the death that systemd's worker, if it is the one awaited, is to make good. The worker
    /// is not stopped even after too many: at its own death its unit is.
    fn count_succession(&mut self) {
        if std::mem::take(&mut self.succession) {
            self.deaths.count(Instant::now());
        }
    }

    /// The session is without a worker: a living kernel gets another, within reason.
    fn lost(&mut self, reason: String) {
        if !kernel_lives(&self.dir) {
            tracing::info!(session = %self.id, reason, "no worker and no kernel");
            self.state = State::absent();
            return self.disappoint(&reason);
        }
        match self.deaths.count(Instant::now()) {
            Verdict::Replace(delay) => {
                tracing::warn!(session = %self.id, reason, ?delay, "replacing the worker");
                self.start(delay, None);
            }
            Verdict::GiveUp => self.fail(&reason),
        }
    }

    /// Too many died.
    fn fail(&mut self, reason: &str) {
        let reason = format!("workers of this session keep ending; its kernel lives on. {reason}");
        tracing::error!(session = %self.id, reason, "giving up");
        self.disappoint(&reason);
        self.state = State::Failed(reason, Instant::now() + REST);
    }

    fn disappoint(&mut self, reason: &str) {
        for answer in self.waiting.drain(..) {
            reply(answer, Err(Unavailable::Failed(reason.to_owned())));
        }
    }

    fn is_served_by(&self, worker: &Arc<WorkerRecord>) -> bool {
        matches!(&self.state, State::Live(living) if Arc::ptr_eq(living.record(), worker))
    }
}

/// Answers; an asker that has left wants nothing.
fn reply(answer: oneshot::Sender<Found>, found: Found) {
    drop(answer.send(found));
}
