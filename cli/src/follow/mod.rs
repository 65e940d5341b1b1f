//! Submits one cell and follows it to its end, whatever happens to the connection meanwhile.
//!
//! What makes that safe: every event carries a seq, so nothing is shown twice or left out after a
//! reconnect; and the submission carries a token that its `queued` event echoes, so a cell whose
//! acknowledgement was lost is found again instead of being run twice.

mod attempts;
mod cell;
mod copy;
mod outcome;
mod prompt;
mod view;

use serde_json::{Value, json};
use tithon_ipc::client::{Connection, ConnectionError, FrameText};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::JoinHandle,
    time::{Duration, Instant, sleep, sleep_until, timeout},
};

pub(crate) use self::attempts::{Attempts, Lost};
pub(crate) use self::copy::FollowCopy;
use self::{
    cell::{Cell, Stage},
    prompt::Answer,
    view::View,
};
pub(crate) use self::{prompt::Stdin, view::Mode};
use crate::{
    error::CliError,
    exit::Exit,
    frames::{Item, Received},
    link::{Bound, Link, ask},
    render::{output::Printer, words},
};

/// How long leaving may take because an interrupt is still on its way.
const INTERRUPT_WITHIN: Duration = Duration::from_secs(2);

/// What is submitted.
#[derive(Debug)]
pub(crate) struct Submission {
    /// The code, verbatim.
    pub(crate) code: String,
    /// Who submits it, as others are told.
    pub(crate) submitted_by: String,
    /// The document that it comes from, as a client named it.
    pub(crate) origin: Option<Value>,
    /// Whether `input()` may ask, and who answers.
    pub(crate) stdin: Stdin,
    /// How long to stay.
    pub(crate) until: Until,
    /// The state that it makes, if the kernel itself is not to run it.
    pub(crate) state: Option<StateWish>,
}

/// A state that code makes.
#[derive(Clone, Debug, Default)]
pub(crate) struct StateWish {
    /// What to call it.
    pub(crate) name: Option<String>,
    /// The state, or the execution whose checkpoint, the code is run in.
    pub(crate) from: Option<String>,
}

/// When the command is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// As soon as the cell is queued.
    Accepted,
    /// When the cell has ended.
    Ended,
}

/// Why a connection is no longer read.
enum Stop {
    Lost(Lost),
    Failed(CliError),
}

impl<E: Into<CliError>> From<E> for Stop {
    fn from(err: E) -> Self {
        Self::Failed(err.into())
    }
}

/// What happens next.
enum Wake {
    Frame(Result<Option<FrameText>, ConnectionError>),
    Quiet,
    CtrlC,
    Answer(Answer),
    KernelGone,
}

/// A cell and the connections it is followed over.
pub(crate) struct Follow<'a> {
    link: &'a Link,
    bound: &'a Bound,
    cell: Cell,
    attempts: Attempts,
    ctrl_c: Option<Signal>,
    /// Whether the cell had started when Ctrl-C was last pressed.
    pressed: Option<bool>,
    interrupt: Option<JoinHandle<()>>,
}

impl<'a> Follow<'a> {
    /// A cell for the session that `bound` names.
    pub(crate) fn new(
        link: &'a Link,
        bound: &'a Bound,
        submission: Submission,
        mode: Mode,
    ) -> Self {
        let view = View::new(mode, Printer::standard());
        Self::of(link, bound, Cell::new(submission, bound.session(), view))
    }

    /// An execution that the session has already: its output so far, then what comes.
    pub(crate) fn existing(link: &'a Link, bound: &'a Bound, exec_id: &str, mode: Mode) -> Self {
        let view = View::new(mode, Printer::standard());
        Self::of(link, bound, Cell::existing(exec_id, bound.session(), view))
    }

    fn of(link: &'a Link, bound: &'a Bound, cell: Cell) -> Self {
        Self {
            link,
            bound,
            cell,
            attempts: Attempts::over(link),
            ctrl_c: None,
            pressed: None,
            interrupt: None,
        }
    }

    /// Keeps what the cell shows, for [`Self::kept`].
    pub(crate) fn keeping(mut self) -> Self {
        self.cell.view.keep();
        self
    }

    /// What the cell showed, folded; `None` if a part of it was not seen.
    pub(crate) fn kept(&self) -> Option<Vec<Item>> {
        self.cell.view.kept()
    }

    /// Says on a terminal that the cell runs, until it prints something or has ended.
    pub(crate) fn labelled(mut self, label: String) -> Self {
        self.cell.view.label = Some(label);
        self
    }

    /// The execution's id, once it is known.
    pub(crate) fn exec_id(&self) -> Option<&str> {
        self.cell.exec_id()
    }

    /// Runs the cell to the end that was asked for.
    ///
    /// # Errors
    /// When the cell could not be submitted, or its end can no longer be learnt.
    pub(crate) async fn run(&mut self) -> Result<Exit, CliError> {
        let exit = self.follow().await?;
        if let Some(interrupt) = self.interrupt.take() {
            // Pressed twice in a row: the first still has to reach the cell.
            drop(timeout(INTERRUPT_WITHIN, interrupt).await);
        }
        Ok(exit)
    }

    async fn follow(&mut self) -> Result<Exit, CliError> {
        let mut connection = self.link.open().await?;
        loop {
            let served = self.serve(&mut connection).await;
            self.cell.view.flush()?;
            match served {
                Ok(exit) => {
                    connection.close().await;
                    return Ok(exit);
                }
                Err(Stop::Failed(err)) => return Err(err),
                Err(Stop::Lost(how)) => match self.reopen(how).await? {
                    Some(reopened) => connection = reopened,
                    None => return Ok(self.detached()),
                },
            }
        }
    }

    async fn serve(&mut self, connection: &mut Connection) -> Result<Exit, Stop> {
        let attach = self.bound.bind(self.cell.attach());
        self.send(connection, &attach).await?;
        let mut overflowed = false;
        loop {
            let exit = match self.wait(connection).await {
                Wake::Frame(Ok(Some(text))) => match Received::parse(&text)? {
                    Received::Overflow => {
                        overflowed = true;
                        None
                    }
                    frame => self.receive(frame, &text, connection).await?,
                },
                Wake::Frame(Ok(None)) if overflowed => return Err(Stop::Lost(Lost::Broken)),
                Wake::Frame(Ok(None)) => return Err(Stop::Lost(Lost::Goodbye)),
                Wake::Frame(Err(err)) => return Err(self.ended(err)),
                Wake::Quiet => {
                    self.cell.view.flush()?;
                    None
                }
                Wake::CtrlC => self.interrupted(),
                Wake::Answer(answer) => {
                    self.cell.prompts.answered(answer);
                    self.answer(connection).await?;
                    None
                }
                Wake::KernelGone => {
                    words::say("the kernel was killed before the cell ended");
                    Some(Exit::KernelLost)
                }
            };
            if let Some(exit) = exit {
                return Ok(exit);
            }
        }
    }

    async fn wait(&mut self, connection: &mut Connection) -> Wake {
        let Cell {
            view,
            prompts,
            kernel_gone,
            ..
        } = &mut self.cell;
        let gone = kernel_gone.unwrap_or_else(Instant::now);
        let is_open = prompts.is_open();
        tokio::select! {
            // In this order: Ctrl-C must not starve behind a flood, and what is already there to
            // read is read before what was written is flushed.
            biased;
            Some(()) = pressed(self.ctrl_c.as_mut()) => Wake::CtrlC,
            frame = connection.next() => Wake::Frame(frame),
            () = std::future::ready(()), if view.is_waiting() => Wake::Quiet,
            answer = prompts.answer(), if is_open => Wake::Answer(answer),
            () = sleep_until(gone), if kernel_gone.is_some() => Wake::KernelGone,
        }
    }

    async fn receive(
        &mut self,
        frame: Received<'_>,
        text: &str,
        connection: &mut Connection,
    ) -> Result<Option<Exit>, Stop> {
        match frame {
            Received::Event(event) => {
                self.attempts.reset();
                return Ok(self.cell.event(&event, text)?);
            }
            Received::Snapshot => return Ok(self.cell.snapshot(text)?),
            Received::Sync(seq) => {
                self.cell.synced(seq);
                self.caught_up(connection).await?;
            }
            Received::ExecuteAck(exec_id) => return Ok(self.cell.accepted(exec_id)?),
            Received::Notice(message) => self.cell.view.notices.show(&message),
            Received::Error(message) => return Err(CliError::Server(message).into()),
            Received::Overflow | Received::CopyEvent(_) | Received::Other(_) => {}
        }
        Ok(None)
    }

    /// The backlog is through: what it did not tell did not happen.
    async fn caught_up(&mut self, connection: &mut Connection) -> Result<(), Stop> {
        match self.cell.stage {
            Stage::Unsent => self.submit(connection, 1).await,
            // What waits for the kernel to be copied is forgotten with its connection.
            Stage::Sent { .. } if self.cell.makes_state() => self.submit(connection, 1).await,
            // The journal has no such cell, and the server that might have been about to write it
            // is gone or has closed the connection: it was never accepted.
            Stage::Sent { times: 1 } => self.submit(connection, 2).await,
            Stage::Sent { .. } => Err(CliError::NeverAccepted.into()),
            Stage::Accepted { .. } => self.answer(connection).await,
        }
    }

    async fn submit(&mut self, connection: &mut Connection, times: u8) -> Result<(), Stop> {
        if self.cell.until() == Until::Ended && self.ctrl_c.is_none() {
            // Only now: until something is submitted, Ctrl-C simply ends this command.
            let listened = signal(SignalKind::interrupt());
            self.ctrl_c = Some(listened.map_err(|source| CliError::System {
                doing: "listen for Ctrl-C",
                source,
            })?);
        }
        self.cell.stage = Stage::Sent { times };
        let execute = self.bound.name(self.cell.execute());
        self.send(connection, &execute).await
    }

    /// Sends the answer that is given but not confirmed; again, if a connection took it along.
    async fn answer(&mut self, connection: &mut Connection) -> Result<(), Stop> {
        let Some(value) = self.cell.prompts.unconfirmed() else {
            return Ok(());
        };
        let reply = json!({"op": "input_reply", "value": value});
        self.send(connection, &self.bound.name(reply)).await
    }

    /// Ctrl-C: the first interrupts the running cell, the second leaves it alone.
    fn interrupted(&mut self) -> Option<Exit> {
        let started = self.cell.is_started();
        // What was pressed while the cell waited was not meant for the running one.
        if self.pressed.replace(started) == Some(started) {
            return Some(self.detached());
        }
        self.cell.view.end_line();
        match self.cell.exec_id() {
            Some(exec_id) if started => {
                words::say(&format!(
                    "interrupting {exec_id}; Ctrl-C again detaches and leaves it running"
                ));
                let op = self.cell.interrupt(exec_id, self.bound.session());
                let link = self.link.clone();
                self.interrupt = Some(tokio::spawn(async move {
                    if let Err(err) = ask_to_interrupt(&link, &op).await {
                        words::say(&format!("failed to interrupt: {err}"));
                    }
                }));
            }
            // Its copy is not made yet, and it is forgotten with the connection.
            None if self.cell.makes_state() => return Some(self.detached()),
            // An interrupt reaches whatever runs: until ours does, that is somebody else's cell.
            _ => words::say(
                "the cell has not started yet; Ctrl-C again detaches and leaves it queued",
            ),
        }
        None
    }

    /// The command that shows the rest of a cell that is left alone.
    pub(crate) fn come_back(&self, exec_id: &str) -> String {
        let tail = format!("tail {exec_id}");
        self.link.suggested(&tail, self.bound.session())
    }

    fn detached(&self) -> Exit {
        match self.exec_id() {
            Some(exec_id) => words::say(&format!(
                "detached; {exec_id} goes on\nhint: {}",
                self.come_back(exec_id)
            )),
            None if self.cell.makes_state() => words::say("given up before it had begun"),
            None => words::say("detached before the cell was acknowledged; it may or may not run"),
        }
        Exit::Interrupted
    }

    /// A new connection after the old one ended; `None` when Ctrl-C was pressed instead.
    async fn reopen(&mut self, how: Lost) -> Result<Option<Connection>, CliError> {
        let lost_at = Instant::now();
        while let Some(delay) = self.attempts.next() {
            let attempt = async {
                sleep(delay).await;
                match self.attempts.may_start(how) {
                    true => self.link.open().await,
                    false => self.link.open_running().await,
                }
            };
            let notices = &mut self.cell.view.notices;
            let tell = || notices.show("the connection was lost, reconnecting");
            let opened = Attempts::telling(lost_at, tell, attempt);
            tokio::select! {
                Some(()) = pressed(self.ctrl_c.as_mut()) => return Ok(None),
                opened = opened => match opened {
                    Ok(connection) => return Ok(Some(connection)),
                    // Tried in earnest, and it said why: trying again would only repeat it.
                    Err(err) if err.is_final() => return Err(err),
                    Err(_) => {}
                },
            }
        }
        Err(CliError::Lost {
            left: self
                .exec_id()
                .map(|exec_id| (exec_id.to_owned(), self.come_back(exec_id))),
        })
    }

    async fn send(&self, connection: &mut Connection, op: &Value) -> Result<(), Stop> {
        connection.send(op).await.map_err(|err| self.ended(err))
    }

    /// Whether a connection's end is a loss to recover from, or the server's answer to our cell.
    fn ended(&self, err: ConnectionError) -> Stop {
        match err {
            ConnectionError::Closed(Some(_)) if self.exec_id().is_none() => err.into(),
            _ => Stop::Lost(Lost::Broken),
        }
    }
}

async fn pressed(signal: Option<&mut Signal>) -> Option<()> {
    match signal {
        Some(signal) => signal.recv().await,
        None => None,
    }
}

/// Interrupts the session's cell, over a connection of its own: ours may be busy with output.
///
/// # Errors
/// When no supervisor runs.
pub(crate) async fn interrupt(link: &Link, session: &str) -> Result<(), CliError> {
    let op = json!({"op": "interrupt", "session": session});
    ask_to_interrupt(link, &op).await
}

async fn ask_to_interrupt(link: &Link, op: &Value) -> Result<(), CliError> {
    let mut connection = link.open_running().await?;
    ask(&mut connection, op, "interrupted").await?;
    connection.close().await;
    Ok(())
}
