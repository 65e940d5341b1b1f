//! Copies of the kernel that live beside it: what a client tries is run on one that is thrown away; what is
//! run in a state, on one that is frozen afterwards and is another state then.
//!
//! A copy is forked from a checkpoint or state, or from the live kernel between two cells. It has a task of
//! its own (`task`), which talks to it and to who asked (`out`). Of what is tried nothing gets into the journal,
//! and nothing outlives the task: a guard (`launcher/tithon_copy.py`) sees to that. What is run in a state is an
//! execution like any other, only that the kernel knows nothing of it (`runs`), and outlives the worker.

mod body;
mod branch;
mod ending;
mod fork;
mod freeze;
mod out;
mod outcome;
mod place;
mod runs;
mod said;
mod states;
mod task;
mod work;

use std::{
    collections::{HashMap, VecDeque},
    io,
    path::PathBuf,
};

use tithon_ipc::{
    client::{BranchWish, Frame, StateRun, Trial},
    ids::Seq,
    process::ProcessIdentity,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::Instant,
};

use self::{
    body::Body,
    branch::Branching,
    freeze::Keep,
    out::Out,
    place::CopyPlace,
    task::Task,
    work::{Done, Origin, Stop, Work, told},
};
pub(super) use self::{fork::is_request, work::Wish};
use super::{Session, kernel::KernelSlot, launch::LaunchEvent};
use crate::{
    client::{Answer, ClientId, Link},
    kernel::{
        checkpoint,
        spool::{Record, SpoolPosition},
    },
};

/// Copies at one time, of one session.
const COPIES_MAX: usize = 8;

/// The session's copies, and who waits for one.
#[derive(Debug, Default)]
pub(super) struct Copies {
    last: u64,
    /// To be forked from the live kernel, in order.
    wanted: VecDeque<Wanted>,
    /// Being forked.
    asked: Option<Asked>,
    /// Forked, and not listening yet.
    freezing: Vec<(Wanted, Seq)>,
    /// When to ask again, where nothing else tells that the kernel has come to rest.
    retry: Option<Instant>,
    /// Those there are, by their numbers.
    running: HashMap<u64, Running>,
    /// What is to be run in states, and what is.
    beginning: Vec<runs::Beginning>,
    runs: Vec<runs::Run>,
}

#[derive(Debug)]
struct Wanted {
    number: u64,
    client: ClientId,
    purpose: Purpose,
    /// Since when nothing but the kernel itself is in the way.
    tried_since: Option<Instant>,
}

/// What a copy is for.
#[derive(Debug)]
pub(super) enum Purpose {
    /// To run code, and be thrown away.
    Try(Trial),
    /// To be another session's kernel.
    Branch(BranchWish),
    /// To run code, and be a state.
    Run(Box<StateRun>),
}

impl Purpose {
    /// The state, or the execution whose checkpoint, is wanted rather than the live kernel.
    fn from(&self) -> Option<&str> {
        match self {
            Self::Try(trial) => trial.from.as_deref(),
            Self::Branch(wish) => wish.from.as_deref(),
            Self::Run(run) => run.from.as_deref(),
        }
    }
}

#[derive(Debug)]
struct Asked {
    wanted: Wanted,
    since: Instant,
}

#[derive(Debug)]
struct Running {
    /// Whose end is its own.
    client: Option<ClientId>,
    wishes: mpsc::UnboundedSender<Wish>,
    task: JoinHandle<()>,
}

/// What is heard of a copy.
#[derive(Debug)]
pub(super) enum CopyEvent {
    /// One that was forked waits, or did not come that far.
    Frozen {
        number: u64,
        found: io::Result<ProcessIdentity>,
    },
    /// One is gone.
    Ended { number: u64 },
    /// One that is to run in a state waits until it is known to the journal.
    Made {
        number: u64,
        process: ProcessIdentity,
        keep: oneshot::Sender<Keep>,
        taken: oneshot::Sender<()>,
    },
    /// What one says that runs in a state; nothing more of it is read until that is journaled.
    Said {
        number: u64,
        records: Vec<Record>,
        /// Behind it, in the spool.
        position: SpoolPosition,
        taken: oneshot::Sender<()>,
    },
    /// One died that ran in a state.
    Died {
        number: u64,
        error: serde_json::Value,
    },
    /// What was run in a state is over; its copy is ended once that is journaled.
    RunOver {
        number: u64,
        ended: Result<Done, Stop>,
        taken: oneshot::Sender<()>,
    },
}

/// A frozen process that a copy is forked from.
#[derive(Debug)]
pub(super) struct Source {
    socket: PathBuf,
    process: ProcessIdentity,
    /// Whether it serves this copy only.
    brief: bool,
    /// The last seq of the history that led to it.
    through: Seq,
    /// The last execution of the kernel that is in it; 0 if there was none.
    base: u64,
    /// The widgets that were there, as a snapshot.
    widgets: Option<String>,
}

impl Source {
    /// Lets go of one that has served.
    fn is_used(&self) {
        if self.brief {
            checkpoint::end(&self.process, &self.socket);
        }
    }
}

impl Copies {
    pub(super) fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// A client left: what it waited for is not made, what it had ends.
    pub(super) fn forget(&mut self, client: ClientId) {
        self.wanted.retain(|wanted| wanted.client != client);
        // Its task notices, and says when the copy is gone.
        if let Some(running) = self.of(client) {
            running.give_up();
        }
        // It asks again when it comes back, if it has not heard that this has begun.
        self.beginning
            .retain(|beginning| beginning.client != client);
    }

    fn of(&mut self, client: ClientId) -> Option<&mut Running> {
        let mut running = self.running.values_mut();
        // The client may have another by now: the task of the one before ends first.
        running.find(|running| running.client == Some(client) && !running.wishes.is_closed())
    }

    fn has(&mut self, client: ClientId) -> bool {
        self.of(client).is_some() || self.unmade().any(|wanted| wanted.client == client)
    }

    /// How many end with this worker.
    pub(super) fn mortal(&self) -> usize {
        let tried = |running: &&Running| running.client.is_some();
        self.running.values().filter(tried).count() + self.unmade().count()
    }

    /// How many run or are to be made.
    fn count(&self) -> usize {
        self.running.len() + self.unmade().count()
    }

    fn unmade(&self) -> impl Iterator<Item = &Wanted> {
        let asked = self.asked.iter().map(|asked| &asked.wanted);
        let freezing = self.freezing.iter().map(|(wanted, _)| wanted);
        asked.chain(freezing).chain(&self.wanted)
    }
}

impl Running {
    /// Its task notices.
    fn give_up(&mut self) {
        self.wishes = mpsc::unbounded_channel().0;
    }
}

impl Session {
    /// Ends what an earlier worker left of its copies.
    pub(super) async fn end_stray_copies(&self) {
        let spared: Vec<_> = self.copies.runs.iter().map(|run| run.number).collect();
        place::sweep(&self.place, &spared).await;
    }

    /// Makes a copy of the kernel, or of a checkpoint.
    pub(super) fn want_copy(&mut self, client: ClientId, purpose: Purpose) {
        match self.plan_copy(client, purpose) {
            Ok(Some((wanted, source))) => self.begin_copy(wanted, source),
            Ok(None) => self.start_next(),
            Err(message) => self.frame(client, &Frame::Error { message: &message }),
        }
    }

    /// Where a copy is to come from; `None` if the live kernel is to be asked for it.
    fn plan_copy(
        &mut self,
        client: ClientId,
        purpose: Purpose,
    ) -> Result<Option<(Wanted, Source)>, String> {
        if self.copies.has(client) {
            return Err("this connection has a copy of the kernel already".to_owned());
        }
        if self.copies.count() >= COPIES_MAX {
            return Err(format!(
                "{COPIES_MAX} copies of the kernel run already, which is as many as there may be"
            ));
        }
        if let Purpose::Run(run) = &purpose {
            self.check_room_for_states(run)?;
        }
        let source = match purpose.from() {
            Some(from) => {
                let exec = self.choose_checkpoint(Some(from))?;
                let known = self.checkpoints.get(exec);
                known.map(|known| Source {
                    socket: self.checkpoint_socket(exec),
                    process: known.process.clone(),
                    brief: false,
                    through: known.seq,
                    base: self.checkpoints.base_of(known),
                    widgets: known.widgets().map(str::to_owned),
                })
            }
            None => {
                self.check_live_kernel()?;
                None
            }
        };
        self.copies.last += 1;
        let wanted = Wanted {
            number: self.copies.last,
            client,
            purpose,
            tried_since: None,
        };
        if let Some(source) = source {
            return Ok(Some((wanted, source)));
        }
        if let Some(running) = &self.running {
            let exec = running.exec;
            self.tell(
                client,
                &format!(
                    "{exec} runs: the kernel is copied when it has ended (--from takes a checkpoint, and does not wait)"
                ),
            );
        }
        self.copies.wanted.push_back(wanted);
        Ok(None)
    }

    fn check_live_kernel(&self) -> Result<(), String> {
        match &self.kernel {
            KernelSlot::Running(kernel) if kernel.end.is_none() => {
                if kernel.records_everything() {
                    Ok(())
                } else {
                    Err("only Python kernels under Tithon's launcher can be copied".to_owned())
                }
            }
            _ => Err(
                "there is no living kernel to copy\nhint: `tithon restore` or `tithon restart` first, or --from names a checkpoint"
                    .to_owned(),
            ),
        }
    }

    fn copy_failed(&self, client: ClientId, message: &str) {
        if let Some(link) = self.clients.get(&client) {
            let text = Frame::Error { message }.to_text();
            link.answers.try_send(Answer::Frame(text.into())).ok();
        }
    }

    pub(super) fn copy_event(&mut self, event: CopyEvent) {
        match event {
            CopyEvent::Ended { number } => {
                let ended = self.copies.running.remove(&number);
                if ended.is_some_and(|ended| ended.client.is_none()) {
                    self.checkpoints.state_has_grown();
                }
            }
            CopyEvent::Said {
                number,
                records,
                position,
                taken,
            } => self.run_said(number, records, position, taken),
            CopyEvent::Made {
                number,
                process,
                keep,
                taken,
            } => self.run_made(number, process, keep, taken),
            CopyEvent::Died { number, error } => self.run_died(number, &error),
            CopyEvent::RunOver {
                number,
                ended,
                taken,
            } => self.run_over(number, ended, taken),
            CopyEvent::Frozen { number, found } => {
                let socket = self.copy_socket(number);
                let freezing = &mut self.copies.freezing;
                let wanted = freezing
                    .extract_if(.., |(wanted, _)| wanted.number == number)
                    .next();
                match (wanted, found) {
                    (Some((wanted, through)), Ok(process)) => {
                        let source = Source {
                            socket,
                            process,
                            brief: true,
                            through,
                            // No cell has run since: the copy was asked for between two.
                            base: self.checkpoints.end_of_line(),
                            widgets: Some(self.widgets.snapshot_json()),
                        };
                        self.begin_copy(wanted, source);
                    }
                    (Some((wanted, _)), Err(err)) => {
                        self.copy_refused(&wanted, &format!("the copy does not answer: {err}"));
                    }
                    // Its kernel was given up meanwhile.
                    (None, Ok(process)) => checkpoint::end(&process, &socket),
                    (None, Err(_)) => {}
                }
            }
        }
    }

    fn begin_copy(&mut self, wanted: Wanted, source: Source) {
        let (client, number) = (wanted.client, wanted.number);
        let Some(link) = self.clients.get(&client).cloned() else {
            return source.is_used();
        };
        let (wishes, inbox) = mpsc::unbounded_channel();
        let running = match wanted.purpose {
            Purpose::Try(trial) => {
                let work = Work {
                    code: trial.code,
                    allow_stdin: trial.allow_stdin,
                    keep: None,
                };
                let (origin, out) = (Origin::Forked(source), Out::Client(link.clone()));
                let task = self.copy_task(origin, number, work, out, inbox);
                let told = async {
                    let mut task = task;
                    let ended = task.run().await;
                    task.end().await;
                    told(&ended)
                };
                self.serve_copy(link, number, wishes, told)
            }
            Purpose::Branch(wish) => {
                let branching = Branching {
                    source,
                    session: self.place.clone(),
                    wish,
                    _gone: inbox,
                };
                self.serve_copy(link, number, wishes, branching.run())
            }
            Purpose::Run(run) => {
                let task = self.begin_run(client, number, *run, source, inbox);
                Running {
                    client: None,
                    wishes,
                    task,
                }
            }
        };
        self.copies.running.insert(number, running);
    }

    fn copy_task(
        &self,
        origin: Origin,
        number: u64,
        work: Work,
        out: Out,
        wishes: mpsc::UnboundedReceiver<Wish>,
    ) -> Task {
        Task {
            origin,
            place: CopyPlace::new(&self.place, number),
            work,
            out,
            wishes,
            body: Body::Gone,
            idle_barrier: self.settings.idle_barrier,
        }
    }

    /// Lets a task work for a client, which is told what it returns.
    fn serve_copy(
        &self,
        link: Link,
        number: u64,
        wishes: mpsc::UnboundedSender<Wish>,
        work: impl Future<Output = String> + 'static,
    ) -> Running {
        let (client, events) = (link.id, self.launch_sender.clone());
        let task = tokio::task::spawn_local(async move {
            let told = work.await;
            drop(events.send(LaunchEvent::Copy(CopyEvent::Ended { number })));
            // Nobody may be there any more.
            link.answers.send(Answer::Frame(told.into())).await.ok();
        });
        Running {
            client: Some(client),
            wishes,
            task,
        }
    }

    /// A client has something for its copy; the copy's task answers.
    pub(super) fn wish_of_copy(&mut self, client: ClientId, wish: Wish) {
        let unheard = match self.copies.of(client) {
            Some(running) => running.wishes.send(wish).err().map(|err| err.0),
            None => Some(wish),
        };
        if let Some(wish) = unheard {
            self.answer(client, Answer::Frame(wish.answer(false).into()));
        }
    }

    /// Tells one client something in passing, if it can show it.
    fn tell(&self, client: ClientId, message: &str) {
        if let Some(link) = self
            .clients
            .get(&client)
            .filter(|_| self.noticing.contains(&client))
        {
            let text = Frame::Notice { message }.to_text();
            link.answers.try_send(Answer::Extra(text.into())).ok();
        }
    }
}
