//! The life of one copy: forked, asked to run the code, listened to, frozen if its state is to stay, ended.
//!
//! A copy whose state is to stay goes on when its worker dies, as the kernel does: the next one takes it up
//! where the journal has read its spool to.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    process::ExitStatus,
    time::Duration,
};

use bytes::Bytes;
use serde_json::json;
use tithon_ipc::{
    jupyter::{ConnectionFile, Message, ParentView, Signer},
    process::WatchedProcess,
    readiness::readable,
};
use tokio::{
    io::unix::AsyncFd,
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{
    body::Body,
    out::Out,
    place::CopyPlace,
    work::{Done, Origin, Stop, Wish, Work},
};
use crate::{
    journal::Channel,
    kernel::{
        channels::{Channels, Incoming},
        checkpoint::Copy,
        death::{Crash, Evidence},
        memory::MemoryWatch,
        spool::{Record, SpoolPosition, SpoolReader, crash_log},
    },
    session::reply::{ExecuteReply, Reply},
};

/// How long a copy may take until it can be asked something; it has nothing to import. What a library's
/// threads left locked would keep it for ever.
const READY_PATIENCE: Duration = Duration::from_secs(60);
/// How long a kernel that says what code it runs may heed no interrupt: it is not in it yet.
const EARLY: Duration = Duration::from_millis(500);
/// How often an interrupt of that time is tried again.
const EARLY_TRIES: u8 = 5;
/// Between two tries.
const EARLY_PAUSE: Duration = Duration::from_millis(200);
/// Bytes of spool read at once.
const READ_MAX: usize = 256 << 10;
/// The request.
const REQUEST: &str = "tithon-copy_1";

/// A copy to be made, and everything it needs.
pub(super) struct Task {
    pub(super) origin: Origin,
    pub(super) place: CopyPlace,
    pub(super) work: Work,
    pub(super) out: Out,
    pub(super) wishes: mpsc::UnboundedReceiver<Wish>,
    /// What is still to be ended.
    pub(super) body: Body,
    pub(super) idle_barrier: Duration,
}

impl Task {
    /// Runs the code; [`Task::end`] is to follow.
    pub(super) async fn run(&mut self) -> Result<Done, Stop> {
        let (mut run, connection) = self.make().await?;
        let ended = run.live(self, &connection).await;
        self.body = run.body;
        ended
    }

    /// Ends the copy and everything that it started.
    pub(super) async fn end(self) {
        self.body.end().await;
        self.place.remove().await;
    }

    async fn make(&mut self) -> Result<(AtWork, ConnectionFile), Stop> {
        let (body, connection, position, reply) = match &mut self.origin {
            Origin::Forked(source) => {
                let guarded = matches!(self.out, Out::Client(_));
                let made = async {
                    let (connection, order) = self.place.make(guarded)?;
                    let copy = Copy::of(&source.socket, &source.process, &order).await?;
                    Ok::<_, io::Error>((copy, connection))
                };
                let made = made.await;
                source.is_used();
                let cannot = |err| Stop::Failed(format!("the kernel cannot be copied: {err}"));
                let (copy, connection) = made.map_err(cannot)?;
                let body = if guarded {
                    Body::Guarded(copy)
                } else {
                    // Known to whoever takes over before it does anything.
                    let process = copy.process().identity().clone();
                    self.place.record(&process).map_err(cannot)?;
                    self.work.keep = self.out.made(process).await?;
                    let handle = copy.let_go().await.map_err(cannot)?;
                    Body::Free(WatchedProcess::new(handle)?)
                };
                (body, connection, SpoolPosition::default(), None)
            }
            Origin::Found(found) => {
                let connection = self.place.connection()?;
                let body = Body::found(&found.process)?;
                if matches!(body, Body::Gone) && found.position == SpoolPosition::default() {
                    let why = "the session's worker ended before it had begun";
                    return Err(Stop::Failed(why.to_owned()));
                }
                (body, connection, found.position.clone(), found.reply.take())
            }
        };
        let run = AtWork {
            body,
            signer: Signer::new(&connection.key, self.place.identity()),
            channels: None,
            prompt: None,
            reply,
            idle: false,
            // It is the first thing that it says.
            greeted: position != SpoolPosition::default(),
            begun: None,
            early: None,
            position,
        };
        Ok((run, connection))
    }
}

/// A copy at work.
pub(super) struct AtWork {
    pub(super) body: Body,
    pub(super) signer: Signer,
    pub(super) channels: Option<(Channels, mpsc::UnboundedReceiver<Incoming>)>,
    /// The header of the prompt that waits for an answer.
    prompt: Option<Bytes>,
    reply: Option<ExecuteReply>,
    idle: bool,
    /// Whether it can be asked something.
    greeted: bool,
    /// How far its spool was read.
    position: SpoolPosition,
    /// When the code began, or was found to have.
    begun: Option<Instant>,
    /// An interrupt that came before: when to try it, and how many times more.
    early: Option<(Instant, u8)>,
}

/// What happens next.
enum Wake {
    More,
    Spool,
    Wish(Option<Wish>),
    Ended(Option<ExitStatus>),
    Due,
    Early,
    Zmq,
}

impl AtWork {
    async fn live(&mut self, task: &mut Task, connection: &ConnectionFile) -> Result<Done, Stop> {
        let mut spool = SpoolReader::open(&task.place.spool(), self.position.clone())
            .map_err(|err| format!("failed to {err}"))?;
        let changed: AsyncFd<OwnedFd> = readable(spool.as_fd().try_clone_to_owned()?)?;
        let memory = MemoryWatch::of(self.body.pid());
        let mut due = Some(Instant::now() + READY_PATIENCE);
        loop {
            // One batch at a time: what prints for ever is to be interrupted all the same.
            let more = self.read(&mut spool, task).await?;
            if self.greeted && self.channels.is_none() {
                let opened = Channels::open(connection, &task.place.identity())?;
                if self.reply.is_none() {
                    // Perhaps again: it heeds it once.
                    opened.0.send(Channel::Shell, self.request(&task.work));
                }
                self.channels = Some(opened);
                due = None;
                task.out.started(self.body.pid()).await?;
            }
            if let Some(reply) = &self.reply {
                due.get_or_insert_with(|| Instant::now() + task.idle_barrier);
                if self.idle {
                    let reply = reply.clone();
                    return self.done(reply, task).await;
                }
            }
            if self.idle {
                // Without a word: an interrupt has met it before the code.
                due.get_or_insert_with(|| Instant::now() + task.idle_barrier);
            }
            let at = due.unwrap_or_else(Instant::now);
            let early = self.early.map_or_else(Instant::now, |(when, _)| when);
            let is_early = self.begun.is_some() && self.reply.is_none() && self.early.is_some();
            let incoming = self.channels.as_mut().map(|(_, incoming)| incoming);
            let wake = tokio::select! {
                biased;
                wish = task.wishes.recv() => Wake::Wish(wish),
                () = std::future::ready(()), if more => Wake::More,
                exit = self.body.ended() => Wake::Ended(exit),
                ready = changed.readable() => {
                    // The reader takes the notifications themselves when it reads.
                    ready?.clear_ready();
                    Wake::Spool
                }
                () = sleep_until(at), if due.is_some() => Wake::Due,
                () = sleep_until(early), if is_early => Wake::Early,
                _ = next(incoming) => Wake::Zmq,
            };
            match wake {
                // What the spool does not have is nothing to us.
                Wake::More | Wake::Spool | Wake::Zmq => {}
                Wake::Early => {
                    self.body.interrupt();
                    let left = self.early.map_or(0, |(_, left)| left);
                    self.early = left
                        .checked_sub(1)
                        .map(|left| (Instant::now() + EARLY_PAUSE, left));
                }
                Wake::Wish(None) => return Err(Stop::Left),
                Wake::Wish(Some(wish)) => self.grant(wish, task).await?,
                Wake::Due => {
                    if let Some(reply) = self.reply.take() {
                        return self.done(reply, task).await;
                    }
                    if self.idle {
                        return Self::interrupted(task).await;
                    }
                    let limit = READY_PATIENCE.as_secs();
                    return Err(Stop::Failed(format!(
                        "the copy of the kernel does not come to life within {limit} seconds: what a library's threads held is held for ever in it, it seems"
                    )));
                }
                Wake::Ended(exit) => {
                    let evidence = Evidence {
                        exit,
                        out_of_memory: memory.has_killed(),
                        took_leave: false,
                        crash: Crash::read(&crash_log(&task.place.spool())),
                    };
                    return self.died(&mut spool, task, &evidence).await;
                }
            }
        }
    }

    fn request(&self, work: &Work) -> Message {
        self.signer.request(
            REQUEST,
            "execute_request",
            &json!({
                "code": work.code,
                "silent": false,
                "store_history": true,
                "user_expressions": {},
                "allow_stdin": work.allow_stdin,
                "stop_on_error": true,
            }),
        )
    }

    /// The code has ended, and everything that it said is told.
    async fn done(&mut self, reply: ExecuteReply, task: &mut Task) -> Result<Done, Stop> {
        let kept = match &task.work.keep {
            Some(keep) if reply.status == "ok" => Some(self.freeze(keep, &mut task.wishes).await?),
            _ => None,
        };
        Ok(Done { reply, kept })
    }

    /// The kernel is done with the code, and has not run it.
    async fn interrupted(task: &Task) -> Result<Done, Stop> {
        let words = "interrupted before the code had begun";
        let content = json!({
            "tithon_scope": "cell",
            "ename": "KeyboardInterrupt",
            "evalue": words,
            "traceback": [format!("KeyboardInterrupt: {words}")],
        });
        task.out.died(content).await?;
        Ok(Done {
            reply: ExecuteReply::guess(true, None),
            kept: None,
        })
    }

    /// It ended before the code did: what it said last, and what ended it.
    async fn died(
        &mut self,
        spool: &mut SpoolReader,
        task: &Task,
        evidence: &Evidence,
    ) -> Result<Done, Stop> {
        while self.read(spool, task).await? {}
        if let Some(reply) = self.reply.take() {
            return Ok(Done {
                reply,
                kept: Some(Err("the copy died".to_owned())),
            });
        }
        // What its C code and children wrote last is in no record yet.
        if spool.finish(REQUEST).is_ok() {
            while self.read(spool, task).await? {}
        }
        let cause = evidence.cause();
        let mut traceback = vec![format!(
            "KernelDied: the copy of the kernel exited during execution: {cause}."
        )];
        traceback.extend_from_slice(evidence.stack());
        traceback.push("The session is as it was.".to_owned());
        let content = json!({
            "tithon_scope": "cell",
            "ename": "KernelDied",
            "evalue": format!("the copy died during execution: {cause}"),
            "traceback": traceback,
        });
        task.out.died(content).await?;
        Ok(Done {
            reply: ExecuteReply::guess(true, None),
            kept: None,
        })
    }

    async fn grant(&mut self, wish: Wish, task: &Task) -> Result<(), Stop> {
        let ok = match &wish {
            // What comes before the code does would be heeded by nobody.
            Wish::Interrupt if self.begun.is_none_or(|at| at.elapsed() < EARLY) => {
                self.early.get_or_insert((Instant::now(), EARLY_TRIES));
                true
            }
            Wish::Interrupt => self.body.interrupt(),
            Wish::Input(value) => match (self.prompt.take(), &self.channels) {
                (Some(header), Some((channels, _))) => {
                    let content =
                        tithon_ipc::json::to_string(&json!({"value": value, "status": "ok"}));
                    let reply = self.signer.message(
                        "tithon-copy_input",
                        "input_reply",
                        header,
                        content.into(),
                    );
                    channels.send(Channel::Stdin, reply);
                    true
                }
                _ => false,
            },
        };
        task.out.answer(wish.answer(ok)).await
    }

    /// Takes in what the spool holds; false if that was nothing.
    async fn read(&mut self, spool: &mut SpoolReader, task: &Task) -> Result<bool, Stop> {
        let records = spool
            .read(READ_MAX)
            .map_err(|err| format!("failed to {err}"))?;
        if records.is_empty() {
            return Ok(false);
        }
        for record in &records {
            self.note(record);
        }
        let position = spool.position();
        task.out.records(records, &position).await?;
        spool
            .release(&position)
            .map_err(|err| format!("failed to {err}"))?;
        Ok(true)
    }

    /// How far it has come, as a record tells.
    fn note(&mut self, record: &Record) {
        match record {
            Record::Hello(_) => self.greeted = true,
            Record::Iopub(frames) => {
                if let Some(message) = answers_request(frames) {
                    if is_of_type(&message, "execute_input") {
                        self.begun.get_or_insert_with(Instant::now);
                    }
                    self.idle |= says_idle(&message);
                }
            }
            Record::Reply(frames) => {
                if let Some(message) = answers_request(frames) {
                    self.reply = Some(Reply::of(&message.content).outcome());
                }
            }
            Record::StdinRequest(frames) => {
                self.prompt = Message::from_frames(frames.clone())
                    .ok()
                    .map(|message| message.header);
            }
            Record::StdinEnd(_) => self.prompt = None,
            _ => {}
        }
    }
}

/// The message, if it is about the code that is run.
pub(super) fn answers_request(frames: &[Bytes]) -> Option<Message> {
    let message = Message::from_frames(frames.to_vec()).ok()?;
    (ParentView::of(&message.parent_header).msg_id == REQUEST).then_some(message)
}

fn says_idle(message: &Message) -> bool {
    is_of_type(message, "status")
        && message
            .content_text()
            .is_some_and(|content| content.contains("\"idle\""))
}

fn is_of_type(message: &Message, msg_type: &str) -> bool {
    message
        .header_view()
        .is_ok_and(|header| header.msg_type == msg_type)
}

async fn next<T>(incoming: Option<&mut mpsc::UnboundedReceiver<T>>) -> Option<T> {
    match incoming {
        Some(incoming) => incoming.recv().await,
        None => std::future::pending().await,
    }
}
