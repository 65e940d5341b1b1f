//! The session's state and the one task that owns it.
//!
//! Named messages come in (operations, committed transactions, the kernel's messages, its death);
//! each is handled to its end before the next. What the outside sees follows from commits only:
//! a row is folded, mirrored and published after its transaction, never before (I2).

mod artifacts;
mod attribution;
mod checkpoints;
mod comms;
mod control;
mod copies;
mod death;
mod ending;
mod endpoints;
mod foreign;
mod ingest;
mod inherited;
mod kernel;
mod launch;
mod lifecycle;
mod links;
mod ops;
mod pace;
mod prompt;
mod questions;
mod queue;
mod reply;
mod restore;
mod retention;
mod sidecar;
mod snapshot;
mod spool;
mod status;
mod store;

pub(crate) use ops::killed;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    path::PathBuf,
    rc::Rc,
    time::Duration,
};

use ending::End;
use kernel::{Kernel, KernelSlot};
use launch::LaunchEvent;
use queue::{Queued, Running};
use retention::History;
use sidecar::{Publication, Published};
use store::{Effect, LiveFold};
use tithon_ipc::{
    client::{Frame, LaunchWish, Op},
    control::{Reply, Request},
    ids::{ExecId, Seq, SessionId, SessionKey},
    paths::Home,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::{
    artifacts::Artifacts,
    client::{Answer, ClientId, Link},
    feed::Feed,
    journal::{CREATED, Journal, JournalEvent, Loaded, NUMBERING, Transaction},
    kernel::{numbering::Numbering, words::KernelLog},
    settings::Settings,
    sidecar::Sidecar,
    standing::{Group, Leaf, Standing},
    widgets::WidgetMirror,
};

/// What reaches the session from its clients and from the supervisor.
#[derive(Debug)]
pub(crate) enum Command {
    /// A client was handed over.
    Connect(Link),
    /// A client asks.
    Op {
        client: ClientId,
        op: Op,
        launch: Option<LaunchWish>,
    },
    /// A client is gone.
    Gone(ClientId),
    /// The supervisor asks.
    Control(Request, oneshot::Sender<Reply>),
}

/// Where the session is and what it is called.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The home it belongs to.
    pub home: Home,
    /// Its directory.
    pub dir: PathBuf,
    /// Its name.
    pub id: SessionId,
    /// Its short name.
    pub key: SessionKey,
    /// Where its kernel runs.
    pub workdir: PathBuf,
    /// How its worker was started.
    pub standing: Standing,
    /// The control group that is its own, if one is.
    pub group: Option<Group>,
}

impl Place {
    /// The kernel's leaf.
    pub(crate) fn leaf(&self) -> Option<Leaf> {
        self.group.as_ref().map(Group::kernel)
    }
}

/// Why a worker ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Asked to, its kernel left alone or not.
    Stopped,
    /// Its kernel was ended for good; clients that are still connected are told `error` from now on.
    Retired,
    /// Its kernel did not start, or nobody ever wanted one.
    Unused,
}

/// How long a worker without a kernel waits for its first client.
const UNUSED_AFTER: Duration = Duration::from_secs(60);
/// Who asked for something that is owed though its client is gone: no client has this number.
const NOBODY: ClientId = 0;
/// How long nothing must happen before memory is given back. What that saves is paid for when something happens
/// again, so it must be rare.
const REST_AFTER: Duration = Duration::from_secs(10);
/// How long a fold may differ from its stored form while its cell is still printing.
const FOLD_INTERVAL: Duration = Duration::from_secs(30);
/// The same once its cell is done.
const LATE_FOLD_INTERVAL: Duration = Duration::from_secs(1);

/// One session.
pub(crate) struct Session {
    place: Place,
    settings: Settings,
    journal: Journal,
    feed: Rc<Feed>,

    // What is written, and how far.
    last_seq: Seq,
    applied: Seq,
    pending: Transaction,
    pending_effects: Vec<Effect>,
    in_flight: VecDeque<Vec<Effect>>,
    folds: HashMap<ExecId, LiveFold>,
    folds_due: Option<Instant>,
    displays: HashMap<String, ExecId>,
    widgets: WidgetMirror,
    publication: Option<Publication>,
    published: mpsc::UnboundedReceiver<Published>,
    published_sender: mpsc::UnboundedSender<Published>,
    history: History,
    artifacts: Artifacts,
    /// When to remove the images that nothing shows.
    reclaim_due: Option<Instant>,
    /// Whether images cannot be put in files, and clients know.
    outputs_refused: bool,
    stalled: Option<String>,

    // What runs.
    executions: u64,
    last_exec: u64,
    queue: VecDeque<Queued>,
    running: Option<Running>,
    foreign: Vec<foreign::Foreign>,
    requests: attribution::Requests,
    comms: comms::Comms,
    questions: questions::Questions,
    kernel: KernelSlot,
    checkpoints: checkpoints::Checkpoints,
    copies: copies::Copies,
    kernel_events: mpsc::UnboundedReceiver<crate::kernel::channels::Incoming>,
    lifecycle: lifecycle::Lifecycle,
    spool_position: Option<String>,
    /// The process id of the kernel that last said that its spool records everything.
    greeted: Option<String>,
    /// What has come of a kernel that is read over zmq, and what of that is journaled.
    numbering: Numbering,
    journaled_numbering: Numbering,
    /// As whom the Python program spoke to the kernel it left, if it did.
    inherited_identity: Option<String>,
    launches: mpsc::UnboundedReceiver<LaunchEvent>,
    launch_sender: mpsc::UnboundedSender<LaunchEvent>,

    // Who is there.
    clients: HashMap<ClientId, Link>,
    /// Those that understand `notice` frames.
    noticing: HashSet<ClientId>,
    waiting: Vec<(ClientId, Op)>,
    snapshots: HashMap<u64, ClientId>,
    last_ticket: u64,
    created: f64,
    last_touch: Instant,
    idle_look_due: Instant,
    kernel_log: KernelLog,
    ending: Option<Ending>,
    /// What to say once the session's lock and socket are free for another worker.
    partings: Vec<Parting>,
}

/// An answer that promises that this worker is out of the way.
#[derive(Debug)]
pub(crate) enum Parting {
    /// To the supervisor.
    Control(oneshot::Sender<Reply>, Reply),
    /// To a client.
    Client(ClientId, Answer),
}

impl Session {
    /// A session as its journal left it; a kernel that still lives is taken over.
    pub(crate) fn new(
        place: Place,
        settings: Settings,
        journal: Journal,
        mut loaded: Loaded,
        feed: Rc<Feed>,
    ) -> Self {
        let artifacts = std::mem::take(&mut loaded.artifacts.known);
        let (launch_sender, launches) = mpsc::unbounded_channel();
        let (published_sender, published) = mpsc::unbounded_channel();
        let (_, nothing) = mpsc::unbounded_channel();
        let numbering: Numbering = loaded
            .meta
            .get(NUMBERING)
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default();
        let created = loaded
            .meta
            .get(CREATED)
            .and_then(|text| text.parse().ok())
            .or(loaded.began)
            .unwrap_or_else(crate::journal::now);
        let publication = Publication::of(Sidecar::of(&place.id, &place.workdir), &loaded);
        let mut session = Self {
            journal,
            feed,
            last_seq: loaded.max_seq,
            applied: loaded.max_seq,
            pending: Transaction::default(),
            pending_effects: Vec::new(),
            in_flight: VecDeque::new(),
            folds: HashMap::new(),
            folds_due: None,
            displays: HashMap::new(),
            widgets: WidgetMirror::default(),
            history: History::load(&loaded, &settings),
            publication,
            published,
            published_sender,
            artifacts: Artifacts::load(&place.workdir, &place.dir, artifacts),
            reclaim_due: None,
            outputs_refused: false,
            stalled: None,
            executions: loaded.executions,
            last_exec: loaded.last_exec,
            queue: VecDeque::new(),
            running: None,
            foreign: Vec::new(),
            requests: attribution::Requests::default(),
            comms: comms::Comms::default(),
            questions: questions::Questions::default(),
            kernel: KernelSlot::Absent,
            checkpoints: checkpoints::Checkpoints::load(&loaded, &settings),
            copies: copies::Copies::load(&loaded),
            kernel_events: nothing,
            lifecycle: lifecycle::Lifecycle::load(&loaded),
            spool_position: loaded.meta.get(spool::POSITION).cloned(),
            journaled_numbering: numbering.clone(),
            numbering,
            greeted: loaded.meta.get(crate::journal::GREETED).cloned(),
            inherited_identity: inherited::identity(&loaded),
            launches,
            launch_sender,
            clients: HashMap::new(),
            noticing: HashSet::new(),
            waiting: Vec::new(),
            snapshots: HashMap::new(),
            last_ticket: 0,
            created,
            last_touch: Instant::now(),
            idle_look_due: Instant::now() + settings.idle_poll,
            settings,
            kernel_log: KernelLog::of(&place.dir),
            ending: None,
            partings: Vec::new(),
            place,
        };
        session.restore(loaded);
        session
    }

    /// Takes over the kernel that an earlier worker left.
    ///
    /// # Errors
    /// When it lives but cannot be reached, in words for the person who must mend it.
    pub(crate) async fn take_over(&mut self) -> Result<(), String> {
        self.end_stray_checkpoints().await;
        self.end_stray_copies().await;
        self.resume_runs();
        self.adopt_kernel().await
    }

    /// Runs until the session ends.
    pub(crate) async fn run(
        mut self,
        commands: &mut mpsc::Receiver<Command>,
        events: &mut mpsc::UnboundedReceiver<JournalEvent>,
    ) -> (Ending, Self) {
        if self.restart_is_owed() {
            self.end_kernel(End::Replaced(NOBODY, None)).await;
        }
        let after = || Some(Instant::now() + REST_AFTER);
        let mut rest_due = after();
        loop {
            self.commit_pending();
            self.read_spool();
            self.commit_pending();
            if let Some(ending) = self.ending
                && self.in_flight.is_empty()
            {
                return (ending, self);
            }
            if let Some(ending) = self.leaves_unwritten() {
                return (ending, self);
            }
            let deadline = self.deadline();
            tokio::select! {
                biased;
                Some(event) = events.recv() => self.journal_event(event),
                Some(command) = commands.recv() => self.command(command).await,
                Some(published) = self.published.recv() => self.sidecar_written(published),
                Some(event) = self.launches.recv() => self.launch_event(event),
                Some((channel, frames)) = self.kernel_events.recv() => self.zmq_message(channel, frames),
                () = self.kernel.spool_changed() => {
                    // Whoever looks by a timer mostly finds nothing; what is found is committed, and that counts.
                    self.spool_has_more();
                    continue;
                }
                () = self.kernel.ended() => self.kernel_ended().await,
                () = tokio::time::sleep_until(deadline) => self.deadline_reached().await,
                () = tokio::time::sleep_until(rest_due.unwrap_or(deadline)), if rest_due.is_some() => {
                    self.rest();
                    rest_due = None;
                    continue;
                }
            }
            rest_due = after();
        }
    }

    /// Gives back what is only needed while something happens.
    fn rest(&mut self) {
        if let Some(spool) = self.kernel.spool_mut() {
            spool.rest();
        }
        self.journal.rest();
    }

    async fn command(&mut self, command: Command) {
        match command {
            Command::Connect(link) => {
                if self.is_leaving() {
                    let sent_on = Parting::Client(link.id, Answer::GoingAway);
                    self.partings.push(sent_on);
                }
                self.clients.insert(link.id, link);
            }
            Command::Gone(client) => {
                self.clients.remove(&client);
                self.noticing.remove(&client);
                self.waiting.retain(|(waiting, _)| *waiting != client);
                self.questions.forget(client);
                self.copies.forget(client);
                let was_observed = self.last_ticket > 0;
                if was_observed && self.is_unused() {
                    // Whoever only looked at the history has left: nothing keeps this worker.
                    self.ending.get_or_insert(Ending::Unused);
                }
            }
            Command::Op { client, op, launch } => self.op(client, op, launch).await,
            Command::Control(request, reply) => self.control(request, reply).await,
        }
    }

    /// The next moment something is due without being asked.
    fn deadline(&self) -> Instant {
        let now = Instant::now();
        let far = now + Duration::from_secs(3600);
        let unused = self.is_unused().then(|| self.last_touch + UNUSED_AFTER);
        let barrier = self.running.as_ref().and_then(|running| running.barrier);
        let looks = self.settings.idle_timeout.is_some() || self.kernel.running().is_some();
        let idle = looks.then_some(self.idle_look_due);
        let kernel = self.kernel.running().and_then(Kernel::deadline);
        // While a commit is under way, its end is what the spool waits for.
        let spool = self
            .kernel
            .spool_due()
            .filter(|_| self.in_flight.is_empty());
        let questions = self.questions.deadline();
        [
            unused,
            barrier,
            idle,
            kernel,
            spool,
            questions,
            self.folds_due,
            self.reclaim_due,
            self.history.due,
            self.checkpoint_deadline(),
            self.copies_deadline(),
        ]
        .into_iter()
        .flatten()
        .fold(far, Instant::min)
    }

    /// Whether the worker ends as soon as it can.
    fn is_leaving(&self) -> bool {
        self.ending.is_some() || self.kernel.running().is_some_and(Kernel::is_last)
    }

    /// Whether a client came when the worker was leaving already: it is sent on to the next one, and what
    /// it asks is that one's.
    fn is_sent_on(&self, client: ClientId) -> bool {
        self.partings
            .iter()
            .any(|it| matches!(it, Parting::Client(to, Answer::GoingAway) if *to == client))
    }

    /// Whether there is neither a kernel, nor a checkpoint of one, nor anybody who could want one.
    fn is_unused(&self) -> bool {
        matches!(self.kernel, KernelSlot::Absent)
            && self.clients.is_empty()
            && self.checkpoints.is_empty()
            && self.copies.is_empty()
    }

    async fn deadline_reached(&mut self) {
        let now = Instant::now();
        if self.is_unused() && now >= self.last_touch + UNUSED_AFTER {
            self.ending = Some(Ending::Unused);
        }
        if self
            .running
            .as_ref()
            .is_some_and(|running| running.barrier.is_some_and(|due| now >= due))
        {
            self.finish_running();
        }
        if self.folds_due.is_some_and(|due| now >= due) {
            self.store_folds();
        }
        self.expire_questions(now);
        if self.reclaim_due.is_some_and(|due| now >= due) {
            self.reclaim();
        }
        if self.history.due.is_some_and(|due| now >= due) {
            self.make_room();
        }
        self.kernel_deadline(now).await;
        self.checkpoint_deadline_reached(now);
        self.copies_deadline_reached(now);
        if now >= self.idle_look_due {
            self.idle_look_due = now + self.settings.idle_poll;
            self.kernel_log.look();
            self.collect_if_idle().await;
        }
    }

    /// Sends a client an answer; one that does not read its answers is let go.
    fn answer(&mut self, client: ClientId, answer: Answer) {
        if let Some(link) = self.clients.get(&client)
            && link.answers.try_send(answer).is_err()
        {
            self.clients.remove(&client);
        }
    }

    fn frame(&mut self, client: ClientId, frame: &Frame<'_>) {
        self.answer(client, Answer::Frame(frame.to_text().into()));
    }

    /// Tells the clients that can show it something in passing.
    fn notice(&self, message: &str) {
        let text: Utf8Bytes = Frame::Notice { message }.to_text().into();
        for link in self
            .clients
            .values()
            .filter(|link| self.noticing.contains(&link.id))
        {
            link.answers.try_send(Answer::Extra(text.clone())).ok();
        }
    }

    /// What is left once the session has ended: the journal to close and the clients to part from.
    pub(crate) fn into_parts(self) -> (Journal, HashMap<ClientId, Link>, Vec<Parting>) {
        (self.journal, self.clients, self.partings)
    }
}
