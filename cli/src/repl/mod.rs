//! `tithon repl`: a prompt on a session that lives without it.
//!
//! One task follows the session and owns the screen; the line editor has a thread of its own. Events
//! carry seqs and submissions a token, so that a lost connection neither repeats an output nor runs
//! a cell twice.

mod cells;
mod connection;
mod editor;
mod keys;
mod plain;
mod python;
mod screen;
mod terminal;
mod welcome;

use std::{collections::HashMap, io, sync::mpsc::Sender};

use serde_json::{Value, json};
use tithon_ipc::{
    client::{Connection, ConnectionError, FrameText},
    ids::{Seq, session_flag},
};
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::{
    cells::Cells,
    connection::{Stop, send},
    editor::{Prompt, Question, Said},
    screen::Screen,
    terminal::{Mode, Terminal},
};
use crate::{
    error::CliError,
    exit::Exit,
    follow::{Attempts, Lost},
    frames::{Event, InputRequest, Received, Snapshot},
    link::{Bound, Link},
    render::{log::Palette, notice::Notices},
};

/// What the person is doing.
#[derive(Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing yet: the backlog is on its way.
    Attaching,
    /// Editing the next cell.
    Editing,
    /// Watching a cell.
    Watching,
}

/// What happens next.
enum Wake {
    Frame(Result<Option<FrameText>, ConnectionError>),
    Quiet,
    Said(Said),
    Line(io::Result<Option<String>>),
    /// Ctrl-D while no line is edited.
    Left,
    Interrupt,
    Suspend,
}

/// A prompt on a session.
pub(crate) struct Repl<'a> {
    link: &'a Link,
    bound: &'a Bound,
    attempts: Attempts,
    cursor: Option<Seq>,
    cells: Cells,
    screen: Screen,
    notices: Notices,
    prompt: Prompt,
    terminal: Terminal,
    phase: Phase,
    /// Whether this connection's backlog is through.
    is_synced: bool,
    /// The answer to a cell's prompt that may not have arrived.
    answer: Option<String>,
    questions: HashMap<u64, Sender<Value>>,
    last_question: u64,
    interrupts: Signal,
    suspends: Signal,
    /// Ctrl-D while a cell runs.
    goodbyes: Signal,
}

impl<'a> Repl<'a> {
    /// A prompt on the session that `bound` names; nothing is connected yet.
    ///
    /// # Errors
    /// When standard input and output are no terminal.
    pub(crate) fn new(link: &'a Link, bound: &'a Bound) -> Result<Self, CliError> {
        let failed = |source| CliError::System {
            doing: "set up the terminal",
            source,
        };
        let palette = Palette::of_stdout();
        Ok(Self {
            link,
            bound,
            attempts: Attempts::over(link),
            cursor: None,
            cells: Cells::named(session_flag(bound.session())),
            screen: Screen::new(palette),
            notices: Notices::default(),
            terminal: Terminal::new().map_err(failed)?,
            prompt: Prompt::start(palette).map_err(failed)?,
            phase: Phase::Attaching,
            is_synced: false,
            answer: None,
            questions: HashMap::new(),
            last_question: 0,
            interrupts: signal(SignalKind::interrupt()).map_err(failed)?,
            suspends: signal(SignalKind::from_raw(rustix::process::Signal::TSTP.as_raw()))
                .map_err(failed)?,
            goodbyes: signal(SignalKind::quit()).map_err(failed)?,
        })
    }

    /// Serves the person until they leave.
    ///
    /// # Errors
    /// When the session cannot be reached, or the terminal is gone.
    pub(crate) async fn run(mut self) -> Result<Exit, CliError> {
        self.terminal.set(Mode::Watching);
        let mut connection = self.link.open().await?;
        loop {
            let lost = match self.serve(&mut connection).await {
                Ok(()) => break,
                Err(Stop::Failed(err)) => return Err(err),
                Err(Stop::Lost(lost)) => lost,
            };
            // Whoever waits for an answer of the old connection need not.
            self.questions.clear();
            connection = self.reopen(lost).await?;
        }
        self.terminal.set(Mode::Found);
        connection.close().await;
        let session = self.bound.session();
        self.screen.take_over();
        self.screen.end_line();
        self.screen.line(&match self.cells.running() {
            Some(exec_id) => format!("detached; {exec_id} goes on in session '{session}'"),
            None => format!("detached; session '{session}' lives on"),
        });
        self.screen.aside(&format!(
            "come back with: {}",
            self.link.suggested("repl", session)
        ));
        self.flush()?;
        Ok(Exit::Success)
    }

    /// Serves over one connection; returns when the person leaves.
    async fn serve(&mut self, connection: &mut Connection) -> Result<(), Stop> {
        self.is_synced = false;
        let attach = json!({"op": "attach", "last_seen_seq": self.cursor.unwrap_or(0)});
        send(connection, &self.bound.bind(attach)).await?;
        loop {
            match self.wait(connection).await {
                Wake::Frame(Ok(Some(text))) => self.frame(&text, connection).await?,
                Wake::Frame(Ok(None)) => return Err(Stop::Lost(Lost::Goodbye)),
                Wake::Frame(Err(_)) => return Err(Stop::Lost(Lost::Broken)),
                Wake::Quiet => self.flush()?,
                // IPython would end the kernel, which is nobody's wish here.
                Wake::Said(Said::Code(code)) if says_goodbye(&code) => return Ok(()),
                Wake::Said(Said::Code(code)) => self.entered(&code, connection).await?,
                Wake::Said(Said::Interrupted) => self.prompt.read(),
                Wake::Said(Said::Left) => return Ok(()),
                Wake::Said(Said::Asks(question)) => self.ask(question, connection).await?,
                Wake::Line(Ok(line)) => self.answer(line, connection).await?,
                Wake::Left | Wake::Line(Err(_)) => {
                    self.terminal.forget_typed();
                    return Ok(());
                }
                Wake::Interrupt if self.phase == Phase::Attaching => return Ok(()),
                Wake::Interrupt => self.interrupt(),
                Wake::Suspend => self.terminal.suspend(),
            }
        }
    }

    async fn wait(&mut self, connection: &mut Connection) -> Wake {
        let is_asking = self.terminal.is_asking();
        tokio::select! {
            // In this order: Ctrl-C must not starve behind a flood, and what is there to read is
            // read before what was made of it is written, up to a buffer's size.
            biased;
            Some(()) = self.interrupts.recv() => Wake::Interrupt,
            Some(()) = self.goodbyes.recv() => Wake::Left,
            Some(()) = self.suspends.recv() => Wake::Suspend,
            line = self.terminal.line(), if is_asking => Wake::Line(line),
            said = self.prompt.said() => Wake::Said(said),
            () = std::future::ready(()), if self.screen.is_full() => Wake::Quiet,
            frame = connection.next() => Wake::Frame(frame),
            () = std::future::ready(()), if self.screen.is_waiting() => Wake::Quiet,
        }
    }

    async fn frame(&mut self, text: &str, connection: &mut Connection) -> Result<(), Stop> {
        match Received::parse(text)? {
            Received::Event(event) => self.event(&event)?,
            Received::Snapshot => self.snapshot(&Snapshot::parse(text)?)?,
            Received::Sync(seq) => {
                self.attempts.reset();
                self.is_synced = true;
                self.notices.clear();
                self.cursor = Some(self.cursor.map_or(seq, |cursor| cursor.max(seq)));
                self.caught_up(connection).await?;
            }
            Received::Notice(message) => self.notice(&message),
            // Also said of a session whose kernel was ended: the next connection gets a fresh one.
            Received::Error(message) if !self.is_synced => {
                return Err(CliError::Server(message).into());
            }
            Received::Error(message) => {
                // What it may ask for, another connection, is what happens next.
                if !message.contains("connect again") {
                    self.screen.line(&message);
                }
                return Err(Stop::Lost(Lost::Broken));
            }
            Received::Overflow => return Err(Stop::Lost(Lost::Broken)),
            Received::Other(_) | Received::CopyEvent(_) => self.answered(text),
            Received::ExecuteAck(_) => {}
        }
        Ok(())
    }

    fn notice(&mut self, message: &str) {
        match self.phase {
            Phase::Attaching => self.notices.show(message),
            Phase::Editing | Phase::Watching => self.screen.aside(message),
        }
    }

    fn snapshot(&mut self, snapshot: &Snapshot) -> Result<(), Stop> {
        self.notices.clear();
        let first = self.cursor.is_none();
        self.cursor = Some(snapshot.max_seq);
        self.cells.restore(&snapshot.executions);
        if first {
            for execution in &snapshot.executions {
                self.prompt.remember(&execution.code);
            }
            welcome::show(&mut self.screen, self.bound.session(), snapshot);
        }
        if let Some(prompt) = snapshot.pending_input.as_ref().filter(|_| first) {
            self.asked(prompt);
        }
        Ok(())
    }

    /// The backlog is through: what it did not tell did not happen.
    async fn caught_up(&mut self, connection: &mut Connection) -> Result<(), Stop> {
        self.submit(connection).await?;
        if let Some(value) = &self.answer {
            let reply = json!({"op": "input_reply", "value": value});
            send(connection, &self.bound.name(reply)).await?;
        }
        match (&self.phase, self.cells.is_watched()) {
            (Phase::Attaching, true) => self.watch(),
            (Phase::Attaching | Phase::Watching, false) => self.edit()?,
            _ => {}
        }
        Ok(())
    }

    fn event(&mut self, event: &Event<'_>) -> Result<(), Stop> {
        if self.cursor.is_some_and(|cursor| event.seq <= cursor) {
            return Ok(());
        }
        self.cursor = Some(event.seq);
        if event.kind == "input_request" {
            let request: InputRequest = event.payload()?;
            let exec_id = event.exec_id.as_deref().unwrap_or_default();
            if self.cells.watches(exec_id) {
                self.asked(&request);
            } else {
                self.screen
                    .aside(&format!("{exec_id} asks for input: {}", request.words()));
            }
        } else if event.kind == "input_resolved" {
            self.resolved();
        } else {
            let heard = self.cells.event(event, &mut self.screen)?;
            if let Some(code) = heard.code {
                self.prompt.remember(&code);
            }
            if heard.is_over && self.phase == Phase::Watching {
                self.resolved();
                self.edit()?;
            }
        }
        Ok(())
    }

    /// The person entered code.
    async fn entered(&mut self, code: &str, connection: &mut Connection) -> Result<(), Stop> {
        if code.trim().is_empty() {
            self.prompt.read();
            return Ok(());
        }
        self.screen.take_over();
        self.cells.submit(code);
        self.watch();
        // Before the backlog is through it cannot be told whether a cell was lost: `sync` sends it.
        if self.is_synced {
            self.submit(connection).await?;
        }
        Ok(())
    }

    /// Sends the cell that the journal does not have.
    async fn submit(&mut self, connection: &mut Connection) -> Result<(), Stop> {
        match self.cells.unacknowledged()? {
            Some(execute) => send(connection, &self.bound.name(execute)).await,
            None => Ok(()),
        }
    }

    fn watch(&mut self) {
        self.phase = Phase::Watching;
        if !self.terminal.is_asking() {
            self.terminal.set(Mode::Watching);
        }
    }

    fn edit(&mut self) -> Result<(), Stop> {
        self.phase = Phase::Editing;
        self.terminal.set(Mode::Editing);
        self.screen
            .hand_over(&mut self.prompt)
            .map_err(CliError::Output)?;
        self.prompt.read();
        Ok(())
    }

    async fn ask(&mut self, question: Question, connection: &mut Connection) -> Result<(), Stop> {
        // A kernel that runs a cell answers afterwards: too late.
        if self.cells.running().is_some() {
            return Ok(());
        }
        self.last_question += 1;
        let mut op = self.bound.name(question.op);
        op["req_id"] = json!(self.last_question);
        // At most one is waited for: the editor has given up on the others.
        self.questions.clear();
        self.questions.insert(self.last_question, question.answer);
        send(connection, &op).await
    }

    fn answered(&mut self, text: &str) {
        let Ok(mut reply) = serde_json::from_str::<Value>(text) else {
            return;
        };
        let asker = reply["req_id"]
            .as_u64()
            .and_then(|id| self.questions.remove(&id));
        if let Some(asker) = asker {
            // Whoever asked may not be waiting any more.
            drop(asker.send(reply["content"].take()));
        }
    }

    fn flush(&mut self) -> Result<(), CliError> {
        self.screen
            .flush(&mut self.prompt)
            .map_err(CliError::Output)
    }
}

/// Whether somebody leaves the way they leave Python.
fn says_goodbye(code: &str) -> bool {
    matches!(code.trim(), "exit" | "exit()" | "quit" | "quit()")
}
