//! The kernel's generations and whether its variables are those the user left (PROTOCOL §16.6),
//! derived from the journal alone.

use serde_json::{Value, json};
use tithon_ipc::ids::{Seq, session_flag};

use super::Session;
use crate::{
    client::{Answer, ClientId},
    journal::{Change, Loaded, StoredRow},
    session::store::Effect,
};

/// What the journal says of the kernels so far.
#[derive(Debug)]
pub(super) struct Lifecycle {
    /// The seq of the event that began the current kernel's life; 0 for the first.
    pub(super) generation: Seq,
    /// Whether a fresh kernel took the place of one that had run cells, without anybody's wish.
    pub(super) lost_state: bool,
    /// Whether the session was closed on purpose and not used since.
    pub(super) closed_by_user: bool,
    newest: Option<Newest>,
    last_started: Option<Seq>,
    saw_running: bool,
}

/// The newest kernel event that begins or ends a life.
#[derive(Debug)]
struct Newest {
    seq: Seq,
    status: String,
    deliberate: bool,
    pid: Option<i64>,
    /// Whether what a `restored` kernel lost was not given up on purpose.
    lost_state: bool,
}

impl Lifecycle {
    pub(super) fn load(loaded: &Loaded) -> Self {
        let last_started = loaded.last_started;
        Self {
            generation: 0,
            lost_state: false,
            closed_by_user: loaded
                .meta
                .get("closed_by_user")
                .is_some_and(|value| value == "1"),
            newest: loaded.kernel_turn.as_ref().and_then(Newest::of),
            last_started,
            saw_running: loaded.running_seen,
        }
    }

    /// Whether anything of the running cell was journaled after its start.
    pub(super) fn saw_running(&self) -> bool {
        self.saw_running
    }
}

impl Newest {
    fn of(row: &StoredRow) -> Option<Self> {
        let event: Value = serde_json::from_str(&row.content).ok()?;
        Some(Self {
            seq: row.seq,
            status: event.get("status")?.as_str()?.to_owned(),
            deliberate: event
                .get("deliberate")
                .and_then(Value::as_bool)
                .unwrap_or(false),
            pid: event.get("pid").and_then(Value::as_i64),
            lost_state: event
                .get("lost_state")
                .and_then(Value::as_bool)
                .unwrap_or(false),
        })
    }
}

impl Session {
    /// Journals an event of the kernel's life.
    pub(super) fn journal_kernel(&mut self, event: &Value) -> Seq {
        self.row(None, "tithon.kernel", event)
    }

    /// A kernel of an earlier worker was taken over.
    pub(super) fn kernel_adopted(&mut self, pid: i32) {
        let state = if self.running.is_some() {
            "busy"
        } else {
            "idle"
        };
        if let Some(kernel) = self.kernel.running_mut() {
            state.clone_into(&mut kernel.execution_state);
        }
        let newest = self.lifecycle.newest.as_ref();
        if newest.is_some_and(|newest| newest.status == "restarting") && !self.restart_is_owed() {
            // The worker that restarted it did not live to say so.
            let event = json!({"status": "restarted", "pid": pid, "deliberate": true});
            self.lifecycle.generation = self.journal_kernel(&event);
            return;
        }
        self.lifecycle.generation = newest.map_or(0, |newest| newest.seq);
        self.lifecycle.lost_state = newest.is_some_and(|newest| match newest.status.as_str() {
            "replaced" => !newest.deliberate,
            "restored" => newest.lost_state,
            _ => false,
        });
    }

    /// Whether an earlier worker died over a restart before the old kernel was gone. Its user has
    /// given up that kernel: the restart is to be finished.
    pub(super) fn restart_is_owed(&self) -> bool {
        let old = self.lifecycle.newest.as_ref();
        old.is_some_and(|newest| {
            newest.status == "restarting"
                && newest.pid.is_some()
                && newest.pid
                    == self
                        .kernel
                        .running()
                        .map(|kernel| kernel.process.pid().into())
        })
    }

    /// A kernel that this worker started can be used.
    pub(super) fn fresh_kernel_ready(&mut self, pid: i32, restart: Option<ClientId>) {
        self.forget_widgets();
        self.checkpoints.kernel_is_new();
        if let Some(client) = restart {
            let event = json!({"status": "restarted", "pid": pid, "deliberate": true});
            self.lifecycle.generation = self.journal_kernel(&event);
            self.lifecycle.lost_state = false;
            let frame = tithon_ipc::client::Frame::KernelRestarted { kernel_pid: pid }.to_text();
            return self.after_commit(Effect::Answer(client, Answer::Frame(frame.into())));
        }
        let newest = self.lifecycle.newest.take();
        let since = newest
            .as_ref()
            .filter(|newest| newest.status != "gc")
            .map_or(0, |newest| newest.seq);
        self.lifecycle.lost_state = self
            .lifecycle
            .last_started
            .is_some_and(|started| started > since);
        let restarting = newest
            .as_ref()
            .is_some_and(|newest| newest.status == "restarting");
        self.lifecycle.generation = if restarting && !self.lifecycle.lost_state {
            // Whoever asked for this kernel lost the worker that was to start it.
            self.journal_kernel(&json!({"status": "restarted", "pid": pid, "deliberate": true}))
        } else if self.lifecycle.lost_state {
            self.notice(&format!(
                "the session's kernel was lost with its variables; this is a fresh one\n\
                 hint: tithon replay{} runs the recorded cells again",
                session_flag(self.place.id.as_str())
            ));
            self.journal_kernel(&json!({"status": "replaced", "pid": pid, "deliberate": false}))
        } else {
            newest.map_or(0, |newest| newest.seq)
        };
    }

    /// A new kernel has none of the old one's widgets.
    fn forget_widgets(&mut self) {
        self.widgets.reset();
        self.comms = Default::default();
    }

    /// Notes that the user ended the session, until cells are submitted again.
    pub(super) fn close_by_user(&mut self) {
        self.lifecycle.closed_by_user = true;
        self.change(Change::Meta {
            key: "closed_by_user",
            value: "1".to_owned(),
        });
    }

    /// Cells are submitted: the session is in use again.
    pub(super) fn reopen(&mut self) {
        if self.lifecycle.closed_by_user {
            self.lifecycle.closed_by_user = false;
            self.change(Change::Meta {
                key: "closed_by_user",
                value: "0".to_owned(),
            });
        }
    }
}
