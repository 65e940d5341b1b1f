//! The life of one copy: forked, asked to run the code, listened to, ended.

use std::{
    os::fd::{AsFd, OwnedFd},
    process::ExitStatus,
    time::Duration,
};

use bytes::Bytes;
use rustix::process::Signal;
use serde::Deserialize;
use serde_json::json;
use tithon_ipc::{
    client::{Frame, Trial, copy_event},
    jupyter::{ConnectionFile, Message, ParentView, Signer},
    readiness::readable,
};
use tokio::{
    io::unix::AsyncFd,
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::{Source, place::CopyPlace};
use crate::{
    client::{Answer, Link},
    journal::Channel,
    kernel::{
        channels::Channels,
        checkpoint::Copy,
        death::{Crash, Evidence},
        memory::MemoryWatch,
        spool::{Record, SpoolPosition, SpoolReader, StreamName, StreamRecord, crash_log},
    },
    session::reply::Reply,
};

/// How long a copy may take until it can be asked something; it has nothing to import. What a library's
/// threads left locked would keep it for ever.
const READY_PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of spool read at once.
const READ_MAX: usize = 256 << 10;
/// Answers that a client must have room for: a copy that floods it leaves some for what else it asked.
const ROOM: usize = 64;
/// Between two looks whether it has.
const LOOK: Duration = Duration::from_millis(2);
/// The request.
const REQUEST: &str = "tithon-copy_1";

/// What a client wants of its copy.
#[derive(Debug)]
pub(in crate::session) enum Wish {
    /// Interrupt what it runs.
    Interrupt,
    /// The answer of its prompt.
    Input(String),
}

impl Wish {
    /// The frame that says what came of it.
    pub(super) fn answer(&self, ok: bool) -> String {
        match self {
            Self::Interrupt => Frame::Interrupted { ok }.to_text(),
            Self::Input(_) => Frame::InputAck { ok }.to_text(),
        }
    }
}

/// A copy to be made, and everything it needs.
pub(super) struct Task {
    pub(super) source: Source,
    pub(super) place: CopyPlace,
    pub(super) trial: Trial,
    pub(super) link: Link,
    pub(super) wishes: mpsc::UnboundedReceiver<Wish>,
    pub(super) idle_barrier: Duration,
}

/// Why a copy is not run to its end.
enum Stop {
    /// Nobody is there any more.
    Left,
    /// It cannot be made, or not be read.
    Failed(String),
}

impl<T: std::fmt::Display> From<T> for Stop {
    fn from(err: T) -> Self {
        Self::Failed(err.to_string())
    }
}

impl Task {
    /// Runs the code; returns what to answer the client, and then the copy is gone.
    pub(super) async fn run(mut self) -> String {
        let made = self.make().await;
        let told = match made {
            Ok((copy, connection)) => {
                let mut run = Run {
                    copy,
                    told: None,
                    out: Out {
                        link: self.link.clone(),
                    },
                    allow_stdin: self.trial.allow_stdin,
                    prompt: None,
                    reply: None,
                    idle: false,
                    greeted: false,
                };
                let ended = run.live(&mut self, &connection).await;
                run.copy.end().await;
                ended.map(|()| run.told)
            }
            Err(stop) => Err(stop),
        };
        self.place.remove().await;
        match &told {
            Ok(Some((status, execution_count))) => Frame::Tried {
                status,
                execution_count: *execution_count,
            }
            .to_text(),
            Ok(None) | Err(Stop::Left) => Frame::Error {
                message: "the copy of the kernel was given up: its session ends",
            }
            .to_text(),
            Err(Stop::Failed(why)) => Frame::Error { message: why }.to_text(),
        }
    }

    async fn make(&mut self) -> Result<(Copy, ConnectionFile), Stop> {
        let made = async {
            let (connection, order) = self.place.make()?;
            let copy = Copy::of(&self.source.socket, &self.source.process, &order).await?;
            Ok::<_, std::io::Error>((copy, connection))
        };
        let made = made.await;
        self.source.is_used();
        made.map_err(|err| Stop::Failed(format!("the kernel cannot be copied: {err}")))
    }
}

/// A copy at work.
struct Run {
    copy: Copy,
    /// How the code ended: what is told once the copy is gone.
    told: Option<(String, Option<i64>)>,
    out: Out,
    allow_stdin: bool,
    /// The header of the prompt that waits for an answer.
    prompt: Option<Bytes>,
    reply: Option<Reply>,
    idle: bool,
    /// Whether it can be asked something.
    greeted: bool,
}

/// What happens next.
enum Wake {
    More,
    Spool,
    Wish(Option<Wish>),
    Ended(Option<ExitStatus>),
    Due,
    Zmq,
}

impl Run {
    async fn live(&mut self, task: &mut Task, connection: &ConnectionFile) -> Result<(), Stop> {
        let mut spool = SpoolReader::open(&task.place.spool(), SpoolPosition::default())
            .map_err(|err| format!("failed to {err}"))?;
        let changed: AsyncFd<OwnedFd> = readable(spool.as_fd().try_clone_to_owned()?)?;
        let memory = MemoryWatch::of(self.copy.process().identity().pid);
        let signer = Signer::new(&connection.key, task.place.identity());
        let mut channels: Option<(Channels, mpsc::UnboundedReceiver<_>)> = None;
        let mut due = Some(Instant::now() + READY_PATIENCE);
        loop {
            // One batch at a time: what prints for ever is to be interrupted all the same.
            let more = self.read(&mut spool).await?;
            if self.reply.is_some() {
                due.get_or_insert_with(|| Instant::now() + task.idle_barrier);
                if self.idle {
                    self.done();
                    return Ok(());
                }
            }
            if self.greeted && channels.is_none() {
                let opened = Channels::open(connection, &task.place.identity())?;
                opened
                    .0
                    .send(Channel::Shell, self.request(&signer, &task.trial));
                channels = Some(opened);
                due = None;
                self.out
                    .event(
                        "tithon.started",
                        &json!({"pid": self.copy.process().identity().pid}).to_string(),
                    )
                    .await?;
            }
            let at = due.unwrap_or_else(Instant::now);
            let incoming = channels.as_mut().map(|(_, incoming)| incoming);
            let wake = tokio::select! {
                biased;
                wish = task.wishes.recv() => Wake::Wish(wish),
                () = std::future::ready(()), if more => Wake::More,
                exit = self.copy.ended() => Wake::Ended(exit),
                ready = changed.readable() => {
                    // The reader takes the notifications themselves when it reads.
                    ready?.clear_ready();
                    Wake::Spool
                }
                () = sleep_until(at), if due.is_some() => Wake::Due,
                _ = next(incoming) => Wake::Zmq,
            };
            match wake {
                // What the spool does not have is nothing to us.
                Wake::More | Wake::Spool | Wake::Zmq => {}
                Wake::Wish(None) => return Err(Stop::Left),
                Wake::Wish(Some(wish)) => {
                    self.grant(
                        wish,
                        &signer,
                        channels.as_ref().map(|(channels, _)| channels),
                    )
                    .await?
                }
                Wake::Due if self.reply.is_some() => {
                    self.done();
                    return Ok(());
                }
                Wake::Due => {
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
                    return self.died(&mut spool, &evidence).await;
                }
            }
        }
    }

    fn request(&self, signer: &Signer, trial: &Trial) -> Message {
        signer.request(
            REQUEST,
            "execute_request",
            &json!({
                "code": trial.code,
                "silent": false,
                "store_history": true,
                "user_expressions": {},
                "allow_stdin": self.allow_stdin,
                "stop_on_error": true,
            }),
        )
    }

    fn done(&mut self) {
        self.told = self
            .reply
            .take()
            .map(|reply| (reply.status, reply.execution_count));
    }

    /// It ended before the code did: what it said last, and what ended it.
    async fn died(&mut self, spool: &mut SpoolReader, evidence: &Evidence) -> Result<(), Stop> {
        while self.read(spool).await? {}
        if self.reply.is_some() {
            self.done();
            return Ok(());
        }
        // What its C code and children wrote last is in no record yet.
        if spool.finish(REQUEST).is_ok() {
            while self.read(spool).await? {}
        }
        let cause = evidence.cause();
        let mut traceback = vec![format!(
            "KernelDied: the copy of the kernel exited during execution: {cause}."
        )];
        traceback.extend_from_slice(evidence.stack());
        traceback.push("The session and its kernel are as they were.".to_owned());
        let content = json!({
            "tithon_scope": "cell",
            "ename": "KernelDied",
            "evalue": format!("the copy died during execution: {cause}"),
            "traceback": traceback,
        });
        self.out.event("error", &content.to_string()).await?;
        self.told = Some(("error".to_owned(), None));
        Ok(())
    }

    async fn grant(
        &mut self,
        wish: Wish,
        signer: &Signer,
        channels: Option<&Channels>,
    ) -> Result<(), Stop> {
        let ok = match &wish {
            Wish::Interrupt => self.greeted && self.copy.process().signal(Signal::INT).is_ok(),
            Wish::Input(value) => match (self.prompt.take(), channels) {
                (Some(header), Some(channels)) => {
                    let content =
                        tithon_ipc::json::to_string(&json!({"value": value, "status": "ok"}));
                    let reply =
                        signer.message("tithon-copy_input", "input_reply", header, content.into());
                    channels.send(Channel::Stdin, reply);
                    true
                }
                _ => false,
            },
        };
        self.out.answer(wish.answer(ok)).await
    }

    /// Takes in what the spool holds; false if that was nothing.
    async fn read(&mut self, spool: &mut SpoolReader) -> Result<bool, Stop> {
        let records = spool
            .read(READ_MAX)
            .map_err(|err| format!("failed to {err}"))?;
        let some = !records.is_empty();
        for record in records {
            self.record(record).await?;
        }
        if some {
            spool
                .release(&spool.position())
                .map_err(|err| format!("failed to {err}"))?;
        }
        Ok(some)
    }

    async fn record(&mut self, record: Record) -> Result<(), Stop> {
        match record {
            Record::Hello(_) => self.greeted = true,
            Record::Stream(stream) => self.out.stream(&stream).await?,
            Record::Iopub(frames) | Record::IopubFor(_, frames) => {
                if let Ok(message) = Message::from_frames(frames) {
                    self.published(&message).await?;
                }
            }
            Record::Reply(frames) => {
                if let Ok(message) = Message::from_frames(frames) {
                    self.replied(&message).await?;
                }
            }
            Record::StdinRequest(frames) => {
                if let Ok(message) = Message::from_frames(frames) {
                    self.out
                        .event("tithon.input_request", &prompt(&message.content))
                        .await?;
                    self.prompt = Some(message.header);
                }
            }
            Record::StdinEnd(_) => {
                self.prompt = None;
                self.out.event("tithon.input_resolved", "{}").await?;
            }
            Record::Gap { bytes, .. } => self.out.gap(bytes).await?,
            Record::Hole { from, to, .. } => self.out.gap(to - from).await?,
            Record::Control(_) | Record::Bye => {}
        }
        Ok(())
    }

    async fn published(&mut self, message: &Message) -> Result<(), Stop> {
        let (Ok(header), Some(content)) = (message.header_view(), message.content_text()) else {
            return Ok(());
        };
        match &*header.msg_type {
            "status" => {
                let ours = ParentView::of(&message.parent_header).msg_id == REQUEST;
                self.idle |= ours && content.contains("\"idle\"");
            }
            // Nobody could answer a widget of a copy that is about to go.
            "comm_open" | "comm_msg" | "comm_close" => return Ok(()),
            _ => {}
        }
        self.out.event(&header.msg_type, content).await
    }

    async fn replied(&mut self, message: &Message) -> Result<(), Stop> {
        if ParentView::of(&message.parent_header).msg_id != REQUEST {
            return Ok(());
        }
        let reply = Reply::of(&message.content);
        for text in reply.pages() {
            let content = json!({"name": "stdout", "text": text, "tithon_scope": "cell"});
            self.out.event("stream", &content.to_string()).await?;
        }
        self.reply = Some(reply);
        Ok(())
    }
}

/// What a prompt shows.
fn prompt(content: &[u8]) -> String {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Request {
        prompt: String,
        password: bool,
    }
    let Request { prompt, password } = serde_json::from_slice(content).unwrap_or_default();
    json!({"prompt": prompt, "password": password}).to_string()
}

async fn next<T>(incoming: Option<&mut mpsc::UnboundedReceiver<T>>) -> Option<T> {
    match incoming {
        Some(incoming) => incoming.recv().await,
        None => std::future::pending().await,
    }
}

/// The way to the client.
struct Out {
    link: Link,
}

impl Out {
    async fn event(&self, msg_type: &str, content: &str) -> Result<(), Stop> {
        match copy_event(msg_type, content) {
            Some(text) => self.send(Answer::Extra(text.into())).await,
            None => Ok(()),
        }
    }

    async fn stream(&self, stream: &StreamRecord) -> Result<(), Stop> {
        let name = match stream.name {
            StreamName::Stdout => "stdout",
            StreamName::Stderr => "stderr",
        };
        let content = tithon_ipc::json::to_string(&json!({"name": name, "text": stream.text}));
        self.event("stream", &content).await
    }

    async fn gap(&self, bytes: u64) -> Result<(), Stop> {
        let text = format!("[tithon: {bytes} bytes of output are missing here]\n");
        let content = json!({"name": "stderr", "text": text, "tithon_scope": "cell"});
        self.event("stream", &content.to_string()).await
    }

    async fn answer(&self, text: String) -> Result<(), Stop> {
        self.send(Answer::Frame(Utf8Bytes::from(text))).await
    }

    /// Waits for a client that reads slowly; the copy, whose spool is not read meanwhile, waits too.
    async fn send(&self, answer: Answer) -> Result<(), Stop> {
        while self.link.answers.capacity() < ROOM {
            if self.link.answers.is_closed() {
                return Err(Stop::Left);
            }
            sleep(LOOK).await;
        }
        self.link.answers.send(answer).await.map_err(|_| Stop::Left)
    }
}
