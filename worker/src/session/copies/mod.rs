//! Copies of the kernel that live beside it: what a client tries is run on one that is thrown away.
//!
//! A copy is forked from a checkpoint, or from the live kernel between two cells. It has a task of its
//! own (`task`), which talks to it and to the client that asked. Nothing of it gets into the journal,
//! and nothing of it outlives the task: a guard (`launcher/tithon_copy.py`) sees to that.

mod branch;
mod fork;
mod place;
mod task;

use std::{
    collections::{HashMap, VecDeque},
    io,
    path::PathBuf,
    time::Duration,
};

use tithon_ipc::{
    client::{BranchWish, Frame, Trial},
    ids::Seq,
    process::ProcessIdentity,
};
use tokio::{sync::mpsc, task::JoinHandle, time::Instant};

use self::{branch::Branching, place::CopyPlace, task::Task};
pub(super) use self::{fork::is_request, task::Wish};
use super::{Session, kernel::KernelSlot, launch::LaunchEvent};
use crate::{
    client::{Answer, ClientId},
    kernel::checkpoint,
};

/// Copies at one time, of one session.
const COPIES_MAX: usize = 8;
/// How long copies may take to end with their session.
const END_PATIENCE: Duration = Duration::from_secs(5);

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
    /// Those there are.
    running: HashMap<ClientId, Running>,
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
}

impl Purpose {
    /// The execution whose checkpoint is wanted, rather than the live kernel.
    fn from(&self) -> Option<&str> {
        match self {
            Self::Try(trial) => trial.from.as_deref(),
            Self::Branch(wish) => wish.from.as_deref(),
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
    number: u64,
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
    Ended { client: ClientId, number: u64 },
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
        if let Some(running) = self.running.get_mut(&client) {
            running.wishes = mpsc::unbounded_channel().0;
        }
    }

    fn has(&self, client: ClientId) -> bool {
        let running = self.running.get(&client);
        // Its task ends before the client hears of the end.
        running.is_some_and(|running| !running.wishes.is_closed())
            || self.unmade().any(|wanted| wanted.client == client)
    }

    /// How many run or are to be made.
    pub(super) fn count(&self) -> usize {
        self.running.len() + self.unmade().count()
    }

    fn unmade(&self) -> impl Iterator<Item = &Wanted> {
        let asked = self.asked.iter().map(|asked| &asked.wanted);
        let freezing = self.freezing.iter().map(|(wanted, _)| wanted);
        asked.chain(freezing).chain(&self.wanted)
    }
}

impl Session {
    /// Ends what an earlier worker left of its copies.
    pub(super) async fn end_stray_copies(&self) {
        place::sweep(&self.place).await;
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
        let source = match purpose.from() {
            Some(from) => {
                let exec = self.choose_checkpoint(Some(from))?;
                let known = self.checkpoints.get(exec);
                known.map(|known| Source {
                    socket: self.place.home.checkpoint_socket(&self.place.key, exec),
                    process: known.process.clone(),
                    brief: false,
                    through: known.seq,
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
            CopyEvent::Ended { client, number } => {
                let running = self.copies.running.get(&client);
                // The client may have another by now.
                if running.is_some_and(|running| running.number == number) {
                    self.copies.running.remove(&client);
                }
            }
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
        let trial = match wanted.purpose {
            Purpose::Try(trial) => trial,
            Purpose::Branch(wish) => {
                let branching = Branching {
                    source,
                    session: self.place.clone(),
                    wish,
                    _gone: inbox,
                };
                let running = self.copy_at_work(client, number, wishes, branching.run());
                self.copies.running.insert(client, running);
                return;
            }
        };
        let task = Task {
            source,
            place: CopyPlace::new(&self.place, number),
            trial,
            link,
            wishes: inbox,
            idle_barrier: self.settings.idle_barrier,
        };
        let running = self.copy_at_work(client, number, wishes, task.run());
        self.copies.running.insert(client, running);
    }

    /// Lets a task work for a client, which is told what it returns.
    fn copy_at_work(
        &self,
        client: ClientId,
        number: u64,
        wishes: mpsc::UnboundedSender<Wish>,
        work: impl Future<Output = String> + 'static,
    ) -> Running {
        let (events, link) = (
            self.launch_sender.clone(),
            self.clients.get(&client).cloned(),
        );
        let task = tokio::task::spawn_local(async move {
            let told = work.await;
            let ended = CopyEvent::Ended { client, number };
            drop(events.send(LaunchEvent::Copy(ended)));
            if let Some(link) = link {
                // Nobody may be there any more.
                link.answers.send(Answer::Frame(told.into())).await.ok();
            }
        });
        Running {
            number,
            wishes,
            task,
        }
    }

    /// A client has something for its copy; the copy's task answers.
    pub(super) fn wish_of_copy(&mut self, client: ClientId, wish: Wish) {
        let unheard = match self.copies.running.get(&client) {
            Some(running) => running.wishes.send(wish).err().map(|err| err.0),
            None => Some(wish),
        };
        if let Some(wish) = unheard {
            self.answer(client, Answer::Frame(wish.answer(false).into()));
        }
    }

    /// The kernel is over: whoever waits for a copy of it gets none.
    pub(super) fn copies_lose_kernel(&mut self) {
        let asked = self.copies.asked.take().map(|asked| asked.wanted);
        let wanted: Vec<_> = asked
            .into_iter()
            .chain(self.copies.wanted.drain(..))
            .collect();
        self.copies.retry = None;
        for wanted in wanted {
            self.copy_failed(wanted.client, "the kernel ended before it could be copied");
        }
    }

    /// Ends every copy, and returns when they are gone.
    pub(super) async fn end_copies(&mut self) {
        self.copies_lose_kernel();
        for (_, running) in std::mem::take(&mut self.copies.running) {
            drop(running.wishes);
            tokio::time::timeout(END_PATIENCE, running.task).await.ok();
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
