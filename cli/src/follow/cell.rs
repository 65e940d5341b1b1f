//! One cell's progress, told by events: what is ours, what is shown, and how it ended.

use serde_json::{Value, json};
use tithon_ipc::ids::Seq;
use tokio::time::{Duration, Instant};

use super::{Stdin, Submission, Until, outcome::Outcome, prompt::Prompts, view::View};
use crate::{
    error::CliError,
    exit::Exit,
    frames::{
        Done, Event, Execution, InputRequest, Output, Queued, Snapshot, StateEnd, StateOf, Status,
        TOKEN,
    },
    render::words,
};

/// How long a killed kernel's cell may still report its own end.
const LAST_EVENTS: Duration = Duration::from_secs(1);

/// How far the cell has come.
#[derive(Debug)]
pub(super) enum Stage {
    /// Not sent.
    Unsent,
    /// Sent, whether it arrived is not known yet.
    Sent { times: u8 },
    /// Queued and durable.
    Accepted { exec_id: String, started: bool },
}

/// One submission and everything known about it.
pub(super) struct Cell {
    submission: Submission,
    session: String,
    token: String,
    pub(super) view: View,
    pub(super) prompts: Prompts,
    pub(super) stage: Stage,
    outcome: Outcome,
    /// The last seq seen; `None` before the first `sync`.
    cursor: Option<Seq>,
    /// When to give up after the kernel was killed.
    pub(super) kernel_gone: Option<Instant>,
    kernel_wish: KernelWish,
}

/// What attaching does to a session without a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KernelWish {
    /// It gets one.
    Start,
    /// It is watched as it is.
    Leave,
}

impl Cell {
    pub(super) fn new(submission: Submission, session: &str, view: View) -> Self {
        Self {
            session: session.to_owned(),
            token: uuid::Uuid::now_v7().to_string(),
            view,
            prompts: Prompts::new(submission.stdin),
            stage: Stage::Unsent,
            outcome: Outcome::default(),
            cursor: None,
            kernel_gone: None,
            kernel_wish: match &submission.state {
                Some(state) if state.from.is_some() => KernelWish::Leave,
                _ => KernelWish::Start,
            },
            submission,
        }
    }

    /// An execution that somebody submitted before, to be shown from its beginning.
    pub(super) fn existing(exec_id: &str, session: &str, view: View) -> Self {
        let submission = Submission {
            code: String::new(),
            submitted_by: String::new(),
            origin: None,
            stdin: Stdin::Refused,
            until: Until::Ended,
            state: None,
        };
        let mut cell = Self::new(submission, session, view);
        cell.stage = Stage::Accepted {
            exec_id: exec_id.to_owned(),
            started: false,
        };
        cell.cursor = Some(0);
        cell.kernel_wish = KernelWish::Leave;
        cell
    }

    /// The operation that resumes where this cell's events were left.
    pub(super) fn attach(&self) -> Value {
        let mut attach = json!({"op": "attach", "last_seen_seq": self.cursor.unwrap_or(-1)});
        if self.kernel_wish == KernelWish::Leave {
            attach["start_kernel"] = json!(false);
        }
        attach
    }

    /// The operation that submits the cell.
    pub(super) fn execute(&self) -> Value {
        let mut origin = self.submission.origin.clone().unwrap_or_else(|| json!({}));
        origin[TOKEN] = json!(self.token);
        let mut op = json!({
            "op": "execute",
            "code": self.submission.code,
            "submitted_by": self.submission.submitted_by,
            "origin": origin,
        });
        match &self.submission.state {
            Some(state) => {
                op["op"] = json!("state_exec");
                op["name"] = json!(state.name);
                op["from"] = json!(state.from);
            }
            None => op["allow_stdin"] = json!(self.submission.stdin != Stdin::Refused),
        }
        op
    }

    /// Whether it is run in a state rather than by the kernel.
    pub(super) fn makes_state(&self) -> bool {
        self.submission.state.is_some()
    }

    /// The operation that interrupts it.
    pub(super) fn interrupt(&self, exec_id: &str, session: &str) -> Value {
        match self.makes_state() {
            true => json!({"op": "state_interrupt", "session": session, "exec_id": exec_id}),
            false => json!({"op": "interrupt", "session": session}),
        }
    }

    /// When the command is done with the cell.
    pub(super) fn until(&self) -> Until {
        self.submission.until
    }

    /// The execution's id, once it is known.
    pub(super) fn exec_id(&self) -> Option<&str> {
        match &self.stage {
            Stage::Accepted { exec_id, .. } => Some(exec_id),
            Stage::Unsent | Stage::Sent { .. } => None,
        }
    }

    /// Whether the kernel has begun with the cell.
    pub(super) fn is_started(&self) -> bool {
        matches!(self.stage, Stage::Accepted { started: true, .. })
    }

    /// The backlog ends at `seq`.
    pub(super) fn synced(&mut self, seq: Seq) {
        self.view.notices.clear();
        self.cursor = Some(self.cursor.map_or(seq, |cursor| cursor.max(seq)));
    }

    /// The cell's id is known, from its acknowledgement or its `queued` event, whichever comes first.
    pub(super) fn accepted(&mut self, exec_id: String) -> Result<Option<Exit>, CliError> {
        if self.exec_id().is_some() {
            return Ok(None);
        }
        let done = self.submission.until == Until::Accepted;
        if done {
            self.view.line(&exec_id)?;
        }
        let started = false;
        self.stage = Stage::Accepted { exec_id, started };
        Ok(done.then_some(Exit::Success))
    }

    /// Takes in one event; `text` is its frame.
    ///
    /// # Errors
    /// When the event is malformed, or cannot be shown.
    pub(super) fn event(
        &mut self,
        event: &Event<'_>,
        text: &str,
    ) -> Result<Option<Exit>, CliError> {
        if self.cursor.is_some_and(|cursor| event.seq <= cursor) {
            return Ok(None);
        }
        if self.cursor.is_some() {
            self.cursor = Some(event.seq);
        }
        if event.kind == "kernel" {
            let kernel: Status = event.payload()?;
            if matches!(kernel.status.as_str(), "killed" | "shutdown" | "gc") {
                self.kernel_gone = Some(Instant::now() + LAST_EVENTS);
            }
            return Ok(None);
        }
        if event.kind == "queued" && event.payload::<Queued>()?.token() == Some(&self.token) {
            let exec_id = event.exec_id.clone().unwrap_or_default();
            if let Some(exit) = self.accepted(exec_id)? {
                return Ok(Some(exit));
            }
        }
        if event.exec_id.is_none() || event.exec_id.as_deref() != self.exec_id() {
            return Ok(None);
        }
        self.view.event(&event.kind, text)?;
        self.own(event)
    }

    fn own(&mut self, event: &Event<'_>) -> Result<Option<Exit>, CliError> {
        match &*event.kind {
            "started" => self.started(),
            "output" => {
                let output: Output = event.payload()?;
                self.outcome.saw(&output.msg_type, &output.content);
                self.view.output(&output.msg_type, &output.content)?;
            }
            "input_request" => {
                let request: InputRequest = event.payload()?;
                self.view.prompt(request.words(), self.submission.stdin)?;
                self.prompts.open(request.password);
            }
            "input_resolved" => self.prompts.close(),
            "done" => {
                self.prompts.close();
                let done: Done = event.payload()?;
                let exit = self.outcome.end(&done.status);
                return Ok(Some(match done.state {
                    Some(state) if exit == Exit::Success => self.kept(&state),
                    _ => exit,
                }));
            }
            _ => {}
        }
        Ok(None)
    }

    /// The code succeeded: says whether the state that came of it stays.
    fn kept(&mut self, state: &StateEnd) -> Exit {
        if !state.kept {
            return Exit::Failure;
        }
        self.view.close_line();
        if self.view.is_for_a_person() {
            words::say(&format!("kept as '{}'", state.name));
        }
        Exit::Success
    }

    fn started(&mut self) {
        self.view.started();
        if let Stage::Accepted { started, .. } = &mut self.stage {
            *started = true;
        }
    }

    /// Takes in a snapshot: the journal cannot tell row by row what happened since our cursor,
    /// because nothing was there before (a session's first cell) or older rows were compacted.
    ///
    /// # Errors
    /// When it cannot be told which execution is ours, or it cannot be shown.
    pub(super) fn snapshot(&mut self, text: &str) -> Result<Option<Exit>, CliError> {
        if self.cursor.is_none() {
            return Ok(None);
        }
        let snapshot = Snapshot::parse(text)?;
        self.cursor = Some(snapshot.max_seq);
        let mut found = snapshot.executions.iter().filter(|it| self.is_ours(it));
        let (Some(execution), others) = (found.next(), found.count()) else {
            return Ok(None);
        };
        if others > 0 {
            let session = self.session.clone();
            return Err(CliError::Unknown { session });
        }
        if let Some(exit) = self.accepted(execution.exec_id.clone())? {
            return Ok(Some(exit));
        }
        if execution.status != "queued" {
            self.started();
        }
        let again = self.view.has_shown();
        self.view.missed();
        if again && !execution.outputs.is_empty() {
            words::say("older output was compacted meanwhile; `tithon attach` shows what is kept");
        }
        for item in &execution.outputs {
            self.outcome.saw(&item.output_type, &item.content);
            if !again {
                self.view.output(&item.output_type, &item.content)?;
            }
        }
        let ended = !matches!(execution.status.as_str(), "queued" | "running");
        let lost = execution.state.as_ref().is_some_and(StateOf::is_not_kept);
        Ok(ended.then(|| match self.outcome.end(&execution.status) {
            Exit::Success if lost => Exit::Failure,
            exit => exit,
        }))
    }

    /// Whether a snapshot's execution is this cell; snapshots do not keep tokens.
    fn is_ours(&self, execution: &Execution) -> bool {
        match &self.stage {
            Stage::Unsent => false,
            Stage::Sent { .. } => {
                execution.code == self.submission.code
                    && execution.state.is_some() == self.makes_state()
            }
            Stage::Accepted { exec_id, .. } => execution.exec_id == *exec_id,
        }
    }
}

#[cfg(test)]
mod tests;
