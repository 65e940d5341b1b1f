//! One client, from the hand-over to the end of its connection.
//!
//! A task per client: a panic or a stall in it ends this client only. It asks the session, and
//! takes events from the feed or the journal at the speed at which the client reads.

mod forward;
mod socket;

use std::time::Duration;

use socket::{Socket, WriteError};
use tithon_ipc::{
    client::{Call, Frame, LaunchWish, MESSAGE_MAX, Op, Parsed},
    ids::{Seq, SessionId},
    paths::Home,
};
use tokio::{net::UnixStream, sync::mpsc, task::spawn_local, time::Instant};
use tokio_tungstenite::tungstenite::{
    self, Message, Utf8Bytes, protocol::frame::coding::CloseCode,
};

use crate::{
    feed::{Next, Subscription},
    journal::Journal,
    session::Command,
    settings::Settings,
};

/// Events taken at once, in bytes of frames.
const CHUNK: usize = 128 << 10;
/// Operations a client may have under way; further ones wait in its socket.
const IN_FLIGHT_MAX: usize = 32;
/// How often a quiet connection is tried, and how long it may take to answer (PROTOCOL §2).
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// How long a parting word may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// Names a client within one worker.
pub(crate) type ClientId = u64;

/// What a client's task needs of its session.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    /// Where operations go. Bounded: a session that is behind makes its clients wait.
    pub commands: mpsc::Sender<Command>,
    /// Earlier events.
    pub journal: Journal,
    /// Where the supervisor is, for operations that are not this session's.
    pub home: Home,
    /// Which session this is.
    pub session: SessionId,
    /// The caps.
    pub settings: Settings,
}

/// The session's answer: exactly one to every operation.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A frame.
    Frame(Utf8Bytes),
    /// A frame that answers nothing, e.g. a notice.
    Extra(Utf8Bytes),
    /// The backlog: a snapshot, or the events after the subscription's cursor; `sync` once `cutoff` is
    /// reached. Subscribed already, so that nothing it is still to read is deleted meanwhile.
    Attach {
        snapshot: Option<Utf8Bytes>,
        subscription: Subscription,
        cutoff: Seq,
    },
    /// A last frame, and the end.
    Close(Utf8Bytes),
    /// The worker ends.
    GoingAway,
}

/// How a client reaches the session: its name, and where its answers go.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    /// The client.
    pub id: ClientId,
    /// Room for the answers to [`IN_FLIGHT_MAX`] operations, and notices between them.
    pub answers: mpsc::Sender<Answer>,
}

/// Serves a client that a supervisor handed over with its first operation, and tells the session
/// when it is gone, however it went.
pub(crate) async fn serve(
    door: Door,
    id: ClientId,
    stream: UnixStream,
    first: String,
    unread: Vec<u8>,
) {
    let commands = door.commands.clone();
    let task = spawn_local(async move {
        let (answers, inbox) = mpsc::channel(IN_FLIGHT_MAX * 4);
        let mut client = Client {
            socket: Socket::adopt(stream, unread, &door.settings).await,
            door,
            id,
            inbox,
            in_flight: 0,
            attached: None,
            ping_due: Instant::now() + PING_INTERVAL,
            unanswered_ping: false,
        };
        let link = Link { id, answers };
        if client
            .door
            .commands
            .send(Command::Connect(link))
            .await
            .is_err()
        {
            return;
        }
        let end = match client.message(&first).await {
            Ok(()) => client.run().await,
            Err(end) => end,
        };
        client.part(end).await;
    });
    if let Err(err) = task.await {
        tracing::error!(client = id, "a client's task failed: {err}");
    }
    commands.send(Command::Gone(id)).await.ok();
}

struct Client {
    door: Door,
    id: ClientId,
    socket: Socket,
    inbox: mpsc::Receiver<Answer>,
    in_flight: usize,
    attached: Option<Attached>,
    ping_due: Instant,
    unanswered_ping: bool,
}

struct Attached {
    subscription: Subscription,
    /// What `sync` will say, and once which seq is reached.
    sync: Option<Seq>,
}

/// Why a connection ends.
enum End {
    /// The client closed it, or is gone.
    Left,
    /// The client accepts nothing.
    Stalled,
    /// With a close code and a reason.
    Close(CloseCode, String),
    /// After a last frame.
    Last(Utf8Bytes),
}

impl From<WriteError> for End {
    fn from(err: WriteError) -> Self {
        match err {
            WriteError::Stalled => Self::Stalled,
            WriteError::Gone => Self::Left,
        }
    }
}

impl Client {
    async fn run(&mut self) -> End {
        loop {
            let turn = tokio::select! {
                biased;
                answer = self.inbox.recv() => match answer {
                    Some(answer) => self.answer(answer).await,
                    None => Err(End::Close(CloseCode::Away, String::new())),
                },
                message = self.socket.next(), if self.in_flight < IN_FLIGHT_MAX => self.received(message).await,
                frames = events(&self.door.journal, &mut self.attached) => self.write_events(frames).await,
                () = tokio::time::sleep_until(self.ping_due) => self.ping().await,
            };
            if let Err(end) = turn {
                return end;
            }
        }
    }

    async fn received(
        &mut self,
        message: Option<Result<Message, tungstenite::Error>>,
    ) -> Result<(), End> {
        self.unanswered_ping = false;
        match message {
            Some(Ok(Message::Text(text))) => self.message(&text).await,
            // Binary frames that hold JSON count as text (PROTOCOL §2); others are not JSON.
            Some(Ok(Message::Binary(bytes))) => match std::str::from_utf8(&bytes) {
                Ok(text) => self.message(text).await,
                Err(_) => Ok(()),
            },
            Some(Ok(Message::Close(_))) | None => Err(End::Left),
            Some(Ok(_)) => Ok(self.socket.flush().await?),
            Some(Err(err)) => Err(self.unreadable(&err).await?),
        }
    }

    /// What a message that cannot be read costs: its sender the connection, in the words of the
    /// supervisor.
    async fn unreadable(&mut self, err: &tungstenite::Error) -> Result<End, End> {
        use tungstenite::{Error, error::ProtocolError};
        let code = match err {
            Error::Capacity(_) => {
                let message = format!("the message is longer than {} MiB", MESSAGE_MAX >> 20);
                self.write_frame(&Frame::Error { message: &message })
                    .await?;
                CloseCode::Size
            }
            Error::Utf8(_) => CloseCode::Invalid,
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)
            | Error::ConnectionClosed
            | Error::AlreadyClosed
            | Error::Io(_) => return Ok(End::Left),
            _ => CloseCode::Protocol,
        };
        Ok(End::Close(code, String::new()))
    }

    async fn message(&mut self, text: &str) -> Result<(), End> {
        match Parsed::from_text(text) {
            Parsed::Ignored => Ok(()),
            Parsed::Malformed(reason) => {
                self.write_frame(&Frame::Error { message: &reason }).await?;
                Err(End::Close(
                    CloseCode::Error,
                    "malformed operation".to_owned(),
                ))
            }
            Parsed::Call(call) if self.is_ours(&call) => {
                self.ask(call.op, call.binding.launch).await
            }
            Parsed::Call(call) => {
                let reply = forward::to_supervisor(&self.door.home, text).await;
                self.socket.write([Message::text(reply)]).await?;
                if matches!(call.op, Op::Shutdown { .. }) {
                    return Err(End::Close(CloseCode::Normal, String::new()));
                }
                Ok(())
            }
        }
    }

    /// Whether the session answers, rather than the supervisor.
    fn is_ours(&self, call: &Call) -> bool {
        match &call.op {
            Op::Interrupt => call.binding.session == self.door.session,
            Op::KillKernel { target } => target.as_ref() == Some(&self.door.session),
            op => op.binds(),
        }
    }

    async fn ask(&mut self, op: Op, launch: Option<LaunchWish>) -> Result<(), End> {
        self.in_flight += 1;
        let command = Command::Op {
            client: self.id,
            op,
            launch,
        };
        self.door
            .commands
            .send(command)
            .await
            .map_err(|_| End::Close(CloseCode::Away, String::new()))
    }

    async fn answer(&mut self, answer: Answer) -> Result<(), End> {
        if !matches!(answer, Answer::Extra(_) | Answer::GoingAway) {
            self.in_flight = self.in_flight.saturating_sub(1);
        }
        match answer {
            Answer::Frame(text) | Answer::Extra(text) => {
                self.socket.write([Message::Text(text)]).await?
            }
            Answer::Attach {
                snapshot,
                subscription,
                cutoff,
            } => {
                self.socket.write(snapshot.map(Message::Text)).await?;
                self.attached = Some(Attached {
                    subscription,
                    sync: Some(cutoff),
                });
                self.sync_if_due().await?;
            }
            Answer::Close(last) => return Err(End::Last(last)),
            Answer::GoingAway => return Err(End::Close(CloseCode::Away, String::new())),
        }
        Ok(())
    }

    async fn write_events(
        &mut self,
        mut frames: Vec<crate::journal::EventFrame>,
    ) -> Result<(), End> {
        let Some(attached) = &mut self.attached else {
            return Ok(());
        };
        // The backlog and what is live are apart: between them comes `sync`.
        if let Some(cutoff) = attached.sync {
            frames.retain(|frame| frame.seq <= cutoff);
        }
        if let Some(last) = frames.last() {
            attached.subscription.advance(last.seq);
        }
        self.socket
            .write(frames.into_iter().map(|frame| Message::Text(frame.text)))
            .await?;
        self.sync_if_due().await
    }

    async fn sync_if_due(&mut self) -> Result<(), End> {
        let Some(attached) = &mut self.attached else {
            return Ok(());
        };
        if attached
            .sync
            .is_some_and(|cutoff| attached.subscription.cursor() >= cutoff)
        {
            attached.sync = None;
            let seq = attached.subscription.cursor();
            self.write_frame(&Frame::Sync { seq }).await?;
        }
        Ok(())
    }

    async fn ping(&mut self) -> Result<(), End> {
        let quiet = self.socket.quiet_for();
        if self.unanswered_ping && quiet >= PING_INTERVAL {
            return Err(End::Close(
                CloseCode::Error,
                "keepalive ping timeout".to_owned(),
            ));
        }
        self.ping_due = Instant::now() + PING_INTERVAL;
        self.unanswered_ping = true;
        Ok(self
            .socket
            .write([Message::Ping(Default::default())])
            .await?)
    }

    async fn write_frame(&mut self, frame: &Frame<'_>) -> Result<(), End> {
        Ok(self.socket.write([Message::text(frame.to_text())]).await?)
    }

    /// Says why the connection ends, as far as the client listens.
    async fn part(&mut self, end: End) {
        let (last, code, reason) = match end {
            End::Left => (None, CloseCode::Normal, String::new()),
            End::Stalled => {
                tracing::warn!(client = self.id, "dropped a client that accepts nothing");
                (
                    Some(Frame::Overflow.to_text().into()),
                    CloseCode::Normal,
                    String::new(),
                )
            }
            End::Close(code, reason) => (None, code, reason),
            End::Last(last) => (Some(last), CloseCode::Normal, String::new()),
        };
        let farewell = self.socket.close(last, code, reason);
        tokio::time::timeout(FAREWELL, farewell).await.ok();
    }
}

/// The next events for a subscriber; never returns while there are none. Safe to cancel: the
/// cursor moves only when the events are written.
async fn events(
    journal: &Journal,
    attached: &mut Option<Attached>,
) -> Vec<crate::journal::EventFrame> {
    let Some(attached) = attached else {
        return std::future::pending().await;
    };
    loop {
        let cursor = attached.subscription.cursor();
        match attached.subscription.feed().after(cursor, CHUNK) {
            Next::Frames(frames) => return frames,
            Next::Journal(through) => match journal.events(cursor, through, CHUNK).await {
                Ok(frames) if !frames.is_empty() => return frames,
                // Deleted by retention meanwhile: go on behind the gap.
                Ok(_) => {
                    attached.subscription.advance(through);
                    return Vec::new();
                }
                Err(_) => return std::future::pending().await,
            },
            Next::UpToDate => attached.subscription.beyond().await,
        }
    }
}
