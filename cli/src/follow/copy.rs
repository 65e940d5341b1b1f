//! Code on a copy of the kernel, followed to its end. Unlike a cell it ends with the connection: there is
//! nothing to come back to.

use serde_json::{Value, json};
use tithon_ipc::client::{Connection, ConnectionError, FrameText};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{
    Mode, Stdin,
    outcome::Outcome,
    prompt::{Answer, Prompts},
    view::View,
};
use crate::{
    error::CliError,
    exit::Exit,
    frames::{Event, InputRequest, Output, Received, Status},
    link::{Bound, Link},
    render::{output::Printer, words},
};

/// What happens next.
enum Wake {
    Frame(Result<Option<FrameText>, ConnectionError>),
    Quiet,
    CtrlC,
    Answer(Answer),
}

/// A copy that runs something for this command.
pub(crate) struct FollowCopy {
    view: View,
    mode: Mode,
    prompts: Prompts,
    stdin: Stdin,
    outcome: Outcome,
    started: bool,
    /// Whether Ctrl-C was pressed since it started.
    pressed: bool,
}

impl FollowCopy {
    /// To be shown in this mode, its prompts answered so.
    pub(crate) fn new(mode: Mode, stdin: Stdin) -> Self {
        Self {
            view: View::new(mode, Printer::standard()),
            mode,
            prompts: Prompts::new(stdin),
            stdin,
            outcome: Outcome::default(),
            started: false,
            pressed: false,
        }
    }

    /// Asks for the copy, and shows what it says until the frame named `answer` comes.
    ///
    /// # Errors
    /// When there is no such session, or its kernel cannot be copied.
    pub(crate) async fn run(
        mut self,
        link: &Link,
        bound: &Bound,
        mut op: Value,
        answer: &str,
    ) -> Result<Exit, CliError> {
        op["allow_stdin"] = json!(self.stdin != Stdin::Refused);
        let mut connection = link.open().await?;
        connection.send(&bound.bind(op)).await?;
        let mut ctrl_c = signal(SignalKind::interrupt()).map_err(|source| CliError::System {
            doing: "listen for Ctrl-C",
            source,
        })?;
        let exit = self.follow(&mut connection, &mut ctrl_c, answer).await;
        self.view.flush()?;
        connection.close().await;
        exit
    }

    async fn follow(
        &mut self,
        connection: &mut Connection,
        ctrl_c: &mut Signal,
        answer: &str,
    ) -> Result<Exit, CliError> {
        loop {
            match self.wait(connection, ctrl_c).await {
                Wake::Frame(Ok(Some(text))) => match Received::parse(&text)? {
                    Received::CopyEvent(event) => self.event(&event, &text)?,
                    Received::Other(op) if op == answer => {
                        if self.mode == Mode::Json {
                            self.view.line(&text)?;
                        }
                        let status: Status = serde_json::from_str(&text)?;
                        return Ok(self.outcome.end(&status.status));
                    }
                    Received::Error(message) => {
                        self.view.notices.clear();
                        return Err(CliError::Server(message));
                    }
                    Received::Notice(message) => self.view.notices.show(&message),
                    _ => {}
                },
                Wake::Frame(Ok(None) | Err(ConnectionError::Closed(_))) if self.started => {
                    words::say(
                        "the session's worker ended, and the copy with it; the kernel is as it was",
                    );
                    return Ok(Exit::KernelLost);
                }
                Wake::Frame(Ok(None)) => return Err(CliError::Unanswered("tried")),
                Wake::Frame(Err(err)) => return Err(err.into()),
                Wake::Quiet => self.view.flush()?,
                Wake::CtrlC => {
                    self.view.end_line();
                    if !self.started || self.pressed {
                        words::say("the copy is given up; the kernel is as it was");
                        return Ok(Exit::Interrupted);
                    }
                    self.pressed = true;
                    words::say("interrupting; Ctrl-C again ends the copy");
                    connection.send(&json!({"op": "copy_interrupt"})).await?;
                }
                Wake::Answer(answer) => {
                    self.prompts.answered(answer);
                    if let Some(value) = self.prompts.unconfirmed() {
                        let op = json!({"op": "copy_input", "value": value});
                        connection.send(&op).await?;
                    }
                }
            }
        }
    }

    async fn wait(&mut self, connection: &mut Connection, ctrl_c: &mut Signal) -> Wake {
        let Self { view, prompts, .. } = self;
        let is_open = prompts.is_open();
        tokio::select! {
            biased;
            Some(()) = ctrl_c.recv() => Wake::CtrlC,
            frame = connection.next() => Wake::Frame(frame),
            () = std::future::ready(()), if view.is_waiting() => Wake::Quiet,
            answer = prompts.answer(), if is_open => Wake::Answer(answer),
        }
    }

    fn event(&mut self, event: &Event<'_>, text: &str) -> Result<(), CliError> {
        self.view.event(&event.kind, text)?;
        match &*event.kind {
            "started" => {
                self.started = true;
                self.view.notices.clear();
            }
            "output" => {
                let output: Output = event.payload()?;
                self.outcome.saw(&output.msg_type, &output.content);
                self.view.output(&output.msg_type, &output.content)?;
            }
            "input_request" => {
                let request: InputRequest = event.payload()?;
                self.view.prompt(request.words(), self.stdin)?;
                self.prompts.open(request.password);
            }
            "input_resolved" => self.prompts.close(),
            _ => {}
        }
        Ok(())
    }
}
